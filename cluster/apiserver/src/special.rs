//! The few endpoints that are no plain objects: binding, eviction, and the way to reviews.

use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Value, json};

use crate::admission;
use crate::admission::attributes::Operation;
use crate::codec;
use crate::delete;
use crate::kinds::Kind;
use crate::patch::{Patch, PatchKind};
use crate::read;
use crate::reply::Reply;
use crate::request::{Media, Query};
use crate::server::Server;
use crate::status::{ApiError, Cause};
use crate::store::{Change, Key, Labels, View};
use crate::user::User;
use crate::write::now;

/// `PatchOptions` that only an apply takes.
pub(crate) fn check_patch_options(patch: &Patch, query: &Query) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    if patch.kind == PatchKind::Apply {
        if query.get("fieldManager").is_empty() {
            causes.push(Cause::required("fieldManager", "is required for apply patch"));
        }
    } else if query.has("force") {
        causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
    }
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid("PatchOptions", "meta.k8s.io", "", causes)) }
}

/// Kinds that can only be created: their answer is worked out, nothing is stored.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn create(
    server: &Arc<Server>,
    user: &User,
    kind: &Arc<Kind>,
    key: &Key,
    query: &Query,
    body: &[u8],
    media: Media,
    _headers: &HeaderMap,
) -> Result<Reply, ApiError> {
    let mut object = codec::decode(kind, body)?.value;
    if kind.is("", "bindings") {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let pod = Key::new(&"core/pods".into(), &key.namespace, &name);
        return bind(server, &pod, &object, media).await;
    }
    let Some(status) = crate::review::answer(server, user, &kind.plural, &key.namespace, &mut object)? else {
        let text = format!("`{}` is not supported by this server", kind.plural);
        return Err(ApiError::new(501, "NotImplemented", text));
    };
    object["status"] = status;
    if kind.group == "authentication.k8s.io" && kind.plural == "selfsubjectreviews" {
        object["metadata"]["creationTimestamp"] = now().into();
    }
    codec::normalize(kind, &mut object);
    codec::set_type(&mut object, kind);
    let mut reply = read::value(kind, &object, media, query)?;
    *reply.response.status_mut() = http::StatusCode::CREATED;
    Ok(reply)
}

/// `pods/binding` and `pods/eviction`.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn pod(
    server: &Arc<Server>,
    user: &User,
    kind: &Arc<Kind>,
    key: &Key,
    name: &str,
    query: &Query,
    body: &[u8],
    media: Media,
) -> Result<Reply, ApiError> {
    let object: Value =
        serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let named = object["metadata"]["name"].as_str().unwrap_or_default();
    if !named.is_empty() && *named != *key.name {
        return Err(ApiError::bad_request("name in URL does not match name in object"));
    }
    let (ty, api_version) = if name == "binding" { ("Binding", "v1") } else { ("Eviction", "policy/v1") };
    let mut object = object;
    for (field, text) in [("kind", ty), ("apiVersion", api_version)] {
        if object[field].is_null() && object.is_object() {
            object[field] = text.into();
        }
    }
    let dry_run = query.all("dryRun").any(|word| word == "All");
    let call = (Operation::Create, name);
    let (changed, warnings) =
        admission::check_call((server, user, kind), key, call, &object, dry_run).await?;
    let object = changed.unwrap_or(object);
    let mut reply = match name {
        "binding" => bind(server, key, &object, media).await?,
        _ => evict(server, kind, key, &object, query, media).await?,
    };
    warnings.iter().for_each(|warning| reply.warn(warning));
    Ok(reply)
}

const TOO_MANY: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

fn success() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 })
}

