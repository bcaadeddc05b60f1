//! What a Deployment's status says: counts, `Available`, and `Progressing` with its deadline.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::replica_sets::{actual, size, told_available};
use super::template;
use crate::controllers::replica_set::count_nonzero;

pub(super) const AVAILABLE: &str = "Available";
pub(super) const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
/// Reasons of `Progressing`, upstream's words.
pub(super) const NEW_SET_CREATED: &str = "NewReplicaSetCreated";
pub(super) const NEW_SET_FOUND: &str = "FoundNewReplicaSet";
const SET_UPDATED: &str = "ReplicaSetUpdated";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// The condition of this type.
pub(super) fn condition<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// Puts a condition in place; one that says the same keeps its times, one of the same status its transition time.
pub(super) fn set_condition(
    status: &mut DeploymentStatus,
    type_: &str,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let before = condition(status, type_).cloned();
    if before.as_ref().is_some_and(|old| old.status == value && old.reason.as_deref() == Some(reason)) {
        return;
    }
    let transition = before.filter(|old| old.status == value).and_then(|old| old.last_transition_time);
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != type_);
    conditions.push(DeploymentCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(transition.unwrap_or(Time(now))),
    });
}

fn remove_condition(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
    }
}

/// Counts, and whether there are enough. `all` are the ReplicaSets, `new` the one of the template.
pub(super) fn counted(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    new: Option<&ReplicaSet>,
    all: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> DeploymentStatus {
    let before = deployment.status.clone().unwrap_or_default();
    let sum = |of: fn(&ReplicaSet) -> i32| all.iter().map(|set| of(set)).fold(0, i32::saturating_add);
    let available = sum(told_available);
    let terminating = all
        .iter()
        .map(|set| set.status.as_ref().and_then(|status| status.terminating_replicas))
        .try_fold(0, |sum: i32, terminating| terminating.map(|number| sum.saturating_add(number)));
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: count_nonzero(sum(actual)),
        updated_replicas: count_nonzero(new.map_or(0, actual)),
        ready_replicas: count_nonzero(sum(|set| {
            set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
        })),
        available_replicas: count_nonzero(available),
        unavailable_replicas: count_nonzero((sum(size) - available).max(0)),
        terminating_replicas: terminating,
        collision_count: before.collision_count,
        conditions: before.conditions,
    };
    let (_, max_unavailable) = template::limits(deployment);
    if available >= template::replicas(spec) - max_unavailable {
        let message = "Deployment has minimum availability.".to_owned();
        set_condition(&mut status, AVAILABLE, "True", "MinimumReplicasAvailable", message, now);
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        set_condition(&mut status, AVAILABLE, "False", "MinimumReplicasUnavailable", message, now);
    }
    status
}

/// While paused `Progressing` is unknown, and its deadline does not run. A deadline that was exceeded stays told.
pub(super) fn mark_paused(status: &mut DeploymentStatus, spec: &DeploymentSpec, now: Timestamp) {
    if template::deadline_s(spec).is_none() {
        return;
    }
    let reason = condition(status, PROGRESSING).and_then(|condition| condition.reason.clone());
    if reason.as_deref() == Some(TIMED_OUT) {
        return;
    }
    let (is_paused, was_paused) = (spec.paused == Some(true), reason.as_deref() == Some(PAUSED));
    if is_paused && !was_paused {
        set_condition(status, PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned(), now);
    } else if !is_paused && was_paused {
        set_condition(status, PROGRESSING, "Unknown", RESUMED, "Deployment is resumed".to_owned(), now);
    }
}

/// Whether the roll-out is through: all Pods are of the template, available, and no others are left.
pub(super) fn is_complete(deployment: &Deployment, spec: &DeploymentSpec, status: &DeploymentStatus) -> bool {
    let replicas = Some(template::replicas(spec)).filter(|replicas| *replicas != 0);
    status.updated_replicas == replicas
        && status.replicas == replicas
        && status.available_replicas == replicas
        && status.observed_generation >= deployment.metadata.generation
}

