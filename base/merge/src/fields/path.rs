//! A step into an object, and paths of steps.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use super::name::Name;
use crate::value;

/// One step into a map or a list. The order is the one of `FieldsV1`.
#[derive(Debug, Clone)]
pub enum Step {
    /// Member of a map or struct (`f:`).
    Field(Name),
    /// Element of a list of maps, by its key fields, which are sorted by name (`k:`).
    Key(Vec<(String, Value)>),
    /// Element of a set, by its value (`v:`).
    Value(Value),
    /// Element of a list by its position (`i:`).
    Index(i64),
}

impl Step {
    pub fn field(name: &str) -> Step {
        Step::Field(name.into())
    }

    /// An element of a list of maps; the fields may come in any order.
    pub fn key(fields: impl IntoIterator<Item = (String, Value)>) -> Step {
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Step::Key(fields)
    }

    fn rank(&self) -> u8 {
        match self {
            Step::Field(_) => 0,
            Step::Key(_) => 1,
            Step::Value(_) => 2,
            Step::Index(_) => 3,
        }
    }
}

impl Ord for Step {
    fn cmp(&self, other: &Step) -> Ordering {
        match (self, other) {
            (Step::Field(a), Step::Field(b)) => a.cmp(b),
            (Step::Key(a), Step::Key(b)) => compare_keys(a, b),
            (Step::Value(a), Step::Value(b)) => value::compare(a, b),
            (Step::Index(a), Step::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

fn compare_keys(a: &[(String, Value)], b: &[(String, Value)]) -> Ordering {
    for ((a_name, a), (b_name, b)) in a.iter().zip(b) {
        let order = a_name.cmp(b_name).then_with(|| value::compare(a, b));
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Step) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Step) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Step {}

/// As in messages: `.spec`, `[name="web"]`, `[="value"]`, `[0]`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        match self {
            Step::Field(name) => return write!(f, ".{name}"),
            Step::Index(index) => return write!(f, "[{index}]"),
            Step::Key(fields) => {
                for (index, (name, value)) in fields.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    text.push_str(name);
                    text.push('=');
                    value::write_display(value, &mut text);
                }
            }
            Step::Value(value) => {
                text.push('=');
                value::write_display(value, &mut text);
            }
        }
        write!(f, "[{text}]")
    }
}

/// Steps from the root of an object. The empty path is the object itself and is never a member of a set.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// A path of fields: `Path::fields(["metadata", "name"])`.
    pub fn fields<'a>(names: impl IntoIterator<Item = &'a str>) -> Path {
        Path(names.into_iter().map(Step::field).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| step.fmt(f))
    }
}
