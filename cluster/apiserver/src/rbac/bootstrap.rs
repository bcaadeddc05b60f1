//! The roles and bindings that every server has, from `data/rbac.jsonl` (taken from a real server).
//!
//! A new store gets them all; at a later start what is missing comes back, and a role gets the rules that it lacks
//! unless its annotation `rbac.authorization.kubernetes.io/autoupdate` is `false`. Upstream does the same.

use serde_json::{Value, json};

use super::{GROUP, Rule};
use crate::server::Server;
use crate::store::Key;
use crate::write::now;

const OBJECTS: &str = include_str!("../../data/rbac.jsonl");
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

fn plural(kind: &str) -> &'static str {
    match kind {
        "ClusterRole" => "clusterroles",
        "ClusterRoleBinding" => "clusterrolebindings",
        "Role" => "roles",
        _ => "rolebindings",
    }
}

fn object(entry: &Value, time: &str) -> Value {
    let mut meta = json!({
        "name": entry["name"], "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": time,
        "annotations": { AUTO_UPDATE: "true" },
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
    });
    if let Some(namespace) = entry["namespace"].as_str() {
        meta["namespace"] = namespace.into();
    }
    for (label, value) in entry["labels"].as_object().into_iter().flatten() {
        meta["labels"][label] = value.clone();
    }
    let mut object = json!({ "metadata": meta });
    for field in ["aggregationRule", "roleRef", "subjects"] {
        if !entry[field].is_null() {
            object[field] = entry[field].clone();
        }
    }
    if entry["roleRef"].is_null() {
        object["rules"] = entry["rules"].clone();
    }
    object
}

/// Adds the rules that a role lacks; `None` if it lacks none.
fn update(current: &Value, entry: &Value) -> Option<Value> {
    if current["metadata"]["annotations"][AUTO_UPDATE] != "true" {
        return None;
    }
    let held = Rule::read_all(&current["rules"]);
    let lacking = |rule: &&Value| {
        let parts = Rule::read(rule).split();
        !parts.iter().all(|part| held.iter().any(|held| held.covers(part)))
    };
    let added: Vec<Value> =
        entry["rules"].as_array().into_iter().flatten().filter(lacking).cloned().collect();
    if added.is_empty() {
        return None;
    }
    let mut changed = current.clone();
    let mut rules = current["rules"].as_array().cloned().unwrap_or_default();
    rules.extend(added);
    changed["rules"] = rules.into();
    Some(changed)
}

/// What is missing or lacks something, as it should be.
pub(crate) fn wanted(server: &Server) -> Vec<(Key, Value)> {
    let time = now();
    let mut wanted = Vec::new();
    for line in OBJECTS.lines() {
        let entry: Value = serde_json::from_str(line).expect("the table of roles is sound");
        let kind = entry["kind"].as_str().unwrap_or_default();
        let resource = format!("{GROUP}/{}", plural(kind)).into();
        let namespace = entry["namespace"].as_str().unwrap_or_default();
        let key = Key::new(&resource, namespace, entry["name"].as_str().unwrap_or_default());
        let object = match server.store.get_head(&key) {
            None => Some(object(&entry, &time)),
            Some(current) => update(&current.value(), &entry),
        };
        wanted.extend(object.map(|object| (key, object)));
    }
    wanted
}
