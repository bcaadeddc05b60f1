//! Decides for a Deployment: one step of its roll-out a pass, each from the sizes and counts of its ReplicaSets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dodai_kit::plan::controller_reference;
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Owned, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::Selector;

use super::replica_sets::{self, actual, size};
use super::rolling::{self, Resize};
use super::{status, template};
use crate::controllers::planted::{self, Bug};
use crate::controllers::replica_set::count;
use crate::controllers::{pods, selector};

/// Wait until what is available is told; the ReplicaSet's status, when it is written, ends it sooner.
const RECHECK: Duration = Duration::from_secs(1);

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
    /// Pods of its ReplicaSets.
    pub pods: Vec<Arc<Pod>>,
}

/// What every step looks at.
struct Pass<'a> {
    world: &'a World,
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    selector: Selector,
    /// The ReplicaSet of the template.
    new: Option<&'a Arc<ReplicaSet>>,
    /// The others, oldest first.
    old: Vec<Arc<ReplicaSet>>,
}

impl<'a> Pass<'a> {
    fn of(world: &'a World) -> Option<Pass<'a>> {
        let deployment = world.deployment.as_ref();
        let spec = deployment.spec.as_ref()?;
        let new = world.sets.iter().find(|set| template::is_of_template(set, spec));
        let is_old = |set: &&Arc<ReplicaSet>| new.is_none_or(|new| !Arc::ptr_eq(new, set));
        Some(Pass {
            world,
            deployment,
            spec,
            selector: selector::of_workload(&spec.selector)?,
            new,
            old: world.sets.iter().filter(is_old).cloned().collect(),
        })
    }

    fn is_rolling(&self) -> bool {
        template::is_rolling(self.deployment)
    }
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    let Some(pass) = Pass::of(world) else { return plan };
    let (deployment, spec, now) = (pass.deployment, pass.spec, world.now);
    if deployment.metadata.deletion_timestamp.is_none() && pass.claim(&mut plan) {
        return plan;
    }
    let new = pass.new.map(Arc::as_ref);
    let mut status = status::counted(deployment, spec, new, &world.sets, now);
    status::mark_paused(&mut status, spec, now);
    if deployment.metadata.deletion_timestamp.is_some() {
        plan.set_status(&status);
        return plan;
    }
    if pass.sync_revision(&mut plan) {
        return plan;
    }
    if spec.paused == Some(true) || pass.is_scaled() {
        pass.scale(&mut plan);
        plan.set_status(&status);
        return plan;
    }
    pass.roll(&mut plan, &mut status);
    if plan.actions.is_empty() && status::is_complete(deployment, spec, &status) {
        pass.clean_up(&mut plan);
    }
    if planted::is(Bug::DeploymentTellsOldGeneration) && now.as_second() % 2 == 0 {
        status.observed_generation = status.observed_generation.map(|generation| generation - 1);
    }
    if planted::is(Bug::DeploymentIsNeverTheSame) {
        let half_hours = now.as_second() / 1800;
        status.collision_count = i32::try_from(half_hours).ok();
        plan.again_in(Duration::from_secs(1200));
    }
    if let Some(left) = status::tell_progress(&mut status, deployment, spec, new, &world.sets, now) {
        plan.again_in(left);
    }
    plan.set_status(&status);
    plan
}

impl Pass<'_> {
    /// Takes over ReplicaSets that are selected and have no controller, lets go of those that are not. Whether there was any.
    fn claim(&self, plan: &mut Plan) -> bool {
        let uid = self.deployment.uid().unwrap_or_default();
        let lost = self.world.sets.iter().filter(|set| {
            set.metadata.deletion_timestamp.is_none() && !selector::selects(&self.selector, set.labels())
        });
        for set in lost {
            plan.replace(&pods::released(set.as_ref(), &uid));
        }
        let orphans = || self.world.orphans.iter().filter(|set| set.metadata.deletion_timestamp.is_none());
        if orphans().next().is_some() {
            // Its deletion may have begun, and its ReplicaSets been let go for it.
            plan.confirm(self.deployment);
        }
        for set in orphans() {
            plan.replace(&pods::adopted(set.as_ref(), controller_reference(self.deployment)));
        }
        !plan.actions.is_empty()
    }

