//! Pods whose Job has gone: the finalizer that kept them until they were counted is taken away, so that they can go too.
//!
//! Only from a Pod that is being deleted, and only when the API server says that its Job is gone: a Job that is merely not
//! seen may be ahead of the cache of Jobs, and what its Pod did would be lost.

use std::sync::Arc;

use dodai_kit::plan::controller_of;
use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::job::FINALIZER;
use super::planted::{self, Bug};

/// The controller of Pods that lost their Job.
pub struct OrphanPodController;

/// Everything that `plan` may look at.
pub struct World {
    /// The Pod.
    pub pod: Arc<Pod>,
    /// The Job that controls it, if it is seen.
    pub job: Option<Arc<Job>>,
}

impl Controller for OrphanPodController {
    type Kind = Pod;
    type World = World;
    const NAME: &'static str = "job-orphan-pod";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, Pod>) {
        // A Job that goes frees its Pods.
        watches.mapped::<Job>(|job, view| {
            let mut pods = view.list::<Pod>(job.namespace().as_deref());
            let uid = job.uid();
            pods.retain(|pod| controller_of(pod.as_ref()).map(|owner| &owner.uid) == uid.as_ref());
            pods.iter().map(|pod| Key::of(pod.as_ref())).collect()
        });
    }

    fn observe(view: &View, pod: &Arc<Pod>) -> World {
        let namespace = pod.namespace().unwrap_or_default();
        let owner = controller_of(pod.as_ref()).filter(|owner| owner.kind == "Job");
        let job = owner.and_then(|owner| {
            view.get::<Job>(&namespace, &owner.name)
                .filter(|job| job.metadata.uid.as_ref() == Some(&owner.uid))
        });
        World { pod: pod.clone(), job }
    }

    fn plan(world: &World) -> Plan {
        let mut plan = Plan::none();
        let pod = world.pod.as_ref();
        let is_held = pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        if !is_held || pod.metadata.deletion_timestamp.is_none() || world.job.is_some() {
            return plan;
        }
        let owner = controller_of(pod).filter(|owner| owner.kind == "Job");
        if let Some(owner) = owner.filter(|_| !planted::is(Bug::OrphanPodBelievesItsCache)) {
            plan.confirm_gone::<Job>(pod.namespace(), owner);
        }
        plan.replace(&super::job::untracked(pod));
        plan
    }
}
