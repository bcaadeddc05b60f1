//! Decides for a CronJob: whether a Job is due, what to do with one that still runs, and which old ones go.

use std::sync::Arc;
use std::time::Duration;

use dodai_kit::plan::controller_reference;
use dodai_kit::{Owned, Plan};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;

use super::schedule::Schedule;
use crate::controllers::job;
use crate::controllers::planted::{self, Bug};

/// Annotation of a Job: the time that it was made for, in the CronJob's time zone.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Jobs that are kept, if the spec does not say.
const SUCCEEDED_KEPT: i32 = 3;
const FAILED_KEPT: i32 = 1;
/// Widths of the time before now in which the latest time due is looked for, in seconds: for schedules from every
/// minute to once in leap years, so that few times are gone through after a long absence.
const WINDOWS_S: [i64; 5] = [2 * 3600, 3 * 86_400, 63 * 86_400, 366 * 86_400, 9 * 366 * 86_400];
/// Times gone through in one window.
const TIMES_MAX: usize = 10_000;

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The CronJob.
    pub cron: Arc<CronJob>,
    /// The Jobs that it controls.
    pub jobs: Vec<Arc<Job>>,
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    let cron = world.cron.as_ref();
    let spec = &cron.spec;
    let mut status = counted(world);
    if cron.metadata.deletion_timestamp.is_none() {
        run(&mut plan, world, spec, &mut status);
        // After the confirmation of what was seen, which this changes.
        clean_up(&mut plan, world, spec);
    }
    plan.set_status(&status);
    plan
}

fn is_failed(job: &Job) -> bool {
    job::has_condition(job, "Failed")
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        namespace: job.namespace(),
        name: Some(job.name_any()),
        uid: job.uid(),
        resource_version: job.resource_version(),
        ..ObjectReference::default()
    }
}

fn counted(world: &World) -> CronJobStatus {
    let mut status = world.cron.status.clone().unwrap_or_default();
    let known = status.active.take().unwrap_or_default();
    let running = world.jobs.iter().filter(|job| !job::is_finished(job));
    let active: Vec<ObjectReference> = running
        .map(|job| {
            // A reference keeps the version that it was first written with.
            let known = known.iter().find(|known| known.uid == job.metadata.uid);
            known.cloned().unwrap_or_else(|| reference(job))
        })
        .collect();
    status.active = Some(active).filter(|active| !active.is_empty());
    let ended = world.jobs.iter().filter(|job| job::has_condition(job, "Complete"));
    let ended = ended.filter_map(|job| job.status.as_ref()?.completion_time.clone());
    let last = ended.chain(status.last_successful_time.take()).max_by_key(|time| time.0);
    status.last_successful_time = last;
    status
}

/// Deletes finished Jobs beyond those that are kept, oldest first.
fn clean_up(plan: &mut Plan, world: &World, spec: &CronJobSpec) {
    let kept = [
        (false, spec.successful_jobs_history_limit.unwrap_or(SUCCEEDED_KEPT)),
        (true, spec.failed_jobs_history_limit.unwrap_or(FAILED_KEPT)),
    ];
    for (failed, kept) in kept {
        let mut finished: Vec<&Arc<Job>> = world
            .jobs
            .iter()
            .filter(|job| job::is_finished(job) && is_failed(job) == failed)
            .filter(|job| job.metadata.deletion_timestamp.is_none())
            .collect();
        let began =
            |job: &Job| job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        finished.sort_by_key(|job| (began(job), job.name_any()));
        let excess = finished.len().saturating_sub(usize::try_from(kept).unwrap_or(0));
        for job in &finished[..excess] {
            plan.delete(job.as_ref());
        }
    }
}

