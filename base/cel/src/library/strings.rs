//! Texts. Positions and lengths count characters.

use super::lists::texts;
use super::{Evaluated, Function, TEXT_SIZE_MAX, formatting, no_overload};
use crate::error::fail;
use crate::value::Value;

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "contains" => |args| test(args, |text, part| text.contains(part)),
        "startsWith" => |args| test(args, |text, part| text.starts_with(part)),
        "endsWith" => |args| test(args, |text, part| text.ends_with(part)),
        "charAt" => char_at,
        "lowerAscii" => |args| change(args, str::to_ascii_lowercase),
        "upperAscii" => |args| change(args, str::to_ascii_uppercase),
        "trim" => |args| change(args, |text| text.trim_matches(is_space).to_owned()),
        "replace" => replace,
        "split" => split,
        "substring" => substring,
        "strings.quote" => |args| change(args, quote),
        "format" => formatting::format,
        "jsonpatch.escapeKey" => |args| change(args, |text| text.replace('~', "~0").replace('/', "~1")),
        _ => return None,
    })
}

fn is_space(c: char) -> bool {
    c.is_whitespace()
}

fn test(args: &[Value], test: fn(&str, &str) -> bool) -> Evaluated {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(test(text, part))),
        _ => no_overload(),
    }
}

fn change(args: &[Value], change: fn(&str) -> String) -> Evaluated {
    match args {
        [Value::String(text)] => Ok(Value::string(change(text))),
        _ => no_overload(),
    }
}

fn out_of_range(index: i64) -> Evaluated {
    fail(format!("index out of range: {index}"))
}

fn char_at(args: &[Value]) -> Evaluated {
    let [Value::String(text), Value::Int(index)] = args else { return no_overload() };
    let length = text.chars().count() as i64;
    if *index < 0 || *index > length {
        return out_of_range(*index);
    }
    let found = text.chars().nth(*index as usize);
    Ok(Value::string(found.map(String::from).unwrap_or_default()))
}

/// `indexOf` and `lastIndexOf` of texts; the offset is the third argument.
pub(crate) fn index_of(args: &[Value], last: bool) -> Evaluated {
    let (text, wanted, offset) = match args {
        [Value::String(text), Value::String(wanted)] => (text, wanted, None),
        [Value::String(text), Value::String(wanted), Value::Int(offset)] => (text, wanted, Some(*offset)),
        _ => return no_overload(),
    };
    let text: Vec<char> = text.chars().collect();
    let wanted: Vec<char> = wanted.chars().collect();
    let length = text.len() as i64;
    if let Some(offset) = offset
        && offset < 0
    {
        return out_of_range(offset);
    }
    if let Some(offset) = offset
        && offset >= length
    {
        let at_end = wanted.is_empty() && offset == length && !last;
        return Ok(Value::Int(if at_end { length } else { -1 }));
    }
    let fits = |at: usize| text[at..].starts_with(&wanted);
    let last_start = text.len().checked_sub(wanted.len());
    let found = match (last_start, last) {
        (None, _) => None,
        (Some(end), false) => (offset.unwrap_or(0) as usize..=end).find(|&at| fits(at)),
        (Some(end), true) => {
            let end = offset.map_or(end, |offset| end.min(offset as usize));
            (0..=end).rev().find(|&at| fits(at))
        }
    };
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn replace(args: &[Value]) -> Evaluated {
    let (text, from, to, limit) = match args {
        [Value::String(text), Value::String(from), Value::String(to)] => (text, from, to, -1),
        [Value::String(text), Value::String(from), Value::String(to), Value::Int(limit)] => {
            (text, from, to, *limit)
        }
        _ => return no_overload(),
    };
    let n_found = if from.is_empty() { text.chars().count() + 1 } else { text.matches(&**from).count() };
    let n = usize::try_from(limit).map_or(n_found, |limit| limit.min(n_found));
    if text.len().saturating_add(n.saturating_mul(to.len())) > TEXT_SIZE_MAX {
        return fail("text is too long");
    }
    Ok(Value::string(text.replacen(&**from, to, n)))
}

fn split(args: &[Value]) -> Evaluated {
    let (text, separator, limit) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(limit)] => (text, separator, *limit),
        _ => return no_overload(),
    };
    if limit == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if separator.is_empty() {
        let mut parts: Vec<String> = Vec::new();
        let mut rest = &**text;
        while let Some(c) = rest.chars().next() {
            if parts.len() + 1 == limit {
                parts.push(rest.to_owned());
                break;
            }
            parts.push(c.to_string());
            rest = &rest[c.len_utf8()..];
        }
        return Ok(texts(parts));
    }
    Ok(texts(text.splitn(limit, &**separator)))
}

fn substring(args: &[Value]) -> Evaluated {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        _ => return no_overload(),
    };
    let length = text.chars().count() as i64;
    if let Some(end) = end
        && start > end
    {
        return fail(format!("invalid substring range. start: {start}, end: {end}"));
    }
    for index in [start, end.unwrap_or(length)] {
        if index < 0 || index > length {
            return out_of_range(index);
        }
    }
    let n = (end.unwrap_or(length) - start) as usize;
    Ok(Value::string(text.chars().skip(start as usize).take(n).collect::<String>()))
}

/// The text in quotes, readable as a literal.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
