//! Which types fit where, with variables for what is not known yet.

use std::collections::HashMap;
use std::sync::Arc;

use crate::types::Type;

/// What is known about type variables.
#[derive(Clone, Default)]
pub(crate) struct Mapping {
    known: HashMap<Arc<str>, Type>,
}

impl Mapping {
    pub(crate) fn add(&mut self, name: Arc<str>, value: Type) {
        self.known.insert(name, value);
    }

    /// Replaces variables by what is known; unknown ones become `dyn` if `free_is_dyn`.
    pub(crate) fn substitute(&self, value: &Type, free_is_dyn: bool) -> Type {
        match value {
            Type::Param(name) => match self.known.get(name) {
                Some(found) => self.substitute(found, free_is_dyn),
                None if free_is_dyn => Type::Dyn,
                None => value.clone(),
            },
            other => other.rebuilt(&mut |part| self.substitute(part, free_is_dyn)),
        }
    }

    /// Whether every type of `from` fits its place in `to`; only then variables are bound.
    pub(crate) fn fit_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        if from.len() != to.len() {
            return false;
        }
        let mut trial = self.clone();
        let fits = from.iter().zip(to).all(|(from, to)| trial.fits(from, to));
        if fits {
            *self = trial;
        }
        fits
    }

    fn fits(&mut self, one: &Type, two: &Type) -> bool {
        if let Type::Param(name) = two {
            let (valid, bound) = self.bind(one, name);
            if valid || bound {
                return valid;
            }
        }
        if let Type::Param(name) = one {
            return self.bind(two, name).0;
        }
        if one.is_dyn() || two.is_dyn() {
            return true;
        }
        match (one, two) {
            (Type::Null, other) | (other, Type::Null) => accepts_null(other),
            (Type::TypeOf(_), Type::TypeOf(_)) => true,
            _ => {
                one.same_kind(two)
                    && one.parameters().iter().zip(two.parameters()).all(|(one, two)| self.fits(one, two))
            }
        }
    }

    /// Tries to let variable `name` stand for `value`: whether it may, and whether it was bound before.
    fn bind(&mut self, value: &Type, name: &Arc<str>) -> (bool, bool) {
        if matches!(value, Type::Param(other) if other == name) {
            return (true, true);
        }
        if let Some(found) = self.known.get(name).cloned() {
            if *value == found {
                return (true, true);
            }
            if !self.fits(value, &found) {
                return (false, true);
            }
            let general = most_general(value, &found);
            if !self.occurs(name, &general) {
                self.known.insert(name.clone(), general);
            }
            return (true, true);
        }
        if self.occurs(name, value) {
            return (false, false);
        }
        self.known.insert(name.clone(), value.clone());
        (true, false)
    }

    fn occurs(&self, name: &Arc<str>, within: &Type) -> bool {
        match within {
            Type::Param(other) if other == name => true,
            Type::Param(other) => self.known.get(other).is_some_and(|found| self.occurs(name, found)),
            other => other.parameters().iter().any(|part| self.occurs(name, part)),
        }
    }
}

fn accepts_null(value: &Type) -> bool {
    use Type::{Duration, Null, Object, Opaque, Optional, Timestamp};
    matches!(value, Null | Object(_) | Opaque(_) | Optional(_) | Duration | Timestamp)
}

/// The one of two fitting types that says less.
pub(crate) fn most_general(one: &Type, two: &Type) -> Type {
    if says_no_more(one, two) { one.clone() } else { two.clone() }
}

fn says_no_more(one: &Type, two: &Type) -> bool {
    if one.is_dyn() || matches!(one, Type::Param(_)) {
        return true;
    }
    if two.is_dyn() || matches!(two, Type::Param(_)) {
        return false;
    }
    match (one, two) {
        (Type::TypeOf(_), Type::TypeOf(_)) => true,
        _ => {
            one.same_kind(two)
                && one.parameters().iter().zip(two.parameters()).all(|(one, two)| says_no_more(one, two))
        }
    }
}
