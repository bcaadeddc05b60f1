//! Turns a Pod's volumes into mounts. What comes from ConfigMaps, Secrets and the Pod itself lives in memory only;
//! emptyDir is a folder that goes with the Pod, a claim a folder that stays.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use k8s_openapi::api::core::v1::{
    Container as Spec, DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeMount, VolumeProjection,
};

use super::env::{Env, field_ref, resource_ref};
use super::lookup::{Data, Lookup};
use super::node_object::quantity;
use crate::error::{Error, Result};
use crate::runtime::{FileEntry, Mount};

/// Permission bits of files whose volume says nothing.
const MODE_DEFAULT: i32 = 0o644;
/// Bytes of all files of one volume.
const FILES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Folders for volumes.
pub(crate) struct Places<'a> {
    /// Goes with the Pod.
    pub(crate) pod_dir: &'a Path,
    /// `<data>/volumes`.
    pub(crate) claims: &'a Path,
}

/// The mounts of a container for its `volumeMounts`.
pub(crate) async fn mounts(
    pod: &Pod,
    spec: &Spec,
    places: &Places<'_>,
    env: &Env,
    lookup: &dyn Lookup,
) -> Result<Vec<Mount>> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let mut all = Vec::new();
    for mount in spec.volume_mounts.iter().flatten() {
        let volume = volumes
            .iter()
            .find(|volume| volume.name == mount.name)
            .ok_or_else(|| refuse(format!("volume `{}` is not declared in the Pod", mount.name)))?;
        all.push(one(pod, volume, mount, places, env, lookup).await?);
    }
    // Outer ones first, so that no mount hides another.
    all.sort_by_key(|mount| match mount {
        Mount::Bind { target, .. } | Mount::Files { target, .. } | Mount::Memory { target, .. } => {
            Path::new(target).components().count()
        }
    });
    Ok(all)
}

fn refuse(message: String) -> Error {
    Error::Config { reason: "CreateContainerConfigError", message }
}

async fn one(
    pod: &Pod,
    volume: &Volume,
    mount: &VolumeMount,
    places: &Places<'_>,
    env: &Env,
    lookup: &dyn Lookup,
) -> Result<Mount> {
    let target = mount.mount_path.clone();
    let sub_path = match &mount.sub_path_expr {
        Some(text) => Some(env.expand_all(text).ok_or_else(|| {
            refuse(format!(
                "volume `{}`: subPathExpr `{text}` names a variable that is not there",
                volume.name
            ))
        })?),
        None => mount.sub_path.clone(),
    };
    let sub_path = sub_path.filter(|path| !path.is_empty());
    if let Some(files) = files(pod, volume, lookup).await? {
        return Ok(Mount::Files { volume: volume.name.clone(), target, sub_path, files });
    }
    let mut read_only = mount.read_only.unwrap_or(false);
    let folder = if let Some(empty) = &volume.empty_dir {
        let size_bytes =
            empty.size_limit.as_ref().and_then(|limit| quantity(&limit.0)).map(|size| size as u64);
        if empty.medium.as_deref() == Some("Memory") && sub_path.is_none() {
            let shared = pod.spec.as_ref().is_some_and(|spec| is_shared(spec, &volume.name));
            if !shared {
                return Ok(Mount::Memory { target, size_bytes });
            }
        }
        places.pod_dir.join("volumes").join(&volume.name)
    } else if let Some(claim) = &volume.persistent_volume_claim {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        lookup.claim(namespace, &claim.claim_name).await?;
        read_only |= claim.read_only.unwrap_or(false);
        places.claims.join(namespace).join(&claim.claim_name)
    } else {
        return Err(refuse(format!(
            "volume `{}` is of a kind that the process runtime does not support; configMap, secret, projected, downwardAPI, emptyDir and persistentVolumeClaim are",
            volume.name
        )));
    };
    make_open(&folder)?;
    let source = match sub_path {
        Some(sub_path) => sub_folder(&folder, &sub_path)?,
        None => folder,
    };
    Ok(Mount::Bind { source, target, read_only })
}

/// Memory of one container cannot be seen by another; such a volume is a folder on disk instead.
fn is_shared(spec: &k8s_openapi::api::core::v1::PodSpec, volume: &str) -> bool {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.flat_map(|container| container.volume_mounts.iter().flatten())
        .filter(|mount| mount.name == volume)
        .count()
        > 1
}

/// A folder that every user of the container may write, as Kubernetes' volumes are.
fn make_open(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o777)))
        .map_err(Error::file("make", folder))
}

