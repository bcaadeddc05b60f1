//! Upstream's suite of strategic merge patches (the half that applies them), and our own cases.

use std::collections::BTreeMap;

use dodai_merge::schema::{Field, ListKind, Map, Patch, PatchStrategy, Scalar, Schema, Type, TypeRef};
use dodai_merge::strategic;
use serde_json::{Value, json};

use crate::support::{self, Judge, lines, same, suite, text};

const SUITE: &str = "strategic-merge-patch";

/// The types of the suite, from `types.json`.
fn types() -> Option<BTreeMap<String, Type>> {
    let folder = suite(SUITE)?;
    let types = support::json(&folder.join("types.json"));
    Some(types.as_object().unwrap().iter().map(|(name, fields)| (name.clone(), read_type(fields))).collect())
}

fn read_type(fields: &Value) -> Type {
    let fields = fields.as_object().unwrap().iter().map(|(name, field)| (name.clone(), read_field(field)));
    Type { map: Some(Map { fields: fields.collect(), ..Map::default() }), ..Type::default() }
}

fn read_field(field: &Value) -> Field {
    let of = || match text(field, "of") {
        "integer" => TypeRef::scalar(Scalar::Numeric),
        "string" => TypeRef::scalar(Scalar::String),
        name => TypeRef::named(name),
    };
    let ty = match text(field, "kind") {
        "scalar" => TypeRef::scalar(Scalar::Untyped),
        "list" => TypeRef::list(of(), ListKind::Atomic),
        "map" => TypeRef::map(of()),
        "object" => of(),
        other => panic!("kind {other}"),
    };
    let mut patch =
        Patch { merge_key: field["patchMergeKey"].as_str().map(str::to_owned), ..Patch::default() };
    for strategy in field["patchStrategies"].as_array().into_iter().flatten() {
        match strategy.as_str().unwrap() {
            "merge" => patch.strategy = PatchStrategy::Merge,
            "replace" => patch.strategy = PatchStrategy::Replace,
            "retainKeys" => patch.retain_keys = true,
            other => panic!("strategy {other}"),
        }
    }
    Field { ty, patch, ..Field::default() }
}

/// Applies and compares with `{status, value}`.
fn judge(original: &Value, patch: &Value, schema: &Schema, want: &Value) -> Result<(), String> {
    match (strategic::patch(original, patch, schema), text(want, "status")) {
        (Ok(got), "ok") => same("value", &got, &want["value"]),
        (Err(got), "error") => same("message", &got.to_string(), &text(want, "message").to_owned()),
        (result, _) => Err(format!("got {result:?}\n  want {want}")),
    }
}

#[test]
fn patches_are_applied_as_upstream_applies_them() {
    let (Some(types), Some(folder)) = (types(), suite(SUITE)) else { return };
    let schema = |case: &Value| Schema::new(types.clone(), TypeRef::named(text(case, "type")));
    let mut part = Judge::new(SUITE, "apply");
    for case in lines(&folder.join("apply.jsonl")) {
        let verdict = judge(&case["original"], &case["patch"], &schema(&case), &case["result"]);
        part.case(text(&case, "name"), verdict);
    }
    part.finish();
    for name in ["create-and-apply", "create-and-apply-raw", "unknown-field"] {
        let mut part = Judge::new(SUITE, name);
        for case in lines(&folder.join(format!("{name}.jsonl"))) {
            // Some rows are only about the creation of patches.
            if case.get("twoWayResult").is_some() || case.get("threeWayResult").is_some() {
                part.case(text(&case, "name"), both_halves(&case, &schema(&case)));
            }
        }
        part.finish();
    }
}

/// The two-way patch applied to the original, and the three-way one to the current object.
fn both_halves(case: &Value, schema: &Schema) -> Result<(), String> {
    if let Some(want) = case.get("twoWayResult") {
        judge(&case["original"], &case["twoWayPatch"]["value"], schema, want)
            .map_err(|error| format!("two-way: {error}"))?;
    }
    if let Some(want) = case.get("threeWayResult") {
        let patch = case.get("threeWayPatchOverwrite").unwrap_or(&case["threeWayPatch"]);
        judge(&case["current"], &patch["value"], schema, want)
            .map_err(|error| format!("three-way: {error}"))?;
    }
    Ok(())
}

