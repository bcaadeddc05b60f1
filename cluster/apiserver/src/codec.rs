//! Between bytes and objects: bodies in, stored objects out.
//!
//! Stored JSON carries no `apiVersion` and `kind`, so one stored text serves every version that differs in nothing
//! else.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::convert;
use crate::kinds::Kind;
use crate::schema::{self, Shape, decode};
use crate::status::ApiError;
use crate::store::{Draft, Object};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// `fieldValidation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub(crate) fn read(text: &str, options: &str) -> Result<FieldValidation, ApiError> {
        match text {
            "" | "Warn" => Ok(FieldValidation::Warn),
            "Ignore" => Ok(FieldValidation::Ignore),
            "Strict" => Ok(FieldValidation::Strict),
            other => Err(ApiError::invalid(
                options,
                "meta.k8s.io",
                "",
                vec![crate::status::Cause::not_supported(
                    "fieldValidation",
                    &other.into(),
                    &["", "Ignore", "Strict", "Warn"],
                )],
            )),
        }
    }
}

/// Reads a body by its Content-Type into JSON text.
pub(crate) fn body_json(body: Bytes, headers: &HeaderMap) -> Result<Bytes, ApiError> {
    let content_type =
        headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if body.is_empty() {
        return Ok(body);
    }
    match content_type.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" => Ok(body),
        "application/yaml" => {
            let text =
                std::str::from_utf8(&body).map_err(|error| ApiError::bad_request(error.to_string()))?;
            let value = dodai_yaml::from_str_json(text)
                .map_err(|error| ApiError::bad_request(format!("error converting YAML to JSON: {error}")))?;
            Ok(value.to_string().into())
        }
        "application/vnd.kubernetes.protobuf" => Ok(crate::proto::decode(&body)?.to_string().into()),
        _ => Err(ApiError::unsupported_media(&[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ])),
    }
}

/// Reads an object of a kind. Notes unknown and duplicate fields.
pub(crate) fn decode(kind: &Kind, body: &[u8]) -> Result<decode::Decoded, ApiError> {
    let decoded = match shape(kind) {
        Some(shape) => decode::from_slice(body, &shape),
        None => decode::from_slice(body, &Shape::Any).and_then(custom_metadata),
    };
    checked(kind, decoded)
}

/// Reads a tree as an object of a kind, as after a patch. `typed`: the patch was applied along the type, so what comes out is converted
/// and not read. An error is the bare text.
pub(crate) fn decode_value(kind: &Kind, value: Value, typed: bool) -> Result<decode::Decoded, String> {
    let decoded = match shape(kind) {
        Some(shape) if typed => decode::convert(value, &shape),
        Some(shape) => decode::from_value(value, &shape),
        None => decode::from_value(value, &Shape::Any).and_then(custom_metadata),
    };
    completed(decoded)
}

fn checked(kind: &Kind, decoded: Result<decode::Decoded, String>) -> Result<decode::Decoded, ApiError> {
    completed(decoded).map_err(|detail| cannot_handle(kind, &detail))
}

fn completed(decoded: Result<decode::Decoded, String>) -> Result<decode::Decoded, String> {
    let mut decoded = decoded?;
    if decoded.value.is_null() {
        decoded.value = json!({});
    }
    if !decoded.value.is_object() {
        return Err("json: cannot unmarshal a value that is no object".into());
    }
    if !decoded.value["metadata"].is_object() {
        decoded.value["metadata"] = json!({});
    }
    Ok(decoded)
}

pub(crate) fn cannot_handle(kind: &Kind, detail: &str) -> ApiError {
    ApiError::bad_request(format!(
        "{} in version {} cannot be handled as a {}: {detail}",
        kind.kind,
        crate::status::quote(&kind.version),
        kind.kind
    ))
}

fn shape(kind: &Kind) -> Option<Shape> {
    Some(Shape::Struct(kind.info()?.root))
}

