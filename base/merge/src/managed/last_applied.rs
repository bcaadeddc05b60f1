//! The passage from `kubectl apply` on the client's side to apply on the server's.
//!
//! Client-side apply leaves its last configuration in an annotation. When `kubectl` applies to such an object on the
//! server, the fields that still have the values of that configuration are its own, whoever is recorded as owner;
//! and the annotation is brought up to date, so that one may go back.

use std::sync::Arc;

use serde_json::Value;

use super::Request;
use crate::fields::Set;
use crate::typed::{Duplicates, Typed};

/// The only manager this is done for.
pub(super) const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Bytes of all annotations together that an object may have; a larger annotation is left out.
const ANNOTATIONS_SIZE_BYTES_MAX: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The fields of the last client-side configuration that `live` still holds unchanged; `None` without one.
pub(super) fn unchanged_fields(live: &Typed, request: &Request) -> Option<Set> {
    let last: Value = serde_json::from_str(annotation(&live.value)?).ok()?;
    let version = last.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let last = if version == request.api_version {
        Typed::parse(Arc::new(last), &live.schema, &version, Duplicates::Allowed).ok()?
    } else {
        // The converter knows the schema of the other version: it starts from an object that carries that version.
        let there = request.converter.convert(live, &version).ok()?;
        let last = Typed::parse(Arc::new(last), &there.schema, &version, Duplicates::Allowed).ok()?;
        request.converter.convert(&last, request.api_version).ok()?
    };
    let comparison = live.compare(&last).ok()?;
    let set = last.to_set();
    Some(set.difference(&comparison.modified).difference(&comparison.added).difference(&comparison.removed))
}

/// Puts the configuration just applied into the annotation, if the object has one.
pub(super) fn rewrite(object: &mut Value, config: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(annotations)) = config.pointer_mut("/metadata/annotations") {
        annotations.remove(ANNOTATION);
    }
    // The server's encoder ends with a line break, and sorts the members.
    let mut text = String::new();
    crate::value::write_json(&config, &mut text);
    text.push('\n');
    let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") else { return };
    let others: usize = annotations
        .iter()
        .filter(|(name, _)| *name != ANNOTATION)
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if others + ANNOTATION.len() + text.len() > ANNOTATIONS_SIZE_BYTES_MAX {
        // A wrong configuration is worse than none: client-side apply would undo fields by it.
        annotations.remove(ANNOTATION);
    } else {
        annotations.insert(ANNOTATION.into(), text.into());
    }
}
