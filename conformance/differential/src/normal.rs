//! Takes out of an answer what may differ between two right servers: identities, versions, times, addresses, order of managers.
//!
//! Identities become numbers in the order in which they first appear in a run, so that equal ones stay equal and different ones
//! different.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

static UID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").expect("a fixed expression")
});
static TOKENS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("kube-api-access-[a-z0-9]{5}").expect("a fixed expression"));
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]+)?Z").expect("a fixed expression")
});
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b10\.(96|200)\.[0-9]+\.[0-9]+\b").expect("a fixed expression"));
/// How the real server words what its JSON reader met: with names of its implementation language.
static WORDED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"json: |Go (struct|value)|unmarshal|cannot convert|\.v[0-9](alpha|beta)?[0-9]*\.|\*v1|error decoding|unrecognized type|cannot restore|illegal base64|expected [a-z ()]+, got").expect("a fixed expression")
});

/// A whole object shown in a cause: in the order of the members of its type, some with names that only the real server has. Nothing that
/// was sent and nothing that was not are not told apart.
static SHOWN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(Invalid value|Duplicate value|Unsupported value): (\{.*\}|\[.*\]|null)")
        .expect("a fixed expression")
});

#[derive(Default)]
pub struct Normal {
    numbers: HashMap<(char, String), usize>,
}

impl Normal {
    pub fn answer(&mut self, body: &Value) -> Value {
        let mut body = body.clone();
        self.value(&mut body, "");
        body
    }

    fn number(&mut self, kind: char, text: &str) -> String {
        let next = self.numbers.keys().filter(|(other, _)| *other == kind).count();
        let number = *self.numbers.entry((kind, text.to_owned())).or_insert(next);
        format!("${kind}{number}")
    }

    fn value(&mut self, value: &mut Value, key: &str) {
        match value {
            Value::Object(members) => {
                let list =
                    members.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
                if let Some(metadata) =
                    members.get_mut("metadata").filter(|_| list).and_then(Value::as_object_mut)
                {
                    // Of the whole store: what else happens on the two servers is in it.
                    metadata.remove("resourceVersion");
                }
                generated_name(members);
                if members.get("reason").is_some_and(|reason| reason == "Invalid" || reason == "Conflict") {
                    order_causes(members);
                }
                for (key, value) in members.iter_mut() {
                    self.value(value, key);
                }
            }
            Value::Array(items) => {
                if key == "managedFields" {
                    let text = |entry: &Value| {
                        ["manager", "operation", "subresource", "apiVersion"]
                            .map(|key| entry[key].as_str().unwrap_or_default().to_owned())
                    };
                    items.sort_by_key(text);
                }
                for item in items {
                    self.value(item, "");
                }
            }
            Value::String(text) => *text = self.text(text, key),
            Value::Number(_) if key == "nodePort" || key == "healthCheckNodePort" => {
                *value = Value::String(self.number('p', &value.to_string()));
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, key: &str) -> String {
        match key {
            "resourceVersion" if !text.is_empty() => return self.number('v', text),
            "continue" => return "$continue".to_owned(),
            "message" if WORDED.is_match(text) => return "$worded".to_owned(),
            _ => {}
        }
        let text = UID.replace_all(text, |found: &Captures| self.number('u', &found[0])).into_owned();
        let text = TOKENS.replace_all(&text, "kube-api-access-$$");
        let text = ADDRESS.replace_all(&text, |found: &Captures| self.number('a', &found[0])).into_owned();
        TIME.replace_all(&text, |found: &Captures| {
            // Times that the requests themselves hold are not the server's clock.
            if found[0].starts_with("2026-01-02") { found[0].to_owned() } else { "$time".to_owned() }
        })
        .into_owned()
    }
}

/// A name made from `generateName` ends at random.
fn generated_name(metadata: &mut serde_json::Map<String, Value>) {
    let Some(base) = metadata.get("generateName").and_then(Value::as_str).map(str::to_owned) else { return };
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.len() == base.len() + 5 && name.starts_with(&base) {
        metadata.insert("name".to_owned(), format!("{base}$generated").into());
    }
}

/// The causes in the order of their texts and each once (the real server checks some things twice in an update), without the dump of Go
/// structures that follows some of them. The message of such a Status says the same again, in the real server's order.
fn order_causes(status: &mut serde_json::Map<String, Value>) {
    let Some(causes) =
        status.get_mut("details").and_then(|details| details.get_mut("causes")).and_then(Value::as_array_mut)
    else {
        return;
    };
    for cause in causes.iter_mut() {
        if cause["field"] == "patch" {
            // Repeats the whole object or patch, in the order of its bytes.
            let text = cause["message"].as_str().unwrap_or_default();
            let said = text.rsplit_once("\": ").map_or(text, |(_, said)| said).to_owned();
            cause["message"] = said.into();
        }
        if let Some(text) =
            cause["message"].as_str().map(|text| SHOWN.replace(text, "$1: $$object").into_owned())
        {
            cause["message"] = text.into();
        }
        let text = cause["message"].as_str().unwrap_or_default();
        if let Some((head, _)) = text.split_once('\n') {
            cause["message"] = head.into();
        }
    }
    causes.sort_by_key(Value::to_string);
    causes.dedup();
    if causes.iter().any(|cause| cause["message"].as_str().is_some_and(|text| WORDED.is_match(text))) {
        causes.truncate(1);
    }
    status.remove("message");
}
