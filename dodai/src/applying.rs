//! Sends the objects of a folder to the Kubernetes API: packs sources, applies in an order that works, remembers what it
//! applied so that objects which are gone from the folder are told, and deleted only when asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dodai_api::names::ANNOTATION_CAUSE;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, Scope};
use kube::{Api, Client, ResourceExt, core::ApiResource};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::failure::{Context, Failure, INVALID, Result};
use crate::manifests::{Manifest, Manifests};
use crate::pack;

/// Field manager of what the command line applies.
const MANAGER: &str = "dodai";
/// Where the lists of applied objects are kept.
const INVENTORY_NAMESPACE: &str = "kube-system";

/// What to apply and how.
pub(crate) struct Request<'a> {
    pub(crate) client: &'a Client,
    /// The folder or file that was given.
    pub(crate) origin: &'a Path,
    /// Namespace of objects that name none.
    pub(crate) namespace: &'a str,
    /// The data folder of the dodai that is talked to, where sources are put.
    pub(crate) data: Option<&'a Path>,
    pub(crate) prune: bool,
    pub(crate) dry_run: bool,
}

/// What was applied.
#[derive(Default)]
pub(crate) struct Applied {
    /// `namespace/name` of each App, with the generation of its spec.
    pub(crate) apps: Vec<AppliedApp>,
    /// One line for each object that is gone from the folder: what was, or can be, done.
    pub(crate) gone: Vec<String>,
    /// How many objects were applied.
    pub(crate) objects: usize,
    /// How many of them changed.
    pub(crate) changed: usize,
}

/// An App after it was applied.
#[derive(Clone, Debug)]
pub(crate) struct AppliedApp {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) generation: i64,
    /// The attempt of its newest Release that counts: an earlier one's failure is not news.
    pub(crate) attempt: u32,
}

/// An object in the list of what was applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    name: String,
}

/// Applies everything. Nothing is sent if a source folder is missing; after that every object is tried, and all that is
/// refused is told at once.
pub(crate) async fn apply(request: &Request<'_>, manifests: &Manifests) -> Result<Applied> {
    let mut objects = manifests.objects.clone();
    for manifest in &mut objects {
        pack_source(request, manifest, manifests)?;
    }
    objects.sort_by_key(order);
    let mut applied = Applied::default();
    let mut entries = BTreeSet::new();
    let mut refused: Vec<String> = Vec::new();
    let mut code = INVALID;
    for manifest in &objects {
        match apply_one(request, manifest).await {
            Ok((entry, object, changed)) => {
                applied.objects += 1;
                applied.changed += usize::from(changed);
                if manifest.is_app() {
                    applied.apps.push(AppliedApp {
                        namespace: object.namespace().unwrap_or_default(),
                        name: object.name_any(),
                        generation: object.metadata.generation.unwrap_or_default(),
                        attempt: 1,
                    });
                }
                entries.insert(entry);
            }
            Err(failure) => {
                code = failure.code;
                refused.push(failure.message);
            }
        }
    }
    if !refused.is_empty() {
        return Err(Failure::new(code, refused.join("\n\n")));
    }
    if !request.dry_run {
        applied.gone = settle_gone(request, entries).await?;
    }
    Ok(applied)
}

/// What others need comes first.
fn order(manifest: &Manifest) -> (u8, String) {
    let rank = match manifest.kind() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ServiceAccount" | "ConfigMap" | "Secret" | "PersistentVolumeClaim" => 2,
        "EncryptedSecret" | "SopsSecret" | "SealedSecret" => 2,
        "App" => 4,
        _ => 3,
    };
    (rank, format!("{}/{}", manifest.kind(), manifest.name()))
}

