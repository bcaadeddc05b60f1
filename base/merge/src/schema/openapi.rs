//! Reads a [`Schema`] from OpenAPI v3 with the extensions of Kubernetes.
//!
//! What a schema says about validity is ignored. Where a schema says nothing (no `type`), the value is opaque,
//! as upstream does; with `x-kubernetes-preserve-unknown-fields` it is deduced from the value.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{
    Field, Granularity, List, ListKind, Map, MapKind, Patch, PatchStrategy, Scalar, Schema, Target, Type,
    TypeRef,
};

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("schema refers to unknown type `{0}`")]
    UnknownReference(String),
    #[error("schema has {extension} `{value}`, which is not known")]
    UnknownExtension { extension: &'static str, value: String },
    #[error("schema of a list of maps lacks `x-kubernetes-list-map-keys`")]
    NoKeys,
    #[error("schema is nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
}

/// Levels of inline nesting; references do not count.
const DEPTH_MAX: usize = 256;

pub(super) fn read<'a>(
    root: &'a Value,
    resolve: impl FnMut(&str) -> Option<&'a Value>,
) -> Result<Schema, Error> {
    let mut reader = Reader { resolve, types: BTreeMap::new(), waiting: Vec::new() };
    let root = reader.reference(root, 0)?;
    while let Some(name) = reader.waiting.pop() {
        if reader.types.contains_key(&name) {
            continue;
        }
        let schema = (reader.resolve)(&name).ok_or_else(|| Error::UnknownReference(name.clone()))?;
        // Marks the name as taken while its own fields are read.
        reader.types.insert(name.clone(), Type::default());
        let ty = reader.ty(schema, 0)?;
        reader.types.insert(name, ty);
    }
    Ok(Schema::new(reader.types, root))
}

struct Reader<F> {
    resolve: F,
    types: BTreeMap<String, Type>,
    waiting: Vec<String>,
}

impl<'a, F: FnMut(&str) -> Option<&'a Value>> Reader<F> {
    /// A use of a schema: by name, or written out in place.
    fn reference(&mut self, schema: &'a Value, depth: usize) -> Result<TypeRef, Error> {
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        let Some(name) = reference_name(schema) else {
            let ty = self.ty(schema, depth)?;
            return Ok(TypeRef::inline(ty));
        };
        if !self.types.contains_key(name) {
            self.waiting.push(name.to_owned());
        }
        let mut reference = TypeRef { target: Target::Named(Arc::from(name)), granularity: None };
        reference.granularity = match (map_kind(schema)?, text(schema, "x-kubernetes-list-type")) {
            (Some(MapKind::Atomic), _) | (None, Some("atomic")) => Some(Granularity::Atomic),
            (Some(MapKind::Granular), _) | (None, Some("map" | "set")) => Some(Granularity::Granular),
            (None, _) => None,
        };
        Ok(reference)
    }

    fn ty(&mut self, schema: &'a Value, depth: usize) -> Result<Type, Error> {
        if let Some(name) = reference_name(schema) {
            // A named type that is only another name: copy what it says.
            let target = (self.resolve)(name).ok_or_else(|| Error::UnknownReference(name.to_owned()))?;
            if depth > DEPTH_MAX {
                return Err(Error::TooDeep);
            }
            return self.ty(target, depth + 1);
        }
        let preserve = flag(schema, "x-kubernetes-preserve-unknown-fields").unwrap_or(false);
        let embedded = flag(schema, "x-kubernetes-embedded-resource").unwrap_or(false);
        if flag(schema, "x-kubernetes-int-or-string") == Some(true) {
            return Ok(Type { scalar: Some(Scalar::Untyped), ..Type::default() });
        }
        match kind(schema) {
            Kind::Object => {
                let map = self.map(schema, preserve || embedded, depth)?;
                Ok(Type { map: Some(map), ..Type::default() })
            }
            Kind::Array => Ok(Type { list: Some(self.list(schema, depth)?), ..Type::default() }),
            Kind::Scalar(scalar) => Ok(Type { scalar: Some(scalar), ..Type::default() }),
            Kind::Unknown if preserve => Ok(super::DEDUCED.clone()),
            Kind::Unknown => Ok(super::OPAQUE.clone()),
        }
    }

