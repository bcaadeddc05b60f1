//! Makes a run from a seed: a list of requests over a few names of two or three kinds.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::kinds::KINDS;
use crate::mutate::Mutator;
use crate::op::{Op, Verb};
use crate::schema::Schemas;

const NAMES: [&str; 3] = ["one", "two", "three"];
const MANAGERS: [&str; 2] = ["left", "right"];

pub fn run(schemas: &Schemas, seed: u64, length: usize, only: Option<&str>) -> Vec<Op> {
    let mut rng = Rng::with_seed(seed);
    let kinds: Vec<usize> = match only {
        Some(kind) => (0..KINDS.len()).filter(|index| KINDS[*index].kind == kind).collect(),
        None => (0..rng.usize(1..4)).map(|_| rng.usize(0..KINDS.len())).collect(),
    };
    let mut ops: Vec<Op> = Vec::new();
    for position in 0..length {
        let kind = kinds[rng.usize(0..kinds.len())];
        ops.push(if position < 2 { create(schemas, kind, &mut rng, 0) } else { op(schemas, kind, &mut rng) });
    }
    for kind in kinds {
        ops.push(Op {
            verb: Verb::List,
            kind,
            name: String::new(),
            subresource: String::new(),
            query: vec![],
            body: None,
        });
        ops.push(watch(kind));
    }
    ops
}

/// Creates the valid object of a kind.
pub fn base(schemas: &Schemas, kind: usize, name: &str) -> Op {
    let body = object(schemas, kind, name, &mut Rng::with_seed(0), 0);
    Op {
        verb: Verb::Create,
        kind,
        name: name.to_owned(),
        subresource: String::new(),
        query: vec![],
        body: Some(body),
    }
}

/// One write of any verb.
pub fn write(schemas: &Schemas, kind: usize, rng: &mut Rng) -> Op {
    match rng.usize(0..10) {
        0..=3 => {
            let changes = rng.usize(1..4);
            create(schemas, kind, rng, changes)
        }
        4 | 5 => replace(schemas, kind, rng),
        6 => json_patch(schemas, kind, rng),
        7 => patch(schemas, kind, rng, Verb::MergePatch),
        8 if !KINDS[kind].custom => patch(schemas, kind, rng, Verb::StrategicPatch),
        _ => apply(schemas, kind, rng),
    }
}

fn watch(kind: usize) -> Op {
    let query = vec![
        ("watch".to_owned(), "true".to_owned()),
        ("resourceVersion".to_owned(), "${start}".to_owned()),
        ("timeoutSeconds".to_owned(), "1".to_owned()),
    ];
    Op { verb: Verb::Watch, kind, name: String::new(), subresource: String::new(), query, body: None }
}

fn op(schemas: &Schemas, kind: usize, rng: &mut Rng) -> Op {
    match rng.usize(0..20) {
        0..=4 => {
            let changes = rng.usize(0..4);
            create(schemas, kind, rng, changes)
        }
        5 => Op {
            verb: Verb::Get,
            kind,
            name: name(rng),
            subresource: subresource(kind, rng),
            query: vec![],
            body: None,
        },
        6 => list(kind, rng),
        7..=9 => replace(schemas, kind, rng),
        10 => json_patch(schemas, kind, rng),
        11 | 12 => patch(schemas, kind, rng, Verb::MergePatch),
        13 | 14 if !KINDS[kind].custom || rng.usize(0..10) == 0 => {
            patch(schemas, kind, rng, Verb::StrategicPatch)
        }
        13..=17 => apply(schemas, kind, rng),
        18 => delete(kind, rng),
        _ => collection(kind, rng),
    }
}

fn name(rng: &mut Rng) -> String {
    NAMES[rng.usize(0..NAMES.len())].to_owned()
}

fn subresource(kind: usize, rng: &mut Rng) -> String {
    let chosen = match rng.usize(0..8) {
        0 if KINDS[kind].status => "status",
        1 if KINDS[kind].scale => "scale",
        _ => "",
    };
    chosen.to_owned()
}

