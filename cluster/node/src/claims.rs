//! Binds PersistentVolumeClaims of the storage class `local` to folders of the data folder, and offers that class.
//! A claim that is deleted leaves its folder: data is never removed by the way.

use std::path::PathBuf;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::error::{Error, Result, chain};

/// The storage class of folders on this machine.
const CLASS: &str = "local";
const MANAGER: &str = "dodai-node";

/// Makes the storage class known.
pub(crate) async fn offer_class(client: &Client) -> Result<()> {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "dodai.dev/local",
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
    });
    let api: Api<StorageClass> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    api.patch(CLASS, &params, &Patch::Apply(&class)).await.map_err(Error::api("offer the storage class"))?;
    Ok(())
}

/// Binds claims as they come.
pub(crate) async fn run(client: Client, volumes: PathBuf) {
    let api: Api<PersistentVolumeClaim> = Api::all(client.clone());
    let mut claims = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    let mut failed = false;
    loop {
        match claims.try_next().await {
            Ok(Some(claim)) => {
                failed = false;
                if let Err(error) = bind(&client, &volumes, &claim).await {
                    tracing::warn!(error = %chain(&error), claim = claim.name_any(), "cannot bind a claim");
                }
            }
            Ok(None) => return,
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(error = %chain(&error), "cannot watch PersistentVolumeClaims");
                }
            }
        }
    }
}

async fn bind(client: &Client, volumes: &std::path::Path, claim: &PersistentVolumeClaim) -> Result<()> {
    let spec = claim.spec.clone().unwrap_or_default();
    let ours = matches!(spec.storage_class_name.as_deref(), None | Some("" | CLASS));
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if !ours || phase == Some("Bound") || claim.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    let folder = volumes.join(&namespace).join(&name);
    if !folder.is_dir() {
        std::fs::create_dir_all(&folder)
            .and_then(|()| {
                let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
                std::fs::set_permissions(&folder, open)
            })
            .map_err(Error::file("make", &folder))?;
    }
    let requested = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let status = json!({
        "metadata": {"uid": claim.metadata.uid},
        "status": {"phase": "Bound", "accessModes": spec.access_modes, "capacity": requested},
    });
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .map_err(Error::api("write the status of a claim"))?;
    Ok(())
}