#[test]
fn numbers_keep_their_value() {
    let (Some(types), Some(folder)) = (types(), suite(SUITE)) else { return };
    let mut part = Judge::new(SUITE, "numbers");
    for case in lines(&folder.join("numbers.jsonl")) {
        let read = |member: &str| -> Value { serde_json::from_str(text(&case, member)).unwrap() };
        let schema = Schema::new(types.clone(), TypeRef::named(text(&case, "type")));
        let got = strategic::patch(&read("originalText"), &read("twoWayPatchText"), &schema);
        part.case(
            text(&case, "name"),
            got.map_err(|error| error.to_string())
                .and_then(|got| same("result", &got.to_string(), &read("resultText").to_string())),
        );
    }
    part.finish();
}

/// A small Pod.
fn pod() -> Schema {
    let container = TypeRef::object([
        ("name", TypeRef::scalar(Scalar::String).into()),
        ("image", TypeRef::scalar(Scalar::String).into()),
        ("args", TypeRef::list(TypeRef::scalar(Scalar::String), ListKind::Atomic).into()),
    ]);
    let containers = Field {
        ty: TypeRef::list(container, ListKind::Map(vec!["name".into()])),
        patch: Patch { strategy: PatchStrategy::Merge, merge_key: Some("name".into()), ..Patch::default() },
        ..Field::default()
    };
    let finalizers = Field {
        ty: TypeRef::list(TypeRef::scalar(Scalar::String), ListKind::Set),
        patch: Patch { strategy: PatchStrategy::Merge, ..Patch::default() },
        ..Field::default()
    };
    let strings = TypeRef::map(TypeRef::scalar(Scalar::String));
    Schema::new(
        BTreeMap::new(),
        TypeRef::object([
            ("containers", containers),
            ("finalizers", finalizers),
            ("labels", strings.into()),
            ("free", TypeRef::deduced().into()),
        ]),
    )
}

#[test]
fn a_container_is_found_by_its_name_and_keeps_what_the_patch_does_not_say() {
    let original =
        json!({"containers": [{"name": "a", "image": "x", "args": ["1"]}, {"name": "b", "image": "y"}]});
    let patch = json!({"containers": [{"name": "b", "image": "z"}, {"name": "c", "image": "n"}]});
    let want = json!({"containers": [
        {"name": "a", "image": "x", "args": ["1"]}, {"name": "b", "image": "z"}, {"name": "c", "image": "n"}
    ]});
    assert_eq!(strategic::patch(&original, &patch, &pod()), Ok(want));
}

#[test]
fn directives_do_what_they_say() {
    let original = json!({
        "containers": [{"name": "a", "image": "x"}, {"name": "b"}], "finalizers": ["p", "q"], "labels": {"k": "v"}
    });
    let cases = [
        (json!({"containers": [{"name": "a", "$patch": "delete"}]}), "/containers", json!([{"name": "b"}])),
        (
            json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
            "/containers",
            json!([{"name": "c"}]),
        ),
        (json!({"$deleteFromPrimitiveList/finalizers": ["p"]}), "/finalizers", json!(["q"])),
        (
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            "/containers",
            json!([{"name": "b"}, {"name": "a", "image": "x"}]),
        ),
        (json!({"labels": {"$patch": "replace", "n": "1"}}), "/labels", json!({"n": "1"})),
        (json!({"labels": {"$patch": "delete"}}), "/labels", json!({})),
        (json!({"labels": {"$retainKeys": ["n"], "n": "1"}}), "/labels", json!({"n": "1"})),
        (json!({"free": {"a": {"b": null, "c": 1, "$retainKeys": ["c"]}}}), "/free", json!({"a": {"c": 1}})),
    ];
    for (patch, pointer, want) in cases {
        let got = strategic::patch(&original, &patch, &pod()).unwrap();
        assert_eq!(got.pointer(pointer), Some(&want), "{patch}");
    }
}

#[test]
fn wrong_patches_are_refused_with_upstreams_words() {
    let original = json!({"containers": [{"name": "a"}], "labels": {"k": "v"}, "unknown": {"a": {}}});
    let cases = [
        (
            json!({"containers": [{"image": "x"}]}),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (json!({"labels": {"$patch": "frob"}}), "unknown patch type: frob in map: map[$patch:frob]"),
        (json!({"labels": {"$retainKeys": ["n"], "k": "w"}}), "patch content doesn't match retainKeys list"),
        (json!({"labels": {"$retainKeys": "n"}}), "invalid patch format of retainKeys"),
        (json!({"unknown": {"a": {}}}), "unable to find api field in struct  for the json field \"unknown\""),
        (json!({"containers": [1]}), "list element types are not identical: [map[name:a] 1]"),
    ];
    for (patch, want) in cases {
        assert_eq!(strategic::patch(&original, &patch, &pod()).unwrap_err().to_string(), want, "{patch}");
    }
    assert!(strategic::patch(&json!({}), &json!([]), &pod()).is_err());
}