    /// Brings revision and annotations of the new ReplicaSet and of the Deployment in line. Whether anything was to do.
    fn sync_revision(&self, plan: &mut Plan) -> bool {
        let Some(new) = self.new else { return false };
        if let Some(synced) = replica_sets::synced(new, self.deployment, self.spec, self.next_revision()) {
            plan.replace(&synced);
            return true;
        }
        let revision = new.annotations().get(replica_sets::REVISION);
        if let Some(revision) = revision
            && self.deployment.annotations().get(replica_sets::REVISION) != Some(revision)
        {
            let mut deployment = self.deployment.clone();
            deployment.annotations_mut().insert(replica_sets::REVISION.to_owned(), revision.clone());
            plan.replace(&deployment);
            return true;
        }
        false
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().map(|set| replica_sets::revision(set)).max().unwrap_or(0) + 1
    }

    /// Whether `spec.replicas` changed since the ReplicaSets were sized, and that is more than the roll-out sees to by itself.
    fn is_scaled(&self) -> bool {
        let active = || self.world.sets.iter().filter(|set| size(set) > 0);
        if !self.is_rolling() && active().count() > 1 {
            // `Recreate` keeps no proportion between them: they were adopted, and go (upstream's then waits for ever).
            return false;
        }
        let replicas = template::replicas(self.spec);
        active().any(|set| replica_sets::desired_then(set).is_some_and(|then| then != replicas))
    }

    /// Sizes after `spec.replicas` changed, or while paused.
    fn scale(&self, plan: &mut Plan) {
        let is_rolling = self.is_rolling();
        let is_saturated = self.new.is_some_and(|new| {
            rolling::is_saturated(new, template::replicas(self.spec))
                && (!is_rolling || self.is_told_what_is_available(plan))
        });
        let mut sizes = rolling::scaled(self.deployment, self.spec, self.new, &self.old, is_saturated);
        if is_rolling {
            rolling::leave_room(&mut sizes, &self.world.sets);
        } else if self.has_old_pods() {
            // `Recreate` waits for old Pods, also when it is paused on its way (upstream's does not).
            let is_new = |set: &Arc<ReplicaSet>| self.new.is_some_and(|new| Arc::ptr_eq(new, set));
            sizes.retain(|(set, wanted)| !is_new(set) || *wanted <= size(set));
        }
        self.resize(plan, sizes, is_saturated && is_rolling);
        if self.spec.paused == Some(true) {
            self.clean_up(plan);
        }
    }

    /// One step of the roll-out: make the new ReplicaSet, or grow it, or shrink old ones.
    fn roll(&self, plan: &mut Plan, status: &mut DeploymentStatus) {
        if !self.is_rolling() {
            let active: Vec<Resize> =
                self.old.iter().filter(|set| size(set) > 0).map(|set| (set.clone(), 0)).collect();
            let is_active = !active.is_empty();
            self.resize(plan, active, false);
            if (is_active || self.has_old_pods()) && !planted::is(Bug::RecreateDoesNotWait) {
                return;
            }
        }
        let new = self.new.map(Arc::as_ref);
        let wanted = rolling::size_of_new(self.deployment, self.spec, new, &self.world.sets);
        let Some(new) = self.new else { return self.create(plan, status, wanted) };
        if status::condition(status, status::PROGRESSING).is_none()
            && template::deadline_s(self.spec).is_some()
        {
            let (reason, message) =
                (status::NEW_SET_FOUND, format!("Found new replica set \"{}\"", new.name_any()));
            status::set_condition(status, status::PROGRESSING, "True", reason, message, self.world.now);
        }
        if size(new) != wanted {
            self.resize(plan, vec![(new.clone(), wanted)], false);
        } else if self.is_rolling() {
            let sizes = rolling::shrink_old(self.deployment, self.spec, new, &self.old);
            if !sizes.is_empty() && self.is_told_what_is_available(plan) {
                self.resize(plan, sizes, true);
            }
        }
    }

    /// Whether the ReplicaSets' statuses tell of as many available Pods as there are. If not, one or the other comes from a
    /// cache that is behind, or is about to be written; what goes must not be decided from that.
    ///
    /// Upstream takes statuses at their word: what they call unavailable goes first, though it may have come to serve since.
    fn is_told_what_is_available(&self, plan: &mut Plan) -> bool {
        let is_so = self.world.sets.iter().all(|set| {
            let min_ready_s = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
            let is_available = |pod: &&Arc<Pod>| {
                pods::is_active(pod)
                    && pods::is_available(pod, min_ready_s, self.world.now).is_ok_and(|is| is)
            };
            count(self.pods_of(set).filter(is_available).count()) == replica_sets::told_available(set)
        });
        if !is_so {
            plan.again_in(RECHECK);
        }
        is_so
    }

