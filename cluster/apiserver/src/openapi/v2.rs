//! OpenAPI v2 in JSON, for clients from before v3: the documents of v3 put together and rewritten.
//!
//! It is large and seldom asked for, so it is made anew each time, one at a time. Left out: its protobuf form.

use serde_json::{Map, Value, json};

use super::{make, paths};
use crate::kinds::Registry;

/// Media types of patches in the order in which upstream lists them.
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Members of a schema that v2 does not have.
const NOT_IN_V2: [&str; 4] = ["oneOf", "anyOf", "not", "nullable"];

/// The document.
pub(super) fn document(registry: &Registry) -> String {
    let mut definitions = Map::new();
    let mut all = Map::new();
    for (_, group, version) in paths(registry) {
        let mut made = make(registry, group, version);
        if let Value::Object(schemas) = made["components"]["schemas"].take() {
            for (name, mut schema) in schemas {
                let seen = definitions.contains_key(&name);
                // The version of a kind in the document of its own group knows more.
                if !seen || schema.get("x-kubernetes-group-version-kind").is_some() {
                    rewrite(&mut schema);
                    definitions.insert(name, schema);
                }
            }
        }
        if let Value::Object(found) = made["paths"].take() {
            all.extend(found.into_iter().map(|(path, item)| (path, path_item(item))));
        }
    }
    let title = json!({ "title": "Kubernetes", "version": crate::discovery::VERSION });
    json!({ "swagger": "2.0", "info": title, "paths": all, "definitions": definitions }).to_string()
}

/// A schema of v3 in the form of v2.
fn rewrite(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("format").is_some_and(|format| format == "int-or-string") {
                map.insert("type".into(), "string".into());
            } else if map.contains_key("oneOf") && !map.contains_key("type") {
                // A quantity: text, or a number that is taken for text.
                map.insert("type".into(), "string".into());
            }
            for member in NOT_IN_V2 {
                map.remove(member);
            }
            if let Some(all) = map.remove("allOf")
                && let Some(reference) = all.get(0).and_then(|first| first.get("$ref"))
            {
                map.remove("default");
                map.insert("$ref".into(), reference.clone());
            }
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = reference.replace("#/components/schemas/", "#/definitions/");
            }
            map.values_mut().for_each(rewrite);
        }
        Value::Array(items) => items.iter_mut().for_each(rewrite),
        _ => {}
    }
}

fn path_item(mut item: Value) -> Value {
    for (method, operation) in item.as_object_mut().into_iter().flatten() {
        match method.as_str() {
            "parameters" => *operation = parameters(operation),
            _ => self::operation(operation),
        }
    }
    item
}

fn parameters(list: &Value) -> Value {
    let parameters = list.as_array().into_iter().flatten().map(|parameter| {
        let mut parameter = parameter.clone();
        if let Value::Object(schema) = parameter["schema"].take() {
            parameter.as_object_mut().map(|map| map.remove("schema"));
            for (name, value) in schema {
                parameter[name] = value;
            }
        }
        parameter
    });
    parameters.collect()
}

fn operation(operation: &mut Value) {
    let mut list = vec![];
    let body = operation["requestBody"].take();
    let content = body["content"].as_object().cloned().unwrap_or_default();
    let mut consumes: Vec<&str> = PATCHES.into_iter().filter(|media| content.contains_key(*media)).collect();
    if consumes.is_empty() {
        consumes.push("*/*");
    }
    if let Some(mut schema) = content.values().next().map(|media| media["schema"].clone()) {
        rewrite(&mut schema);
        list.push(json!({ "in": "body", "name": "body", "required": true, "schema": schema }));
    }
    if let Value::Array(others) = parameters(&operation["parameters"]) {
        list.extend(others);
    }
    operation["consumes"] = consumes.into();
    operation["produces"] = json!(["application/json", "application/yaml"]);
    operation["schemes"] = json!(["https"]);
    if let Some(map) = operation.as_object_mut() {
        map.remove("requestBody");
        map.remove("parameters");
    }
    if !list.is_empty() {
        operation["parameters"] = list.into();
    }
    for (_, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        let mut schema = response["content"]["application/json"]["schema"].take();
        rewrite(&mut schema);
        response.as_object_mut().map(|map| map.remove("content"));
        response["schema"] = schema;
    }
}
