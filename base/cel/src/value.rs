//! Values: cheap to clone, comparable as CEL compares.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

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

/// Comparisons of single values in one evaluation. Lists can share parts so often that looking at all of
/// them would never end; cost does not see that.
const COMPARISONS_MAX: u64 = 50_000_000;

thread_local! {
    static COMPARISONS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A new evaluation begins.
pub(crate) fn reset_comparisons() {
    COMPARISONS.set(0);
}

fn count_comparison() -> Result<(), EvalError> {
    COMPARISONS.set(COMPARISONS.get() + 1);
    if COMPARISONS.get() > COMPARISONS_MAX {
        crate::error::fail("values are too large to compare")
    } else {
        Ok(())
    }
}

/// CEL's equality; an error if a part that does not fit its schema is met.
pub(crate) fn equal(one: &Value, two: &Value) -> Result<bool, EvalError> {
    count_comparison()?;
    Ok(match (one, two) {
        (Value::Invalid(text), _) | (_, Value::Invalid(text)) => return Err(EvalError::Failed(text.clone())),
        (Value::Unknown(one), Value::Unknown(two)) => one == two,
        (Value::Unknown(json), other) | (other, Value::Unknown(json)) => {
            equal(&crate::convert::untyped(json), other)?
        }
        (Value::Null, Value::Null) => true,
        (Value::Bool(one), Value::Bool(two)) => one == two,
        (Value::Duration(one), Value::Duration(two)) => one == two,
        (Value::Timestamp(one, _), Value::Timestamp(two, _)) => one == two,
        (Value::String(one), Value::String(two)) | (Value::Type(one), Value::Type(two)) => one == two,
        (Value::Bytes(one), Value::Bytes(two)) => one == two,
        (Value::List(one), Value::List(two)) => equal_lists(one, two)?,
        (Value::Map(one), Value::Map(two)) => equal_maps(one, two)?,
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(one)), Value::Optional(Some(two))) => equal(one, two)?,
        (Value::Opaque(one), Value::Opaque(two)) => one == two,
        _ => numbers(one, two) == Some(Ordering::Equal),
    })
}

fn equal_lists(one: &List, two: &List) -> Result<bool, EvalError> {
    if one.items.len() != two.items.len() {
        return Ok(false);
    }
    match &one.kind {
        ListKind::Atomic => {
            for (one, two) in one.items.iter().zip(&two.items) {
                if !equal(one, two)? {
                    return Ok(false);
                }
            }
        }
        ListKind::Set => {
            for (at, one) in one.items.iter().enumerate() {
                // Most often the order is the same.
                if !equal(one, &two.items[at])? && !contains(&two.items, one)? {
                    return Ok(false);
                }
            }
        }
        ListKind::Map(keys) => {
            for other in &two.items {
                match position(&one.items, other, keys)? {
                    Some(at) if equal(&one.items[at], other)? => {}
                    _ => return Ok(false),
                }
            }
        }
    }
    Ok(true)
}

/// Whether a list has an element equal to `wanted`.
pub(crate) fn contains(items: &[Value], wanted: &Value) -> Result<bool, EvalError> {
    let mut failure = None;
    for item in items {
        match equal(item, wanted) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(false), Err)
}

/// Where the element of a map list with the same keys is.
fn position(items: &[Value], wanted: &Value, keys: &[Arc<str>]) -> Result<Option<usize>, EvalError> {
    for (at, item) in items.iter().enumerate() {
        let mut same = true;
        for key in keys {
            same &= match (key_of(item, key), key_of(wanted, key)) {
                (Some(one), Some(two)) => equal(one, two)?,
                (None, None) => true,
                _ => false,
            };
        }
        if same {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn key_of<'a>(item: &'a Value, key: &Arc<str>) -> Option<&'a Value> {
    match item {
        Value::Map(map) => map.entries.get(&Key::String(key.clone())),
        _ => None,
    }
}

fn equal_maps(one: &Map, two: &Map) -> Result<bool, EvalError> {
    if one.len() != two.len() || one.entries.len() != two.entries.len() || one.unknown != two.unknown {
        return Ok(false);
    }
    for (key, value) in &one.entries {
        match two.entries.get(key) {
            Some(other) if equal(value, other)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// `one + two` for lists, with the meaning of the left one.
pub(crate) fn add_lists(one: &Arc<List>, two: &List) -> Result<Value, EvalError> {
    let mut sum = List::clone(one);
    match &one.kind {
        ListKind::Atomic => sum.items.extend(two.items.iter().cloned()),
        ListKind::Set => {
            for item in &two.items {
                if !contains(&sum.items, item)? {
                    sum.items.push(item.clone());
                }
            }
        }
        ListKind::Map(keys) => {
            for item in &two.items {
                match position(&sum.items, item, keys)? {
                    Some(at) => sum.items[at] = item.clone(),
                    None => sum.items.push(item.clone()),
                }
            }
        }
    }
    Ok(Value::List(Arc::new(sum)))
}

/// Order of numbers of any type; `None` if one is not a number (or is NaN).
pub(crate) fn numbers(one: &Value, two: &Value) -> Option<Ordering> {
    use Value::{Double, Int, Uint};
    match (one, two) {
        (Double(one), Double(two)) => one.partial_cmp(two),
        (Double(one), Int(_) | Uint(_)) => compare_double(*one, whole(two)?),
        (Int(_) | Uint(_), Double(two)) => compare_double(*two, whole(one)?).map(Ordering::reverse),
        _ => Some(whole(one)?.cmp(&whole(two)?)),
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    }
}

fn compare_double(one: f64, two: i128) -> Option<Ordering> {
    if one.is_nan() {
        return None;
    }
    if one.abs() > 1.0e30 {
        return one.partial_cmp(&0.0);
    }
    match (one.trunc() as i128).cmp(&two) {
        Ordering::Equal => one.fract().partial_cmp(&0.0),
        order => Some(order),
    }
}

/// Order of two values of one ordered type; `None` if they have no order.
pub(crate) fn compare(one: &Value, two: &Value) -> Option<Ordering> {
    match (one, two) {
        (Value::Bool(one), Value::Bool(two)) => Some(one.cmp(two)),
        (Value::String(one), Value::String(two)) => Some(one.cmp(two)),
        (Value::Bytes(one), Value::Bytes(two)) => Some(one.cmp(two)),
        (Value::Duration(one), Value::Duration(two)) => Some(one.cmp(two)),
        (Value::Timestamp(one, _), Value::Timestamp(two, _)) => Some(one.cmp(two)),
        _ => numbers(one, two),
    }
}
