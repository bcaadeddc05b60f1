//! Scalar text and tag -> value. Pure functions over text; the table in `tests/data` is their specification.

use std::borrow::Cow;

use crate::error::ErrorKind;

/// What a scalar means. Timestamps are not a kind: they stay text, as there.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Uint(u64),
    /// May be infinite or not a number.
    Float(f64),
    String(Cow<'a, str>),
}

impl Scalar<'_> {
    fn name(&self) -> &'static str {
        match self {
            Scalar::Null => "null",
            Scalar::Bool(_) => "a boolean",
            Scalar::Int(_) | Scalar::Uint(_) => "an integer",
            Scalar::Float(_) => "a float",
            Scalar::String(_) => "text",
        }
    }
}

const TAG_PREFIX: &str = "tag:yaml.org,2002:";

/// Resolves a plain scalar (`tag` is `None`), or one of any style with a tag.
///
/// # Errors
/// [`ErrorKind::TagMismatch`], [`ErrorKind::Base64`].
pub fn resolve<'a>(tag: Option<&str>, text: &'a str) -> Result<Scalar<'a>, ErrorKind> {
    let Some(tag) = tag else { return Ok(plain(text)) };
    let mismatch = |found: &Scalar<'_>| ErrorKind::TagMismatch {
        tag: tag.strip_prefix(TAG_PREFIX).map_or_else(|| tag.to_owned(), |short| format!("!!{short}")),
        found: found.name(),
    };
    match tag.strip_prefix(TAG_PREFIX) {
        Some("binary") => binary(text).map(|text| Scalar::String(Cow::Owned(text))),
        Some("timestamp") if is_timestamp(text) => Ok(Scalar::String(text.into())),
        Some("timestamp") => Err(mismatch(&plain(text))),
        Some(short @ ("bool" | "int" | "float" | "null")) => match (short, plain(text)) {
            ("float", Scalar::Int(value)) => Ok(Scalar::Float(value as f64)),
            ("float", value @ Scalar::Float(_))
            | ("int", value @ (Scalar::Int(_) | Scalar::Uint(_)))
            | ("bool", value @ Scalar::Bool(_))
            | ("null", value @ Scalar::Null) => Ok(value),
            (_, found) => Err(mismatch(&found)),
        },
        // `!!str`, and every tag that is not known: the text as it is.
        _ => Ok(Scalar::String(text.into())),
    }
}

/// A scalar without quotes and without tag.
fn plain(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Scalar::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' => float(text),
        b'0'..=b'9' | b'+' | b'-' => number(text),
        _ => None,
    };
    number.unwrap_or_else(|| Scalar::String(text.into()))
}

pub(crate) fn number(text: &str) -> Option<Scalar<'static>> {
    // Underscores may stand anywhere after the first character.
    let digits: Cow<'_, str> =
        if text.contains('_') { Cow::Owned(text.replace('_', "")) } else { Cow::Borrowed(text) };
    integer(&digits).or_else(|| float(&digits)).or_else(|| signed_binary(&digits))
}

/// Go's `ParseInt` and then `ParseUint` with base 0: `0x`, `0o`, `0b` in either case, and a leading `0` for octal.
fn integer(text: &str) -> Option<Scalar<'static>> {
    let (negative, signed, rest) = match text.as_bytes().first()? {
        b'-' => (true, true, &text[1..]),
        b'+' => (false, true, &text[1..]),
        _ => (false, false, text),
    };
    let (base, digits) = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &rest[2..]),
        [b'0', b'o' | b'O', ..] => (8, &rest[2..]),
        [b'0', b'b' | b'B', ..] => (2, &rest[2..]),
        [b'0', _, ..] => (8, &rest[1..]),
        _ => (10, rest),
    };
    let magnitude = magnitude(digits, base)?;
    if negative {
        return 0_i64.checked_sub_unsigned(magnitude).map(Scalar::Int);
    }
    match i64::try_from(magnitude) {
        Ok(value) => Some(Scalar::Int(value)),
        // A sign is not allowed in an unsigned number.
        Err(_) => (!signed).then_some(Scalar::Uint(magnitude)),
    }
}

