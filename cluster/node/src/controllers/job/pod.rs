//! The Pods of a Job: their names, marks and finalizer.

use dodai_kit::plan::controller_reference;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kube::ResourceExt;

use crate::controllers::pods;

/// Finalizer of a Pod whose outcome is not counted yet.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Label and annotation of a Pod of an Indexed Job.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotation of a Pod with `backoffLimitPerIndex`: how often its index failed before.
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Annotation of a Pod that the Job controller deletes because it is not wanted now (suspended, fewer at a time): that
/// it fails is nobody's failure.
pub(super) const UNWANTED: &str = "node.dodai.dev/job-unwanted";

/// Whether its outcome is still to be counted.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// The same Pod, counted.
pub fn untracked(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    pod.finalizers_mut().retain(|finalizer| finalizer != FINALIZER);
    pod
}

/// Whether its deletion was begun by us, as one that is not wanted.
pub(super) fn is_unwanted(pod: &Pod) -> bool {
    pod.annotations().contains_key(UNWANTED)
}

/// The same Pod, marked as not wanted.
pub(super) fn unwanted(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    pod.annotations_mut().insert(UNWANTED.to_owned(), "true".to_owned());
    pod
}

/// The completion index.
pub(super) fn index(pod: &Pod) -> Option<i32> {
    pod.annotations().get(INDEX).or_else(|| pod.labels().get(INDEX))?.parse().ok()
}

/// How often its index had failed before it.
pub(super) fn index_failures(pod: &Pod) -> i32 {
    pod.annotations().get(INDEX_FAILURES).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The same Pod, which knows how often its index failed before.
pub(super) fn with_index_failures(mut pod: Pod, failures: i32) -> Pod {
    pod.annotations_mut().insert(INDEX_FAILURES.to_owned(), failures.to_string());
    pod
}

/// Whether it is being deleted and nobody will ever tell how it ended: it was never bound to a Node, or the Node let go
/// of it (a grace of 0) without saying.
pub(super) fn is_abandoned(pod: &Pod) -> bool {
    pods::is_terminating(pod)
        && (pods::node(pod).is_none() || pod.metadata.deletion_grace_period_seconds == Some(0))
}

/// Whether it ended well.
pub(super) fn has_succeeded(pod: &Pod) -> bool {
    pods::phase(pod) == "Succeeded"
}

/// Whether it ended in another way.
pub(super) fn has_failed(pod: &Pod) -> bool {
    pods::phase(pod) == "Failed" || is_abandoned(pod)
}

/// The Pod of this attempt, for an Indexed Job of this index.
pub(super) fn new(job: &Job, index: Option<i32>, attempt: u64) -> Option<Pod> {
    let spec = job.spec.as_ref()?;
    let base = base_name(job, index);
    let generate = Some(format!("{base}-"));
    let owner = controller_reference(job);
    let name = format!("{base}-{attempt}");
    let mut pod = pods::from_template(&spec.template, job.namespace(), name, generate, owner);
    pod.finalizers_mut().push(FINALIZER.to_owned());
    if let Some(index) = index {
        pod.labels_mut().insert(INDEX.to_owned(), index.to_string());
        pod.annotations_mut().insert(INDEX.to_owned(), index.to_string());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(base);
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            let env = container.env.get_or_insert_default();
            if !env.iter().any(|var| var.name == "JOB_COMPLETION_INDEX") {
                env.push(index_variable());
            }
        }
    }
    Some(pod)
}

fn index_variable() -> EnvVar {
    EnvVar {
        name: "JOB_COMPLETION_INDEX".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// Name of a Pod without its attempt.
pub(super) fn base_name(job: &Job, index: Option<i32>) -> String {
    match index {
        None => job.name_any(),
        Some(index) => format!("{}-{index}", job.name_any()),
    }
}

/// The attempt that a Pod of this base name is.
pub(super) fn attempt(base: &str, pod: &Pod) -> Option<u64> {
    pod.metadata.name.as_deref()?.strip_prefix(base)?.strip_prefix('-')?.parse().ok()
}
