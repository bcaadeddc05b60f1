//! LimitRange: defaults for the resources of containers, and bounds for containers, Pods and claims.

use serde_json::{Value, json};

use crate::admission::quota::{Amounts, pod_amounts, read_amounts};
use crate::schema::quantity::Quantity;
use crate::status::ApiError;
use crate::write::{Request, name_of};

const NANO: i128 = 1_000_000_000;
/// Largest amount that is compared in thousandths.
const MILLI_MAX: i128 = i64::MAX as i128 / 1000;

fn limit_ranges(request: &Request<'_>) -> Vec<Value> {
    let listed = request.server.store.list(&"core/limitranges".into(), &request.key.namespace);
    listed.objects.iter().map(|object| object.value()).collect()
}

fn limits(range: &Value) -> impl Iterator<Item = &Value> {
    range["spec"]["limits"].as_array().into_iter().flatten()
}

/// Gives containers of a new Pod the defaults of the namespace, and notes it in an annotation.
pub(super) fn set_defaults(request: &Request<'_>, pod: &mut Value) {
    for range in limit_ranges(request) {
        let mut defaults = json!({ "requests": {}, "limits": {} });
        for limit in limits(&range).filter(|limit| limit["type"] == "Container") {
            for (part, field) in [("requests", "defaultRequest"), ("limits", "default")] {
                for (name, value) in limit[field].as_object().into_iter().flatten() {
                    defaults[part][name] = value.clone();
                }
            }
        }
        let mut notes = Vec::new();
        for (list, called) in [("containers", "container"), ("initContainers", "init container")] {
            for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
                for part in ["requests", "limits"] {
                    let set = fill(container, part, &defaults[part]);
                    if !set.is_empty() {
                        let what = part.trim_end_matches('s');
                        let name = container["name"].as_str().unwrap_or_default();
                        notes.push(format!("{} {what} for {called} {name}", set.join(", ")));
                    }
                }
            }
        }
        if !notes.is_empty() {
            let text = format!("LimitRanger plugin set: {}", notes.join("; "));
            pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"] = text.into();
        }
    }
}

/// Sets what is missing; the names of what was set.
fn fill(container: &mut Value, part: &str, defaults: &Value) -> Vec<String> {
    let mut set = Vec::new();
    for (name, value) in defaults.as_object().into_iter().flatten() {
        if container["resources"][part][name].is_null() {
            if !container["resources"].is_object() {
                container["resources"] = json!({});
            }
            if !container["resources"][part].is_object() {
                container["resources"][part] = json!({});
            }
            container["resources"][part][name] = value.clone();
            set.push(name.clone());
        }
    }
    set.sort();
    set
}

/// Refuses a Pod or claim outside the bounds of its namespace.
pub(super) fn validate(request: &Request<'_>, old: Option<&Value>, object: &Value) -> Result<(), ApiError> {
    let pod = request.kind.is("", "pods");
    if pod && old.is_some() || !pod && !request.kind.is("", "persistentvolumeclaims") {
        return Ok(());
    }
    for range in limit_ranges(request) {
        let mut wrong = Vec::new();
        for limit in limits(&range) {
            match limit["type"].as_str() {
                Some("Container") if pod => {
                    for list in ["containers", "initContainers"] {
                        for container in object["spec"][list].as_array().into_iter().flatten() {
                            let resources = &container["resources"];
                            let requests = read_amounts(&resources["requests"]);
                            check(limit, &requests, &read_amounts(&resources["limits"]), &mut wrong);
                        }
                    }
                }
                Some("Pod") if pod => {
                    let (requests, limits) = pod_amounts(&object["spec"]);
                    check(limit, &requests, &limits, &mut wrong);
                }
                Some("PersistentVolumeClaim") if !pod => {
                    let requests = read_amounts(&object["spec"]["resources"]["requests"]);
                    check_claim(limit, &requests, &mut wrong);
                }
                _ => {}
            }
        }
        if !wrong.is_empty() {
            let text = crate::rbac::aggregate(&wrong);
            return Err(ApiError::forbidden(&request.kind.plural, "", &name_of(object), &text));
        }
    }
    Ok(())
}

