//! `dodai build -o json`.

use dodai_gitops::render::{Error, Output, Reads};
use serde_json::{Value, json};

use super::places::Place;

pub(super) fn builds(places: &[Place], results: &[Result<Output, Error>]) -> Value {
    let builds: Vec<Value> = places
        .iter()
        .zip(results)
        .map(|(place, result)| match result {
            Ok(output) => json!({
                "folder": place.name,
                "objects": output.objects.iter().map(|object| &object.value).collect::<Vec<_>>(),
                "warnings": output.warnings,
                "reads": reads(place, &output.reads),
            }),
            Err(error) => json!({
                "folder": place.name,
                "error": error_of(place, error),
                "reads": reads(place, error.reads()),
            }),
        })
        .collect();
    json!({ "builds": builds })
}

fn error_of(place: &Place, error: &Error) -> Value {
    let at = error.place();
    let position = at.and_then(|at| at.position);
    json!({
        "message": error.message(),
        "hint": error.help(),
        "file": at.map(|at| place.show(&at.file)),
        "line": position.map(|at| at.line),
        "column": position.map(|at| at.column),
        "field": error.field(),
        "kustomizations": error.kustomizations().iter().map(|folder| place.show(folder)).collect::<Vec<_>>(),
    })
}

fn reads(place: &Place, reads: &Reads) -> Value {
    let shown = |paths: &std::collections::BTreeSet<String>| {
        paths.iter().map(|path| place.show(path)).collect::<Vec<_>>()
    };
    json!({
        "files": shown(&reads.files),
        "folders": shown(&reads.folders),
        "links": shown(&reads.links),
        "absent": shown(&reads.absent),
    })
}
