//! The scale subresource: a `Scale` made from the object, and written back to it.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::admission;
use crate::admission::attributes::{Attributes, Operation};
use crate::codec::{self, FieldValidation, body_json};
use crate::crd;
use crate::handle::manager;
use crate::kinds::Kind;
use crate::patch::{Patch, PatchKind};
use crate::read;
use crate::reply::Reply;
use crate::request::{Media, Query};
use crate::schema::{self, Shape, decode};
use crate::server::Server;
use crate::status::{ApiError, Cause};
use crate::store::Key;
use crate::subresource::Door;
use crate::user::User;
use crate::write::{self, Outcome};

const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

struct Paths {
    spec: String,
    status: String,
    /// Path of the selector; for built-in kinds a LabelSelector object.
    selector: Option<String>,
}

fn paths(kind: &Kind) -> Paths {
    match kind.custom.as_ref().and_then(|custom| custom.scale.clone()) {
        Some(scale) => {
            Paths { spec: scale.spec_replicas, status: scale.status_replicas, selector: scale.selector }
        }
        None => Paths {
            spec: "spec.replicas".into(),
            status: "status.replicas".into(),
            selector: Some("spec.selector".into()),
        },
    }
}

/// A selector as text, as `Scale` shows it.
fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let Some(map) = selector.as_object() else { return String::new() };
    // A ReplicationController has a plain map.
    let structured = map.contains_key("matchLabels") || map.contains_key("matchExpressions");
    let labels = if structured { selector["matchLabels"].as_object() } else { Some(map) };
    let mut terms: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()))
        .collect();
    for term in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = term["key"].as_str().unwrap_or_default();
        let values: Vec<&str> =
            term["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        terms.push(match term["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    terms.sort();
    terms.join(",")
}

fn scale_of(kind: &Kind, object: &Value) -> Result<Value, ApiError> {
    let paths = paths(kind);
    let meta = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta["name"], "uid": meta["uid"], "resourceVersion": meta["resourceVersion"],
            "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": {}, "status": { "replicas": 0 },
    });
    if !meta["namespace"].is_null() {
        scale["metadata"]["namespace"] = meta["namespace"].clone();
    }
    match crd::at(object, &paths.spec).and_then(Value::as_i64) {
        Some(replicas) if replicas != 0 => scale["spec"]["replicas"] = replicas.into(),
        Some(_) => {}
        None if kind.is_custom() => {
            return Err(ApiError::internal(format!(
                "the spec replicas field \".{}\" does not exist",
                paths.spec
            )));
        }
        None => {}
    }
    scale["status"]["replicas"] = crd::at(object, &paths.status).and_then(Value::as_i64).unwrap_or(0).into();
    let selector =
        paths.selector.and_then(|path| crd::at(object, &path).map(selector_text)).unwrap_or_default();
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

