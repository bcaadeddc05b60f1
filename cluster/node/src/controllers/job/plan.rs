//! Decides for a Job: whether it has reached its end, which Pods to make or delete, and what to write down first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dodai_kit::{Owned, Plan};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::count::{Counts, count};
use super::policy::{self, Verdict};
use super::{has_condition, indexes, is_finished, pod};

use crate::controllers::planted::{self, Bug};
use crate::controllers::replica_set::{self, count_nonzero, goes_before};
use crate::controllers::{pods, selector};

/// Wait after the first failure; doubles with each further one since the last success.
pub(super) const BACKOFF_MIN: Duration = Duration::from_secs(10);
/// Longest wait after a failure.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// Pods that are made or deleted in one pass.
pub(super) const BURST_MAX: usize = 500;
/// When to look whether what was made is there: its name may be somebody else's.
const RECHECK: Duration = Duration::from_secs(10);
/// `spec.managedBy` of a Job that is ours.
const MANAGED_BY: &str = "kubernetes.io/job-controller";

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The Job.
    pub job: Arc<Job>,
    /// The Pods that it controls, whatever their state.
    pub pods: Vec<Arc<Pod>>,
    /// Names of Pods of the namespace that begin like the Job's.
    pub names: BTreeSet<String>,
}

/// Where the Job stands.
enum Course {
    Running,
    Succeeding(String, String),
    Failing(String, String),
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    let job = world.job.as_ref();
    let Some(spec) = &job.spec else { return plan };
    if spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGED_BY) {
        return plan;
    }
    if is_finished(job) {
        after_the_end(&mut plan, world, spec);
        return plan;
    }
    let completions = spec.completions.filter(|_| is_indexed(spec));
    let counts = count(job, &world.pods, completions);
    let mut status = counted(job, &counts, completions.is_some());
    if spec.backoff_limit_per_index.is_some() {
        status.failed_indexes = Some(indexes::to_text(&counts.failed_indexes));
    }
    mark_suspended(&mut status, spec, world.now);
    confirm_numbers(&mut plan, world, spec, &counts);
    let course = course(world, spec, &counts, &status, &mut plan);
    for pod in &counts.noted {
        plan.confirm(pod.as_ref());
    }
    let is_deleted = job.metadata.deletion_timestamp.is_some();
    match &course {
        Course::Running if is_deleted => {}
        Course::Running => run(&mut plan, world, spec, &counts),
        Course::Succeeding(reason, message) => {
            set_condition(&mut status, "SuccessCriteriaMet", "True", reason, message, world.now);
            stop(&mut plan, &counts.active);
            if is_settled(&counts) {
                set_condition(&mut status, "Complete", "True", reason, message, world.now);
                // The clock may have been set back, and a Job does not end before it began.
                let started = status.start_time.as_ref().map_or(world.now, |start| start.0);
                status.completion_time = Some(Time(world.now.max(started)));
            }
        }
        Course::Failing(reason, message) => {
            set_condition(&mut status, "FailureTarget", "True", reason, message, world.now);
            if planted::is(Bug::JobGoesOnAfterItsEnd) {
                run(&mut plan, world, spec, &counts);
            }
            stop(&mut plan, &counts.active);
            if is_settled(&counts) {
                set_condition(&mut status, "Failed", "True", reason, message, world.now);
            }
        }
    }
    if planted::is(Bug::JobLetsGoUncounted) {
        counts.noted.iter().for_each(|pod| plan.replace(&pod::untracked(pod)));
    }
    // First the word, then the deed: a Pod is let go of only when what it did stands in the status.
    if job.status.as_ref() == Some(&status) && !planted::is(Bug::JobHoldsItsPods) {
        let is_running = matches!(course, Course::Running);
        let free = counts.done.iter().filter(|pod| !is_running || !is_remembered(world, spec, &counts, pod));
        let free: Vec<&Arc<Pod>> = free.collect();
        if free.iter().any(|pod| !is_noted(&status, pod)) {
            // It leaves no trace in the status; a newer one may still tell of it as running, and then miss it.
            plan.confirm(job);
        }
        free.into_iter().for_each(|pod| plan.replace(&pod::untracked(pod)));
    }
    plan.set_status(&status);
    plan
}

