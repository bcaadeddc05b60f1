//! JSON patches (RFC 6902) with the liberties that kustomize's library takes: indices from the end, `replace` of a
//! field that is not there.

use serde_json::{Map, Value};

/// Why a patch does not apply. The message does not show values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatchError {
    #[error("operation {0} of the patch is not a map")]
    NotMap(usize),
    #[error("the patch is not a list of operations")]
    NotList,
    #[error("unknown operation `{0}`; it can be `add`, `remove`, `replace`, `move`, `copy` or `test`")]
    Operation(String),
    #[error("operation `{op}` needs `{field}`")]
    Missing { op: &'static str, field: &'static str },
    #[error("`{op}` does not apply: there is nothing at `{path}`")]
    NoPath { op: &'static str, path: String },
    #[error("`{op}` does not apply: `{key}` in `{path}` is not an index of the list")]
    Index { op: &'static str, path: String, key: String },
    #[error("the test of `{0}` failed")]
    Test(String),
    #[error("only a map can take the place of an object")]
    Root,
}

/// The operations of a patch, which must be a list; null is an empty one.
pub(crate) fn operations(patch: &Value) -> Result<Vec<Map<String, Value>>, PatchError> {
    match patch {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(i, item)| match item {
                Value::Object(map) => Ok(map.clone()),
                Value::Null => Ok(Map::new()),
                _ => Err(PatchError::NotMap(i)),
            })
            .collect(),
        _ => Err(PatchError::NotList),
    }
}

pub(crate) fn apply(document: &mut Value, operations: &[Map<String, Value>]) -> Result<(), PatchError> {
    for operation in operations {
        apply_one(document, operation)?;
    }
    Ok(())
}

fn apply_one(document: &mut Value, operation: &Map<String, Value>) -> Result<(), PatchError> {
    let text = |op: &'static str, field: &'static str| {
        operation.get(field).and_then(Value::as_str).ok_or(PatchError::Missing { op, field })
    };
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match operation.get("op").and_then(Value::as_str).unwrap_or("unknown") {
        "add" => add(document, "add", text("add", "path")?, value()),
        "remove" => take(document, "remove", text("remove", "path")?).map(drop),
        "replace" => replace(document, text("replace", "path")?, value()),
        "move" => {
            let from = text("move", "from")?;
            let moved = take(document, "move", from)?;
            add(document, "move", text("move", "path")?, moved)
        }
        "copy" => {
            let from = text("copy", "from")?;
            let copied = get(document, "copy", from)?.cloned().unwrap_or(Value::Null);
            add(document, "copy", text("copy", "path")?, copied)
        }
        "test" => {
            let path = text("test", "path")?;
            let found = if path.is_empty() { Some(&*document) } else { get(document, "test", path)? };
            let wanted = value();
            if same(found.unwrap_or(&Value::Null), &wanted) {
                Ok(())
            } else {
                Err(PatchError::Test(path.to_owned()))
            }
        }
        other => Err(PatchError::Operation(other.to_owned())),
    }
}

/// Numbers are compared by value.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn decode(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// The container that a path ends in, and the key in it.
fn container<'d>(
    document: &'d mut Value,
    op: &'static str,
    path: &str,
) -> Result<(&'d mut Value, String), PatchError> {
    let missing = || PatchError::NoPath { op, path: path.to_owned() };
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.len() < 2 {
        return Err(missing());
    }
    let key = parts.pop().map(decode).unwrap_or_default();
    let mut at = document;
    for part in &parts[1..] {
        let part = decode(part);
        at = match at {
            Value::Object(map) => map.get_mut(&part).ok_or_else(missing)?,
            Value::Array(list) => {
                let index = index(&part, list.len()).ok_or_else(missing)?;
                &mut list[index]
            }
            _ => return Err(missing()),
        };
    }
    if at.is_object() || at.is_array() { Ok((at, key)) } else { Err(missing()) }
}

/// An index, from the end if it is negative.
fn index(text: &str, len: usize) -> Option<usize> {
    let index: i64 = text.parse().ok()?;
    let at = if index < 0 { index + len as i64 } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}

fn get<'d>(document: &'d mut Value, op: &'static str, path: &str) -> Result<Option<&'d Value>, PatchError> {
    let (at, key) = container(document, op, path)?;
    match at {
        Value::Array(list) => match index(&key, list.len()) {
            Some(index) => Ok(Some(&list[index])),
            None => Err(PatchError::Index { op, path: path.to_owned(), key }),
        },
        other => Ok(other.get(&key)),
    }
}

fn take(document: &mut Value, op: &'static str, path: &str) -> Result<Value, PatchError> {
    let (at, key) = container(document, op, path)?;
    match at {
        Value::Object(map) => {
            map.remove(&key).ok_or_else(|| PatchError::NoPath { op, path: path.to_owned() })
        }
        Value::Array(list) => match index(&key, list.len()) {
            Some(index) => Ok(list.remove(index)),
            None => Err(PatchError::Index { op, path: path.to_owned(), key }),
        },
        _ => Err(PatchError::NoPath { op, path: path.to_owned() }),
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        if !value.is_object() {
            return Err(PatchError::Root);
        }
        *document = value;
        return Ok(());
    }
    let (at, key) = container(document, "replace", path)?;
    match at {
        Value::Array(list) => match index(&key, list.len()) {
            Some(index) => list[index] = value,
            None => return Err(PatchError::Index { op: "replace", path: path.to_owned(), key }),
        },
        Value::Object(map) => drop(map.insert(key, value)),
        _ => {}
    }
    Ok(())
}

fn add(document: &mut Value, op: &'static str, path: &str, value: Value) -> Result<(), PatchError> {
    let (at, key) = container(document, op, path)?;
    match at {
        Value::Object(map) => drop(map.insert(key, value)),
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => match index(&key, list.len() + 1) {
            Some(index) => list.insert(index, value),
            None => return Err(PatchError::Index { op, path: path.to_owned(), key }),
        },
        _ => {}
    }
    Ok(())
}
