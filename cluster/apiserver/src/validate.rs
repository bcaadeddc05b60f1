//! Checks of built-in kinds, with upstream's texts.

use serde_json::Value;

use crate::kinds::Kind;
use crate::names;
use crate::status::Cause;

/// Bytes of all annotations together.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

/// Rules for `metadata` of a new object.
pub(crate) fn metadata(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let meta = &object["metadata"];
    let name = meta["name"].as_str().unwrap_or_default();
    let generate = meta["generateName"].as_str().unwrap_or_default();
    if !generate.is_empty() && !kind.is_custom() {
        // The base may end with a dash, as it is followed by more.
        let base = format!("{}x", generate.trim_end_matches('-'));
        for detail in check_name(kind, &base) {
            causes.push(Cause::invalid(
                "metadata.generateName",
                &generate.into(),
                &detail.replace("254", "253"),
            ));
        }
    }
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else {
        for detail in check_name(kind, name) {
            causes.push(Cause::invalid("metadata.name", &name.into(), &detail));
        }
    }
    common(meta, causes);
}

/// Rules for `metadata` of a changed object.
pub(crate) fn metadata_update(kind: &Kind, old: &Value, object: &Value, causes: &mut Vec<Cause>) {
    let meta = &object["metadata"];
    let _ = kind;
    common(meta, causes);
    if meta["uid"] != old["metadata"]["uid"] {
        causes.push(Cause::invalid("metadata.uid", &meta["uid"], "field is immutable"));
    }
    if !old["metadata"]["deletionTimestamp"].is_null() {
        let before = old["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let after = meta["finalizers"].as_array().cloned().unwrap_or_default();
        let added: Vec<&Value> = after.iter().filter(|name| !before.contains(name)).collect();
        if !added.is_empty() {
            let names: Vec<String> =
                added.iter().map(|name| format!("\"{}\"", name.as_str().unwrap_or_default())).collect();
            let text = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                names.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", &text));
        }
    }
}

fn common(meta: &Value, causes: &mut Vec<Cause>) {
    labels(&meta["labels"], "metadata.labels", causes);
    let mut size = 0;
    for (key, value) in meta["annotations"].as_object().into_iter().flatten() {
        for detail in names::qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &key.clone().into(), &detail));
        }
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_BYTES_MAX {
        causes.push(Cause::too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX));
    }
    for (at, owner) in meta["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let text =
                    format!("{} must not be empty", if field == "apiVersion" { "version" } else { field });
                causes.push(Cause::invalid(
                    format!("metadata.ownerReferences[{at}].{field}"),
                    &owner[field],
                    &text,
                ));
            }
        }
    }
    let controllers = meta["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|owner| owner["controller"] == true)
        .count();
    if controllers > 1 {
        let text = "Only one reference can have Controller set to true. Found \"true\" in references for more than one";
        causes.push(Cause::invalid("metadata.ownerReferences", &meta["ownerReferences"], text));
    }
    for (at, finalizer) in meta["finalizers"].as_array().into_iter().flatten().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        for detail in names::qualified_name(text) {
            causes.push(Cause::invalid(format!("metadata.finalizers[{at}]"), finalizer, &detail));
        }
    }
}

/// Rules for labels at `path`.
pub(crate) fn labels(labels: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for detail in names::qualified_name(key) {
            causes.push(Cause::invalid(path, &key.clone().into(), &detail));
        }
        if let Some(detail) = names::label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(path, value, &detail));
        }
    }
}

fn check_name(kind: &Kind, name: &str) -> Vec<String> {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "namespaces") => names::label(name),
        ("", "services") => names::label(name),
        ("rbac.authorization.k8s.io", _) => names::path_segment(name).into_iter().collect(),
        _ => names::subdomain(name).into_iter().collect(),
    }
}

/// Checks a new object.
pub(crate) fn create(_kind: &Kind, _object: &Value, _causes: &mut Vec<Cause>) {}

/// Checks a changed object.
pub(crate) fn update(_kind: &Kind, _old: &Value, _object: &Value, _causes: &mut Vec<Cause>) {}
