//! Reads request bodies in protobuf, as kubectl and Go clients send them for built-in kinds: turned into JSON by a
//! table of field numbers (`data/proto.txt`), then read like any other body.
//!
//! Leaves out: writing protobuf. Clients that ask for it with JSON as an alternative (all that are known) get JSON.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::schema::decode::{DEPTH_MAX, micros, seconds};
use crate::status::ApiError;

const TABLE: &str = include_str!("../data/proto.txt");
/// What every body starts with.
const MAGIC: &[u8] = b"k8s\0";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const CORE: &str = "io.k8s.api.core.v1.";
const RESOURCE: &str = "io.k8s.apimachinery.pkg.api.resource.";

/// Fields of a message by their number: name and type.
type Fields = HashMap<u64, (&'static str, &'static str)>;

static MESSAGES: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| TABLE.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))).collect());

fn long(name: &str) -> String {
    name.replace("$M.", META).replace("$C.", CORE).replace("$R.", RESOURCE)
}

fn short(name: &str) -> String {
    name.replace(META, "$M.").replace(CORE, "$C.").replace(RESOURCE, "$R.")
}

fn fields(name: &str) -> Option<Fields> {
    let line = MESSAGES.get(short(name).as_str())?;
    let parse = |word: &'static str| {
        let (number, rest) = word.split_once(':')?;
        let (name, ty) = rest.split_once(':')?;
        Some((number.parse().ok()?, (name, ty)))
    };
    Some(line.split(' ').filter_map(parse).collect())
}

fn broken() -> ApiError {
    ApiError::bad_request("the protobuf body cannot be read")
}

/// One field of a message on the wire.
enum Wire<'a> {
    Number(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Skipped,
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let tag = varint(bytes)?;
    let mut take = |n: usize| -> Option<&'a [u8]> {
        let (taken, rest) = bytes.split_at_checked(n)?;
        *bytes = rest;
        Some(taken)
    };
    let wire = match tag & 7 {
        0 => Wire::Number(varint(bytes)?),
        1 => Wire::Fixed64(u64::from_le_bytes(take(8)?.try_into().ok()?)),
        2 => {
            let len = usize::try_from(varint(bytes)?).ok()?;
            let (taken, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            Wire::Bytes(taken)
        }
        5 => take(4).map(|_| Wire::Skipped)?,
        _ => return None,
    };
    Some((tag >> 3, wire))
}

