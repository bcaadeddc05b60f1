//! The scheduler: binds Pods to the Node, or says why they cannot be.
//!
//! First fit, oldest Pod first: what a Pod would take that is older and waits too is set aside before the younger one is
//! looked at, so that all decisions on one state of the world agree. Left out: preemption, affinity between Pods,
//! topology spread, profiles; Pods of another `schedulerName` are somebody else's.

mod fit;
mod plan;
mod quantity;

use std::sync::Arc;

use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::ResourceExt;

use super::pods;

pub(crate) use fit::{Place, place};
pub use plan::World;

/// The controller that binds Pods.
pub struct SchedulerController;

impl Controller for SchedulerController {
    type Kind = Pod;
    type World = World;
    const NAME: &'static str = "scheduler";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, Pod>) {
        watches.mapped::<Node>(|_, view| waiting(view, None));
        watches.mapped::<PersistentVolumeClaim>(|claim, view| waiting(view, claim.namespace().as_deref()));
        // What one gives back another may take.
        watches.mapped::<Pod>(
            |pod, view| {
                if pods::is_active(pod) { Vec::new() } else { waiting(view, None) }
            },
        );
    }

    fn observe(view: &View, pod: &Arc<Pod>) -> World {
        let mut world = World {
            now: view.now(),
            pod: pod.clone(),
            nodes: Vec::new(),
            others: Vec::new(),
            claims: Vec::new(),
        };
        if plan::is_waiting(pod) {
            world.nodes = view.list::<Node>(None);
            world.others = view.list::<Pod>(None);
            world.others.retain(|other| other.metadata.uid != pod.metadata.uid && !pods::is_terminal(other));
            world.claims = view.list::<PersistentVolumeClaim>(pod.namespace().as_deref());
        }
        world
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}

fn waiting(view: &View, namespace: Option<&str>) -> Vec<Key> {
    let pods = view.list::<Pod>(namespace);
    pods.iter().filter(|pod| plan::is_waiting(pod)).map(|pod| Key::of(pod.as_ref())).collect()
}
