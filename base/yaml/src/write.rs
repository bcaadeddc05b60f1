//! JSON -> YAML for people: block style, lists not indented under their key (as kubectl prints them), text in quotes
//! only where a reader would take it for something else.
//!
//! "A reader" is any reader: what YAML 1.1 *or* 1.2, or the Kubernetes library, would not read as text is quoted.
//! Not written: comments, anchors, flow style, folded lines.

use std::fmt::Write;

use serde_json::Value;

use crate::kubernetes::{self, Scalar};

/// A longer key needs the `? ` form.
const SIMPLE_KEY_BYTES_MAX: usize = 128;
/// Spaces for each level.
const INDENT: usize = 2;

/// Writes a value as one document with a line feed at the end. Reading it back in the Kubernetes dialect gives the
/// value again; only a float with an integer value (`1.0`) comes back as that integer, as in Kubernetes.
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => write_list(&mut out, value, 0),
        _ => {
            write_scalar(&mut out, value, 0);
            end_line(&mut out);
        }
    }
    out
}

/// The entries of a map; the cursor stands where the first key belongs.
fn write_map(out: &mut String, value: &Value, indent: usize) {
    let Value::Object(map) = value else { return };
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 {
            spaces(out, indent);
        }
        let key = inline_text(key, Place::BLOCK);
        if key.len() > SIMPLE_KEY_BYTES_MAX {
            let _ = writeln!(out, "? {key}");
            spaces(out, indent);
            out.push(':');
        } else {
            let _ = write!(out, "{key}:");
        }
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                spaces(out, indent + INDENT);
                write_map(out, value, indent + INDENT);
            }
            Value::Array(list) if !list.is_empty() => {
                out.push('\n');
                spaces(out, indent);
                write_list(out, value, indent);
            }
            _ => {
                out.push(' ');
                write_scalar(out, value, indent);
                end_line(out);
            }
        }
    }
}

/// The items of a list; the cursor stands where the first dash belongs.
fn write_list(out: &mut String, value: &Value, indent: usize) {
    let Value::Array(list) = value else { return };
    for (i, item) in list.iter().enumerate() {
        if i > 0 {
            spaces(out, indent);
        }
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => write_map(out, item, indent + INDENT),
            Value::Array(list) if !list.is_empty() => write_list(out, item, indent + INDENT),
            _ => {
                write_scalar(out, item, indent);
                end_line(out);
            }
        }
    }
}

/// A scalar or an empty collection. `indent` is that of the line it stands in.
fn write_scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(text) => match literal(text, indent + INDENT, "\n") {
            Some(block) => out.push_str(&block),
            None => out.push_str(&inline_text(text, Place::BLOCK)),
        },
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => out.push_str(&inline_other(other)),
    }
}

/// A literal block ends its own line.
fn end_line(out: &mut String) {
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

fn spaces(out: &mut String, n: usize) {
    out.extend(std::iter::repeat_n(' ', n));
}

/// Null, booleans and numbers.
pub(crate) fn inline_other(value: &Value) -> String {
    match value.as_f64() {
        // Rust prints `1e300` with 300 digits; Go and JSON do not.
        Some(float) if value.is_f64() => match kubernetes::float_number(float) {
            Some(number) => number.to_string(),
            None => value.to_string(),
        },
        _ => value.to_string(),
    }
}

/// Where a text is to stand.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Between `[` and `]` or `{` and `}`, where commas and brackets mean something.
    pub(crate) flow: bool,
}

impl Place {
    pub(crate) const BLOCK: Place = Place { flow: false };
}

/// A text in one line: plain if that is safe, else in double quotes.
pub(crate) fn inline_text(text: &str, place: Place) -> String {
    if is_plain_safe(text, place) { text.to_owned() } else { double_quoted(text) }
}

/// Whether every reader takes the bare text for a text.
pub(crate) fn is_plain_safe(text: &str, place: Place) -> bool {
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return false };
    let second = characters.next();
    let starts_well = match first {
        '_' | '/' | '$' | '(' => true,
        '-' => second.is_some_and(|c| c.is_alphanumeric() || c == '-') && !text.starts_with("---"),
        '.' => !text.starts_with("..."),
        _ => first.is_alphanumeric(),
    };
    let breaks_flow = |c: char| matches!(c, ',' | '[' | ']' | '{' | '}' | ':');
    if place.flow && text.contains(breaks_flow) {
        return false;
    }
    starts_well
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(|c| needs_escape(c) || c == '\t' || c == '\n')
        && !looks_like_other(text)
}

/// Whether the bare text is a number, a date or a word of some YAML version.
fn looks_like_other(text: &str) -> bool {
    if !matches!(kubernetes::resolve(None, text), Ok(Scalar::String(_))) {
        return true;
    }
    let first = text.as_bytes().first().copied().unwrap_or(b' ');
    // Dates, sexagesimal numbers (`1:30`), `0o8`, `1_0.5`: nothing but the characters of numbers, digit first.
    let numeric = |byte: u8| byte.is_ascii_digit() || b"+-.:_eExXoObBtTzZ, ".contains(&byte);
    (first.is_ascii_digit() || first == b'-' || first == b'.') && text.bytes().all(numeric)
}

/// Characters that only double quotes can carry, the line feed and the tab not counted.
fn needs_escape(character: char) -> bool {
    let is_control = character.is_control() && !matches!(character, '\n' | '\t');
    is_control || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Whether single quotes can carry the text in one line.
pub(crate) fn is_single_line(text: &str) -> bool {
    !text.chars().any(|character| needs_escape(character) || matches!(character, '\n' | '\t'))
}

/// A text in double quotes, in one line.
pub(crate) fn double_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            character if needs_escape(character) => {
                let _ = match u32::from(character) {
                    code @ 0..=0xff => write!(out, "\\x{code:02x}"),
                    code => write!(out, "\\u{code:04x}"),
                };
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

/// A text of several lines as a `|` block whose lines are indented by `indent`; `None` if a block cannot carry it
/// or if it is one line.
pub(crate) fn literal(text: &str, indent: usize, line_end: &str) -> Option<String> {
    let body = text.trim_end_matches('\n');
    let n_final = text.len() - body.len();
    let fits = body.contains('\n')
        // The first line decides the indentation, so it must not begin with a blank and not be empty.
        && !body.starts_with([' ', '\n', '\t'])
        // The last line must not be lost as an empty one.
        && !body.ends_with([' ', '\t'])
        && !text.chars().any(needs_escape);
    if !fits {
        return None;
    }
    let mut out = String::from(match n_final {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    for line in body.split('\n') {
        out.push_str(line_end);
        if !line.is_empty() {
            spaces(&mut out, indent);
            out.push_str(line);
        }
    }
    for _ in 1..n_final {
        out.push_str(line_end);
    }
    out.push_str(line_end);
    Some(out)
}