fn bounds(limit: &Value, field: &str) -> Vec<(String, Quantity)> {
    read_amounts(&limit[field]).into_iter().collect()
}

fn check(limit: &Value, requests: &Amounts, limits: &Amounts, wrong: &mut Vec<String>) {
    let per = limit["type"].as_str().unwrap_or_default();
    for (name, bound) in bounds(limit, "min") {
        minimum(&name, per, &bound, requests.get(&name), limits.get(&name), wrong);
    }
    for (name, bound) in bounds(limit, "max") {
        let text = format!("maximum {name} usage per {per} is {}", bound.canonical());
        let over = |amount: &&Quantity| amount.nano() > bound.nano();
        match limits.get(&name) {
            None => wrong.push(format!("{text}.  No limit is specified")),
            Some(amount) if over(&amount) => {
                wrong.push(format!("{text}, but limit is {}", amount.canonical()))
            }
            Some(_) => {
                if let Some(amount) = requests.get(&name).filter(over) {
                    wrong.push(format!("{text}, but request is {}", amount.canonical()));
                }
            }
        }
    }
    for (name, bound) in bounds(limit, "maxLimitRequestRatio") {
        ratio(&name, per, &bound, requests.get(&name), limits.get(&name), wrong);
    }
}

fn minimum(
    name: &str,
    per: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
    wrong: &mut Vec<String>,
) {
    let text = format!("minimum {name} usage per {per} is {}", bound.canonical());
    let under = |amount: &&Quantity| amount.nano() < bound.nano();
    match request {
        None => wrong.push(format!("{text}.  No request is specified")),
        Some(amount) if under(&amount) => {
            wrong.push(format!("{text}, but request is {}", amount.canonical()))
        }
        Some(_) => {
            if let Some(amount) = limit.filter(under) {
                wrong.push(format!("{text}, but limit is {}", amount.canonical()));
            }
        }
    }
}

fn check_claim(limit: &Value, requests: &Amounts, wrong: &mut Vec<String>) {
    let per = "PersistentVolumeClaim";
    for (name, bound) in bounds(limit, "min") {
        minimum(&name, per, &bound, requests.get(&name), None, wrong);
    }
    for (name, bound) in bounds(limit, "max") {
        let text = format!("maximum {name} usage per {per} is {}", bound.canonical());
        match requests.get(&name) {
            None => wrong.push(format!("{text}.  No request is specified")),
            Some(amount) if amount.nano() > bound.nano() => {
                wrong.push(format!("{text}, but request is {}", amount.canonical()));
            }
            Some(_) => {}
        }
    }
}

/// A limit may be so many times the request.
fn ratio(
    name: &str,
    per: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
    wrong: &mut Vec<String>,
) {
    let text = format!("{name} max limit to request ratio per {per} is {}", bound.canonical());
    let zero = |amount: Option<&Quantity>| amount.is_none_or(|amount| amount.nano() == 0);
    if zero(request) {
        wrong.push(format!("{text}, but no request is specified or request is 0"));
        return;
    }
    if zero(limit) {
        wrong.push(format!("{text}, but no limit is specified or limit is 0"));
        return;
    }
    let (Some(request), Some(limit)) = (request, limit) else { return };
    // Small amounts are compared in thousandths, as upstream.
    let unit = if limit.nano() / NANO <= MILLI_MAX { NANO / 1000 } else { NANO };
    let up = |amount: &Quantity| -> f64 { (amount.nano() as f64 / unit as f64).ceil() };
    let found = up(limit) / up(request);
    if found > bound.nano() as f64 / NANO as f64 {
        wrong.push(format!("{text}, but provided ratio is {found:.6}"));
    }
}