fn run(plan: &mut Plan, world: &World, spec: &CronJobSpec, status: &mut CronJobStatus) {
    if spec.suspend == Some(true) {
        return;
    }
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(error) => {
                return tracing::warn!(cron_job = %world.cron.name_any(), %error, "unknown time zone");
            }
        },
    };
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => return tracing::warn!(cron_job = %world.cron.name_any(), %error, "unreadable schedule"),
    };
    let Some(due) = latest_due(world, spec, &schedule, &zone) else {
        return wait(plan, world, &schedule, &zone);
    };
    let name = format!("{}-{}", world.cron.name_any(), due.as_second().div_euclid(60));
    let made = status.last_schedule_time.as_ref().is_some_and(|last| last.0 >= due);
    if made || world.jobs.iter().any(|job| job.name_any() == name) {
        if !made {
            // It was made by a pass that did not live to write this down.
            status.last_schedule_time = Some(Time(due));
        }
        return wait(plan, world, &schedule, &zone);
    }
    let running: Vec<&Arc<Job>> = world.jobs.iter().filter(|job| !job::is_finished(job)).collect();
    let policy = spec.concurrency_policy.as_deref().unwrap_or("Allow");
    if policy == "Forbid" && !running.is_empty() {
        // Its end wakes this up; until then the time stays due, within its deadline.
        return wait(plan, world, &schedule, &zone);
    }
    if policy != "Allow" && !planted::is(Bug::CronJobForgetsWhatRuns) {
        let jobs = world.jobs.iter().map(Arc::as_ref);
        plan.confirm_owned(Owned::of::<Job>(world.cron.as_ref(), None).unchanged(jobs));
    }
    plan.confirm(world.cron.as_ref());
    if policy == "Replace" {
        for job in running {
            plan.delete(job.as_ref());
        }
    }
    plan.create(&new(world, spec, name, due, &zone));
    status.last_schedule_time = Some(Time(due));
    wait(plan, world, &schedule, &zone);
}

/// Looks again when the next time has come.
fn wait(plan: &mut Plan, world: &World, schedule: &Schedule, zone: &TimeZone) {
    // `@every` counts from the last time, the fields from the clock.
    let from = match schedule {
        Schedule::Every(_) => anchor(world).max(latest_tick(world, schedule, zone)),
        Schedule::Fields(_) => world.now,
    };
    if let Some(next) = schedule.next(from, zone) {
        let left_ms = next.as_millisecond().saturating_sub(world.now.as_millisecond()).max(1);
        plan.again_in(Duration::from_millis(left_ms.unsigned_abs()));
    }
}

/// The last time for which a Job was made, or the CronJob itself.
fn anchor(world: &World) -> Timestamp {
    let status = world.cron.status.as_ref();
    let last = status.and_then(|status| status.last_schedule_time.as_ref()).map(|time| time.0);
    let created = world.cron.metadata.creation_timestamp.as_ref().map(|time| time.0);
    last.or(created).unwrap_or(world.now)
}

fn latest_tick(world: &World, schedule: &Schedule, zone: &TimeZone) -> Timestamp {
    latest(schedule, zone, anchor(world), world.now).unwrap_or_else(|| anchor(world))
}

/// The latest time that has come, for which no Job was made, and whose deadline is not over.
fn latest_due(world: &World, spec: &CronJobSpec, schedule: &Schedule, zone: &TimeZone) -> Option<Timestamp> {
    let mut after = anchor(world);
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if let Some(deadline) = deadline
        && let Ok(earliest) = world.now.checked_sub(deadline)
    {
        after = match schedule {
            Schedule::Fields(_) => after.max(earliest),
            Schedule::Every(_) => after,
        };
    }
    let due = latest(schedule, zone, after, world.now)?;
    let is_too_late = deadline.is_some_and(|deadline| world.now.duration_since(due) > deadline);
    (!is_too_late).then_some(due)
}

/// The latest time of the schedule after `after` and not after `now`.
fn latest(schedule: &Schedule, zone: &TimeZone, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
    if let Schedule::Every(seconds) = schedule {
        let passed = now.as_second().saturating_sub(after.as_second()) / seconds;
        return (passed > 0).then(|| after.checked_add(SignedDuration::from_secs(passed * seconds)).ok())?;
    }
    for window_s in WINDOWS_S {
        let from = now.checked_sub(SignedDuration::from_secs(window_s)).unwrap_or(after).max(after);
        let times = std::iter::successors(schedule.next(from, zone), |time| schedule.next(*time, zone));
        let found = times.take_while(|time| *time <= now).take(TIMES_MAX).last();
        if found.is_some() || from == after {
            return found;
        }
    }
    None
}

fn new(world: &World, spec: &CronJobSpec, name: String, due: Timestamp, zone: &TimeZone) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let shown = due.to_zoned(zone.clone());
    let offset = if shown.offset().seconds() == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    annotations.insert(SCHEDULED.to_owned(), shown.strftime(offset).to_string());
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: world.cron.namespace(),
            labels: template.labels,
            annotations: Some(annotations),
            finalizers: template.finalizers,
            owner_references: Some(vec![controller_reference(world.cron.as_ref())]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}
