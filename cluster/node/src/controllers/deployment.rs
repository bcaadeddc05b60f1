//! `Deployment`: rolls a template out through ReplicaSets, one for each template.

mod plan;
mod replica_sets;
mod rolling;
mod status;
mod template;

use std::sync::Arc;

use dodai_kit::plan::controller_of;
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::selector;

pub use plan::World;
pub(crate) use template::scaled;

/// The controller of Deployments.
pub struct DeploymentController;

impl Controller for DeploymentController {
    type Kind = Deployment;
    type World = World;
    const NAME: &'static str = "deployment";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, Deployment>) {
        watches.owned::<ReplicaSet>();
        watches.mapped::<ReplicaSet>(|set, view| {
            if controller_of(set).is_some() {
                return Vec::new();
            }
            let mut all = view.list::<Deployment>(set.namespace().as_deref());
            all.retain(|deployment| selects(deployment, set));
            all.iter().map(|deployment| Key::of(deployment.as_ref())).collect()
        });
        // With `Recreate`, the last old Pod that goes lets the new ones begin.
        watches.mapped::<Pod>(|pod, view| {
            let namespace = pod.namespace().unwrap_or_default();
            let set = controller_of(pod).filter(|owner| owner.kind == "ReplicaSet");
            let set = set.and_then(|owner| view.get::<ReplicaSet>(&namespace, &owner.name));
            let owner = set.as_deref().and_then(controller_of).map(|owner| owner.name.clone());
            let deployment = owner.and_then(|name| view.get::<Deployment>(&namespace, &name));
            let recreates = deployment.filter(|deployment| !template::is_rolling(deployment));
            recreates.iter().map(|deployment| Key::of(deployment.as_ref())).collect()
        });
    }

    fn observe(view: &View, deployment: &Arc<Deployment>) -> World {
        let uid = deployment.uid().unwrap_or_default();
        let namespace = deployment.namespace();
        let mut sets = view.list::<ReplicaSet>(namespace.as_deref());
        sets.retain(|set| is_controlled_by(set.as_ref(), &uid) || controller_of(set.as_ref()).is_none());
        let (mut sets, mut orphans): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|set| is_controlled_by(set.as_ref(), &uid));
        orphans.retain(|set| selects(deployment, set));
        sets.sort_by_key(|set| (set.metadata.creation_timestamp.clone(), set.name_any()));
        let mut pods = view.list::<Pod>(namespace.as_deref());
        pods.retain(|pod| {
            let owner = controller_of(pod.as_ref()).map(|owner| owner.uid.as_str());
            sets.iter().any(|set| set.metadata.uid.as_deref() == owner && owner.is_some())
        });
        let names = view.list::<ReplicaSet>(namespace.as_deref()).iter().map(|set| set.name_any()).collect();
        World { now: view.now(), deployment: deployment.clone(), sets, orphans, names, pods }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}

fn selects(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let spec = deployment.spec.as_ref();
    spec.and_then(|spec| selector::of_workload(&spec.selector))
        .is_some_and(|selector| selector::selects(&selector, set.labels()))
}
