//! What makes a schema structural: every field is described outside of junctors, which only restrict values.

use serde_json::{Map, Value, json};

use crate::status::Cause;

/// Checks a schema; the mistakes are sorted by their text, as upstream's.
pub(super) fn check(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut found = Vec::new();
    Check { causes: &mut found }.schema(schema, path, Level::Root);
    complete_junctors(schema, schema, path, path, &mut found);
    found.sort_by_cached_key(Cause::text);
    causes.append(&mut found);
}

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

struct Check<'a> {
    causes: &'a mut Vec<Cause>,
}

fn flag(schema: &Value, name: &str) -> bool {
    schema[name] == true
}

fn type_of(schema: &Value) -> &str {
    schema["type"].as_str().unwrap_or_default()
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

impl Check<'_> {
    fn schema(&mut self, schema: &Value, path: &str, level: Level) {
        let ty = type_of(schema);
        if ty == "array" && schema["items"].is_null() {
            self.causes.push(Cause::required(format!("{path}.items"), "must be specified"));
        }
        if schema["items"].is_object() {
            self.schema(&schema["items"], &format!("{path}.items"), Level::Item);
        }
        for (name, inner) in properties(schema) {
            self.schema(inner, &format!("{path}.properties[{name}]"), Level::Field);
        }
        let additional = &schema["additionalProperties"];
        if !additional.is_null() && level == Level::Root {
            self.forbid(path, "additionalProperties", "must not be used at the root");
        }
        if additional.is_object() {
            self.schema(additional, &format!("{path}.additionalProperties"), Level::Field);
        }
        self.extensions(schema, path);
        self.junctors(schema, path, int_or_string(schema));
        self.kind_of_value(schema, path, level);
        self.resource(schema, path, level);
    }

    fn forbid(&mut self, path: &str, field: &str, text: &str) {
        self.causes.push(Cause::forbidden(format!("{path}.{field}"), text));
    }

    fn extensions(&mut self, schema: &Value, path: &str) {
        for field in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if flag(schema, "x-kubernetes-int-or-string") && flag(schema, field) {
                let text = "must be false if x-kubernetes-int-or-string is true";
                self.causes.push(Cause::invalid(format!("{path}.{field}"), &true.into(), text));
            }
        }
    }

    fn kind_of_value(&mut self, schema: &Value, path: &str, level: Level) {
        let ty = type_of(schema);
        let place = format!("{path}.type");
        let open = flag(schema, "x-kubernetes-int-or-string")
            || flag(schema, "x-kubernetes-preserve-unknown-fields");
        if flag(schema, "x-kubernetes-embedded-resource") && ty != "object" {
            let text = "must be object if x-kubernetes-embedded-resource is true";
            self.causes.push(match ty {
                "" => Cause::required(place, text),
                _ => Cause::invalid(place, &ty.into(), text),
            });
        } else if ty.is_empty() && !open {
            let text = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            };
            self.causes.push(Cause::required(place, text));
        } else if level == Level::Root && !ty.is_empty() && ty != "object" {
            self.causes.push(Cause::invalid(place, &ty.into(), "must be object at the root"));
        }
    }

    /// What holds for the object itself and for those embedded in it.
    fn resource(&mut self, schema: &Value, path: &str, level: Level) {
        let embedded = flag(schema, "x-kubernetes-embedded-resource");
        if !embedded && level != Level::Root {
            return;
        }
        if embedded && !schema["additionalProperties"].is_null() {
            self.forbid(
                path,
                "additionalProperties",
                "must not be used if x-kubernetes-embedded-resource is set",
            );
        }
        let parts = [
            ("kind", "string", "must be string"),
            ("apiVersion", "string", "must be string"),
            ("metadata", "object", "must be object"),
        ];
        for (name, wanted, text) in parts {
            if let Some(inner) = schema["properties"].get(name)
                && type_of(inner) != wanted
            {
                let place = format!("{path}.properties[{name}].type");
                self.causes.push(Cause::invalid(place, &type_of(inner).into(), text));
            }
        }
        if level == Level::Root && !schema["properties"].get("metadata").is_none_or(restricts_names_only) {
            let text = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.forbid(path, "properties[metadata]", text);
        }
        if embedded
            && !flag(schema, "x-kubernetes-preserve-unknown-fields")
            && properties(schema).next().is_none()
        {
            let text = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            self.causes.push(Cause::required(format!("{path}.properties"), text));
        }
    }

    fn junctors(&mut self, schema: &Value, path: &str, idiom: Idiom) {
        for junctor in ["anyOf", "allOf", "oneOf"] {
            for (at, inner) in schema[junctor].as_array().into_iter().flatten().enumerate() {
                let inner_idiom = match idiom {
                    Idiom::AnyOf if junctor == "anyOf" => continue,
                    Idiom::FirstOfAll if junctor == "allOf" && at == 0 => Idiom::AnyOf,
                    _ => Idiom::None,
                };
                self.nested(inner, &format!("{path}.{junctor}[{at}]"), inner_idiom);
            }
        }
        if schema["not"].is_object() {
            self.nested(&schema["not"], &format!("{path}.not"), Idiom::None);
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && let Err(error) = regex::Regex::new(pattern)
        {
            let text = format!("must be a valid regular expression, but isn't: {error}").replace('\n', " ");
            self.causes.push(Cause::invalid(format!("{path}.pattern"), &pattern.into(), &text));
        }
    }

    /// A schema inside of allOf, anyOf, oneOf, not: only what restricts values.
    fn nested(&mut self, schema: &Value, path: &str, idiom: Idiom) {
        let Some(map) = schema.as_object() else { return };
        self.junctors(schema, path, idiom);
        if schema["items"].is_object() {
            self.nested(&schema["items"], &format!("{path}.items"), Idiom::None);
        }
        for (name, inner) in properties(schema) {
            self.nested(inner, &format!("{path}.properties[{name}]"), Idiom::None);
        }
        let (undefined, empty, no) = (
            "must be undefined to be structural",
            "must be empty to be structural",
            "must be false to be structural",
        );
        for (field, text) in [
            ("type", empty),
            ("additionalProperties", undefined),
            ("default", undefined),
            ("title", empty),
            ("description", empty),
            ("nullable", no),
            ("externalDocs", undefined),
            ("x-kubernetes-preserve-unknown-fields", no),
            ("x-kubernetes-embedded-resource", no),
            ("x-kubernetes-int-or-string", no),
            ("x-kubernetes-list-map-keys", empty),
            ("x-kubernetes-list-type", undefined),
            ("x-kubernetes-map-type", undefined),
            ("x-kubernetes-validations", empty),
        ] {
            if given(map, field) {
                self.forbid(path, field, text);
            }
        }
        if schema["properties"].get("metadata").is_some() {
            self.forbid(path, "properties[metadata]", "must not be specified in a nested context");
        }
    }
}