async fn bind(server: &Arc<Server>, key: &Key, binding: &Value, media: Media) -> Result<Reply, ApiError> {
    let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
    let target = binding["target"]["kind"].as_str().unwrap_or_default();
    let mut causes = Vec::new();
    if !matches!(target, "" | "Node") {
        causes.push(Cause::not_supported("target.kind", &target.into(), &["Node", "<empty>"]));
    }
    if node.is_empty() {
        causes.push(Cause::required("target.name", ""));
    }
    if !causes.is_empty() {
        return Err(ApiError::invalid("Binding", "", &key.name, causes));
    }
    let annotations = binding["metadata"]["annotations"].clone();
    let uid = binding["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    server
        .store
        .write(key, |current, _: &View<'_>| {
            let Some(current) = current else {
                return Err(ApiError::not_found("pods", "", &key.name));
            };
            let conflict = |text: String| Err(ApiError::conflict("pods/binding", "", &key.name, &text));
            if !uid.is_empty() && *uid != *current.uid {
                return conflict(format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    current.uid
                ));
            }
            if current.deleting {
                return conflict(format!("pod {} is being deleted, cannot be assigned to a host", key.name));
            }
            let mut pod = current.value();
            let assigned = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
            if !assigned.is_empty() {
                return conflict(format!("pod {} is already assigned to node \"{assigned}\"", key.name));
            }
            if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
                return conflict(format!("pod {} has non-empty .spec.schedulingGates", key.name));
            }
            pod["spec"]["nodeName"] = node.into();
            for (name, value) in annotations.as_object().into_iter().flatten() {
                pod["metadata"]["annotations"][name] = value.clone();
            }
            crate::crd::set_condition(&mut pod, "PodScheduled", "True", "", "", &now());
            for condition in pod["status"]["conditions"].as_array_mut().into_iter().flatten() {
                if condition["type"] == "PodScheduled" {
                    condition["lastProbeTime"] = Value::Null;
                    for field in ["reason", "message"] {
                        condition.as_object_mut().map(|condition| condition.remove(field));
                    }
                }
            }
            Ok(Change::Put(pod))
        })
        .await?;
    Ok(Reply::value(201, &success(), media))
}

async fn evict(
    server: &Arc<Server>,
    kind: &Arc<Kind>,
    key: &Key,
    eviction: &Value,
    query: &Query,
    media: Media,
) -> Result<Reply, ApiError> {
    let Some(pod) = server.store.get_head(key) else {
        return Err(ApiError::not_found("pods", "", &key.name));
    };
    let value = pod.value();
    let over = matches!(value["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"));
    if !over && !pod.deleting {
        guard_disruption(server, &pod.labels, key).await?;
    }
    let body = eviction["deleteOptions"].to_string();
    let body = if eviction["deleteOptions"].is_null() { String::new() } else { body };
    let options = delete::Options::read(body.as_bytes(), query)?;
    delete::delete(server, kind, key, &options).await?;
    Ok(Reply::value(201, &success(), media))
}

/// Refuses with 429 while a PodDisruptionBudget that selects the Pod allows no disruption.
async fn guard_disruption(server: &Server, labels: &Labels, key: &Key) -> Result<(), ApiError> {
    let budgets = server.store.list(&"policy/poddisruptionbudgets".into(), &key.namespace).objects;
    for budget in budgets {
        let value = budget.value();
        if !selects(&value["spec"]["selector"], labels) {
            continue;
        }
        if value["status"]["disruptionsAllowed"].as_i64().unwrap_or(0) > 0 {
            let budget = Key::new(&"policy/poddisruptionbudgets".into(), &key.namespace, &budget.name);
            let allow = |current: Option<&Arc<crate::store::Object>>, _: &View<'_>| {
                let Some(current) = current else { return Ok(Change::Nothing) };
                let mut value = current.value();
                let left = value["status"]["disruptionsAllowed"].as_i64().unwrap_or(0) - 1;
                if left < 0 {
                    return Err(ApiError::new(429, "TooManyRequests", TOO_MANY));
                }
                value["status"]["disruptionsAllowed"] = left.into();
                value["status"]["disruptedPods"][&*key.name] = now().into();
                Ok(Change::Put(value))
            };
            server.store.write(&budget, allow).await?;
            continue;
        }
        let mut error = ApiError::new(429, "TooManyRequests", TOO_MANY);
        let status = &value["status"];
        let message = format!(
            "The disruption budget {} needs {} healthy pods and has {} currently",
            budget.name,
            status["desiredHealthy"].as_i64().unwrap_or(0),
            status["currentHealthy"].as_i64().unwrap_or(0)
        );
        error.details.get_or_insert_default().causes =
            vec![Cause { reason: "DisruptionBudget", field: String::new(), message }];
        return Err(error);
    }
    Ok(())
}

/// Whether a LabelSelector object selects these labels; an absent one selects nothing.
pub(crate) fn selects(selector: &Value, labels: &Labels) -> bool {
    let Some(selector) = selector.as_object() else { return false };
    let exact = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    for (label, value) in exact {
        if labels.get(label) != value.as_str() {
            return false;
        }
    }
    for term in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let found = labels.get(term["key"].as_str().unwrap_or_default());
        let values: Vec<&str> =
            term["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let inside = found.is_some_and(|found| values.contains(&found));
        let holds = match term["operator"].as_str() {
            Some("In") => inside,
            Some("NotIn") => !inside,
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            _ => false,
        };
        if !holds {
            return false;
        }
    }
    true
}
