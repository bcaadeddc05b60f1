//! What OpenAPI schemas of definitions may say at all, and the kinds of their lists and maps.

use serde_json::Value;

use crate::status::Cause;

/// Checks a schema and all below it.
pub(super) fn check(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let place = Place { is_root: true, in_meta: false, no_default: None };
    Check { causes }.schema(schema, path, &place);
}

/// The keywords that keep a schema from being structural at all.
const UNSUPPORTED: [&str; 7] =
    ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref", "$schema"];

/// Whether something in the schema is not supported at all.
pub(super) fn is_unsupported(schema: &Value) -> bool {
    UNSUPPORTED.iter().any(|field| given(&schema[*field]))
        || schema["items"].is_array()
        || below(schema, "").iter().any(|(inner, ..)| is_unsupported(inner))
}

/// The types of elements of sets which are no scalars.
pub(in crate::crd) fn sets_of_others(schema: &Value, found: &mut Vec<String>) {
    let ty = type_of(&schema["items"]);
    if schema["x-kubernetes-list-type"] == "set" && ["object", "array"].contains(&ty) {
        found.push(ty.to_owned());
    }
    below(schema, "").iter().for_each(|(inner, ..)| sets_of_others(inner, found));
}

fn given(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

#[derive(Clone)]
struct Place {
    is_root: bool,
    /// Inside of `metadata`, `kind` or `apiVersion` of an object.
    in_meta: bool,
    /// Why there may be no defaults.
    no_default: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    Property,
    Additional,
    Other,
}

/// The schemas directly in a schema, with their paths, in upstream's order.
fn below<'a>(schema: &'a Value, path: &str) -> Vec<(&'a Value, String, Step, &'a str)> {
    let mut found = Vec::new();
    let additional = &schema["additionalProperties"];
    if additional.is_object() {
        found.push((additional, format!("{path}.additionalProperties"), Step::Additional, ""));
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        found.push((inner, format!("{path}.properties[{name}]"), Step::Property, name.as_str()));
    }
    if schema["not"].is_object() {
        found.push((&schema["not"], format!("{path}.not"), Step::Other, ""));
    }
    for junctor in ["allOf", "oneOf", "anyOf"] {
        for (at, inner) in schema[junctor].as_array().into_iter().flatten().enumerate() {
            found.push((inner, format!("{path}.{junctor}[{at}]"), Step::Other, ""));
        }
    }
    if schema["items"].is_object() {
        found.push((&schema["items"], format!("{path}.items"), Step::Other, ""));
    }
    found
}

struct Check<'a> {
    causes: &'a mut Vec<Cause>,
}

