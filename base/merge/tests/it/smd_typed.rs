//! Upstream's suites of typed values, of field sets with their JSON form, and of the order of values.

use std::cmp::Ordering;
use std::path::Path as File;
use std::sync::Arc;

use dodai_merge::fields::{Matcher, Path, Set, Step};
use dodai_merge::schema::Schema;
use dodai_merge::typed::{Comparison, Duplicates, Typed};
use dodai_merge::update::{self, Managers, Owned};
use dodai_merge::value;
use serde_json::Value;

use crate::support::{Judge, json, lines, same, smd_schema, suite, text, with_root};

const SUITE: &str = "smd-typed";

/// Runs one file of the suite.
fn each(part: &str, run: impl Fn(&File, &Value) -> Result<(), String>) {
    let Some(folder) = suite(SUITE) else { return };
    let mut judge = Judge::new(SUITE, part);
    for case in lines(&folder.join(format!("{part}.jsonl"))) {
        judge.case(text(&case, "name"), run(&folder, &case));
    }
    judge.finish();
}

fn schema(folder: &File, case: &Value, member: &str) -> Schema {
    let file = folder.join("schemas").join(format!("{}.json", text(case, member)));
    with_root(&smd_schema(&json(&file)), text(case, "type"))
}

fn parse(folder: &File, case: &Value, member: &str, duplicates: Duplicates) -> Result<Typed, String> {
    let value = Arc::new(case[member].clone());
    Typed::parse(value, &schema(folder, case, "schema"), "v1", duplicates).map_err(|error| error.to_string())
}

fn lenient(folder: &File, case: &Value, member: &str) -> Result<Typed, String> {
    parse(folder, case, member, Duplicates::Allowed)
}

/// A set given as an object, or as its exact text.
fn set(value: &Value) -> Set {
    match value {
        Value::String(text) => Set::from_json_str(text).unwrap(),
        json => Set::from_json(json).unwrap(),
    }
}

/// Compares with the exact text where the data has one.
fn same_set(what: &str, got: &Set, want: &Value) -> Result<(), String> {
    match want {
        Value::String(text) => same(what, &got.to_json_string(), text),
        json => same(what, got, &set(json)),
    }
}

fn same_paths(got: &Set, want: &Value) -> Result<(), String> {
    let got: Vec<String> = got.paths().iter().map(Path::to_string).collect();
    let want: Vec<String> =
        want.as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect();
    same("paths", &got, &want)
}

fn step(key: &str) -> Step {
    Step::from_json_key(key).unwrap().unwrap()
}

#[test]
fn values_are_accepted_as_upstream_accepts_them() {
    each("typed/validate", |folder, case| {
        for (member, duplicates) in
            [("strict", Duplicates::Refused), ("allowDuplicates", Duplicates::Allowed)]
        {
            let result = parse(folder, case, "object", duplicates);
            if result.is_ok() != case[member].as_bool().unwrap() {
                return Err(format!("{member}: {:?}, want {}", result.map(|_| ()), case[member]));
            }
        }
        Ok(())
    });
}

#[test]
fn merging_gives_upstreams_values() {
    each("typed/merge", |folder, case| {
        let (left, right) = (lenient(folder, case, "lhs")?, parse(folder, case, "rhs", Duplicates::Refused)?);
        let merged = left.merge(&right).map_err(|error| error.to_string())?;
        same("merged", &*merged.value, &case["result"])
    });
}

#[test]
fn comparing_gives_upstreams_sets_in_both_directions() {
    each("typed/compare", |folder, case| {
        let (left, right) = (lenient(folder, case, "lhs")?, lenient(folder, case, "rhs")?);
        let there = left.compare(&right).map_err(|error| error.to_string())?;
        same("added", &there.added, &set(&case["added"]))?;
        same("modified", &there.modified, &set(&case["modified"]))?;
        same("removed", &there.removed, &set(&case["removed"]))?;
        let back = right.compare(&left).map_err(|error| error.to_string())?;
        let want = Comparison { added: there.removed, modified: there.modified, removed: there.added };
        same("back", &back, &want)
    });
}

#[test]
fn values_have_upstreams_field_sets() {
    each("typed/to-set", |folder, case| {
        let got = lenient(folder, case, "object")?.to_set();
        same_set("set", &got, &case["set"])?;
        same_paths(&got, &case["paths"])
    });
}