/// Replaces `spec.source.folder` by the digest of the packed folder.
fn pack_source(request: &Request<'_>, manifest: &mut Manifest, all: &Manifests) -> Result<()> {
    let Some(folder) = manifest.source_folder() else { return Ok(()) };
    let at = |message: &str, hint: Option<&str>| {
        Failure::invalid(manifest.place.error("spec.source.folder", message, hint))
    };
    if !folder.is_dir() {
        return Err(at(&format!("the source folder `{}` does not exist", folder.display()), None));
    }
    if manifest.value["spec"]["source"].get("digest").is_some() {
        return Err(at("`folder` and `digest` cannot both be given", None));
    }
    let Some(data) = request.data else {
        return Err(at(
            "sources cannot be packed for a cluster yet",
            Some("name the data folder of the dodai on this machine with `--data`"),
        ));
    };
    let without: Vec<PathBuf> = all.objects.iter().map(|manifest| manifest.place.file.clone()).collect();
    let digest = pack::pack(&folder, &without, &data.join("sources"))?;
    if let Value::Object(source) = &mut manifest.value["spec"]["source"] {
        source.remove("folder");
        source.insert("digest".to_owned(), format!("sha256:{digest}").into());
    }
    Ok(())
}

async fn apply_one(request: &Request<'_>, manifest: &Manifest) -> Result<(Entry, DynamicObject, bool)> {
    let (group, version) = match manifest.api_version().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", manifest.api_version()),
    };
    let gvk = GroupVersionKind::gvk(group, version, manifest.kind());
    let (resource, capabilities) = resource(request.client, &gvk).await.map_err(|error| {
        let message = format!("the API does not serve {} `{}`", manifest.api_version(), manifest.kind());
        tracing::debug!(%error, "kind not found");
        Failure::invalid(manifest.place.error("kind", &message, Some("apply its CRD first")))
    })?;
    let namespace = match capabilities.scope {
        Scope::Namespaced => Some(manifest.namespace().unwrap_or(request.namespace).to_owned()),
        Scope::Cluster => None,
    };
    let mut value = manifest.value.clone();
    if manifest.is_app() {
        value["metadata"]["annotations"][ANNOTATION_CAUSE] = json!(manifest.place.file.display().to_string());
    }
    let api = api(request.client, &resource, namespace.as_deref());
    let before = api.get_opt(manifest.name()).await.context("cannot read from the API")?;
    let params = PatchParams {
        dry_run: request.dry_run,
        force: true,
        field_manager: Some(MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Strict),
    };
    let object = api
        .patch(manifest.name(), &params, &Patch::Apply(&value))
        .await
        .map_err(|error| refused(manifest, &error))?;
    let changed = before.is_none_or(|before| before.resource_version() != object.resource_version());
    let entry = Entry {
        api_version: manifest.api_version().to_owned(),
        kind: manifest.kind().to_owned(),
        namespace,
        name: manifest.name().to_owned(),
    };
    Ok((entry, object, changed))
}

/// The resource of a kind. A group that was just made may take a moment elsewhere; here it is served at once.
async fn resource(client: &Client, gvk: &GroupVersionKind) -> kube::Result<(ApiResource, ApiCapabilities)> {
    kube::discovery::pinned_kind(client, gvk).await
}

