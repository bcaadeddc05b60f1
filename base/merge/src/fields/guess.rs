//! The field set of a value of unknown type.

use serde_json::Value;

use super::path::Step;
use super::set::Set;

/// Fields that look like keys of a list of maps.
const LIKELY_KEYS: [&str; 3] = ["key", "id", "name"];

impl Set {
    /// The paths of all leaves, without a schema: elements of lists are named by `key`, `id` and `name` where they
    /// have such members, else by position. For tools and tests; a server has schemas.
    pub fn guess(value: &Value) -> Set {
        let mut set = Set::new();
        visit(value, &mut Vec::new(), &mut set);
        set
    }
}

fn visit(value: &Value, path: &mut Vec<Step>, set: &mut Set) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                path.push(Step::field(name));
                visit(value, path, set);
                path.pop();
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                path.push(name(index, element));
                visit(element, path, set);
                path.pop();
            }
        }
        _ => set.insert(path),
    }
}

fn name(index: usize, element: &Value) -> Step {
    let keys = LIKELY_KEYS.iter().filter_map(|key| Some(((*key).to_owned(), element.get(key)?.clone())));
    match Step::key(keys) {
        Step::Key(fields) if fields.is_empty() => Step::Index(index as i64),
        step => step,
    }
}