#[test]
fn items_are_removed_and_extracted_as_upstream_does() {
    each("typed/remove-extract", |folder, case| {
        let (object, items) = (lenient(folder, case, "object")?, set(&case["set"]));
        same("removed", &*object.without(&items).value, &case["removed"])?;
        same("extracted", &*object.extract(&items).value, &case["extracted"])
    });
    each("typed/extract-with-keys", |folder, case| {
        let (object, items) = (lenient(folder, case, "object")?, set(&case["set"]));
        same("plain", &*object.extract(&items).value, &case["extractedPlain"])?;
        same("with keys", &*object.extract_with_keys(&items).value, &case["extractedWithKeys"])
    });
    each("typed/reversible-extract", |folder, case| {
        let (object, partial) = (lenient(folder, case, "object")?, lenient(folder, case, "partial")?);
        let merged = object.merge(&partial).map_err(|error| error.to_string())?;
        same("merged", &*merged.value, &case["merged"])?;
        same_set("set", &partial.to_set(), &case["partialSet"])?;
        let leaves = partial.to_set().leaves();
        same_set("leaves", &leaves, &case["leaves"])?;
        same("extracted", &*merged.extract(&leaves).value, &case["extracted"])
    });
}

#[test]
fn sets_are_reconciled_with_a_changed_schema() {
    each("typed/reconcile", |folder, case| {
        let schema = schema(folder, case, "newSchema");
        let live = Typed::parse(Arc::new(case["live"].clone()), &schema, "v1", Duplicates::Refused);
        let got =
            live.and_then(|live| live.reconcile(&set(&case["fields"]))).map_err(|error| error.to_string())?;
        let want = (case["changed"] == true).then(|| set(&case["result"]));
        same("result", &got, &want)
    });
}

#[test]
fn fields_are_excluded_from_a_comparison() {
    each("typed/exclude-fields", |_, case| {
        let read = |case: &Value| Comparison {
            added: set(&case["added"]),
            modified: set(&case["modified"]),
            removed: set(&case["removed"]),
        };
        same("result", &read(case).exclude(&set(&case["exclude"])), &read(&case["result"]))
    });
}

#[test]
fn field_sets_are_read_and_written_byte_for_byte() {
    each("fieldpath/set-roundtrip", |_, case| {
        match (Set::from_json_str(text(case, "input")), text(case, "status")) {
            (Err(_), "error") => Ok(()),
            (Ok(got), "ok") => {
                same_set("serialized", &got, &case["serialized"])?;
                same_paths(&got, &case["paths"])?;
                same("through a value", &Set::from_json(&got.to_json()).unwrap(), &got)
            }
            (result, status) => Err(format!("{result:?}, want {status}")),
        }
    });
}

#[test]
fn path_elements_are_read_written_ordered_and_shown() {
    each("fieldpath/element-parse", |_, case| {
        match (Step::from_json_key(text(case, "input")), text(case, "status")) {
            (Err(_), "error") | (Ok(None), "unknown") => Ok(()),
            (Ok(Some(got)), "ok") => {
                same("serialized", &got.to_json_key(), &text(case, "serialized").to_owned())?;
                same("display", &got.to_string(), &text(case, "display").to_owned())
            }
            (result, status) => Err(format!("{result:?}, want {status}")),
        }
    });
    each("fieldpath/element-compare", |_, case| {
        let (a, b) = (step(text(case, "a")), step(text(case, "b")));
        same("compare", &(a.cmp(&b) as i64), &case["compare"].as_i64().unwrap())?;
        same("reverse", &(b.cmp(&a) as i64), &case["reverse"].as_i64().unwrap())
    });
    each("fieldpath/path-string", |_, case| {
        let steps = case["elements"].as_array().unwrap().iter();
        let path = Path(steps.map(|key| step(key.as_str().unwrap())).collect());
        same("string", &path.to_string(), &text(case, "string").to_owned())
    });
}

