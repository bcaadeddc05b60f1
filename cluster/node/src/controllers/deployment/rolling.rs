//! How large each ReplicaSet must be now: a rolling update's next step, and scaling in the middle of one.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use kube::ResourceExt;

use super::replica_sets::{actual, available, desired_then, is_observed, max_then, size, told_available};
use super::template;
use crate::controllers::planted::{self, Bug};

/// A ReplicaSet and the size that it must get.
pub(super) type Resize = (Arc<ReplicaSet>, i32);

/// How large a new ReplicaSet may be, beside all that there is.
pub(super) fn size_of_new(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    new: Option<&ReplicaSet>,
    all: &[Arc<ReplicaSet>],
) -> i32 {
    let replicas = template::replicas(spec);
    if !template::is_rolling(deployment) {
        return replicas;
    }
    let now = new.map_or(0, size);
    if now >= replicas {
        return replicas;
    }
    let (surge, _) = template::limits(deployment);
    // Pods that an old ReplicaSet has not deleted yet take room too, which upstream does not count; while it has not
    // looked at its new size, nobody knows how many they are.
    if all.iter().any(|set| !is_observed(set)) {
        return now;
    }
    if planted::is(Bug::RollOutForgetsSurge) {
        return replicas;
    }
    let there = all.iter().map(|set| size(set).max(actual(set))).fold(0, i32::saturating_add);
    let room = replicas.saturating_add(surge).saturating_sub(there).max(0);
    now.saturating_add(room).min(replicas)
}

fn total(sets: &[Arc<ReplicaSet>]) -> i32 {
    sets.iter().map(|set| size(set)).fold(0, i32::saturating_add)
}

/// The next shrinking of old ReplicaSets: first what is not available anyway, then as much as stays available enough.
pub(super) fn shrink_old(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    new: &Arc<ReplicaSet>,
    old: &[Arc<ReplicaSet>],
) -> Vec<Resize> {
    if planted::is(Bug::RollOutForgetsAvailable) {
        return old.iter().filter(|set| size(set) > 0).map(|set| (set.clone(), 0)).collect();
    }
    // What is available of a ReplicaSet that has not looked at its new size is not known: it may have shrunk and grown again,
    // and its Pods be on their way out. Upstream does not ask.
    if old.iter().chain([new]).any(|set| !is_observed(set)) {
        return Vec::new();
    }
    let (_, unavailable) = template::limits(deployment);
    let min_available = template::replicas(spec) - unavailable;
    let new_missing = size(new) - available(new);
    let mut budget = total(old) + size(new) - min_available - new_missing;
    let mut sizes: Vec<i32> = old.iter().map(|set| size(set)).collect();
    for (set, size) in old.iter().zip(&mut sizes) {
        let unhealthy = (*size - available(set)).min(budget).max(0);
        *size -= unhealthy;
        budget -= unhealthy;
    }
    let available_of = |set: &Arc<ReplicaSet>, size: i32| available(set).min(size);
    let all_available: i32 =
        old.iter().zip(&sizes).map(|(set, size)| available_of(set, *size)).sum::<i32>() + available(new);
    let mut spare = (all_available - min_available).min(budget).max(0);
    for size in &mut sizes {
        let fewer = (*size).min(spare);
        *size -= fewer;
        spare -= fewer;
    }
    let changed = old.iter().zip(sizes).filter(|(set, wanted)| size(set) != *wanted);
    changed.map(|(set, wanted)| (set.clone(), wanted)).collect()
}

