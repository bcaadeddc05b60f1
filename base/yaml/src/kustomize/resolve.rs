//! Scalar text and tag -> value, as go-yaml's third version has it.

use std::borrow::Cow;

use crate::error::ErrorKind;
use crate::kubernetes::resolve as kubernetes;

/// What a scalar means.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Uint(u64),
    /// May be infinite or not a number.
    Float(f64),
    /// A time, in the form in which it is printed.
    Timestamp(String),
    String(Cow<'a, str>),
}

impl Scalar<'_> {
    /// The tag without `!!`.
    pub fn tag(&self) -> &'static str {
        match self {
            Scalar::Null => "null",
            Scalar::Bool(_) => "bool",
            Scalar::Int(_) | Scalar::Uint(_) => "int",
            Scalar::Float(_) => "float",
            Scalar::Timestamp(_) => "timestamp",
            Scalar::String(_) => "str",
        }
    }
}

/// A scalar without quotes and without tag.
pub fn resolve_plain(text: &str) -> Scalar<'_> {
    let first = match text.as_bytes().first() {
        None => return Scalar::Null,
        Some(first) => *first,
    };
    match first {
        b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' => word(text),
        b'.' => match special_float(text) {
            Some(float) => Scalar::Float(float),
            None => from_number(kubernetes::float(text), text),
        },
        b'0'..=b'9' | b'+' | b'-' => {
            if let Some(float) = special_float(text) {
                return Scalar::Float(float);
            }
            match timestamp(text) {
                Some(time) => Scalar::Timestamp(time),
                None => from_number(kubernetes::number(text), text),
            }
        }
        _ => Scalar::String(text.into()),
    }
}

fn word(text: &str) -> Scalar<'_> {
    match text {
        "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        _ => Scalar::String(text.into()),
    }
}

fn special_float(text: &str) -> Option<f64> {
    match text {
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn from_number<'a>(number: Option<kubernetes::Scalar<'static>>, text: &'a str) -> Scalar<'a> {
    match number {
        Some(kubernetes::Scalar::Int(value)) => Scalar::Int(value),
        Some(kubernetes::Scalar::Uint(value)) => Scalar::Uint(value),
        Some(kubernetes::Scalar::Float(value)) => Scalar::Float(value),
        _ => Scalar::String(text.into()),
    }
}

/// A scalar with an explicit tag, given without `!!`; a tag that is not known leaves the text.
///
/// # Errors
/// [`ErrorKind::TagMismatch`], [`ErrorKind::Base64`].
pub fn resolve_tagged<'a>(tag: &str, text: &'a str) -> Result<Scalar<'a>, ErrorKind> {
    match tag {
        "binary" => kubernetes::binary(text).map(|text| Scalar::String(Cow::Owned(text))),
        "bool" | "int" | "float" | "null" | "timestamp" => match (tag, resolve_plain(text)) {
            ("float", Scalar::Int(value)) => Ok(Scalar::Float(value as f64)),
            (_, found) if found.tag() == tag => Ok(found),
            (_, found) => {
                let found = match found {
                    Scalar::String(_) => "text",
                    other => other.tag(),
                };
                Err(ErrorKind::TagMismatch { tag: format!("!!{tag}"), found })
            }
        },
        _ => Ok(Scalar::String(text.into())),
    }
}

/// A date or a time as RFC 3339 with as many digits of the second as it has.
fn timestamp(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || bytes[4] != b'-' || !kubernetes::is_timestamp(text) {
        return None;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mut parts = date.split('-').map(|part| part.parse::<u32>().unwrap_or(0));
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let mut out = format!("{year:04}-{month:02}-{day:02}T");
    let Some(time) = time else {
        out.push_str("00:00:00Z");
        return Some(out);
    };
    let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let mut parts = clock.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let (second, fraction) = second.split_once(['.', ',']).unwrap_or((second, ""));
    let number = |part: &str| part.parse::<u32>().unwrap_or(0);
    out.push_str(&format!("{:02}:{:02}:{:02}", number(hour), number(minute), number(second)));
    let fraction = fraction[..fraction.len().min(9)].trim_end_matches('0');
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out.push_str(match zone {
        "" | "+00:00" | "-00:00" => "Z",
        zone => zone,
    });
    Some(out)
}
