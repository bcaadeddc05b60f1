//! What is stored, as invariants look at it: all objects before and after each write.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;

use crate::store::{Event, EventKind, Key};

/// What an object is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// `pods`, `deployments.apps`.
    pub resource: String,
    /// Empty for what has none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.name)
    }
}

impl Id {
    pub(crate) fn of(key: &Key) -> Id {
        let (group, plural) = key.resource.split_once('/').unwrap_or(("", &key.resource));
        let resource = match group {
            "core" => plural.to_owned(),
            group => format!("{plural}.{group}"),
        };
        Id { resource, namespace: key.namespace.to_string(), name: key.name.to_string() }
    }
}

/// The objects of one moment, without those that every server has from its start.
#[derive(Clone, Default)]
pub struct World {
    objects: BTreeMap<Id, Arc<Value>>,
    /// Sum of the hashes of the objects, without what differs from run to run.
    hash: u64,
}

impl World {
    /// An object.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<&Value> {
        let id = Id { resource: resource.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() };
        self.at(&id)
    }

    /// The object of an id.
    pub fn at(&self, id: &Id) -> Option<&Value> {
        self.objects.get(id).map(Arc::as_ref)
    }

    /// The objects of a resource (`pods`, `deployments.apps`), ordered by namespace and name.
    pub fn all<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Value> {
        let start = Id { resource: resource.to_owned(), namespace: String::new(), name: String::new() };
        let range = self.objects.range(start..);
        range.take_while(move |(id, _)| id.resource == resource).map(|(_, object)| object.as_ref())
    }

    /// Every object with its id.
    pub fn iter(&self) -> impl Iterator<Item = (&Id, &Value)> {
        self.objects.iter().map(|(id, object)| (id, object.as_ref()))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// A number for the state, without uids, revisions and times.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn put(&mut self, id: &Id, object: Option<Arc<Value>>) {
        let old = match &object {
            Some(object) => {
                self.hash = self.hash.wrapping_add(hash_object(id, object));
                self.objects.insert(id.clone(), object.clone())
            }
            None => self.objects.remove(id),
        };
        if let Some(old) = old {
            self.hash = self.hash.wrapping_sub(hash_object(id, &old));
        }
    }
}

/// Two worlds, one write apart.
#[derive(Default)]
pub(crate) struct Pair {
    pub(crate) before: World,
    pub(crate) after: World,
    last: Option<(Id, Option<Arc<Value>>)>,
}

impl Pair {
    /// Takes the next write in.
    pub(crate) fn advance(&mut self, key: &Key, event: &Event) -> Id {
        if let Some((id, object)) = self.last.take() {
            self.before.put(&id, object);
        }
        let id = Id::of(key);
        let object = (event.kind != EventKind::Deleted).then(|| Arc::new(event.object.value()));
        self.after.put(&id, object.clone());
        self.last = Some((id.clone(), object));
        id
    }
}

fn hash_object(id: &Id, value: &Value) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    id.hash(&mut hasher);
    for (member, value) in value.as_object().into_iter().flatten() {
        if member != "metadata" {
            member.hash(&mut hasher);
            hash_value(value, &mut hasher);
        }
    }
    for member in ["labels", "annotations", "generation", "finalizers"] {
        hash_value(&value["metadata"][member], &mut hasher);
    }
    value["metadata"]["deletionTimestamp"].is_string().hash(&mut hasher);
    hasher.finish()
}

fn hash_value(value: &Value, hasher: &mut impl Hasher) {
    match value {
        Value::Null => 0.hash(hasher),
        Value::Bool(value) => value.hash(hasher),
        Value::Number(number) => number.hash(hasher),
        Value::String(text) if is_time(text) => 1.hash(hasher),
        Value::String(text) => text.hash(hasher),
        Value::Array(list) => list.iter().for_each(|value| hash_value(value, hasher)),
        Value::Object(map) => {
            for (member, value) in map {
                if member != "uid" && member != "resourceVersion" {
                    member.hash(hasher);
                    hash_value(value, hasher);
                }
            }
        }
    }
}

/// `2026-01-01T00:00:00Z`, with or without parts of a second.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && bytes.ends_with(b"Z")
}
