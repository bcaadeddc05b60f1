//! What differs between two values, as three sets of paths.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Error, Errors, finish, list, part, report, resolve, validate};
use crate::fields::{Set, Step};
use crate::schema::{Part, ResolvedList, ResolvedMap, Schema, TypeRef};
use crate::value;

/// The way from one value to another. No path is in two of the sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Without the members of `fields` and what is below them.
    pub fn exclude(&self, fields: &Set) -> Comparison {
        self.map(|set| set.recursive_difference(fields))
    }

    /// Each of the sets passed through a function.
    pub fn map(&self, apply: impl Fn(&Set) -> Set) -> Comparison {
        Comparison {
            added: apply(&self.added),
            modified: apply(&self.modified),
            removed: apply(&self.removed),
        }
    }
}

pub(super) fn compare(left: &Value, right: &Value, schema: &Schema) -> Result<Comparison, Error> {
    let mut walk = Walk { schema, path: Vec::new(), errors: Errors::new(), result: Comparison::default() };
    walk.visit(Some(left), Some(right), schema.root());
    finish(walk.errors)?;
    Ok(walk.result)
}

struct Walk<'a> {
    schema: &'a Schema,
    path: Vec<Step>,
    errors: Errors,
    result: Comparison,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, left: Option<&Value>, right: Option<&Value>, reference: &'a TypeRef) {
        let resolved = match resolve(self.schema, reference) {
            Ok(resolved) => resolved,
            Err(error) => return self.report(format_args!("{error}")),
        };
        let (of_left, of_right) = (resolved.deduce(left), resolved.deduce(right));
        let mut is_leaf = match (left, right) {
            (_, None) => self.visit_part(left, right, of_left, reference),
            (Some(_), Some(_)) if of_left.shape() != of_right.shape() => {
                self.visit_part(left, right, of_left, reference);
                self.visit_part(left, right, of_right, reference)
            }
            _ => self.visit_part(left, right, of_right, reference),
        };
        // A branch that came or went is noted besides its leaves.
        is_leaf |= left.is_some() && right.is_some();
        if !is_leaf {
            self.mark(left, right);
        }
    }

    /// Says whether the two were compared as a whole.
    fn visit_part(
        &mut self,
        left: Option<&Value>,
        right: Option<&Value>,
        resolved: crate::schema::Resolved<'a>,
        reference: &TypeRef,
    ) -> bool {
        match part(resolved, reference) {
            Err(error) => self.report(format_args!("{error}")),
            Ok(Part::Scalar(scalar)) => {
                let errors = (validate::check_scalar(scalar, left), validate::check_scalar(scalar, right));
                if let (Err(on_left), Err(on_right)) = errors {
                    self.report(format_args!("lhs: {on_left}"));
                    self.report(format_args!("rhs: {on_right}"));
                    return false;
                }
                self.leaf(left, right);
                return true;
            }
            Ok(Part::Map(map)) => {
                let lefts = left.and_then(Value::as_object).filter(|map| !map.is_empty());
                let rights = right.and_then(Value::as_object).filter(|map| !map.is_empty());
                if map.atomic || (lefts.is_none() && rights.is_none()) {
                    self.leaf(left, right);
                    return true;
                }
                self.visit_map(lefts, rights, map);
            }
            Ok(Part::List(list)) => {
                let lefts = left.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let rights = right.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                if list.atomic || (lefts.is_empty() && rights.is_empty()) {
                    self.leaf(left, right);
                    return true;
                }
                self.visit_list(lefts, rights, list);
            }
        }
        false
    }

    fn visit_map(
        &mut self,
        left: Option<&Map<String, Value>>,
        right: Option<&Map<String, Value>>,
        map: ResolvedMap<'a>,
    ) {
        let names: BTreeSet<&String> = left.into_iter().chain(right).flat_map(Map::keys).collect();
        for name in names {
            let (left, right) = (left.and_then(|map| map.get(name)), right.and_then(|map| map.get(name)));
            self.path.push(Step::field(name));
            match map.field(name) {
                Some(reference) => self.visit(left, right, reference),
                None => self.leaf(left, right),
            }
            self.path.pop();
        }
    }

    fn visit_list(&mut self, lefts: &[Value], rights: &[Value], list: ResolvedList<'a>) {
        let lefts = self.index(lefts, list, "lhs");
        let rights = self.index(rights, list, "rhs");
        let steps: BTreeSet<&Step> = lefts.keys().chain(rights.keys()).collect();
        for step in steps {
            let left = lefts.get(step).map_or(&[][..], Vec::as_slice);
            let right = rights.get(step).map_or(&[][..], Vec::as_slice);
            self.path.push(step.clone());
            match (left, right) {
                ([] | [_], [] | [_]) => {
                    self.visit(left.first().copied(), right.first().copied(), list.element);
                }
                // A name that occurs more than once is one item that is not looked into.
                ([_, _, ..], [_, _, ..]) => {
                    let same =
                        left.len() == right.len() && left.iter().zip(right).all(|(a, b)| value::equal(a, b));
                    if !same {
                        self.result.modified.insert(&self.path);
                    }
                }
                ([_, _, ..], _) => {
                    if let Some(right) = right.first() {
                        self.visit(None, Some(right), list.element);
                    }
                    self.result.removed.insert(&self.path);
                }
                (_, [_, _, ..]) => {
                    if let Some(left) = left.first() {
                        self.visit(Some(left), None, list.element);
                    }
                    self.result.added.insert(&self.path);
                }
            }
            self.path.pop();
        }
    }

    fn index<'v>(
        &mut self,
        elements: &'v [Value],
        list: ResolvedList<'a>,
        side: &str,
    ) -> BTreeMap<Step, Vec<&'v Value>> {
        let mut indexed: BTreeMap<Step, Vec<&Value>> = BTreeMap::new();
        for (index, element) in elements.iter().enumerate() {
            match list::element_step(self.schema, list, element) {
                Ok(step) => indexed.entry(step).or_default().push(element),
                Err(error) => self.report(format_args!("{side}: element {index}: {error}")),
            }
        }
        indexed
    }

    fn leaf(&mut self, left: Option<&Value>, right: Option<&Value>) {
        match (left, right) {
            (Some(left), Some(right)) if value::equal(left, right) => {}
            (Some(_), Some(_)) => self.result.modified.insert(&self.path),
            _ => self.mark(left, right),
        }
    }

    fn mark(&mut self, left: Option<&Value>, right: Option<&Value>) {
        match (left, right) {
            (None, Some(_)) => self.result.added.insert(&self.path),
            (Some(_), None) => self.result.removed.insert(&self.path),
            _ => {}
        }
    }

    fn report(&mut self, message: std::fmt::Arguments) {
        report(&mut self.errors, &self.path, message);
    }
}
