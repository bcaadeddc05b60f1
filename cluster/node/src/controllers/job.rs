//! `Job`: runs Pods until enough of them succeeded, and counts each outcome exactly once.
//!
//! Differs from upstream on the safe side: a Pod that is being deleted takes its place until it has really ended, whatever
//! `podReplacementPolicy` says, so that two never run where one was asked for. Adoption of Pods without controller is left
//! out.

mod count;
mod indexes;
mod plan;
mod pod;
mod policy;

use std::sync::Arc;

use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Plan, View, Watches};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

pub use plan::World;
pub use pod::{FINALIZER, untracked};

/// The controller of Jobs.
pub struct JobController;

impl Controller for JobController {
    type Kind = Job;
    type World = World;
    const NAME: &'static str = "job";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, Job>) {
        watches.owned::<Pod>();
    }

    fn observe(view: &View, job: &Arc<Job>) -> World {
        let uid = job.uid().unwrap_or_default();
        let all = view.list::<Pod>(job.namespace().as_deref());
        let prefix = format!("{}-", job.name_any());
        World {
            now: view.now(),
            job: job.clone(),
            names: all.iter().map(|pod| pod.name_any()).filter(|name| name.starts_with(&prefix)).collect(),
            pods: all.iter().filter(|pod| is_controlled_by(pod.as_ref(), &uid)).cloned().collect(),
        }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}

/// Whether the Job has reached its end.
pub fn is_finished(job: &Job) -> bool {
    ["Complete", "Failed"].iter().any(|type_| has_condition(job, type_))
}

pub(crate) fn has_condition(job: &Job, type_: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}