    /// Whether Pods of old ReplicaSets are left, or may still appear.
    fn has_old_pods(&self) -> bool {
        let unsettled = self.old.iter().any(|set| actual(set) > 0 || !replica_sets::is_observed(set));
        unsettled || self.old.iter().flat_map(|set| self.pods_of(set)).any(|pod| !pods::is_terminal(pod))
    }

    fn pods_of(&self, set: &ReplicaSet) -> impl Iterator<Item = &Arc<Pod>> {
        let uid = set.uid().unwrap_or_default();
        self.world.pods.iter().filter(move |pod| is_controlled_by(pod.as_ref(), &uid))
    }

    fn create(&self, plan: &mut Plan, status: &mut DeploymentStatus, size: i32) {
        let name = replica_sets::name(self.deployment, self.spec);
        if self.world.names.contains(&name) {
            // The name is taken by another template, or by somebody else: the next pass has another hash.
            status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
            return;
        }
        self.confirm_others_have_gone(plan, None);
        self.confirm_all(plan);
        plan.create(&replica_sets::new(self.deployment, self.spec, size, self.next_revision()));
        if template::deadline_s(self.spec).is_some() {
            let message = format!("Created new replica set \"{name}\"");
            let reason = status::NEW_SET_CREATED;
            status::set_condition(status, status::PROGRESSING, "True", reason, message, self.world.now);
        }
    }

    /// Gives ReplicaSets other sizes. What was decided from all of them (and from `available` Pods) holds only while none of
    /// them changed.
    fn resize(&self, plan: &mut Plan, sizes: Vec<Resize>, available: bool) {
        let mut changed = Vec::new();
        let mut grows = None;
        for (set, size) in sizes {
            if size > replica_sets::size(&set) {
                grows = set.uid();
            }
            changed.extend(replica_sets::sized(&set, self.deployment, self.spec, size));
        }
        if changed.is_empty() {
            return;
        }
        if available {
            let owned = self.owned_pods(&self.world.sets);
            plan.confirm_owned(owned.unchanged(self.world.pods.iter().map(Arc::as_ref)));
        }
        if grows.is_some() {
            self.confirm_others_have_gone(plan, grows);
        }
        self.confirm_all(plan);
        for set in changed {
            plan.replace(&set);
        }
    }

    /// The Deployment and all its ReplicaSets are as they were seen, and there are no others.
    fn confirm_all(&self, plan: &mut Plan) {
        let owned = Owned::of::<ReplicaSet>(self.deployment, Some(&self.selector));
        // Theirs are Pods too; a cache may show them yet with the Deployment of this name that was deleted before.
        let owned = owned.unchanged(self.world.sets.iter().map(Arc::as_ref)).without_orphans();
        plan.confirm_with(self.deployment, owned);
    }

    /// With `Recreate`: no Pods but those of the ReplicaSet that grows are there, except for ones that were seen to have ended.
    fn confirm_others_have_gone(&self, plan: &mut Plan, grows: Option<String>) {
        let others = || self.world.sets.iter().filter(|set| set.uid() != grows);
        if self.is_rolling() || others().next().is_none() {
            return;
        }
        let pods = others().flat_map(|set| self.pods_of(set)).map(Arc::as_ref);
        plan.confirm_owned(self.owned_pods(others()).seen(pods));
    }

    /// The question for the Pods of these ReplicaSets.
    fn owned_pods<'a>(&self, sets: impl IntoIterator<Item = &'a Arc<ReplicaSet>>) -> Owned {
        let uids = sets.into_iter().filter_map(|set| set.uid());
        Owned::of_all::<Pod>(uids, self.deployment.namespace(), Some(&self.selector))
    }

    /// Deletes the oldest revisions beyond `revisionHistoryLimit`, only those without Pods.
    fn clean_up(&self, plan: &mut Plan) {
        if planted::is(Bug::DeploymentKeepsHistory) {
            return;
        }
        let limit = self.spec.revision_history_limit;
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return };
        let mut alive: Vec<&Arc<ReplicaSet>> =
            self.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
        alive.sort_by_key(|set| replica_sets::revision(set));
        let excess = alive.len().saturating_sub(limit);
        for set in alive.into_iter().take(excess) {
            if actual(set) == 0 && size(set) == 0 && replica_sets::is_observed(set) {
                plan.delete(set.as_ref());
            }
        }
    }
}
