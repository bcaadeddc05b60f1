//! Decides for claims, volumes and the class.

use std::sync::Arc;

use dodai_kit::Plan;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
    VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;

/// The class of folders on this machine.
pub const STORAGE_CLASS: &str = "local";
/// The name under which our folders are a kind of storage: `provisioner` of the class and `driver` of the volumes.
const PROVISIONER: &str = "local.node.dodai.dev";
/// Annotation of the class that claims without class get.
const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
/// Annotations of a bound claim and a made volume, as upstream has them.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// Everything that `claim` may look at.
pub struct ClaimWorld {
    /// The claim.
    pub claim: Arc<PersistentVolumeClaim>,
    /// The volume of its own name.
    pub volume: Option<Arc<PersistentVolume>>,
    /// All classes.
    pub classes: Vec<Arc<StorageClass>>,
}

/// Everything that `volume` may look at.
pub struct VolumeWorld {
    /// The time.
    pub now: Timestamp,
    /// The volume.
    pub volume: Arc<PersistentVolume>,
    /// The claim of the name that it is for, whatever its uid.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
}

/// Everything that `class` may look at.
pub struct ClassWorld {
    /// Whether the Node is the one that keeps the folders.
    pub is_ours: bool,
    /// All classes.
    pub classes: Vec<Arc<StorageClass>>,
}

/// Whether the claim is bound.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// The name of the volume that a claim gets.
pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

/// Makes the claim's volume, then binds the claim to it, then says so.
pub(super) fn claim(world: &ClaimWorld) -> Plan {
    let mut plan = Plan::none();
    let claim = world.claim.as_ref();
    let Some(spec) = &claim.spec else { return plan };
    if claim.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let name = volume_name(claim);
    match spec.volume_name.as_deref().filter(|volume| !volume.is_empty()) {
        None => {
            let Some(class) = class_of(world, spec) else { return plan };
            plan.create(&new_volume(claim, spec, &name, &class));
            let mut bound = claim.clone();
            let bound_spec = bound.spec.get_or_insert_default();
            bound_spec.volume_name = Some(name);
            bound_spec.storage_class_name.get_or_insert(class);
            let annotations = bound.annotations_mut();
            annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
            plan.replace(&bound);
        }
        Some(volume) if volume == name => {
            let class = spec.storage_class_name.clone().unwrap_or_else(|| STORAGE_CLASS.to_owned());
            if world.volume.is_none() {
                plan.create(&new_volume(claim, spec, &name, &class));
            }
            let mut status = claim.status.clone().unwrap_or_default();
            status.phase = Some("Bound".to_owned());
            status.access_modes = spec.access_modes.clone();
            status.capacity = spec.resources.as_ref().and_then(|resources| resources.requests.clone());
            plan.set_status(&status);
        }
        // Bound by hand to a volume that is not ours.
        Some(_) => {}
    }
    plan
}

/// The class, if it is one of ours: named, or the default where the claim names none.
fn class_of(world: &ClaimWorld, spec: &PersistentVolumeClaimSpec) -> Option<String> {
    let is_ours = |class: &&Arc<StorageClass>| class.provisioner == PROVISIONER;
    let is_default =
        |class: &&Arc<StorageClass>| class.annotations().get(IS_DEFAULT).is_some_and(|value| value == "true");
    match spec.storage_class_name.as_deref() {
        Some(STORAGE_CLASS) => Some(STORAGE_CLASS.to_owned()),
        Some(name) => world
            .classes
            .iter()
            .filter(is_ours)
            .find(|class| class.name_any() == name)
            .map(|class| class.name_any()),
        None => match world.classes.iter().find(is_default) {
            Some(default) => Some(default).filter(is_ours).map(|class| class.name_any()),
            None => Some(STORAGE_CLASS.to_owned()),
        },
    }
}

fn new_volume(
    claim: &PersistentVolumeClaim,
    spec: &PersistentVolumeClaimSpec,
    name: &str,
    class: &str,
) -> PersistentVolume {
    let namespace = claim.namespace().unwrap_or_default();
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes.clone(),
            capacity: spec.resources.as_ref().and_then(|resources| resources.requests.clone()),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                namespace: Some(namespace.clone()),
                name: Some(claim.name_any()),
                uid: claim.uid(),
                ..ObjectReference::default()
            }),
            csi: Some(CSIPersistentVolumeSource {
                driver: PROVISIONER.to_owned(),
                volume_handle: format!("{namespace}/{}", claim.name_any()),
                ..CSIPersistentVolumeSource::default()
            }),
            node_affinity: Some(on_our_node()),
            persistent_volume_reclaim_policy: Some("Retain".to_owned()),
            storage_class_name: Some(class.to_owned()),
            volume_mode: spec.volume_mode.clone(),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

fn on_our_node() -> VolumeNodeAffinity {
    VolumeNodeAffinity {
        required: Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_expressions: Some(vec![NodeSelectorRequirement {
                    key: "kubernetes.io/hostname".to_owned(),
                    operator: "In".to_owned(),
                    values: Some(vec![dodai_api::names::NODE_NAME.to_owned()]),
                }]),
                match_fields: None,
            }],
        }),
    }
}

/// `Bound` while its claim is there, `Released` after.
pub(super) fn volume(world: &VolumeWorld) -> Plan {
    let mut plan = Plan::none();
    let Some(spec) = &world.volume.spec else { return plan };
    let is_ours = spec.csi.as_ref().is_some_and(|csi| csi.driver == PROVISIONER);
    let Some(wanted) = spec.claim_ref.as_ref().filter(|_| is_ours) else { return plan };
    let is_there = world.claim.as_ref().is_some_and(|claim| claim.metadata.uid == wanted.uid);
    let phase = if is_there { "Bound" } else { "Released" };
    let mut status = world.volume.status.clone().unwrap_or_default();
    if status.phase.as_deref() != Some(phase) {
        status.phase = Some(phase.to_owned());
        status.last_phase_transition_time = Some(Time(world.now));
    }
    plan.set_status(&status);
    plan
}

/// Offers the class, as the default unless there is one.
pub(super) fn class(world: &ClassWorld) -> Plan {
    let mut plan = Plan::none();
    if !world.is_ours || world.classes.iter().any(|class| class.name_any() == STORAGE_CLASS) {
        return plan;
    }
    let default =
        world.classes.iter().any(|class| class.annotations().get(IS_DEFAULT).is_some_and(|is| is == "true"));
    let annotations = [(IS_DEFAULT.to_owned(), (!default).to_string())];
    plan.create(&StorageClass {
        metadata: ObjectMeta {
            name: Some(STORAGE_CLASS.to_owned()),
            annotations: Some(annotations.into()),
            ..ObjectMeta::default()
        },
        provisioner: PROVISIONER.to_owned(),
        reclaim_policy: Some("Retain".to_owned()),
        volume_binding_mode: Some("Immediate".to_owned()),
        ..StorageClass::default()
    });
    plan
}
