//! Counts the outcomes of a Job's Pods, each exactly once.
//!
//! An outcome goes three steps, each a pass of its own: the Pod's uid into `uncountedTerminatedPods` (for an Indexed Job's
//! success, its index into `completedIndexes`); then its finalizer goes; then, when the Pod is seen without it, the uid
//! becomes a number. A status is written against the version that was seen, and the Pods that it newly counts are confirmed
//! first, so that neither a stale Job nor a stale Pod counts twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::policy::{self, Verdict};
use super::{indexes, pod};
use crate::controllers::planted::{self, Bug};
use crate::controllers::pods;

/// Outcomes that are noted in one pass, so that the status stays small.
const UNCOUNTED_MAX: usize = 500;

/// What is known of the outcomes, with what must be written to know it for good.
pub(super) struct Counts {
    /// `status.succeeded` without what is in `uncounted`.
    pub(super) succeeded: i32,
    /// `status.failed` without what is in `uncounted`.
    pub(super) failed: i32,
    /// Uids noted and not yet numbers.
    pub(super) uncounted_succeeded: Vec<String>,
    /// Uids noted and not yet numbers.
    pub(super) uncounted_failed: Vec<String>,
    /// Indexes that succeeded, for an Indexed Job.
    pub(super) completed: BTreeSet<i32>,
    /// Indexes that are not tried again, with `backoffLimitPerIndex`.
    pub(super) failed_indexes: BTreeSet<i32>,
    /// A failure for which the Job fails, and why.
    pub(super) fatal: Option<String>,
    /// Pods whose outcome this pass notes for the first time.
    pub(super) noted: Vec<Arc<Pod>>,
    /// Pods whose outcome is noted in the status that was seen, or is nobody's: their finalizer can go.
    pub(super) done: Vec<Arc<Pod>>,
    /// Tracked Pods that may run or come to run.
    pub(super) active: Vec<Arc<Pod>>,
    /// Tracked Pods that are being deleted and have not ended.
    pub(super) terminating: Vec<Arc<Pod>>,
    /// Pods of which the status tells and that are not seen any more: among the failures.
    pub(super) vanished: i32,
    /// Noted Pods that are not seen any more became numbers.
    pub(super) forgotten: bool,
    /// More Pods are seen that are not counted than the status tells of.
    pub(super) appeared: bool,
}

impl Counts {
    /// All that succeeded.
    pub(super) fn all_succeeded(&self) -> i32 {
        self.succeeded.saturating_add(crate::controllers::replica_set::count(self.uncounted_succeeded.len()))
    }

    /// All that failed.
    pub(super) fn all_failed(&self) -> i32 {
        self.failed.saturating_add(crate::controllers::replica_set::count(self.uncounted_failed.len()))
    }
}

