//! `ReplicationController`: the ReplicaSet's ancestor. Keeps a number of Pods of one template.

use std::collections::BTreeSet;
use std::sync::Arc;

use dodai_kit::plan::controller_of;
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Key, Plan, View, Watches};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ReplicationController, ReplicationControllerStatus};
use kube::ResourceExt;
use kube::core::Selector;

use super::replica_set::{Core, REPLICA_FAILURE, count, nonzero};
use super::selector;

/// The controller of ReplicationControllers.
pub struct ReplicationControllerController;

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The ReplicationController.
    pub controller: Arc<ReplicationController>,
    /// The Pods that it controls, whatever their state.
    pub pods: Vec<Arc<Pod>>,
    /// Pods without controller that it selects.
    pub orphans: Vec<Arc<Pod>>,
    /// Names of all Pods of the namespace.
    pub names: BTreeSet<String>,
}

impl Controller for ReplicationControllerController {
    type Kind = ReplicationController;
    type World = World;
    const NAME: &'static str = "replicationcontroller";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, ReplicationController>) {
        watches.owned::<Pod>();
        watches.mapped::<Pod>(|pod, view| {
            if controller_of(pod).is_some() {
                return Vec::new();
            }
            let mut all = view.list::<ReplicationController>(pod.namespace().as_deref());
            all.retain(|controller| selects(controller, pod));
            all.iter().map(|controller| Key::of(controller.as_ref())).collect()
        });
    }

    fn observe(view: &View, controller: &Arc<ReplicationController>) -> World {
        let uid = controller.uid().unwrap_or_default();
        let all = view.list::<Pod>(controller.namespace().as_deref());
        let ours = |pod: &&Arc<Pod>| is_controlled_by(pod.as_ref(), &uid);
        let orphan = |pod: &&Arc<Pod>| controller_of(pod.as_ref()).is_none() && selects(controller, pod);
        World {
            now: view.now(),
            pods: all.iter().filter(ours).cloned().collect(),
            orphans: all.iter().filter(orphan).cloned().collect(),
            names: all.iter().map(|pod| pod.name_any()).collect(),
            controller: controller.clone(),
        }
    }

    fn plan(world: &World) -> Plan {
        let mut plan = Plan::none();
        let controller = world.controller.as_ref();
        let Some(selector) = selector_of(controller) else { return plan };
        let Some(spec) = &controller.spec else { return plan };
        let core = Core {
            now: world.now,
            owner: controller,
            replicas: spec.replicas.unwrap_or(1),
            min_ready_s: spec.min_ready_seconds.unwrap_or(0),
            selector,
            template: spec.template.as_ref(),
            pods: &world.pods,
            orphans: &world.orphans,
            names: &world.names,
            observed: controller.status.as_ref().and_then(|status| status.observed_generation),
        };
        let counts = core.plan(&mut plan);
        let before = controller.status.as_ref().and_then(|status| status.conditions.clone());
        let mut conditions = before.unwrap_or_default();
        conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
        plan.set_status(&ReplicationControllerStatus {
            replicas: count(counts.active),
            fully_labeled_replicas: nonzero(counts.fully_labelled),
            ready_replicas: nonzero(counts.ready),
            available_replicas: nonzero(counts.available),
            observed_generation: controller.metadata.generation,
            conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
        });
        plan.failure_condition = Some(REPLICA_FAILURE);
        plan
    }
}

fn selector_of(controller: &ReplicationController) -> Option<Selector> {
    selector::of_service(controller.spec.as_ref()?.selector.as_ref())
}

fn selects(controller: &ReplicationController, pod: &Pod) -> bool {
    selector_of(controller).is_some_and(|selector| selector::selects(&selector, pod.labels()))
}
