//! Decides for a DaemonSet: which Nodes need a Pod, which Pods are too many, which are to be replaced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dodai_kit::plan::controller_reference;
use dodai_kit::{Owned, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::core::Selector;

use super::{Names, pod};
use crate::controllers::deployment::scaled;
use crate::controllers::history::{self, History, Step};
use crate::controllers::planted::{self, Bug};
use crate::controllers::replica_set::{BURST_MAX, count, count_nonzero};
use crate::controllers::scheduler::{Place, place};
use crate::controllers::{names, pods, selector};

/// How long a Pod that failed stays before it is replaced, so that one that fails at once does not spin.
pub(super) const FAILED_STAYS: Duration = Duration::from_secs(10);

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The DaemonSet.
    pub set: Arc<DaemonSet>,
    /// The Pods that it controls, whatever their state.
    pub pods: Vec<Arc<Pod>>,
    /// Pods without controller that it selects.
    pub orphans: Vec<Arc<Pod>>,
    /// Names of all Pods of the namespace.
    pub names: Names,
    /// All Nodes.
    pub nodes: Vec<Arc<Node>>,
    /// The revisions that it controls, oldest first.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// Revisions without controller that it selects.
    pub orphaned_revisions: Vec<Arc<ControllerRevision>>,
    /// Names of all revisions of the namespace.
    pub revision_names: Names,
}

/// One Node, and what is there.
struct Site<'a> {
    name: String,
    place: Place,
    /// Pods that are not being deleted, oldest first.
    pods: Vec<&'a Arc<Pod>>,
}

/// What one pass works on.
struct Pass<'a> {
    world: &'a World,
    spec: &'a DaemonSetSpec,
    hash: String,
    sites: Vec<Site<'a>>,
    /// Most Pods beyond one for a Node, and most Nodes without an available Pod.
    surge: usize,
    unavailable: usize,
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
        hash_label: history::LABEL,
    };
    let update = match is_deleted {
        true => None,
        false => match history::step(&mut plan, set, &spec.template, &history, status.collision_count) {
            Step::At(revision) => Some(revision),
            Step::Underway => return plan,
            Step::Collision => {
                status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
                plan.set_status(&status);
                return plan;
            }
        },
    };
    let newest = update.or_else(|| world.revisions.last().cloned());
    let hash = newest.map(|revision| hash_of(&revision)).unwrap_or_default();
    let pass = Pass::new(world, spec, hash);
    pass.count(&mut plan, &mut status);
    if !is_deleted {
        let mut changes = Plan::none();
        pass.settle(&mut changes);
        if changes.actions.is_empty() {
            pass.roll(&mut changes);
        }
        if changes.actions.is_empty() {
            let in_use: Vec<&str> = world.pods.iter().map(|pod| pod::hash(pod)).collect();
            history::truncate(&mut plan, &world.revisions, spec.revision_history_limit, |revision| {
                let hash = hash_of(revision);
                hash == pass.hash || in_use.contains(&hash.as_str())
            });
        } else {
            if !planted::is(Bug::DaemonSetMakesUnconfirmed) {
                let pods = world.pods.iter().map(Arc::as_ref);
                plan.confirm_with(set, Owned::of::<Pod>(set, Some(&selector)).unchanged(pods));
            }
            changes.actions.truncate(BURST_MAX);
            plan.actions.append(&mut changes.actions);
        }
        if let Some(next) = changes.next {
            plan.again_in(next);
        }
    }
    plan.set_status(&status);
    plan
}

fn hash_of(revision: &ControllerRevision) -> String {
    revision.labels().get(history::LABEL).cloned().unwrap_or_default()
}

/// Takes over Pods that are selected and have no controller, lets go of those that are not selected any more.
fn claim(plan: &mut Plan, world: &World, selector: &Selector) -> bool {
    let uid = world.set.uid().unwrap_or_default();
    let lost = |pod: &&Arc<Pod>| !pods::is_deleted(pod) && !selector::selects(selector, pod.labels());
    for pod in world.pods.iter().filter(lost) {
        plan.replace(&pods::released(pod.as_ref(), &uid));
    }
    let orphans: Vec<_> = world.orphans.iter().filter(|pod| pods::is_active(pod)).collect();
    if !orphans.is_empty() {
        plan.confirm(world.set.as_ref());
    }
    for pod in orphans {
        plan.replace(&pods::adopted(pod.as_ref(), controller_reference(world.set.as_ref())));
    }
    !plan.actions.is_empty()
}

