//! How values compare: CEL's equality and order, and what adding lists means.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::EvalError;
use crate::value::{Key, List, ListKind, Map, Value};

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
