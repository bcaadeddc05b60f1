//! A Deployment's ReplicaSets: which is new, how one is made, what its annotations say.

use std::collections::BTreeMap;

use dodai_kit::plan::controller_reference;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::ResourceExt;

use super::template::{self, LABEL_HASH};
use crate::controllers::names;

/// Annotation: the revision of the template, counted from 1.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation: earlier revisions that this ReplicaSet was.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotation: the Deployment's replicas when this ReplicaSet was last sized.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation: the most Pods that the Deployment might have had then.
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that its ReplicaSets do not take over.
const NOT_COPIED: [&str; 7] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
    "deployment.kubernetes.io/rollback-to",
];
/// Longest list of earlier revisions, in characters.
const REVISION_HISTORY_LENGTH_MAX: usize = 2000;

/// `spec.replicas`.
pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `status.replicas`: Pods that there are.
pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

/// `status.availableReplicas`.
pub(super) fn told_available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// Whether its status is about its spec as it is now.
pub(super) fn is_observed(set: &ReplicaSet) -> bool {
    let observed = set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
    observed >= set.metadata.generation.unwrap_or(0)
}

/// Available Pods, as far as they stay: a status from before a scale-down tells of Pods that are about to go.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    told_available(set).min(size(set))
}

/// The revision that the annotation tells; 0 without one.
pub(super) fn revision(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The Deployment's replicas when this ReplicaSet was last sized.
pub(super) fn desired_then(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(DESIRED)?.parse().ok()
}

/// The most Pods that the Deployment might have had when this ReplicaSet was last sized.
pub(super) fn max_then(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(MAX)?.parse().ok().filter(|max| *max > 0)
}

fn size_annotations(deployment: &Deployment, spec: &DeploymentSpec) -> [(String, String); 2] {
    let (surge, _) = template::limits(deployment);
    let replicas = template::replicas(spec);
    [(DESIRED.to_owned(), replicas.to_string()), (MAX.to_owned(), replicas.saturating_add(surge).to_string())]
}

/// The same ReplicaSet with this size. `None` if it has it, with the annotations that go with it.
pub(super) fn sized(
    set: &ReplicaSet,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    replicas: i32,
) -> Option<ReplicaSet> {
    let mut sized = set.clone();
    sized.spec.get_or_insert_default().replicas = Some(replicas);
    sized.annotations_mut().extend(size_annotations(deployment, spec));
    (sized.spec != set.spec || sized.annotations() != set.annotations()).then_some(sized)
}

/// The name that a ReplicaSet of the template would get.
pub(super) fn name(deployment: &Deployment, spec: &DeploymentSpec) -> String {
    format!("{}-{}", deployment.name_any(), hash(deployment, spec))
}

fn hash(deployment: &Deployment, spec: &DeploymentSpec) -> String {
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    names::hash_of(&template::without_hash(&spec.template), collisions)
}

/// A ReplicaSet for the template.
pub(super) fn new(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    replicas: i32,
    revision: i64,
) -> ReplicaSet {
    let hash = hash(deployment, spec);
    let mut template = template::without_hash(&spec.template);
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(LABEL_HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(LABEL_HASH.to_owned(), hash);
    let mut annotations = copied_annotations(deployment);
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations.extend(size_annotations(deployment, spec));
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name(deployment, spec)),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector: LabelSelector { ..selector },
            template: Some(template),
        }),
        status: None,
    }
}

fn copied_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let mut annotations = deployment.annotations().clone();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
    annotations
}

/// The new ReplicaSet with revision, annotations and `minReadySeconds` as the Deployment now has them. `None` if it has.
pub(super) fn synced(
    set: &ReplicaSet,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    wanted_revision: i64,
) -> Option<ReplicaSet> {
    let mut synced = set.clone();
    let old = revision(set);
    let annotations = synced.annotations_mut();
    annotations.extend(copied_annotations(deployment));
    if old < wanted_revision {
        if old > 0 {
            let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
            *history = if history.is_empty() { old.to_string() } else { format!("{history},{old}") };
            while history.len() > REVISION_HISTORY_LENGTH_MAX
                && let Some(comma) = history.find(',')
            {
                history.drain(..=comma);
            }
        }
        annotations.insert(REVISION.to_owned(), wanted_revision.to_string());
    }
    let min_ready = |seconds: Option<i32>| seconds.unwrap_or(0);
    let set_spec = synced.spec.get_or_insert_default();
    if min_ready(set_spec.min_ready_seconds) != min_ready(spec.min_ready_seconds) {
        set_spec.min_ready_seconds = spec.min_ready_seconds;
    }
    (synced.annotations() != set.annotations() || synced.spec != set.spec).then_some(synced)
}
