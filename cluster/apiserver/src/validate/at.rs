//! A value at its place in an object: what the rules look at, and how they say what is wrong there.

use serde_json::{Map, Value};

use crate::names;
use crate::status::Cause;

/// A value and its path.
pub(super) struct At<'a> {
    pub value: &'a Value,
    pub path: String,
}

impl<'a> At<'a> {
    pub(super) fn new(value: &'a Value, path: impl Into<String>) -> At<'a> {
        At { value, path: path.into() }
    }

    /// A member, there or not.
    pub(super) fn get(&self, field: &str) -> At<'a> {
        let path = if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) };
        At { value: &self.value[field], path }
    }

    /// A member under another name than it has in the object.
    pub(super) fn get_as(&self, field: &str, shown: &str) -> At<'a> {
        At { value: &self.value[field], path: format!("{}.{shown}", self.path) }
    }

    /// The same value, said to be at another place.
    pub(super) fn moved(&self, path: &str) -> At<'a> {
        At { value: self.value, path: path.to_owned() }
    }

    /// The elements of a list.
    pub(super) fn items(&self, field: &str) -> Vec<At<'a>> {
        self.get(field).elements()
    }

    /// The elements of this list.
    pub(super) fn elements(&self) -> Vec<At<'a>> {
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        let place = |(at, value)| At { value, path: format!("{}[{at}]", self.path) };
        items.iter().enumerate().map(place).collect()
    }

    /// The entries of this map, by key; a place is written `path[key]`.
    pub(super) fn entries(&self) -> Vec<(&'a str, At<'a>)> {
        let entries = self.value.as_object().into_iter().flatten();
        entries
            .map(|(key, value)| (key.as_str(), At { value, path: format!("{}[{key}]", self.path) }))
            .collect()
    }

    pub(super) fn text(&self, field: &str) -> &'a str {
        self.value[field].as_str().unwrap_or_default()
    }

    pub(super) fn int(&self, field: &str) -> Option<i64> {
        self.value[field].as_i64()
    }

    pub(super) fn flag(&self, field: &str) -> bool {
        self.value[field] == true
    }

    pub(super) fn has(&self, field: &str) -> bool {
        !self.value[field].is_null()
    }

    pub(super) fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// This value as text; empty where it is none.
    pub(super) fn own_text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    pub(super) fn required(&self, detail: &str, causes: &mut Vec<Cause>) {
        causes.push(Cause::required(self.path.clone(), detail));
    }

    pub(super) fn forbidden(&self, detail: &str, causes: &mut Vec<Cause>) {
        causes.push(Cause::forbidden(self.path.clone(), detail));
    }

    pub(super) fn invalid(&self, detail: &str, causes: &mut Vec<Cause>) {
        causes.push(Cause::invalid(self.path.clone(), self.value, detail));
    }

    /// As `invalid`, showing another value.
    pub(super) fn invalid_as(&self, shown: impl Into<Value>, detail: &str, causes: &mut Vec<Cause>) {
        causes.push(Cause::invalid(self.path.clone(), &shown.into(), detail));
    }

    /// One cause for each of `wrong`.
    pub(super) fn all(&self, wrong: impl IntoIterator<Item = String>, causes: &mut Vec<Cause>) {
        let shown = if self.value.is_null() { Value::String(String::new()) } else { self.value.clone() };
        causes.extend(wrong.into_iter().map(|detail| Cause::invalid(self.path.clone(), &shown, &detail)));
    }

    pub(super) fn duplicate(&self, causes: &mut Vec<Cause>) {
        causes.push(Cause::duplicate(self.path.clone(), &self.text_or_value()));
    }

    pub(super) fn not_found(&self, causes: &mut Vec<Cause>) {
        causes.push(Cause::not_found(self.path.clone(), &self.text_or_value()));
    }

    pub(super) fn unsupported(&self, known: &[&str], causes: &mut Vec<Cause>) {
        causes.push(Cause::not_supported(self.path.clone(), &self.text_or_value(), known));
    }

    fn text_or_value(&self) -> Value {
        if self.value.is_null() { Value::String(String::new()) } else { self.value.clone() }
    }

    /// A word that must be one of these; absent is the empty word.
    pub(super) fn one_of(&self, known: &[&str], causes: &mut Vec<Cause>) {
        if !known.contains(&self.own_text()) {
            self.unsupported(known, causes);
        }
    }

    /// As `one_of`, but nothing is wrong with an absent one.
    pub(super) fn one_of_if_set(&self, known: &[&str], causes: &mut Vec<Cause>) {
        if self.is_set() {
            self.one_of(known, causes);
        }
    }

    /// As `one_of`, but empty and absent ones are missing.
    pub(super) fn one_of_required(&self, known: &[&str], causes: &mut Vec<Cause>) {
        match self.own_text() {
            "" => self.required("", causes),
            _ => self.one_of(known, causes),
        }
    }

    /// Text that may not be empty.
    pub(super) fn not_empty(&self, causes: &mut Vec<Cause>) {
        if self.own_text().is_empty() {
            self.required("", causes);
        }
    }

    pub(super) fn in_range(&self, low: i64, high: i64, causes: &mut Vec<Cause>) {
        let number = self.value.as_i64().unwrap_or(0);
        super::in_range(number, low, high, &self.path, causes);
    }

    pub(super) fn not_negative(&self, causes: &mut Vec<Cause>) {
        if self.value.as_i64().is_some_and(|number| number < 0) {
            self.invalid("must be greater than or equal to 0", causes);
        }
    }

    pub(super) fn label(&self, causes: &mut Vec<Cause>) {
        self.all(names::label(self.own_text()), causes);
    }

    pub(super) fn subdomain(&self, causes: &mut Vec<Cause>) {
        self.all(names::subdomain(self.own_text()), causes);
    }

    pub(super) fn qualified(&self, causes: &mut Vec<Cause>) {
        self.all(names::qualified_name(self.own_text()), causes);
    }

    pub(super) fn ip(&self, causes: &mut Vec<Cause>) {
        if !names::is_ip(self.own_text()) {
            self.all([names::NOT_AN_IP.to_owned()], causes);
        }
    }

    /// A path inside something: relative, without steps up.
    pub(super) fn descending(&self, causes: &mut Vec<Cause>) {
        if self.own_text().starts_with('/') {
            self.invalid("must be a relative path", causes);
        }
        self.no_backsteps(causes);
    }

    pub(super) fn no_backsteps(&self, causes: &mut Vec<Cause>) {
        if self.own_text().split('/').any(|part| part == "..") {
            self.invalid("must not contain '..'", causes);
        }
    }

    /// As `descending`, and the name does not start like those the kubelet reserves.
    pub(super) fn not_reserved(&self, causes: &mut Vec<Cause>) {
        self.descending(causes);
        let path = self.own_text();
        if path.starts_with("..") && !path.starts_with("../") {
            self.invalid("must not start with '..'", causes);
        }
    }
}

/// A struct as the real server shows it where its internal type has no JSON names: all members, in the order of the type.
pub(super) fn internal(value: &Value, members: &[(&str, &str, Value)]) -> Value {
    let shown = members.iter().map(|(name, field, zero)| {
        let found = &value[*field];
        (name.to_string(), if found.is_null() { zero.clone() } else { found.clone() })
    });
    Value::Object(shown.collect::<Map<_, _>>())
}
