//! Values: cheap to clone; `equality` compares them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

pub(crate) use crate::equality::{add_lists, compare, contains, equal, reset_comparisons};
use crate::error::EvalError;
use crate::library::opaque::Opaque;

/// A value of an expression. Cloning is cheap: what is large is shared.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    /// A moment, and the offset (seconds) it was written with, which `string()` shows again.
    Timestamp(jiff::Timestamp, i32),
    List(Arc<List>),
    Map(Arc<Map>),
    Optional(Option<Arc<Value>>),
    /// The name of a type.
    Type(Arc<str>),
    /// A value of one of the libraries: an IP address, a quantity ...
    Opaque(Opaque),
    /// A part of an object the schema says nothing about; can only be compared.
    Unknown(Arc<Json>),
    /// A part of an object that does not fit its schema; using it is this error.
    Invalid(Arc<str>),
}

/// A list, with the meaning Kubernetes gives to its equality and addition.
#[derive(Clone, Debug, Default)]
pub struct List {
    pub items: Vec<Value>,
    pub kind: ListKind,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ListKind {
    #[default]
    Atomic,
    /// Order is not compared, addition is the union.
    Set,
    /// Elements are objects found by these (escaped) keys; addition merges by them.
    Map(Arc<[Arc<str>]>),
}

/// A map, or an object (a map with the known fields only).
#[derive(Clone, Debug, Default)]
pub struct Map {
    pub entries: BTreeMap<Key, Value>,
    /// What the object has beyond its schema: seen by equality and size only.
    pub(crate) unknown: Option<Arc<BTreeMap<Arc<str>, Json>>>,
    pub(crate) object: bool,
    /// The name of its type, for objects that an expression makes.
    pub(crate) name: Option<Arc<str>>,
}

/// A key of a map. Numbers of different types that are equal are the same key.
#[derive(Clone, Debug)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Arc<str>),
}

impl Key {
    /// The key a value makes; `None` for values that cannot be keys.
    pub(crate) fn new(value: &Value) -> Option<Key> {
        match value {
            Value::Bool(value) => Some(Key::Bool(*value)),
            Value::Int(value) => Some(Key::Int(*value)),
            Value::Uint(value) => Some(Key::Uint(*value)),
            Value::String(value) => Some(Key::String(value.clone())),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9.0e15 => {
                Some(Key::Int(*value as i64))
            }
            _ => None,
        }
    }

    pub(crate) fn value(&self) -> Value {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::Uint(value) => Value::Uint(*value),
            Key::String(value) => Value::String(value.clone()),
        }
    }

    fn order(&self) -> (u8, i128, &str) {
        match self {
            Key::Bool(value) => (0, i128::from(*value), ""),
            Key::Int(value) => (1, i128::from(*value), ""),
            Key::Uint(value) => (1, i128::from(*value), ""),
            Key::String(value) => (2, 0, value),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.order() == other.order()
    }
}
impl Eq for Key {}
impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl Map {
    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.unknown.as_ref().map_or(0, |unknown| unknown.len())
    }

    pub(crate) fn get(&self, key: &Value) -> Option<&Value> {
        let key = Key::new(key)?;
        match (self.entries.get(&key), key) {
            (None, Key::String(name)) if self.object && crate::escape::is_reserved_field(&name) => {
                self.entries.get(&Key::String(format!("__{name}__").into()))
            }
            (found, _) => found,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.into())
    }
}

impl Value {
    /// A string.
    pub fn string(text: impl Into<Arc<str>>) -> Value {
        Value::String(text.into())
    }

    /// A list without special meaning.
    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Arc::new(List { items, kind: ListKind::Atomic }))
    }

    /// An object with these fields. A field that is `Invalid` fails whoever reads it.
    pub fn object(fields: impl IntoIterator<Item = (Arc<str>, Value)>) -> Value {
        let entries = fields.into_iter().map(|(name, value)| (Key::String(name), value)).collect();
        Value::Map(Arc::new(Map { entries, unknown: None, object: true, name: None }))
    }

    /// An optional with a value.
    pub fn some(value: Value) -> Value {
        Value::Optional(Some(Arc::new(value)))
    }

    /// The error of a part that does not fit its schema.
    pub(crate) fn valid(self) -> Result<Value, EvalError> {
        match self {
            Value::Invalid(text) => Err(EvalError::Failed(text)),
            value => Ok(value),
        }
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(..) => "google.protobuf.Timestamp",
            Value::List(_) => "list",
            Value::Map(map) if map.name.is_some() => map.name.as_deref().unwrap_or_default(),
            Value::Map(map) if map.object => "object",
            Value::Map(_) => "map",
            Value::Optional(_) => "optional_type",
            Value::Type(_) => "type",
            Value::Opaque(opaque) => opaque.type_name(),
            Value::Unknown(_) => "unknown",
            Value::Invalid(_) => "error",
        }
    }

    /// What cost calls the size: characters, bytes, elements; 1 for everything else.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.items.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Optional(Some(value)) => value.size(),
            Value::Opaque(opaque) => opaque.size(),
            _ => 1,
        }
    }

    /// Whether this is what an absent value would be.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null | Value::Optional(None) => true,
            Value::Bool(value) => !value,
            Value::Int(value) | Value::Duration(value) => *value == 0,
            Value::Uint(value) => *value == 0,
            Value::Timestamp(at, _) => at.as_nanosecond() == crate::library::time::ZERO_TIME,
            Value::Double(value) => *value == 0.0,
            Value::String(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::List(list) => list.items.is_empty(),
            Value::Map(map) => map.len() == 0,
            _ => false,
        }
    }
}