/// Reads a body into JSON.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ApiError> {
    let mut rest = body.strip_prefix(MAGIC).ok_or_else(broken)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while !rest.is_empty() {
        match next(&mut rest).ok_or_else(broken)? {
            (1, Wire::Bytes(mut meta)) => {
                while !meta.is_empty() {
                    match next(&mut meta).ok_or_else(broken)? {
                        (1, Wire::Bytes(text)) => api_version = String::from_utf8_lossy(text).into_owned(),
                        (2, Wire::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind).ok_or_else(|| {
        ApiError::bad_request(format!("no protobuf form of {kind} in {api_version} is known"))
    })?;
    let mut value = message(&name, raw, 0)?;
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(value)
}

fn message_name(api_version: &str, kind: &str) -> Option<String> {
    let (group, version) = crate::kinds::split_api_version(api_version);
    let name = match (group, kind) {
        (_, "DeleteOptions") => format!("{META}DeleteOptions"),
        ("", _) => format!("{CORE}{kind}"),
        (group, _) => {
            let group = group.split('.').next().unwrap_or_default();
            format!("io.k8s.api.{group}.{version}.{kind}")
        }
    };
    MESSAGES.contains_key(short(&name).as_str()).then_some(name)
}

fn message(name: &str, mut bytes: &[u8], depth: usize) -> Result<Value, ApiError> {
    if depth > DEPTH_MAX {
        return Err(broken());
    }
    if let Some(special) = special(name, bytes)? {
        return Ok(special);
    }
    let fields = fields(name).ok_or_else(broken)?;
    let mut map = Map::new();
    while !bytes.is_empty() {
        let (number, wire) = next(&mut bytes).ok_or_else(broken)?;
        let Some((field, ty)) = fields.get(&number) else { continue };
        if let Some(inline) = ty.strip_prefix('@') {
            let Wire::Bytes(inner) = wire else { return Err(broken()) };
            if let Value::Object(mut inner) = message(&long(inline), inner, depth + 1)? {
                map.append(&mut inner);
            }
        } else if let Some(element) = ty.strip_prefix('*') {
            let item = value(element, wire, depth)?;
            if let Value::Array(list) = map.entry(*field).or_insert_with(|| Value::Array(Vec::new())) {
                list.push(item);
            }
        } else if let Some(element) = ty.strip_prefix('%') {
            let Wire::Bytes(mut entry) = wire else { return Err(broken()) };
            let (mut key, mut inner) = (String::new(), None);
            while !entry.is_empty() {
                match next(&mut entry).ok_or_else(broken)? {
                    (1, Wire::Bytes(text)) => key = String::from_utf8(text.to_vec()).map_err(|_| broken())?,
                    (2, wire) => inner = Some(value(element, wire, depth)?),
                    _ => {}
                }
            }
            let inner = inner.unwrap_or_else(|| if element == "s" { "".into() } else { Value::Null });
            if let Value::Object(entries) = map.entry(*field).or_insert_with(|| Value::Object(Map::new())) {
                entries.insert(key, inner);
            }
        } else {
            map.insert((*field).into(), value(ty, wire, depth)?);
        }
    }
    Ok(Value::Object(map))
}

fn value(ty: &str, wire: Wire<'_>, depth: usize) -> Result<Value, ApiError> {
    Ok(match (ty, wire) {
        ("b", Wire::Number(number)) => (number != 0).into(),
        ("i", Wire::Number(number)) => (number as i64).into(),
        ("d", Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
        ("s", Wire::Bytes(text)) => String::from_utf8(text.to_vec()).map_err(|_| broken())?.into(),
        ("y", Wire::Bytes(bytes)) => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(bytes).into()
        }
        (name, Wire::Bytes(bytes)) if name.len() > 1 => message(&long(name), bytes, depth + 1)?,
        _ => return Err(broken()),
    })
}

/// Types whose JSON form is no object of their fields.
fn special(name: &str, mut bytes: &[u8]) -> Result<Option<Value>, ApiError> {
    let ty = name.rsplit('.').next().unwrap_or_default();
    let (mut numbers, mut texts) = ([0i64; 4], [None; 4]);
    if !matches!(
        ty,
        "Time"
            | "MicroTime"
            | "Quantity"
            | "IntOrString"
            | "RawExtension"
            | "FieldsV1"
            | "Verbs"
            | "ExtraValue"
    ) {
        return Ok(None);
    }
    if matches!(ty, "Verbs" | "ExtraValue") {
        let mut items = Vec::new();
        while !bytes.is_empty() {
            if let (1, Wire::Bytes(text)) = next(&mut bytes).ok_or_else(broken)? {
                items.push(Value::String(String::from_utf8_lossy(text).into_owned()));
            }
        }
        return Ok(Some(items.into()));
    }
    let empty = bytes.is_empty();
    while !bytes.is_empty() {
        match next(&mut bytes).ok_or_else(broken)? {
            (number @ 1..=3, Wire::Number(found)) => numbers[number as usize] = found as i64,
            (number @ 1..=3, Wire::Bytes(found)) => texts[number as usize] = Some(found),
            _ => {}
        }
    }
    let text = |at: usize| String::from_utf8_lossy(texts[at].unwrap_or_default()).into_owned();
    Ok(Some(match ty {
        "Time" | "MicroTime" if empty => Value::Null,
        "Time" | "MicroTime" => {
            let time = Timestamp::new(numbers[1], numbers[2] as i32).map_err(|_| broken())?;
            if ty == "Time" { seconds(time).into() } else { micros(time).into() }
        }
        "Quantity" => text(1).into(),
        // The type says which of the two is meant.
        "IntOrString" if numbers[1] == 0 => i64::from(numbers[2] as i32).into(),
        "IntOrString" => text(3).into(),
        _ => match texts[1] {
            None | Some([]) => Value::Null,
            Some(raw) => serde_json::from_slice(raw).map_err(|_| broken())?,
        },
    }))
}