/// A folder or file below a volume; the volume's content, which a container wrote, must not lead out of it.
fn sub_folder(folder: &Path, sub_path: &str) -> Result<PathBuf> {
    let bad = || refuse(format!("subPath `{sub_path}` leads out of its volume"));
    if Path::new(sub_path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Err(bad());
    }
    let path = folder.join(sub_path);
    let root = fs::canonicalize(folder).map_err(Error::file("find", folder))?;
    let mut existing = path.as_path();
    while fs::symlink_metadata(existing).is_err() {
        existing = existing.parent().ok_or_else(bad)?;
    }
    let real = fs::canonicalize(existing).map_err(Error::file("find", existing))?;
    if !real.starts_with(&root) {
        return Err(bad());
    }
    if !path.exists() {
        make_open(&path)?;
    }
    Ok(path)
}

/// The files of a volume that lives in memory; `None` for other kinds.
pub(crate) async fn files(pod: &Pod, volume: &Volume, lookup: &dyn Lookup) -> Result<Option<Vec<FileEntry>>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut entries = Vec::new();
    if let Some(source) = &volume.config_map {
        let optional = source.optional.unwrap_or(false);
        let data = lookup.config_map(namespace, &source.name, optional).await?;
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        select(&mut entries, data, source.items.as_deref(), mode, optional, &volume.name)?;
    } else if let Some(source) = &volume.secret {
        let optional = source.optional.unwrap_or(false);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let data = lookup.secret(namespace, name, optional).await?;
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        select(&mut entries, data, source.items.as_deref(), mode, optional, &volume.name)?;
    } else if let Some(source) = &volume.downward_api {
        downward(&mut entries, pod, source.items.as_deref(), source.default_mode.unwrap_or(MODE_DEFAULT))?;
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        for projection in source.sources.iter().flatten() {
            project(&mut entries, pod, projection, mode, &volume.name, lookup).await?;
        }
    } else {
        return Ok(None);
    }
    let size: usize = entries.iter().map(|entry| entry.data.len()).sum();
    if size > FILES_BYTES_MAX {
        return Err(refuse(format!("volume `{}` has more than {FILES_BYTES_MAX} bytes", volume.name)));
    }
    Ok(Some(entries))
}

async fn project(
    entries: &mut Vec<FileEntry>,
    pod: &Pod,
    projection: &VolumeProjection,
    mode: i32,
    volume: &str,
    lookup: &dyn Lookup,
) -> Result<()> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(source) = &projection.config_map {
        let optional = source.optional.unwrap_or(false);
        let data = lookup.config_map(namespace, &source.name, optional).await?;
        return select(entries, data, source.items.as_deref(), mode, optional, volume);
    }
    if let Some(source) = &projection.secret {
        let optional = source.optional.unwrap_or(false);
        let data = lookup.secret(namespace, &source.name, optional).await?;
        return select(entries, data, source.items.as_deref(), mode, optional, volume);
    }
    if let Some(source) = &projection.downward_api {
        return downward(entries, pod, source.items.as_deref(), mode);
    }
    if let Some(source) = &projection.service_account_token {
        let token = lookup.token(pod, source).await?;
        entries.push(entry(source.path.clone(), mode, token.as_bytes()));
        return Ok(());
    }
    Err(refuse(format!(
        "volume `{volume}`: only configMap, secret, downwardAPI and serviceAccountToken can be projected"
    )))
}

fn select(
    entries: &mut Vec<FileEntry>,
    data: Option<Data>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
    volume: &str,
) -> Result<()> {
    let Some(data) = data else { return Ok(()) };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        entries.extend(data.into_iter().map(|(key, value)| entry(key, mode, &value)));
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(value) => entries.push(entry(item.path.clone(), item.mode.unwrap_or(mode), value)),
            None if optional => {}
            None => {
                return Err(refuse(format!(
                    "volume `{volume}` names key `{}`, which is not there",
                    item.key
                )));
            }
        }
    }
    Ok(())
}

fn downward(
    entries: &mut Vec<FileEntry>,
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
) -> Result<()> {
    for item in items.unwrap_or_default() {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => field_ref(pod, field)?,
            (None, Some(resource)) => {
                let wanted = resource.container_name.as_deref().unwrap_or_default();
                let mut all = pod
                    .spec
                    .iter()
                    .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
                let container = all.find(|container| container.name == wanted);
                let container = container.ok_or_else(|| {
                    refuse(format!("downwardAPI `{}` names no container of the Pod", item.path))
                })?;
                resource_ref(container, resource)?
            }
            (None, None) => continue,
        };
        entries.push(entry(item.path.clone(), item.mode.unwrap_or(mode), value.as_bytes()));
    }
    Ok(())
}

fn entry(path: String, mode: i32, value: &[u8]) -> FileEntry {
    let data = base64::engine::general_purpose::STANDARD.encode(value);
    FileEntry { path, mode: mode as u32 & 0o777, data }
}
