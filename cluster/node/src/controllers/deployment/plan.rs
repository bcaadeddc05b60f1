//! Decides for a Deployment: one step of its roll-out a pass, each from the sizes and counts of its ReplicaSets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dodai_kit::Plan;
use dodai_kit::plan::{controller_of, controller_reference};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::replica_sets::{self, actual, size};
use super::rolling::{self, Resize};
use super::{status, template};
use crate::controllers::planted::{self, Bug};
use crate::controllers::{pods, selector};

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The Deployment.
    pub deployment: Arc<Deployment>,
    /// The ReplicaSets that it controls, oldest first.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// ReplicaSets without controller that it selects.
    pub orphans: Vec<Arc<ReplicaSet>>,
    /// Names of all ReplicaSets of the namespace.
    pub names: BTreeSet<String>,
    /// Pods of its ReplicaSets, with strategy `Recreate`.
    pub pods: Vec<Arc<Pod>>,
}

/// The ReplicaSets sorted by what they are.
struct Sets<'a> {
    new: Option<&'a Arc<ReplicaSet>>,
    /// Oldest first.
    old: Vec<Arc<ReplicaSet>>,
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    let deployment = world.deployment.as_ref();
    let Some(spec) = &deployment.spec else { return plan };
    let Some(selector) = selector::of_workload(&spec.selector) else { return plan };
    if deployment.metadata.deletion_timestamp.is_none() && claim(&mut plan, world, &selector) {
        return plan;
    }
    let new = world.sets.iter().find(|set| template::is_of_template(set, spec));
    let is_old = |set: &&Arc<ReplicaSet>| new.is_none_or(|new| new.metadata.uid != set.metadata.uid);
    let sets = Sets { new, old: world.sets.iter().filter(is_old).cloned().collect() };
    let mut status = status::counted(deployment, spec, new.map(Arc::as_ref), &world.sets, world.now);
    status::mark_paused(&mut status, spec, world.now);
    if deployment.metadata.deletion_timestamp.is_some() {
        plan.set_status(&status);
        return plan;
    }
    if sync_revision(&mut plan, world, spec, &sets) {
        return plan;
    }
    if spec.paused == Some(true) || is_scaled(world, spec) {
        let mut sizes = rolling::scaled(deployment, spec, sets.new, &sets.old);
        if !template::is_rolling(deployment) && has_old_pods(world, &sets.old) {
            // `Recreate` waits for old Pods, also when it is paused on its way (upstream's does not).
            sizes.retain(|(set, wanted)| is_old(&set) || *wanted <= size(set));
        }
        resize(&mut plan, world, spec, sizes);
        if spec.paused == Some(true) {
            clean_up(&mut plan, spec, &sets);
        }
        plan.set_status(&status);
        return plan;
    }
    roll(&mut plan, world, spec, &sets, &mut status);
    if plan.actions.is_empty() && status::is_complete(deployment, spec, &status) {
        clean_up(&mut plan, spec, &sets);
    }
    let new = sets.new.map(Arc::as_ref);
    if planted::is(Bug::DeploymentTellsOldGeneration) && world.now.as_second() % 2 == 0 {
        status.observed_generation = status.observed_generation.map(|generation| generation - 1);
    }
    if planted::is(Bug::DeploymentIsNeverTheSame) {
        let half_hours = world.now.as_second() / 1800;
        status.collision_count = i32::try_from(half_hours).ok();
        plan.again_in(Duration::from_secs(1200));
    }
    if let Some(left) = status::tell_progress(&mut status, deployment, spec, new, &world.sets, world.now) {
        plan.again_in(left);
    }
    plan.set_status(&status);
    plan
}

