//! Which file and which step of a build gave an object a value. Only kept when somebody asks.

use serde_json::Value;

use super::json;
use super::names;
use super::resource::Resource;
use super::world::World;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub kind: String,
    /// The name in the result.
    pub name: String,
}

/// What happened to an object.
#[derive(Clone, Debug)]
pub(crate) struct History {
    last: Value,
    events: Vec<Event>,
}

/// One step that changed an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// File of the kustomization, or the file that the object was read from.
    pub file: String,
    /// Field of the kustomization, with what it does; `read`, `generated`.
    pub step: String,
    pub changes: Vec<Change>,
}

/// One value that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// `spec.template.spec.containers[0].image`
    pub path: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// The story of one object of the result.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub object: Value,
    pub events: Vec<Event>,
}

/// Notes what a step did to the objects that are asked for.
pub(crate) fn note(world: &World, objects: &mut [Resource], file: &str, step: &str) {
    let Some(wanted) = world.explains() else { return };
    for resource in objects.iter_mut().filter(|resource| *resource.kind() == *wanted.kind) {
        let now = visible(resource);
        match &mut resource.history {
            None => {
                let (file, step) = match &resource.source {
                    Some(source) => (format!("{}:{}", source.file, source.line), "read".to_owned()),
                    None => (file.to_owned(), step.to_owned()),
                };
                let event = Event { file, step, changes: Vec::new() };
                resource.history = Some(Box::new(History { last: now, events: vec![event] }));
            }
            Some(history) => {
                let mut changes = Vec::new();
                compare(&history.last, &now, &mut String::new(), &mut changes);
                if !changes.is_empty() {
                    history.last = now;
                    history.events.push(Event { file: file.to_owned(), step: step.to_owned(), changes });
                }
            }
        }
    }
}

/// The object without the notes of the build.
fn visible(resource: &Resource) -> Value {
    let mut value = json::to_json(&resource.tree).unwrap_or(Value::Null);
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else { return value };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
        return value;
    };
    annotations.retain(|key, _| !names::BUILD_ANNOTATIONS.contains(&key.as_str()));
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    value
}

fn compare(before: &Value, after: &Value, path: &mut String, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let len = path.len();
                push_key(path, key);
                match (old.get(key), new.get(key)) {
                    (Some(old), Some(new)) => compare(old, new, path, changes),
                    (old, new) => record(path, old, new, changes),
                }
                path.truncate(len);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                let len = path.len();
                path.push_str(&format!("[{i}]"));
                compare(old, new, path, changes);
                path.truncate(len);
            }
        }
        _ => record(path, Some(before), Some(after), changes),
    }
}

fn record(path: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    changes.push(Change { path: path.to_owned(), before: before.cloned(), after: after.cloned() });
}

fn push_key(path: &mut String, key: &str) {
    let simple = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if simple {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    } else {
        path.push_str(&format!("[\"{key}\"]"));
    }
}

impl Explanation {
    pub(crate) fn of(resource: &Resource, object: Value) -> Explanation {
        let events = resource.history.as_ref().map(|history| history.events.clone()).unwrap_or_default();
        Explanation { object, events }
    }

    /// The events that touched a field, or something above or below it; the first event made the object.
    pub fn of_field(&self, field: &str) -> Vec<&Event> {
        let touches = |change: &Change| {
            let below = |a: &str, b: &str| {
                a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            below(&change.path, field) || below(field, &change.path)
        };
        self.events
            .iter()
            .enumerate()
            .filter(|(i, event)| *i == 0 || event.changes.iter().any(touches))
            .map(|(_, event)| event)
            .collect()
    }
}
