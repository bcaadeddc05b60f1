//! Patterns of paths, to keep only what one of them covers.

use std::collections::BTreeMap;

use super::path::Step;
use super::set::Set;

/// Keeps the paths that lead to a pattern and all that are below one.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// A pattern ends here: everything below is covered.
    end: bool,
    steps: BTreeMap<Step, Matcher>,
    /// Stands for any step, and then alone: the named steps beside it are not looked at.
    any: Option<Box<Matcher>>,
}

impl Matcher {
    /// Patterns; `None` is any step.
    pub fn new(patterns: impl IntoIterator<Item = Vec<Option<Step>>>) -> Matcher {
        let mut root = Matcher::default();
        for pattern in patterns {
            let mut node = &mut root;
            for step in pattern {
                node = match step {
                    Some(step) => node.steps.entry(step).or_default(),
                    None => node.any.get_or_insert_default(),
                };
            }
            node.end = true;
        }
        root
    }

    pub fn filter(&self, set: &Set) -> Set {
        if self.end {
            return set.clone();
        }
        let mut result = Set::new();
        result.members = set.members.iter().filter(|step| self.next(step).is_some()).cloned().collect();
        for (step, child) in &set.children {
            if let Some(next) = self.next(step) {
                result.put(step, next.filter(child));
            }
        }
        result
    }

    fn next(&self, step: &Step) -> Option<&Matcher> {
        self.any.as_deref().or_else(|| self.steps.get(step))
    }
}
