//! `PodDisruptionBudget`: how many Pods may be evicted now. The API server's eviction takes from what the status allows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dodai_kit::plan::controller_of;
use dodai_kit::{Controller, Key, Plan, View, Watches};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::core::Selector;

use super::deployment::scaled;
use super::replica_set::count;
use super::{pods, selector};

/// How long an eviction that was granted may take to delete its Pod before it no longer counts.
const DELETION_MAX: Duration = Duration::from_secs(120);
const CONDITION: &str = "DisruptionAllowed";

/// The controller of disruption budgets.
pub struct DisruptionController;

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The budget.
    pub budget: Arc<PodDisruptionBudget>,
    /// The Pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// How many Pods each controller of those Pods wants, by its uid; `None` for a controller without a known size.
    pub sizes: BTreeMap<String, Option<i32>>,
}

impl Controller for DisruptionController {
    type Kind = PodDisruptionBudget;
    type World = World;
    const NAME: &'static str = "disruption";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, PodDisruptionBudget>) {
        watches.mapped::<Pod>(|pod, view| {
            let mut budgets = view.list::<PodDisruptionBudget>(pod.namespace().as_deref());
            // One that does not select it any more still names it, until its count is right again.
            budgets.retain(|budget| selects(budget, pod) || names(budget, pod));
            budgets.iter().map(|budget| Key::of(budget.as_ref())).collect()
        });
        watches.mapped::<ReplicaSet>(|set, view| of_namespace(view, set.namespace()));
        watches.mapped::<StatefulSet>(|set, view| of_namespace(view, set.namespace()));
        watches.mapped::<Deployment>(|deployment, view| of_namespace(view, deployment.namespace()));
        watches
            .mapped::<ReplicationController>(|controller, view| of_namespace(view, controller.namespace()));
    }

    fn observe(view: &View, budget: &Arc<PodDisruptionBudget>) -> World {
        let namespace = budget.namespace().unwrap_or_default();
        let mut pods = view.list::<Pod>(Some(&namespace));
        pods.retain(|pod| selects(budget, pod));
        let mut sizes = BTreeMap::new();
        for owner in pods.iter().filter_map(|pod| controller_of(pod.as_ref())) {
            let (uid, size) = size(view, &namespace, &owner.kind, &owner.name, &owner.uid);
            sizes.insert(uid, size);
        }
        World { now: view.now(), budget: budget.clone(), pods, sizes }
    }

    fn plan(world: &World) -> Plan {
        let mut plan = Plan::none();
        if let Some(status) = status(world, &mut plan) {
            plan.set_status(&status);
        }
        plan
    }
}

fn of_namespace(view: &View, namespace: Option<String>) -> Vec<Key> {
    view.list::<PodDisruptionBudget>(namespace.as_deref())
        .iter()
        .map(|budget| Key::of(budget.as_ref()))
        .collect()
}

/// An empty selector selects everything, a missing one nothing.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    let selector = selector.and_then(|selector| Selector::try_from(selector).ok());
    selector.is_some_and(|selector| selector::selects(&selector, pod.labels()))
}

fn names(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    disrupted.is_some_and(|disrupted| disrupted.contains_key(&pod.name_any()))
}

/// The uid and size of the workload that a Pod's controller belongs to.
fn size(view: &View, namespace: &str, kind: &str, name: &str, uid: &str) -> (String, Option<i32>) {
    let own = |size: Option<i32>| (uid.to_owned(), size);
    match kind {
        "ReplicaSet" => {
            let Some(set) = view.get::<ReplicaSet>(namespace, name) else { return own(None) };
            let owner = controller_of(set.as_ref()).filter(|owner| owner.kind == "Deployment");
            let deployment = owner.and_then(|owner| view.get::<Deployment>(namespace, &owner.name));
            match deployment {
                Some(deployment) => {
                    let size = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                    (deployment.uid().unwrap_or_default(), Some(size))
                }
                None => own(Some(set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))),
            }
        }
        "StatefulSet" => {
            let set = view.get::<StatefulSet>(namespace, name);
            own(set.map(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)))
        }
        "ReplicationController" => {
            let found = view.get::<ReplicationController>(namespace, name);
            own(found.map(|found| found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)))
        }
        _ => own(None),
    }
}

