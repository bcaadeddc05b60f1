//! What a SOPS file holds: an ordered tree.

use dodai_yaml::{Document, NodeId, NodeKind, ScalarStyle};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Error;

/// A part of a file. Order matters: the MAC depends on it.
#[derive(Clone, PartialEq)]
pub enum Tree {
    /// Entries in the order of the file.
    Map(Vec<(String, Tree)>),
    /// Items.
    List(Vec<Tree>),
    /// A value.
    Leaf(Leaf),
}

/// A value.
#[derive(Clone, PartialEq)]
pub enum Leaf {
    /// A text.
    Text(Zeroizing<String>),
    /// Bytes that need not be a text.
    Bytes(Zeroizing<Vec<u8>>),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Nothing; neither encrypted nor part of the MAC.
    Null,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Tree::Map(_) => "Tree(map)",
            Tree::List(_) => "Tree(list)",
            Tree::Leaf(_) => "Tree(value)",
        })
    }
}

impl Leaf {
    /// As SOPS feeds it into its MAC.
    pub(crate) fn mac_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Leaf::Text(text) => text.as_bytes().to_vec(),
            Leaf::Bytes(bytes) => bytes.to_vec(),
            Leaf::Int(value) => value.to_string().into_bytes(),
            // The shortest digits that give the number again, without an exponent, and without `.0`.
            Leaf::Float(value) => format!("{value}").into_bytes(),
            Leaf::Bool(true) => b"True".to_vec(),
            Leaf::Bool(false) => b"False".to_vec(),
            Leaf::Null => Vec::new(),
        })
    }
}

impl Tree {
    /// The entry of a map.
    pub fn get(&self, name: &str) -> Option<&Tree> {
        match self {
            Tree::Map(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Takes an entry out of a map.
    pub(super) fn take(&mut self, name: &str) -> Option<Tree> {
        match self {
            Tree::Map(entries) => {
                let at = entries.iter().position(|(key, _)| key == name)?;
                Some(entries.remove(at).1)
            }
            _ => None,
        }
    }

    /// As JSON; bytes that are no text become what text they can. The caller drops it soon: JSON is not wiped.
    pub fn to_json(&self) -> Value {
        match self {
            Tree::Map(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
            Tree::List(items) => Value::Array(items.iter().map(Tree::to_json).collect()),
            Tree::Leaf(leaf) => match leaf {
                Leaf::Text(text) => Value::String(text.to_string()),
                Leaf::Bytes(bytes) => Value::String(String::from_utf8_lossy(bytes).into_owned()),
                Leaf::Int(value) => (*value).into(),
                Leaf::Float(value) => (*value).into(),
                Leaf::Bool(value) => (*value).into(),
                Leaf::Null => Value::Null,
            },
        }
    }
}

/// A text as a leaf.
pub(super) fn text(text: &str) -> Tree {
    Tree::Leaf(Leaf::Text(Zeroizing::new(text.to_owned())))
}

/// The tree of a YAML (or JSON) document, aliases followed. Sizes and depth are bounded by the reader.
pub(super) fn of_document(document: &Document, node: NodeId, format: &'static str) -> Result<Tree, Error> {
    let bad = |what: &str| {
        let position = document.position_at(document.node(node).range().start);
        Error::Format { format, what: format!("line {}: {what}", position.line) }
    };
    match &document.node(node).kind {
        NodeKind::Alias { target } => of_document(document, *target, format),
        NodeKind::Sequence { items, .. } => items
            .iter()
            .map(|item| of_document(document, *item, format))
            .collect::<Result<_, _>>()
            .map(Tree::List),
        NodeKind::Mapping { entries, .. } => {
            let mut map = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let key = match &document.node(document.follow(*key)).kind {
                    NodeKind::Scalar { text, .. } if &**text == "<<" => {
                        return Err(bad("merge keys are not read"));
                    }
                    NodeKind::Scalar { text, .. } => text.to_string(),
                    _ => return Err(bad("a key that is no text")),
                };
                map.push((key, of_document(document, *value, format)?));
            }
            Ok(Tree::Map(map))
        }
        NodeKind::Scalar { text, style } => {
            let tag = document.node(node).tag.as_deref();
            let plain = *style == ScalarStyle::Plain && tag.is_none();
            Ok(Tree::Leaf(if plain {
                plain_scalar(text)
            } else {
                Leaf::Text(Zeroizing::new(text.to_string()))
            }))
        }
    }
}

/// A plain scalar as the library that SOPS uses reads it (yaml.v3): fewer words are truth values than in Kubernetes.
fn plain_scalar(text: &str) -> Leaf {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Leaf::Null,
        "true" | "True" | "TRUE" => return Leaf::Bool(true),
        "false" | "False" | "FALSE" => return Leaf::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Leaf::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Leaf::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Leaf::Float(f64::NAN),
        _ => {}
    }
    let starts_like_number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    if starts_like_number {
        let digits = text.replace('_', "");
        if let Some(value) = integer(&digits) {
            return Leaf::Int(value);
        }
        let is_float = digits.contains(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
        if is_float && let Ok(value) = digits.parse() {
            return Leaf::Float(value);
        }
        if let Some(time) = timestamp(text) {
            return Leaf::Text(Zeroizing::new(time));
        }
    }
    Leaf::Text(Zeroizing::new(text.to_owned()))
}

fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.get(..2) {
        Some("0x" | "0X") => (&digits[2..], 16),
        Some("0o" | "0O") => (&digits[2..], 8),
        Some("0b" | "0B") => (&digits[2..], 2),
        _ if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(digits, radix).ok().map(|value| sign * value)
}

/// A date or a time, as SOPS writes it out again.
fn timestamp(text: &str) -> Option<String> {
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == 10
    {
        return Some(format!("{date}T00:00:00Z"));
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.to_string())
}
