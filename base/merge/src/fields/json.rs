//! `FieldsV1`: a set as a JSON object, each step a name of a member.
//!
//! A member without anything below is `{}`; a member with something below has `".": {}` in its object.

use serde_json::{Map, Value};

use super::path::Step;
use super::set::Set;
use crate::value;

/// Why a text or a value is not a field set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("key `{0}` is shorter than two characters")]
    Short(String),
    #[error("missing colon: {0}")]
    NoColon(String),
    #[error("invalid index in `{0}`")]
    Index(String),
    #[error("invalid JSON in `{key}`: {reason}")]
    Json { key: String, reason: String },
    #[error("expected an object, got {0}")]
    NoObject(String),
    #[error("invalid JSON: {0}")]
    Text(String),
}

impl Set {
    /// Reads the JSON form. Names with an unknown prefix are dropped with what is below them: a later version may
    /// know them. `null` is the empty set.
    pub fn from_json(json: &Value) -> Result<Set, Error> {
        let mut set = Set::new();
        read(json, &mut set)?;
        Ok(set)
    }

    /// Reads the JSON form from text.
    pub fn from_json_str(text: &str) -> Result<Set, Error> {
        let json: Value = serde_json::from_str(text).map_err(|error| Error::Text(error.to_string()))?;
        Set::from_json(&json)
    }

    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        self.walk(&mut |step, is_member, child| {
            let mut below = match child.map(Set::to_json) {
                Some(Value::Object(below)) => below,
                _ => Map::new(),
            };
            if is_member && child.is_some() {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            out.insert(step.to_json_key(), Value::Object(below));
        });
        Value::Object(out)
    }

    /// The JSON form as text, byte for byte as upstream writes it.
    pub fn to_json_string(&self) -> String {
        let mut out = String::new();
        self.write(false, &mut out);
        out
    }

    fn write(&self, is_member: bool, out: &mut String) {
        out.push('{');
        let mut first = true;
        if is_member {
            out.push_str("\".\":{}");
            first = false;
        }
        self.walk(&mut |step, is_member, child| {
            if !first {
                out.push(',');
            }
            first = false;
            value::write_string(&step.to_json_key(), out);
            out.push(':');
            match child {
                Some(child) => child.write(is_member, out),
                None => out.push_str("{}"),
            }
        });
        out.push('}');
    }

    /// Calls for each step that is a member, has something below, or both; in order.
    fn walk(&self, visit: &mut dyn FnMut(&Step, bool, Option<&Set>)) {
        let mut members = self.members.iter().peekable();
        for (step, child) in &self.children {
            while let Some(member) = members.next_if(|member| *member < step) {
                visit(member, true, None);
            }
            let is_member = members.next_if(|member| *member == step).is_some();
            visit(step, is_member, Some(child));
        }
        members.for_each(|member| visit(member, true, None));
    }
}

/// Reads into `set`; says whether the node itself is a member of its parent.
fn read(json: &Value, set: &mut Set) -> Result<bool, Error> {
    let object = match json {
        Value::Null => return Ok(true),
        Value::Object(object) => object,
        other => return Err(Error::NoObject(other.to_string())),
    };
    let mut is_member = false;
    for (key, below) in object {
        if key == "." {
            is_member = true;
            continue;
        }
        let Some(step) = Step::from_json_key(key)? else { continue };
        let mut child = Set::new();
        if read(below, &mut child)? {
            set.members.insert(step.clone());
        }
        if !child.is_empty() {
            set.children.entry(step).or_default().extend(&child);
        }
    }
    Ok(is_member || set.is_empty())
}

impl Step {
    /// The name of a step in `FieldsV1`.
    pub fn to_json_key(&self) -> String {
        let mut out = String::new();
        match self {
            Step::Field(name) => return format!("f:{name}"),
            Step::Index(index) => return format!("i:{index}"),
            Step::Value(value) => {
                out.push_str("v:");
                value::write_json(value, &mut out);
            }
            Step::Key(fields) => {
                out.push_str("k:{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value::write_string(name, &mut out);
                    out.push(':');
                    value::write_json(value, &mut out);
                }
                out.push('}');
            }
        }
        out
    }

    /// Reads the name of a step; `None` if its prefix is not known.
    pub fn from_json_key(key: &str) -> Result<Option<Step>, Error> {
        let (Some(&prefix), Some(&colon)) = (key.as_bytes().first(), key.as_bytes().get(1)) else {
            return Err(Error::Short(key.to_owned()));
        };
        if colon != b':' {
            return Err(Error::NoColon(key.to_owned()));
        }
        let text = &key[2..];
        let invalid =
            |error: serde_json::Error| Error::Json { key: key.to_owned(), reason: error.to_string() };
        match prefix {
            b'f' => Ok(Some(Step::field(text))),
            b'v' => Ok(Some(Step::Value(serde_json::from_str(text).map_err(invalid)?))),
            b'k' => {
                let fields: Map<String, Value> = serde_json::from_str(text).map_err(invalid)?;
                Ok(Some(Step::key(fields)))
            }
            b'i' => match text.parse() {
                Ok(index) => Ok(Some(Step::Index(index))),
                Err(_) => Err(Error::Index(key.to_owned())),
            },
            _ => Ok(None),
        }
    }
}