/// `(expected, desired healthy)`, or why that cannot be said.
fn bounds(world: &World) -> Result<(i32, i32), String> {
    let Some(spec) = &world.budget.spec else { return Ok((0, 0)) };
    let expected = || {
        let unknown = world.sizes.iter().find(|(_, size)| size.is_none());
        if let Some((uid, _)) = unknown {
            return Err(format!("found no size of the controller {uid} of a pod"));
        }
        Ok(world.sizes.values().flatten().fold(0, |sum: i32, size| sum.saturating_add(*size)))
    };
    if let Some(unavailable) = &spec.max_unavailable {
        let expected = expected()?;
        return Ok((expected, (expected - scaled(unavailable, expected, true)).max(0)));
    }
    match &spec.min_available {
        Some(IntOrString::Int(number)) => Ok((count(world.pods.len()), (*number).max(0))),
        Some(percent) => {
            let expected = expected()?;
            Ok((expected, scaled(percent, expected, true)))
        }
        None => Ok((count(world.pods.len()), 0)),
    }
}

fn status(world: &World, plan: &mut Plan) -> Option<PodDisruptionBudgetStatus> {
    let before = world.budget.status.clone();
    let mut status = before.clone().unwrap_or_default();
    let told = |status: &mut PodDisruptionBudgetStatus, allowed: bool, reason: &str, message: String| {
        let generation = world.budget.metadata.generation;
        set_condition(status, allowed, reason, message, generation, world.now);
    };
    let (expected, desired) = match bounds(world) {
        Ok(bounds) => bounds,
        Err(message) => {
            status.disruptions_allowed = Some(0);
            told(&mut status, false, "SyncFailed", message);
            return Some(status);
        }
    };
    let (disrupted, next) = disrupted(world);
    if let Some(next) = next {
        plan.again_in(next);
    }
    let is_healthy = |pod: &&Arc<Pod>| {
        !pods::is_deleted(pod) && !disrupted.contains_key(&pod.name_any()) && pods::is_ready(pod)
    };
    let healthy = count(world.pods.iter().filter(is_healthy).count());
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    status.current_healthy = Some(healthy);
    status.desired_healthy = Some(desired);
    status.expected_pods = Some(expected);
    status.disruptions_allowed = Some(allowed);
    status.disrupted_pods = Some(disrupted).filter(|pods| !pods.is_empty());
    status.observed_generation = world.budget.metadata.generation;
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    told(&mut status, allowed > 0, reason, String::new());
    Some(status)
}

/// Pods whose eviction was granted and that are not yet being deleted; when that is to be looked at again.
fn disrupted(world: &World) -> (BTreeMap<String, Time>, Option<Duration>) {
    let known =
        world.budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    let mut next: Option<Duration> = None;
    let mut kept = BTreeMap::new();
    for (name, time) in known {
        let is_there = world.pods.iter().any(|pod| pod.name_any() == name && !pods::is_deleted(pod));
        let gone_ms =
            world.now.as_millisecond().saturating_sub(time.0.as_millisecond()).max(0).unsigned_abs();
        let left = DELETION_MAX.checked_sub(Duration::from_millis(gone_ms)).filter(|left| !left.is_zero());
        if let Some(left) = left.filter(|_| is_there) {
            next = Some(next.map_or(left, |next| next.min(left)));
            kept.insert(name, time);
        }
    }
    (kept, next)
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    allowed: bool,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
) {
    let value = if allowed { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().find(|old| old.type_ == CONDITION && old.status == value);
    let since = old.map_or(Time(now), |old| old.last_transition_time.clone());
    let new = Condition {
        type_: CONDITION.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation: generation,
    };
    match conditions.iter_mut().find(|old| old.type_ == CONDITION) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}
