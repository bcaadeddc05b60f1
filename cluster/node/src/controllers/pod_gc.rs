//! Pods of Nodes that are no more: nobody will ever say how they ended, so they are said to have failed, and go.
//!
//! Left out: upstream's limit of ended Pods in a cluster (12,500), which one machine does not reach.

use std::sync::Arc;
use std::time::Duration;

use dodai_kit::{Controller, Key, Plan, View, Watches};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::pods;

/// How long a Pod may be bound to a Node that is not seen: a Node may be about to register again.
const GRACE: Duration = Duration::from_secs(40);

/// The controller of Pods that lost their Node.
pub struct PodGcController;

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The Pod.
    pub pod: Arc<Pod>,
    /// Whether its Node is there, or it has none.
    pub has_node: bool,
}

impl Controller for PodGcController {
    type Kind = Pod;
    type World = World;
    const NAME: &'static str = "podgc";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, Pod>) {
        watches.mapped::<Node>(|node, view| {
            // While it is there nothing is to do.
            if view.get::<Node>("", &node.name_any()).is_some() {
                return Vec::new();
            }
            let mut pods = view.list::<Pod>(None);
            pods.retain(|pod| pods::node(pod) == Some(&*node.name_any()));
            pods.iter().map(|pod| Key::of(pod.as_ref())).collect()
        });
    }

    fn observe(view: &View, pod: &Arc<Pod>) -> World {
        let has_node = pods::node(pod).is_none_or(|name| view.get::<Node>("", name).is_some());
        World { now: view.now(), pod: pod.clone(), has_node }
    }

    fn plan(world: &World) -> Plan {
        let mut plan = Plan::none();
        if world.has_node {
            return plan;
        }
        let pod = world.pod.as_ref();
        let bound = pods::condition(pod, "PodScheduled")
            .and_then(|condition| condition.last_transition_time.as_ref());
        let since = bound.map(|time| time.0).or_else(|| pods::created_at(pod)).unwrap_or(world.now);
        let gone_ms = world.now.as_millisecond().saturating_sub(since.as_millisecond()).max(0).unsigned_abs();
        if let Some(left) = GRACE.checked_sub(Duration::from_millis(gone_ms)).filter(|left| !left.is_zero()) {
            plan.again_in(left);
            return plan;
        }
        if pods::is_terminal(pod) {
            // Its end is written down: those who count it have their chance, then it goes.
            plan.delete_now(pod);
            return plan;
        }
        let mut status = pod.status.clone().unwrap_or_default();
        status.phase = Some("Failed".to_owned());
        let conditions = status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != "DisruptionTarget");
        conditions.push(PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("DeletionByPodGC".to_owned()),
            message: Some("PodGC: node no longer exists".to_owned()),
            last_transition_time: Some(Time(world.now)),
            ..PodCondition::default()
        });
        plan.set_status(&status);
        plan
    }
}
