//! Upstream's suite of the ownership algorithm: sequences of operations on one object.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dodai_merge::fields::Set;
use dodai_merge::schema::{Schema, Type};
use dodai_merge::typed::{Duplicates, Typed};
use dodai_merge::update::{ConvertError, Converter, Error, Ignored, Managers, Owned, Updater};
use dodai_merge::value;
use serde_json::{Map, Value};

use crate::support::{Judge, json, lines, same, smd_schema, suite, text, with_root};

const SUITE: &str = "smd-merge";

#[test]
fn operations_give_upstreams_objects_and_managers() {
    let Some(folder) = suite(SUITE) else { return };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder.join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut judge = Judge::new(SUITE, "cases");
    for file in files {
        for case in lines(&file) {
            judge.case(text(&case, "name"), run(&folder, &case));
        }
    }
    judge.finish();
}

#[test]
fn conflicts_are_those_fields_of_each_manager() {
    let Some(folder) = suite(SUITE) else { return };
    let mut judge = Judge::new(SUITE, "conflicts");
    for case in lines(&folder.join("conflicts.jsonl")) {
        let managers = read_managers(&case["managed"]);
        let mut union = Set::new();
        let mut paths = Vec::new();
        for (manager, owned) in &managers {
            union.extend(&owned.set);
            paths.extend(owned.set.paths().iter().map(|path| (manager.clone(), path.to_string())));
        }
        paths.sort();
        let verdict = same("set", &union.to_json_string(), &text(&case, "set").to_owned())
            .and_then(|()| same("conflicts", &paths, &read_conflicts(&case["conflicts"])));
        judge.case(text(&case, "name"), verdict);
    }
    judge.finish();
}

fn read_conflicts(list: &Value) -> Vec<(String, String)> {
    let mut conflicts: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|conflict| (text(conflict, "manager").to_owned(), text(conflict, "path").to_owned()))
        .collect();
    conflicts.sort();
    conflicts
}

fn read_managers(managed: &Value) -> Managers<String> {
    let managed = managed.as_object().unwrap();
    managed
        .iter()
        .map(|(manager, owned)| {
            let owned = Owned {
                set: Set::from_json(&owned["fields"]).unwrap(),
                version: text(owned, "apiVersion").into(),
                applied: owned["applied"].as_bool().unwrap(),
            };
            (manager.clone(), owned)
        })
        .collect()
}

/// What stands in place of an object, or the content of a file.
fn object(folder: &Path, value: &Value) -> Value {
    match value.get("$file") {
        Some(file) => json(&folder.join(file.as_str().unwrap())),
        None => value.clone(),
    }
}

struct State<'c> {
    folder: &'c Path,
    case: &'c Value,
    types: BTreeMap<String, Type>,
    schemas: RefCell<BTreeMap<String, Schema>>,
    live: Option<Typed>,
    managers: Managers<String>,
    converter: TestConverter,
}

fn run(folder: &Path, case: &Value) -> Result<(), String> {
    let mut state = State {
        folder,
        case,
        types: load(folder, text(case, "schema")),
        schemas: RefCell::default(),
        live: None,
        managers: Managers::new(),
        converter: TestConverter::new(case),
    };
    for (index, op) in case["ops"].as_array().unwrap().iter().enumerate() {
        state.step(op).map_err(|error| format!("op {index} {}: {error}", op["op"]))?;
    }
    Ok(())
}

fn load(folder: &Path, id: &str) -> BTreeMap<String, Type> {
    smd_schema(&json(&folder.join("schemas").join(format!("{id}.json"))))
}

