//! The entries of `metadata.managedFields`, read and written.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Request;
use crate::fields::Set;
use crate::update::{Managers, Owned};

/// How a manager wrote. The order is the one of the entries in an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    #[default]
    Update,
}

/// What tells two entries apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    pub name: String,
    pub operation: Operation,
    /// Empty for `Apply`: an applier keeps its entry when it changes the version it applies in.
    pub api_version: String,
    pub subresource: String,
}

impl Manager {
    pub(super) fn new(request: &Request, operation: Operation) -> Manager {
        Manager {
            name: if request.manager.is_empty() { "unknown".into() } else { request.manager.to_owned() },
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => request.api_version.to_owned(),
            },
            subresource: request.subresource.to_owned(),
        }
    }
}

/// Decoded `managedFields`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracked {
    pub managers: Managers<Manager>,
    /// When an entry last changed, as it stands in the object. May hold managers that are gone.
    pub times: BTreeMap<Manager, String>,
}

/// Why `managedFields` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("managedFields is not a list of objects")]
    NoList,
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    NoVersion,
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    #[error("invalid fieldsType {kind:?} in managed fields entry {index}")]
    FieldsType { kind: String, index: usize },
    #[error("error decoding set: {0}")]
    Fields(crate::fields::Error),
}

impl Tracked {
    /// Reads the list; `None` and null are an empty one.
    pub fn decode(list: Option<&Value>) -> Result<Tracked, Error> {
        let list = match list {
            None | Some(Value::Null) => return Ok(Tracked::default()),
            Some(list) => list.as_array().ok_or(Error::NoList)?,
        };
        let mut tracked = Tracked::default();
        for (index, entry) in list.iter().enumerate() {
            let (manager, owned) = decode_entry(index, entry)?;
            if let Some(time) = entry.get("time").and_then(Value::as_str) {
                tracked.times.insert(manager.clone(), time.to_owned());
            }
            tracked.managers.insert(manager, owned);
        }
        Ok(tracked)
    }

    /// The list as upstream sorts it: by operation, time, name, version, subresource.
    pub fn encode(&self) -> Vec<Value> {
        let mut entries: Vec<_> = self
            .managers
            .iter()
            .map(|(manager, owned)| (manager, owned, self.times.get(manager).map_or("", String::as_str)))
            .collect();
        entries.sort_by(|(a, a_owned, a_time), (b, b_owned, b_time)| {
            let a = (!a_owned.applied, a_time, &a.name, &a_owned.version, &a.subresource);
            a.cmp(&(!b_owned.applied, b_time, &b.name, &b_owned.version, &b.subresource))
        });
        entries.into_iter().map(|(manager, owned, time)| encode_entry(manager, owned, time)).collect()
    }
}

fn decode_entry(index: usize, entry: &Value) -> Result<(Manager, Owned), Error> {
    if !entry.is_object() {
        return Err(Error::NoList);
    }
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(Error::Operation),
    };
    let version = text("apiVersion");
    if version.is_empty() {
        return Err(Error::NoVersion);
    }
    match text("fieldsType") {
        "FieldsV1" => {}
        "" => return Err(Error::NoFieldsType(index)),
        kind => return Err(Error::FieldsType { kind: kind.to_owned(), index }),
    }
    let set = match entry.get("fieldsV1") {
        Some(fields) => Set::from_json(fields).map_err(Error::Fields)?,
        None => Set::new(),
    };
    let applied = operation == Operation::Apply;
    let manager = Manager {
        name: text("manager").to_owned(),
        operation,
        api_version: if applied { String::new() } else { version.to_owned() },
        subresource: text("subresource").to_owned(),
    };
    Ok((manager, Owned { set, version: version.into(), applied }))
}

fn encode_entry(manager: &Manager, owned: &Owned, time: &str) -> Value {
    let mut entry = Map::new();
    let mut text = |name: &str, value: &str| {
        if !value.is_empty() {
            entry.insert(name.to_owned(), value.into());
        }
    };
    text("manager", &manager.name);
    text("operation", if owned.applied { "Apply" } else { "Update" });
    text("apiVersion", &owned.version);
    text("time", time);
    text("fieldsType", "FieldsV1");
    text("subresource", &manager.subresource);
    entry.insert("fieldsV1".into(), owned.set.to_json());
    Value::Object(entry)
}

/// Whether the list says "forget all managers": it has one entry, and that is empty.
pub(super) fn is_reset(list: Option<&Value>) -> bool {
    match list.and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::Object(entry)]) => entry.is_empty(),
        _ => false,
    }
}

/// Puts the list into an object; none if there are no managers.
pub(super) fn write(object: &mut Value, tracked: &Tracked) {
    let Some(object) = object.as_object_mut() else { return };
    if tracked.managers.is_empty() {
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.remove("managedFields");
        }
        return;
    }
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("managedFields".into(), Value::Array(tracked.encode()));
    }
}