    fn map(&mut self, schema: &'a Value, preserve: bool, depth: usize) -> Result<Map, Error> {
        let mut map = Map { kind: map_kind(schema)?.unwrap_or_default(), ..Map::default() };
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (name, property) in properties.into_iter().flatten() {
            let field = Field {
                ty: self.reference(property, depth + 1)?,
                default: property.get("default").cloned(),
                patch: patch(property)?,
                always: required.iter().any(|required| required == name),
            };
            map.fields.insert(name.clone(), field);
        }
        map.element = match schema.get("additionalProperties") {
            Some(Value::Bool(true)) => Some(TypeRef::deduced()),
            Some(Value::Bool(false)) => None,
            Some(element) => Some(self.reference(element, depth + 1)?),
            // An object without a word about its fields is free-form.
            None if preserve || map.fields.is_empty() => Some(TypeRef::deduced()),
            None => None,
        };
        Ok(map)
    }

    fn list(&mut self, schema: &'a Value, depth: usize) -> Result<List, Error> {
        let element = match schema.get("items") {
            Some(items) => self.reference(items, depth + 1)?,
            None => TypeRef::deduced(),
        };
        let kind = match text(schema, "x-kubernetes-list-type") {
            None | Some("atomic") => ListKind::Atomic,
            Some("set") => ListKind::Set,
            Some("map") => ListKind::Map(keys(schema)?),
            Some(other) => return Err(unknown("x-kubernetes-list-type", other)),
        };
        Ok(List { element, kind })
    }
}

enum Kind {
    Object,
    Array,
    Scalar(Scalar),
    Unknown,
}

fn kind(schema: &Value) -> Kind {
    match text(schema, "type") {
        Some("object") => Kind::Object,
        Some("array") => Kind::Array,
        Some("integer" | "number") => Kind::Scalar(Scalar::Numeric),
        Some("boolean") => Kind::Scalar(Scalar::Boolean),
        Some("string") => match text(schema, "format") {
            None | Some("" | "byte") => Kind::Scalar(Scalar::String),
            Some(_) => Kind::Scalar(Scalar::Untyped),
        },
        Some(_) => Kind::Unknown,
        None if schema.get("properties").is_some() || schema.get("additionalProperties").is_some() => {
            Kind::Object
        }
        None if schema.get("items").is_some() => Kind::Array,
        None if one_of_scalars(schema) => Kind::Scalar(Scalar::Untyped),
        None => Kind::Unknown,
    }
}

/// `oneOf` or `anyOf` of nothing but scalar types, as `Quantity` and `IntOrString` are published.
fn one_of_scalars(schema: &Value) -> bool {
    ["oneOf", "anyOf"].iter().filter_map(|word| schema.get(word)?.as_array()).any(|choices| {
        !choices.is_empty()
            && choices.iter().all(|choice| {
                matches!(text(choice, "type"), Some("string" | "integer" | "number" | "boolean"))
            })
    })
}

/// The name behind `$ref`, also when it is wrapped in a one-element `allOf`.
fn reference_name(schema: &Value) -> Option<&str> {
    let direct = text(schema, "$ref").or_else(|| match schema.get("allOf")?.as_array()?.as_slice() {
        [only] => text(only, "$ref"),
        _ => None,
    })?;
    direct.rsplit('/').next()
}

fn map_kind(schema: &Value) -> Result<Option<MapKind>, Error> {
    match text(schema, "x-kubernetes-map-type") {
        None => Ok(None),
        Some("granular") => Ok(Some(MapKind::Granular)),
        Some("atomic") => Ok(Some(MapKind::Atomic)),
        Some(other) => Err(unknown("x-kubernetes-map-type", other)),
    }
}

fn keys(schema: &Value) -> Result<Vec<String>, Error> {
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).ok_or(Error::NoKeys)?;
    let keys: Vec<String> = keys.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if keys.is_empty() { Err(Error::NoKeys) } else { Ok(keys) }
}

fn patch(schema: &Value) -> Result<Patch, Error> {
    let mut patch = Patch {
        merge_key: text(schema, "x-kubernetes-patch-merge-key").map(str::to_owned),
        ..Patch::default()
    };
    for word in text(schema, "x-kubernetes-patch-strategy").unwrap_or_default().split(',') {
        match word.trim() {
            "" => {}
            "merge" => patch.strategy = PatchStrategy::Merge,
            "replace" => patch.strategy = PatchStrategy::Replace,
            "retainKeys" => patch.retain_keys = true,
            other => return Err(unknown("x-kubernetes-patch-strategy", other)),
        }
    }
    Ok(patch)
}

fn unknown(extension: &'static str, value: &str) -> Error {
    Error::UnknownExtension { extension, value: value.to_owned() }
}

fn text<'v>(schema: &'v Value, name: &str) -> Option<&'v str> {
    schema.get(name)?.as_str()
}

fn flag(schema: &Value, name: &str) -> Option<bool> {
    schema.get(name)?.as_bool()
}
