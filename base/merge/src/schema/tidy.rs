//! What passing through upstream's Go structs does to an object of a built-in kind.

use serde_json::Value;

use super::{Map, Scalar, Schema, Target, TypeRef};

impl Schema {
    /// Brings an object of a built-in kind to the form in which upstream would store it: members that are null go,
    /// and so do empty lists and empty maps, unless their field is [`always`](super::Field::always) there; a null in a
    /// map of strings is the empty string. Structs stay even if they are empty. Not for custom resources, which upstream
    /// keeps as they are written.
    ///
    /// It does not drop scalars that are zero: the schema does not tell those that mean something.
    pub fn tidy(&self, object: &mut Value) {
        self.tidy_value(object, &self.root);
    }

    fn tidy_value(&self, value: &mut Value, reference: &TypeRef) {
        let Some(resolved) = self.resolve(reference) else { return };
        match (value, resolved.map, resolved.list) {
            (Value::Object(members), Some(map), _) => self.tidy_map(members, map.map),
            (Value::Array(elements), _, Some(list)) => {
                elements.iter_mut().for_each(|element| self.tidy_value(element, list.element));
            }
            _ => {}
        }
    }

    fn tidy_map(&self, members: &mut serde_json::Map<String, Value>, map: &Map) {
        members.retain(|name, value| {
            if let Some(field) = map.fields.get(name) {
                self.tidy_value(value, &field.ty);
                return field.always || !self.is_nothing(value, &field.ty);
            }
            let Some(element) = map.element.as_ref().filter(|element| is_described(element)) else {
                return true;
            };
            if value.is_null() && self.is_string(element) {
                *value = Value::String(String::new());
            }
            self.tidy_value(value, element);
            !value.is_null()
        });
    }

    /// Whether Go leaves a field out that has this value.
    fn is_nothing(&self, value: &Value, reference: &TypeRef) -> bool {
        match value {
            Value::Null => true,
            Value::Array(elements) => elements.is_empty() && is_described(reference),
            Value::Object(members) => members.is_empty() && self.is_plain_map(reference),
            _ => false,
        }
    }

    fn is_plain_map(&self, reference: &TypeRef) -> bool {
        let map = self.resolve(reference).and_then(|resolved| resolved.map);
        map.is_some_and(|map| map.map.fields.is_empty() && map.map.element.as_ref().is_some_and(is_described))
    }

    fn is_string(&self, reference: &TypeRef) -> bool {
        self.resolve(reference).is_some_and(|resolved| resolved.scalar == Some(Scalar::String))
    }
}

/// Free-form values are kept as they are written.
fn is_described(reference: &TypeRef) -> bool {
    !matches!(reference.target, Target::Deduced | Target::Opaque)
}