/// Takes over ReplicaSets that are selected and have no controller, lets go of those that are not. Whether there was any.
fn claim(plan: &mut Plan, world: &World, selector: &kube::core::Selector) -> bool {
    let uid = world.deployment.uid().unwrap_or_default();
    let lost = world.sets.iter().filter(|set| {
        set.metadata.deletion_timestamp.is_none() && !selector::selects(selector, set.labels())
    });
    for set in lost {
        plan.replace(&pods::released(set.as_ref(), &uid));
    }
    let orphans = || world.orphans.iter().filter(|set| set.metadata.deletion_timestamp.is_none());
    if orphans().next().is_some() {
        // Its deletion may have begun, and its ReplicaSets been let go for it.
        plan.confirm(world.deployment.as_ref());
    }
    for set in orphans() {
        plan.replace(&pods::adopted(set.as_ref(), controller_reference(world.deployment.as_ref())));
    }
    !plan.actions.is_empty()
}

/// Brings revision and annotations of the new ReplicaSet and of the Deployment in line. Whether anything was to do.
fn sync_revision(plan: &mut Plan, world: &World, spec: &DeploymentSpec, sets: &Sets<'_>) -> bool {
    let Some(new) = sets.new else { return false };
    if let Some(synced) = replica_sets::synced(new, &world.deployment, spec, next_revision(&sets.old)) {
        plan.replace(&synced);
        return true;
    }
    let revision = new.annotations().get(replica_sets::REVISION);
    if let Some(revision) = revision
        && world.deployment.annotations().get(replica_sets::REVISION) != Some(revision)
    {
        let mut deployment = world.deployment.as_ref().clone();
        deployment.annotations_mut().insert(replica_sets::REVISION.to_owned(), revision.clone());
        plan.replace(&deployment);
        return true;
    }
    false
}

fn next_revision(old: &[Arc<ReplicaSet>]) -> i64 {
    old.iter().map(|set| replica_sets::revision(set)).max().unwrap_or(0) + 1
}

/// Whether `spec.replicas` changed since the ReplicaSets were sized, and that is more than the roll-out sees to by itself.
fn is_scaled(world: &World, spec: &DeploymentSpec) -> bool {
    let active = || world.sets.iter().filter(|set| size(set) > 0);
    if !template::is_rolling(&world.deployment) && active().count() > 1 {
        // `Recreate` keeps no proportion between them: they were adopted, and go (upstream's then waits for ever).
        return false;
    }
    active().any(|set| replica_sets::desired_then(set).is_some_and(|then| then != template::replicas(spec)))
}

/// One step of the roll-out: make the new ReplicaSet, or grow it, or shrink old ones.
fn roll(
    plan: &mut Plan,
    world: &World,
    spec: &DeploymentSpec,
    sets: &Sets<'_>,
    status: &mut DeploymentStatus,
) {
    let deployment = world.deployment.as_ref();
    let is_rolling = template::is_rolling(deployment);
    if !is_rolling {
        let active: Vec<Resize> =
            sets.old.iter().filter(|set| size(set) > 0).map(|set| (set.clone(), 0)).collect();
        let is_active = !active.is_empty();
        resize(plan, world, spec, active);
        if (is_active || has_old_pods(world, &sets.old)) && !planted::is(Bug::RecreateDoesNotWait) {
            return;
        }
    }
    let wanted = rolling::size_of_new(deployment, spec, sets.new.map(Arc::as_ref), &world.sets);
    let Some(new) = sets.new else {
        create(plan, world, spec, sets, status, wanted);
        return;
    };
    if status::condition(status, status::PROGRESSING).is_none() && template::deadline_s(spec).is_some() {
        let message = format!("Found new replica set \"{}\"", new.name_any());
        status::set_condition(status, status::PROGRESSING, "True", status::NEW_SET_FOUND, message, world.now);
    }
    if size(new) != wanted {
        resize(plan, world, spec, vec![(new.clone(), wanted)]);
    } else if is_rolling {
        resize(plan, world, spec, rolling::shrink_old(deployment, spec, new, &sets.old));
    }
}

/// Whether Pods of old ReplicaSets are left, or may still appear.
fn has_old_pods(world: &World, old: &[Arc<ReplicaSet>]) -> bool {
    let unsettled = old.iter().any(|set| actual(set) > 0 || !replica_sets::is_observed(set));
    let is_old = |pod: &&Arc<Pod>| {
        let owner = controller_of(pod.as_ref()).map(|owner| owner.uid.as_str());
        old.iter().any(|set| set.metadata.uid.as_deref() == owner)
    };
    unsettled || world.pods.iter().filter(is_old).any(|pod| !pods::is_terminal(pod))
}