/// A whole object with `changes` changes.
fn object(schemas: &Schemas, kind: usize, name: &str, rng: &mut Rng, changes: usize) -> Value {
    let described = &KINDS[kind];
    let mut object = (described.base)();
    object["apiVersion"] = json!(described.api_version());
    object["kind"] = json!(described.kind);
    object["metadata"] = json!({"name": name, "labels": {"app": name}});
    let mutator = Mutator { schemas, kind: described };
    for _ in 0..changes {
        mutator.mutate(&mut object, rng);
    }
    object
}

fn write_query(rng: &mut Rng) -> Vec<(String, String)> {
    let mut query = Vec::new();
    if rng.usize(0..10) == 0 {
        query.push(("dryRun".to_owned(), "All".to_owned()));
    }
    if rng.usize(0..4) == 0 {
        query.push(("fieldValidation".to_owned(), ["Strict", "Warn", "Ignore"][rng.usize(0..3)].to_owned()));
    }
    query
}

fn create(schemas: &Schemas, kind: usize, rng: &mut Rng, changes: usize) -> Op {
    let name = name(rng);
    let body = object(schemas, kind, &name, rng, changes);
    Op {
        verb: Verb::Create,
        kind,
        name,
        subresource: String::new(),
        query: write_query(rng),
        body: Some(body),
    }
}

fn replace(schemas: &Schemas, kind: usize, rng: &mut Rng) -> Op {
    let name = name(rng);
    let changes = rng.usize(0..3);
    let mut body = object(schemas, kind, &name, rng, changes);
    if (KINDS[kind].custom || rng.bool()) && body["metadata"].is_object() {
        body["metadata"]["resourceVersion"] = json!(if rng.usize(0..12) == 0 { "1" } else { "${rv}" });
    }
    let mut subresource = subresource(kind, rng);
    if subresource == "scale" {
        body = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": name}, "spec": {"replicas": rng.i32(-1..5)}});
    } else if subresource == "status" {
        add_status(schemas, kind, &mut body, rng);
    } else {
        subresource = String::new();
    }
    Op { verb: Verb::Replace, kind, name, subresource, query: write_query(rng), body: Some(body) }
}

fn add_status(schemas: &Schemas, kind: usize, body: &mut Value, rng: &mut Rng) {
    let mut holder = json!({"status": {}});
    let mutator = Mutator { schemas, kind: &KINDS[kind] };
    for _ in 0..3 {
        mutator.mutate(&mut holder, rng);
    }
    body["status"] = holder["status"].clone();
}

/// Only what changes between a base object and a changed one, as a merge patch.
fn difference(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut patch = Map::new();
            for (key, value) in after {
                match before.get(key) {
                    Some(old) => {
                        if let Some(inner) = difference(old, value) {
                            patch.insert(key.clone(), inner);
                        }
                    }
                    None => {
                        patch.insert(key.clone(), value.clone());
                    }
                }
            }
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ => (before != after).then(|| after.clone()),
    }
}

fn patch(schemas: &Schemas, kind: usize, rng: &mut Rng, verb: Verb) -> Op {
    let name = name(rng);
    let before = object(schemas, kind, &name, rng, 0);
    let mut after = before.clone();
    let mutator = Mutator { schemas, kind: &KINDS[kind] };
    for _ in 0..rng.usize(1..4) {
        mutator.mutate(&mut after, rng);
    }
    let mut body = difference(&before, &after).unwrap_or_else(|| json!({}));
    let subresource = subresource(kind, rng);
    if subresource == "status" {
        add_status(schemas, kind, &mut body, rng);
    }
    Op { verb, kind, name, subresource, query: write_query(rng), body: Some(body) }
}

