//! Decides for a StatefulSet: which Pod is next to make, to let go, or to replace.
//!
//! With `OrderedReady` a pass makes or deletes one Pod at most, and only if all before it are available.

use std::sync::Arc;

use dodai_kit::plan::controller_reference;
use dodai_kit::{Owned, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::core::Selector;

use super::{Names, claims, pod};
use crate::controllers::history::{self, History, Step};
use crate::controllers::planted::{self, Bug};
use crate::controllers::replica_set::{BURST_MAX, count, count_nonzero};
use crate::controllers::{pods, selector};

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The StatefulSet.
    pub set: Arc<StatefulSet>,
    /// The Pods that it controls, whatever their state.
    pub pods: Vec<Arc<Pod>>,
    /// Pods without controller that it selects and that have a name of its.
    pub orphans: Vec<Arc<Pod>>,
    /// Names of all Pods of the namespace.
    pub names: Names,
    /// The revisions that it controls, oldest first.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// Revisions without controller that it selects.
    pub orphaned_revisions: Vec<Arc<ControllerRevision>>,
    /// Names of all revisions of the namespace.
    pub revision_names: Names,
    /// Claims with names that the set's would have.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
}

/// What one pass works on.
struct Pass<'a> {
    world: &'a World,
    spec: &'a StatefulSetSpec,
    selector: Selector,
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
    /// One Pod after the other.
    ordered: bool,
    /// Places in order of their numbers; empty where there is no Pod.
    places: Vec<(i32, Option<&'a Arc<Pod>>)>,
    /// Pods beyond the places, highest number first.
    condemned: Vec<(i32, &'a Arc<Pod>)>,
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    let set = world.set.as_ref();
    let Some(spec) = &set.spec else { return plan };
    let Some(selector) = selector::of_workload(&spec.selector) else { return plan };
    let is_deleted = set.metadata.deletion_timestamp.is_some();
    if !is_deleted && claim(&mut plan, world, &selector) {
        return plan;
    }
    let mut status = set.status.clone().unwrap_or_default();
    let history = History {
        revisions: &world.revisions,
        orphans: &world.orphaned_revisions,
        names: &world.revision_names,
        hash_label: history::LABEL_HASH,
    };
    let found = world.revisions.iter().find(|revision| Some(revision.name_any()) == status.update_revision);
    let update = match (is_deleted, found) {
        // Nothing new is made any more.
        (true, Some(found)) => found.clone(),
        (true, None) => return plan,
        (false, _) => match history::step(&mut plan, set, &spec.template, &history, status.collision_count) {
            Step::At(revision) => revision,
            Step::Underway => return plan,
            Step::Collision => {
                status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
                plan.set_status(&status);
                return plan;
            }
        },
    };
    let current =
        world.revisions.iter().find(|revision| Some(revision.name_any()) == status.current_revision);
    let current = current.unwrap_or(&update).clone();
    let pass = Pass::new(world, spec, selector, current, update);
    pass.count(&mut plan, &mut status);
    if !is_deleted {
        pass.act(&mut plan);
        if plan.actions.is_empty() {
            pass.clean_up(&mut plan);
        }
    }
    plan.set_status(&status);
    plan
}

/// Takes over Pods that have a name of the set's and no controller, lets go of those that are not selected any more.
fn claim(plan: &mut Plan, world: &World, selector: &Selector) -> bool {
    let uid = world.set.uid().unwrap_or_default();
    let lost = |pod: &&Arc<Pod>| !pods::is_deleted(pod) && !selector::selects(selector, pod.labels());
    for pod in world.pods.iter().filter(lost) {
        plan.replace(&pods::released(pod.as_ref(), &uid));
    }
    let orphans: Vec<_> = world.orphans.iter().filter(|pod| !pods::is_deleted(pod)).collect();
    if !orphans.is_empty() {
        plan.confirm(world.set.as_ref());
    }
    for pod in orphans {
        plan.replace(&pods::adopted(pod.as_ref(), controller_reference(world.set.as_ref())));
    }
    !plan.actions.is_empty()
}

impl<'a> Pass<'a> {
    fn new(
        world: &'a World,
        spec: &'a StatefulSetSpec,
        selector: Selector,
        current: Arc<ControllerRevision>,
        update: Arc<ControllerRevision>,
    ) -> Pass<'a> {
        let set = world.set.as_ref();
        let numbers = pod::first(spec)..pod::first(spec).saturating_add(pod::replicas(spec));
        let of = |wanted: i32| world.pods.iter().find(|pod| pod::ordinal(set, pod) == Some(wanted));
        let mut condemned: Vec<_> = world
            .pods
            .iter()
            .filter_map(|pod| Some((pod::ordinal(set, pod)?, pod)))
            .filter(|(ordinal, _)| !numbers.contains(ordinal))
            .collect();
        condemned.sort_by_key(|(ordinal, _)| -ordinal);
        Pass {
            world,
            spec,
            selector,
            current,
            update,
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel")
                && !planted::is(Bug::StatefulSetForgetsOrder),
            places: numbers.map(|ordinal| (ordinal, of(ordinal))).collect(),
            condemned,
        }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready_s = self.spec.min_ready_seconds.unwrap_or(0);
        pod::is_ready(pod)
            && !pods::is_deleted(pod)
            && pods::is_available(pod, min_ready_s, self.world.now).unwrap_or(false)
    }

    /// The counts, and the revision that the set is at when its roll-out is through.
    fn count(&self, plan: &mut Plan, status: &mut StatefulSetStatus) {
        let min_ready_s = self.spec.min_ready_seconds.unwrap_or(0);
        let all = &self.world.pods;
        let number = |is: &dyn Fn(&Pod) -> bool| count(all.iter().filter(|pod| is(pod)).count());
        for pod in all.iter().filter(|pod| pod::is_ready(pod)) {
            if let Err(missing) = pods::is_available(pod, min_ready_s, self.world.now) {
                plan.again_in(missing);
            }
        }
        let of = |revision: &ControllerRevision| {
            let name = revision.name_any();
            number(&|pod| !pods::is_deleted(pod) && pod::revision(pod) == name)
        };
        let (ready, updated) = (number(&pod::is_ready), of(&self.update));
        let available = |pod: &Pod| {
            pod::is_ready(pod) && pods::is_available(pod, min_ready_s, self.world.now).unwrap_or(false)
        };
        status.observed_generation = self.world.set.metadata.generation;
        status.replicas = count(all.len());
        status.ready_replicas = count_nonzero(ready);
        status.available_replicas = Some(number(&available));
        status.current_replicas = count_nonzero(of(&self.current));
        status.updated_replicas = count_nonzero(updated);
        status.current_revision = Some(self.current.name_any());
        status.update_revision = Some(self.update.name_any());
        status.collision_count = Some(status.collision_count.unwrap_or(0));
        let replicas = pod::replicas(self.spec);
        if self.is_rolling() && [updated, ready, status.replicas] == [replicas; 3] {
            status.current_replicas = status.updated_replicas;
            status.current_revision = status.update_revision.clone();
        }
    }

    fn is_rolling(&self) -> bool {
        let strategy = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
        strategy.is_none_or(|strategy| strategy == "RollingUpdate")
    }

    /// Places below this one keep the revision that they have.
    fn partition(&self) -> i32 {
        let rolling =
            self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        rolling.and_then(|rolling| rolling.partition).unwrap_or(0).max(0)
    }

    fn act(&self, plan: &mut Plan) {
        let mut changes = Plan::none();
        // In order, nothing further happens until what is underway is done.
        let is_free = |goes_on: bool| goes_on || !self.ordered;
        if is_free(self.fill_places(&mut changes)) {
            self.keep_claims(&mut changes);
            if is_free(self.let_go(&mut changes)) {
                self.replace_one(&mut changes);
            }
        }
        if changes.actions.is_empty() {
            return;
        }
        // Every decision rests on all Pods: it holds while none of them changed.
        let set = self.world.set.as_ref();
        let pods = self.world.pods.iter().map(Arc::as_ref);
        plan.confirm_with(set, Owned::of::<Pod>(set, Some(&self.selector)).unchanged(pods));
        changes.actions.truncate(BURST_MAX);
        plan.actions.append(&mut changes.actions);
    }

    /// Makes the Pods that are missing, and removes those that ended. `false` if something is underway.
    fn fill_places(&self, plan: &mut Plan) -> bool {
        let mut goes_on = true;
        for (ordinal, found) in &self.places {
            let Some(pod) = found else {
                self.make(plan, *ordinal);
                if self.ordered {
                    return false;
                }
                goes_on = false;
                continue;
            };
            if pods::is_terminal(pod) {
                if !pods::is_deleted(pod) {
                    plan.delete(pod.as_ref());
                }
                if self.ordered {
                    return false;
                }
                goes_on = false;
                continue;
            }
            if pods::phase(pod) == "Pending" {
                self.make_claims(plan, *ordinal);
            }
            if self.ordered && !self.is_available(pod) {
                return false;
            }
            if let Some(identified) = pod::identified(pod, *ordinal).filter(|_| !pods::is_deleted(pod)) {
                plan.replace(&identified);
            }
        }
        goes_on
    }

    /// Of which revision a Pod of this number is made.
    fn revision_for(&self, ordinal: i32) -> &ControllerRevision {
        let keeps = self.is_rolling() && ordinal < pod::first(self.spec).saturating_add(self.partition());
        if keeps { &self.current } else { &self.update }
    }

    fn make(&self, plan: &mut Plan, ordinal: i32) {
        let set = self.world.set.as_ref();
        // A claim on its way out would be bound to a Pod that then waits for ever; the name may be somebody else's.
        let goes = |claim: &Arc<PersistentVolumeClaim>| {
            claim.metadata.deletion_timestamp.is_some() && self.is_claim_of(claim, ordinal)
        };
        if self.world.claims.iter().any(goes) || self.world.names.contains(&pod::name(set, ordinal)) {
            return;
        }
        self.make_claims(plan, ordinal);
        if let Some(pod) = pod::new(set, self.spec, self.revision_for(ordinal), ordinal) {
            plan.create(&pod);
        }
    }

    fn is_claim_of(&self, claim: &PersistentVolumeClaim, ordinal: i32) -> bool {
        let name = claim.name_any();
        let mut templates = claims::templates(self.spec).iter();
        templates.any(|template| claims::name(&self.world.set, template, ordinal) == name)
    }

    fn make_claims(&self, plan: &mut Plan, ordinal: i32) {
        for template in claims::templates(self.spec) {
            let claim = claims::new(&self.world.set, self.spec, template, ordinal);
            if !self.world.claims.iter().any(|known| known.name_any() == claim.name_any()) {
                plan.create(&claim);
            }
        }
    }

    /// Gives claims of Pods that are there the owners that the policy asks for.
    fn keep_claims(&self, plan: &mut Plan) {
        let staying = self.places.iter().filter_map(|(ordinal, pod)| Some((*ordinal, (*pod)?, false)));
        let going = self.condemned.iter().map(|(ordinal, pod)| (*ordinal, *pod, true));
        for (ordinal, pod, condemned) in staying.chain(going) {
            for claim in self.world.claims.iter().filter(|claim| self.is_claim_of(claim, ordinal)) {
                if claim.metadata.deletion_timestamp.is_none()
                    && let Some(owned) = claims::owned(&self.world.set, self.spec, claim, pod, condemned)
                {
                    plan.replace(&owned);
                }
            }
        }
    }

    /// Deletes Pods beyond the places, highest number first. `false` if something is underway.
    fn let_go(&self, plan: &mut Plan) -> bool {
        // What is not well may go before others, or nothing would ever move.
        let is_unwell = |pod: &Pod| !self.is_available(pod) && !pods::is_terminal(pod);
        let unwell = self.condemned.iter().rev().find(|(_, pod)| is_unwell(pod));
        for (ordinal, pod) in &self.condemned {
            if pods::is_deleted(pod) {
                if self.ordered {
                    return false;
                }
                continue;
            }
            let is_first_unwell = unwell.is_some_and(|(first, _)| first == ordinal);
            // One that ended never gets well; upstream would wait for it.
            if self.ordered && is_unwell(pod) && !is_first_unwell {
                return false;
            }
            plan.delete(pod.as_ref());
            if self.ordered {
                return false;
            }
        }
        true
    }

    /// Deletes the highest Pod of another revision, if all above it are of the new one and available. One that serves
    /// goes only while all others serve too; upstream does not look at those below it.
    fn replace_one(&self, plan: &mut Plan) {
        if !self.is_rolling() {
            return;
        }
        let serves = |found: &Option<&Arc<Pod>>| found.is_some_and(|pod| self.is_available(pod));
        let all_serve = self.places.iter().all(|(_, found)| serves(found));
        let update = self.update.name_any();
        let partition = usize::try_from(self.partition()).unwrap_or(0);
        for (_, found) in self.places.iter().skip(partition).rev() {
            let Some(pod) = found else { return };
            let is_old = pod::revision(pod) != update && !pods::is_deleted(pod);
            if is_old && (all_serve || !self.is_available(pod)) {
                plan.delete(pod.as_ref());
                return;
            }
            if !is_old && !self.is_available(pod) {
                return;
            }
        }
    }

    fn clean_up(&self, plan: &mut Plan) {
        let names: Vec<&str> = self.world.pods.iter().map(|pod| pod::revision(pod)).collect();
        let (current, update) = (self.current.name_any(), self.update.name_any());
        history::truncate(plan, &self.world.revisions, self.spec.revision_history_limit, |revision| {
            let name = revision.name_any();
            name == current || name == update || names.contains(&name.as_str())
        });
    }
}