impl Check<'_> {
    fn schema(&mut self, schema: &Value, path: &str, place: &Place) {
        self.keywords(schema, path, place);
        if schema["uniqueItems"] == true {
            let text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(path, "uniqueItems", text);
        }
        let additional = &schema["additionalProperties"];
        if schema["properties"].as_object().is_some_and(|map| !map.is_empty())
            && (additional.is_object() || *additional == false)
        {
            let text = "additionalProperties and properties are mutual exclusive";
            self.forbid(path, "additionalProperties", text);
        }
        for (inner, inner_path, step, name) in below(schema, path) {
            let mut inner_place = Place { is_root: false, ..place.clone() };
            let is_resource = place.is_root || schema["x-kubernetes-embedded-resource"] == true;
            if step == Step::Property && is_resource && ["metadata", "kind", "apiVersion"].contains(&name) {
                inner_place.in_meta = true;
                if place.is_root {
                    inner_place.no_default = Some(format!("in top-level {name}"));
                }
            } else if step == Step::Additional && place.in_meta {
                inner_place.no_default =
                    Some("inside additionalProperties applying to object metadata".to_owned());
            }
            self.schema(inner, &inner_path, &inner_place);
        }
        if schema["x-kubernetes-preserve-unknown-fields"] == false {
            let field = format!("{path}.x-kubernetes-preserve-unknown-fields");
            self.causes.push(Cause::invalid(field, &false.into(), "must be true or undefined"));
        }
        self.map(schema, path);
        self.list(schema, path);
        self.map_list(schema, path);
        self.elements(schema, path);
    }

    fn forbid(&mut self, path: &str, field: &str, text: &str) {
        self.causes.push(Cause::forbidden(format!("{path}.{field}"), text));
    }

    fn keywords(&mut self, schema: &Value, path: &str, place: &Place) {
        let types = ["array", "boolean", "integer", "number", "object", "string"];
        let ty = type_of(schema);
        if !ty.is_empty() && !types.contains(&ty) {
            self.causes.push(Cause::not_supported(format!("{path}.type"), &ty.into(), &types));
        }
        if let Some(reason) = place.no_default.as_ref().filter(|_| !schema["default"].is_null()) {
            self.forbid(path, "default", &format!("must not be set {reason}"));
        }
        for field in UNSUPPORTED.iter().filter(|field| **field != "$schema") {
            if given(&schema[*field]) {
                self.forbid(path, field, &format!("{field} is not supported"));
            }
        }
        if ty == "null" {
            self.forbid(path, "type", "type cannot be set to null, use nullable as an alternative");
        }
        if schema["items"].is_array() {
            self.forbid(path, "items", "items must be a schema object and not an array");
        }
        if place.in_meta && schema["x-kubernetes-embedded-resource"] == true {
            self.forbid(path, "x-kubernetes-embedded-resource", "must not be used inside of resource meta");
        }
    }

    /// `text` unless the schema has the type.
    fn needs_type(&mut self, schema: &Value, path: &str, wanted: &str, text: &str) -> bool {
        let ty = type_of(schema);
        let place = format!("{path}.type");
        if ty.is_empty() {
            self.causes.push(Cause::required(place, text));
        } else if ty != wanted {
            self.causes.push(Cause::invalid(place, &ty.into(), text));
        }
        ty == wanted
    }

    fn map(&mut self, schema: &Value, path: &str) {
        let kind = &schema["x-kubernetes-map-type"];
        if kind.is_null() {
            return;
        }
        self.needs_type(schema, path, "object", "must be object if x-kubernetes-map-type is specified");
        if kind != "atomic" && kind != "granular" {
            let field = format!("{path}.x-kubernetes-map-type");
            self.causes.push(Cause::not_supported(field, kind, &["atomic", "granular"]));
        }
    }

    fn list(&mut self, schema: &Value, path: &str) {
        let kind = &schema["x-kubernetes-list-type"];
        let keys = schema["x-kubernetes-list-map-keys"].as_array().is_some_and(|keys| !keys.is_empty());
        let field = format!("{path}.x-kubernetes-list-type");
        if !kind.is_null() {
            let text = "must be array if x-kubernetes-list-type is specified";
            if self.needs_type(schema, path, "array", text) && kind == "set" {
                self.set(&schema["items"], path);
            }
            if kind != "atomic" && kind != "set" && kind != "map" {
                self.causes.push(Cause::not_supported(field.clone(), kind, &["atomic", "set", "map"]));
            }
        }
        if keys && kind != "map" {
            let text = "must be map if x-kubernetes-list-map-keys is non-empty";
            self.causes.push(match kind {
                Value::Null => Cause::required(field, text),
                _ => Cause::invalid(field, kind, text),
            });
        }
    }

    fn set(&mut self, items: &Value, path: &str) {
        let (list, map) = (&items["x-kubernetes-list-type"], &items["x-kubernetes-map-type"]);
        let field = match type_of(items) {
            "array" if !list.is_null() && list != "atomic" => "x-kubernetes-list-type",
            "object" if map != "atomic" => "x-kubernetes-map-type",
            _ => return,
        };
        let text = "must be atomic as item of a list with x-kubernetes-list-type=set";
        self.causes.push(Cause::invalid(format!("{path}.items.{field}"), list, text));
    }

    fn map_list(&mut self, schema: &Value, path: &str) {
        if schema["x-kubernetes-list-type"] != "map" {
            return;
        }
        let field = format!("{path}.x-kubernetes-list-map-keys");
        let (keys, items) = (&schema["x-kubernetes-list-map-keys"], &schema["items"]);
        if keys.as_array().is_none_or(Vec::is_empty) {
            let text = "must not be empty if x-kubernetes-list-type is map";
            self.causes.push(Cause::required(field.clone(), text));
        }
        if items.is_null() {
            let text = "must have a schema if x-kubernetes-list-type is map";
            self.causes.push(Cause::required(format!("{path}.items"), text));
        }
        if !items.is_object() {
            return;
        }
        if type_of(items) != "object" {
            let text = "must be object if parent array's x-kubernetes-list-type is map";
            self.causes.push(Cause::invalid(format!("{path}.items.type"), &type_of(items).into(), text));
            return;
        }
        let mut seen = Vec::new();
        for key in keys.as_array().into_iter().flatten().filter_map(Value::as_str) {
            match items["properties"].get(key) {
                Some(inner) if ["array", "object"].contains(&type_of(inner)) => {
                    let text = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    let place = format!("{path}.items.properties[{key}].type");
                    self.causes.push(Cause::invalid(place, &type_of(items).into(), text));
                }
                Some(_) => {}
                None => {
                    let text = "entries must all be names of item properties";
                    self.causes.push(Cause::invalid(field.clone(), keys, text));
                }
            }
            if seen.contains(&key) {
                self.causes.push(Cause::invalid(field.clone(), keys, "must not contain duplicate entries"));
            }
            seen.push(key);
        }
    }

    /// Elements of sets and maps are found by their values or keys: these must be there.
    fn elements(&mut self, schema: &Value, path: &str) {
        let (kind, items) = (&schema["x-kubernetes-list-type"], &schema["items"]);
        let Some(kind) = kind.as_str().filter(|kind| *kind == "set" || *kind == "map") else { return };
        if items["nullable"] == true {
            let text = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
            self.forbid(path, "items.nullable", &text);
        }
        if kind != "map" {
            return;
        }
        let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
        for key in keys.filter_map(Value::as_str) {
            let Some(inner) = items["properties"].get(key) else { continue };
            let mut required = items["required"].as_array().into_iter().flatten();
            let place = format!("{path}.items.properties[{key}]");
            if !required.any(|name| name == key) && inner["default"].is_null() {
                let text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.causes.push(Cause::required(format!("{place}.default"), text));
            }
            if inner["nullable"] == true {
                let text = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.forbid(&place, "nullable", text);
            }
        }
    }
}

fn type_of(schema: &Value) -> &str {
    schema["type"].as_str().unwrap_or_default()
}