fn is_noted(status: &JobStatus, pod: &Pod) -> bool {
    let noted = status.uncounted_terminated_pods.iter();
    let mut uids = noted.flat_map(|noted| noted.succeeded.iter().chain(&noted.failed)).flatten();
    uids.any(|uid| pod.metadata.uid.as_ref() == Some(uid))
}

/// A Pod that the status tells of and nobody sees has failed: so neither number may come from a cache that is behind.
fn confirm_numbers(plan: &mut Plan, world: &World, spec: &JobSpec, counts: &Counts) {
    if planted::is(Bug::JobBelievesItsCache) || planted::is(Bug::JobMakesUnconfirmed) {
        return;
    }
    if counts.vanished > 0 {
        // Another instance may have made them since, or counted them.
        plan.confirm_with(world.job.as_ref(), with_pods(world, spec, false));
    } else if counts.appeared {
        // One that is seen to run may have been counted long ago; written down as running, it would be missed later.
        plan.confirm_owned(with_pods(world, spec, true));
    } else if counts.forgotten {
        // One that is not seen yet is still there, with its finalizer, to be counted once more.
        plan.confirm_owned(with_pods(world, spec, false));
    }
}

/// Whether a failed Pod is all that tells how often its index failed: it stays until its successor tells it.
fn is_remembered(world: &World, spec: &JobSpec, counts: &Counts, failed: &Pod) -> bool {
    // A Job that is being deleted makes no successor.
    let is_deleted = world.job.metadata.deletion_timestamp.is_some();
    if spec.backoff_limit_per_index.is_none() || !pod::has_failed(failed) || is_suspended(spec) || is_deleted
    {
        return false;
    }
    let Some(index) = pod::index(failed) else { return false };
    let is_over = counts.completed.contains(&index) || counts.failed_indexes.contains(&index);
    !is_over && newest(world, index).is_some_and(|newest| newest.metadata.uid == failed.metadata.uid)
}

