//! One value laid over another.
//!
//! Leaves come from the right where it has them. Lists keep the order of the right side; elements that only the
//! left side has stay beside their neighbours.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Error, Errors, finish, list, part, report, resolve, validate};
use crate::fields::Step;
use crate::schema::{Part, ResolvedList, ResolvedMap, Schema, TypeRef};

pub(super) fn merge(left: &Value, right: &Value, schema: &Schema) -> Result<Value, Error> {
    let mut walk = Walk { schema, path: Vec::new(), errors: Errors::new() };
    let merged = walk.visit(Some(left), Some(right), schema.root());
    finish(walk.errors)?;
    Ok(merged.unwrap_or(Value::Null))
}

struct Walk<'a> {
    schema: &'a Schema,
    path: Vec<Step>,
    errors: Errors,
}

/// The right value if there is one: the rule for leaves.
fn leaf(left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    right.or(left).cloned()
}

impl<'a> Walk<'a> {
    fn visit(
        &mut self,
        left: Option<&Value>,
        right: Option<&Value>,
        reference: &'a TypeRef,
    ) -> Option<Value> {
        let resolved = match resolve(self.schema, reference) {
            Ok(resolved) => resolved,
            Err(error) => {
                self.report(format_args!("{error}"));
                return None;
            }
        };
        let (of_left, of_right) = (resolved.deduce(left), resolved.deduce(right));
        // Where the kinds of the two differ, the right one decides; the left one is walked for its errors.
        let parts = match (left, right) {
            (_, None) => vec![of_left],
            (Some(_), Some(_)) if of_left.shape() != of_right.shape() => vec![of_left, of_right],
            _ => vec![of_right],
        };
        let mut merged = None;
        for found in parts {
            merged = match part(found, reference) {
                Ok(Part::Scalar(scalar)) => {
                    let (on_left, on_right) =
                        (validate::check_scalar(scalar, left), validate::check_scalar(scalar, right));
                    if let (Err(on_left), Err(on_right)) = (on_left, on_right) {
                        self.report(format_args!("lhs: {on_left}"));
                        self.report(format_args!("rhs: {on_right}"));
                        None
                    } else {
                        leaf(left, right)
                    }
                }
                Ok(Part::List(list)) => self.visit_list(left, right, list),
                Ok(Part::Map(map)) => self.visit_map(left, right, map),
                Err(error) => {
                    self.report(format_args!("{error}"));
                    None
                }
            };
        }
        merged
    }

    fn visit_map(
        &mut self,
        left: Option<&Value>,
        right: Option<&Value>,
        map: ResolvedMap<'a>,
    ) -> Option<Value> {
        let empty = Map::new();
        let members =
            |value: Option<&'_ Value>| value.and_then(Value::as_object).is_some_and(|map| !map.is_empty());
        // Two empty sides are a leaf, which keeps `{}` and null apart.
        if map.atomic || (!members(left) && !members(right)) {
            return leaf(left, right);
        }
        let (left, right) = (
            left.and_then(Value::as_object).unwrap_or(&empty),
            right.and_then(Value::as_object).unwrap_or(&empty),
        );
        let mut merged = Map::new();
        let only_right = right.iter().filter(|(name, _)| !left.contains_key(*name));
        let names = left.keys().chain(only_right.map(|(name, _)| name));
        for name in names {
            self.path.push(Step::field(name));
            // A field that the type lacks was let in by somebody; it is merged as a leaf.
            let value = match map.field(name) {
                Some(reference) => self.visit(left.get(name), right.get(name), reference),
                None => leaf(left.get(name), right.get(name)),
            };
            if let Some(value) = value {
                merged.insert(name.clone(), value);
            }
            self.path.pop();
        }
        (!merged.is_empty()).then_some(Value::Object(merged))
    }

