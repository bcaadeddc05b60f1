//! What several controllers ask of a Pod, and how one is made from a template.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::planted::{self, Bug};

/// `status.phase`; a Pod without one is `Pending`.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether it succeeded or failed: nothing of it runs any more.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether its deletion was asked for.
pub fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it counts for its workload: neither ended nor on its way out.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleted(pod)
}

/// Whether it is on its way out and has not ended yet.
pub fn is_terminating(pod: &Pod) -> bool {
    is_deleted(pod) && !is_terminal(pod)
}

/// The Node it is bound to.
pub fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// The condition of this type.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// Whether it is ready to serve.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when it is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether it has been ready for `min_ready_s` seconds; `Err` says how long until then.
pub fn is_available(pod: &Pod, min_ready_s: i32, now: Timestamp) -> Result<bool, Duration> {
    if !is_ready(pod) {
        return Ok(false);
    }
    if min_ready_s <= 0 {
        return Ok(true);
    }
    let Some(since) = ready_since(pod) else { return Ok(false) };
    let elapsed_ms = now.as_millisecond().saturating_sub(since.as_millisecond());
    let missing_ms = i64::from(min_ready_s) * 1000 - elapsed_ms;
    if missing_ms <= 0 { Ok(true) } else { Err(Duration::from_millis(missing_ms.unsigned_abs())) }
}

/// When it ended: the last of its containers, else the best that is known.
pub fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let ended = statuses
        .iter()
        .filter_map(|container| Some(container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0));
    ended
        .max()
        .or_else(|| condition(pod, "Ready")?.last_transition_time.as_ref().map(|time| time.0))
        .or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|time| time.0))
        .or_else(|| created_at(pod))
}

/// When it was created.
pub fn created_at(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// How often its containers were started again.
pub fn restarts(pod: &Pod) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let all = status.init_container_statuses.iter().chain(status.container_statuses.iter()).flatten();
    all.map(|container| container.restart_count).fold(0, i32::saturating_add)
}

/// A Pod of the template, with this name and owner. `generate_name` is kept beside the name, as people expect it.
pub fn from_template(
    template: &PodTemplateSpec,
    namespace: Option<String>,
    name: String,
    generate_name: Option<String>,
    owner: OwnerReference,
) -> Pod {
    let from = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            generate_name,
            namespace,
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The same object with this owner in addition.
pub fn adopted<K: kube::Resource + Clone>(object: &K, owner: OwnerReference) -> K {
    let mut object = object.clone();
    let owners = object.owner_references_mut();
    // The API server would refuse a second controller.
    owners.retain(|other| !planted::is(Bug::ReplicaSetTakesOthers) || other.controller != Some(true));
    owners.push(owner);
    object
}

/// The same object without the owner of this uid.
pub fn released<K: kube::Resource + Clone>(object: &K, uid: &str) -> K {
    let mut object = object.clone();
    let owners = object.owner_references_mut();
    owners.retain(|owner| owner.uid != uid);
    object
}
