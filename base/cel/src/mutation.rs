//! The types of mutating policies: `JSONPatch`, and `Object` with the names of fields behind it (`Object.spec.template`).
//!
//! What `Object`s hold is known from their names only, so their fields are `dyn`; whether the names fit the places they
//! stand at is seen when the object is made.

use std::collections::BTreeMap;

use crate::types::Type;
use crate::value::{Key, Value};

const OBJECT: &str = "Object";
const PATCH: &str = "JSONPatch";

pub(crate) fn is_name(name: &str) -> bool {
    name == PATCH || name == OBJECT || name.starts_with("Object.")
}

/// The type of a field; `None` if there is no such field.
pub(crate) fn field(name: &str, field: &str) -> Option<Type> {
    match (name, field) {
        (PATCH, "op" | "path" | "from") => Some(Type::String),
        (PATCH, "value") => Some(Type::Dyn),
        (PATCH, _) => None,
        _ => Some(Type::Dyn),
    }
}

pub(crate) fn named(name: &str) -> Type {
    Type::object(name, BTreeMap::new())
}

impl Type {
    /// What an apply configuration evaluates to.
    pub fn mutation_object() -> Type {
        named(OBJECT)
    }

    /// What a JSON patch evaluates to.
    pub fn mutation_patch() -> Type {
        Type::list(named(PATCH))
    }
}

impl Value {
    /// Checks that the objects in this one are named after the fields they stand in, from its own name on.
    ///
    /// # Errors
    /// Upstream's text.
    pub fn check_object_names(&self) -> Result<(), String> {
        let own = match self {
            Value::Map(map) => map.name.as_deref(),
            _ => None,
        };
        self.check_names(own.unwrap_or(OBJECT))
    }

    fn check_names(&self, wanted: &str) -> Result<(), String> {
        match self {
            Value::Map(map) => {
                if let Some(name) = &map.name
                    && **name != *wanted
                {
                    return Err(format!(
                        "unexpected type name \"{name}\", expected \"{wanted}\", which matches field name path from root Object type"
                    ));
                }
                map.entries.iter().try_for_each(|(key, value)| match key {
                    Key::String(key) => value.check_names(&format!("{wanted}.{key}")),
                    _ => Ok(()),
                })
            }
            // Elements of a list have the name of the list.
            Value::List(list) => list.items.iter().try_for_each(|item| item.check_names(wanted)),
            Value::Optional(Some(inner)) => inner.check_names(wanted),
            _ => Ok(()),
        }
    }
}