impl State<'_> {
    fn type_of(&self, version: &str) -> String {
        let types = &self.case["typeForVersion"];
        types.get(version).unwrap_or_else(|| &types["*"]).as_str().unwrap().to_owned()
    }

    fn schema_of(&self, version: &str) -> Schema {
        let make = || with_root(&self.types, &self.type_of(version));
        self.schemas.borrow_mut().entry(version.to_owned()).or_insert_with(make).clone()
    }

    fn step(&mut self, op: &Value) -> Result<(), String> {
        let want = &op["result"];
        let mut noop = None;
        let result = match text(op, "op") {
            "changeSchema" => self.change_schema(text(op, "schema")),
            "setAcceptedVersions" => {
                self.converter.accepted = strings(&op["versions"]);
                Ok(())
            }
            kind => self.write(kind, op, &mut noop),
        };
        match (result, text(want, "status")) {
            (Ok(()), "ok") => {}
            (Err(Failure::Conflicts(got)), "conflict") => {
                same("conflicts", &got, &read_conflicts(&want["conflicts"]))?;
            }
            (Err(Failure::Other(_)), "error") => {}
            (result, status) => {
                return Err(format!("status: got {result:?}, want {status} {}", want["message"]));
            }
        }
        if let (Some(got), Some(want)) = (noop, want["noop"].as_bool()) {
            same("noop", &got, &want)?;
        }
        if let Some(want) = want.get("live") {
            let null = Value::Null;
            let live = self.live.as_ref().map_or(&null, |live| &live.value);
            same("live", live, &object(self.folder, want))?;
        }
        if let Some(want) = want.get("managed") {
            same("managed", &self.managers, &read_managers(want))?;
        }
        Ok(())
    }

    fn change_schema(&mut self, id: &str) -> Result<(), Failure> {
        self.types = load(self.folder, id);
        self.schemas.borrow_mut().clear();
        if let Some(live) = self.live.take() {
            let schema = self.schema_of(&live.version);
            let live = Typed::parse(live.value, &schema, &live.version, Duplicates::Allowed);
            self.live = Some(live.map_err(other)?);
        }
        Ok(())
    }

    fn write(&mut self, kind: &str, op: &Value, noop: &mut Option<bool>) -> Result<(), Failure> {
        let (manager, version) = (text(op, "manager").to_owned(), text(op, "apiVersion"));
        let types = self.types.clone();
        self.converter.types = types;
        self.converter.type_for_version = self.case["typeForVersion"].clone();
        let exists = self.live.is_some();
        let live = match self.live.take() {
            Some(live) => live,
            None => Typed::unchecked(Arc::new(Value::Null), &self.schema_of(version), version),
        };
        let converted = self.converter.convert(&live, version).map_err(other);
        self.live = Some(live);
        let live = converted?;
        self.live = Some(live.clone());

        let duplicates = if kind == "update" { Duplicates::Allowed } else { Duplicates::Refused };
        let value = Arc::new(object(self.folder, &op["object"]));
        let mut config = Typed::parse(value, &self.schema_of(version), version, duplicates).map_err(other)?;
        if kind == "extractApply" && exists {
            let owned = self.managers.get(&manager).map(|owned| owned.set.leaves()).unwrap_or_default();
            config = live.extract(&owned).merge(&config).map_err(other)?;
            if let Some(want) = op["result"].get("appliedObject") {
                same("appliedObject", &*config.value, want).map_err(other)?;
            }
        }
        let ignored = ignored(self.case);
        let updater = Updater { converter: &self.converter, ignored: &ignored };
        if kind == "update" {
            self.managers = updater.update(&live, &config, &self.managers, &manager).map_err(failure)?;
            self.live = Some(config);
            return Ok(());
        }
        let force = kind != "apply";
        let (new, managers) =
            updater.apply(&live, &config, &self.managers, &manager, force).map_err(failure)?;
        let returns_input = self.case["returnInputOnNoop"].as_bool() == Some(true);
        *noop = Some(new.is_none() && !returns_input);
        self.live = Some(new.unwrap_or(live));
        self.managers = managers;
        Ok(())
    }
}