fn api(client: &Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// A refusal of the server, each cause at its line.
fn refused(manifest: &Manifest, error: &kube::Error) -> Failure {
    let what = format!("cannot apply {} `{}`", manifest.kind(), manifest.name());
    let plain = Failure::from_error(&what, error);
    let kube::Error::Api(status) = error else { return plain };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let mut messages: Vec<String> = causes
        .iter()
        .filter(|cause| !cause.field.is_empty())
        .map(|cause| {
            manifest.place.error(&cause.field, &format!("{} ({})", cause.message, cause.field), None)
        })
        .collect();
    for (kind, path) in strict_errors(&status.message) {
        messages.push(manifest.place.error(&path, &format!("{kind} `{path}`"), None));
    }
    let typed = typed_errors(&status.message);
    let code = if typed.is_empty() { plain.code } else { INVALID };
    for (path, what) in typed {
        messages.push(manifest.place.error(&path, &what, None));
    }
    if messages.is_empty() {
        messages.push(manifest.place.error("kind", &plain.message, None));
    }
    Failure { message: messages.join("\n\n"), code, ..plain }
}

/// The paths in `failed to create typed patch object (...): .spec.x: field not declared in schema`, which server-side apply
/// answers; several stand on lines of their own behind `errors:`.
fn typed_errors(message: &str) -> Vec<(String, String)> {
    if !message.starts_with("failed to create typed patch object") {
        return Vec::new();
    }
    let Some((_, errors)) = message.split_once("): ") else { return Vec::new() };
    let lines = errors.trim_start_matches("errors:").lines();
    lines
        .filter_map(|line| line.trim().strip_prefix('.')?.split_once(": "))
        .map(|(path, what)| {
            let what = match what {
                "field not declared in schema" => format!("unknown field `{path}`"),
                what => format!("`{path}`: {what}"),
            };
            (path.to_owned(), what)
        })
        .collect()
}

/// The paths in `strict decoding error: unknown field "spec.x", duplicate field "spec.y"`.
fn strict_errors(message: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for kind in ["unknown field", "duplicate field"] {
        let marker = format!("{kind} \"");
        let mut rest = message;
        while let Some(start) = rest.find(&marker) {
            rest = &rest[start + marker.len()..];
            let Some(end) = rest.find('"') else { break };
            found.push((kind, rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    found
}

/// Compares with what was applied from this folder before: tells what is gone, deletes it if asked, keeps the new list.
async fn settle_gone(request: &Request<'_>, now: BTreeSet<Entry>) -> Result<Vec<String>> {
    let origin = std::fs::canonicalize(request.origin).context("cannot read the folder")?;
    let name = format!(
        "dodai-applied-{}",
        &hex::encode(Sha256::digest(origin.as_os_str().as_encoded_bytes()))[..16]
    );
    let api: Api<ConfigMap> = Api::namespaced(request.client.clone(), INVENTORY_NAMESPACE);
    let before = api.get_opt(&name).await.context("cannot read the list of applied objects")?;
    let listed =
        before.as_ref().and_then(|map| map.data.as_ref()?.get("objects").cloned()).unwrap_or_default();
    let old: BTreeSet<Entry> = serde_json::from_str(&listed).unwrap_or_default();
    let mut keep = now.clone();
    let mut told = Vec::new();
    for entry in old.difference(&now) {
        let shown = format!("{} `{}`", entry.kind, entry.name);
        let holds_data =
            matches!(entry.kind.as_str(), "PersistentVolumeClaim" | "PersistentVolume" | "Namespace");
        let exists = delete(request, entry, request.prune && !holds_data).await?;
        match (exists, request.prune, holds_data) {
            (false, ..) => {}
            (true, true, false) => told.push(format!("{shown} is no longer in the folder: deleted")),
            (true, true, true) => {
                keep.insert(entry.clone());
                told.push(format!("{shown} is no longer in the folder: kept, since it may hold data"));
            }
            (true, false, _) => {
                keep.insert(entry.clone());
                told.push(format!("{shown} is no longer in the folder: kept (`--prune` deletes it)"));
            }
        }
    }
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": INVENTORY_NAMESPACE,
                     "annotations": {"dodai.dev/folder": origin.display().to_string()}},
        "data": {"objects": serde_json::to_string(&keep).context("cannot write the list of applied objects")?},
    });
    let params = PatchParams::apply(MANAGER).force();
    api.patch(&name, &params, &Patch::Apply(&map))
        .await
        .context("cannot write the list of applied objects")?;
    Ok(told)
}

/// Deletes the object if `for_real`, with the uid that was seen. Returns whether it existed.
async fn delete(request: &Request<'_>, entry: &Entry, for_real: bool) -> Result<bool> {
    let (group, version) = entry.api_version.split_once('/').unwrap_or(("", &entry.api_version));
    let gvk = GroupVersionKind::gvk(group, version, &entry.kind);
    // A kind that is no longer served has no objects.
    let Ok((resource, _)) = resource(request.client, &gvk).await else { return Ok(false) };
    let api = api(request.client, &resource, entry.namespace.as_deref());
    let what = format!("cannot delete {} `{}`", entry.kind, entry.name);
    let Some(object) = api.get_opt(&entry.name).await.context(&what)? else { return Ok(false) };
    if for_real {
        let preconditions = Preconditions { uid: object.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        api.delete(&entry.name, &params).await.context(&what)?;
    }
    Ok(true)
}
