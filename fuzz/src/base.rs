//! The base crates: YAML, CEL, strategic merge, server-side apply, field sets.

use std::sync::LazyLock;

use dodai_cel::rules::{Limits, Validator};
use dodai_merge::fields::Set;
use dodai_merge::managed::{self, Request};
use dodai_merge::schema::Schema;
use dodai_merge::strategic;
use dodai_merge::update::SameInAllVersions;
use serde_json::{Value, json};

/// Kubernetes' YAML: what is written again reads as the same value.
pub(crate) fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(documents) = dodai_yaml::parse(text) else { return };
    for document in documents {
        let _ = document.position("a.b[0].c");
        let Ok(value) = document.to_json() else { continue };
        let written = dodai_yaml::to_string(&value);
        match dodai_yaml::from_str_json(&written) {
            Ok(again) => assert_eq!(value, again, "{written}"),
            Err(error) => panic!("what was written is not read: {error}\n{written}"),
        }
    }
}

/// A splice into a document: the first line is a path and a new value, the rest the document. What was asked for is
/// there afterwards, and nothing before it has moved.
pub(crate) fn yaml_edit(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((head, text)) = text.split_once('\n') else { return };
    let (path, new) = head.split_once(' ').unwrap_or((head, "new"));
    let Ok(edited) = dodai_yaml::replace_scalar(text, path, &Value::from(new)) else { return };
    let documents = dodai_yaml::parse(&edited).unwrap_or_else(|error| panic!("{error}\n{edited}"));
    assert!(
        documents.iter().any(|document| document.range(path).is_some()),
        "`{path}` is gone from\n{edited}"
    );
}

/// A rule of a CRD: compiling and running any text ends, within its cost limit.
pub(crate) fn cel(data: &[u8]) {
    let Ok(rule) = std::str::from_utf8(data) else { return };
    let schema = json!({
        "type": "object",
        "properties": {
            "a": { "type": "integer" }, "name": { "type": "string" },
            "list": { "type": "array", "items": { "type": "string" } },
            "map": { "type": "object", "additionalProperties": { "type": "string" } }
        },
        "x-kubernetes-validations": [{ "rule": rule }]
    });
    let Some(validator) = Validator::new(&schema, false, 36) else { return };
    let object = json!({ "a": 3, "name": "x", "list": ["a", "b"], "map": { "k": "v" } });
    let _ = validator.validate("spec", &object, None, Limits::default(), false);
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let root = json!({ "type": "object", "properties": {
        "apiVersion": { "type": "string" }, "kind": { "type": "string" },
        "metadata": { "type": "object", "properties": {
            "name": { "type": "string" },
            "labels": { "type": "object", "additionalProperties": { "type": "string" } },
            "finalizers": { "type": "array", "items": { "type": "string" }, "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge" } } },
        "a": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name",
            "items": { "type": "object", "properties": { "name": { "type": "string" }, "v": { "type": "integer" },
                "p": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                    "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "port",
                    "items": { "type": "object", "properties": { "port": { "type": "integer" }, "protocol": { "type": "string", "default": "TCP" } } } } } } },
        "b": { "type": "object", "properties": { "c": { "type": "integer" }, "d": { "type": "integer" } }, "x-kubernetes-patch-strategy": "retainKeys" },
        "m": { "type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": { "type": "string" } },
        "x": { "x-kubernetes-preserve-unknown-fields": true }
    } });
    Schema::from_openapi(&root, |_| None).expect("the schema above is sound")
});

/// Two JSON texts, the second begins behind the first line break.
fn pair(data: &[u8]) -> Option<(Value, Value)> {
    let (first, second) = std::str::from_utf8(data).ok()?.split_once('\n')?;
    Some((serde_json::from_str(first).ok()?, serde_json::from_str(second).ok()?))
}

/// An object and a strategic merge patch.
pub(crate) fn strategic_merge(data: &[u8]) {
    let Some((live, patch)) = pair(data) else { return };
    let _ = strategic::patch(&live, &patch, &Schema::deduced());
    let _ = strategic::patch(&live, &patch, &SCHEMA);
}

/// An object and an applied configuration, which, applied again, changes nothing.
pub(crate) fn apply(data: &[u8]) {
    let Some((live, mut config)) = pair(data) else { return };
    if !live.is_object() || !config.is_object() {
        return;
    }
    managed::clear(&mut config);
    let request = Request {
        schema: &SCHEMA,
        api_version: "v1",
        subresource: "",
        manager: "a",
        time: "2026-01-31T10:00:00Z",
        reset_fields: None,
        empty: None,
        converter: &SameInAllVersions,
    };
    let _ = managed::apply(Some(&live), &config, false, &request);
    let Ok(once) = managed::apply(Some(&live), &config, true, &request) else { return };
    let twice = managed::apply(Some(&once), &config, true, &request)
        .unwrap_or_else(|error| panic!("applied once, then not again: {error}"));
    assert_eq!(once, twice, "applying again changes the object");
    let other = Request { manager: "b", ..request };
    managed::update(Some(&once), live, &other);
}

/// `FieldsV1`: what is written again reads as the same set.
pub(crate) fn field_set(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(set) = Set::from_json_str(text) else { return };
    let again = Set::from_json_str(&set.to_json_string()).expect("what was written is read");
    assert_eq!(set, again);
}
