//! The claims of a StatefulSet's Pods: one for each template and number, kept when the Pod goes unless
//! `persistentVolumeClaimRetentionPolicy` says otherwise. A claim that may go names its owner, and the API server's
//! garbage collection does the rest.

use dodai_kit::plan::controller_reference;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::pod;

/// `spec.volumeClaimTemplates`.
pub(super) fn templates(spec: &StatefulSetSpec) -> &[PersistentVolumeClaim] {
    spec.volume_claim_templates.as_deref().unwrap_or_default()
}

/// The name of the claim of this template for this number.
pub(super) fn name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}", template.name_any(), pod::name(set, ordinal))
}

/// Whether a claim has the name of one that the set would make.
pub(super) fn is_of(set: &StatefulSet, claim: &PersistentVolumeClaim) -> bool {
    let name = claim.name_any();
    let Some(spec) = &set.spec else { return false };
    templates(spec).iter().any(|template| {
        let rest = name.strip_prefix(&format!("{}-{}-", template.name_any(), set.name_any()));
        rest.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// The claim of this template for this number.
pub(super) fn new(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    template: &PersistentVolumeClaim,
    ordinal: i32,
) -> PersistentVolumeClaim {
    let mut labels = template.labels().clone();
    labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
    let owner = policy(spec).when_deleted.then(|| controller_reference(set));
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name(set, template, ordinal)),
            namespace: set.namespace(),
            labels: Some(labels),
            annotations: template.metadata.annotations.clone(),
            finalizers: template.metadata.finalizers.clone(),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Whether claims go: when their Pod is scaled away, when the set is deleted.
struct Policy {
    when_scaled: bool,
    when_deleted: bool,
}

fn policy(spec: &StatefulSetSpec) -> Policy {
    let policy = spec.persistent_volume_claim_retention_policy.as_ref();
    let goes = |word: Option<&String>| word.is_some_and(|word| word == "Delete");
    Policy {
        when_scaled: goes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        when_deleted: goes(policy.and_then(|policy| policy.when_deleted.as_ref())),
    }
}

/// The claim with the owners that the policy gives it; `None` if it has them. `pod` is the one that uses it, which is
/// `condemned` if its number is beyond the replicas.
pub(super) fn owned(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    claim: &PersistentVolumeClaim,
    pod: &Pod,
    condemned: bool,
) -> Option<PersistentVolumeClaim> {
    let ours = |owner: &OwnerReference| {
        [set.metadata.uid.as_ref(), pod.metadata.uid.as_ref()].contains(&Some(&owner.uid))
    };
    let mut owners = claim.owner_references().to_vec();
    owners.retain(|owner| !ours(owner));
    let is_foreign = owners.iter().any(|owner| owner.controller == Some(true));
    let Policy { when_scaled, when_deleted } = policy(spec);
    if !is_foreign && condemned && when_scaled {
        owners.push(controller_reference(pod));
    } else if !is_foreign && when_deleted && !(condemned && when_scaled) {
        owners.push(controller_reference(set));
    }
    let same = owners.len() == claim.owner_references().len()
        && owners.iter().all(|owner| claim.owner_references().iter().any(|old| old.uid == owner.uid));
    let mut changed = claim.clone();
    changed.metadata.owner_references = Some(owners).filter(|owners| !owners.is_empty());
    (!same).then_some(changed)
}