/// get, update and patch of a Scale.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn answer(
    server: &Arc<Server>,
    user: &User,
    kind: &Arc<Kind>,
    key: &Key,
    query: &Query,
    verb: &str,
    media: Media,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Reply, ApiError> {
    let Some(seen) = server.store.get_head(key) else {
        return Err(ApiError::not_found(&kind.plural, &kind.group, &key.name));
    };
    let object = codec::load(kind, &seen);
    let scale = scale_of(kind, &object)?;
    if verb == "get" {
        return read::value(kind, &scale, media, query);
    }
    let options = if verb == "update" { "UpdateOptions" } else { "PatchOptions" };
    let (dry_run, validation) = write::check_options(query, options)?;
    let shape = Shape::Struct(schema::builtin(SCALE).root);
    let decoded = match verb {
        "update" => decode::from_slice(&body_json(body, headers)?, &shape).map_err(|detail| {
            ApiError::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: {detail}"))
        })?,
        _ => {
            let patch = Patch::read(&body, headers)?;
            crate::special::check_patch_options(&patch, query)?;
            let merged = match patch.kind {
                // A Scale has no lists, so these three are one.
                PatchKind::Strategic | PatchKind::Merge | PatchKind::Apply => {
                    let mut merged = scale.clone();
                    crate::patch::merge(&mut merged, &patch.value);
                    merged
                }
                PatchKind::Json => patch.apply_plain(&scale)?,
            };
            let read = match patch.kind {
                PatchKind::Strategic | PatchKind::Apply => decode::convert(merged, &shape),
                _ => decode::from_value(merged, &shape),
            };
            let wrong = |detail: &str| {
                let shown = Value::String(patch.text.clone());
                ApiError::invalid("", "", "", vec![Cause::invalid("patch", &shown, detail)])
            };
            let read = read.map_err(|detail| wrong(&detail))?;
            if validation == FieldValidation::Strict && !read.problems.is_empty() {
                return Err(wrong(&format!("strict decoding error: {}", read.problems.join(", "))));
            }
            read
        }
    };
    let mut warnings = match validation {
        FieldValidation::Warn => decoded.problems,
        FieldValidation::Strict if !decoded.problems.is_empty() => {
            return Err(ApiError::bad_request(format!(
                "Scale in version \"v1\" cannot be handled as a Scale: strict decoding error: {}",
                decoded.problems.join(", ")
            )));
        }
        _ => Vec::new(),
    };
    let mut wanted = decoded.value;
    let asked = Attributes {
        server,
        user,
        operation: Operation::Update,
        kind,
        subresource: "scale",
        namespace: &key.namespace,
        name: key.name.to_string(),
        object: Some(&wanted),
        old: Some(&scale),
        dry_run,
        options: write::options_value(options, query),
    };
    let (changed, told) = admission::mutate_by_hooks(&asked).await?;
    let asked = Attributes { object: Some(changed.as_ref().unwrap_or(&wanted)), ..asked };
    warnings.extend(told);
    warnings.extend(admission::validate_by_hooks(&asked).await?);
    if let Some(changed) = changed {
        wanted = changed;
    }
    let replicas = check(kind, key, &wanted)?;
    let mut changed = object.clone();
    crd::set_at(&mut changed, &paths(kind).spec, replicas.into());
    let revision = wanted["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    if !revision.is_empty() && verb == "update" {
        changed["metadata"]["resourceVersion"] = revision.into();
    }
    let mut request = write::Request {
        server,
        kind: kind.clone(),
        key: key.clone(),
        query,
        user,
        manager: manager(query, headers, user),
        dry_run,
        validation,
        warnings: Vec::new(),
        door: Door::of("scale"),
        options,
        hooks: false,
    };
    let Outcome { object, .. } = request.update_tree(changed, revision.is_empty()).await?;
    let mut scale = scale_of(kind, &object)?;
    if dry_run {
        scale["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
    }
    Ok(read::value(kind, &scale, media, query)?.with_warnings(warnings))
}

fn check(kind: &Kind, key: &Key, wanted: &Value) -> Result<i64, ApiError> {
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            key.name
        )));
    }
    if *name != *key.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.name
        )));
    }
    let mut causes = Vec::new();
    crate::validate::labels(&wanted["metadata"]["labels"], "metadata.labels", &mut causes);
    if !causes.is_empty() && !kind.is_custom() {
        return Err(ApiError::invalid("Scale", "autoscaling", &key.name, causes));
    }
    let spec = &wanted["spec"]["replicas"];
    let replicas = match spec {
        Value::Null => 0,
        number => number.as_i64().ok_or_else(|| {
            ApiError::bad_request("Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal a value into spec.replicas")
        })?,
    };
    if replicas < 0 {
        if kind.is_custom() {
            let path = format!(".{}", paths(kind).spec);
            let cause = Cause::invalid(path, &replicas.into(), "should be a non-negative integer");
            return Err(ApiError::invalid(&kind.kind, &kind.group, &key.name, vec![cause]));
        }
        let cause = Cause::invalid("spec.replicas", &replicas.into(), "must be greater than or equal to 0");
        return Err(ApiError::invalid("Scale", "autoscaling", &key.name, vec![cause]));
    }
    Ok(replicas)
}
