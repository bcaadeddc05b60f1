//! A rule's `fieldPath`: a restricted JSON path, checked against the schema.

use std::fmt;

use serde_json::Value as Json;

/// Reads `path` (`.a.b`, `.a['b.c']`) against `schema`; gives it as errors name fields (`a.b`, `a[key]`).
pub fn field_path(path: &str, schema: &Json) -> Result<String, FieldPathError> {
    let tokens = split(path);
    let mut tokens = tokens.iter().map(String::as_str);
    let mut place = Place { text: String::new(), schema };
    while let Some(token) = tokens.next() {
        match token {
            "[" => {
                let token = tokens.next().ok_or(FieldPathError::End)?;
                let quoted = token.len() >= 2 && token.starts_with('\'') && token.ends_with('\'');
                if !quoted {
                    return Err(FieldPathError::NotQuoted(token.to_owned()));
                }
                place.enter(&unquote(&token[1..token.len() - 1]))?;
                match tokens.next().ok_or(FieldPathError::End)? {
                    "]" => {}
                    other => return Err(FieldPathError::NotClosed(other.to_owned())),
                }
            }
            "." => place.enter(tokens.next().ok_or(FieldPathError::End)?)?,
            other => return Err(FieldPathError::NoStep(other.to_owned())),
        }
    }
    Ok(place.text)
}

/// What is wrong with a field path, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldPathError {
    End,
    NotQuoted(String),
    NotClosed(String),
    NoStep(String),
    NoField,
}

impl fmt::Display for FieldPathError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldPathError::End => out.write_str("unexpected end of JSON path"),
            FieldPathError::NotQuoted(found) => write!(out, "expected single quoted string but got {found}"),
            FieldPathError::NotClosed(found) => write!(out, "expected ] but got {found}"),
            FieldPathError::NoStep(found) => write!(out, "expected [ or . but got: {found}"),
            FieldPathError::NoField => out.write_str("does not refer to a valid field"),
        }
    }
}

impl std::error::Error for FieldPathError {}

struct Place<'a> {
    text: String,
    schema: &'a Json,
}

impl Place<'_> {
    fn enter(&mut self, name: &str) -> Result<(), FieldPathError> {
        if let Some(properties) = self.schema["properties"].as_object() {
            self.schema = properties.get(name).ok_or(FieldPathError::NoField)?;
            if !self.text.is_empty() {
                self.text.push('.');
            }
            self.text.push_str(name);
            return Ok(());
        }
        match &self.schema["additionalProperties"] {
            schema @ Json::Object(_) => {
                self.schema = schema;
                self.text = format!("{}[{name}]", self.text);
                Ok(())
            }
            _ => Err(FieldPathError::NoField),
        }
    }
}

/// The delimiters `.`, `[`, `]`, quoted texts, and what is between.
fn split(path: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = if rest.starts_with('\'') {
            let bytes = rest.as_bytes();
            let close = (1..bytes.len()).find(|&at| bytes[at] == b'\'' && bytes[at - 1] != b'\\');
            close.map_or(rest.len(), |at| at + 1)
        } else {
            match rest.find(['.', '[', ']']) {
                Some(0) => 1,
                Some(at) => at,
                None => rest.len(),
            }
        };
        tokens.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    tokens
}

fn unquote(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some(other) => other,
            None => '\\',
        });
    }
    out
}
