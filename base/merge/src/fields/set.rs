//! The set of paths and its operations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::path::{Path, Step};
use crate::schema::{Schema, TypeRef};

/// A set of paths. A path may be in the set without what is below it, and the reverse.
///
/// No child is ever empty, so equality of the tries is equality of the sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    pub(super) members: BTreeSet<Step>,
    pub(super) children: BTreeMap<Step, Set>,
}

impl Set {
    pub fn new() -> Set {
        Set::default()
    }

    /// Adds a path; the empty path adds nothing.
    pub fn insert(&mut self, path: &[Step]) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut node = self;
        for step in parents {
            node = node.children.entry(step.clone()).or_default();
        }
        node.members.insert(last.clone());
    }

    /// Whether exactly this path is a member.
    pub fn has(&self, path: &[Step]) -> bool {
        let Some((last, parents)) = path.split_last() else { return false };
        let mut node = self;
        for step in parents {
            match node.children.get(step) {
                Some(child) => node = child,
                None => return false,
            }
        }
        node.members.contains(last)
    }

    /// Whether this step is a member.
    pub fn has_step(&self, step: &Step) -> bool {
        self.members.contains(step)
    }

    /// What is below a step, if anything.
    pub fn below(&self, step: &Step) -> Option<&Set> {
        self.children.get(step)
    }

    /// The steps with something below them.
    pub fn children(&self) -> impl Iterator<Item = (&Step, &Set)> {
        self.children.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len() + self.children.values().map(Set::len).sum::<usize>()
    }

    /// All members: those of a node in order, then those below it.
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<Step>, paths: &mut Vec<Path>) {
        for step in &self.members {
            let mut path = prefix.clone();
            path.push(step.clone());
            paths.push(Path(path));
        }
        for (step, child) in &self.children {
            prefix.push(step.clone());
            child.collect(prefix, paths);
            prefix.pop();
        }
    }

    pub fn union(&self, other: &Set) -> Set {
        let mut result = self.clone();
        result.extend(other);
        result
    }

    /// Adds all members of `other`.
    pub fn extend(&mut self, other: &Set) {
        self.members.extend(other.members.iter().cloned());
        for (step, child) in &other.children {
            self.children.entry(step.clone()).or_default().extend(child);
        }
    }

    pub fn intersection(&self, other: &Set) -> Set {
        let mut result = Set {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: BTreeMap::new(),
        };
        for (step, child) in &self.children {
            if let Some(there) = other.children.get(step) {
                result.put(step, child.intersection(there));
            }
        }
        result
    }

    /// The members that are not in `other`, each path for itself.
    pub fn difference(&self, other: &Set) -> Set {
        let mut result = Set {
            members: self.members.difference(&other.members).cloned().collect(),
            children: BTreeMap::new(),
        };
        for (step, child) in &self.children {
            match other.children.get(step) {
                Some(there) => result.put(step, child.difference(there)),
                None => result.put(step, child.clone()),
            }
        }
        result
    }

    /// The members that are neither in `other` nor below a member of it.
    pub fn recursive_difference(&self, other: &Set) -> Set {
        let mut result = Set {
            members: self.members.difference(&other.members).cloned().collect(),
            children: BTreeMap::new(),
        };
        for (step, child) in &self.children {
            if other.members.contains(step) {
                continue;
            }
            match other.children.get(step) {
                Some(there) => result.put(step, child.recursive_difference(there)),
                None => result.put(step, child.clone()),
            }
        }
        result
    }

    /// The members with no member below them.
    pub fn leaves(&self) -> Set {
        let members =
            self.members.iter().filter(|step| !self.children.contains_key(*step)).cloned().collect();
        let children = self.children.iter().map(|(step, child)| (step.clone(), child.leaves())).collect();
        Set { members, children }
    }

    /// Adds the parents of members where the parent is a field that the type declares by name, so that a struct is
    /// a member wherever one of its fields is.
    pub fn with_named_parents(&self, schema: &Schema, reference: &TypeRef) -> Set {
        let resolved = schema.resolve(reference).unwrap_or_default();
        let mut result = Set { members: self.members.clone(), children: BTreeMap::new() };
        let unknown = TypeRef::opaque();
        for (step, child) in &self.children {
            let mut below = &unknown;
            match (step, resolved.map, resolved.list) {
                (Step::Field(name), Some(map), _) => {
                    if map.map.fields.contains_key(&**name) {
                        result.members.insert(step.clone());
                    }
                    below = map.field(name).unwrap_or(&unknown);
                }
                (Step::Key(_) | Step::Value(_) | Step::Index(_), _, Some(list)) => below = list.element,
                _ => {}
            }
            result.children.insert(step.clone(), child.with_named_parents(schema, below));
        }
        result
    }

    pub(super) fn put(&mut self, step: &Step, child: Set) {
        if !child.is_empty() {
            self.children.insert(step.clone(), child);
        }
    }
}

impl FromIterator<Path> for Set {
    fn from_iter<I: IntoIterator<Item = Path>>(paths: I) -> Set {
        let mut set = Set::new();
        for path in paths {
            set.insert(&path.0);
        }
        set
    }
}

/// One path a line.
impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.paths().iter().enumerate() {
            write!(f, "{}{path}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
