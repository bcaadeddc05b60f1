//! Checks of ResourceQuotas and LimitRanges.

use serde_json::Value;

use super::at::At;
use super::pod::resources;
use super::{list, text};
use crate::names;
use crate::schema::quantity::Quantity;
use crate::status::Cause;

const NANO: i128 = 1_000_000_000;

/// Names that a quota may limit, besides qualified ones.
const QUOTA: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
/// Of these, the ones that are counts.
const COUNTS: [&str; 9] = [
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

fn is_page(name: &str) -> bool {
    name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-")
}

/// Whether a name without a domain is known wherever resources are named.
pub(super) fn is_standard(name: &str) -> bool {
    QUOTA.contains(&name) || name == "storage" || is_page(name)
}

/// Whether a name stands for things that are counted.
pub(super) fn is_count(name: &str) -> bool {
    COUNTS.contains(&name)
}

/// A ResourceQuota.
pub(super) fn quota(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    amounts(&spec["hard"], "spec.hard", causes);
    for scope in list(&spec["scopes"]) {
        if !scope.as_str().is_some_and(|scope| SCOPES.contains(&scope)) {
            causes.push(Cause::invalid("spec.scopes", &spec["scopes"], "unsupported scope"));
        }
    }
    for part in ["hard", "used"] {
        amounts(&object["status"][part], &format!("status.{part}"), causes);
    }
}

/// The scopes of a quota stay.
pub(super) fn quota_update(old: &Value, object: &Value, causes: &mut Vec<Cause>) {
    let (before, after) = (&old["spec"]["scopes"], &object["spec"]["scopes"]);
    if list(before) != list(after) {
        causes.push(Cause::invalid("spec.scopes", after, "field is immutable"));
    }
}

fn amounts(map: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (name, value) in map.as_object().into_iter().flatten() {
        let field = format!("{path}[{name}]");
        quota_name(name, &field, causes);
        let Some(amount) = value.as_str().and_then(Quantity::parse) else { continue };
        let mut wrong = |text: &str| causes.push(Cause::invalid(&*field, &amount.canonical().into(), text));
        if amount.is_negative() {
            wrong("must be greater than or equal to 0");
        }
        let extended = name.contains('/') && !name.starts_with("requests.");
        if (COUNTS.contains(&name.as_str()) || extended) && amount.nano() % NANO != 0 {
            wrong("must be an integer");
        }
    }
}

fn quota_name(name: &str, field: &str, causes: &mut Vec<Cause>) {
    let mut wrong = |text: &str| causes.push(Cause::invalid(field, &name.into(), text));
    for detail in names::qualified_name(name) {
        wrong(&detail);
    }
    if !name.contains('/') && !QUOTA.contains(&name) && !is_page(name) {
        wrong("must be a standard resource for quota");
        if name != "storage" {
            wrong("must be a standard resource type or fully qualified");
        }
    }
}

/// A LimitRange.
pub(super) fn range(object: &Value, causes: &mut Vec<Cause>) {
    let mut seen = Vec::new();
    for (at, limit) in list(&object["spec"]["limits"]).iter().enumerate() {
        let path = format!("spec.limits[{at}]");
        let ty = text(limit, "type");
        let standard = ["Pod", "Container", "PersistentVolumeClaim"].contains(&ty);
        let wrong = names::qualified_name(ty);
        if wrong.is_empty() && !standard && !ty.contains('/') {
            let text = "must be a standard limit type or fully qualified";
            causes.push(Cause::invalid(format!("{path}.type"), &ty.into(), text));
        }
        causes.extend(wrong.iter().map(|detail| Cause::invalid(format!("{path}.type"), &ty.into(), detail)));
        limit_names(limit, ty, &path, causes);
        if seen.contains(&ty) {
            causes.push(Cause::duplicate(format!("{path}.type"), &ty.into()));
        }
        seen.push(ty);
        match ty {
            "Pod" => {
                for field in ["default", "defaultRequest"] {
                    if limit[field].as_object().is_some_and(|map| !map.is_empty()) {
                        let text = "may not be specified when `type` is 'Pod'";
                        causes.push(Cause::forbidden(format!("{path}.{field}"), text));
                    }
                }
            }
            "PersistentVolumeClaim"
                if limit["min"]["storage"].is_null() && limit["max"]["storage"].is_null() =>
            {
                let text = "either minimum or maximum storage value is required, but neither was provided";
                causes.push(Cause::required(format!("{path}.limits"), text));
            }
            _ => {}
        }
        bounds(limit, &path, causes);
    }
}

/// The names of what is limited.
fn limit_names(limit: &Value, ty: &str, path: &str, causes: &mut Vec<Cause>) {
    let place = At::new(limit, path);
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        if ty == "Pod" && field.starts_with("default") {
            continue;
        }
        for (name, value) in place.get(field).entries() {
            if matches!(ty, "Pod" | "Container") {
                resources::container_resource_name(&value, name, causes);
            } else {
                resources::resource_name(&value, name, causes);
            }
        }
    }
}

