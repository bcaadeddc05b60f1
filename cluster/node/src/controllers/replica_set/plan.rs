//! Decides for a ReplicaSet: which Pods to take over, make or delete, and what to count.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use dodai_kit::Plan;
use dodai_kit::plan::controller_reference;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::ResourceExt;
use kube::core::Selector;

use crate::controllers::{names, pods, selector};

/// Pods that are made or deleted in one pass.
pub(super) const BURST_MAX: usize = 500;
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
    let Some(spec) = &world.set.spec else { return plan };
    let Some(selector) = selector::of_workload(&spec.selector) else { return plan };
    let is_deleted = world.set.metadata.deletion_timestamp.is_some();
    let (ours, others): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = world
        .pods
        .iter()
        .filter(|pod| !pods::is_terminal(pod))
        .partition(|pod| selector::selects(&selector, pod.labels()));
    let (terminating, active): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
        ours.into_iter().partition(|pod| pods::is_deleted(pod));
    if !is_deleted {
        claim(&mut plan, world, &others);
        // What was taken over is seen on the next pass; until then nobody knows how many there are.
        if plan.actions.is_empty() {
            scale(&mut plan, world, &selector, spec.template.as_ref(), &active);
        }
    }
    let status = status(&mut plan, world, &active, terminating.len());
    let observed = world.set.status.as_ref().and_then(|status| status.observed_generation);
    if plan.actions.is_empty() && observed != status.observed_generation {
        // The Deployment takes the first count under a new size at its word.
        let selected =
            world.pods.iter().map(Arc::as_ref).filter(|pod| selector::selects(&selector, pod.labels()));
        plan.confirm_owned(world.set.as_ref(), Some(selector.to_string()), selected, false);
    }
    plan.set_status(&status);
    plan
}

/// Lets go of Pods that are no longer selected, and takes over those that are and have no controller.
fn claim(plan: &mut Plan, world: &World, others: &[&Arc<Pod>]) {
    let uid = world.set.uid().unwrap_or_default();
    for pod in others.iter().filter(|pod| !pods::is_deleted(pod)) {
        plan.replace(&pods::released(pod.as_ref(), &uid));
    }
    let orphans: Vec<&Arc<Pod>> = world.orphans.iter().filter(|pod| pods::is_active(pod)).collect();
    if !orphans.is_empty() {
        // Its deletion may have begun, and its Pods been let go for it.
        plan.confirm(world.set.as_ref());
    }
    for pod in orphans {
        plan.replace(&pods::adopted(pod.as_ref(), controller_reference(world.set.as_ref())));
    }
}

fn scale(
    plan: &mut Plan,
    world: &World,
    selector: &Selector,
    template: Option<&PodTemplateSpec>,
    active: &[&Arc<Pod>],
) {
    let set = world.set.as_ref();
    let selected = world.pods.iter().map(Arc::as_ref).filter(|pod| selector::selects(selector, pod.labels()));
    let wanted = usize::try_from(wanted(&world.set)).unwrap_or(0);
    match active.len().cmp(&wanted) {
        Ordering::Equal => {}
        Ordering::Less => {
            let Some(template) = template else { return };
            let count = (wanted - active.len()).min(BURST_MAX);
            let (name, uid) = (world.set.name_any(), world.set.uid().unwrap_or_default());
            let taken = world.names.iter().map(String::as_str).collect();
            plan.confirm(set);
            plan.confirm_owned(set, Some(selector.to_string()), selected, false);
            for pod in names::free_names(&name, &uid, count, &taken) {
                let owner = controller_reference(world.set.as_ref());
                let generate = Some(format!("{name}-"));
                plan.create(&pods::from_template(template, world.set.namespace(), pod, generate, owner));
            }
        }
        Ordering::Greater => {
            let count = (active.len() - wanted).min(BURST_MAX);
            let mut ranked: Vec<&Arc<Pod>> = active.to_vec();
            ranked.sort_by(|a, b| goes_before(a, b, world.now));
            plan.confirm(set);
            plan.confirm_owned(set, Some(selector.to_string()), selected, true);
            for pod in &ranked[..count] {
                plan.delete(pod.as_ref());
            }
        }
    }
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
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

fn status(plan: &mut Plan, world: &World, active: &[&Arc<Pod>], terminating: usize) -> ReplicaSetStatus {
    let set = &world.set;
    let min_ready_s = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template =
        set.spec.as_ref().and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.clone());
    let template = template.unwrap_or_default();
    let is_labelled =
        |pod: &&&Arc<Pod>| template.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
    let mut available = 0;
    for pod in active {
        match pods::is_available(pod, min_ready_s, world.now) {
            Ok(is) => available += usize::from(is),
            Err(missing) => plan.again_in(missing),
        }
    }
    let mut conditions = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions.retain(|condition| condition.type_ != "ReplicaFailure");
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: nonzero(active.iter().filter(is_labelled).count()),
        ready_replicas: nonzero(active.iter().filter(|pod| pods::is_ready(pod)).count()),
        available_replicas: nonzero(available),
        terminating_replicas: Some(count(terminating)),
        observed_generation: set.metadata.generation,
        conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
    }
}

fn nonzero(number: usize) -> Option<i32> {
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
