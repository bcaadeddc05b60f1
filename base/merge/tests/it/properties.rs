//! Laws on random objects, sets and patches. A failure prints its seed.

use std::sync::Arc;

use dodai_merge::fields::{Path, Set, Step};
use dodai_merge::managed::{self, Request};
use dodai_merge::schema::Schema;
use dodai_merge::strategic;
use dodai_merge::typed::{Duplicates, Typed};
use dodai_merge::update::SameInAllVersions;
use dodai_merge::value;
use serde_json::{Map, Value, json};

use crate::openapi::schema;

/// A small generator (splitmix64): a dependency for this would be too much.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

fn seeds(count: u64) -> impl Iterator<Item = (u64, Random)> {
    (0..count).map(|seed| (seed, Random(seed)))
}

/// A valid Deployment, without duplicates.
fn deployment(random: &mut Random) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
    let strings = |random: &mut Random| -> Value {
        let mut map = Map::new();
        for key in ["a", "b", "c"] {
            if random.chance(50) {
                map.insert(key.into(), (*random.pick(&["1", "2"])).into());
            }
        }
        Value::Object(map)
    };
    if random.chance(50) {
        object["metadata"]["labels"] = strings(random);
    }
    if random.chance(40) {
        let mut all = vec!["x", "y", "z"];
        all.rotate_left(random.below(3));
        all.truncate(random.below(4));
        object["metadata"]["finalizers"] = json!(all);
    }
    if random.chance(80) {
        object["spec"] = json!({});
        if random.chance(50) {
            object["spec"]["replicas"] = json!(random.below(3));
        }
        if random.chance(30) {
            object["spec"]["selector"] = json!({"matchLabels": strings(random)});
        }
        let mut containers = Vec::new();
        let mut names = vec!["a", "b", "c"];
        names.rotate_left(random.below(3));
        for name in names {
            if random.chance(40) {
                continue;
            }
            let mut container = json!({"name": name});
            if random.chance(50) {
                container["image"] = json!(random.pick(&["i", "j"]));
            }
            if random.chance(30) {
                container["args"] = json!(vec!["x"; random.below(3)]);
            }
            if random.chance(40) {
                container["ports"] =
                    json!([{"containerPort": random.below(2)}, {"containerPort": 7, "protocol": "UDP"}]);
            }
            containers.push(container);
        }
        if random.chance(70) {
            object["spec"]["template"] = json!({"spec": {"containers": containers}});
        }
    }
    object
}

fn request<'a>(schema: &'a Schema, manager: &'a str, time: &'a str) -> Request<'a> {
    Request {
        schema,
        api_version: "apps/v1",
        subresource: "",
        manager,
        time,
        reset_fields: None,
        empty: None,
        converter: &SameInAllVersions,
    }
}

#[test]
fn applying_twice_is_applying_once() {
    let schema = schema("Deployment");
    for (seed, mut random) in seeds(400) {
        let mut live = None;
        for step in 0..6 {
            let manager = *random.pick(&["m1", "m2", "m3"]);
            let config = deployment(&mut random);
            let time = format!("2026-01-31T10:00:{step:02}Z");
            let request = request(&schema, manager, &time);
            if random.chance(30) {
                let mut new = config.clone();
                if random.chance(50) {
                    let old = live.as_ref().and_then(|live: &Value| live.pointer("/metadata/managedFields"));
                    if let Some(old) = old {
                        new["metadata"]["managedFields"] = old.clone();
                    }
                }
                live = Some(managed::update(live.as_ref(), new, &request));
                continue;
            }
            let apply = |live: Option<&Value>, force: bool, request: &Request| {
                let mut object = managed::apply(live, &config, force, request).unwrap();
                drop_nulls(&mut object);
                object
            };
            let once = apply(live.as_ref(), true, &request);
            let later = Request { time: "2026-01-31T11:00:00Z", ..request };
            let quirk = has_empty(&config) || once.pointer("/metadata/managedFields").is_none();
            let mut twice = apply(Some(&once), quirk, &later);
            // An empty map or list that is applied where pruning emptied one is seen only by a later apply, and an
            // object of which nobody owns anything is not tracked until then; as upstream.
            if quirk {
                twice = apply(Some(&apply(Some(&twice), true, &later)), true, &later);
                assert_eq!(twice, apply(Some(&twice), true, &later), "seed {seed} step {step}");
            } else {
                assert_eq!(once, twice, "seed {seed} step {step}");
            }
            holds(&twice, &config, &schema, seed);
            live = Some(twice);
        }
    }
}

/// What a server does before it stores: where nothing is left of a map or list, there is null.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn has_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty() || map.values().any(has_empty),
        Value::Array(list) => list.is_empty() || list.iter().any(has_empty),
        _ => false,
    }
}

/// The new object holds all that was applied.
fn holds(object: &Value, config: &Value, schema: &Schema, seed: u64) {
    let typed = |value: &Value| {
        let mut value = value.clone();
        managed::clear(&mut value);
        Typed::parse(Arc::new(value), schema, "apps/v1", Duplicates::Refused).unwrap()
    };
    let comparison = typed(object).compare(&typed(config)).unwrap();
    assert!(comparison.added.is_empty() && comparison.modified.is_empty(), "seed {seed}: {comparison:?}");
}

