//! `text.format(arguments)`: `%s %d %f %e %b %x %X %o` with a precision for `%f` and `%e`.

use super::{Evaluated, TEXT_SIZE_MAX, convert, no_overload, strings};
use crate::error::{EvalError, fail};
use crate::types::Type;
use crate::value::{Key, Value};

/// Largest precision.
const PRECISION_MAX: usize = 1_000;

enum Part {
    Text(String),
    Clause(char, Option<usize>),
}

fn parse(text: &str) -> Result<Vec<Part>, String> {
    let wrong = |detail: String| format!("could not parse formatting clause: {detail}");
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            plain.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            plain.push('%');
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            match digits.parse() {
                Ok(number) if number <= PRECISION_MAX => precision = Some(number),
                _ => return Err(wrong("error while parsing precision".to_owned())),
            }
        }
        let Some(verb) = chars.next() else { return Err("unexpected end of string".to_owned()) };
        if !"sdfebxXo".contains(verb) {
            return Err(wrong(format!("unrecognized formatting clause \"{verb}\"")));
        }
        parts.push(Part::Text(std::mem::take(&mut plain)));
        parts.push(Part::Clause(verb, precision));
    }
    parts.push(Part::Text(plain));
    Ok(parts)
}

/// Checks a literal format with the types of its arguments; the error may belong to one argument.
pub(crate) fn check(text: &str, given: &[&Type]) -> Result<(), (Option<usize>, String)> {
    let parts = parse(text).map_err(|text| (None, text))?;
    let mut n_used = 0;
    for part in parts {
        let Part::Clause(verb, _) = part else { continue };
        let Some(found) = given.get(n_used) else {
            return Err((None, format!("index {n_used} out of range")));
        };
        if !accepts(verb, found) {
            let text = format!("error during formatting: {}", wrong_type(verb, &found.to_string()));
            return Err((Some(n_used), text));
        }
        n_used += 1;
    }
    if n_used < given.len() {
        let n_given = given.len();
        let text = format!("too many arguments supplied to string.format (expected {n_used}, got {n_given})");
        return Err((None, text));
    }
    Ok(())
}

fn accepts(verb: char, found: &Type) -> bool {
    use Type::{Bool, Bytes, Double, Int, Null, String, Uint};
    if found.is_dyn() || matches!(found, Type::Param(_)) {
        return true;
    }
    match verb {
        's' => {
            let simple = matches!(
                found,
                Bool | Bytes
                    | Double
                    | Int
                    | Null
                    | String
                    | Uint
                    | Type::Duration
                    | Type::Timestamp
                    | Type::TypeOf(_)
            );
            simple
                || matches!(found, Type::List(_) | Type::Map(..))
                    && found.parameters().iter().all(|part| accepts('s', part))
        }
        'd' => matches!(found, Int | Uint | Double),
        'f' | 'e' => matches!(found, Double | Int | Uint),
        'b' => matches!(found, Int | Uint | Bool),
        'x' | 'X' => matches!(found, Int | Uint | String | Bytes),
        _ => matches!(found, Int | Uint),
    }
}

fn wrong_type(verb: char, found: &str) -> String {
    match verb {
        's' => format!(
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {found}"
        ),
        'd' => format!("decimal clause can only be used on integers, was given {found}"),
        'f' => format!("fixed-point clause can only be used on doubles, was given {found}"),
        'e' => format!("scientific clause can only be used on doubles, was given {found}"),
        'b' => format!("only integers and bools can be formatted as binary, was given {found}"),
        'o' => format!("octal clause can only be used on integers, was given {found}"),
        _ => format!("only integers, byte buffers, and strings can be formatted as hex, was given {found}"),
    }
}

pub(crate) fn format(args: &[Value]) -> Evaluated {
    let [Value::String(text), Value::List(list)] = args else { return no_overload() };
    let parts = parse(text).map_err(EvalError::new)?;
    let mut given = list.items.iter();
    let mut out = String::new();
    let mut n_used = 0;
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(&text),
            Part::Clause(verb, precision) => {
                let Some(value) = given.next() else { return fail(format!("index {n_used} out of range")) };
                n_used += 1;
                clause(verb, precision, &value.clone().valid()?, &mut out)?;
            }
        }
        if out.len() > TEXT_SIZE_MAX {
            return fail("text is too long");
        }
    }
    Ok(Value::string(out))
}