/// Counts. `completions` is given for an Indexed Job.
pub(super) fn count(job: &Job, all: &[Arc<Pod>], completions: Option<i32>) -> Counts {
    let status = job.status.clone().unwrap_or_default();
    let noted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let text = status.completed_indexes.as_deref().unwrap_or_default();
    let mut counts = Counts {
        succeeded: status.succeeded.unwrap_or(0),
        failed: status.failed.unwrap_or(0),
        uncounted_succeeded: Vec::new(),
        uncounted_failed: Vec::new(),
        completed: indexes::parse(text, completions.unwrap_or(0)),
        failed_indexes: indexes::parse(
            status.failed_indexes.as_deref().unwrap_or_default(),
            completions.unwrap_or(0),
        ),
        fatal: None,
        noted: Vec::new(),
        done: Vec::new(),
        active: Vec::new(),
        terminating: Vec::new(),
        vanished: 0,
        forgotten: false,
        appeared: false,
    };
    let was_completed = counts.completed.clone();
    keep_noted(&mut counts, &noted, all);
    let is_noted = |uid: &str| {
        let (succeeded, failed) = (noted.succeeded.iter().flatten(), noted.failed.iter().flatten());
        succeeded.chain(failed).any(|noted| noted == uid)
    };
    let mut seen_live = 0;
    for found in all.iter().filter(|found| pod::is_tracked(found)) {
        let uid = found.uid().unwrap_or_default();
        if is_noted(&uid) {
            counts.done.push(found.clone());
        } else if pod::has_succeeded(found) {
            seen_live += 1;
            note_success(&mut counts, found, uid, completions, &was_completed);
        } else if pod::has_failed(found) {
            seen_live += 1;
            note_failure(&mut counts, job, found, uid);
        } else {
            seen_live += 1;
            let list = if pods::is_deleted(found) { &mut counts.terminating } else { &mut counts.active };
            list.push(found.clone());
        }
    }
    // Somebody took the finalizer away and the Pod with it: how it ended is not known, so that it did not succeed.
    let recorded_live = status.active.unwrap_or(0).saturating_add(status.terminating.unwrap_or(0));
    counts.appeared = seen_live > recorded_live;
    counts.vanished = recorded_live.saturating_sub(seen_live).max(0);
    counts.failed = counts.failed.saturating_add(counts.vanished);
    if completions.is_some() {
        counts.succeeded = crate::controllers::replica_set::count(counts.completed.len());
    }
    counts
}

/// Uids whose Pods still have their finalizer stay noted; the others become numbers.
fn keep_noted(counts: &mut Counts, noted: &UncountedTerminatedPods, all: &[Arc<Pod>]) {
    let is_pending =
        |uid: &String| all.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid) && pod::is_tracked(pod));
    let is_seen = |uid: &String| all.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid));
    counts.forgotten = noted.succeeded.iter().chain(&noted.failed).flatten().any(|uid| !is_seen(uid));
    for uid in noted.succeeded.iter().flatten() {
        if is_pending(uid) && !planted::is(Bug::JobCountsTwice) {
            counts.uncounted_succeeded.push(uid.clone());
        } else if !planted::is(Bug::JobForgetsSuccesses) {
            counts.succeeded = counts.succeeded.saturating_add(1);
        }
    }
    for uid in noted.failed.iter().flatten() {
        if is_pending(uid) {
            counts.uncounted_failed.push(uid.clone());
        } else {
            counts.failed = counts.failed.saturating_add(1);
        }
    }
}

fn note_failure(counts: &mut Counts, job: &Job, found: &Arc<Pod>, uid: String) {
    let Some(spec) = &job.spec else { return };
    let verdict = policy::judge(spec, found);
    if verdict == Verdict::Ignore || (pod::is_unwanted(found) && pods::is_deleted(found)) {
        counts.done.push(found.clone());
        return;
    }
    if counts.noted.len() >= UNCOUNTED_MAX {
        return;
    }
    counts.uncounted_failed.push(uid);
    counts.noted.push(found.clone());
    let is_last = verdict == Verdict::FailIndex || policy::exhausts_index(spec, found);
    if let Some(index) = pod::index(found).filter(|index| is_last && !counts.completed.contains(index)) {
        counts.failed_indexes.insert(index);
    }
    if let Verdict::FailJob(why) = verdict {
        counts.fatal.get_or_insert(why);
    }
}

fn note_success(
    counts: &mut Counts,
    found: &Arc<Pod>,
    uid: String,
    completions: Option<i32>,
    was_completed: &BTreeSet<i32>,
) {
    let Some(completions) = completions else {
        if counts.noted.len() < UNCOUNTED_MAX {
            counts.uncounted_succeeded.push(uid);
            counts.noted.push(found.clone());
        }
        return;
    };
    match pod::index(found).filter(|index| (0..completions).contains(index)) {
        Some(index) if !was_completed.contains(&index) => {
            counts.completed.insert(index);
            counts.noted.push(found.clone());
        }
        // Noted before, or an index that is not asked for any more.
        _ => counts.done.push(found.clone()),
    }
}
