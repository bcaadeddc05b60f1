//! The declared functions: a table of facts (`functions.txt`), read once.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::types::{Type, split_types};

/// One way to call a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub(crate) id: Arc<str>,
    pub(crate) member: bool,
    /// The first minor version of Kubernetes 1 that has it.
    pub(crate) minor: u32,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    pub(crate) generic: bool,
}

static TABLE: LazyLock<HashMap<&'static str, Vec<Arc<Overload>>>> = LazyLock::new(|| {
    let mut table: HashMap<&'static str, Vec<Arc<Overload>>> = HashMap::new();
    for line in include_str!("functions.txt").lines() {
        let columns: Vec<&str> = line.split(" | ").collect();
        let [name, id, style, minor, args, result] = columns[..] else { continue };
        let overload = Overload {
            id: id.into(),
            member: style == "M",
            minor: minor.parse().unwrap_or(u32::MAX),
            args: split_types(args),
            result: Type::read(result),
            generic: args.contains('<') || result.contains('<'),
        };
        table.entry(name).or_default().push(Arc::new(overload));
    }
    table
});

/// The overloads of `name` known to the version; empty if there is no such function.
pub(crate) fn find(name: &str, minor: u32, jsonpatch: bool) -> Vec<Arc<Overload>> {
    if name.starts_with("jsonpatch.") && !jsonpatch {
        return Vec::new();
    }
    let known = TABLE.get(name).map(Vec::as_slice).unwrap_or_default();
    known.iter().filter(|overload| overload.minor <= minor).cloned().collect()
}

/// All functions of a version, as `(name, overload id)`, in no order.
pub fn known_functions(minor: u32) -> Vec<(&'static str, Arc<str>)> {
    let mut all = Vec::new();
    for (name, overloads) in TABLE.iter() {
        for overload in overloads.iter().filter(|overload| overload.minor <= minor) {
            all.push((*name, overload.id.clone()));
        }
    }
    all
}