/// Digits only: Rust's own parser would take a second sign.
fn magnitude(digits: &str, base: u32) -> Option<u64> {
    if digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        u64::from_str_radix(digits, base).ok()
    } else {
        None
    }
}

/// `[-+]? ( .digits | digits [. digits] ) [e [-+] digits]`; too large for a float is no float.
pub(crate) fn float(text: &str) -> Option<Scalar<'static>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && is_digits(fraction),
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => !mantissa.is_empty() && is_digits(mantissa),
    };
    let exponent_fits = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && is_digits(digits)
    });
    if !mantissa_fits || !exponent_fits {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(Scalar::Float(value))
}

/// A quirk kept for sameness: after `0b` a sign is taken, `0b-101` is -5.
fn signed_binary(text: &str) -> Option<Scalar<'static>> {
    let rest = text.strip_prefix("0b")?;
    let (negative, digits) = match rest.as_bytes().first()? {
        b'-' => (true, &rest[1..]),
        b'+' => (false, &rest[1..]),
        _ => return None,
    };
    let magnitude = magnitude(digits, 2)?;
    if negative {
        0_i64.checked_sub_unsigned(magnitude).map(Scalar::Int)
    } else {
        i64::try_from(magnitude).ok().map(Scalar::Int)
    }
}

/// A float as a map key: six digits of exponent form, computed in 32 bits, as there.
pub(crate) fn float_key(value: f64) -> String {
    let value = value as f32;
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// `2001-1-2`, `2001-1-2 15:4:5.9`, `2001-1-2T15:4:5.9Z`, `…+07:00`. Only needed for an explicit `!!timestamp`.
pub(crate) fn is_timestamp(text: &str) -> bool {
    let date_end = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let (date, rest) = text.split_at(date_end);
    if !is_date(date) {
        return false;
    }
    let Some(separator) = rest.chars().next() else { return true };
    let time = &rest[1..];
    if separator == ' ' {
        return is_time(time);
    }
    if let Some(time) = time.strip_suffix('Z') {
        return is_time(time);
    }
    let Some(zone_start) = time.rfind(['+', '-']) else { return false };
    let (time, zone) = time.split_at(zone_start);
    is_time(time) && is_zone(&zone[1..])
}

/// One or two digits up to `max`.
fn short_number(text: &str, max: u32) -> Option<u32> {
    let fits = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
    let value: u32 = fits.then(|| text.parse().ok())??;
    (value <= max).then_some(value)
}

pub(crate) fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(4, '-').collect();
    let [year, month, day] = parts[..] else { return false };
    if year.len() != 4 || !year.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let (Ok(year), Some(month), Some(day)) =
        (year.parse::<u32>(), short_number(month, 12), short_number(day, 31))
    else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        0 => 0,
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (1..=days).contains(&day)
}

fn is_time(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let [hour, minute, second] = parts[..] else { return false };
    let (second, fraction) = match second.split_once(['.', ',']) {
        Some((second, fraction)) => (second, Some(fraction)),
        None => (second, None),
    };
    short_number(hour, 23).is_some()
        && short_number(minute, 59).is_some()
        && short_number(second, 59).is_some()
        && fraction
            .is_none_or(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_zone(text: &str) -> bool {
    text.len() == 5
        && text.as_bytes()[2] == b':'
        && text.is_ascii()
        && short_number(&text[..2], 24).is_some()
        && short_number(&text[3..], 60).is_some()
}

/// Base64 with padding; line breaks are left out. Bytes that are no UTF-8 become U+FFFD, one for each byte.
pub(crate) fn binary(text: &str) -> Result<String, ErrorKind> {
    let symbols: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    if !symbols.len().is_multiple_of(4) {
        return Err(ErrorKind::Base64);
    }
    let padding = symbols.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return Err(ErrorKind::Base64);
    }
    let mut bytes = Vec::with_capacity(symbols.len() / 4 * 3);
    let (mut bits, mut n_bits) = (0_u32, 0);
    for symbol in &symbols[..symbols.len() - padding] {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(ErrorKind::Base64),
        };
        bits = (bits << 6) | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits) as u8);
            bits &= (1 << n_bits) - 1;
        }
    }
    Ok(lossy(&bytes))
}

fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}
