//! What an object uses, in the names of quotas, and which quotas it counts for.

use serde_json::Value;

use super::{Amounts, read_amounts};
use crate::schema::quantity::Quantity;
use crate::status::qualified;

/// Objects that are also counted under their plain name.
const COUNTED: [&str; 7] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];

fn add(amounts: &mut Amounts, name: String, amount: &Quantity) {
    let sum = amounts.get(&name).copied().unwrap_or(Quantity::ZERO).plus(amount);
    amounts.insert(name, sum);
}

/// What an object uses.
pub(crate) fn usage(group: &str, plural: &str, object: &Value) -> Amounts {
    let one = Quantity::whole(1);
    let mut used = Amounts::new();
    used.insert(format!("count/{}", qualified(plural, group)), one);
    if !group.is_empty() {
        return used;
    }
    if COUNTED.contains(&plural) {
        used.insert(plural.to_owned(), one);
    }
    let spec = &object["spec"];
    match plural {
        "pods" => {
            let (requests, limits) = pod_amounts(spec);
            for (name, amount) in &requests {
                if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                    add(&mut used, name.clone(), amount);
                }
                add(&mut used, format!("requests.{name}"), amount);
            }
            for (name, amount) in &limits {
                add(&mut used, format!("limits.{name}"), amount);
            }
        }
        "services" => {
            let ports = spec["ports"].as_array().map(Vec::len).unwrap_or_default() as i64;
            let balanced = spec["type"] == "LoadBalancer";
            if balanced {
                used.insert("services.loadbalancers".into(), one);
            }
            let without = balanced && spec["allocateLoadBalancerNodePorts"] == false;
            if (balanced || spec["type"] == "NodePort") && !without {
                used.insert("services.nodeports".into(), Quantity::whole(ports));
            }
        }
        "persistentvolumeclaims" => {
            let class = spec["storageClassName"].as_str().filter(|class| !class.is_empty());
            if let Some(class) = class {
                used.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one);
            }
            if let Some(storage) = read_amounts(&spec["resources"]["requests"]).get("storage") {
                used.insert("requests.storage".into(), *storage);
                if let Some(class) = class {
                    used.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), *storage);
                }
            }
        }
        _ => {}
    }
    used
}

/// A Pod that has ended uses nothing.
pub(crate) fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Requests and limits of a Pod: its containers and sidecars together, or an init container that needs more.
pub(crate) fn pod_amounts(spec: &Value) -> (Amounts, Amounts) {
    (effective(spec, "requests"), effective(spec, "limits"))
}

fn effective(spec: &Value, part: &str) -> Amounts {
    let mut total = Amounts::new();
    let amounts = |container: &Value| read_amounts(&container["resources"][part]);
    for container in spec["containers"].as_array().into_iter().flatten() {
        for (name, amount) in amounts(container) {
            add(&mut total, name, &amount);
        }
    }
    let mut sidecars = Amounts::new();
    let mut highest = Amounts::new();
    for container in spec["initContainers"].as_array().into_iter().flatten() {
        let own = amounts(container);
        let sidecar = container["restartPolicy"] == "Always";
        for (name, amount) in own {
            if sidecar {
                add(&mut total, name.clone(), &amount);
                add(&mut sidecars, name.clone(), &amount);
            }
            let besides = sidecars.get(&name).copied().unwrap_or(Quantity::ZERO);
            let needed = if sidecar { besides } else { besides.plus(&amount) };
            if highest.get(&name).is_none_or(|known| known.nano() < needed.nano()) {
                highest.insert(name, needed);
            }
        }
    }
    for (name, amount) in highest {
        if total.get(&name).is_none_or(|known| known.nano() < amount.nano()) {
            total.insert(name, amount);
        }
    }
    // What the Pod says as a whole holds instead of the sum.
    total.extend(read_amounts(&spec["resources"][part]));
    for (name, amount) in read_amounts(&spec["overhead"]) {
        if part == "requests" || total.contains_key(&name) {
            add(&mut total, name, &amount);
        }
    }
    total
}

/// Whether an object counts for a quota, by the quota's scopes.
pub(crate) fn matches(quota: &Value, is_pod: bool, object: &Value) -> bool {
    let scopes = quota["spec"]["scopes"].as_array().into_iter().flatten();
    let terms = quota["spec"]["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    for scope in scopes {
        if !is_pod || !in_scope(scope.as_str().unwrap_or_default(), "Exists", &[], object) {
            return false;
        }
    }
    for term in terms {
        let values: Vec<&str> =
            term["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let text = |field: &str| term[field].as_str().unwrap_or_default();
        if !is_pod || !in_scope(text("scopeName"), text("operator"), &values, object) {
            return false;
        }
    }
    true
}

fn in_scope(scope: &str, operator: &str, values: &[&str], pod: &Value) -> bool {
    let spec = &pod["spec"];
    let terminating = spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
    let best_effort = crate::pod::qos_class(pod) == "BestEffort";
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => {
            let class = spec["priorityClassName"].as_str().unwrap_or_default();
            match operator {
                "In" => values.contains(&class),
                "NotIn" => !values.contains(&class),
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => crosses(&spec["affinity"]),
        _ => false,
    }
}

/// Whether a term of Pod affinity looks into other namespaces.
fn crosses(affinity: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|part| {
        let part = &affinity[part];
        let required =
            part["requiredDuringSchedulingIgnoredDuringExecution"].as_array().into_iter().flatten();
        let preferred =
            part["preferredDuringSchedulingIgnoredDuringExecution"].as_array().into_iter().flatten();
        let mut terms = required.chain(preferred.map(|term| &term["podAffinityTerm"]));
        terms.any(|term| {
            term["namespaces"].as_array().is_some_and(|list| !list.is_empty())
                || term["namespaceSelector"].is_object()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_container_counts_where_it_needs_more_than_the_containers() {
        let container = |cpu: &str| serde_json::json!({ "resources": { "requests": { "cpu": cpu } } });
        let mut sidecar = container("300m");
        sidecar["restartPolicy"] = "Always".into();
        let spec = serde_json::json!({
            "containers": [container("100m"), container("200m")],
            "initContainers": [sidecar, container("500m")],
            "overhead": { "cpu": "10m" },
        });
        assert_eq!(pod_amounts(&spec).0["cpu"].canonical(), "810m");
    }
}
