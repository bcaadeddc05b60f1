//! Values with a schema: reading, comparing, merging and taking them apart along the type.
//!
//! A [`Typed`] value need not be valid. [`Typed::parse`] checks it; the other operations expect a checked value and
//! do what they can with another one.

use std::sync::Arc;

use serde_json::Value;

use crate::fields::Set;
use crate::schema::{Part, Resolved, Schema, TypeRef};

mod atomics;
mod compare;
mod items;
mod list;
mod merge;
mod reconcile;
mod to_set;
mod validate;

pub use compare::Comparison;

/// A value, the schema it is read with, and the API version it is in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Typed {
    pub value: Arc<Value>,
    pub schema: Schema,
    /// `group/version`; only converters look at it.
    pub version: Arc<str>,
}

/// Whether a set may hold a value twice, and a list of maps a key. Live objects may (older servers let them in),
/// applied objects may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    Allowed,
    Refused,
}

/// A value does not fit its type. Display is upstream's text: `.spec.x: field not declared in schema`; several
/// errors are one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.display())]
pub struct Error {
    /// Where and what, in the order found; at most [`ERRORS_MAX`].
    pub errors: Vec<String>,
}

/// Errors reported for one value.
pub const ERRORS_MAX: usize = 20;

impl Error {
    fn display(&self) -> String {
        match self.errors.as_slice() {
            [only] => only.clone(),
            many => {
                let lines: Vec<String> = many.iter().map(|error| format!("  {error}")).collect();
                format!("errors:\n{}", lines.join("\n"))
            }
        }
    }
}

impl Typed {
    /// A value that is known to fit, or need not.
    pub fn unchecked(value: Arc<Value>, schema: &Schema, version: &str) -> Typed {
        Typed { value, schema: schema.clone(), version: version.into() }
    }

    /// A value that fits its type.
    pub fn parse(
        value: Arc<Value>,
        schema: &Schema,
        version: &str,
        duplicates: Duplicates,
    ) -> Result<Typed, Error> {
        validate::validate(&value, schema, duplicates)?;
        Ok(Typed::unchecked(value, schema, version))
    }

    /// The paths of everything the value sets.
    pub fn to_set(&self) -> Set {
        to_set::to_set(&self.value, &self.schema)
    }

    /// The paths of the parts of the value that are one leaf though they are lists or maps.
    pub fn atomics(&self) -> Vec<String> {
        atomics::atomics(&self.value, &self.schema)
    }

    /// This value with `other` laid over it. Both must have the same schema.
    pub fn merge(&self, other: &Typed) -> Result<Typed, Error> {
        let value = merge::merge(&self.value, &other.value, &self.schema)?;
        Ok(Typed { value: Arc::new(value), ..self.clone() })
    }

    /// What was added, modified and removed on the way from this value to `other`.
    pub fn compare(&self, other: &Typed) -> Result<Comparison, Error> {
        compare::compare(&self.value, &other.value, &self.schema)
    }

    /// The value without the items in `set`.
    pub fn without(&self, set: &Set) -> Typed {
        let value = items::remove(&self.value, set, &self.schema);
        Typed { value: Arc::new(value), ..self.clone() }
    }

    /// Only the items in `set`.
    pub fn extract(&self, set: &Set) -> Typed {
        let value = items::extract(&self.value, set, &self.schema);
        Typed { value: Arc::new(value), ..self.clone() }
    }

    /// As [`extract`](Typed::extract), and the key fields of every list element on the way.
    pub fn extract_with_keys(&self, set: &Set) -> Typed {
        self.extract(&items::with_keys(set, &self.to_set()))
    }

    /// Fits a field set that was made under another schema to this value's schema: what became atomic is owned as
    /// a whole. `None`: nothing to do.
    pub fn reconcile(&self, set: &Set) -> Result<Option<Set>, Error> {
        reconcile::reconcile(set, &self.schema)
    }

    /// Equality by value; numbers by what they count.
    pub fn equals(&self, other: &Typed) -> bool {
        Arc::ptr_eq(&self.value, &other.value) || crate::value::equal(&self.value, &other.value)
    }
}

/// Why a walk had to stop: the text, and the path in front of it as it is unwound.
type Errors = Vec<String>;

fn finish(errors: Errors) -> Result<(), Error> {
    if errors.is_empty() { Ok(()) } else { Err(Error { errors }) }
}

/// Adds an error found at `path`, unless there are enough.
fn report(errors: &mut Errors, path: &[crate::fields::Step], message: std::fmt::Arguments) {
    if errors.len() < ERRORS_MAX {
        let path: String = path.iter().map(ToString::to_string).collect();
        errors.push(if path.is_empty() { message.to_string() } else { format!("{path}: {message}") });
    }
}

/// Finds the type behind a reference; the error is upstream's text.
fn resolve<'a>(schema: &'a Schema, reference: &'a TypeRef) -> Result<Resolved<'a>, String> {
    use crate::schema::Target;
    schema.resolve(reference).ok_or_else(|| match &reference.target {
        Target::Named(name) => format!("schema error: no type found matching: named type {name:?}"),
        _ => "schema error: no type found matching: inlined type".to_owned(),
    })
}

/// The part of a type that handles a value.
fn part<'a>(resolved: Resolved<'a>, reference: &TypeRef) -> Result<Part<'a>, String> {
    use crate::schema::Target;
    resolved.part().ok_or_else(|| match &reference.target {
        Target::Named(name) => format!("schema error: invalid atom: named type: {name}"),
        _ => "schema error: invalid atom: inlined".to_owned(),
    })
}
