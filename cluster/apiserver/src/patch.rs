//! Patches: reading them, and applying JSON patches (RFC 6902) and JSON merge patches (RFC 7396).
//!
//! JSON patch is our own since upstream's differs from the RFC: `replace` of a missing member adds it.

use http::HeaderMap;
use serde_json::{Map, Value};

use crate::schema::decode::DEPTH_MAX;
use crate::schema::{Shape, decode};
use crate::status::ApiError;

/// Operations of one JSON patch.
const OPERATIONS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// Bytes that the copies of one JSON patch may add; else a few of them would make an object of any size.
const COPIED_BYTES_MAX: usize = 3 << 20;
/// Levels below which a JSON patch puts nothing, by path or by what it moves.
const LEVELS_MAX: usize = DEPTH_MAX;

/// A patch as it came.
#[derive(Debug)]
pub(crate) struct Patch {
    pub kind: PatchKind,
    pub value: Value,
    /// The text, for errors.
    pub text: String,
    /// Duplicate fields of the patch.
    pub problems: Vec<String>,
}

impl Patch {
    pub(crate) fn read(body: &[u8], headers: &HeaderMap) -> Result<Patch, ApiError> {
        let content_type =
            headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => PatchKind::Json,
            "application/merge-patch+json" => PatchKind::Merge,
            "application/strategic-merge-patch+json" => PatchKind::Strategic,
            "application/apply-patch+yaml" => PatchKind::Apply,
            _ => {
                let mut error = ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
                error.details = Some(Default::default());
                return Err(error);
            }
        };
        let text = std::str::from_utf8(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let (value, problems) = if kind == PatchKind::Apply && !text.trim_start().starts_with('{') {
            let value = dodai_yaml::from_str_json(text)
                .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
            (value, Vec::new())
        } else {
            let decoded = decode::from_slice(body, &Shape::Any)
                .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
            (decoded.value, decoded.problems)
        };
        if kind == PatchKind::Json {
            let Some(operations) = value.as_array() else {
                return Err(ApiError::bad_request(
                    "error decoding patch: json: cannot unmarshal object into an array",
                ));
            };
            if operations.len() > OPERATIONS_MAX {
                return Err(ApiError::too_large(format!(
                    "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
                    operations.len()
                )));
            }
        } else if !value.is_object() {
            return Err(ApiError::bad_request(
                "error decoding patch: json: cannot unmarshal a value that is no object",
            ));
        }
        Ok(Patch { kind, value, text: text.to_owned(), problems })
    }

    /// Applies a JSON or merge patch.
    pub(crate) fn apply_plain(&self, old: &Value) -> Result<Value, ApiError> {
        let mut object = old.clone();
        match self.kind {
            PatchKind::Json => {
                let mut copied = 0;
                for operation in self.value.as_array().into_iter().flatten() {
                    operate(&mut object, operation, &mut copied).map_err(|detail| match detail {
                        Refused::Malformed(text) => ApiError::bad_request(text),
                        Refused::Failed(text) => {
                            // Upstream keeps to itself why.
                            tracing::debug!(%text, "a JSON patch does not apply");
                            let message = "the server rejected our request due to an error in our request";
                            let mut error = ApiError::new(422, "Invalid", message);
                            error.details = Some(Default::default());
                            error
                        }
                    })?;
                }
            }
            _ => merge(&mut object, &self.value),
        }
        Ok(object)
    }
}

/// Applies the operations of a JSON patch.
///
/// # Errors
/// What is wrong with one of them.
pub(crate) fn apply_operations(object: &mut Value, operations: &[Value]) -> Result<(), String> {
    if operations.len() > OPERATIONS_MAX {
        return Err(format!("a JSON patch may have {OPERATIONS_MAX} operations, got {}", operations.len()));
    }
    let mut copied = 0;
    for operation in operations {
        operate(object, operation, &mut copied).map_err(|detail| match detail {
            Refused::Malformed(text) | Refused::Failed(text) => text,
        })?;
    }
    Ok(())
}

/// RFC 7396.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

enum Refused {
    Malformed(String),
    Failed(String),
}

/// `copied` counts the bytes that copies have added.
fn operate(object: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), Refused> {
    let text = |field: &str| operation[field].as_str();
    let Some(path) = text("path") else {
        return Err(Refused::Failed("operation has no `path`".into()));
    };
    let levels = path.matches('/').count();
    let too_deep = || Refused::Failed(format!("{path} leads below {LEVELS_MAX} levels"));
    if levels > LEVELS_MAX {
        return Err(too_deep());
    }
    let failed =
        |what: &str| Refused::Failed(format!("{what} operation does not apply: doc is missing path: {path}"));
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match text("op") {
        Some("add") => add(object, path, value()).ok_or_else(|| failed("add")),
        Some("replace") => {
            if path.is_empty() {
                *object = value();
                return Ok(());
            }
            let (parent, last) = split(path).ok_or_else(|| failed("replace"))?;
            match object.pointer_mut(parent) {
                Some(Value::Object(map)) => {
                    map.insert(unescape(last), value());
                    Ok(())
                }
                Some(Value::Array(items)) => {
                    let slot = index(last, items.len()).and_then(|at| items.get_mut(at));
                    *slot.ok_or_else(|| failed("replace"))? = value();
                    Ok(())
                }
                _ => Err(failed("replace")),
            }
        }
        Some("remove") => remove(object, path).map(drop).ok_or_else(|| failed("remove")),
        Some("test") => {
            let found = object.pointer(path).cloned().unwrap_or(Value::Null);
            if found == value() {
                return Ok(());
            }
            Err(Refused::Failed(format!("testing value {path} failed: test failed")))
        }
        Some(op @ ("move" | "copy")) => {
            let from = text("from").ok_or_else(|| failed(op))?;
            let moved = match op {
                "move" => remove(object, from),
                _ => object.pointer(from).cloned(),
            };
            let moved = moved.ok_or_else(|| failed(op))?;
            if op == "copy" {
                *copied += moved.to_string().len();
                if *copied > COPIED_BYTES_MAX {
                    return Err(Refused::Failed(format!(
                        "Unable to copy, the accumulated size increase of copy is {copied}, exceeding the limit {COPIED_BYTES_MAX}"
                    )));
                }
            }
            if is_deeper(&moved, LEVELS_MAX - levels) {
                return Err(too_deep());
            }
            add(object, path, moved).ok_or_else(|| failed(op))
        }
        other => Err(Refused::Malformed(format!("unexpected kind: {}", other.unwrap_or("unknown")))),
    }
}

/// Whether anything lies more than so many levels down.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let below = |value: &Value| levels == 0 || is_deeper(value, levels - 1);
    match value {
        Value::Object(map) => map.values().any(below),
        Value::Array(items) => items.iter().any(below),
        _ => false,
    }
}

fn split(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once('/')
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

fn index(part: &str, len: usize) -> Option<usize> {
    if let Some(back) = part.strip_prefix('-').and_then(|rest| rest.parse::<usize>().ok()) {
        return len.checked_sub(back);
    }
    part.parse().ok()
}

fn add(object: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *object = value;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent)? {
        Value::Object(map) => {
            map.insert(unescape(last), value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(last, items.len()).filter(|at| *at <= items.len())?;
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(object: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent)? {
        Value::Object(map) => map.remove(&unescape(last)),
        Value::Array(items) => {
            let at = index(last, items.len()).filter(|at| *at < items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}
