//! Which parts of a value are lists or maps that cannot be changed in part.

use serde_json::Value;

use crate::schema::{Schema, TypeRef};

pub(super) fn atomics(value: &Value, schema: &Schema) -> Vec<String> {
    let mut found = Vec::new();
    walk(value, schema, schema.root(), "", &mut found);
    found
}

fn walk(value: &Value, schema: &Schema, reference: &TypeRef, path: &str, found: &mut Vec<String>) {
    let Some(resolved) = schema.resolve(reference) else { return };
    match value {
        Value::Object(fields) => {
            let Some(map) = resolved.map else { return };
            if map.atomic {
                found.push(path.to_owned());
            }
            for (name, value) in fields {
                if let Some(field) = map.map.fields.get(name) {
                    walk(value, schema, &field.ty, &format!("{path}.{name}"), found);
                }
            }
        }
        Value::Array(items) => {
            let Some(list) = resolved.list else { return };
            if list.atomic {
                found.push(path.to_owned());
            }
            for (at, item) in items.iter().enumerate() {
                walk(item, schema, list.element, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}
