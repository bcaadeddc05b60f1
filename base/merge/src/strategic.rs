//! Strategic merge patch (`application/strategic-merge-patch+json`): applying one.
//!
//! Maps are merged member by member, null removes a member, lists are replaced unless their field says `merge`.
//! Directives: `$patch` (`replace`, `delete`; in lists of objects also as elements), `$retainKeys`,
//! `$setElementOrder/x` and `$deleteFromPrimitiveList/x`. Types are not checked: that is done when the result is
//! validated. Below fields of which the schema knows nothing, maps are merged and lists replaced.
//!
//! Left out: making patches (two-way and three-way), which clients do.

use serde_json::{Map, Value};

use crate::schema::{Patch, PatchStrategy, Schema, Target, TypeRef};

mod directives;
mod lists;
mod order;

/// Why a patch cannot be applied; Display is upstream's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("expected a map, but received a {0}")]
    NoObject(&'static str),
    #[error("unable to find api field in struct {ty} for the json field {field:?}")]
    UnknownField { ty: String, field: String },
    #[error("unknown patch type: {directive} in map: {map}")]
    UnknownDirective { directive: String, map: String },
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey { map: String, key: String },
    #[error("cannot merge lists without merge key for {0}")]
    NoMergeKeyDeclared(String),
    #[error("merging lists cannot yet be specified in the patch")]
    MergeElement,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("patch content doesn't match retainKeys list")]
    RetainKeysContent,
    #[error("invalid patch format of setElementOrder list")]
    SetElementOrder,
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    Order { patch: String, order: String },
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
}

/// Applies `patch` to `original` and returns the result. `original` is what the server holds (an object, or null
/// for nothing); `patch` is an object.
pub fn patch(original: &Value, patch: &Value, schema: &Schema) -> Result<Value, Error> {
    let original = match original {
        Value::Null => Map::new(),
        Value::Object(original) => original.clone(),
        other => return Err(Error::NoObject(kind(other))),
    };
    let patch = match patch {
        Value::Null => Map::new(),
        Value::Object(patch) => patch.clone(),
        other => return Err(Error::NoObject(kind(other))),
    };
    merge_map(original, patch, Place { schema, ty: schema.root() }).map(Value::Object)
}

/// Where in the schema a value is.
#[derive(Clone, Copy)]
struct Place<'a> {
    schema: &'a Schema,
    ty: &'a TypeRef,
}

static NO_PATCH: Patch = Patch { strategy: PatchStrategy::Unset, retain_keys: false, merge_key: None };

impl<'a> Place<'a> {
    /// A member: its place and how it is patched.
    fn field(self, name: &str) -> Result<(Place<'a>, &'a Patch), Error> {
        let map = self.schema.resolve(self.ty).and_then(|resolved| resolved.map);
        if let Some(field) = map.and_then(|map| map.map.fields.get(name)) {
            return Ok((Place { ty: &field.ty, ..self }, &field.patch));
        }
        match map.and_then(|map| map.map.element.as_ref()) {
            Some(element) => Ok((Place { ty: element, ..self }, &NO_PATCH)),
            None => Err(Error::UnknownField { ty: self.name(), field: name.to_owned() }),
        }
    }

    /// The elements of a list. A type that is no list stands for its own elements, as upstream's lookup has it.
    fn element(self) -> Place<'a> {
        let list = self.schema.resolve(self.ty).and_then(|resolved| resolved.list);
        Place { ty: list.map_or(self.ty, |list| list.element), ..self }
    }

    /// Short name of the type, as upstream shows it.
    fn name(self) -> String {
        match &self.ty.target {
            Target::Named(name) => name.rsplit('.').next().unwrap_or_default().to_owned(),
            _ => String::new(),
        }
    }
}

fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    place: Place,
) -> Result<Map<String, Value>, Error> {
    if let Some(directive) = patch.remove(directives::PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => {
                let shown = directives::show(&directive);
                patch.insert(directives::PATCH.into(), directive);
                Err(Error::UnknownDirective {
                    directive: shown,
                    map: directives::show(&Value::Object(patch)),
                })
            }
        };
    }
    directives::retain_keys(&mut original, &mut patch)?;
    lists::set_element_orders(&mut original, &mut patch, place)?;
    for (key, value) in patch {
        match key.strip_prefix(directives::DELETE_FROM_PRIMITIVE_LIST) {
            Some(list) => delete_from_list(&mut original, list, value)?,
            None => merge_member(&mut original, key, value, place)?,
        }
    }
    Ok(original)
}

fn merge_member(
    original: &mut Map<String, Value>,
    key: String,
    value: Value,
    place: Place,
) -> Result<(), Error> {
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let merged = match (original.get_mut(&key).map(Value::take), value) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            let (below, patch) = place.field(&key)?;
            Value::Object(match patch.strategy {
                PatchStrategy::Replace => new,
                _ => merge_map(old, new, below)?,
            })
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            let (below, patch) = place.field(&key)?;
            Value::Array(match patch.strategy {
                PatchStrategy::Merge => lists::merge(old, new, below.element(), patch.merge_key.as_deref())?,
                _ => new,
            })
        }
        // Nothing there, or something of another kind: the patch's value, cleaned.
        (_, new) => match directives::clean(new) {
            Some(new) => new,
            None => {
                original.remove(&key);
                return Ok(());
            }
        },
    };
    original.insert(key, merged);
    Ok(())
}

/// `$deleteFromPrimitiveList/x`: whatever the strategy of `x` is; no list, no change.
fn delete_from_list(original: &mut Map<String, Value>, key: &str, gone: Value) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::PrimitiveList);
    }
    if gone.is_null() {
        original.remove(key);
        return Ok(());
    }
    if let (Some(Value::Array(list)), Value::Array(gone)) = (original.get_mut(key), gone) {
        list.retain(|element| !gone.contains(element));
    }
    Ok(())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}
