//! The paths of everything a value sets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::list;
use crate::fields::{Set, Step};
use crate::schema::{Part, ResolvedList, ResolvedMap, Schema, TypeRef};

pub(super) fn to_set(value: &Value, schema: &Schema) -> Set {
    let mut walk = Walk { schema, path: Vec::new(), set: Set::new() };
    walk.visit(value, schema.root());
    walk.set
}

struct Walk<'a> {
    schema: &'a Schema,
    path: Vec<Step>,
    set: Set,
}

impl<'a> Walk<'a> {
    /// What does not fit its type has no paths; it was refused or let pass before.
    fn visit(&mut self, value: &Value, reference: &'a TypeRef) {
        let resolved = self.schema.resolve(reference).unwrap_or_default();
        match (resolved.deduce(Some(value)).part(), value) {
            (None, _) => {}
            (Some(Part::Scalar(_)), _) => self.set.insert(&self.path),
            (Some(Part::List(list)), _) if list.atomic => self.set.insert(&self.path),
            (Some(Part::Map(map)), _) if map.atomic => self.set.insert(&self.path),
            (Some(Part::List(list)), Value::Array(elements)) => self.visit_list(elements, list),
            (Some(Part::Map(map)), Value::Object(members)) => self.visit_map(members, map),
            (Some(_), _) => {}
        }
    }

    fn visit_list(&mut self, elements: &[Value], list: ResolvedList<'a>) {
        let steps: Vec<Option<Step>> =
            elements.iter().map(|element| list::element_step(self.schema, list, element).ok()).collect();
        let mut counts: BTreeMap<&Step, usize> = BTreeMap::new();
        for step in steps.iter().flatten() {
            *counts.entry(step).or_default() += 1;
        }
        // Of a name that occurs twice only the name itself is tracked, not what is below it.
        let twice: BTreeSet<Step> =
            counts.into_iter().filter(|(_, count)| *count > 1).map(|(step, _)| step.clone()).collect();
        for (element, step) in elements.iter().zip(steps) {
            let Some(step) = step else { continue };
            let descend = !twice.contains(&step);
            self.path.push(step);
            if descend {
                self.visit(element, list.element);
            }
            self.set.insert(&self.path);
            self.path.pop();
        }
    }

    fn visit_map(&mut self, members: &Map<String, Value>, map: ResolvedMap<'a>) {
        for (name, value) in members {
            self.path.push(Step::field(name));
            if let Some(reference) = map.field(name) {
                self.visit(value, reference);
            }
            let empty = match value {
                Value::Null => true,
                Value::Object(members) => members.is_empty(),
                _ => false,
            };
            // A declared field is a member through what is below it; a key of a map is one by itself.
            if empty || !map.map.fields.contains_key(name) {
                self.set.insert(&self.path);
            }
            self.path.pop();
        }
    }
}
