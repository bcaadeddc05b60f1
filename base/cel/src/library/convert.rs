//! Conversions between types, and how values are written.

use std::sync::Arc;

use super::opaque::Opaque;
use super::{Evaluated, Function, no_overload, time};
use crate::error::fail;
use crate::value::Value;

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "int" => int,
        "uint" => uint,
        "double" => double,
        "string" => string,
        "bytes" => bytes,
        "bool" => boolean,
        "duration" => duration,
        "timestamp" => timestamp,
        _ => return None,
    })
}

fn unreadable(from: &str, to: &str) -> Evaluated {
    fail(format!("type conversion error from '{from}' to '{to}'"))
}

fn int(args: &[Value]) -> Evaluated {
    match &args[0] {
        Value::Int(value) => Ok(Value::Int(*value)),
        Value::Uint(value) => {
            i64::try_from(*value).map_or_else(|_| fail("integer overflow"), |v| Ok(Value::Int(v)))
        }
        Value::Double(value) if value.is_nan() || value.abs() >= 9_223_372_036_854_775_808.0 => {
            fail("integer overflow")
        }
        Value::Double(value) => Ok(Value::Int(value.trunc() as i64)),
        Value::String(text) => {
            text.parse().map_or_else(|_| unreadable("string", "int"), |v| Ok(Value::Int(v)))
        }
        Value::Timestamp(at, _) => Ok(Value::Int(at.as_second() - i64::from(at.subsec_nanosecond() < 0))),
        Value::Duration(nanoseconds) => Ok(Value::Int(*nanoseconds)),
        _ => no_overload(),
    }
}

fn uint(args: &[Value]) -> Evaluated {
    const OVERFLOW: &str = "unsigned integer overflow";
    match &args[0] {
        Value::Uint(value) => Ok(Value::Uint(*value)),
        Value::Int(value) => u64::try_from(*value).map_or_else(|_| fail(OVERFLOW), |v| Ok(Value::Uint(v))),
        Value::Double(value) if value.is_nan() || *value < 0.0 || *value >= 18_446_744_073_709_551_616.0 => {
            fail(OVERFLOW)
        }
        Value::Double(value) => Ok(Value::Uint(value.trunc() as u64)),
        Value::String(text) => {
            text.parse().map_or_else(|_| unreadable("string", "uint"), |v| Ok(Value::Uint(v)))
        }
        _ => no_overload(),
    }
}

fn double(args: &[Value]) -> Evaluated {
    match &args[0] {
        Value::Double(value) => Ok(Value::Double(*value)),
        Value::Int(value) => Ok(Value::Double(*value as f64)),
        Value::Uint(value) => Ok(Value::Double(*value as f64)),
        Value::String(text) => {
            text.parse().map_or_else(|_| unreadable("string", "double"), |v| Ok(Value::Double(v)))
        }
        _ => no_overload(),
    }
}

fn string(args: &[Value]) -> Evaluated {
    match &args[0] {
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::string(text)),
            Err(_) => fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        Value::String(_)
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Duration(_)
        | Value::Timestamp(..)
        | Value::Opaque(Opaque::Ip(_) | Opaque::Cidr(_)) => Ok(Value::string(show(&args[0]))),
        _ => no_overload(),
    }
}

fn bytes(args: &[Value]) -> Evaluated {
    match &args[0] {
        Value::Bytes(_) => Ok(args[0].clone()),
        Value::String(text) => Ok(Value::Bytes(Arc::from(text.as_bytes()))),
        _ => no_overload(),
    }
}

fn boolean(args: &[Value]) -> Evaluated {
    match &args[0] {
        Value::Bool(value) => Ok(Value::Bool(*value)),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => unreadable("string", "bool"),
        },
        _ => no_overload(),
    }
}

fn duration(args: &[Value]) -> Evaluated {
    match &args[0] {
        Value::Duration(_) => Ok(args[0].clone()),
        Value::Int(nanoseconds) => Ok(Value::Duration(*nanoseconds)),
        Value::String(text) => match time::parse_duration(text) {
            Ok(nanoseconds) => Ok(Value::Duration(nanoseconds)),
            Err(_) => unreadable("string", "google.protobuf.Duration"),
        },
        _ => no_overload(),
    }
}

fn timestamp(args: &[Value]) -> Evaluated {
    match &args[0] {
        Value::Timestamp(..) => Ok(args[0].clone()),
        Value::Int(seconds) => time::from_seconds(*seconds).map(|at| Value::Timestamp(at, 0)),
        Value::String(text) => match time::parse_timestamp(text) {
            Ok((at, offset)) => Ok(Value::Timestamp(at, offset)),
            Err(_) => unreadable("string", "google.protobuf.Timestamp"),
        },
        _ => no_overload(),
    }
}

/// The text of a value, as `string()` gives it; of lists and maps as error messages show them.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => show_double(*value),
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Duration(nanoseconds) => time::seconds_text(*nanoseconds),
        Value::Timestamp(at, offset) => time::timestamp_text(*at, *offset),
        Value::Type(name) => name.to_string(),
        Value::Opaque(opaque) => opaque.text().unwrap_or_else(|| opaque.type_name().to_owned()),
        other => other.type_name().to_owned(),
    }
}

/// From this exponent on doubles are written with one.
const EXPONENT_FROM: i32 = 6;

/// The shortest text that reads back the same, in Go's `strconv` notation `g`.
pub(crate) fn show_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if !(-4..EXPONENT_FROM).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}
