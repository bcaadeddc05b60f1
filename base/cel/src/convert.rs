//! JSON to values and back. A part that does not fit its schema becomes a value whose use is an error, so
//! that only the rules that look at it fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use serde_json::{Number, Value as Json};

use crate::escape::escape;
use crate::library::convert::show;
use crate::library::{formats, time};
use crate::schema::Schema;
use crate::value::{Key, List, ListKind, Map, Value};

fn invalid(text: impl Into<Arc<str>>) -> Value {
    Value::Invalid(text.into())
}

impl Schema {
    /// The value of `json` as this schema types it.
    pub fn value(&self, json: &Json) -> Value {
        if json.is_null() {
            return match self.nullable {
                true => Value::Null,
                false => invalid("invalid data, got null for schema with nullable=false"),
            };
        }
        if self.int_or_string {
            return match json {
                Json::String(text) => Value::string(text.as_str()),
                Json::Number(number) if number.as_i64().is_some() => untyped(json),
                _ => invalid("invalid data, expected XIntOrString value to be either a string or integer"),
            };
        }
        match self.kind.as_str() {
            "object" => self.object(json),
            "array" => self.array(json),
            "string" => match json {
                Json::String(text) => self.string(text),
                other => invalid(format!("invalid data, expected string, got {}", go_type(other))),
            },
            "number" => match json.as_f64() {
                Some(number) => Value::Double(number),
                None => invalid(format!("invalid data, expected float, got {}", go_type(json))),
            },
            "integer" => match json.as_i64() {
                Some(number) => Value::Int(number),
                None => invalid(format!("invalid data, expected int, got {}", go_type(json))),
            },
            "boolean" => match json {
                Json::Bool(value) => Value::Bool(*value),
                other => invalid(format!("invalid data, expected bool, got {}", go_type(other))),
            },
            _ if self.preserve_unknown => Value::Unknown(Arc::new(json.clone())),
            kind => invalid(format!(
                "invalid type, expected object, array, number, integer, boolean or string, or no type with x-kubernetes-int-or-string or x-kubernetes-preserve-unknown-fields enabled, got {kind}"
            )),
        }
    }

    fn object(&self, json: &Json) -> Value {
        let Json::Object(json) = json else {
            return invalid("invalid data, expected a map for the provided schema with type=object");
        };
        if self.embedded {
            let schema = Schema { embedded: false, ..self.as_resource() };
            return schema.object(&Json::Object(json.clone()));
        }
        let mut entries = BTreeMap::new();
        let mut unknown: BTreeMap<Arc<str>, Json> = BTreeMap::new();
        for (name, value) in json {
            let schema = match &self.properties {
                Some(properties) => properties.get(name),
                None => self.additional.as_ref(),
            };
            let key = if self.properties.is_some() { escape(name) } else { Some(name.clone()) };
            match (schema, key) {
                (Some(_), Some(_)) if self.properties.is_some() && value.is_null() => {}
                (Some(schema), Some(key)) => {
                    entries.insert(Key::String(key.into()), schema.value(value));
                }
                _ => {
                    unknown.insert(name.as_str().into(), value.clone());
                }
            }
        }
        let unknown = (!unknown.is_empty()).then(|| Arc::new(unknown));
        let object = self.properties.is_some() || self.additional.is_none();
        Value::Map(Arc::new(Map { entries, unknown, object, name: None }))
    }

    fn array(&self, json: &Json) -> Value {
        let Json::Array(json) = json else {
            return invalid("invalid data, expected an array for the provided schema with type=array");
        };
        let Some(schema) = &self.items else {
            return invalid("invalid array type, expected Items with a non-empty Schema");
        };
        let kind = match self.list_type.as_str() {
            "" | "atomic" => ListKind::Atomic,
            "set" => ListKind::Set,
            "map" => ListKind::Map(
                self.list_keys.iter().map(|key| escape(key).unwrap_or_else(|| key.clone()).into()).collect(),
            ),
            other => {
                return invalid(format!(
                    "invalid x-kubernetes-list-type, expected 'map', 'set' or 'atomic' but got {other}"
                ));
            }
        };
        let items = json.iter().map(|item| schema.value(item)).collect();
        Value::List(Arc::new(List { items, kind }))
    }

    fn string(&self, text: &str) -> Value {
        match self.format.as_str() {
            "duration" => match time::parse_format_duration(text) {
                Some(nanoseconds) => Value::Duration(nanoseconds),
                None => invalid(format!("Invalid duration {text}")),
            },
            "date" => match time::parse_date(text)
                .and_then(|_| time::parse_datetime(&format!("{text}T00:00:00Z")))
            {
                Some((at, offset)) => Value::Timestamp(at, offset),
                None => invalid(format!("Invalid date formatted string {text}")),
            },
            "date-time" => match time::parse_datetime(text) {
                Some((at, offset)) => Value::Timestamp(at, offset),
                None => invalid(format!("Invalid date-time formatted string {text}")),
            },
            "byte" => match formats::decode_base64(text) {
                Some(bytes) => Value::Bytes(bytes.into()),
                None => invalid(format!("Invalid byte formatted string {text}")),
            },
            _ => Value::string(text),
        }
    }
}

fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_f64() => "float64",
        Json::Number(_) => "int64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

/// The value of JSON without a schema: whole numbers are ints, the others doubles.
pub fn untyped(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Int(number),
            (None, number) => Value::Double(number.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::string(text.as_str()),
        Json::Array(items) => Value::list(items.iter().map(untyped).collect()),
        Json::Object(fields) => {
            let entries =
                fields.iter().map(|(name, value)| (Key::String(name.as_str().into()), untyped(value)));
            Value::Map(Arc::new(Map { entries: entries.collect(), ..Map::default() }))
        }
    }
}

/// Most parts `Value::to_json` writes.
const JSON_PARTS_MAX: usize = 10_000_000;

impl Value {
    /// As JSON: bytes in base64, durations and timestamps as texts; `null` for what JSON cannot say.
    /// Identifiers of object fields are property names again.
    /// Beyond `JSON_PARTS_MAX` parts the rest is `null`.
    pub fn to_json(&self) -> Json {
        self.json_within(&mut JSON_PARTS_MAX.clone())
    }

    fn json_within(&self, left: &mut usize) -> Json {
        let Some(less) = left.checked_sub(1) else { return Json::Null };
        *left = less;
        match self {
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => Json::from(*value),
            Value::Uint(value) => Json::from(*value),
            Value::Double(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Value::Bytes(bytes) => Json::String(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Value::String(_) | Value::Duration(_) | Value::Timestamp(..) | Value::Type(_) => {
                Json::String(show(self))
            }
            Value::List(list) => Json::Array(list.items.iter().map(|item| item.json_within(left)).collect()),
            Value::Map(map) => {
                let name = |key: &Key| match key {
                    Key::String(key) if map.object => {
                        crate::escape::unescape(key).unwrap_or_else(|| key.to_string())
                    }
                    key => show(&key.value()),
                };
                let known = map.entries.iter().map(|(key, value)| (name(key), value.json_within(left)));
                let unknown = map.unknown.iter().flat_map(|unknown| unknown.iter());
                Json::Object(
                    known.chain(unknown.map(|(key, json)| (key.to_string(), json.clone()))).collect(),
                )
            }
            Value::Optional(Some(inner)) => inner.json_within(left),
            Value::Opaque(opaque) => opaque.text().map_or(Json::Null, Json::String),
            Value::Unknown(json) => Json::clone(json),
            Value::Null | Value::Optional(None) | Value::Invalid(_) => Json::Null,
        }
    }
}
