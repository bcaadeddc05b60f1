//! What ReplicaSets and ReplicationControllers have in common: a number of Pods of one template is kept.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use dodai_kit::plan::controller_reference;
use dodai_kit::{Kind, Owned, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::ResourceExt;
use kube::core::Selector;

use super::plan::{BURST_MAX, goes_before};
use crate::controllers::planted::{self, Bug};
use crate::controllers::{names, pods, selector};

/// The workload, and what was seen of its Pods.
pub(crate) struct Core<'a, O> {
    pub(crate) now: Timestamp,
    pub(crate) owner: &'a O,
    pub(crate) replicas: i32,
    pub(crate) min_ready_s: i32,
    pub(crate) selector: Selector,
    pub(crate) template: Option<&'a PodTemplateSpec>,
    /// The Pods that it controls, whatever their state.
    pub(crate) pods: &'a [Arc<Pod>],
    /// Pods without controller that it selects.
    pub(crate) orphans: &'a [Arc<Pod>],
    /// Names of all Pods of the namespace.
    pub(crate) names: &'a BTreeSet<String>,
    /// The generation that its status tells of.
    pub(crate) observed: Option<i64>,
}

/// What a status counts.
pub(crate) struct Counts {
    pub(crate) active: usize,
    pub(crate) fully_labelled: usize,
    pub(crate) ready: usize,
    pub(crate) available: usize,
    pub(crate) terminating: usize,
}

impl<O: Kind> Core<'_, O> {
    /// Plans what is to do, and counts.
    pub(crate) fn plan(&self, plan: &mut Plan) -> Counts {
        let (ours, others): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = self
            .pods
            .iter()
            .filter(|pod| !pods::is_terminal(pod))
            .partition(|pod| selector::selects(&self.selector, pod.labels()));
        let (terminating, active): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
            ours.into_iter().partition(|pod| pods::is_deleted(pod));
        if self.owner.meta().deletion_timestamp.is_none() {
            self.claim(plan, &others);
            // What was taken over is seen on the next pass; until then nobody knows how many there are.
            if plan.actions.is_empty() {
                self.scale(plan, &active);
            }
        }
        let counts = self.count(plan, &active, terminating.len());
        if plan.actions.is_empty() && self.observed != self.owner.meta().generation {
            // A Deployment takes the first count under a new size at its word, and lets others go for what is available.
            plan.confirm_owned(self.as_seen(pods::is_ready));
        }
        counts
    }

    /// Its Pods are these and no others. In the versions that were seen are those that `rests_on`.
    fn as_seen(&self, rests_on: impl Fn(&Pod) -> bool) -> Owned {
        let pods = self.pods.iter().map(Arc::as_ref);
        let (unchanged, seen): (Vec<&Pod>, Vec<&Pod>) = pods.partition(|pod| rests_on(pod));
        Owned::of::<Pod>(self.owner, Some(&self.selector)).unchanged(unchanged).seen(seen)
    }

    /// Lets go of Pods that are no longer selected, and takes over those that are and have no controller.
    fn claim(&self, plan: &mut Plan, others: &[&Arc<Pod>]) {
        let uid = self.owner.uid().unwrap_or_default();
        for pod in others.iter().filter(|pod| !pods::is_deleted(pod)) {
            plan.replace(&pods::released(pod.as_ref(), &uid));
        }
        let orphans: Vec<&Arc<Pod>> = self.orphans.iter().filter(|pod| pods::is_active(pod)).collect();
        if !orphans.is_empty() {
            // Its deletion may have begun, and its Pods been let go for it.
            plan.confirm(self.owner);
        }
        for pod in orphans {
            plan.replace(&pods::adopted(pod.as_ref(), controller_reference(self.owner)));
        }
    }

    fn scale(&self, plan: &mut Plan, active: &[&Arc<Pod>]) {
        let wanted = usize::try_from(self.replicas).unwrap_or(0);
        match active.len().cmp(&wanted) {
            Ordering::Equal => {}
            Ordering::Less => {
                let Some(template) = self.template else { return };
                let count = (wanted - active.len()).min(BURST_MAX);
                let (name, uid) = (self.owner.name_any(), self.owner.uid().unwrap_or_default());
                let taken = self.names.iter().map(String::as_str).collect();
                if !planted::is(Bug::ReplicaSetMakesUnconfirmed) {
                    plan.confirm_with(self.owner, self.as_seen(|_| false));
                }
                for pod in names::free_names(&name, &uid, count, &taken) {
                    let owner = controller_reference(self.owner);
                    let generate = Some(format!("{name}-"));
                    plan.create(&pods::from_template(template, self.owner.namespace(), pod, generate, owner));
                }
            }
            Ordering::Greater => {
                let count = (active.len() - wanted).min(BURST_MAX);
                let mut ranked: Vec<&Arc<Pod>> = active.to_vec();
                ranked.sort_by(|a, b| goes_before(a, b, self.now));
                plan.confirm_with(self.owner, self.as_seen(|_| true));
                for pod in &ranked[..count] {
                    plan.delete(pod.as_ref());
                }
            }
        }
    }

    fn count(&self, plan: &mut Plan, active: &[&Arc<Pod>], terminating: usize) -> Counts {
        let labels = self.template.and_then(|template| template.metadata.as_ref()?.labels.clone());
        let labels = labels.unwrap_or_default();
        let is_labelled =
            |pod: &&&Arc<Pod>| labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
        let mut available = 0;
        for pod in active {
            match pods::is_available(pod, self.min_ready_s, self.now) {
                Ok(is) => available += usize::from(is),
                Err(missing) => plan.again_in(missing),
            }
        }
        Counts {
            active: active.len(),
            fully_labelled: active.iter().filter(is_labelled).count(),
            ready: active.iter().filter(|pod| pods::is_ready(pod)).count(),
            available,
            terminating,
        }
    }
}
