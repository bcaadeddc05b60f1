//! The Pods of a StatefulSet: their numbers, and what they have of the number.

use dodai_kit::plan::controller_reference;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, Volume};
use kube::ResourceExt;

use super::claims;
use crate::controllers::{history, pods};

/// Label: the Pod's own name, for Services of one Pod.
const LABEL_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// Label: the Pod's number.
const LABEL_INDEX: &str = "apps.kubernetes.io/pod-index";

/// `spec.replicas`.
pub(super) fn replicas(spec: &StatefulSetSpec) -> i32 {
    spec.replicas.unwrap_or(1).max(0)
}

/// The number of the first Pod.
pub(super) fn first(spec: &StatefulSetSpec) -> i32 {
    spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0).max(0)
}

/// The name of the Pod with this number.
pub(super) fn name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name_any())
}

/// The number of a Pod, if its name has one.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let digits = pod.metadata.name.as_deref()?.strip_prefix(&set.name_any())?.strip_prefix('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// The revision that a Pod is of.
pub(super) fn revision(pod: &Pod) -> &str {
    pod.labels().get(history::LABEL).map_or("", String::as_str)
}

/// Whether it runs and is ready.
pub(super) fn is_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

/// A Pod of this revision and number.
pub(super) fn new(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    revision: &ControllerRevision,
    ordinal: i32,
) -> Option<Pod> {
    let template = history::template(revision)?;
    let generate = Some(format!("{}-", set.name_any()));
    let name = name(set, ordinal);
    let owner = controller_reference(set);
    let mut pod = pods::from_template(&template, set.namespace(), name.clone(), generate, owner);
    pod.labels_mut().insert(history::LABEL.to_owned(), revision.name_any());
    identify(&mut pod, ordinal);
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name);
    pod_spec.subdomain = spec.service_name.clone().filter(|name| !name.is_empty());
    let claims = claims::templates(spec);
    let volumes = pod_spec.volumes.take().unwrap_or_default();
    let named = |volume: &Volume| claims.iter().any(|claim| claim.name_any() == volume.name);
    let mut all: Vec<Volume> = claims
        .iter()
        .map(|claim| Volume {
            name: claim.name_any(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claims::name(set, claim, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    all.extend(volumes.into_iter().filter(|volume| !named(volume)));
    pod_spec.volumes = Some(all).filter(|volumes| !volumes.is_empty());
    Some(pod)
}

fn identify(pod: &mut Pod, ordinal: i32) {
    let name = pod.name_any();
    let labels = pod.labels_mut();
    labels.insert(LABEL_NAME.to_owned(), name);
    labels.insert(LABEL_INDEX.to_owned(), ordinal.to_string());
}

/// The same Pod with the labels of its number; `None` if it has them.
pub(super) fn identified(pod: &Pod, ordinal: i32) -> Option<Pod> {
    let mut identified = pod.clone();
    identify(&mut identified, ordinal);
    (identified.labels() != pod.labels()).then_some(identified)
}