    fn visit_list(
        &mut self,
        left: Option<&Value>,
        right: Option<&Value>,
        list: ResolvedList<'a>,
    ) -> Option<Value> {
        fn elements(value: Option<&Value>) -> &[Value] {
            value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
        }
        let (lefts, rights) = (elements(left), elements(right));
        if list.atomic || (lefts.is_empty() && rights.is_empty()) {
            return leaf(left, right);
        }
        let before = self.errors.len();
        let lefts = self.index(lefts, list, true);
        let rights = self.index(rights, list, false);
        if self.errors.len() > before {
            return None;
        }
        let merged = self.interleave(&lefts, &rights, list);
        (!merged.is_empty()).then_some(Value::Array(merged))
    }

    /// The order of the result: walk both sides at once. What only the left side has is taken where it stands;
    /// what both have is taken in the right side's order.
    fn interleave(&mut self, lefts: &Indexed, rights: &Indexed, list: ResolvedList<'a>) -> Vec<Value> {
        let mut merged = Vec::with_capacity(lefts.steps.len().max(rights.steps.len()));
        let mut shared = rights.steps.iter().filter(|step| lefts.by_step.contains_key(*step)).peekable();
        let mut done: BTreeSet<&Step> = BTreeSet::new();
        let (mut l, mut r) = (0, 0);
        while l < lefts.steps.len() || r < rights.steps.len() {
            if let Some(step) = lefts.steps.get(l) {
                let on_right = rights.by_step.contains_key(step);
                if !on_right {
                    merged.extend(self.element(step, Some(lefts.elements[l]), None, list));
                    l += 1;
                    continue;
                }
                // A shared element whose turn it is not, or was: it is taken when the right side comes to it.
                let not_now = r < rights.steps.len()
                    && *step != rights.steps[r]
                    && shared.peek().is_some_and(|next| *next != step);
                if not_now {
                    l += 1;
                    continue;
                }
                if rights.steps.get(r) == Some(step) || done.contains(step) {
                    l += 1;
                }
            }
            if let Some(step) = rights.steps.get(r) {
                done.insert(step);
                let left = lefts.by_step.get(step).copied();
                merged.extend(self.element(step, left, Some(rights.elements[r]), list));
                r += 1;
                shared.next_if_eq(&step);
            }
        }
        merged
    }

    fn element(
        &mut self,
        step: &Step,
        left: Option<&Value>,
        right: Option<&Value>,
        list: ResolvedList<'a>,
    ) -> Option<Value> {
        self.path.push(step.clone());
        let merged = self.visit(left, right, list.element);
        self.path.pop();
        merged
    }

    /// The names of a side's elements. Of a name that the left side has twice, there is nothing to merge with.
    fn index<'v>(&mut self, elements: &'v [Value], list: ResolvedList<'a>, duplicates: bool) -> Indexed<'v> {
        static NULL: Value = Value::Null;
        let mut indexed = Indexed { steps: Vec::new(), elements: Vec::new(), by_step: BTreeMap::new() };
        for (index, element) in elements.iter().enumerate() {
            let step = match list::element_step(self.schema, list, element) {
                Ok(step) => step,
                Err(error) => {
                    let side = if duplicates { "lhs" } else { "rhs" };
                    self.report(format_args!("{side}: element {index}: {error}"));
                    continue;
                }
            };
            let mut kept = element;
            if indexed.by_step.contains_key(&step) {
                if !duplicates {
                    self.report(format_args!("rhs: duplicate entries for key {step}"));
                }
                kept = &NULL;
            }
            indexed.by_step.insert(step.clone(), kept);
            indexed.steps.push(step);
            indexed.elements.push(element);
        }
        indexed
    }

    fn report(&mut self, message: std::fmt::Arguments) {
        report(&mut self.errors, &self.path, message);
    }
}

/// A side's elements with their names.
struct Indexed<'v> {
    steps: Vec<Step>,
    elements: Vec<&'v Value>,
    by_step: BTreeMap<Step, &'v Value>,
}
