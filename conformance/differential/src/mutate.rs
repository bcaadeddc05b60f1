//! Changes an object at random, guided by its schema: mostly to something plausible, sometimes to something wrong.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::schema::Schemas;

/// How deep a value made from nothing may nest.
const DEPTH_MAX: usize = 3;

/// Members that name the object or that only the server writes; changing them would only show that paths differ.
const KEPT: [&str; 12] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "selfLink",
    "deletionGracePeriodSeconds",
    "kind",
    "apiVersion",
];

const TEXTS: [&str; 22] = [
    "",
    "a",
    "web",
    "http",
    "Upper",
    "with space",
    "a.b/c",
    "-1",
    "1",
    "80",
    "true",
    "10.0.0.1",
    "example.com",
    "*.example.com",
    "TCP",
    "1Gi",
    "100m",
    "2026-01-02T03:04:05Z",
    "/path",
    "../up",
    "ünï",
    "0123456789012345678901234567890123456789012345678901234567890123456789",
];

pub struct Mutator<'a> {
    pub schemas: &'a Schemas,
    pub kind: &'static Kind,
}

impl Mutator<'_> {
    /// Changes one place of `object`.
    pub fn mutate(&self, object: &mut Value, rng: &mut Rng) {
        let Some(schema) = self.schemas.of(self.kind) else { return };
        self.descend(object, schema, rng, 0);
    }

    fn descend(&self, value: &mut Value, schema: &Value, rng: &mut Rng, depth: usize) {
        let schema = self.schemas.resolve(self.kind, schema);
        // The nearer to the root, the likelier a step further down.
        let go_down = rng.usize(0..10) < 9usize.saturating_sub(depth);
        match value {
            Value::Object(members) => {
                let keys: Vec<String> = members
                    .keys()
                    .filter(|key| depth > 1 || !KEPT.contains(&key.as_str()))
                    .cloned()
                    .collect();
                if go_down && !keys.is_empty() {
                    let key = &keys[rng.usize(0..keys.len())];
                    // Most of an object is in its spec.
                    let key = if depth == 0 && members.contains_key("spec") && rng.usize(0..5) > 0 {
                        "spec"
                    } else {
                        key
                    };
                    let inner = self.member(schema, key);
                    if let Some(child) = members.get_mut(key) {
                        return self.descend(child, &inner, rng, depth + 1);
                    }
                }
                self.change_object(members, schema, &keys, rng, depth);
            }
            Value::Array(items) => {
                if go_down && !items.is_empty() {
                    let position = rng.usize(0..items.len());
                    let inner = schema["items"].clone();
                    return self.descend(&mut items[position], &inner, rng, depth + 1);
                }
                self.change_array(items, schema, rng);
            }
            scalar => *scalar = self.make(schema, rng, 0),
        }
    }

    fn change_object(
        &self,
        members: &mut Map<String, Value>,
        schema: &Value,
        keys: &[String],
        rng: &mut Rng,
        depth: usize,
    ) {
        match rng.usize(0..10) {
            0..=2 if !keys.is_empty() => {
                members.remove(&keys[rng.usize(0..keys.len())]);
            }
            3 if !keys.is_empty() => {
                members.insert(keys[rng.usize(0..keys.len())].clone(), Value::Null);
            }
            4 if rng.usize(0..4) == 0 => {
                members.insert("unknownMember".to_owned(), json!("x"));
            }
            _ => {
                let (key, value) = self.new_member(schema, rng, 0);
                if depth > 1 || !KEPT.contains(&key.as_str()) {
                    members.insert(key, value);
                }
            }
        }
    }

    fn change_array(&self, items: &mut Vec<Value>, schema: &Value, rng: &mut Rng) {
        match rng.usize(0..5) {
            0 if !items.is_empty() => {
                items.remove(rng.usize(0..items.len()));
            }
            1 if !items.is_empty() => {
                let twin = items[rng.usize(0..items.len())].clone();
                items.push(twin);
            }
            2 if items.len() > 1 => items.reverse(),
            _ => items.push(self.make(&schema["items"], rng, 1)),
        }
    }

    fn member(&self, schema: &Value, key: &str) -> Value {
        match schema["properties"].get(key) {
            Some(found) => found.clone(),
            None => schema["additionalProperties"].clone(),
        }
    }

    fn new_member(&self, schema: &Value, rng: &mut Rng, depth: usize) -> (String, Value) {
        if let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty())
        {
            let position = rng.usize(0..properties.len());
            if let Some((key, inner)) = properties.iter().nth(position) {
                return (key.clone(), self.make(inner, rng, depth + 1));
            }
        }
        let keys = ["a", "b", "app", "example.com/role", "cpu", "memory", "Bad Key!", "tls.crt"];
        (
            keys[rng.usize(0..keys.len())].to_owned(),
            self.make(&schema["additionalProperties"], rng, depth + 1),
        )
    }

    /// A value that the schema roughly asks for.
    fn make(&self, schema: &Value, rng: &mut Rng, depth: usize) -> Value {
        let schema = self.schemas.resolve(self.kind, schema);
        if rng.usize(0..40) == 0 {
            let wrong = [json!(7), json!("text"), json!([]), json!({}), json!(true), json!(1.5)];
            return wrong[rng.usize(0..wrong.len())].clone();
        }
        if let Some(choices) = schema["enum"].as_array().filter(|_| rng.usize(0..8) > 0) {
            return choices[rng.usize(0..choices.len())].clone();
        }
        let kind = schema["type"].as_str().unwrap_or_default();
        let format = schema["format"].as_str().unwrap_or_default();
        match (kind, format) {
            ("object", _) | ("", "")
                if depth < DEPTH_MAX && (kind == "object" || schema.get("properties").is_some()) =>
            {
                self.make_object(schema, rng, depth)
            }
            ("object", _) => json!({}),
            ("array", _) => {
                let count = if depth < DEPTH_MAX { rng.usize(0..3) } else { 0 };
                Value::Array((0..count).map(|_| self.make(&schema["items"], rng, depth + 1)).collect())
            }
            ("integer", _) | (_, "int-or-string") if format != "int-or-string" || rng.bool() => {
                let numbers = [-1i64, 0, 1, 2, 5, 80, 420, 3600, 65536, 1 << 31, 1 << 40];
                json!(numbers[rng.usize(0..numbers.len())])
            }
            ("number", _) => json!([0.5, 1.0, -2.0, 0.3][rng.usize(0..4)]),
            ("boolean", _) => json!(rng.bool()),
            ("string", "byte") => json!(["", "c2VjcmV0", "not base64!"][rng.usize(0..3)]),
            ("string", "date-time") => {
                json!(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456Z", "yesterday"][rng.usize(0..3)])
            }
            _ => json!(TEXTS[rng.usize(0..TEXTS.len())]),
        }
    }

    fn make_object(&self, schema: &Value, rng: &mut Rng, depth: usize) -> Value {
        let mut members = Map::new();
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if rng.usize(0..12) > 0 {
                members.insert(key.to_owned(), self.make(&self.member(schema, key), rng, depth + 1));
            }
        }
        for _ in 0..rng.usize(0..3) {
            let (key, value) = self.new_member(schema, rng, depth);
            members.insert(key, value);
        }
        Value::Object(members)
    }
}