#[derive(Debug)]
enum Failure {
    Conflicts(Vec<(String, String)>),
    /// The text is for the reader of a failed test.
    Other(#[allow(dead_code)] String),
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

fn failure(error: Error<String>) -> Failure {
    match error {
        Error::Conflicts(conflicts) => {
            let mut list: Vec<_> =
                conflicts.into_iter().map(|conflict| (conflict.manager, conflict.path.to_string())).collect();
            list.sort();
            Failure::Conflicts(list)
        }
        error => other(error),
    }
}

fn ignored(case: &Value) -> BTreeMap<Arc<str>, Ignored> {
    let by_version = ["ignoredFields", "ignoreFilterExclude"].iter().filter_map(|member| case.get(member));
    by_version
        .flat_map(|sets| sets.as_object().unwrap())
        .map(|(version, set)| (version.as_str().into(), Ignored::Fields(Set::from_json(set).unwrap())))
        .collect()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The converters of upstream's tests, as the README of the data describes them.
struct TestConverter {
    kind: String,
    accepted: Vec<String>,
    types: BTreeMap<String, Type>,
    type_for_version: Value,
    /// The field's names in v1 and v2, for `reliantFields`.
    reliant: (String, String),
}

impl TestConverter {
    fn new(case: &Value) -> TestConverter {
        let name = |pointer| case.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        TestConverter {
            kind: name("/converter/kind"),
            accepted: strings(&case["converter"]["initialVersions"]),
            types: BTreeMap::new(),
            type_for_version: Value::Null,
            reliant: (name("/converter/v1Field"), name("/converter/v2Field")),
        }
    }

    fn schema(&self, version: &str) -> Schema {
        let types = &self.type_for_version;
        with_root(&self.types, types.get(version).unwrap_or_else(|| &types["*"]).as_str().unwrap())
    }
}

impl Converter for TestConverter {
    fn convert(&self, object: &Typed, version: &str) -> Result<Typed, ConvertError> {
        let missing = || ConvertError::MissingVersion(version.to_owned());
        let value = match self.kind.as_str() {
            "acceptVersions" if !self.accepted.iter().any(|accepted| accepted == version) => {
                return Err(missing());
            }
            "" | "acceptVersions" => {
                return Ok(Typed { version: version.into(), ..object.clone() });
            }
            "renameVersionSuffix" => rename(&object.value, &object.version, version),
            "repeatKeyLetter" => {
                let count = version.strip_prefix('v').and_then(|n| n.parse().ok()).ok_or_else(missing)?;
                repeat_letter(&object.value, count, 0)
            }
            "reliantFields" => return self.reliant(object, version),
            other => panic!("converter {other}"),
        };
        Ok(Typed::unchecked(Arc::new(value), &self.schema(version), version))
    }
}

impl TestConverter {
    fn reliant(&self, object: &Typed, version: &str) -> Result<Typed, ConvertError> {
        if *object.version == *version {
            return Ok(object.clone());
        }
        let (v1, v2) = (&*self.reliant.0, &*self.reliant.1);
        let (from, to) = match version {
            "v1" => (v2, v1),
            "v2" => (v1, v2),
            _ => return Err(ConvertError::MissingVersion(version.to_owned())),
        };
        let mut value = (*object.value).clone();
        if let Some(map) = value.as_object_mut() {
            match map.remove(from) {
                Some(field) => {
                    map.insert(to.to_owned(), field);
                }
                None if version == "v1" => return Err(ConvertError::Other(format!("no {from}"))),
                None => {}
            }
        } else if version == "v1" {
            return Err(ConvertError::Other(format!("no {from}")));
        }
        Ok(Typed::unchecked(Arc::new(value), &self.schema(version), version))
    }
}

fn rename(value: &Value, old: &str, new: &str) -> Value {
    match value {
        Value::Object(map) => {
            let renamed = map.iter().map(|(key, value)| {
                let key = match key.strip_suffix(old) {
                    Some(stem) => format!("{stem}{new}"),
                    None => key.clone(),
                };
                (key, rename(value, old, new))
            });
            Value::Object(renamed.collect())
        }
        Value::Array(list) => list.iter().map(|value| rename(value, old, new)).collect(),
        scalar => scalar.clone(),
    }
}

fn repeat_letter(value: &Value, count: usize, depth: usize) -> Value {
    let Value::Object(map) = value else { return Value::Null };
    let mut members: Vec<_> = map.iter().collect();
    members.sort_by_key(|(key, _)| *key);
    let mut result = Map::new();
    for (key, value) in members {
        let key =
            if depth == 0 { key.clone() } else { key.chars().take(1).collect::<String>().repeat(count) };
        result.insert(key, repeat_letter(value, count, depth + 1));
    }
    Value::Object(result)
}

#[test]
fn numbers_count_and_kinds_are_ordered() {
    let ordered = serde_json::json!([-1, 0.5, 1, 1.5, "a", "b", false, true, [], [1], {}, {"a": 1}, null]);
    let ordered = ordered.as_array().unwrap();
    for (i, a) in ordered.iter().enumerate() {
        for (j, b) in ordered.iter().enumerate() {
            assert_eq!(value::compare(a, b), i.cmp(&j), "{a} and {b}");
        }
    }
    assert!(value::equal(&serde_json::json!(1), &serde_json::json!(1.0)));
}
