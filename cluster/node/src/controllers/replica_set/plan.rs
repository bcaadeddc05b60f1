//! Decides for a ReplicaSet, and which Pods go first.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use dodai_kit::Plan;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::core::Core;
use crate::controllers::{pods, selector};

/// Pods that are made or deleted in one pass.
pub(crate) const BURST_MAX: usize = 500;
/// The condition that tells why Pods cannot be made or deleted.
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";
/// Annotation on a Pod: those with a lower number go first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The ReplicaSet.
    pub set: Arc<ReplicaSet>,
    /// The Pods that it controls, whatever their state.
    pub pods: Vec<Arc<Pod>>,
    /// Pods without controller that it selects.
    pub orphans: Vec<Arc<Pod>>,
    /// Names of all Pods of the namespace.
    pub names: BTreeSet<String>,
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    let set = world.set.as_ref();
    let Some(spec) = &set.spec else { return plan };
    let Some(selector) = selector::of_workload(&spec.selector) else { return plan };
    let core = Core {
        now: world.now,
        owner: set,
        replicas: spec.replicas.unwrap_or(1),
        min_ready_s: spec.min_ready_seconds.unwrap_or(0),
        selector,
        template: spec.template.as_ref(),
        pods: &world.pods,
        orphans: &world.orphans,
        names: &world.names,
        observed: set.status.as_ref().and_then(|status| status.observed_generation),
    };
    let counts = core.plan(&mut plan);
    let mut conditions = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
    plan.set_status(&ReplicaSetStatus {
        replicas: count(counts.active),
        fully_labeled_replicas: nonzero(counts.fully_labelled),
        ready_replicas: nonzero(counts.ready),
        available_replicas: nonzero(counts.available),
        terminating_replicas: Some(count(counts.terminating)),
        observed_generation: set.metadata.generation,
        conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
    });
    plan.failure_condition = Some(REPLICA_FAILURE);
    plan
}

/// Which of two Pods is deleted first, in upstream's order: not bound, not running, not ready, cheaper, ready for a
/// shorter time, restarted more often, newer. Ages count by their order of magnitude, and then the uid decides.
///
/// Upstream's rank by Pods per Node is left out: there is one Node.
pub(crate) fn goes_before(a: &Pod, b: &Pod, now: Timestamp) -> Ordering {
    let is_bound = |pod: &Pod| pods::node(pod).is_some();
    let running = |pod: &Pod| match pods::phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let cost = |pod: &Pod| {
        pod.annotations().get(DELETION_COST).and_then(|text| text.parse::<i32>().ok()).unwrap_or(0)
    };
    let ready_age = |pod: &Pod| pods::ready_since(pod).map_or(0, |since| magnitude(since, now));
    let age = |pod: &Pod| pods::created_at(pod).map_or(0, |since| magnitude(since, now));
    is_bound(a)
        .cmp(&is_bound(b))
        .then_with(|| running(a).cmp(&running(b)))
        .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| ready_age(a).cmp(&ready_age(b)))
        .then_with(|| pods::restarts(b).cmp(&pods::restarts(a)))
        .then_with(|| age(a).cmp(&age(b)))
        .then_with(|| a.uid().cmp(&b.uid()))
}

/// The binary logarithm of an age in seconds.
fn magnitude(since: Timestamp, now: Timestamp) -> u32 {
    let age_s = now.as_second().saturating_sub(since.as_second()).max(0);
    u64::BITS - age_s.unsigned_abs().leading_zeros()
}

/// A count as upstream writes it: nothing for 0.
pub(crate) fn nonzero(number: usize) -> Option<i32> {
    count_nonzero(count(number))
}

/// A count as upstream writes it: nothing for 0.
pub(crate) fn count_nonzero(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

/// A count as the API has it.
pub(crate) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
