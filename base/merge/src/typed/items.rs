//! Taking items out of a value: what is left, or what was taken.

use serde_json::{Map, Value};

use super::list;
use crate::fields::{Set, Step};
use crate::schema::{Part, ResolvedList, ResolvedMap, Schema, TypeRef};

/// The value without the items in `set`; null if nothing is left.
pub(super) fn remove(value: &Value, set: &Set, schema: &Schema) -> Value {
    Walk { schema, extract: false }.visit(value, set, schema.root()).unwrap_or(Value::Null)
}

/// Only the items in `set`; null if there are none.
pub(super) fn extract(value: &Value, set: &Set, schema: &Schema) -> Value {
    Walk { schema, extract: true }.visit(value, set, schema.root()).unwrap_or(Value::Null)
}

/// `set`, and the key fields of each list element that its paths (as far as `present` has them) lead through.
pub(super) fn with_keys(set: &Set, present: &Set) -> Set {
    let mut result = set.clone();
    for path in set.paths().iter().filter(|path| present.has(&path.0)) {
        for (index, step) in path.0.iter().enumerate() {
            let Step::Key(fields) = step else { continue };
            for (name, _) in fields {
                let mut key = path.0[..=index].to_vec();
                key.push(Step::field(name));
                result.insert(&key);
            }
        }
    }
    result
}

struct Walk<'a> {
    schema: &'a Schema,
    extract: bool,
}

impl<'a> Walk<'a> {
    fn visit(&self, value: &Value, set: &Set, reference: &'a TypeRef) -> Option<Value> {
        let resolved = self.schema.resolve(reference).unwrap_or_default();
        match (resolved.deduce(Some(value)).part()?, value) {
            (Part::Scalar(_), _) => Some(value.clone()),
            (Part::List(list), Value::Array(elements)) if !elements.is_empty() => {
                if list.atomic {
                    return self.extract.then(|| value.clone());
                }
                self.visit_list(elements, set, list)
            }
            (Part::Map(map), Value::Object(members)) if !members.is_empty() => {
                if map.atomic {
                    return self.extract.then(|| value.clone());
                }
                self.visit_map(members, set, map)
            }
            _ => None,
        }
    }

    fn visit_list(&self, elements: &[Value], set: &Set, list: ResolvedList<'a>) -> Option<Value> {
        let mut kept = Vec::new();
        for element in elements {
            match list::element_step(self.schema, list, element) {
                Ok(step) => kept.extend(self.item(element, &step, set, Some(list.element))),
                // An element without a name is in no set.
                Err(_) if self.extract => {}
                Err(_) => kept.push(element.clone()),
            }
        }
        (!kept.is_empty()).then_some(Value::Array(kept))
    }

    fn visit_map(&self, members: &Map<String, Value>, set: &Set, map: ResolvedMap<'a>) -> Option<Value> {
        let mut kept = Map::new();
        for (name, value) in members {
            if let Some(value) = self.item(value, &Step::field(name), set, map.field(name)) {
                kept.insert(name.clone(), value);
            }
        }
        (!kept.is_empty()).then_some(Value::Object(kept))
    }

    /// One member or element; `None` if it goes.
    fn item(&self, value: &Value, step: &Step, set: &Set, reference: Option<&'a TypeRef>) -> Option<Value> {
        let descend = |set: &Set| match reference {
            Some(reference) => self.visit(value, set, reference).unwrap_or(Value::Null),
            None => value.clone(),
        };
        match (set.has_step(step), set.below(step)) {
            // Of a member with nothing below it, upstream takes a list element as it stands, and of a field only
            // that it is there: its leaves, if it has any, are members by themselves.
            (true, None) if self.extract => {
                let is_branch = matches!(step, Step::Field(_)) && !is_empty(value);
                Some(if is_branch { descend(&Set::new()) } else { value.clone() })
            }
            (true, below) => self.extract.then(|| descend(below.unwrap_or(&Set::new()))),
            (false, Some(below)) => Some(descend(below)),
            (false, None) => (!self.extract).then(|| value.clone()),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
