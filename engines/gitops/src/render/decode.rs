//! JSON -> structs, as Go reads it: names of fields without regard to case, unknown fields refused or passed over,
//! and the path of what is wrong.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct DecodeError {
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Unknown fields are errors.
    pub(crate) strict: bool,
    /// Numbers and booleans are taken where text is wanted.
    pub(crate) coerce: bool,
}

/// For kustomizations.
pub(crate) const KUSTOMIZATION: Rules = Rules { strict: true, coerce: false };
/// For files that configurations are in.
pub(crate) const CONFIGURATION: Rules = Rules { strict: true, coerce: true };
/// For plugins written in YAML, and replacements in files.
pub(crate) const PLUGIN: Rules = Rules { strict: false, coerce: true };

type Result<T> = std::result::Result<T, DecodeError>;

/// An object whose fields are being taken.
pub(crate) struct Fields<'v> {
    map: Option<&'v Map<String, Value>>,
    path: String,
    rules: Rules,
    known: Vec<&'static str>,
}

pub(crate) fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

pub(crate) fn wrong_type(path: &str, expected: &str, found: &Value) -> DecodeError {
    let hint = match (expected, found) {
        ("text", Value::Bool(_) | Value::Number(_)) => Some("put the value in quotes".to_owned()),
        _ => None,
    };
    DecodeError {
        path: path.to_owned(),
        message: format!("expected {expected}, found {}", describe(found)),
        hint,
    }
}

impl<'v> Fields<'v> {
    pub(crate) fn new(value: &'v Value, path: &str, rules: Rules) -> Result<Fields<'v>> {
        let map = match value {
            Value::Null => None,
            Value::Object(map) => Some(map),
            other => return Err(wrong_type(path, "a map", other)),
        };
        Ok(Fields { map, path: path.to_owned(), rules, known: Vec::new() })
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    /// The value of a field, unless it is null.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'v Value> {
        self.known.push(name);
        let map = self.map?;
        let value = map
            .get(name)
            .or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))?;
        (!value.is_null()).then_some(value)
    }

    fn below(&self, name: &str) -> String {
        join(&self.path, name)
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<String> {
        Ok(self.optional_text(name)?.unwrap_or_default())
    }

    pub(crate) fn optional_text(&mut self, name: &'static str) -> Result<Option<String>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        text_of(value, &self.below(name), self.rules).map(Some)
    }

    pub(crate) fn bool(&mut self, name: &'static str) -> Result<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(wrong_type(&self.below(name), "`true` or `false`", other)),
        }
    }

    pub(crate) fn int(&mut self, name: &'static str) -> Result<i64> {
        match self.take(name) {
            None => Ok(0),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(number),
                None => Err(wrong_type(&self.below(name), "a whole number", value)),
            },
        }
    }

    /// The items of a list with their paths; `None` if the field is not there.
    pub(crate) fn items(&mut self, name: &'static str) -> Result<Option<Vec<(&'v Value, String)>>> {
        let path = self.below(name);
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => {
                Ok(Some(items.iter().enumerate().map(|(i, item)| (item, format!("{path}[{i}]"))).collect()))
            }
            Some(other) => Err(wrong_type(&path, "a list", other)),
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&'v Value, &str, Rules) -> Result<T>,
    ) -> Result<Vec<T>> {
        Ok(self.optional_list(name, read)?.unwrap_or_default())
    }

    pub(crate) fn optional_list<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&'v Value, &str, Rules) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let rules = self.rules;
        let Some(items) = self.items(name)? else { return Ok(None) };
        items.into_iter().map(|(item, path)| read(item, &path, rules)).collect::<Result<_>>().map(Some)
    }

    pub(crate) fn texts(&mut self, name: &'static str) -> Result<Vec<String>> {
        self.list(name, text_of)
    }

    pub(crate) fn object<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&'v Value, &str, Rules) -> Result<T>,
    ) -> Result<Option<T>> {
        let (path, rules) = (self.below(name), self.rules);
        self.take(name).map(|value| read(value, &path, rules)).transpose()
    }

    pub(crate) fn text_map(&mut self, name: &'static str) -> Result<Option<BTreeMap<String, String>>> {
        self.object(name, text_map_of)
    }

    /// Refuses what was not taken.
    pub(crate) fn finish(self) -> Result<()> {
        let Some(map) = self.map.filter(|_| self.rules.strict) else { return Ok(()) };
        let unknown = map.keys().find(|key| !self.known.iter().any(|known| known.eq_ignore_ascii_case(key)));
        let Some(unknown) = unknown else { return Ok(()) };
        let hint = dodai_yaml::suggest(unknown, self.known.iter().copied())
            .map(|near| format!("did you mean `{near}`?"));
        Err(DecodeError {
            path: join(&self.path, unknown),
            message: format!("unknown field `{unknown}`"),
            hint,
        })
    }
}

pub(crate) fn text_of(value: &Value, path: &str, rules: Rules) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        Value::Bool(value) if rules.coerce => Ok(value.to_string()),
        Value::Number(number) if rules.coerce => Ok(number.to_string()),
        other => Err(wrong_type(path, "text", other)),
    }
}

pub(crate) fn text_map_of(value: &Value, path: &str, rules: Rules) -> Result<BTreeMap<String, String>> {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| Ok((key.clone(), text_of(value, &join(path, key), rules)?)))
            .collect(),
        other => Err(wrong_type(path, "a map of texts", other)),
    }
}