fn create(
    plan: &mut Plan,
    world: &World,
    spec: &DeploymentSpec,
    sets: &Sets<'_>,
    status: &mut DeploymentStatus,
    size: i32,
) {
    let deployment = world.deployment.as_ref();
    let name = replica_sets::name(deployment, spec);
    if world.names.contains(&name) {
        // The name is taken by another template, or by somebody else: the next pass has another hash.
        status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
        return;
    }
    confirm_all(plan, world, spec);
    confirm_others_have_gone(plan, world, spec, None);
    plan.create(&replica_sets::new(deployment, spec, size, next_revision(&sets.old)));
    if template::deadline_s(spec).is_some() {
        let message = format!("Created new replica set \"{name}\"");
        let reason = status::NEW_SET_CREATED;
        status::set_condition(status, status::PROGRESSING, "True", reason, message, world.now);
    }
}

/// Gives ReplicaSets other sizes. What was decided from all of them holds only while none of them changed.
fn resize(plan: &mut Plan, world: &World, spec: &DeploymentSpec, sizes: Vec<Resize>) {
    let mut changed = Vec::new();
    let mut grows = None;
    for (set, size) in sizes {
        if size > replica_sets::size(&set) {
            grows = set.uid();
        }
        changed.extend(replica_sets::sized(&set, &world.deployment, spec, size));
    }
    if changed.is_empty() {
        return;
    }
    confirm_all(plan, world, spec);
    if grows.is_some() {
        confirm_others_have_gone(plan, world, spec, grows);
    }
    for set in changed {
        plan.replace(&set);
    }
}

/// The Deployment and all its ReplicaSets are as they were seen, and there are no others.
fn confirm_all(plan: &mut Plan, world: &World, spec: &DeploymentSpec) {
    let deployment = world.deployment.as_ref();
    plan.confirm(deployment);
    let Some(selector) = selector::of_workload(&spec.selector) else { return };
    let selected =
        world.sets.iter().map(Arc::as_ref).filter(|set| selector::selects(&selector, set.labels()));
    plan.confirm_owned(deployment, Some(selector.to_string()), selected, true);
    // Theirs are Pods too; a cache may show them yet with the Deployment of this name that was deleted before.
    plan.and_no_orphans();
}

/// With `Recreate`: no Pods but those of the ReplicaSet that grows are there, except for ones that were seen to have ended.
fn confirm_others_have_gone(plan: &mut Plan, world: &World, spec: &DeploymentSpec, grows: Option<String>) {
    let others = world.sets.iter().filter(|set| set.uid() != grows).filter_map(|set| set.uid());
    let others: BTreeSet<String> = others.collect();
    if template::is_rolling(&world.deployment) || others.is_empty() {
        return;
    }
    let Some(selector) = selector::of_workload(&spec.selector) else { return };
    let of_others = |pod: &&Pod| {
        controller_of(*pod).is_some_and(|owner| others.contains(&owner.uid))
            && selector::selects(&selector, pod.labels())
    };
    let seen: Vec<&Pod> = world.pods.iter().map(Arc::as_ref).filter(of_others).collect();
    plan.confirm_owned_by(others.clone(), world.deployment.namespace(), Some(selector.to_string()), seen);
}

/// Deletes the oldest revisions beyond `revisionHistoryLimit`, only those without Pods.
fn clean_up(plan: &mut Plan, spec: &DeploymentSpec, sets: &Sets<'_>) {
    if planted::is(Bug::DeploymentKeepsHistory) {
        return;
    }
    let Some(limit) = spec.revision_history_limit.and_then(|limit| usize::try_from(limit).ok()) else {
        return;
    };
    let mut alive: Vec<&Arc<ReplicaSet>> =
        sets.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
    alive.sort_by_key(|set| replica_sets::revision(set));
    let excess = alive.len().saturating_sub(limit);
    for set in alive.into_iter().take(excess) {
        if actual(set) == 0 && size(set) == 0 && replica_sets::is_observed(set) {
            plan.delete(set.as_ref());
        }
    }
}