impl<'a> Pass<'a> {
    fn new(world: &'a World, spec: &'a DaemonSetSpec, hash: String) -> Pass<'a> {
        let draft = pod::draft(&world.set, spec, String::new());
        let mut here: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
        for pod in world.pods.iter().filter(|pod| !pods::is_deleted(pod)) {
            here.entry(pod::node(pod).unwrap_or_default()).or_default().push(pod);
        }
        for pods in here.values_mut() {
            // Bound ones first: they run.
            pods.sort_by_key(|pod| (pods::node(pod).is_none(), pods::created_at(pod), pod.name_any()));
        }
        let site = |node: &Arc<Node>| Site {
            name: node.name_any(),
            place: place(node, &draft),
            pods: here.get(node.name_any().as_str()).cloned().unwrap_or_default(),
        };
        let sites: Vec<Site<'_>> = world.nodes.iter().map(site).collect();
        let desired = count(sites.iter().filter(|site| site.place == Place::Fits).count());
        let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let of = |value: Option<&IntOrString>, default: i32| {
            scaled(value.unwrap_or(&IntOrString::Int(default)), desired, true)
        };
        let surge = of(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 0);
        let unavailable = of(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1);
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let unavailable = if planted::is(Bug::DaemonSetForgetsUnavailable) { i32::MAX } else { unavailable };
        let size = |number: i32| usize::try_from(number).unwrap_or(0);
        Pass { world, spec, hash, sites, surge: size(surge), unavailable: size(unavailable) }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready_s = self.spec.min_ready_seconds.unwrap_or(0);
        pods::is_available(pod, min_ready_s, self.world.now).unwrap_or(false)
    }

    fn is_new(&self, pod: &Pod) -> bool {
        pod::hash(pod) == self.hash
    }

    fn count(&self, plan: &mut Plan, status: &mut DaemonSetStatus) {
        let min_ready_s = self.spec.min_ready_seconds.unwrap_or(0);
        for pod in self.sites.iter().flat_map(|site| &site.pods) {
            if let Err(missing) = pods::is_available(pod, min_ready_s, self.world.now) {
                plan.again_in(missing);
            }
        }
        let wanted = || self.sites.iter().filter(|site| site.place == Place::Fits);
        let first = |is: &dyn Fn(&Pod) -> bool| {
            count(wanted().filter(|site| site.pods.first().is_some_and(|pod| is(pod))).count())
        };
        let desired = count(wanted().count());
        let available = first(&|pod| self.is_available(pod));
        let stray = self.sites.iter().filter(|site| site.place != Place::Fits && !site.pods.is_empty());
        status.observed_generation = self.world.set.metadata.generation;
        status.desired_number_scheduled = desired;
        status.current_number_scheduled = first(&|_| true);
        status.number_misscheduled = count(stray.count());
        status.number_ready = first(&pods::is_ready);
        status.number_available = count_nonzero(available);
        status.number_unavailable = count_nonzero((desired - available).max(0));
        status.updated_number_scheduled = count_nonzero(count(
            wanted().filter(|site| site.pods.iter().any(|pod| self.is_new(pod))).count(),
        ));
    }

    /// A Pod where one is missing, none where there should be none, and no more than one otherwise.
    fn settle(&self, plan: &mut Plan) {
        for site in &self.sites {
            match site.place {
                Place::Fits if site.pods.is_empty() => self.make(plan, &site.name),
                Place::Refuses => site.pods.iter().for_each(|pod| plan.delete(pod.as_ref())),
                Place::Fits | Place::Tolerates => self.thin_out(plan, site),
            }
        }
        // Made for a Node that has gone; one that ran there is a matter of the Pods' own controller.
        let is_known = |name: &str| self.sites.iter().any(|site| site.name == name);
        for pod in self.world.pods.iter().filter(|pod| pods::is_active(pod) && pods::node(pod).is_none()) {
            if !pod::node(pod).is_some_and(is_known) {
                plan.delete(pod.as_ref());
            }
        }
    }

    fn make(&self, plan: &mut Plan, node: &str) {
        let set = self.world.set.as_ref();
        let mut seed = format!("{}/{node}/{}", set.uid().unwrap_or_default(), self.hash);
        if planted::is(Bug::DaemonSetMakesUnconfirmed) {
            seed.push_str(&self.world.now.to_string());
        }
        let taken = self.world.names.iter().map(String::as_str).collect();
        for name in names::free_names(&set.name_any(), &seed, 1, &taken) {
            plan.create(&pod::new(set, self.spec, name, node, &self.hash));
        }
    }

    /// Removes Pods that ended, and those beyond what one Node may have.
    fn thin_out(&self, plan: &mut Plan, site: &Site<'_>) {
        let mut running = Vec::new();
        for pod in &site.pods {
            match pods::phase(pod) {
                "Succeeded" => plan.delete(pod.as_ref()),
                "Failed" => match left(pod, self.world.now) {
                    Some(left) => plan.again_in(left),
                    None => plan.delete(pod.as_ref()),
                },
                _ => running.push(*pod),
            }
        }
        if self.surge == 0 {
            running.iter().skip(1).for_each(|pod| plan.delete(pod.as_ref()));
            return;
        }
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| self.is_new(pod));
        for pod in new.iter().skip(1).chain(old.iter().skip(1)) {
            plan.delete(pod.as_ref());
        }
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (self.is_available(new) || !self.is_available(old))
        {
            plan.delete(old.as_ref());
        }
    }

    /// One step of the roll-out to the newest template.
    fn roll(&self, plan: &mut Plan) {
        let strategy = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
        if strategy.is_some_and(|strategy| strategy != "RollingUpdate") {
            return;
        }
        if self.surge > 0 { self.roll_with_surge(plan) } else { self.roll_in_place(plan) }
    }

    fn roll_in_place(&self, plan: &mut Plan) {
        let (mut without, mut useless, mut candidates) = (0, Vec::new(), Vec::new());
        for site in self.sites.iter().filter(|site| site.place == Place::Fits) {
            match site.pods.first() {
                Some(pod) if self.is_available(pod) => {
                    if !self.is_new(pod) {
                        candidates.push(*pod);
                    }
                }
                Some(pod) if !self.is_new(pod) => {
                    without += 1;
                    useless.push(*pod);
                }
                _ => without += 1,
            }
        }
        let room = self.unavailable.saturating_sub(without).min(candidates.len());
        for pod in useless.into_iter().chain(candidates.into_iter().take(room)) {
            plan.delete(pod.as_ref());
        }
    }

    fn roll_with_surge(&self, plan: &mut Plan) {
        let (mut extra, mut useless, mut candidates) = (0, Vec::new(), Vec::new());
        for site in self.sites.iter().filter(|site| site.place == Place::Fits) {
            match site.pods.as_slice() {
                [only] if !self.is_new(only) => {
                    if self.is_available(only) {
                        candidates.push(site);
                    } else {
                        useless.push(site);
                    }
                }
                [_, _, ..] => extra += 1,
                _ => {}
            }
        }
        let room = self.surge.saturating_sub(extra).min(candidates.len());
        for site in useless.into_iter().chain(candidates.into_iter().take(room)) {
            self.make(plan, &site.name);
        }
    }
}

/// How long a failed Pod still stays; `None` when its time is over.
fn left(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let since = pods::finished_at(pod)?;
    let gone_ms = now.as_millisecond().saturating_sub(since.as_millisecond()).max(0);
    let stays_ms = i64::try_from(FAILED_STAYS.as_millis()).unwrap_or(i64::MAX);
    (gone_ms < stays_ms).then(|| Duration::from_millis((stays_ms - gone_ms).unsigned_abs()))
}
