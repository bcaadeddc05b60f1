//! delete and deletecollection: finalizers, grace periods, preconditions, propagation.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::codec;
use crate::kinds::Kind;
use crate::request::Query;
use crate::schema::decode;
use crate::server::{CRD_FINALIZER, Server};
use crate::status::{self, ApiError, Cause};
use crate::store::{Change, Key, Object};
use crate::strategy;
use crate::write::Failure;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const RETRIES_MAX: usize = 10;
/// Kinds whose deletion is answered with the object even when it is gone.
const ANSWERED_WHOLE: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "pods",
            "services",
            "serviceaccounts",
            "persistentvolumes",
            "persistentvolumeclaims",
            "resourcequotas",
            "namespaces",
            "podtemplates",
        ],
    ),
    (
        "storage.k8s.io",
        &["csidrivers", "storageclasses", "volumeattachments", "csinodes", "volumeattributesclasses"],
    ),
    ("resource.k8s.io", &["resourceclaimtemplates", "resourceslices", "resourceclaims", "deviceclasses"]),
];
/// Namespaces that stay.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// What happens to dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// `DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub grace: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

impl Options {
    /// As an object of the API.
    pub(crate) fn to_value(&self) -> Value {
        let mut options = json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" });
        if let Some(grace) = self.grace {
            options["gracePeriodSeconds"] = grace.into();
        }
        if let Some(propagation) = self.propagation {
            options["propagationPolicy"] = format!("{propagation:?}").into();
        }
        for (name, value) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(value) = value {
                options["preconditions"][name] = value.as_str().into();
            }
        }
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        options
    }

    /// Reads the body, else the query.
    pub(crate) fn read(body: &[u8], query: &Query) -> Result<Options, ApiError> {
        let value: Value = if body.is_empty() {
            json!({})
        } else {
            serde_json::from_slice(body)
                .map_err(|error| ApiError::bad_request(format!("couldn't read DeleteOptions: {error}")))?
        };
        if !value.is_object() {
            return Err(ApiError::bad_request("couldn't read DeleteOptions: the body is no object"));
        }
        let kind = value["kind"].as_str().unwrap_or_default();
        if !matches!(kind, "" | "DeleteOptions") {
            return Err(ApiError::bad_request(format!(
                "decoded object cannot be converted to DeleteOptions: {kind}"
            )));
        }
        let text = |field: &str| match value[field].as_str() {
            Some(text) => text.to_owned(),
            None => query.get(field).to_owned(),
        };
        let grace = match &value["gracePeriodSeconds"] {
            Value::Null => query.number("gracePeriodSeconds")?,
            number => Some(number.as_i64().ok_or_else(|| {
                ApiError::bad_request("json: cannot unmarshal gracePeriodSeconds into an integer")
            })?),
        };
        let orphan = match &value["orphanDependents"] {
            Value::Bool(orphan) => Some(*orphan),
            _ if query.has("orphanDependents") => Some(query.flag("orphanDependents")),
            _ => None,
        };
        let mut causes = Vec::new();
        let policy = text("propagationPolicy");
        if orphan.is_some() && !policy.is_empty() {
            let shown = Value::String(policy.clone());
            causes.push(Cause::invalid(
                "propagationPolicy",
                &shown,
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        let propagation = match policy.as_str() {
            "" => None,
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            "Orphan" => Some(Propagation::Orphan),
            other => {
                causes.push(Cause::not_supported(
                    "propagationPolicy",
                    &other.into(),
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
                None
            }
        };
        let dry_runs: Vec<String> = match value["dryRun"].as_array() {
            Some(list) => list.iter().map(crate::crd::text).collect(),
            None => query.all("dryRun").filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        };
        if dry_runs.iter().any(|word| word != "All") {
            causes.push(Cause::not_supported("dryRun", &json!(dry_runs), &["All"]));
        }
        if !causes.is_empty() {
            return Err(ApiError::invalid("DeleteOptions", "meta.k8s.io", "", causes));
        }
        let propagation = propagation.or(match orphan {
            Some(true) => Some(Propagation::Orphan),
            Some(false) => Some(Propagation::Background),
            None => None,
        });
        let precondition = |field: &str| value["preconditions"][field].as_str().map(str::to_owned);
        Ok(Options {
            grace,
            propagation,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            dry_run: !dry_runs.is_empty(),
        })
    }
}

/// The outcome: the object as it is now, and whether it is gone.
pub(crate) struct Deleted {
    pub object: Value,
    pub gone: bool,
}

/// Deletes one object.
pub(crate) async fn delete(
    server: &Server,
    kind: &Arc<Kind>,
    key: &Key,
    options: &Options,
) -> Result<Deleted, ApiError> {
    if kind.is("", "namespaces") && IMMORTAL.contains(&&*key.name) {
        let mut error = ApiError::forbidden("namespaces", "", &key.name, "this namespace may not be deleted");
        error.details.get_or_insert_default().causes = Vec::new();
        return Err(error);
    }
    let mut before: Option<Arc<Object>> = None;
    for _ in 0..RETRIES_MAX {
        let Some(seen) = server.store.get_head(key) else {
            // It was there when this delete began: somebody else (the kubelet, once a Pod was marked) took the last step.
            return match before {
                Some(seen) => {
                    server.store.settle().await?;
                    Ok(Deleted { object: codec::load(kind, &seen), gone: true })
                }
                None => Err(ApiError::not_found(&kind.plural, &kind.group, &key.name)),
            };
        };
        match attempt(server, kind, key, options, &seen).await {
            Err(Failure::Retry) => {
                before = Some(seen);
                continue;
            }
            Err(Failure::Api(error)) => return Err(error),
            Ok(deleted) => return Ok(deleted),
        }
    }
    Err(ApiError::modified(&kind.plural, &kind.group, &key.name))
}

async fn attempt(
    server: &Server,
    kind: &Arc<Kind>,
    key: &Key,
    options: &Options,
    seen: &Arc<Object>,
) -> Result<Deleted, Failure> {
    check_preconditions(kind, key, options, seen)?;
    if seen.locked.is_some() {
        return delete_locked(server, kind, key, options, seen).await;
    }
    let mut object = codec::load(kind, seen);
    let grace = grace(kind, options, &object);
    let mut finalizers_changed = set_finalizers(kind, options, &mut object);
    if kind.is("apiextensions.k8s.io", "customresourcedefinitions") && !seen.deleting {
        // A definition waits until its objects are gone.
        let mut list = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        if !list.iter().any(|name| name == CRD_FINALIZER) {
            list.push(CRD_FINALIZER.into());
            object["metadata"]["finalizers"] = list.into();
            finalizers_changed = true;
        }
    }
    let waits = strategy::waits_for_finalize(kind, &object);
    let has_finalizers = object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    let graceful = grace.is_some_and(|seconds| seconds > 0);
    let marked_before = seen.deleting;
    // A Pod is marked before it goes, as upstream does; everything else without finalizers goes at once.
    let mark = has_finalizers || waits || graceful || kind.is("", "pods");
    let mut current = seen.clone();
    let mut changed = finalizers_changed;
    if mark {
        changed |= set_deletion(kind, &mut object, grace, marked_before, waits);
    }
    let stays = has_finalizers || waits || graceful && !pod_is_over(&object, grace);
    if changed && (stays || mark) {
        if options.dry_run {
            return Ok(Deleted { object, gone: !stays });
        }
        codec::normalize(kind, &mut object);
        let written = write(server, key, &current, Change::PutDraft(codec::draft(kind, &object))).await?;
        if let Some(written) = written {
            object = codec::load(kind, &written);
            current = written;
        }
    }
    if stays {
        if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            server.sync_crd(&key.name).await;
        }
        return Ok(Deleted { object, gone: false });
    }
    if options.dry_run {
        return Ok(Deleted { object, gone: true });
    }
    if changed {
        codec::normalize(kind, &mut object);
    }
    // The answer has the revision of the deletion, as the last event has.
    if let Some(last) = write(server, key, &current, Change::DeleteDraft(codec::draft(kind, &object))).await?
    {
        codec::as_stored(kind, &mut object, &last);
    }
    server.after_delete(kind);
    Ok(Deleted { object, gone: true })
}

/// Deletes an object that could not be opened. Nobody knows its finalizers, so it goes at once.
async fn delete_locked(
    server: &Server,
    kind: &Arc<Kind>,
    key: &Key,
    options: &Options,
    seen: &Arc<Object>,
) -> Result<Deleted, Failure> {
    if !options.dry_run {
        write(server, key, seen, Change::Delete(seen.value())).await?;
    }
    Ok(Deleted { object: codec::load(kind, seen), gone: true })
}

fn pod_is_over(object: &Value, grace: Option<i64>) -> bool {
    // A shorter grace may have been set already.
    object["metadata"]["deletionGracePeriodSeconds"].as_i64().or(grace) == Some(0)
}

async fn write(
    server: &Server,
    key: &Key,
    seen: &Arc<Object>,
    change: Change,
) -> Result<Option<Arc<Object>>, Failure> {
    let written = server
        .store
        .write(key, |current, _| match current {
            Some(current) if current.revision == seen.revision => Ok(change),
            _ => Err(Failure::Retry),
        })
        .await?;
    Ok(written.object)
}

fn check_preconditions(kind: &Kind, key: &Key, options: &Options, seen: &Object) -> Result<(), ApiError> {
    let fail = |what: &str, wanted: &str, found: &str| {
        let text =
            format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
        Err(ApiError::conflict(&kind.plural, &kind.group, &key.name, &text))
    };
    if let Some(uid) = &options.uid
        && **uid != *seen.uid
    {
        return fail("UID", uid, &seen.uid);
    }
    if let Some(wanted) = &options.resource_version
        && *wanted != seen.revision.to_string()
    {
        return fail("ResourceVersion", wanted, &seen.revision.to_string());
    }
    Ok(())
}

/// The grace period of a Pod; `None` for kinds that have none.
fn grace(kind: &Kind, options: &Options, object: &Value) -> Option<i64> {
    if !kind.is("", "pods") {
        return None;
    }
    let mut seconds =
        options.grace.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
    if seconds < 0 {
        seconds = 1;
    }
    let unscheduled = object["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let finished = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || finished {
        seconds = 0;
    }
    Some(seconds)
}

/// Adds or removes the finalizers that stand for a propagation policy.
fn set_finalizers(kind: &Kind, options: &Options, object: &mut Value) -> bool {
    let meta = &mut object["metadata"];
    let before: Vec<Value> = meta["finalizers"].as_array().cloned().unwrap_or_default();
    let has = |name: &str| before.iter().any(|known| known == name);
    let unsaid = options.propagation.is_none() && !has(ORPHAN) && !has(FOREGROUND);
    let (orphan, foreground) = match options.propagation {
        // As ever, Jobs leave their Pods behind unless told otherwise.
        None if unsaid && kind.is("batch", "jobs") => (true, false),
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Foreground) => (false, true),
        Some(Propagation::Background) => (false, false),
        None => (has(ORPHAN), has(FOREGROUND)),
    };
    let mut after: Vec<Value> =
        before.iter().filter(|name| *name != ORPHAN && *name != FOREGROUND).cloned().collect();
    if kind.is("", "namespaces") {
        // Namespaces are emptied, whatever the policy.
    } else if orphan {
        after.push(ORPHAN.into());
    } else if foreground {
        after.push(FOREGROUND.into());
    }
    if after == before {
        return false;
    }
    if after.is_empty() {
        meta.as_object_mut().map(|meta| meta.remove("finalizers"));
    } else {
        meta["finalizers"] = after.into();
    }
    true
}

/// Sets deletionTimestamp and grace. A second deletion may only make the grace shorter.
fn set_deletion(kind: &Kind, object: &mut Value, grace: Option<i64>, marked: bool, waits: bool) -> bool {
    let now = crate::clock::now();
    let meta = &mut object["metadata"];
    if marked {
        let Some(seconds) = grace else { return false };
        let before = meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        if seconds >= before {
            return false;
        }
        meta["deletionGracePeriodSeconds"] = seconds.into();
        let start =
            meta["deletionTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok()).unwrap_or(now);
        let shorter = start
            .checked_sub(SignedDuration::from_secs(before))
            .and_then(|start| start.checked_add(SignedDuration::from_secs(seconds)));
        meta["deletionTimestamp"] = decode::seconds(shorter.unwrap_or(now)).into();
        return true;
    }
    let seconds = grace.unwrap_or(0);
    let at = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    meta["deletionTimestamp"] = decode::seconds(at).into();
    if !waits && !kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        meta["deletionGracePeriodSeconds"] = seconds.into();
    }
    if let Some(generation) = meta["generation"].as_i64() {
        meta["generation"] = (generation + 1).into();
    }
    if waits {
        object["status"]["phase"] = "Terminating".into();
    }
    if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        crate::crd::set_condition(
            object,
            "Terminating",
            "True",
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            &decode::seconds(now),
        );
    }
    true
}

/// The body of the answer to a deletion.
pub(crate) fn answer(kind: &Kind, key: &Key, deleted: &Deleted) -> Value {
    let whole = !kind.is_custom()
        && ANSWERED_WHOLE
            .iter()
            .any(|(group, plurals)| kind.group == *group && plurals.contains(&&*kind.plural));
    if deleted.gone && !whole {
        let uid = deleted.object["metadata"]["uid"].as_str().unwrap_or_default();
        return status::deleted(&kind.plural, &kind.group, &key.name, uid);
    }
    deleted.object.clone()
}
