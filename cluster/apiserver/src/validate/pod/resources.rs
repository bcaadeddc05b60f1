//! Requests and limits of containers and whole Pods, and names of resources.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::names;
use crate::schema::quantity::Quantity;
use crate::status::Cause;
use crate::validate::at::At;
use crate::validate::limits;

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn quantity(value: &Value) -> Option<Quantity> {
    value.as_str().and_then(Quantity::parse)
}

/// A name of a resource wherever one may stand; whether it is right.
pub(in crate::validate) fn resource_name(place: &At<'_>, name: &str, causes: &mut Vec<Cause>) -> bool {
    let before = causes.len();
    let mut wrong = |detail: &str| causes.push(Cause::invalid(place.path.clone(), &name.into(), detail));
    for detail in names::qualified_name(name) {
        wrong(&detail);
    }
    if causes.len() > before {
        return false;
    }
    if !name.contains('/') && !limits::is_standard(name) {
        let detail = "must be a standard resource type or fully qualified";
        causes.push(Cause::invalid(place.path.clone(), &name.into(), detail));
        return false;
    }
    true
}

/// A name of a resource that a container may ask for.
pub(in crate::validate) fn container_resource_name(place: &At<'_>, name: &str, causes: &mut Vec<Cause>) {
    resource_name(place, name, causes);
    let mut wrong = |detail: &str| causes.push(Cause::invalid(place.path.clone(), &name.into(), detail));
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge(name) {
            wrong("must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        wrong("doesn't follow extended resource name standard");
    }
}

fn pod_resource_name(place: &At<'_>, name: &str, causes: &mut Vec<Cause>) {
    if resource_name(place, name, causes) && !matches!(name, "cpu" | "memory") && !is_huge(name) {
        causes.push(Cause::not_supported(place.path.clone(), &name.into(), &["cpu", "hugepages-", "memory"]));
    }
}

/// An amount of a resource.
pub(in crate::validate) fn amount(place: &At<'_>, name: &str, causes: &mut Vec<Cause>) {
    let Some(amount) = quantity(place.value) else { return };
    if amount.is_negative() {
        place.invalid("must be greater than or equal to 0", causes);
    }
    if (limits::is_count(name) || is_extended(name)) && amount.scaled(-3) % 1000 != 0 {
        place.invalid("must be an integer", causes);
    }
    if is_huge(name) {
        let page = quantity(&name.trim_start_matches("hugepages-").into());
        let fits = page.is_some_and(|page| page.nano() > 0 && amount.nano() % page.nano() == 0);
        if !fits {
            let detail = format!("{} is not positive integer multiple of {name}", amount.canonical());
            place.invalid(&detail, causes);
        }
    }
}

/// `resources` of a container; `claims`: names of the Pod's resource claims.
pub(in crate::validate) fn container(resources: &At<'_>, claims: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    requirements(resources, container_resource_name, claims, causes);
}

/// `resources` of a whole Pod.
pub(super) fn pod(spec: &At<'_>, claims: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let resources = spec.get("resources");
    if !resources.is_set() {
        return;
    }
    if spec.value["os"]["name"] == "windows" {
        return resources.forbidden("may not be set for a windows pod", causes);
    }
    if resources.has("claims") {
        resources.get("claims").forbidden("claims may not be set for Resources at pod-level", causes);
    }
    requirements(&resources, pod_resource_name, claims, causes);
    let (requests, bounds) = (resources.get("requests"), resources.get("limits"));
    for (name, request) in requests.entries() {
        let asked = total(spec, "requests", name);
        if let (Some(request_amount), Some(asked)) = (quantity(request.value), asked)
            && asked.nano() > request_amount.nano()
        {
            let detail = format!(
                "must be greater than or equal to aggregate container requests of {}",
                asked.canonical()
            );
            request.invalid(&detail, causes);
        }
    }
    for list in ["containers", "initContainers"] {
        for container in spec.items(list) {
            for (name, limit) in container.get("resources").get("limits").entries() {
                let bound = quantity(&bounds.value[name]);
                if let (Some(limit_amount), Some(bound)) = (quantity(limit.value), bound)
                    && limit_amount.nano() > bound.nano()
                {
                    let detail = format!("must be less than or equal to pod limits of {}", bound.canonical());
                    limit.moved(&container.get("resources").get("limits").path).invalid(&detail, causes);
                }
            }
        }
    }
}

/// What the containers of a Pod ask for together.
fn total(spec: &At<'_>, part: &str, name: &str) -> Option<Quantity> {
    let mut sum: Option<Quantity> = None;
    for container in spec.items("containers") {
        if let Some(amount) = quantity(&container.value["resources"][part][name]) {
            sum = Some(sum.map_or(amount, |sum| sum.plus(&amount)));
        }
    }
    sum
}

fn requirements(
    resources: &At<'_>,
    check_name: fn(&At<'_>, &str, &mut Vec<Cause>),
    pod_claims: &BTreeSet<&str>,
    causes: &mut Vec<Cause>,
) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    let (mut basic, mut huge) = (false, false);
    for part in [&limits, &requests] {
        for (name, value) in part.entries() {
            check_name(&value, name, causes);
            amount(&value, name, causes);
            basic |= matches!(name, "cpu" | "memory");
            huge |= is_huge(name);
        }
    }
    for (name, value) in requests.entries() {
        let Some(request) = quantity(value.value) else { continue };
        let overcommit = is_native(name) && !is_huge(name);
        let shown = request.canonical();
        match quantity(&limits.value[name]) {
            Some(limit) if !overcommit && limit.nano() != request.nano() => {
                let detail = format!("must be equal to {name} limit of {}", limit.canonical());
                requests.invalid_as(shown, &detail, causes);
            }
            Some(limit) if request.nano() > limit.nano() => {
                let detail = format!("must be less than or equal to {name} limit of {}", limit.canonical());
                requests.invalid_as(shown, &detail, causes);
            }
            None if !overcommit => {
                limits.required("Limit must be set for non overcommitable resources", causes)
            }
            _ => {}
        }
    }
    if huge && !basic {
        resources.forbidden("HugePages require cpu or memory", causes);
    }
    claim_names(resources, pod_claims, causes);
}

fn claim_names(resources: &At<'_>, pod_claims: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let mut seen = BTreeSet::new();
    for claim in resources.items("claims") {
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            claim.required("", causes);
            continue;
        }
        if !request.is_empty() {
            claim.get("request").label(causes);
        }
        let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
        let whole =
            request.is_empty() && seen.iter().any(|seen: &String| seen.starts_with(&format!("{name}/")));
        let shown = if seen.contains(name) { name.to_owned() } else { key.clone() };
        if seen.contains(name) || seen.contains(&key) || whole {
            causes.push(Cause::duplicate(claim.path.clone(), &shown.into()));
        }
        seen.insert(key);
        if !pod_claims.contains(name) {
            let known: Vec<&str> = pod_claims.iter().copied().collect();
            let tail = if known.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", known.join(", "))
            };
            let mut cause = Cause::not_found(claim.path.clone(), &name.into());
            cause.message.push_str(&format!(": must be one of the names in pod.spec.resourceClaims{tail}"));
            causes.push(cause);
        }
    }
}
