//! Plan cases: a folder with `given.yaml` (objects) and `want.yaml` (the plan), one per behaviour.
//!
//! `given.yaml` starts with a document `now: <RFC 3339>` and then holds objects as `kubectl get -o yaml` prints them; the
//! first of the controller's kind is the one in question.
//! `UPDATE_GOLDEN=1` writes `want.yaml`; a person reads the difference.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::Value;

use crate::controller::Controller;
use crate::outside::Outside;
use crate::view::{Objects, View};

/// Runs every case below `folder` for the object of `C::Kind` in it, and panics with all that differ.
///
/// The folder's name is the sentence that the case proves. Returns how many there were.
pub fn run<C: Controller>(folder: &Path) -> usize {
    run_with::<C>(folder, &Outside::default())
}

/// Like [`run`], with things that `observe` finds besides objects.
pub fn run_with<C: Controller>(folder: &Path, outside: &Outside) -> usize {
    let mut cases: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        Err(error) => panic!("cannot read the cases in {}: {error}", folder.display()),
    };
    cases.retain(|case| case.join("given.yaml").is_file());
    cases.sort();
    let mut failures = String::new();
    for case in &cases {
        if let Err(difference) = run_one::<C>(case, outside) {
            // Writing to a String cannot fail.
            let _ = writeln!(failures, "{}:\n{difference}", case.display());
        }
    }
    assert!(failures.is_empty(), "plan cases that differ (UPDATE_GOLDEN=1 rewrites them):\n{failures}");
    cases.len()
}

fn run_one<C: Controller>(case: &Path, outside: &Outside) -> Result<(), String> {
    let given = fs::read_to_string(case.join("given.yaml")).map_err(|error| error.to_string())?;
    let objects = read(&given)?;
    let view = View::of_objects(objects.clone()).with_outside(outside.clone());
    // The object in question is the first of its kind in the file.
    let first = objects.values.iter().find(|value| value["kind"] == *C::Kind::kind(&()));
    let name = first.and_then(|value| value["metadata"]["name"].as_str()).unwrap_or_default();
    let objects_of_kind = objects.list::<C::Kind>(None);
    let object = objects_of_kind.into_iter().find(|object| object.name_any() == name);
    let object = object.ok_or("no object of the controller's kind")?;
    let plan = C::plan(&C::observe(&view, &object));
    let got = dodai_yaml::to_string(&plan.to_json());
    let file = case.join("want.yaml");
    let want = fs::read_to_string(&file).unwrap_or_default();
    if got == want {
        return Ok(());
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(&file, got).map_err(|error| error.to_string());
    }
    Err(format!("--- want\n{want}--- got\n{got}"))
}

/// Reads a `given.yaml`.
pub fn read(text: &str) -> Result<Objects, String> {
    let documents = dodai_yaml::parse(text).map_err(|error| error.to_string())?;
    let mut values = Vec::new();
    let mut now = Timestamp::UNIX_EPOCH;
    for document in &documents {
        let value = document.to_json().map_err(|error| error.to_string())?;
        match value.get("now").and_then(Value::as_str) {
            Some(text) => now = text.parse().map_err(|error| format!("now: {error}"))?,
            None => values.push(value),
        }
    }
    Ok(Objects { now, values })
}
