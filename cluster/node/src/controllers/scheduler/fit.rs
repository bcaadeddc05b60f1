//! Whether a Pod fits a Node: selector and affinity, taints, and requests against what is left.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::quantity::milli;

/// Amounts by resource, in thousandths.
pub(super) type Amounts = BTreeMap<String, i128>;

/// Why the Node does not take the Pod, in upstream's words; `None` if nothing but room matters.
pub(super) fn refuses(node: &Node, pod: &Pod) -> Option<&'static str> {
    if !is_selected(node, pod) {
        return Some("node(s) didn't match Pod's node affinity/selector");
    }
    let spec = node.spec.as_ref();
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let unschedulable = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if spec.is_some_and(|spec| spec.unschedulable == Some(true)) && !is_tolerated(&unschedulable, tolerations)
    {
        return Some("node(s) were unschedulable");
    }
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let refusing = |taint: &&Taint| taint.effect != "PreferNoSchedule" && !is_tolerated(taint, tolerations);
    taints.iter().find(refusing).map(|_| "node(s) had untolerated taint(s)")
}

/// What a Node is to a Pod that is made for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It takes the Pod.
    Fits,
    /// It takes no new one, but keeps one that is there.
    Tolerates,
    /// One that is there has to go.
    Refuses,
}

/// What the Node is to the Pod of a DaemonSet; room does not matter.
pub(crate) fn place(node: &Node, pod: &Pod) -> Place {
    if !is_selected(node, pod) || super::super::pods::node(pod).is_some_and(|name| name != node.name_any()) {
        return Place::Refuses;
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let refuses =
        |effect: &str| taints.iter().any(|taint| taint.effect == effect && !is_tolerated(taint, tolerations));
    match (refuses("NoExecute"), refuses("NoSchedule")) {
        (true, _) => Place::Refuses,
        (false, true) => Place::Tolerates,
        (false, false) => Place::Fits,
    }
}

fn is_tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let effect = text(&toleration.effect).is_none_or(|effect| effect == taint.effect);
        let exists = toleration.operator.as_deref() == Some("Exists");
        let key = text(&toleration.key).map_or(exists, |key| key == taint.key);
        let value = toleration.value.clone().unwrap_or_default() == taint.value.clone().unwrap_or_default();
        effect && key && (exists || value)
    })
}

fn is_selected(node: &Node, pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = node.labels();
    let selector = spec.node_selector.iter().flatten();
    if !selector.into_iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| fits_term(node, term)))
}

fn fits_term(node: &Node, term: &NodeSelectorTerm) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = node.name_any();
    let field = |key: &str| (key == "metadata.name").then_some(name.as_str());
    expressions.iter().all(|part| holds(part, node.labels().get(&part.key).map(String::as_str)))
        && fields.iter().all(|part| holds(part, field(&part.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let contains = value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let numbers = || {
        let bound = values.first()?.parse::<i64>().ok()?;
        Some((value?.parse::<i64>().ok()?, bound))
    };
    match requirement.operator.as_str() {
        "In" => contains,
        "NotIn" => !contains,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// What the Pod asks for: its containers together, or the largest of its init containers, and one of `pods`.
pub(super) fn requests(pod: &Pod) -> Amounts {
    let mut total = Amounts::new();
    let Some(spec) = &pod.spec else { return total };
    for container in &spec.containers {
        add(
            &mut total,
            &amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref())),
        );
    }
    let mut sidecars = Amounts::new();
    let mut largest = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut own = amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &own);
            own.clone_from(&sidecars);
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut largest, &own);
    }
    add(&mut total, &sidecars);
    raise(&mut total, &largest);
    add(&mut total, &amounts(spec.overhead.as_ref()));
    *total.entry("pods".to_owned()).or_insert(0) += 1000;
    total
}

/// What the Node has for Pods.
pub(super) fn allocatable(node: &Node) -> Amounts {
    amounts(node.status.as_ref().and_then(|status| status.allocatable.as_ref()))
}

fn amounts(list: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    // What the API server let in is a quantity.
    list.into_iter().flatten().filter_map(|(name, amount)| Some((name.clone(), milli(&amount.0)?))).collect()
}

/// Adds amounts to amounts.
pub(super) fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *total.entry(name.clone()).or_insert(0) += amount;
    }
}

fn raise(total: &mut Amounts, to: &Amounts) {
    for (name, amount) in to {
        let entry = total.entry(name.clone()).or_insert(0);
        *entry = (*entry).max(*amount);
    }
}

/// Resources of which the Node has less than is taken and asked for. A Node that tells of none is not asked.
pub(super) fn lacking(has: &Amounts, taken: &Amounts, wanted: &Amounts) -> Vec<String> {
    if has.is_empty() {
        return Vec::new();
    }
    let is_short = |name: &&String| {
        let wanted = wanted[*name];
        let left = has.get(*name).copied().unwrap_or(0) - taken.get(*name).copied().unwrap_or(0);
        wanted > 0 && wanted > left && (has.contains_key(*name) || name.as_str() != "pods")
    };
    wanted.keys().filter(is_short).cloned().collect()
}
