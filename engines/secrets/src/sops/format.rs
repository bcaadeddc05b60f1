//! The formats: text -> documents and the `sops` section.

use serde_json::{Map, Value};

use super::Error;
use super::ini::{dotenv, ini};
use super::tree::{Leaf, Tree, of_document};

/// Deepest nesting in flat metadata.
const DEPTH_MAX: usize = 8;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One or more documents.
    Yaml,
    /// One object.
    Json,
    /// `KEY=value` lines.
    Dotenv,
    /// Sections of `key = value` lines.
    Ini,
    /// Any bytes, in JSON.
    Binary,
}

impl Format {
    /// From the name of a file, as SOPS does.
    pub fn of_name(name: &str) -> Format {
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        match extension {
            "yaml" | "yml" => Format::Yaml,
            "json" => Format::Json,
            "env" => Format::Dotenv,
            "ini" => Format::Ini,
            _ => Format::Binary,
        }
    }

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Format::Yaml => "YAML",
            Format::Json => "JSON",
            Format::Dotenv => "dotenv",
            Format::Ini => "INI",
            Format::Binary => "JSON",
        }
    }

    /// The documents, and the metadata.
    pub(super) fn read(self, text: &str) -> Result<(Vec<Tree>, Value), Error> {
        match self {
            Format::Yaml | Format::Json | Format::Binary => self.read_yaml(text),
            Format::Dotenv => {
                let (values, metadata) = dotenv(text)?;
                Ok((vec![values], unflatten(metadata)?))
            }
            Format::Ini => {
                let (values, metadata) = ini(text)?;
                Ok((vec![values], unflatten(metadata)?))
            }
        }
    }

    fn read_yaml(self, text: &str) -> Result<(Vec<Tree>, Value), Error> {
        let format = self.name();
        let read = dodai_yaml::parse(text)
            .map_err(|error| Error::Format { format, what: error.message().to_owned() })?;
        let mut trees = Vec::new();
        let mut metadata = None;
        for document in &read {
            let mut tree = of_document(document, document.root_id(), format)?;
            if let Some(section) = tree.take("sops") {
                metadata.get_or_insert(section.to_json());
            }
            trees.push(tree);
        }
        let metadata = metadata.ok_or_else(|| Error::Metadata("there is no such section".into()))?;
        Ok((trees, metadata))
    }
}

/// Flat metadata: `age__list_0__map_enc` is field `enc` of item 0 of list `age`.
fn unflatten(flat: Vec<(String, String)>) -> Result<Value, Error> {
    let mut root = Value::Object(Map::new());
    if flat.is_empty() {
        return Err(Error::Metadata("there is no such section".into()));
    }
    for (name, text) in flat {
        let mut here = &mut root;
        let mut rest = name.as_str();
        let mut depth = 0;
        loop {
            depth += 1;
            let bad = || {
                Error::Metadata(format!("a strange field `{}`", name.chars().take(60).collect::<String>()))
            };
            if depth > DEPTH_MAX {
                return Err(bad());
            }
            let next = [rest.find("__list_"), rest.find("__map_")].into_iter().flatten().min();
            let (part, after) = match next {
                Some(at) => (&rest[..at], &rest[at + 2..]),
                None => (rest, ""),
            };
            // `part` is a field of an object, or `list_N`/`map_field` of what came before.
            let child = if let Some(index) = part.strip_prefix("list_") {
                let index: usize = index.parse().map_err(|_| bad())?;
                if here.is_null() {
                    *here = Value::Array(Vec::new());
                }
                let list = here.as_array_mut().ok_or_else(bad)?;
                if index > list.len() || index > 1000 {
                    return Err(bad());
                }
                if index == list.len() {
                    list.push(Value::Null);
                }
                &mut list[index]
            } else {
                let field = part.strip_prefix("map_").unwrap_or(part);
                if here.is_null() {
                    *here = Value::Object(Map::new());
                }
                here.as_object_mut().ok_or_else(bad)?.entry(field).or_insert(Value::Null)
            };
            here = child;
            if after.is_empty() {
                *here = match text.as_str() {
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    text => Value::String(text.to_owned()),
                };
                break;
            }
            rest = after;
        }
    }
    Ok(root)
}

/// The one value of a binary file.
pub(super) fn binary(tree: &Tree) -> Option<&Leaf> {
    match tree.get("data") {
        Some(Tree::Leaf(leaf)) => Some(leaf),
        _ => None,
    }
}