/// Says how the roll-out goes. Returns when its deadline will be over, if it runs.
pub(super) fn tell_progress(
    status: &mut DeploymentStatus,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    new: Option<&ReplicaSet>,
    all: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> Option<Duration> {
    tell_replica_failure(status, all, now);
    let Some(deadline_s) = template::deadline_s(spec) else {
        remove_condition(status, PROGRESSING);
        return None;
    };
    let current = condition(status, PROGRESSING).cloned();
    let was_available =
        current.as_ref().is_some_and(|current| current.reason.as_deref() == Some(NEW_SET_AVAILABLE));
    if was_available && status.replicas == status.updated_replicas {
        return None;
    }
    let subject = match new {
        Some(set) => format!("ReplicaSet \"{}\"", set.name_any()),
        None => format!("Deployment \"{}\"", deployment.name_any()),
    };
    let before = deployment.status.clone().unwrap_or_default();
    if is_complete(deployment, spec, status) {
        let message = format!("{subject} has successfully progressed.");
        set_condition(status, PROGRESSING, "True", NEW_SET_AVAILABLE, message, now);
        return None;
    }
    if has_progressed(&before, status) {
        // Its update time is what the deadline runs from: taken out first, so that it is set anew.
        remove_condition(status, PROGRESSING);
        set_condition(status, PROGRESSING, "True", SET_UPDATED, format!("{subject} is progressing."), now);
        if let Some(old) = current.filter(|old| old.status == "True")
            && let Some(new) = status.conditions.iter_mut().flatten().find(|new| new.type_ == PROGRESSING)
        {
            new.last_transition_time = old.last_transition_time;
        }
    } else if remaining(status, deadline_s, now).is_some_and(|remaining| remaining.is_zero()) {
        let message = format!("{subject} has timed out progressing.");
        set_condition(status, PROGRESSING, "False", TIMED_OUT, message, now);
    }
    remaining(status, deadline_s, now).filter(|remaining| !remaining.is_zero())
}

fn has_progressed(before: &DeploymentStatus, status: &DeploymentStatus) -> bool {
    let number = |count: Option<i32>| count.unwrap_or(0);
    let old = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
    number(status.updated_replicas) > number(before.updated_replicas)
        || old(status) < old(before)
        || number(status.ready_replicas) > number(before.ready_replicas)
        || number(status.available_replicas) > number(before.available_replicas)
}

/// Time until the deadline, zero when it is over. `None` when it does not run.
fn remaining(status: &DeploymentStatus, deadline_s: i32, now: Timestamp) -> Option<Duration> {
    let progressing = condition(status, PROGRESSING)?;
    if matches!(progressing.reason.as_deref(), Some(NEW_SET_AVAILABLE | TIMED_OUT | PAUSED)) {
        return None;
    }
    let since = progressing.last_update_time.as_ref()?.0;
    // Times in conditions have whole seconds; a deadline is over when its second has passed.
    let over_ms = since.as_millisecond() + (i64::from(deadline_s) + 1) * 1000;
    let left_ms = over_ms.saturating_sub(now.as_millisecond()).max(0);
    Some(Duration::from_millis(left_ms.unsigned_abs()))
}

fn tell_replica_failure(status: &mut DeploymentStatus, all: &[Arc<ReplicaSet>], now: Timestamp) {
    let failure = all.iter().rev().find_map(|set| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE && condition.status == "True")
    });
    match failure {
        None => remove_condition(status, REPLICA_FAILURE),
        Some(failure) => {
            let (reason, message) = (failure.reason.clone(), failure.message.clone());
            let reason = reason.unwrap_or_default();
            set_condition(status, REPLICA_FAILURE, "True", &reason, message.unwrap_or_default(), now);
        }
    }
}