#[test]
fn set_operations_give_upstreams_sets() {
    each("fieldpath/set-ops", |_, case| {
        let a = set(&case["a"]);
        let b = || set(&case["b"]);
        let want = &case["result"];
        match text(case, "op") {
            "has" => {
                let steps = case["path"].as_array().unwrap().iter();
                let path: Vec<Step> = steps.map(|key| step(key.as_str().unwrap())).collect();
                same("has", &a.has(&path), &want.as_bool().unwrap())
            }
            "string" => same("string", &a.to_string(), &want.as_str().unwrap().to_owned()),
            "size" => same("size", &a.len(), &(want.as_u64().unwrap() as usize)),
            "paths" => same_paths(&a, want),
            "equals" => same("equals", &(a == b()), &want.as_bool().unwrap()),
            "union" => same_set("union", &a.union(&b()), want),
            "intersection" => same_set("intersection", &a.intersection(&b()), want),
            "difference" => same_set("difference", &a.difference(&b()), want),
            "recursiveDifference" => same_set("recursive", &a.recursive_difference(&b()), want),
            "leaves" => same_set("leaves", &a.leaves(), want),
            other => Err(format!("operation {other}")),
        }
    });
    each("fieldpath/set-ops-random", |_, case| {
        let (a, b) = (set(&case["a"]), set(&case["b"]));
        same("equals", &(a == b), &case["equals"].as_bool().unwrap())?;
        same("size", &a.len(), &(case["size"].as_u64().unwrap() as usize))?;
        same_paths(&a, &case["paths"])?;
        same_set("union", &a.union(&b), &case["union"])?;
        same_set("intersection", &a.intersection(&b), &case["intersection"])?;
        same_set("difference", &a.difference(&b), &case["difference"])?;
        same_set("recursive", &a.recursive_difference(&b), &case["recursiveDifference"])?;
        same_set("leaves", &a.leaves(), &case["leaves"])
    });
}

#[test]
fn named_parents_become_members() {
    each("fieldpath/ensure-named-fields", |folder, case| {
        let got = lenient(folder, case, "object")?.to_set();
        same_set("set", &got, &case["toSet"])?;
        let schema = schema(folder, case, "ensureSchema");
        same_set("result", &got.with_named_parents(&schema, schema.root()), &case["result"])
    });
}

#[test]
fn matchers_keep_what_they_cover() {
    each("fieldpath/include-filter", |_, case| {
        let pattern = |steps: &Value| -> Vec<Option<Step>> {
            let steps = steps.as_array().unwrap().iter().map(|step| step.as_str().unwrap());
            steps.map(|key| (key != "*").then(|| step(key))).collect()
        };
        let matcher = Matcher::new(case["matchers"].as_array().unwrap().iter().map(pattern));
        same_set("result", &matcher.filter(&set(&case["set"])), &case["result"])
    });
}

#[test]
fn managers_are_compared() {
    each("fieldpath/managers", |_, case| {
        let read = |managed: &Value| -> Managers<String> {
            let managed = managed.as_object().into_iter().flatten();
            managed
                .map(|(name, owned)| {
                    let owned = Owned {
                        set: set(&owned["fields"]),
                        version: text(owned, "apiVersion").into(),
                        applied: owned["applied"].as_bool().unwrap(),
                    };
                    (name.clone(), owned)
                })
                .collect()
        };
        let (left, right) = (read(&case["lhs"]), read(&case["rhs"]));
        match text(case, "op") {
            "equals" => same("equal", &(left == right), &case["equal"].as_bool().unwrap()),
            "difference" => same("difference", &update::difference(&left, &right), &read(&case["result"])),
            other => Err(format!("operation {other}")),
        }
    });
}

#[test]
fn values_without_schema_have_upstreams_guessed_sets() {
    each("fieldpath/set-from-value", |_, case| {
        let got = Set::guess(&case["object"]);
        same_set("set", &got, &case["set"])?;
        same_paths(&got, &case["paths"])
    });
}

#[test]
fn values_are_ordered_as_upstream_orders_them() {
    each("value/value-compare", |_, case| {
        let (a, b) = (&case["a"], &case["b"]);
        let want = match case["compare"].as_i64().unwrap() {
            -1 => Ordering::Less,
            0 => Ordering::Equal,
            _ => Ordering::Greater,
        };
        same("compare", &value::compare(a, b), &want)?;
        same("reverse", &value::compare(b, a), &want.reverse())?;
        same("equal", &value::equal(a, b), &case["equal"].as_bool().unwrap())
    });
}