fn json_patch(schemas: &Schemas, kind: usize, rng: &mut Rng) -> Op {
    let name = name(rng);
    let mut changed = object(schemas, kind, &name, rng, 1);
    let before = object(schemas, kind, &name, rng, 0);
    if changed["metadata"].is_object() {
        changed["metadata"]["annotations"] = json!({"changed": "yes"});
    }
    let mut steps = Vec::new();
    for (key, value) in
        difference(&before, &changed).as_ref().and_then(Value::as_object).into_iter().flatten()
    {
        steps.push(match (rng.usize(0..4), value) {
            (_, Value::Null) => json!({"op": "remove", "path": format!("/{key}")}),
            (0, value) => json!({"op": "replace", "path": format!("/{key}"), "value": value}),
            (1, value) => json!({"op": "test", "path": format!("/{key}"), "value": value}),
            (_, value) => json!({"op": "add", "path": format!("/{key}"), "value": value}),
        });
    }
    // The whole metadata cannot be set; a label can.
    steps.retain(|step| step["path"] != "/metadata" || step["op"] == "test");
    steps.push(json!({"op": "add", "path": "/metadata/labels/patched", "value": "yes"}));
    Op {
        verb: Verb::JsonPatch,
        kind,
        name,
        subresource: String::new(),
        query: write_query(rng),
        body: Some(Value::Array(steps)),
    }
}

fn apply(schemas: &Schemas, kind: usize, rng: &mut Rng) -> Op {
    let name = name(rng);
    let changes = rng.usize(0..3);
    let mut body = object(schemas, kind, &name, rng, changes);
    // What one manager says is seldom the whole object.
    if let Some(spec) =
        body.get_mut("spec").and_then(Value::as_object_mut).filter(|spec| !spec.is_empty() && rng.bool())
    {
        let keys: Vec<String> = spec.keys().cloned().collect();
        spec.remove(&keys[rng.usize(0..keys.len())]);
    }
    let mut query = vec![("fieldManager".to_owned(), MANAGERS[rng.usize(0..MANAGERS.len())].to_owned())];
    if rng.usize(0..3) == 0 {
        query.push(("force".to_owned(), "true".to_owned()));
    }
    query.extend(write_query(rng));
    let mut subresource = subresource(kind, rng);
    if subresource == "status" {
        add_status(schemas, kind, &mut body, rng);
    } else {
        subresource = String::new();
    }
    Op { verb: Verb::Apply, kind, name, subresource, query, body: Some(body) }
}

fn delete(kind: usize, rng: &mut Rng) -> Op {
    let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    if rng.bool() {
        body["propagationPolicy"] = json!(["Foreground", "Background", "Orphan"][rng.usize(0..3)]);
    }
    if rng.usize(0..3) == 0 {
        body["preconditions"] = json!({"resourceVersion": "${rv}"});
    }
    if rng.usize(0..3) == 0 {
        body["gracePeriodSeconds"] = json!([0, 1, 30, -1][rng.usize(0..4)]);
    }
    Op {
        verb: Verb::Delete,
        kind,
        name: name(rng),
        subresource: String::new(),
        query: vec![],
        body: Some(body),
    }
}

fn list(kind: usize, rng: &mut Rng) -> Op {
    let mut query = Vec::new();
    match rng.usize(0..5) {
        0 => query.push(("limit".to_owned(), "1".to_owned())),
        1 => query.push((
            "labelSelector".to_owned(),
            ["app=one", "app!=one", "app in (one,two)", "!app", "app=("][rng.usize(0..5)].to_owned(),
        )),
        2 => query.push((
            "fieldSelector".to_owned(),
            [
                "metadata.name=one",
                "metadata.name!=one",
                "spec.color=red",
                "status.phase=Pending",
                "nothing=1",
            ][rng.usize(0..5)]
            .to_owned(),
        )),
        3 => query.push(("resourceVersion".to_owned(), "0".to_owned())),
        _ => {}
    }
    Op { verb: Verb::List, kind, name: String::new(), subresource: String::new(), query, body: None }
}

fn collection(kind: usize, rng: &mut Rng) -> Op {
    if rng.usize(0..2) == 0 {
        return delete(kind, rng);
    }
    let query = vec![("labelSelector".to_owned(), "app=one".to_owned())];
    Op {
        verb: Verb::DeleteCollection,
        kind,
        name: String::new(),
        subresource: String::new(),
        query,
        body: None,
    }
}
