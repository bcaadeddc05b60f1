//! The JSON paths of printer columns: members, indexes, wildcards and simple filters.

use jiff::Timestamp;
use serde_json::Value;

use super::cells;

/// The cell of a column; `null` where the path leads nowhere.
pub(super) fn cell(object: &Value, path: &str, ty: &str, now: Timestamp) -> Value {
    let found = find(object, path);
    let Some(first) = found.first() else { return Value::Null };
    match ty {
        "integer" => match first.as_i64() {
            Some(number) => number.into(),
            None => first.as_f64().map(|real| Value::from(real as i64)).unwrap_or(Value::Null),
        },
        "number" => first.as_f64().map(Value::from).unwrap_or(Value::Null),
        "boolean" => first.as_bool().map(Value::from).unwrap_or(Value::Null),
        "date" => match first.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
            Some(_) => cells::age(first, now),
            None => Value::String("<invalid>".into()),
        },
        _ => {
            let texts: Vec<String> = found.iter().map(|value| text(value)).collect();
            Value::String(texts.join(" "))
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// All values at a path such as `.spec.list[*].name` or `.status.conditions[?(@.type=="Ready")].status`.
fn find<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![object];
    let mut rest = path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let Some(end) = closing(after) else { return Vec::new() };
            found = index(found, &after[..end]);
            rest = &after[end + 1..];
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let (name, after) = member(rest);
        if name.is_empty() {
            break;
        }
        found = match name.as_str() {
            "*" => found.into_iter().flat_map(children).collect(),
            name => found.into_iter().filter_map(|value| value.get(name)).collect(),
        };
        rest = after;
    }
    found.retain(|value| !value.is_null());
    found
}

/// The first member name; a backslash keeps a dot.
fn member(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '.' | '[' if !escaped => return (name, &text[at..]),
            c => {
                name.push(c);
                escaped = false;
            }
        }
    }
    (name, "")
}

fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quoted = None;
    for (at, c) in text.char_indices() {
        match (quoted, c) {
            (Some(quote), c) if c == quote => quoted = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quoted = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn index<'a>(found: Vec<&'a Value>, inside: &str) -> Vec<&'a Value> {
    let inside = inside.trim();
    if inside == "*" {
        return found.into_iter().flat_map(children).collect();
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        return found.into_iter().flat_map(children).filter(|value| holds(value, filter)).collect();
    }
    if let Some(name) = inside.strip_prefix(['\'', '"']) {
        let name = name.trim_end_matches(['\'', '"']);
        return found.into_iter().filter_map(|value| value.get(name)).collect();
    }
    let Ok(at) = inside.parse::<i64>() else { return Vec::new() };
    let pick = |value: &'a Value| {
        let items = value.as_array()?;
        let at = if at < 0 { items.len() as i64 + at } else { at };
        items.get(usize::try_from(at).ok()?)
    };
    found.into_iter().filter_map(pick).collect()
}

/// `@.type=="Ready"`, and with `!=`, `<`, `>`, `<=`, `>=`.
fn holds(value: &Value, filter: &str) -> bool {
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        let Some((left, right)) = filter.split_once(operator) else { continue };
        let left = find(value, left.trim().trim_start_matches('@'));
        let right = right.trim();
        let wanted = right.trim_matches(['\'', '"']);
        let Some(left) = left.first() else { return false };
        let numbers = left.as_f64().zip(wanted.parse::<f64>().ok());
        return match (operator, numbers) {
            ("==", _) => text(left) == wanted,
            ("!=", _) => text(left) != wanted,
            ("<=", Some((left, right))) => left <= right,
            (">=", Some((left, right))) => left >= right,
            ("<", Some((left, right))) => left < right,
            (">", Some((left, right))) => left > right,
            _ => false,
        };
    }
    !find(value, filter.trim().trim_start_matches('@')).is_empty()
}
