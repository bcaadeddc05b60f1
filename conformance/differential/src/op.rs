//! One request as data, written down before it is known what either server will answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kinds::{KINDS, Kind};
use crate::server::Request;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    Create,
    Get,
    List,
    Replace,
    JsonPatch,
    MergePatch,
    StrategicPatch,
    Apply,
    Delete,
    DeleteCollection,
    /// Everything that happened to the kind since the run began.
    Watch,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Op {
    pub verb: Verb,
    /// Index in `KINDS`; in files the kind's name.
    #[serde(with = "by_name")]
    pub kind: usize,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// "", "status" or "scale".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(String, String)>,
    /// May hold `${rv}`: that of the named object as the server last showed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

mod by_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::kinds::KINDS;

    pub(super) fn serialize<S: Serializer>(kind: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(KINDS[*kind].kind)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = KINDS.iter().position(|kind| kind.kind == name);
        found.ok_or_else(|| D::Error::custom(format!("unknown kind `{name}`")))
    }
}

impl Op {
    pub fn kind(&self) -> &'static Kind {
        &KINDS[self.kind]
    }

    pub fn writes(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }

    /// The request for a server; `fill` replaces the text between `${` and `}`.
    pub fn request(&self, namespace: &str, fill: &dyn Fn(&str) -> Value) -> Request {
        let kind = self.kind();
        let mut path = format!("/{}/namespaces/{namespace}/{}", kind.prefix, kind.plural);
        let named = !matches!(self.verb, Verb::Create | Verb::List | Verb::DeleteCollection | Verb::Watch);
        if named {
            path.push('/');
            path.push_str(&self.name);
        }
        if !self.subresource.is_empty() {
            path.push('/');
            path.push_str(&self.subresource);
        }
        for (position, (key, value)) in self.query.iter().enumerate() {
            path.push(if position == 0 { '?' } else { '&' });
            let filled = filled(&Value::String(value.clone()), fill);
            path.push_str(&format!("{key}={}", encode(filled.as_str().unwrap_or_default())));
        }
        Request {
            method: self.method(),
            path,
            content_type: self.content_type(),
            body: self.body.as_ref().map(|body| filled(body, fill)),
            watch: self.verb == Verb::Watch,
        }
    }

    fn method(&self) -> &'static str {
        match self.verb {
            Verb::Create => "POST",
            Verb::Get | Verb::List | Verb::Watch => "GET",
            Verb::Replace => "PUT",
            Verb::JsonPatch | Verb::MergePatch | Verb::StrategicPatch | Verb::Apply => "PATCH",
            Verb::Delete | Verb::DeleteCollection => "DELETE",
        }
    }

    fn content_type(&self) -> &'static str {
        match self.verb {
            Verb::JsonPatch => "application/json-patch+json",
            Verb::MergePatch => "application/merge-patch+json",
            Verb::StrategicPatch => "application/strategic-merge-patch+json",
            Verb::Apply => "application/apply-patch+yaml",
            _ => "application/json",
        }
    }
}

fn filled(value: &Value, fill: &dyn Fn(&str) -> Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
            Some(hole) => fill(hole),
            None => value.clone(),
        },
        Value::Array(items) => Value::Array(items.iter().map(|item| filled(item, fill)).collect()),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(key, value)| (key.clone(), filled(value, fill))).collect())
        }
        other => other.clone(),
    }
}

/// A value of a query, with what is not plain written as `%XX`.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
