//! Lists and sets.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Evaluated, Function, TEXT_SIZE_MAX, no_overload, standard, strings};
use crate::error::{EvalError, fail};
use crate::value::{Value, compare, contains, equal};

/// Longest list a function may make.
const LENGTH_MAX: usize = 1_000_000;

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "sum" => |args| sum(args, Value::Int(0)),
        "min" => |args| extreme(args, "min", Ordering::Less),
        "max" => |args| extreme(args, "max", Ordering::Greater),
        "isSorted" => is_sorted,
        "indexOf" => |args| index_of(args, false),
        "lastIndexOf" => |args| index_of(args, true),
        "join" => join,
        "distinct" => distinct,
        "flatten" => flatten,
        "lists.range" => range,
        "reverse" => reverse,
        "slice" => slice,
        "sort" => |args| sort_by(&args[0], &args[0]),
        "@sortByAssociatedKeys" => |args| sort_by(&args[0], &args[1]),
        "sets.contains" => sets_contains,
        "sets.equivalent" => |args| match (sets_contains(args)?, sets_contains(&swapped(args))?) {
            (Value::Bool(one), Value::Bool(two)) => Ok(Value::Bool(one && two)),
            _ => no_overload(),
        },
        "sets.intersects" => sets_intersects,
        _ => return None,
    })
}

fn items(value: &Value) -> Result<&[Value], EvalError> {
    match value {
        Value::List(list) => match list.items.iter().find(|item| matches!(item, Value::Invalid(_))) {
            Some(item) => Err(item.clone().valid().err().unwrap_or_else(EvalError::no_overload)),
            None => Ok(&list.items),
        },
        _ => Err(EvalError::no_overload()),
    }
}

/// `sum` of a known type, for which the sum of nothing is that type's zero.
pub(crate) fn typed_sum(overload: &str) -> Option<Function> {
    Some(match overload {
        "list_uint_sum_uint" => |args| sum(args, Value::Uint(0)),
        "list_double_sum_double" => |args| sum(args, Value::Double(0.0)),
        "list_duration_sum_duration" => |args| sum(args, Value::Duration(0)),
        _ => return None,
    })
}

fn sum(args: &[Value], nothing: Value) -> Evaluated {
    let items = items(&args[0])?;
    let Some((first, rest)) = items.split_first() else { return Ok(nothing) };
    let mut total = first.clone();
    for item in rest {
        total = standard::add(&[total, item.clone()])?;
    }
    Ok(total)
}

fn extreme(args: &[Value], name: &str, wanted: Ordering) -> Evaluated {
    let items = items(&args[0])?;
    let Some((first, rest)) = items.split_first() else {
        return fail(format!("{name} called on empty list"));
    };
    let mut best = first;
    for item in rest {
        match compare(item, best) {
            Some(order) if order == wanted => best = item,
            Some(_) => {}
            None => return no_overload(),
        }
    }
    Ok(best.clone())
}

fn is_sorted(args: &[Value]) -> Evaluated {
    for pair in items(&args[0])?.windows(2) {
        match compare(&pair[0], &pair[1]) {
            Some(Ordering::Greater) => return Ok(Value::Bool(false)),
            Some(_) => {}
            None => return no_overload(),
        }
    }
    Ok(Value::Bool(true))
}

fn index_of(args: &[Value], last: bool) -> Evaluated {
    let Value::List(list) = &args[0] else { return strings::index_of(args, last) };
    let mut found = -1;
    for (index, item) in list.items.iter().enumerate() {
        if equal(item, &args[1])? {
            found = index as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn join(args: &[Value]) -> Evaluated {
    let separator: &str = match args.get(1) {
        None => "",
        Some(Value::String(separator)) => separator,
        Some(_) => return no_overload(),
    };
    let mut text = String::new();
    for (index, item) in items(&args[0])?.iter().enumerate() {
        let Value::String(item) = item else { return no_overload() };
        if index > 0 {
            text.push_str(separator);
        }
        text.push_str(item);
        if text.len() > TEXT_SIZE_MAX {
            return fail("text is too long");
        }
    }
    Ok(Value::string(text))
}

fn distinct(args: &[Value]) -> Evaluated {
    let mut found: Vec<Value> = Vec::new();
    for item in items(&args[0])? {
        if !contains(&found, item)? {
            found.push(item.clone());
        }
    }
    Ok(Value::list(found))
}

fn flatten(args: &[Value]) -> Evaluated {
    let depth = match args.get(1) {
        None => 1,
        Some(Value::Int(depth)) if *depth >= 0 => *depth,
        Some(Value::Int(_)) => return fail("level must be non-negative"),
        Some(_) => return no_overload(),
    };
    fn level(items: &[Value], depth: i64, left: &mut usize, out: &mut Vec<Value>) -> Result<(), EvalError> {
        for item in items {
            *left = left.checked_sub(1).ok_or_else(|| EvalError::new("list is too long"))?;
            match item {
                Value::List(inner) if depth > 0 => level(&inner.items, depth - 1, left, out)?,
                other => out.push(other.clone()),
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    level(items(&args[0])?, depth, &mut LENGTH_MAX.clone(), &mut out)?;
    Ok(Value::list(out))
}

fn range(args: &[Value]) -> Evaluated {
    match args[0] {
        Value::Int(end) if end > LENGTH_MAX as i64 => fail("list is too long"),
        Value::Int(end) => Ok(Value::list((0..end).map(Value::Int).collect())),
        _ => no_overload(),
    }
}

fn reverse(args: &[Value]) -> Evaluated {
    Ok(Value::list(items(&args[0])?.iter().rev().cloned().collect()))
}

fn slice(args: &[Value]) -> Evaluated {
    let (items, Value::Int(start), Value::Int(end)) = (items(&args[0])?, &args[1], &args[2]) else {
        return no_overload();
    };
    let what = format!("cannot slice({start}, {end})");
    if *start < 0 || *end < 0 {
        return fail(format!("{what}, negative indexes not supported"));
    }
    if start > end {
        return fail(format!("{what}, start index must be less than or equal to end index"));
    }
    if *end > items.len() as i64 {
        return fail(format!("{what}, list is length {}", items.len()));
    }
    Ok(Value::list(items[*start as usize..*end as usize].to_vec()))
}

fn sort_by(list: &Value, keys: &Value) -> Evaluated {
    let (list, keys) = (items(list)?, items(keys)?);
    if list.len() != keys.len() {
        return fail(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            list.len(),
            keys.len()
        ));
    }
    if keys.iter().any(|key| compare(&keys[0], key).is_none()) {
        return fail("list elements must have the same type");
    }
    let mut order: Vec<usize> = (0..list.len()).collect();
    order.sort_by(|&one, &two| compare(&keys[one], &keys[two]).unwrap_or(Ordering::Equal));
    Ok(Value::list(order.into_iter().map(|at| list[at].clone()).collect()))
}

fn swapped(args: &[Value]) -> [Value; 2] {
    [args[1].clone(), args[0].clone()]
}

fn sets_contains(args: &[Value]) -> Evaluated {
    let all = items(&args[0])?;
    for wanted in items(&args[1])? {
        if !contains(all, wanted)? {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sets_intersects(args: &[Value]) -> Evaluated {
    let all = items(&args[0])?;
    for wanted in items(&args[1])? {
        if contains(all, wanted)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

/// A list of texts.
pub(crate) fn texts(parts: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Value {
    Value::list(parts.into_iter().map(|part| Value::string(part)).collect())
}