fn given(map: &Map<String, Value>, field: &str) -> bool {
    match map.get(field) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(yes)) => *yes || field == "additionalProperties" || field == "default",
        Some(Value::Array(list)) => !list.is_empty() || field == "default",
        Some(Value::String(text)) => !text.is_empty() || field == "default",
        Some(_) => true,
    }
}

/// Whether a schema of the object's metadata says nothing but which names may be used.
fn restricts_names_only(metadata: &Value) -> bool {
    metadata.as_object().into_iter().flatten().all(|(field, value)| match field.as_str() {
        "type" | "default" => true,
        "properties" => value
            .as_object()
            .is_none_or(|map| map.keys().all(|name| name == "name" || name == "generateName")),
        _ => match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        },
    })
}

/// How a schema says that it takes integers and texts: the one place where a junctor may name types.
#[derive(Clone, Copy)]
enum Idiom {
    None,
    AnyOf,
    FirstOfAll,
}

fn int_or_string(schema: &Value) -> Idiom {
    let both = json!([{ "type": "integer" }, { "type": "string" }]);
    if schema["anyOf"] == both {
        Idiom::AnyOf
    } else if schema["allOf"][0]["anyOf"] == both {
        Idiom::FirstOfAll
    } else {
        Idiom::None
    }
}

/// Checks that what the junctors of `value` restrict is described in `schema`.
fn complete_junctors(value: &Value, schema: &Value, path: &str, value_path: &str, causes: &mut Vec<Cause>) {
    if value["not"].is_object() {
        complete(&value["not"], schema, path, &format!("{value_path}.not"), causes);
    }
    for junctor in ["allOf", "anyOf", "oneOf"] {
        for (at, inner) in value[junctor].as_array().into_iter().flatten().enumerate() {
            complete(inner, schema, path, &format!("{value_path}.{junctor}[{at}]"), causes);
        }
    }
}

fn complete(value: &Value, schema: &Value, path: &str, value_path: &str, causes: &mut Vec<Cause>) {
    if !schema.is_object() {
        causes.push(Cause::required(path, &format!("because it is defined in {value_path}")));
        return;
    }
    complete_junctors(value, schema, path, value_path, causes);
    if value["items"].is_object() {
        let (path, value_path) = (format!("{path}.items"), format!("{value_path}.items"));
        complete(&value["items"], &schema["items"], &path, &value_path, causes);
    }
    for (name, inner) in properties(value) {
        let known = schema["properties"].get(name).unwrap_or(&Value::Null);
        let (path, value_path) =
            (format!("{path}.properties[{name}]"), format!("{value_path}.properties[{name}]"));
        complete(inner, known, &path, &value_path, causes);
    }
}
