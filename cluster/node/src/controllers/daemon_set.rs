//! `DaemonSet`: a Pod on every Node that takes it.

mod plan;
mod pod;

use std::collections::BTreeSet;
use std::sync::Arc;

use dodai_kit::plan::controller_of;
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use super::{history, selector};

pub use plan::World;

/// The controller of DaemonSets.
pub struct DaemonSetController;

impl Controller for DaemonSetController {
    type Kind = DaemonSet;
    type World = World;
    const NAME: &'static str = "daemonset";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, DaemonSet>) {
        watches.owned::<Pod>();
        watches.owned::<ControllerRevision>();
        watches.mapped::<Pod>(|pod, view| {
            if controller_of(pod).is_some() {
                return Vec::new();
            }
            let mut sets = view.list::<DaemonSet>(pod.namespace().as_deref());
            sets.retain(|set| selects(set, pod));
            sets.iter().map(|set| Key::of(set.as_ref())).collect()
        });
        watches.mapped::<Node>(|_, view| {
            view.list::<DaemonSet>(None).iter().map(|set| Key::of(set.as_ref())).collect()
        });
    }

    fn observe(view: &View, set: &Arc<DaemonSet>) -> World {
        let uid = set.uid().unwrap_or_default();
        let namespace = set.namespace();
        let all = view.list::<Pod>(namespace.as_deref());
        let of_set = |pod: &&Arc<Pod>| is_controlled_by(pod.as_ref(), &uid);
        let orphan = |pod: &&Arc<Pod>| controller_of(pod.as_ref()).is_none() && selects(set, pod);
        let selector = set.spec.as_ref().and_then(|spec| selector::of_workload(&spec.selector));
        let revisions = view.list::<ControllerRevision>(namespace.as_deref());
        let (revisions, orphaned_revisions, revision_names) =
            history::sort(revisions, &uid, selector.as_ref());
        World {
            now: view.now(),
            pods: all.iter().filter(of_set).cloned().collect(),
            orphans: all.iter().filter(orphan).cloned().collect(),
            names: all.iter().map(|pod| pod.name_any()).collect(),
            nodes: view.list::<Node>(None),
            set: set.clone(),
            revisions,
            orphaned_revisions,
            revision_names,
        }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}

fn selects(set: &DaemonSet, pod: &Pod) -> bool {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| selector::of_workload(&spec.selector))
        .is_some_and(|selector| selector::selects(&selector, pod.labels()))
}

/// Names, for a quick look.
type Names = BTreeSet<String>;
