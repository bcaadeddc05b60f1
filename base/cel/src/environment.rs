//! What an expression may use: variables with types, and the libraries of a version of Kubernetes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::Type;
use crate::value::Value;

/// The newest minor version of Kubernetes whose libraries are known.
pub const MINOR_MAX: u32 = 36;

/// Variables and libraries an expression is compiled for.
#[derive(Clone, Debug)]
pub struct Environment {
    pub(crate) minor: u32,
    pub(crate) jsonpatch: bool,
    pub(crate) variables: BTreeMap<Arc<str>, Type>,
}

impl Environment {
    /// The base environment of Kubernetes `1.<minor>`, without variables.
    pub fn new(minor: u32) -> Environment {
        Environment { minor, jsonpatch: false, variables: BTreeMap::new() }
    }

    /// Adds a variable.
    pub fn with(mut self, name: &str, declared: Type) -> Environment {
        self.variables.insert(name.into(), declared);
        self
    }

    /// Adds `authorizer` (see `Value::authorizer`).
    pub fn with_authorizer(self) -> Environment {
        self.with("authorizer", Type::read("kubernetes.authorization.Authorizer"))
    }

    /// Adds the functions only mutating policies have (`jsonpatch.escapeKey`).
    pub fn with_jsonpatch(mut self) -> Environment {
        self.jsonpatch = true;
        self
    }
}

/// Values of the variables for one evaluation.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    values: BTreeMap<Arc<str>, Value>,
}

impl Bindings {
    /// No values.
    pub fn new() -> Bindings {
        Bindings::default()
    }

    /// Adds a value.
    pub fn with(mut self, name: &str, value: Value) -> Bindings {
        self.values.insert(name.into(), value);
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }
}
