//! `ReplicaSet`: keeps a number of Pods of one template.

mod core;
mod plan;

use std::sync::Arc;

use dodai_kit::plan::controller_of;
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::planted::{self, Bug};
use super::selector;

pub(crate) use core::Core;
pub use plan::World;
pub(crate) use plan::{BURST_MAX, REPLICA_FAILURE, count, count_nonzero, goes_before, nonzero};

/// The controller of ReplicaSets.
pub struct ReplicaSetController;

impl Controller for ReplicaSetController {
    type Kind = ReplicaSet;
    type World = World;
    const NAME: &'static str = "replicaset";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, ReplicaSet>) {
        watches.owned::<Pod>();
        // A Pod without controller may be adopted by any that selects it.
        watches.mapped::<Pod>(|pod, view| {
            if controller_of(pod).is_some() {
                return Vec::new();
            }
            let mut sets = view.list::<ReplicaSet>(pod.namespace().as_deref());
            sets.retain(|set| selects(set, pod));
            sets.iter().map(|set| Key::of(set.as_ref())).collect()
        });
    }

    fn observe(view: &View, set: &Arc<ReplicaSet>) -> World {
        let uid = set.uid().unwrap_or_default();
        let all = view.list::<Pod>(set.namespace().as_deref());
        let of_set = |pod: &&Arc<Pod>| is_controlled_by(pod.as_ref(), &uid);
        let orphan = |pod: &&Arc<Pod>| {
            controller_of(pod.as_ref()).is_none() && selects(set, pod)
                || planted::is(Bug::ReplicaSetTakesOthers) && !of_set(pod)
        };
        World {
            now: view.now(),
            pods: all.iter().filter(of_set).cloned().collect(),
            orphans: all.iter().filter(orphan).cloned().collect(),
            names: all.iter().map(|pod| pod.name_any()).collect(),
            set: set.clone(),
        }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}

fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    set.spec
        .as_ref()
        .and_then(|spec| selector::of_workload(&spec.selector))
        .is_some_and(|selector| selector::selects(&selector, pod.labels()))
}
