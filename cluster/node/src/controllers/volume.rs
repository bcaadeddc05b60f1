//! Volumes on one machine: claims of StorageClass `local` are bound at once, to a folder that the node keeps by the
//! claim's namespace and name.
//!
//! A claim gets a PersistentVolume of its own, `pvc-<uid>`, as a provisioner would make it. Its reclaim policy is `Retain`:
//! deleting a claim deletes no data, and a claim of the same name finds it again. Claims of other classes wait for
//! somebody else's provisioner.

mod plan;

use std::sync::Arc;

use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;

pub use plan::{ClaimWorld, ClassWorld, STORAGE_CLASS, VolumeWorld, is_bound};

/// The controller that binds claims.
pub struct ClaimController;

impl Controller for ClaimController {
    type Kind = PersistentVolumeClaim;
    type World = ClaimWorld;
    const NAME: &'static str = "persistentvolumeclaim";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, PersistentVolumeClaim>) {
        watches.mapped::<PersistentVolume>(|volume, _| claim_key(volume).into_iter().collect());
        watches.mapped::<StorageClass>(|_, view| {
            let claims = view.list::<PersistentVolumeClaim>(None);
            claims.iter().filter(|claim| !is_bound(claim)).map(|claim| Key::of(claim.as_ref())).collect()
        });
    }

    fn observe(view: &View, claim: &Arc<PersistentVolumeClaim>) -> ClaimWorld {
        let name = plan::volume_name(claim);
        ClaimWorld {
            claim: claim.clone(),
            volume: view.get::<PersistentVolume>("", &name),
            classes: view.list::<StorageClass>(None),
        }
    }

    fn plan(world: &ClaimWorld) -> Plan {
        plan::claim(world)
    }
}

/// The controller that tells the phase of our volumes.
pub struct VolumeController;

impl Controller for VolumeController {
    type Kind = PersistentVolume;
    type World = VolumeWorld;
    const NAME: &'static str = "persistentvolume";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, PersistentVolume>) {
        watches.mapped::<PersistentVolumeClaim>(|claim, _| vec![Key::new("", plan::volume_name(claim))]);
    }

    fn observe(view: &View, volume: &Arc<PersistentVolume>) -> VolumeWorld {
        let claim = claim_key(volume).and_then(|key| view.get(&key.namespace, &key.name));
        VolumeWorld { now: view.now(), volume: volume.clone(), claim }
    }

    fn plan(world: &VolumeWorld) -> Plan {
        plan::volume(world)
    }
}

/// The controller that offers StorageClass `local` wherever our Node is.
pub struct StorageClassController;

impl Controller for StorageClassController {
    type Kind = Node;
    type World = ClassWorld;
    const NAME: &'static str = "storageclass";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, Node>) {
        watches.mapped::<StorageClass>(|_, _| vec![Key::new("", dodai_api::names::NODE_NAME)]);
    }

    fn observe(view: &View, node: &Arc<Node>) -> ClassWorld {
        ClassWorld {
            is_ours: node.name_any() == dodai_api::names::NODE_NAME,
            classes: view.list::<StorageClass>(None),
        }
    }

    fn plan(world: &ClassWorld) -> Plan {
        plan::class(world)
    }
}

fn claim_key(volume: &PersistentVolume) -> Option<Key> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(Key::new(claim.namespace.clone()?, claim.name.clone()?))
}
