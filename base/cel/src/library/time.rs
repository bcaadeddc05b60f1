//! Durations and timestamps.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};

use super::{Evaluated, Function, no_overload};
use crate::error::{EvalError, fail};
use crate::value::Value;

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "getFullYear" => |args| part(args, |at| at.year().into(), None),
        "getMonth" => |args| part(args, |at| i64::from(at.month()) - 1, None),
        "getDate" => |args| part(args, |at| at.day().into(), None),
        "getDayOfMonth" => |args| part(args, |at| i64::from(at.day()) - 1, None),
        "getDayOfWeek" => |args| part(args, |at| at.weekday().to_sunday_zero_offset().into(), None),
        "getDayOfYear" => |args| part(args, |at| i64::from(at.day_of_year()) - 1, None),
        "getHours" => |args| part(args, |at| at.hour().into(), Some(3600 * NANOS)),
        "getMinutes" => |args| part(args, |at| at.minute().into(), Some(60 * NANOS)),
        "getSeconds" => |args| part(args, |at| at.second().into(), Some(NANOS)),
        "getMilliseconds" => |args| part(args, |at| at.millisecond().into(), Some(1_000_000)),
        _ => return None,
    })
}

/// The zero of Go's time, in nanoseconds: the first moment of year 1.
pub(crate) const ZERO_TIME: i128 = FIRST_SECOND as i128 * NANOS as i128;
const NANOS: i64 = 1_000_000_000;
/// 0001-01-01T00:00:00Z.
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;

/// A part of a timestamp (in a zone), or a duration in `unit` nanoseconds.
fn part(args: &[Value], pick: fn(DateTime) -> i64, unit: Option<i64>) -> Evaluated {
    match args {
        [Value::Duration(nanoseconds)] => match unit {
            Some(unit) => Ok(Value::Int(nanoseconds / unit)),
            None => no_overload(),
        },
        [Value::Timestamp(at, _)] => Ok(Value::Int(pick(TimeZone::UTC.to_datetime(*at)))),
        [Value::Timestamp(at, _), Value::String(zone)] => {
            Ok(Value::Int(pick(self::zone(zone)?.to_datetime(*at))))
        }
        _ => no_overload(),
    }
}

/// A zone by name, or by offset: `+01:00`, `-00:15`, `01:00`.
fn zone(name: &str) -> Result<TimeZone, EvalError> {
    let unknown = || EvalError::new(format!("unknown time zone {name}"));
    if let Some((hours, minutes)) = name.split_once(':') {
        let hours_number: i32 = hours.trim_start_matches('+').parse().map_err(|_| unknown())?;
        let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
        let sign = if hours.starts_with('-') { -1 } else { 1 };
        let seconds = hours_number
            .checked_mul(3600)
            .and_then(|seconds| seconds.checked_add(sign * minutes.checked_mul(60)?));
        let offset = seconds.and_then(|seconds| Offset::from_seconds(seconds).ok()).ok_or_else(unknown)?;
        return Ok(TimeZone::fixed(offset));
    }
    match name {
        "" | "UTC" => Ok(TimeZone::UTC),
        _ => TimeZone::get(name).map_err(|_| unknown()),
    }
}

/// `at` moved by nanoseconds (`None`: the move itself overflowed).
pub(crate) fn shifted(at: Timestamp, offset: i32, by: Option<i64>) -> Evaluated {
    let moved = by.map(|by| at.as_nanosecond() + i128::from(by));
    let moved = moved.and_then(|moved| Timestamp::from_nanosecond(moved).ok());
    match moved {
        Some(moved) if in_range(moved) => Ok(Value::Timestamp(moved, offset)),
        _ => fail("timestamp overflow"),
    }
}

fn in_range(at: Timestamp) -> bool {
    let seconds = at.as_nanosecond().div_euclid(i128::from(NANOS));
    (i128::from(FIRST_SECOND)..=i128::from(LAST_SECOND)).contains(&seconds)
}

pub(crate) fn from_seconds(seconds: i64) -> Result<Timestamp, EvalError> {
    match Timestamp::from_second(seconds) {
        Ok(at) if in_range(at) => Ok(at),
        _ => fail("timestamp overflow"),
    }
}

/// RFC 3339; the year has four digits.
pub(crate) fn parse_timestamp(text: &str) -> Result<(Timestamp, i32), EvalError> {
    match read_timestamp(text) {
        Some((at, offset)) if in_range(at) => Ok((at, offset)),
        Some(_) => fail("timestamp overflow"),
        None => fail("invalid timestamp"),
    }
}

