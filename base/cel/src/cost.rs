//! What a call costs while evaluating. The numbers are part of Kubernetes' API: rules pass or fail by them.

use crate::error::EvalError;
use crate::library::opaque::Opaque;
use crate::value::{Key, Value};

/// Making a list.
pub(crate) const LIST: u64 = 10;
/// Making a map.
pub(crate) const MAP: u64 = 30;
/// Making an object costs this much.
pub(crate) const MESSAGE: u64 = 40;

const PER_CHARACTER: f64 = 0.1;
const PER_REGEX_CHARACTER: f64 = 0.25;
const AUTHORIZATION_CHECK: u64 = 350_000;

fn times(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

/// Reading a text once.
fn traversal(value: &Value) -> u64 {
    times(value.size(), PER_CHARACTER)
}

/// `==` and the order operators on strings and bytes.
pub(crate) fn comparison(one: &Value, two: &Value) -> u64 {
    times(one.size().min(two.size()), PER_CHARACTER)
}

/// What is known to be due before the call, where the work itself could be too much.
pub(crate) fn before(name: &str, args: &[Value]) -> u64 {
    match (name, args) {
        ("lists.range", [Value::Int(end)]) => u64::try_from(*end).unwrap_or(0),
        _ => 0,
    }
}

pub(crate) fn call(
    name: &str,
    overload: Option<&str>,
    args: &[Value],
    result: &Result<Value, EvalError>,
) -> u64 {
    let result_size = || result.as_ref().map_or(1, Value::size);
    if let Some(cost) = overload.and_then(|overload| by_overload(overload, args, &result_size)) {
        return cost;
    }
    let first = args.first();
    let of_first = |factor: f64| first.map_or(1, |first| times(first.size(), factor));
    match name {
        "check" => AUTHORIZATION_CHECK,
        "fieldSelector" | "labelSelector" => match args.get(1) {
            Some(selector) => 10 + traversal(selector) + 50 * times(selector.size(), 0.5),
            None => 1,
        },
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => first.map_or(0, elements),
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => of_first(PER_CHARACTER),
        "ip" if overload != Some("cidr_ip") => of_first(PER_CHARACTER),
        "replace" | "split" | "ip.isCanonical" => of_first(2.0 * PER_CHARACTER),
        "join" => times(result_size(), 2.0 * PER_CHARACTER),
        "find" | "findAll" if args.len() >= 2 => regex(&args[0], args[1].size()),
        "validate" if args.len() >= 2 => match &args[0] {
            Value::Opaque(Opaque::Format(format)) => regex(&args[1], format.regex_size),
            _ => 1,
        },
        "containsIP" if args.len() >= 2 => {
            let parse = if overload == Some("cidr_contains_ip_string") { traversal(&args[1]) } else { 0 };
            of_first(2.0 * PER_CHARACTER) + parse
        }
        "containsCIDR" if args.len() >= 2 => {
            let parse = if overload == Some("cidr_contains_cidr_string") { traversal(&args[1]) } else { 0 };
            of_first(2.0 * PER_CHARACTER) + of_first(PER_CHARACTER) + 1 + parse
        }
        _ => by_standard_overload(overload.unwrap_or_default(), args),
    }
}

fn regex(text: &Value, pattern_size: u64) -> u64 {
    times(text.size() + 1, PER_CHARACTER) * times(pattern_size, PER_REGEX_CHARACTER)
}

/// Looking at every element, and at every byte of those that are texts.
fn elements(value: &Value) -> u64 {
    elements_within(value, &mut ELEMENTS_MAX.clone())
}

/// More elements than this cost more than any limit (lists can share parts very often).
const ELEMENTS_MAX: u64 = 10_000_000;

fn elements_within(value: &Value, left: &mut u64) -> u64 {
    if *left == 0 {
        return 0;
    }
    *left -= 1;
    if *left == 0 {
        return u64::MAX / 2;
    }
    match value {
        Value::String(text) => (text.len() as f64 * PER_CHARACTER) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * PER_CHARACTER) as u64,
        Value::List(list) => {
            list.items.iter().map(|item| elements_within(item, left)).fold(0, u64::saturating_add)
        }
        Value::Map(map) => {
            let both = |(key, value): (&Key, &Value)| {
                elements_within(&key.value(), left).saturating_add(elements_within(value, left))
            };
            map.entries.iter().map(both).fold(0, u64::saturating_add)
        }
        _ => 1,
    }
}

fn by_overload(overload: &str, args: &[Value], result_size: &dyn Fn() -> u64) -> Option<u64> {
    let allocating = |size: u64, factor: f64| (size as f64 * factor) as u64 + 1 + LIST;
    Some(match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => {
            args[0].size().saturating_mul(args[1].size()) + 1
        }
        "list_sets_equivalent_list" => args[0].size().saturating_mul(args[1].size()).saturating_mul(2) + 1,
        "list_slice" | "lists_range" | "list_reverse" => allocating(result_size(), 1.0),
        "list_flatten" => allocating(args[0].size(), 1.0),
        "list_flatten_int" => match args.get(1) {
            // A negative depth makes the call cheaper, as upstream.
            Some(Value::Int(depth)) => {
                let cost = args[0].size() as f64 * *depth as f64 + 11.0;
                cost.max(0.0) as u64
            }
            _ => allocating(args[0].size(), 1.0),
        },
        "list_distinct" => self_comparison(&args[0], &allocating),
        sort if sort.ends_with("_sort") => self_comparison(&args[0], &allocating),
        sort if sort.ends_with("_sortByAssociatedKeys") => self_comparison(args.get(1)?, &allocating),
        _ => return None,
    })
}

fn self_comparison(list: &Value, allocating: &dyn Fn(u64, f64) -> u64) -> u64 {
    let size = list.size();
    let first = match list {
        Value::List(list) => list.items.first(),
        _ => None,
    };
    match first {
        None => allocating(0, 2.0),
        Some(Value::String(_) | Value::Bytes(_)) => {
            allocating(size.saturating_mul(size), 2.0 + PER_CHARACTER)
        }
        Some(_) => allocating(size.saturating_mul(size), 2.0),
    }
}

fn by_standard_overload(overload: &str, args: &[Value]) -> u64 {
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => traversal(&args[0]),
        "in_list" => args[1].size(),
        "less_string"
        | "less_equals_string"
        | "greater_string"
        | "greater_equals_string"
        | "less_bytes"
        | "less_equals_bytes"
        | "greater_bytes"
        | "greater_equals_bytes" => comparison(&args[0], &args[1]),
        "add_string" | "add_bytes" => times(args[0].size() + args[1].size(), PER_CHARACTER),
        "matches" | "matches_string" => regex(&args[0], args[1].size()),
        "contains_string" => traversal(&args[0]) * traversal(&args[1]),
        _ => 1,
    }
}
