//! Does a value fit its type?

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Duplicates, Error, Errors, finish, list, part, report, resolve};
use crate::fields::Step;
use crate::schema::{Part, ResolvedList, ResolvedMap, Scalar, Schema, TypeRef};
use crate::value;

pub(super) fn validate(value: &Value, schema: &Schema, duplicates: Duplicates) -> Result<(), Error> {
    let mut walk = Walk { schema, duplicates, path: Vec::new(), errors: Errors::new() };
    walk.visit(value, schema.root());
    finish(walk.errors)
}

struct Walk<'a> {
    schema: &'a Schema,
    duplicates: Duplicates,
    path: Vec<Step>,
    errors: Errors,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, value: &Value, reference: &'a TypeRef) {
        let found =
            resolve(self.schema, reference).and_then(|found| part(found.deduce(Some(value)), reference));
        match (found, value) {
            (Err(error), _) => self.report(format_args!("{error}")),
            (Ok(_), Value::Null) => {}
            (Ok(Part::Scalar(scalar)), _) => {
                if let Err(error) = check_scalar(scalar, Some(value)) {
                    self.report(format_args!("{error}"));
                }
            }
            (Ok(Part::List(list)), Value::Array(elements)) => self.visit_list(elements, list),
            (Ok(Part::List(_)), other) => self.report(format_args!("expected list, got {}", display(other))),
            (Ok(Part::Map(map)), Value::Object(members)) => self.visit_map(members, map),
            (Ok(Part::Map(_)), other) => self.report(format_args!("expected map, got {}", display(other))),
        }
    }

    fn visit_list(&mut self, elements: &[Value], list: ResolvedList<'a>) {
        let mut seen = BTreeSet::new();
        for (index, element) in elements.iter().enumerate() {
            let step = if list.atomic {
                Step::Index(index as i64)
            } else {
                match list::element_step(self.schema, list, element) {
                    Ok(step) => step,
                    Err(error) => {
                        // The element has no name, so nothing below it can be reported.
                        self.report(format_args!("element {index}: {error}"));
                        return;
                    }
                }
            };
            if !list.atomic && !seen.insert(step.clone()) && self.duplicates == Duplicates::Refused {
                self.report(format_args!("duplicate entries for key {step}"));
            }
            self.path.push(step);
            self.visit(element, list.element);
            self.path.pop();
        }
    }

    fn visit_map(&mut self, members: &Map<String, Value>, map: ResolvedMap<'a>) {
        for (name, value) in members {
            self.path.push(Step::field(name));
            match map.field(name) {
                Some(reference) => self.visit(value, reference),
                None => self.report(format_args!("field not declared in schema")),
            }
            self.path.pop();
        }
    }

    fn report(&mut self, message: std::fmt::Arguments) {
        report(&mut self.errors, &self.path, message);
    }
}

/// Checks a scalar; no value and null fit every type.
pub(super) fn check_scalar(scalar: Scalar, value: Option<&Value>) -> Result<(), String> {
    let value = match value {
        None | Some(Value::Null) => return Ok(()),
        Some(value) => value,
    };
    let (fits, wanted) = match scalar {
        Scalar::Numeric => (value.is_number(), "numeric (int or float)"),
        Scalar::String => (value.is_string(), "string"),
        Scalar::Boolean => (value.is_boolean(), "boolean"),
        Scalar::Untyped => (!value.is_array() && !value.is_object(), "any scalar"),
    };
    if fits { Ok(()) } else { Err(format!("expected {wanted}, got {}", kind(value))) }
}

/// The name of a value's kind in upstream's texts.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn display(value: &Value) -> String {
    let mut out = String::new();
    value::write_display(value, &mut out);
    out
}
