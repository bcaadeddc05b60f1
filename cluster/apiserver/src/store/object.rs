//! One state of one object: its text, and what is looked up so often that it is not read from the text each time.
//!
//! A [`Draft`] is a state on its way into the store: written out, but for its revision, before the store is asked for one, so that no
//! writer waits for the text of another.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Key, Locked};

/// Room for the text of an object before it is written; most fit.
const TEXT_BYTES: usize = 4096;

/// The labels of an object. Few, and kept for every object, so they lie side by side and not in a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Reads `metadata.labels`; a value that is no text counts as empty.
    pub fn of(labels: &Value) -> Labels {
        let labels = labels.as_object().into_iter().flatten();
        Labels(
            labels
                .map(|(name, value)| (name.as_str().into(), value.as_str().unwrap_or_default().into()))
                .collect(),
        )
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }
}

impl From<&[(&str, &str)]> for Labels {
    fn from(labels: &[(&str, &str)]) -> Labels {
        Labels(labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }
}

/// One state of one object. Its JSON text carries `metadata.resourceVersion`.
#[derive(Debug)]
pub struct Object {
    pub revision: u64,
    pub json: Bytes,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Box<str>,
    pub labels: Labels,
    /// The uids of `metadata.ownerReferences`.
    pub owners: Box<[Box<str>]>,
    pub deleting: bool,
    /// Set when the value could not be opened: `json` then holds name and revision only, and must not be served.
    pub locked: Option<Box<Locked>>,
}

impl Object {
    /// An object that is worked out and not kept: it has no revision.
    pub(crate) fn unstored(value: &Value, key: &Key) -> Object {
        Draft::new(value).at(0, key)
    }

    /// An object as it was read: the text and what it says.
    pub(super) fn index(value: &Value, json: Bytes, revision: u64, key: &Key) -> Object {
        Facts::of(value).object(json, revision, key)
    }

    /// The object as a tree, parsed anew.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("the store holds JSON that it wrote itself")
    }
}

/// What is looked up in an object.
#[derive(Debug)]
struct Facts {
    uid: Box<str>,
    labels: Labels,
    owners: Box<[Box<str>]>,
    deleting: bool,
}

impl Facts {
    fn of(value: &Value) -> Facts {
        let meta = &value["metadata"];
        let owners = meta["ownerReferences"].as_array().into_iter().flatten();
        Facts {
            uid: meta["uid"].as_str().unwrap_or_default().into(),
            labels: Labels::of(&meta["labels"]),
            owners: owners.filter_map(|owner| owner["uid"].as_str()).map(Box::from).collect(),
            deleting: !meta["deletionTimestamp"].is_null(),
        }
    }

    fn object(self, json: Bytes, revision: u64, key: &Key) -> Object {
        let Facts { uid, labels, owners, deleting } = self;
        let (namespace, name) = (key.namespace.clone(), key.name.clone());
        Object { revision, json, namespace, name, uid, labels, owners, deleting, locked: None }
    }
}

/// A state that has no revision yet.
#[derive(Debug)]
pub struct Draft {
    facts: Facts,
    /// The text, with an empty `metadata.resourceVersion`.
    text: Vec<u8>,
    /// Where in it the digits of the revision go.
    hole: usize,
}

const REVISION: &str = "resourceVersion";

impl Draft {
    /// Writes an object out; a `metadata.resourceVersion` that it has does not count.
    pub fn new(value: &Value) -> Draft {
        Draft::without(value, &[])
    }

    /// The same without some members.
    pub(crate) fn without(value: &Value, left_out: &[&str]) -> Draft {
        let mut writer = Writer { text: Vec::with_capacity(TEXT_BYTES), hole: None };
        let nothing = Map::new();
        let mut meta = Some(value["metadata"].as_object().unwrap_or(&nothing));
        writer.open();
        for (name, member) in value.as_object().unwrap_or(&nothing) {
            // Members are written in the order of their names, whichever are there.
            if name.as_str() >= "metadata"
                && let Some(meta) = meta.take()
            {
                writer.meta(meta);
            }
            if name != "metadata" && !left_out.contains(&name.as_str()) {
                writer.member(name, member);
            }
        }
        if let Some(meta) = meta {
            writer.meta(meta);
        }
        writer.text.push(b'}');
        let hole = writer.hole.expect("the metadata was written, with its hole");
        Draft { facts: Facts::of(value), text: writer.text, hole }
    }

    /// Bytes of the text without its revision.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// The state at a revision.
    pub(super) fn at(self, revision: u64, key: &Key) -> Object {
        let digits = revision.to_string();
        let (before, after) = self.text.split_at(self.hole);
        // Of exactly its size: the text stays as long as the object does.
        let json = [before, digits.as_bytes(), after].concat();
        self.facts.object(Bytes::from(json), revision, key)
    }
}

/// Writes the text of a draft.
struct Writer {
    text: Vec<u8>,
    hole: Option<usize>,
}

impl Writer {
    fn open(&mut self) {
        self.text.push(b'{');
    }

    fn name(&mut self, name: &str) {
        if self.text.last() != Some(&b'{') {
            self.text.push(b',');
        }
        serde_json::to_writer(&mut self.text, name).expect("a name can be written");
        self.text.push(b':');
    }

    fn member(&mut self, name: &str, value: &Value) {
        self.name(name);
        serde_json::to_writer(&mut self.text, value).expect("a JSON value can be written");
    }

    fn meta(&mut self, meta: &Map<String, Value>) {
        self.name("metadata");
        self.open();
        for (name, member) in meta {
            if name.as_str() >= REVISION && self.hole.is_none() {
                self.revision();
            }
            if name != REVISION {
                self.member(name, member);
            }
        }
        if self.hole.is_none() {
            self.revision();
        }
        self.text.push(b'}');
    }

    fn revision(&mut self) {
        self.name(REVISION);
        self.hole = Some(self.text.len() + 1);
        self.text.extend_from_slice(b"\"\"");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_draft_is_the_value_with_its_revision() {
        let key = Key::new(&"core/configmaps".into(), "shop", "a\"b");
        let values = [
            json!({}),
            json!({ "metadata": null, "data": { "k": "v" } }),
            json!({ "metadata": { "name": "a\"b", "resourceVersion": "17", "uid": "u", "labels": { "x": "y", "n": 1 } } }),
            json!({ "apiVersion": "v1", "zoo": 1 }),
            json!({ "data": { "resourceVersion": "no" }, "metadata": { "zz": { "resourceVersion": "neither" } }, "z": [1.5, "ü\u{1}"] }),
        ];
        for value in values {
            for revision in [0, 9, u64::MAX] {
                let object = Draft::new(&value).at(revision, &key);
                let mut wanted = value.clone();
                wanted["metadata"]["resourceVersion"] = revision.to_string().into();
                assert_eq!(object.json, wanted.to_string());
                assert_eq!(object.value(), wanted);
            }
        }
    }

    #[test]
    fn labels_and_owners_are_looked_up() {
        let key = Key::new(&"core/configmaps".into(), "shop", "a");
        let value = json!({ "metadata": {
            "labels": { "a": "1", "b": "" }, "ownerReferences": [{ "uid": "o" }, {}], "deletionTimestamp": "now",
        } });
        let object = Object::unstored(&value, &key);
        assert_eq!(
            (object.labels.get("a"), object.labels.get("b"), object.labels.get("c")),
            (Some("1"), Some(""), None)
        );
        assert_eq!((&object.owners[..], object.deleting), (&["o".into()][..], true));
    }
}
