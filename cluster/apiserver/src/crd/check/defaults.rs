//! Defaults of a schema must be values it takes.

use serde_json::Value;

use crate::crd::rules;
use crate::crd::structural::Structural;
use crate::status::{Cause, show};

/// Checks the defaults of a schema and of all below it, whose other parts are right.
pub(super) fn check(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    walk(schema, path, true, false, causes);
}

fn walk(schema: &Value, path: &str, is_root: bool, in_meta: bool, causes: &mut Vec<Cause>) {
    let embedded = is_root || schema["x-kubernetes-embedded-resource"] == true;
    let in_meta = in_meta && !embedded;
    let default = &schema["default"];
    if !default.is_null() {
        check_one(schema, default, &format!("{path}.default"), embedded, in_meta, causes);
    }
    // Below additionalProperties no default is ever set.
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}.items"), false, in_meta, causes);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let in_meta = in_meta || embedded && ["metadata", "apiVersion", "kind"].contains(&name.as_str());
        walk(inner, &format!("{path}.properties[{name}]"), false, in_meta, causes);
    }
}

fn check_one(
    schema: &Value,
    default: &Value,
    path: &str,
    embedded: bool,
    in_meta: bool,
    causes: &mut Vec<Cause>,
) {
    let compiled = Structural::compile(schema);
    if !in_meta {
        let mut unknown = Vec::new();
        compiled.prune(&mut default.clone(), embedded, &mut unknown);
        if !unknown.is_empty() {
            causes.push(Cause::invalid(path, default, "must not have unknown fields"));
        }
    }
    let mut found = Vec::new();
    compiled.validate(default, "", &mut found);
    if let Some(first) = found.first() {
        let detail = first.message.split_once(": ").map(|(_, rest)| rest).unwrap_or(&first.message);
        causes.push(Cause::invalid_text(path, &show(default), detail));
    } else {
        rules::run_on_default(schema, default, path, causes);
    }
}
