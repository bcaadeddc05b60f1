//! Fits a field set to a schema that changed since it was made.
//!
//! What became atomic is owned as a whole by everybody who owned a part of it. What became granular stays owned by
//! its root alone, as upstream does.

use super::{Error, Errors, finish, part, report, resolve};
use crate::fields::{Set, Step};
use crate::schema::{Part, ResolvedMap, Schema, Target, TypeRef};

pub(super) fn reconcile(set: &Set, schema: &Schema) -> Result<Option<Set>, Error> {
    let mut walk = Walk { schema, path: Vec::new(), errors: Errors::new(), whole: Set::new() };
    walk.visit(set, false, schema.root());
    finish(walk.errors)?;
    if walk.whole.is_empty() {
        return Ok(None);
    }
    Ok(Some(set.recursive_difference(&walk.whole).union(&walk.whole)))
}

struct Walk<'a> {
    schema: &'a Schema,
    path: Vec<Step>,
    errors: Errors,
    /// Roots that are owned as a whole from now on.
    whole: Set,
}

impl<'a> Walk<'a> {
    /// `set` is what is owned below here; `is_leaf` says that only the root of it is.
    fn visit(&mut self, set: &Set, is_leaf: bool, reference: &'a TypeRef) {
        let found = resolve(self.schema, reference).and_then(|found| part(found, reference));
        match found {
            Err(error) => report(&mut self.errors, &self.path, format_args!("{error}")),
            Ok(Part::Scalar(_)) => {}
            Ok(Part::Map(map)) if is_deduced(map) => {}
            Ok(Part::Map(map)) if map.atomic => self.take(is_leaf),
            Ok(Part::List(list)) if list.atomic => self.take(is_leaf),
            Ok(Part::Map(map)) => self.descend(set, |step| match step {
                Step::Field(name) => map.field(name),
                _ => None,
            }),
            Ok(Part::List(list)) => self.descend(set, |_| Some(list.element)),
        }
    }

    fn take(&mut self, is_leaf: bool) {
        if !is_leaf {
            self.whole.insert(&self.path);
        }
    }

    fn descend(&mut self, set: &Set, type_of: impl Fn(&Step) -> Option<&'a TypeRef>) {
        // A step without anything below is a leaf already; only its type's kind could matter, and it does not.
        for (step, child) in set.children() {
            let Some(reference) = type_of(step) else { continue };
            self.path.push(step.clone());
            self.visit(child, false, reference);
            self.path.pop();
        }
    }
}

/// A map of which the type says nothing, such as a free-form field: it has no kind that could have changed.
fn is_deduced(map: ResolvedMap) -> bool {
    map.map.fields.is_empty()
        && map.map.element.as_ref().is_some_and(|element| element.target == Target::Deduced)
}
