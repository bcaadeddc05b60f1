//! Decides for a Pod: which Node takes it, or why none does.

use std::collections::BTreeMap;
use std::sync::Arc;

use dodai_kit::Plan;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, PersistentVolumeClaim, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;

use super::fit::{self, Amounts};
use crate::controllers::{pods, volume};

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The Pod.
    pub pod: Arc<Pod>,
    /// All Nodes.
    pub nodes: Vec<Arc<Node>>,
    /// All other Pods that have not ended.
    pub others: Vec<Arc<Pod>>,
    /// The claims of its namespace.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
}

/// Whether the Pod waits for us to bind it.
pub(super) fn is_waiting(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let is_gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    let is_ours =
        spec.scheduler_name.as_deref().is_none_or(|name| name == "default-scheduler" || name.is_empty());
    pods::node(pod).is_none() && pods::is_active(pod) && is_ours && !is_gated
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    if !is_waiting(&world.pod) {
        return plan;
    }
    match place(world) {
        Ok(node) => plan.create(&binding(&world.pod, &node)),
        Err(message) => tell_unschedulable(&mut plan, world, message),
    }
    plan
}

fn place(world: &World) -> Result<String, String> {
    if let Some(message) = waits_for_claim(world) {
        return Err(message);
    }
    if world.nodes.is_empty() {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let mut taken: BTreeMap<String, Amounts> = BTreeMap::new();
    for other in &world.others {
        if let Some(node) = pods::node(other) {
            fit::add(taken.entry(node.to_owned()).or_default(), &fit::requests(other));
        }
    }
    let place_of = |pod: &Pod| (pod.metadata.creation_timestamp.clone(), pod.namespace(), pod.name_any());
    let mut older: Vec<&Arc<Pod>> = world.others.iter().filter(|other| is_waiting(other)).collect();
    older.retain(|other| place_of(other) < place_of(&world.pod));
    older.sort_by_key(|other| place_of(other));
    for other in older {
        if let Some(node) = first_fit(&world.nodes, &taken, other) {
            fit::add(taken.entry(node).or_default(), &fit::requests(other));
        }
    }
    first_fit(&world.nodes, &taken, &world.pod).ok_or_else(|| reasons(&world.nodes, &taken, &world.pod))
}

fn first_fit(nodes: &[Arc<Node>], taken: &BTreeMap<String, Amounts>, pod: &Pod) -> Option<String> {
    let wanted = fit::requests(pod);
    let fits = |node: &&Arc<Node>| {
        let none = Amounts::new();
        let taken = taken.get(&node.name_any()).unwrap_or(&none);
        fit::refuses(node, pod).is_none() && fit::lacking(&fit::allocatable(node), taken, &wanted).is_empty()
    };
    nodes.iter().find(fits).map(|node| node.name_any())
}

/// `0/1 nodes are available: 1 Insufficient memory.`
fn reasons(nodes: &[Arc<Node>], taken: &BTreeMap<String, Amounts>, pod: &Pod) -> String {
    let wanted = fit::requests(pod);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        let none = Amounts::new();
        let taken = taken.get(&node.name_any()).unwrap_or(&none);
        if let Some(reason) = fit::refuses(node, pod) {
            *counts.entry(reason.to_owned()).or_insert(0) += 1;
            continue;
        }
        for resource in fit::lacking(&fit::allocatable(node), taken, &wanted) {
            let reason = if resource == "pods" {
                "Too many pods".to_owned()
            } else {
                format!("Insufficient {resource}")
            };
            *counts.entry(reason).or_insert(0) += 1;
        }
    }
    let reasons: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", "))
}

fn waits_for_claim(world: &World) -> Option<String> {
    let volumes = world.pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let names = volumes.iter().filter_map(|volume| volume.persistent_volume_claim.as_ref());
    for name in names.map(|source| source.claim_name.as_str()) {
        match world.claims.iter().find(|claim| claim.name_any() == name) {
            None => return Some(format!("persistentvolumeclaim \"{name}\" not found")),
            Some(claim) if claim.metadata.deletion_timestamp.is_some() => {
                return Some(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            Some(claim) if !volume::is_bound(claim) => {
                return Some("pod has unbound immediate PersistentVolumeClaims".to_owned());
            }
            Some(_) => {}
        }
    }
    None
}

fn binding(pod: &Pod, node: &str) -> Binding {
    Binding {
        metadata: ObjectMeta {
            name: Some(pod.name_any()),
            namespace: pod.namespace(),
            uid: pod.uid(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    }
}

fn tell_unschedulable(plan: &mut Plan, world: &World, message: String) {
    let mut status = world.pod.status.clone().unwrap_or_default();
    let before = pods::condition(&world.pod, "PodScheduled").cloned();
    let transition = before
        .as_ref()
        .filter(|before| before.status == "False")
        .and_then(|before| before.last_transition_time.clone());
    let condition = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message),
        last_transition_time: Some(transition.unwrap_or(Time(world.now))),
        last_probe_time: before.and_then(|before| before.last_probe_time),
        observed_generation: None,
    };
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|old| old.type_ == "PodScheduled") {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
    plan.set_status(&status);
}