/// New sizes after `spec.replicas` changed, or while paused: in proportion, so that no template gains over another; nothing
/// for the old ones if the new one [`is_saturated`].
pub(super) fn scaled(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    new: Option<&Arc<ReplicaSet>>,
    old: &[Arc<ReplicaSet>],
    is_saturated: bool,
) -> Vec<Resize> {
    let replicas = template::replicas(spec);
    let all: Vec<Arc<ReplicaSet>> = old.iter().chain(new).cloned().collect();
    let mut active: Vec<Arc<ReplicaSet>> = all.iter().filter(|set| size(set) > 0).cloned().collect();
    match active.as_slice() {
        // The newest of the old ones, if there is none of the template: `old` is ordered by age.
        [] => return new.or(old.last()).map(|set| (set.clone(), replicas)).into_iter().collect(),
        [only] => return vec![(only.clone(), replicas)],
        _ => {}
    }
    if let Some(new) = new.filter(|_| is_saturated) {
        let old = old.iter().filter(|set| size(set) > 0);
        return old.map(|set| (set.clone(), 0)).chain([(new.clone(), replicas)]).collect();
    }
    if !template::is_rolling(deployment) {
        return Vec::new();
    }
    let (surge, _) = template::limits(deployment);
    let allowed = if replicas > 0 { replicas.saturating_add(surge) } else { 0 };
    let to_add = allowed - total(&active);
    // The largest first; of two that are equal, the newer one grows and the older one shrinks first.
    active.sort_by(|a, b| {
        let age = a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp);
        size(b)
            .cmp(&size(a))
            .then(if to_add > 0 { age.reverse() } else { age })
            .then(a.name_any().cmp(&b.name_any()))
    });
    let mut added = 0;
    let mut resized: Vec<Resize> = Vec::new();
    for set in active {
        let share = share(deployment, spec, &set, to_add, added);
        added += share;
        let wanted = size(&set) + share;
        resized.push((set, wanted));
    }
    if let Some((_, first)) = resized.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    resized
}

/// Takes from what grows the room that Pods of other ReplicaSets have yet, which are about to go; while one of them has not
/// looked at its size, nobody knows how many. Upstream does not wait: scaled to none and up again, both are there at once.
pub(super) fn leave_room(sizes: &mut Vec<Resize>, all: &[Arc<ReplicaSet>]) {
    let wanted: BTreeMap<Option<String>, i32> =
        sizes.iter().map(|(set, wanted)| (set.uid(), *wanted)).collect();
    let going = |set: &Arc<ReplicaSet>| {
        let wanted = wanted.get(&set.uid()).copied().unwrap_or_else(|| size(set));
        is_observed(set).then(|| (actual(set) - wanted).max(0))
    };
    sizes.retain_mut(|(set, wanted)| {
        if *wanted <= size(set) {
            return true;
        }
        let others = all.iter().filter(|other| other.uid() != set.uid());
        let Some(going) = others.map(going).sum::<Option<i32>>() else { return false };
        *wanted = (*wanted - going).max(size(set));
        *wanted > size(set)
    });
}

/// Whether the new ReplicaSet alone is what the Deployment asks for.
pub(super) fn is_saturated(new: &ReplicaSet, replicas: i32) -> bool {
    size(new) == replicas && desired_then(new) == Some(replicas) && told_available(new) == replicas
}

/// What one ReplicaSet gains (or loses) of `to_add`, of which others got `added`.
fn share(deployment: &Deployment, spec: &DeploymentSpec, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    let (replicas, left) = (template::replicas(spec), to_add - added);
    if to_add == 0 || left == 0 {
        return 0;
    }
    let own = if replicas == 0 {
        -size(set)
    } else {
        let (surge, _) = template::limits(deployment);
        let max = i64::from(replicas.saturating_add(surge));
        let status = deployment.status.as_ref().and_then(|status| status.replicas);
        let before = i64::from(max_then(set).or(status).unwrap_or(0).max(1));
        // Rounded half away from zero; all numbers are positive.
        let wanted = (2 * i64::from(size(set)) * max + before) / (2 * before);
        i32::try_from(wanted).unwrap_or(i32::MAX).saturating_sub(size(set))
    };
    if to_add > 0 { own.min(left) } else { own.max(left) }
}
