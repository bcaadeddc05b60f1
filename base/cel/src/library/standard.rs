//! Operators and the size, kind and membership functions.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Evaluated, Function, TEXT_SIZE_MAX, no_overload, time};
use crate::error::fail;
use crate::value::{Value, compare, contains};

pub(crate) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "_+_" => add,
        "_-_" => subtract,
        "_*_" => multiply,
        "_/_" => divide,
        "_%_" => modulo,
        "-_" => negate,
        "!_" => not,
        "_<_" => |args| ordered(args, Ordering::is_lt),
        "_<=_" => |args| ordered(args, Ordering::is_le),
        "_>_" => |args| ordered(args, Ordering::is_gt),
        "_>=_" => |args| ordered(args, Ordering::is_ge),
        "@in" | "in" | "_in_" => member,
        "size" => size,
        "type" => |args| Ok(Value::Type(args[0].type_name().into())),
        "dyn" => |args| Ok(args[0].clone()),
        _ => return None,
    })
}

const OVERFLOW: &str = "integer overflow";
const UNSIGNED_OVERFLOW: &str = "unsigned integer overflow";

fn int(value: Option<i64>) -> Evaluated {
    value.map(Value::Int).map_or_else(|| fail(OVERFLOW), Ok)
}

fn uint(value: Option<u64>) -> Evaluated {
    value.map(Value::Uint).map_or_else(|| fail(UNSIGNED_OVERFLOW), Ok)
}

pub(crate) fn duration(value: Option<i64>) -> Evaluated {
    value.map(Value::Duration).map_or_else(|| fail("duration overflow"), Ok)
}

pub(crate) fn add(args: &[Value]) -> Evaluated {
    use Value::{Bytes, Double, Duration, Int, List, String, Timestamp, Uint};
    match args {
        [Int(one), Int(two)] => int(one.checked_add(*two)),
        [Uint(one), Uint(two)] => uint(one.checked_add(*two)),
        [Double(one), Double(two)] => Ok(Double(one + two)),
        [String(one), String(two)] if one.len() + two.len() > TEXT_SIZE_MAX => fail("text is too long"),
        [String(one), String(two)] => Ok(Value::string(format!("{one}{two}"))),
        [Bytes(one), Bytes(two)] if one.len() + two.len() > TEXT_SIZE_MAX => fail("text is too long"),
        [Bytes(one), Bytes(two)] => Ok(Bytes(Arc::from([&one[..], &two[..]].concat()))),
        [List(one), List(two)] => crate::eval::joined(one, two),
        [Duration(one), Duration(two)] => duration(one.checked_add(*two)),
        [Timestamp(at, offset), Duration(by)] | [Duration(by), Timestamp(at, offset)] => {
            time::shifted(*at, *offset, Some(*by))
        }
        _ => no_overload(),
    }
}

fn subtract(args: &[Value]) -> Evaluated {
    use Value::{Double, Duration, Int, Timestamp, Uint};
    match args {
        [Int(one), Int(two)] => int(one.checked_sub(*two)),
        [Uint(one), Uint(two)] => uint(one.checked_sub(*two)),
        [Double(one), Double(two)] => Ok(Double(one - two)),
        [Duration(one), Duration(two)] => duration(one.checked_sub(*two)),
        [Timestamp(at, offset), Duration(by)] => time::shifted(*at, *offset, by.checked_neg()),
        [Timestamp(one, _), Timestamp(two, _)] => {
            duration(i64::try_from(one.as_nanosecond() - two.as_nanosecond()).ok())
        }
        _ => no_overload(),
    }
}

fn multiply(args: &[Value]) -> Evaluated {
    match args {
        [Value::Int(one), Value::Int(two)] => int(one.checked_mul(*two)),
        [Value::Uint(one), Value::Uint(two)] => uint(one.checked_mul(*two)),
        [Value::Double(one), Value::Double(two)] => Ok(Value::Double(one * two)),
        _ => no_overload(),
    }
}

fn divide(args: &[Value]) -> Evaluated {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => fail("division by zero"),
        [Value::Int(one), Value::Int(two)] => int(one.checked_div(*two)),
        [Value::Uint(one), Value::Uint(two)] => uint(one.checked_div(*two)),
        [Value::Double(one), Value::Double(two)] => Ok(Value::Double(one / two)),
        _ => no_overload(),
    }
}

fn modulo(args: &[Value]) -> Evaluated {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => fail("modulus by zero"),
        [Value::Int(one), Value::Int(two)] => int(one.checked_rem(*two)),
        [Value::Uint(one), Value::Uint(two)] => uint(one.checked_rem(*two)),
        _ => no_overload(),
    }
}

fn negate(args: &[Value]) -> Evaluated {
    match args {
        [Value::Int(value)] => int(value.checked_neg()),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        [Value::Duration(value)] => duration(value.checked_neg()),
        _ => no_overload(),
    }
}

fn not(args: &[Value]) -> Evaluated {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => no_overload(),
    }
}

fn ordered(args: &[Value], test: fn(Ordering) -> bool) -> Evaluated {
    match (compare(&args[0], &args[1]), &args[0], &args[1]) {
        (Some(order), _, _) => Ok(Value::Bool(test(order))),
        (None, Value::Double(_), Value::Double(_) | Value::Int(_) | Value::Uint(_))
        | (None, Value::Int(_) | Value::Uint(_), Value::Double(_)) => fail("NaN values cannot be ordered"),
        _ => no_overload(),
    }
}

fn member(args: &[Value]) -> Evaluated {
    match args {
        [wanted, Value::List(list)] => contains(&list.items, wanted).map(Value::Bool),
        [key, Value::Map(map)] => match map.get(key) {
            Some(value) => value.clone().valid().map(|_| Value::Bool(true)),
            None => Ok(Value::Bool(false)),
        },
        _ => no_overload(),
    }
}

fn size(args: &[Value]) -> Evaluated {
    match &args[0] {
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => {
            Ok(Value::Int(args[0].size() as i64))
        }
        _ => no_overload(),
    }
}
