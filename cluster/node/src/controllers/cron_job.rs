//! `CronJob`: makes Jobs at given times.
//!
//! Without `timeZone` the times are those of UTC, as in most clusters, whatever zone this machine is in. A time whose Job
//! could not be made in time is made up for once, the latest only, within `startingDeadlineSeconds`.

mod plan;
mod schedule;

use std::sync::Arc;

use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Plan, View, Watches};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt;

pub use plan::World;

/// The controller of CronJobs.
pub struct CronJobController;

impl Controller for CronJobController {
    type Kind = CronJob;
    type World = World;
    const NAME: &'static str = "cronjob";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, CronJob>) {
        watches.owned::<Job>();
    }

    fn observe(view: &View, cron: &Arc<CronJob>) -> World {
        let uid = cron.uid().unwrap_or_default();
        let all = view.list::<Job>(cron.namespace().as_deref());
        World {
            now: view.now(),
            cron: cron.clone(),
            jobs: all.iter().filter(|job| is_controlled_by(job.as_ref(), &uid)).cloned().collect(),
        }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}