#[test]
fn merging_and_comparing_agree() {
    let schema = schema("Deployment");
    for (seed, mut random) in seeds(1000) {
        let (a, b) = (deployment(&mut random), deployment(&mut random));
        let typed = |value: &Value| {
            Typed::parse(Arc::new(value.clone()), &schema, "v1", Duplicates::Refused).unwrap()
        };
        let (a, b) = (typed(&a), typed(&b));
        assert!(a.compare(&a).unwrap().is_same(), "seed {seed}");
        let merged = a.merge(&b).unwrap();
        // Nothing that either side has is missing, and nothing but the right side's leaves differ from the left.
        assert!(merged.merge(&b).unwrap().equals(&merged), "seed {seed}");
        assert!(a.compare(&merged).unwrap().removed.is_empty(), "seed {seed}");
        let there = a.compare(&b).unwrap();
        assert!(there.added.intersection(&there.removed).is_empty(), "seed {seed}");
        assert!(there.removed.intersection(&b.to_set()).is_empty(), "seed {seed}");
        // An element of a list is removed with its name.
        let nothing = a.without(&a.to_set().with_named_parents(&schema, schema.root()));
        assert!(nothing.to_set().is_empty(), "seed {seed}: {}", nothing.value);
    }
}

fn set(random: &mut Random) -> Set {
    let steps = [
        Step::field("a"),
        Step::field("b"),
        Step::key([("name".to_owned(), json!("x"))]),
        Step::key([("port".to_owned(), json!(1)), ("protocol".to_owned(), json!("TCP"))]),
        Step::Value(json!(1)),
        Step::Value(json!(1.5)),
        Step::Value(json!("x")),
        Step::Index(0),
    ];
    let path =
        |random: &mut Random| Path((0..=random.below(3)).map(|_| random.pick(&steps).clone()).collect());
    (0..random.below(12)).map(|_| path(random)).collect()
}

#[test]
fn sets_obey_their_laws() {
    for (seed, mut random) in seeds(1000) {
        let (a, b, c) = (set(&mut random), set(&mut random), set(&mut random));
        assert_eq!(a.union(&b), b.union(&a), "seed {seed}");
        assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)), "seed {seed}");
        assert_eq!(a.intersection(&b), b.intersection(&a), "seed {seed}");
        assert_eq!(a.difference(&b).union(&a.intersection(&b)), a, "seed {seed}");
        assert!(a.difference(&b).intersection(&b).is_empty(), "seed {seed}");
        assert_eq!(a.difference(&a), Set::new(), "seed {seed}");
        assert_eq!(a.union(&b).difference(&b), a.difference(&b), "seed {seed}");
        assert_eq!(a.union(&b).len() + a.intersection(&b).len(), a.len() + b.len(), "seed {seed}");
        assert_eq!(a.recursive_difference(&b).difference(&b), a.recursive_difference(&b), "seed {seed}");
        assert_eq!(Set::from_json(&a.to_json()), Ok(a.clone()), "seed {seed}");
        assert_eq!(Set::from_json_str(&a.to_json_string()), Ok(a.clone()), "seed {seed}");
        assert_eq!(a.paths().into_iter().collect::<Set>(), a, "seed {seed}");
        assert!(a.paths().iter().all(|path| a.has(&path.0)), "seed {seed}");
    }
}

/// Any JSON, with the names and directives that patches know.
fn junk(random: &mut Random, depth: usize) -> Value {
    let names = [
        "spec",
        "template",
        "containers",
        "name",
        "ports",
        "containerPort",
        "metadata",
        "labels",
        "finalizers",
        "a",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$setElementOrder/finalizers",
        "$deleteFromPrimitiveList/finalizers",
        "$setElementOrder/",
        "managedFields",
        "conditions",
        "status",
    ];
    match random.below(if depth == 0 { 6 } else { 12 }) {
        0 => Value::Null,
        1 => json!(random.chance(50)),
        2 => json!(random.below(3)),
        3 => json!(1.5),
        4 => json!(random.pick(&["a", "b", "delete", "replace", "merge", ""])),
        5 => json!([]),
        6 | 7 => (0..random.below(4)).map(|_| junk(random, depth - 1)).collect(),
        _ => {
            let members =
                (0..random.below(5)).map(|_| ((*random.pick(&names)).to_owned(), junk(random, depth - 1)));
            Value::Object(members.collect())
        }
    }
}

#[test]
fn nonsense_does_not_panic() {
    let schemas = [schema("Deployment"), schema("ConfigMap"), schema("Tree"), Schema::deduced()];
    for (seed, mut random) in seeds(4000) {
        let schema = random.pick(&schemas);
        let valid = deployment(&mut random);
        let (a, b) = (junk(&mut random, 6), junk(&mut random, 6));
        let original = if random.chance(50) { &valid } else { &a };
        let _ = strategic::patch(original, &b, schema);
        let typed = |value: &Value| Typed::unchecked(Arc::new(value.clone()), schema, "v1");
        let (a_typed, b_typed) = (typed(original), typed(&b));
        let _ = a_typed.merge(&b_typed);
        let _ = a_typed.compare(&b_typed);
        let _ = a_typed.without(&b_typed.to_set());
        let _ = a_typed.extract_with_keys(&b_typed.to_set());
        let _ = Set::from_json(&b);
        let request = request(schema, "m", "2026-01-31T10:00:00Z");
        let _ = managed::apply(Some(original), &b, true, &request);
        let _ = managed::update(Some(original), b.clone(), &request);
        assert!(value::equal(&b, &b), "seed {seed}");
    }
}

#[test]
fn a_strategic_patch_applied_twice_changes_nothing_more() {
    let schema = schema("Deployment");
    for (seed, mut random) in seeds(2000) {
        let (original, patch) = (deployment(&mut random), deployment(&mut random));
        let once = strategic::patch(&original, &patch, &schema).unwrap();
        let twice = strategic::patch(&once, &patch, &schema).unwrap();
        assert_eq!(once, twice, "seed {seed}: {original} {patch}");
    }
}