/// min <= defaultRequest <= default <= max.
fn bounds(limit: &Value, path: &str, causes: &mut Vec<Cause>) {
    let fields = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let mut keys: Vec<&String> =
        fields.iter().filter_map(|field| limit[field].as_object()).flat_map(|map| map.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let read = |field: &str| limit[field][key].as_str().and_then(Quantity::parse);
        let [max, min, default, request, ratio] = fields.map(read);
        let mut wrong = |field: &str, shown: &Quantity, text: String| {
            causes.push(Cause::invalid(format!("{path}.{field}[{key}]"), &shown.canonical().into(), &text));
        };
        let above = |low: &Option<Quantity>, high: &Option<Quantity>| match (low, high) {
            (Some(low), Some(high)) if low.nano() > high.nano() => Some((*low, *high)),
            _ => None,
        };
        if let Some((low, high)) = above(&min, &max) {
            let text =
                format!("min value {} is greater than max value {}", low.canonical(), high.canonical());
            wrong("min", &low, text);
        }
        if let Some((low, high)) = above(&min, &request) {
            let (low, shown) = (low.canonical(), high.canonical());
            let text = format!("min value {low} is greater than default request value {shown}");
            wrong("defaultRequest", &high, text);
        }
        if let Some((low, high)) = above(&request, &max) {
            let (shown, high) = (low.canonical(), high.canonical());
            let text = format!("default request value {shown} is greater than max value {high}");
            wrong("defaultRequest", &low, text);
        }
        if let Some((low, high)) = above(&request, &default) {
            let (shown, high) = (low.canonical(), high.canonical());
            let text = format!("default request value {shown} is greater than default limit value {high}");
            wrong("defaultRequest", &low, text);
        }
        // As upstream, the bound is shown here, not the value.
        if let Some((low, high)) = above(&min, &default) {
            let (shown, high) = (low.canonical(), high.canonical());
            wrong("default", &low, format!("min value {shown} is greater than default value {high}"));
        }
        if let Some((low, high)) = above(&default, &max) {
            let (low, shown) = (low.canonical(), high.canonical());
            wrong("default", &high, format!("default value {low} is greater than max value {shown}"));
        }
        if let Some(ratio) = ratio.filter(|ratio| ratio.nano() < NANO) {
            let text = format!("ratio {} is less than 1", ratio.canonical());
            wrong("maxLimitRequestRatio", &ratio, text);
        }
        if let (Some(ratio), Some(min), Some(max)) = (ratio, min, max) {
            let most = max.nano() as f64 / min.nano() as f64;
            if ratio.nano() as f64 / NANO as f64 > most {
                let text = format!("ratio {} is greater than max/min = {most:.6}", ratio.canonical());
                wrong("maxLimitRequestRatio", &ratio, text);
            }
        }
        let overcommit = (!key.contains('/') || key.contains("kubernetes.io/")) && !is_page(key);
        if let (Some(default), Some(request)) = (default, request)
            && !overcommit
            && default.nano() != request.nano()
        {
            let (left, right) = (default.canonical(), request.canonical());
            let text = format!("default value {left} must equal to defaultRequest value {right} in {key}");
            wrong("defaultRequest", &request, text);
        }
    }
}
