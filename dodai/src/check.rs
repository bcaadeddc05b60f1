//! Checks objects of our own kinds against their schema before anything is sent: unknown fields and wrong types, each at
//! its line and with the name that was probably meant. The server checks everything again and decides.

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::manifests::Manifest;

/// Field that a file may have and that the command line replaces before it sends the object.
const FILE_ONLY: &str = "spec.source.folder";

/// Refuses objects whose fields their schema does not know.
pub(crate) fn check(manifests: &[Manifest]) -> Result<()> {
    let schemas: Vec<(String, Value)> = dodai_api::crds::all()
        .into_iter()
        .map(|crd| {
            let kind = format!("{}/{}", crd.spec.group, crd.spec.names.kind);
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap_or_default();
            (kind, schema["openAPIV3Schema"].clone())
        })
        .collect();
    let mut errors = Vec::new();
    for manifest in manifests {
        let group = manifest.api_version().split('/').next().unwrap_or_default();
        let kind = format!("{group}/{}", manifest.kind());
        if let Some((_, schema)) = schemas.iter().find(|(of, _)| *of == kind) {
            walk(manifest, schema, &manifest.value, "", &mut errors);
        } else if group == dodai_api::names::GROUP {
            errors.push(manifest.place.error("kind", &format!("`{kind}` is not a kind of dodai"), None));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::invalid(errors.join("\n\n"))) }
}

fn walk(manifest: &Manifest, schema: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
    match value {
        Value::Object(map) => object(manifest, schema, map, path, errors),
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                walk(manifest, &schema["items"], item, &format!("{path}[{index}]"), errors);
            }
        }
        _ => {}
    }
    if let Some(wanted) = schema["type"].as_str()
        && !fits(wanted, schema, value)
        && path != FILE_ONLY
    {
        let message = format!("`{}` must be {}, not {}", path, article(wanted), name_of(value));
        errors.push(manifest.place.error(path, &message, None));
    }
}

fn object(
    manifest: &Manifest,
    schema: &Value,
    map: &serde_json::Map<String, Value>,
    path: &str,
    errors: &mut Vec<String>,
) {
    let Some(known) = schema["properties"].as_object() else {
        if schema["additionalProperties"].is_object() {
            for (key, value) in map {
                walk(manifest, &schema["additionalProperties"], value, &join(path, key), errors);
            }
        }
        return;
    };
    for (key, value) in map {
        let here = join(path, key);
        if path.is_empty() && matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            // The server owns the rules of metadata; status is not ours to send.
            continue;
        }
        match known.get(key) {
            Some(schema) => walk(manifest, schema, value, &here, errors),
            None if here == FILE_ONLY || schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            None => {
                let place = if path.is_empty() { "the object" } else { path };
                let hint = dodai_yaml::suggest(key, known.keys().map(String::as_str))
                    .map(|meant| format!("did you mean `{meant}`?"));
                let message = format!("unknown field `{key}` ({place})");
                errors.push(manifest.place.error(&here, &message, hint.as_deref()));
            }
        }
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let is_replaced = join(path, required) == "spec.source.digest" && map.contains_key("folder");
        if !map.contains_key(required) && !is_replaced {
            let message =
                format!("missing field `{required}` ({})", if path.is_empty() { "the object" } else { path });
            errors.push(manifest.place.error(path, &message, None));
        }
    }
}

fn join(path: &str, key: &str) -> String {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    match (path.is_empty(), plain) {
        (true, _) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (false, false) => format!("{path}[\"{key}\"]"),
    }
}

fn fits(wanted: &str, schema: &Value, value: &Value) -> bool {
    match wanted {
        _ if value.is_null() => true,
        _ if schema["x-kubernetes-int-or-string"] == true => value.is_string() || value.is_i64(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn article(type_: &str) -> String {
    match type_ {
        "array" => "a list".to_owned(),
        "object" => "a mapping".to_owned(),
        "integer" => "a whole number".to_owned(),
        other => format!("a {other}"),
    }
}

fn name_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("the boolean `{value}`"),
        Value::Number(value) => format!("the number `{value}`"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}
