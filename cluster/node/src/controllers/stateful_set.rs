//! `StatefulSet`: Pods with names, volumes and an order of their own.
//!
//! `maxUnavailable` of the strategy is left out, as upstream leaves it out without its feature gate.

mod claims;
mod plan;
mod pod;

use std::collections::BTreeSet;
use std::sync::Arc;

use dodai_kit::plan::controller_of;
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;

use super::{history, selector};

pub use plan::World;

/// The controller of StatefulSets.
pub struct StatefulSetController;

impl Controller for StatefulSetController {
    type Kind = StatefulSet;
    type World = World;
    const NAME: &'static str = "statefulset";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, StatefulSet>) {
        watches.owned::<Pod>();
        watches.owned::<ControllerRevision>();
        watches.mapped::<Pod>(|pod, view| {
            if controller_of(pod).is_some() {
                return Vec::new();
            }
            let mut sets = view.list::<StatefulSet>(pod.namespace().as_deref());
            sets.retain(|set| selects(set, pod));
            sets.iter().map(|set| Key::of(set.as_ref())).collect()
        });
        // A claim that goes, or comes, lets its Pod be made.
        watches.mapped::<PersistentVolumeClaim>(|claim, view| {
            let mut sets = view.list::<StatefulSet>(claim.namespace().as_deref());
            sets.retain(|set| claims::is_of(set, claim));
            sets.iter().map(|set| Key::of(set.as_ref())).collect()
        });
    }

    fn observe(view: &View, set: &Arc<StatefulSet>) -> World {
        let uid = set.uid().unwrap_or_default();
        let namespace = set.namespace();
        let all = view.list::<Pod>(namespace.as_deref());
        let of_set = |pod: &&Arc<Pod>| is_controlled_by(pod.as_ref(), &uid);
        let orphan = |pod: &&Arc<Pod>| {
            controller_of(pod.as_ref()).is_none() && selects(set, pod) && pod::ordinal(set, pod).is_some()
        };
        let mut claims = view.list::<PersistentVolumeClaim>(namespace.as_deref());
        claims.retain(|claim| claims::is_of(set, claim));
        let selector = set.spec.as_ref().and_then(|spec| selector::of_workload(&spec.selector));
        let revisions = view.list::<ControllerRevision>(namespace.as_deref());
        let (revisions, orphaned_revisions, revision_names) =
            history::sort(revisions, &uid, selector.as_ref());
        World {
            now: view.now(),
            pods: all.iter().filter(of_set).cloned().collect(),
            orphans: all.iter().filter(orphan).cloned().collect(),
            names: all.iter().map(|pod| pod.name_any()).collect(),
            set: set.clone(),
            revisions,
            orphaned_revisions,
            revision_names,
            claims,
        }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}

fn selects(set: &StatefulSet, pod: &Pod) -> bool {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| selector::of_workload(&spec.selector))
        .is_some_and(|selector| selector::selects(&selector, pod.labels()))
}

/// Names, for a quick look.
type Names = BTreeSet<String>;