fn clause(verb: char, precision: Option<usize>, value: &Value, out: &mut String) -> Result<(), EvalError> {
    use Value::{Bool, Bytes, Double, Int, String, Uint};
    let text = match (verb, value) {
        ('s', value) => return write_value(value, false, out),
        ('d', Int(_) | Uint(_)) => convert::show(value),
        ('d' | 'f' | 'e', Double(number)) if !number.is_finite() => special(*number),
        ('d', Double(number)) => format!("{number}"),
        ('f', number) => match double(number) {
            Some(number) => format!("{number:.*}", precision.unwrap_or(6)),
            None => return wrong(verb, value),
        },
        ('e', number) => match double(number) {
            Some(number) => scientific(number, precision.unwrap_or(6)),
            None => return wrong(verb, value),
        },
        ('b', Bool(value)) => if *value { "1" } else { "0" }.to_owned(),
        ('b', Int(value)) => signed(*value, format!("{:b}", value.unsigned_abs())),
        ('b', Uint(value)) => format!("{value:b}"),
        ('o', Int(value)) => signed(*value, format!("{:o}", value.unsigned_abs())),
        ('o', Uint(value)) => format!("{value:o}"),
        ('x' | 'X', Int(value)) => cased(verb, signed(*value, format!("{:x}", value.unsigned_abs()))),
        ('x' | 'X', Uint(value)) => cased(verb, format!("{value:x}")),
        ('x' | 'X', String(text)) => cased(verb, hex(text.as_bytes())),
        ('x' | 'X', Bytes(bytes)) => cased(verb, hex(bytes)),
        _ => return wrong(verb, value),
    };
    out.push_str(&text);
    Ok(())
}

fn wrong(verb: char, value: &Value) -> Result<(), EvalError> {
    fail(format!("error during formatting: {}", wrong_type(verb, value.type_name())))
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        _ => None,
    }
}

fn special(number: f64) -> String {
    match number {
        number if number.is_nan() => "NaN".to_owned(),
        number if number > 0.0 => "Infinity".to_owned(),
        _ => "-Infinity".to_owned(),
    }
}

fn signed(value: i64, magnitude: String) -> String {
    if value < 0 { format!("-{magnitude}") } else { magnitude }
}

fn cased(verb: char, text: String) -> String {
    if verb == 'X' { text.to_uppercase() } else { text }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `1.052033×10⁰³`.
fn scientific(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    let superscript = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        c => char::from_u32(0x2070 + c.to_digit(10).unwrap_or(0)).unwrap_or(c),
    };
    let sign = if exponent < 0 { "-" } else { "" };
    let exponent: String = format!("{sign}{:02}", exponent.abs()).chars().map(superscript).collect();
    format!("{mantissa}×10{exponent}")
}

fn write_value(value: &Value, nested: bool, out: &mut String) -> Result<(), EvalError> {
    if out.len() > TEXT_SIZE_MAX {
        return fail("text is too long");
    }
    match value {
        Value::String(text) if nested => out.push_str(&strings::quote(text)),
        Value::Double(number) if !number.is_finite() => out.push_str(&special(*number)),
        Value::Double(number) => out.push_str(&format!("{number}")),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_value(item, true, out)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (index, (key, value)) in map.entries.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                match key {
                    Key::String(key) => out.push_str(&strings::quote(key)),
                    key => out.push_str(&convert::show(&key.value())),
                }
                out.push(':');
                write_value(value, true, out)?;
            }
            out.push('}');
        }
        Value::Optional(_) | Value::Opaque(_) | Value::Unknown(_) | Value::Invalid(_) => {
            return wrong('s', value);
        }
        simple => out.push_str(&convert::show(simple)),
    }
    Ok(())
}
