//! The order of JSON values, and their two text forms.
//!
//! Values are ordered over kinds (numbers, strings, booleans, lists, maps, null); numbers are compared by what
//! they count, so `1` and `1.0` are equal here. serde_json's own `==` keeps them apart and is not used.
//! Both text forms are those of upstream: compact JSON as it stands in `FieldsV1`, and the form in messages.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::{Map, Number, Value};

/// Total order of values, independent of the order of map members.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => compare_lists(a, b),
        (Value::Object(a), Value::Object(b)) => compare_maps(a, b),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Equality under [`compare`], without sorting map members.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => compare(a, b) == Ordering::Equal,
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

fn compare_lists(a: &[Value], b: &[Value]) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        let order = compare(a, b);
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// Member by member in the order of names; names count before values.
fn compare_maps(a: &Map<String, Value>, b: &Map<String, Value>) -> Ordering {
    for ((a_key, a), (b_key, b)) in sorted(a).into_iter().zip(sorted(b)) {
        let order = a_key.cmp(b_key).then_with(|| compare(a, b));
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// serde_json keeps members sorted or in file order, as its features say; this is sorted in both cases.
fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = map.iter().collect();
    members.sort_unstable_by_key(|(key, _)| *key);
    members
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_mixed(a, float(b)),
        (None, Some(b)) => compare_mixed(b, float(a)).reverse(),
        (None, None) => float(a).partial_cmp(&float(b)).unwrap_or(Ordering::Equal),
    }
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn float(number: &Number) -> f64 {
    // JSON has no NaN; a number beyond f64 (only with arbitrary precision) counts as infinite.
    number.as_f64().unwrap_or(f64::INFINITY)
}

/// Exact: comparing through `f64` would not be transitive for large integers, and a sorted set must rely on it.
fn compare_mixed(integer: i128, float: f64) -> Ordering {
    if float.is_infinite() {
        return 0.0.partial_cmp(&float).unwrap_or(Ordering::Equal);
    }
    let floor = float.floor();
    // Saturates far outside of 64 bits, where the result is the same.
    match integer.cmp(&(floor as i128)) {
        Ordering::Equal if float > floor => Ordering::Less,
        order => order,
    }
}

/// Compact JSON: members sorted, no escapes beyond those JSON demands, floats as Go writes them (`1`, not `1.0`).
pub fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Number(number) => write_number(number, -6, out),
        Value::String(text) => write_string(text, out),
        Value::Array(list) => {
            out.push('[');
            for (index, element) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(element, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, value)) in sorted(map).into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_json(value, out);
            }
            out.push('}');
        }
    }
}

/// A JSON string with only the escapes that JSON demands.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if (control as u32) < 0x20 => push(out, format_args!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// The form in paths and messages: strings quoted, lists in brackets, maps as `k=v` without separators.
pub fn write_display(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Number(number) => write_number(number, -4, out),
        Value::String(text) => write_quoted(text, out),
        Value::Array(list) => {
            out.push('[');
            for (index, element) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_display(element, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            // Upstream writes members in no particular order.
            for (key, value) in sorted(map) {
                out.push_str(key);
                out.push('=');
                write_display(value, out);
            }
        }
    }
}

/// Go's `%q`: C-like escapes, printable characters as they are.
pub fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            ascii if ascii.is_ascii_control() => push(out, format_args!("\\x{:02x}", ascii as u32)),
            control if control.is_control() => push(out, format_args!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Integers as they are; floats shortest, with an exponent below `10^exponent_min` and from `10^21` on.
fn write_number(number: &Number, exponent_min: i32, out: &mut String) {
    if let Some(integer) = integer(number) {
        push(out, format_args!("{integer}"));
        return;
    }
    let float = float(number);
    // Rust writes the shortest digits as `-1.5e-7`; the exponent tells which form Go takes.
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if float == 0.0 || (exponent_min..21).contains(&exponent) {
        push(out, format_args!("{float}"));
        return;
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    // `%v` pads the exponent to two digits, JSON writes `1e-7`.
    let width = if exponent_min == -4 || exponent > 0 { 2 } else { 1 };
    push(out, format_args!("{digits}e{sign}{:0width$}", exponent.unsigned_abs()));
}

pub(crate) fn push(out: &mut String, arguments: std::fmt::Arguments) {
    out.write_fmt(arguments).expect("writing to a String cannot fail");
}
