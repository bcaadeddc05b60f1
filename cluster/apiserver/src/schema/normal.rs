//! The stored form of a typed object: what a round trip through upstream's types leaves.

use serde_json::{Map, Value};

use super::{Presence, Shape, Struct};

/// Brings an object into its stored form.
pub(crate) fn normalize(object: &mut Value, ty: &'static Struct) {
    if let Value::Object(map) = object {
        normalize_struct(map, ty, false);
    }
}

/// As `normalize`, but an empty list that was sent stays one where a missing list would be null: whoever sent it owns
/// it.
pub(crate) fn normalize_request(object: &mut Value, ty: &'static Struct) {
    if let Value::Object(map) = object {
        normalize_struct(map, ty, true);
    }
}

fn normalize_struct(map: &mut Map<String, Value>, ty: &'static Struct, request: bool) {
    map.retain(|key, _| ty.fields().contains_key(key));
    for (name, field) in ty.fields() {
        let leaves_out = matches!(field.presence, Presence::Optional | Presence::OmitZero);
        match map.get_mut(name) {
            None if leaves_out => continue,
            None => {}
            Some(value) => {
                normalize_value(value, &field.shape, request);
                if !is_empty(value, field.presence, request) {
                    continue;
                }
            }
        }
        match field.presence {
            Presence::Optional | Presence::OmitZero => {
                map.remove(name);
            }
            Presence::WriteZero => {
                map.insert(name.clone(), zero(&field.shape));
            }
            Presence::WriteNull | Presence::NullTime => {
                map.insert(name.clone(), Value::Null);
            }
            Presence::Always => {
                if !map.get(name).is_some_and(Value::is_object) {
                    let mut value = Value::Object(Map::new());
                    normalize_value(&mut value, &field.shape, request);
                    map.insert(name.clone(), value);
                }
            }
        }
    }
}

fn is_empty(value: &Value, presence: Presence, request: bool) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty() && !(request && presence == Presence::WriteNull),
        // A pointer to an empty struct says something (`emptyDir: {}`); an empty map does not, but the two are told
        // apart by `normalize_value`, which turns empty maps into null.
        Value::Object(_) => presence == Presence::WriteNull && value.as_object().is_some_and(Map::is_empty),
        Value::Bool(value) => presence == Presence::OmitZero && !value,
        Value::Number(number) => presence == Presence::OmitZero && number.as_f64() == Some(0.0),
        Value::String(text) => presence == Presence::OmitZero && text.is_empty(),
    }
}

fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Integer32 | Shape::Integer | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::Boolean => false.into(),
        Shape::Quantity => "0".into(),
        Shape::Time | Shape::MicroTime | Shape::Any | Shape::AnyObject => Value::Null,
        Shape::String | Shape::Bytes => "".into(),
        Shape::List(_) | Shape::Map(_) => Value::Null,
        Shape::Struct(ty) => {
            let mut map = Map::new();
            normalize_struct(&mut map, ty, false);
            Value::Object(map)
        }
    }
}

fn normalize_value(value: &mut Value, shape: &Shape, request: bool) {
    match (shape, &mut *value) {
        (Shape::Struct(ty), Value::Object(map)) => normalize_struct(map, ty, request),
        (Shape::List(element), Value::Array(items)) => {
            for item in items {
                if item.is_null() {
                    *item = zero(element);
                }
                normalize_value(item, element, request);
            }
        }
        (Shape::Map(element), Value::Object(map)) => {
            if map.is_empty() {
                *value = Value::Null;
                return;
            }
            for item in map.values_mut() {
                if item.is_null() {
                    *item = zero(element);
                }
                normalize_value(item, element, request);
            }
        }
        _ => {}
    }
}