/// The newest Pod of an index.
fn newest(world: &World, index: i32) -> Option<&Arc<Pod>> {
    let base = pod::base_name(&world.job, Some(index));
    let of_index = world.pods.iter().filter(|pod| pod::index(pod) == Some(index));
    of_index.max_by_key(|pod| pod::attempt(&base, pod))
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn is_suspended(spec: &JobSpec) -> bool {
    spec.suspend == Some(true)
}

/// Nothing is left that could still change a count.
fn is_settled(counts: &Counts) -> bool {
    counts.uncounted_failed.is_empty()
        && counts.uncounted_succeeded.is_empty()
        && counts.noted.is_empty()
        && counts.done.is_empty()
        && counts.active.is_empty()
        && counts.terminating.is_empty()
}

/// A finished Job: its Pods are let go of, what still runs is ended, and the Job goes when its time is over.
fn after_the_end(plan: &mut Plan, world: &World, spec: &JobSpec) {
    for pod in &world.pods {
        if pods::is_active(pod) {
            plan.delete(pod.as_ref());
        }
        if pod::is_tracked(pod) {
            plan.replace(&pod::untracked(pod));
        }
    }
    let Some(ttl_s) = spec.ttl_seconds_after_finished else { return };
    let conditions = world.job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let finished = conditions
        .filter(|condition| {
            matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
        })
        .find_map(|condition| condition.last_transition_time.as_ref());
    let Some(finished) = finished.filter(|_| world.job.metadata.deletion_timestamp.is_none()) else { return };
    match until(finished.0, i64::from(ttl_s), world.now) {
        Some(left) => plan.again_in(left),
        None => {
            plan.confirm(world.job.as_ref());
            plan.delete(world.job.as_ref());
        }
    }
}

/// Time until `seconds` after `since`; `None` when that is over.
fn until(since: Timestamp, seconds: i64, now: Timestamp) -> Option<Duration> {
    let end_ms = since.as_millisecond().saturating_add(seconds.saturating_mul(1000));
    let left_ms = end_ms.saturating_sub(now.as_millisecond());
    (left_ms > 0).then(|| Duration::from_millis(left_ms.unsigned_abs()))
}

fn counted(job: &Job, counts: &Counts, indexed: bool) -> JobStatus {
    let mut status = job.status.clone().unwrap_or_default();
    let list = |uids: &Vec<String>| Some(uids.clone()).filter(|uids| !uids.is_empty());
    let uncounted = UncountedTerminatedPods {
        succeeded: list(&counts.uncounted_succeeded),
        failed: list(&counts.uncounted_failed),
    };
    if status.uncounted_terminated_pods.clone().unwrap_or_default() != uncounted {
        status.uncounted_terminated_pods = Some(uncounted);
    }
    status.active = count_nonzero(replica_set::count(counts.active.len()));
    status.ready = Some(replica_set::count(counts.active.iter().filter(|pod| pods::is_ready(pod)).count()));
    status.terminating = Some(replica_set::count(counts.terminating.len()));
    status.succeeded = count_nonzero(counts.succeeded);
    status.failed = count_nonzero(counts.failed);
    if indexed {
        status.completed_indexes = Some(indexes::to_text(&counts.completed)).filter(|text| !text.is_empty());
    }
    status
}

/// Puts a condition in place; one that says the same keeps its times.
fn set_condition(
    status: &mut JobStatus,
    type_: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    if conditions
        .iter()
        .any(|old| old.type_ == type_ && old.status == value && old.reason.as_deref() == Some(reason))
    {
        return;
    }
    let new = JobCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|old| old.type_ == type_) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// The time of a Job runs while it is not suspended, and begins anew when it is resumed.
fn mark_suspended(status: &mut JobStatus, spec: &JobSpec, now: Timestamp) {
    let was_suspended = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Suspended" && condition.status == "True");
    if is_suspended(spec) {
        set_condition(status, "Suspended", "True", "JobSuspended", "Job suspended", now);
        status.start_time = None;
        return;
    }
    if was_suspended {
        set_condition(status, "Suspended", "False", "JobResumed", "Job resumed", now);
    }
    if status.start_time.is_none() {
        status.start_time = Some(Time(now));
    }
}

fn course(world: &World, spec: &JobSpec, counts: &Counts, status: &JobStatus, plan: &mut Plan) -> Course {
    let told = |type_: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if has_condition(&world.job, "FailureTarget")
        && let Some(target) = told("FailureTarget")
    {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        return Course::Failing(text(&target.reason), text(&target.message));
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    if has_condition(&world.job, "SuccessCriteriaMet")
        && let Some(met) = told("SuccessCriteriaMet")
    {
        return Course::Succeeding(text(&met.reason), text(&met.message));
    }
    if let Some(message) = &counts.fatal {
        return Course::Failing("PodFailurePolicy".to_owned(), message.clone());
    }
    if let Some(rule) = policy::succeeded_by(spec, &counts.completed) {
        return Course::Succeeding("SuccessPolicy".to_owned(), format!("Matched rules at index {rule}"));
    }
    let failed_indexes = replica_set::count(counts.failed_indexes.len());
    if spec.max_failed_indexes.is_some_and(|max| failed_indexes > max) {
        let message = "Job has exceeded the specified maximal number of failed indexes".to_owned();
        return Course::Failing("MaxFailedIndexesExceeded".to_owned(), message);
    }
    if exceeds_backoff_limit(spec, counts) {
        let message = "Job has reached the specified backoff limit".to_owned();
        return Course::Failing("BackoffLimitExceeded".to_owned(), message);
    }
    if let (Some(deadline_s), Some(start)) = (spec.active_deadline_seconds, &status.start_time) {
        match until(start.0, deadline_s, world.now) {
            Some(left) => plan.again_in(left),
            None => {
                let message = "Job was active longer than specified deadline".to_owned();
                return Course::Failing("DeadlineExceeded".to_owned(), message);
            }
        }
    }
    let is_idle = counts.active.is_empty() && counts.terminating.is_empty();
    let enough = match spec.completions {
        Some(completions) => counts.all_succeeded() >= completions,
        None => counts.all_succeeded() > 0,
    };
    if enough && is_idle {
        let message = "Reached expected number of succeeded pods".to_owned();
        return Course::Succeeding("CompletionsReached".to_owned(), message);
    }
    let completions = spec.completions.unwrap_or(i32::MAX);
    if failed_indexes > 0 && is_idle && counts.all_succeeded().saturating_add(failed_indexes) >= completions {
        return Course::Failing("FailedIndexes".to_owned(), "Job has failed indexes".to_owned());
    }
    Course::Running
}

fn exceeds_backoff_limit(spec: &JobSpec, counts: &Counts) -> bool {
    let limit = spec.backoff_limit.unwrap_or(6);
    if planted::is(Bug::JobForgetsBackoffLimit) {
        return false;
    }
    if counts.all_failed() > limit {
        return true;
    }
    let restart = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if restart != Some("OnFailure") {
        return false;
    }
    // The containers are started again in the same Pod: each start counts as a try.
    let restarts = counts.active.iter().map(|pod| pods::restarts(pod)).fold(0, i32::saturating_add);
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// Ends Pods whose Job is over: what they did until then still counts.
fn stop(plan: &mut Plan, active: &[Arc<Pod>]) {
    for pod in active {
        plan.delete(pod.as_ref());
    }
}

/// Brings the number of Pods to what is wanted now.
fn run(plan: &mut Plan, world: &World, spec: &JobSpec, counts: &Counts) {
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let wanted = match spec.completions {
        _ if is_suspended(spec) && !planted::is(Bug::JobForgetsSuspension) => 0,
        Some(completions) => {
            let over = counts.all_succeeded().saturating_add(replica_set::count(counts.failed_indexes.len()));
            completions.saturating_sub(over).clamp(0, parallelism)
        }
        None if counts.all_succeeded() > 0 => 0.max(replica_set::count(counts.active.len()).min(parallelism)),
        None => parallelism,
    };
    let wanted = usize::try_from(wanted).unwrap_or(0);
    let marked: Vec<&Arc<Pod>> = counts.active.iter().filter(|pod| pod::is_unwanted(pod)).collect();
    if !marked.is_empty() || counts.active.len() > wanted {
        remove(plan, world, spec, counts, &marked, wanted);
        return;
    }
    // Pods that are not wanted leave no count behind, so that their names come back: only when they have gone.
    // With a limit for each index such a Pod is kept until its successor is there, which has the next name.
    let leaves = spec.backoff_limit_per_index.is_none()
        && world.pods.iter().any(|pod| pod::is_unwanted(pod) && !pod::has_succeeded(pod));
    let missing = wanted.saturating_sub(counts.active.len() + counts.terminating.len()).min(BURST_MAX);
    if missing == 0 || leaves || !counts.noted.is_empty() {
        return;
    }
    if spec.backoff_limit_per_index.is_none()
        && let Some(wait) = backoff(world, spec, counts)
    {
        plan.again_in(wait);
        return;
    }
    let new = match spec.completions.filter(|_| is_indexed(spec)) {
        Some(completions) => indexed_pods(plan, world, spec, counts, completions, missing),
        None => numbered_pods(world, counts, missing),
    };
    if !new.is_empty() && !planted::is(Bug::JobMakesUnconfirmed) {
        if !counts.appeared && !counts.forgotten {
            plan.confirm_owned(with_pods(world, spec, false));
        }
        plan.confirm(world.job.as_ref());
        plan.again_in(RECHECK);
    }
    for pod in new {
        plan.create(&pod);
    }
}

/// The Job has the Pods that were seen, and no others.
fn with_pods(world: &World, spec: &JobSpec, unchanged: bool) -> Owned {
    let selector = spec.selector.as_ref().and_then(selector::of_workload);
    let pods = world.pods.iter().map(Arc::as_ref);
    let owned = Owned::of::<Pod>(world.job.as_ref(), selector.as_ref());
    if unchanged { owned.unchanged(pods) } else { owned.seen(pods) }
}

/// Deletes Pods beyond what is wanted; marks them first, so that their end counts as nobody's failure.
fn remove(
    plan: &mut Plan,
    world: &World,
    spec: &JobSpec,
    counts: &Counts,
    marked: &[&Arc<Pod>],
    wanted: usize,
) {
    plan.confirm_with(world.job.as_ref(), with_pods(world, spec, true));
    for pod in marked {
        plan.delete(pod.as_ref());
    }
    let mut rest: Vec<&Arc<Pod>> = counts.active.iter().filter(|pod| !pod::is_unwanted(pod)).collect();
    let excess = rest.len().saturating_sub(wanted.saturating_sub(marked.len())).min(BURST_MAX);
    let excess = if marked.is_empty() { excess } else { excess.min(rest.len().saturating_sub(wanted)) };
    let useless =
        |pod: &Pod| is_indexed(spec) && pod::index(pod).is_none_or(|i| counts.completed.contains(&i));
    rest.sort_by(|a, b| useless(b).cmp(&useless(a)).then_with(|| goes_before(a, b, world.now)));
    for pod in &rest[..excess] {
        plan.replace(&pod::unwanted(pod));
        plan.delete(pod.as_ref());
    }
}

/// How long to wait after failures since the last success; `None` if no time is left to wait.
fn backoff(world: &World, spec: &JobSpec, counts: &Counts) -> Option<Duration> {
    let ended = |of: fn(&Pod) -> bool| {
        let counts = |pod: &Pod| !pod::is_unwanted(pod) && policy::judge(spec, pod) != Verdict::Ignore;
        let pods = world.pods.iter().filter(move |pod| of(pod) && counts(pod));
        pods.filter_map(|pod| pods::finished_at(pod)).collect::<Vec<_>>()
    };
    let (failed, succeeded) = (ended(pod::has_failed), ended(pod::has_succeeded));
    let last_success = succeeded.into_iter().max();
    let last_failure = failed.iter().copied().max()?;
    let since_success = failed.iter().filter(|at| last_success.is_none_or(|success| **at > success)).count();
    // Pods that somebody deleted are not there to be seen, but were counted.
    let failures = if counts.all_succeeded() == 0 {
        since_success.max(usize::try_from(counts.all_failed()).unwrap_or(0))
    } else {
        since_success
    };
    wait_after(last_failure, failures, world.now)
}

/// What is left of the wait after so many failures, the last of them then.
fn wait_after(last: Timestamp, failures: usize, now: Timestamp) -> Option<Duration> {
    let doublings = u32::try_from(failures.checked_sub(1)?).unwrap_or(u32::MAX);
    let wait = BACKOFF_MIN.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(BACKOFF_MAX);
    until(last, i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), now)
}

/// Pods `<job>-<attempt>`: the attempt is one more than all Pods that ever were, so that whoever does not see the newest
/// ones yet picks their very names again.
fn numbered_pods(world: &World, counts: &Counts, missing: usize) -> Vec<Pod> {
    let ended = counts.all_succeeded().saturating_add(counts.all_failed());
    let made = u64::try_from(ended).unwrap_or(0) + (counts.active.len() + counts.terminating.len()) as u64;
    let base = pod::base_name(&world.job, None);
    let free = (made + 1..).filter(|attempt| !world.names.contains(&format!("{base}-{attempt}")));
    free.take(missing).filter_map(|attempt| pod::new(&world.job, None, attempt)).collect()
}

/// Pods `<job>-<index>-<attempt>` for the lowest indexes that nobody works on.
fn indexed_pods(
    plan: &mut Plan,
    world: &World,
    spec: &JobSpec,
    counts: &Counts,
    completions: i32,
    missing: usize,
) -> Vec<Pod> {
    let mut busy: BTreeSet<i32> =
        counts.active.iter().chain(&counts.terminating).filter_map(|pod| pod::index(pod)).collect();
    if planted::is(Bug::JobForgetsBusyIndexes) {
        busy.clear();
    }
    let is_over = |index: &i32| counts.completed.contains(index) || counts.failed_indexes.contains(index);
    let mut made = Vec::new();
    for index in (0..completions).filter(|index| !is_over(index) && !busy.contains(index)) {
        if made.len() == missing {
            break;
        }
        let base = pod::base_name(&world.job, Some(index));
        let newest = newest(world, index);
        let latest = newest.and_then(|newest| pod::attempt(&base, newest)).unwrap_or(0);
        let free = (latest + 1..).find(|attempt| !world.names.contains(&format!("{base}-{attempt}")));
        let Some(pod) = free.and_then(|attempt| pod::new(&world.job, Some(index), attempt)) else { continue };
        if spec.backoff_limit_per_index.is_none() {
            made.push(pod);
            continue;
        }
        let failures = newest.map_or(0, |newest| failures_with(spec, newest));
        let ended = newest.and_then(|newest| pods::finished_at(newest)).unwrap_or(world.now);
        match wait_after(ended, usize::try_from(failures).unwrap_or(0), world.now) {
            Some(wait) => plan.again_in(wait),
            None => made.push(pod::with_index_failures(pod, failures)),
        }
    }
    made
}

/// How often an index has failed, this Pod of it included.
fn failures_with(spec: &JobSpec, found: &Pod) -> i32 {
    let counts = pod::has_failed(found)
        && !(pod::is_unwanted(found) && pods::is_deleted(found))
        && policy::judge(spec, found) != Verdict::Ignore;
    pod::index_failures(found).saturating_add(i32::from(counts))
}
