//! Optional values. `or`, `orValue` and the access forms are planned, not called.

use super::{Evaluated, Function, no_overload};
use crate::error::fail;
use crate::value::Value;

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "optional.of" => |args| Ok(Value::some(args[0].clone())),
        "optional.none" => |_| Ok(Value::Optional(None)),
        "optional.ofNonZeroValue" => |args| match &args[0] {
            zero if zero.is_zero() => Ok(Value::Optional(None)),
            value => Ok(Value::some(value.clone())),
        },
        "hasValue" => |args| match &args[0] {
            Value::Optional(inner) => Ok(Value::Bool(inner.is_some())),
            _ => no_overload(),
        },
        "value" => |args| match &args[0] {
            Value::Optional(Some(inner)) => Ok(Value::clone(inner)),
            Value::Optional(None) => fail("optional.none() dereference"),
            _ => no_overload(),
        },
        "optional.unwrap" | "unwrapOpt" => unwrap,
        "first" => |args| end(args, <[Value]>::first),
        "last" => |args| end(args, <[Value]>::last),
        _ => return None,
    })
}

fn unwrap(args: &[Value]) -> Evaluated {
    let Value::List(list) = &args[0] else { return no_overload() };
    let mut items = Vec::new();
    for item in &list.items {
        match item {
            Value::Optional(Some(inner)) => items.push(Value::clone(inner)),
            Value::Optional(None) => {}
            _ => return no_overload(),
        }
    }
    Ok(Value::list(items))
}

fn end(args: &[Value], pick: fn(&[Value]) -> Option<&Value>) -> Evaluated {
    match &args[0] {
        Value::List(list) => match pick(&list.items) {
            Some(value) => value.clone().valid().map(Value::some),
            None => Ok(Value::Optional(None)),
        },
        _ => no_overload(),
    }
}