fn read_timestamp(text: &str) -> Option<(Timestamp, i32)> {
    let date = parse_date(text.get(..10)?)?;
    let rest = text.get(10..)?.strip_prefix('T')?;
    let clock = rest.get(..8)?.as_bytes();
    let number = |at: usize| two_digits(clock, at);
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let mut rest = &rest[8..];
    let mut nanoseconds = 0;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let n = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if n == 0 {
            return None;
        }
        let digits: String = fraction.chars().take(n.min(9)).collect();
        nanoseconds = format!("{digits:0<9}").parse().ok()?;
        rest = &fraction[n..];
    }
    let time = Time::new(number(0)?, number(3)?, number(6)?, nanoseconds).ok()?;
    let offset = match rest {
        "Z" => 0,
        rest => {
            let bytes = rest.as_bytes();
            if bytes.len() != 6 || bytes[3] != b':' {
                return None;
            }
            let seconds = i32::from(two_digits(bytes, 1)?) * 3600 + i32::from(two_digits(bytes, 4)?) * 60;
            match bytes[0] {
                b'+' => seconds,
                b'-' => -seconds,
                _ => return None,
            }
        }
    };
    let at = Offset::from_seconds(offset).ok()?.to_timestamp(DateTime::from_parts(date, time)).ok()?;
    Some((at, offset))
}

fn two_digits(bytes: &[u8], at: usize) -> Option<i8> {
    let (tens, ones) = (*bytes.get(at)?, *bytes.get(at + 1)?);
    if !tens.is_ascii_digit() || !ones.is_ascii_digit() {
        return None;
    }
    i8::try_from((tens - b'0') * 10 + (ones - b'0')).ok()
}

/// `2006-01-02`.
pub(crate) fn parse_date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = i16::from(two_digits(bytes, 0)?) * 100 + i16::from(two_digits(bytes, 2)?);
    Date::new(year, two_digits(bytes, 5)?, two_digits(bytes, 8)?).ok()
}

/// The date-times OpenAPI's format accepts: RFC 3339, also without seconds, colon or zone.
pub(crate) fn parse_datetime(text: &str) -> Option<(Timestamp, i32)> {
    if text.is_empty() {
        return Some((Timestamp::UNIX_EPOCH, 0));
    }
    let upper = text.to_ascii_uppercase();
    if let Some(at) = read_timestamp(&upper) {
        return Some(at);
    }
    let minutes = upper.get(..16)?;
    let rest = upper.get(16..)?;
    if rest.is_empty() || rest == "Z" {
        return read_timestamp(&format!("{minutes}:00Z"));
    }
    if upper.len() >= 5 {
        // An offset without a colon, or no zone at all.
        let (head, tail) = upper.split_at_checked(upper.len() - 2)?;
        if let Some(at) = read_timestamp(&format!("{head}:{tail}")) {
            return Some(at);
        }
    }
    read_timestamp(&format!("{upper}Z"))
}

/// Go's notation of a duration, in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Result<i64, EvalError> {
    read_duration(text).map_or_else(|| fail("invalid duration"), Ok)
}

fn read_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let n = rest.bytes().take_while(u8::is_ascii_digit).count();
        let whole = &rest[..n];
        rest = &rest[n..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            let n = after.bytes().take_while(u8::is_ascii_digit).count();
            fraction = &after[..n];
            rest = &after[n..];
        }
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let n = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = duration_unit(&rest[..n])?;
        rest = &rest[n..];
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let digits = &fraction[..fraction.len().min(18)];
        if !digits.is_empty() {
            let scale = 10i128.pow(digits.len() as u32);
            total = total.checked_add(digits.parse::<i128>().ok()?.checked_mul(unit)? / scale)?;
        }
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return None;
        }
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn duration_unit(name: &str) -> Option<i128> {
    Some(match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// OpenAPI's duration format: Go's notation, or numbers with longer names of units (`1 day 2 hours`).
pub(crate) fn parse_format_duration(text: &str) -> Option<i64> {
    if let Some(nanoseconds) = read_duration(text) {
        return Some(nanoseconds);
    }
    let mut rest = text.trim();
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let n = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i128 = rest[..n].parse().ok()?;
        rest = rest[n..].trim_start();
        let n = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let name = rest[..n].to_ascii_lowercase();
        rest = rest[n..].trim_start();
        let day = 86_400_000_000_000;
        let unit = duration_unit(&name).or(match name.trim_end_matches('s') {
            "nano" | "nanosecond" => Some(1),
            "micro" | "microsecond" => Some(1_000),
            "milli" | "millisecond" => Some(1_000_000),
            "sec" | "second" => Some(1_000_000_000),
            "min" | "minute" => Some(60_000_000_000),
            "hr" | "hour" => Some(3_600_000_000_000),
            "d" | "day" => Some(day),
            "w" | "wk" | "week" => Some(7 * day),
            _ => None,
        });
        total = total.checked_add(number.checked_mul(unit?)?)?;
    }
    i64::try_from(total).ok()
}

/// Seconds with a fraction and `s`: what `string()` gives.
pub(crate) fn seconds_text(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let magnitude = nanoseconds.unsigned_abs();
    let (seconds, fraction) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
    let fraction = format!("{fraction:09}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{seconds}{point}{fraction}s")
}

/// RFC 3339, with as many digits after the point as there are.
pub(crate) fn timestamp_text(at: Timestamp, offset: i32) -> String {
    if offset == 0 {
        return at.to_string();
    }
    match Offset::from_seconds(offset) {
        Ok(offset) => at.display_with_offset(offset).to_string(),
        Err(_) => at.to_string(),
    }
}
