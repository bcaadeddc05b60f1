//! The dialect of Kubernetes: what `sigs.k8s.io/yaml` (over go.yaml.in/yaml v2) makes of a document when it turns
//! it into JSON. Facts were taken from its behaviour; `tests/data/kubernetes_scalars.json` holds them as a table.
//!
//! Differences, on purpose:
//! - Keys that become the same JSON key (`1` and `"1"`, `yes` and `true`) are refused; there the last one of a
//!   random order wins.
//! - `-0` and `-0.0` become the integer 0, as Kubernetes reads them from JSON in its next step.
//!
//! A merge key (`<<`) sets its entries where it stands: a key written before it is overwritten by it, one written
//! after it overwrites it. This is what kubectl does, though the YAML 1.1 description says otherwise.

pub(crate) mod resolve;

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use crate::error::{Error, ErrorKind};
use crate::path::{push_index, push_key};
use crate::read::shorten;
use crate::tree::{Document, Node, NodeId, NodeKind, ScalarStyle};

pub use resolve::{Scalar, resolve};

/// The long form of what `!!merge` stands for.
const MERGE_TAG: &str = "tag:yaml.org,2002:merge";

/// A document as JSON.
pub(crate) fn to_json(document: &Document) -> Result<Value, Error> {
    Converter { document, path: Vec::new() }.value(document.root_id())
}

/// The JSON key that a key node becomes; `None` if it cannot be a key.
pub(crate) fn key_text(document: &Document, id: NodeId) -> Option<String> {
    key_of(document, id).ok()
}

/// Whether a key node is a merge key.
pub(crate) fn is_merge(node: &Node) -> bool {
    let NodeKind::Scalar { text, style } = &node.kind else { return false };
    &**text == "<<"
        && match node.tag.as_deref() {
            None => *style == ScalarStyle::Plain,
            Some(tag) => tag == "!" || tag == MERGE_TAG,
        }
}

/// The maps that a merge value adds, in the order in which they are set (a later one overwrites).
pub(crate) fn merge_sources(document: &Document, value: NodeId) -> Option<Vec<NodeId>> {
    let is_map = |id: NodeId| matches!(document.node(id).kind, NodeKind::Mapping { .. });
    let followed = document.follow(value);
    match &document.node(followed).kind {
        NodeKind::Mapping { .. } => Some(vec![followed]),
        // A list behind an alias is refused there too.
        NodeKind::Sequence { items, .. } if followed == value => {
            let maps: Vec<NodeId> = items.iter().rev().map(|item| document.follow(*item)).collect();
            maps.iter().all(|id| is_map(*id)).then_some(maps)
        }
        _ => None,
    }
}

enum Step {
    Key(String),
    Index(usize),
}

struct Converter<'a> {
    document: &'a Document,
    path: Vec<Step>,
}

impl Converter<'_> {
    fn value(&mut self, id: NodeId) -> Result<Value, Error> {
        let id = self.document.follow(id);
        let document = self.document;
        match &document.node(id).kind {
            NodeKind::Scalar { .. } => scalar_value(document.node(id)).map_err(|kind| self.error(kind, id)),
            NodeKind::Sequence { items, .. } => {
                let mut list = Vec::with_capacity(items.len());
                for (i, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(i));
                    list.push(self.value(*item)?);
                    self.path.pop();
                }
                Ok(Value::Array(list))
            }
            NodeKind::Mapping { .. } => {
                let mut map = Map::new();
                self.fill(id, &mut map)?;
                Ok(Value::Object(map))
            }
            NodeKind::Alias { .. } => unreachable!("an alias is never the target of an alias"),
        }
    }

    /// Sets the entries of a mapping in `map`.
    fn fill(&mut self, id: NodeId, map: &mut Map<String, Value>) -> Result<(), Error> {
        let document = self.document;
        let NodeKind::Mapping { entries, .. } = &document.node(id).kind else { return Ok(()) };
        let mut seen: HashMap<String, NodeId> = HashMap::with_capacity(entries.len());
        for (key, value) in entries {
            if is_merge(document.node(*key)) {
                let sources = merge_sources(document, *value)
                    .ok_or_else(|| self.error(ErrorKind::MergeValue, *value))?;
                for source in sources {
                    self.fill(source, map)?;
                }
                continue;
            }
            let name = key_of(document, *key).map_err(|kind| self.error(kind, *key))?;
            if let Some(first) = seen.insert(name.clone(), *key)
                && !document.repeated_keys
            {
                let first_line = document.mark(first).0.line;
                let kind = ErrorKind::DuplicateKey { key: shorten(&name).into_owned(), first_line };
                return Err(self.error(kind, *key));
            }
            self.path.push(Step::Key(name.clone()));
            let value = self.value(*value)?;
            self.path.pop();
            map.insert(name, value);
        }
        Ok(())
    }

    fn error(&self, kind: ErrorKind, id: NodeId) -> Error {
        let (position, len) = self.document.mark(id);
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => push_key(&mut path, key),
                Step::Index(index) => push_index(&mut path, *index),
            }
        }
        Error::new(kind).at(position, len).in_path(path)
    }
}

/// A scalar node as JSON.
pub(crate) fn scalar_value(node: &Node) -> Result<Value, ErrorKind> {
    Ok(match resolve_node(node)? {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => Value::Bool(value),
        Scalar::Int(value) => Value::from(value),
        Scalar::Uint(value) => Value::from(value),
        Scalar::Float(value) => Value::Number(float_number(value).ok_or(ErrorKind::NotFinite)?),
        Scalar::String(text) => Value::String(text.into_owned()),
    })
}

/// A JSON scalar as this dialect would give it.
pub(crate) fn normalize(value: &Value) -> Value {
    match value.as_f64() {
        Some(float) if value.is_f64() => float_number(float).map_or(Value::Null, Value::Number),
        _ => value.clone(),
    }
}

/// What a scalar node means.
pub(crate) fn resolve_node(node: &Node) -> Result<Scalar<'_>, ErrorKind> {
    match &node.kind {
        NodeKind::Scalar { text, style } => match node.tag.as_deref() {
            None if *style != ScalarStyle::Plain => Ok(Scalar::String(text.as_ref().into())),
            tag => resolve(tag, text),
        },
        _ => Err(ErrorKind::KeyKind { found: node.kind_name() }),
    }
}

fn key_of(document: &Document, id: NodeId) -> Result<String, ErrorKind> {
    let node = document.node(document.follow(id));
    Ok(match resolve_node(node)? {
        Scalar::String(text) => text.into_owned(),
        Scalar::Bool(value) => value.to_string(),
        Scalar::Int(value) => value.to_string(),
        Scalar::Float(value) => resolve::float_key(value),
        Scalar::Null => return Err(ErrorKind::KeyKind { found: "null" }),
        Scalar::Uint(_) => return Err(ErrorKind::KeyKind { found: "number above 9223372036854775807" }),
    })
}

/// The number that a JSON reader finds after Go has printed the float: `1.0` is printed as `1`, and a large one
/// with the shortest digits that mean it, filled with zeros. `None` if it is infinite or not a number.
pub(crate) fn float_number(value: f64) -> Option<Number> {
    // Beyond this Go prints an exponent.
    const INTEGER_FORM_END: f64 = 1e21;
    if value.trunc() == value && value.abs() < INTEGER_FORM_END {
        let text = value.to_string();
        if let Ok(integer) = text.parse::<i64>() {
            return Some(Number::from(integer));
        }
        if let Ok(integer) = text.parse::<u64>() {
            return Some(Number::from(integer));
        }
    }
    Number::from_f64(value)
}