/// The metadata of a custom resource is typed, whatever its schema says.
fn custom_metadata(mut decoded: decode::Decoded) -> Result<decode::Decoded, String> {
    let Some(object) = decoded.value.as_object_mut() else { return Ok(decoded) };
    if let Some(meta) = object.remove("metadata") {
        let ty = schema::named(OBJECT_META);
        let mut inner = decode::from_value(meta, &Shape::Struct(ty))?;
        schema::normalize(&mut inner.value, ty);
        object.insert("metadata".into(), inner.value);
        let problems =
            inner.problems.into_iter().map(|problem| problem.replacen("field \"", "field \"metadata.", 1));
        decoded.problems.extend(problems);
    }
    for key in ["apiVersion", "kind"] {
        if object.get(key).is_some_and(|value| !value.is_string() && !value.is_null()) {
            return Err(format!("json: cannot unmarshal a value of `{key}` that is no string"));
        }
    }
    Ok(decoded)
}

/// Brings an object into the form in which it is answered and stored.
pub(crate) fn normalize(kind: &Kind, object: &mut Value) {
    match kind.info() {
        Some(info) => schema::normalize(object, info.root),
        None => {
            schema::normalize(&mut object["metadata"], schema::named(OBJECT_META));
        }
    }
}

/// As `normalize`, for an object on its way in: see `schema::normalize_request`.
pub(crate) fn normalize_request(kind: &Kind, object: &mut Value) {
    match kind.info() {
        Some(info) => schema::normalize_request(object, info.root),
        None => normalize(kind, object),
    }
}

/// Takes apiVersion and kind away, for storing.
pub(crate) fn strip_type(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
}

/// An object in the version of `kind`, written out for the store.
pub(crate) fn draft(kind: &Kind, object: &Value) -> Draft {
    if convert::is_stored_as_it_is(kind) {
        return Draft::without(object, &["apiVersion", "kind"]);
    }
    let mut stored = object.clone();
    set_type(&mut stored, kind);
    convert::to_storage(kind, &mut stored);
    Draft::without(&stored, &["apiVersion", "kind"])
}

pub(crate) fn set_type(object: &mut Value, kind: &Kind) {
    // It is set at several places, and most often there already.
    if !object["apiVersion"].as_str().is_some_and(|known| kind.is_api_version(known)) {
        object["apiVersion"] = kind.api_version().into();
    }
    if object["kind"] != *kind.kind {
        object["kind"] = kind.kind.clone().into();
    }
}

/// Refuses an object whose value could not be opened: it is neither empty nor gone.
pub(crate) fn check_open(object: &Object) -> Result<(), ApiError> {
    match &object.locked {
        None => Ok(()),
        Some(locked) => {
            let (namespace, name) = (&object.namespace, &object.name);
            Err(ApiError::internal(format!("cannot open Secret \"{namespace}/{name}\": {}", locked.why)))
        }
    }
}

/// A stored object as a tree in the version of `kind`, with apiVersion and kind.
pub(crate) fn load(kind: &Kind, object: &Object) -> Value {
    let mut value = object.value();
    convert::from_storage(kind, &mut value);
    set_type(&mut value, kind);
    value
}

/// Makes of an object in the version of `kind` what would be read now that it is stored.
pub(crate) fn as_stored(kind: &Kind, object: &mut Value, stored: &Object) {
    match convert::is_stored_as_it_is(kind) {
        true => object["metadata"]["resourceVersion"] = stored.revision.to_string().into(),
        false => *object = load(kind, stored),
    }
}

/// A stored object as JSON text in the version of `kind`, with apiVersion and kind.
pub(crate) fn render(kind: &Kind, object: &Object) -> Bytes {
    if convert::is_plain(kind) {
        return with_type(kind, &object.json);
    }
    Bytes::from(load(kind, object).to_string())
}

/// As `render`, without apiVersion and kind where lists leave them out.
pub(crate) fn render_item(kind: &Kind, object: &Object) -> Bytes {
    if kind.is_custom() {
        return render(kind, object);
    }
    if convert::is_plain(kind) {
        return object.json.clone();
    }
    let mut value = load(kind, object);
    strip_type(&mut value);
    Bytes::from(value.to_string())
}

fn with_type(kind: &Kind, json: &[u8]) -> Bytes {
    let mut text = Vec::with_capacity(json.len() + 64);
    text.extend_from_slice(b"{\"kind\":\"");
    text.extend_from_slice(kind.kind.as_bytes());
    text.extend_from_slice(b"\",\"apiVersion\":\"");
    text.extend_from_slice(kind.api_version().as_bytes());
    text.extend_from_slice(b"\",");
    text.extend_from_slice(json.get(1..).unwrap_or_default());
    text.into()
}

/// The metadata of an object in the form `PartialObjectMetadata`.
pub(crate) fn partial(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}
