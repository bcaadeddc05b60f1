//! `dodai build --explain FOLDER/KIND/NAME[:FIELD]`: which files and steps made an object what it is.

use std::fmt::Write;

use dodai_gitops::render::{Change, Event, Explanation, Options, Output, Wanted, render};
use serde_json::{Value, json};

use super::places::{self, Place};
use crate::cli::ObjectFormat;
use crate::failure::{Failure, INVALID, Result};

pub(super) fn run(argument: &str, options: Options, format: ObjectFormat) -> Result<()> {
    let (object, field) = match argument.split_once(':') {
        Some((object, field)) => (object, Some(field)),
        None => (argument, None),
    };
    let mut parts = object.rsplitn(3, '/');
    let (Some(name), Some(kind)) = (parts.next(), parts.next()) else {
        let message = format!("`{argument}` has not the form FOLDER/KIND/NAME[:FIELD]");
        return Err(Failure::invalid(message).hint("such as `overlays/prod/Deployment/web:spec.replicas`"));
    };
    let folder = parts.next().filter(|folder| !folder.is_empty()).unwrap_or(".").to_owned();
    let found = places::find(&[folder])?;
    let [place] = &found[..] else { return Err(Failure::invalid("one folder only can be explained")) };
    let wanted = Wanted { kind: kind.to_owned(), name: name.to_owned() };
    let options = Options { explain: Some(wanted), ..options };
    let output = match render(place.tree.as_ref(), &place.folder, &options) {
        Ok(output) => output,
        Err(error) => {
            eprint!("{}", error.render(|path| place.show(path)));
            return Err(Failure::silent(INVALID));
        }
    };
    if output.explanations.is_empty() {
        return Err(missing(&output, kind, name));
    }
    for explanation in &output.explanations {
        match format {
            ObjectFormat::Yaml => print!("{}", text(place, explanation, field)),
            ObjectFormat::Json => println!("{}", json_of(place, explanation, field)),
        }
    }
    Ok(())
}

fn missing(output: &Output, kind: &str, name: &str) -> Failure {
    let names = || {
        output
            .objects
            .iter()
            .filter(|object| object.value["kind"] == kind)
            .filter_map(|object| object.value["metadata"]["name"].as_str())
    };
    let failure = Failure::invalid(format!("the build has no {kind} `{name}`"));
    match dodai_yaml::suggest(name, names()) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => {
            let all: Vec<&str> = names().collect();
            let kinds: std::collections::BTreeSet<&str> =
                output.objects.iter().filter_map(|object| object.value["kind"].as_str()).collect();
            match all.is_empty() {
                true => {
                    failure.hint(format!("kinds in it: {}", kinds.into_iter().collect::<Vec<_>>().join(", ")))
                }
                false => failure.hint(format!("there are: {}", all.join(", "))),
            }
        }
    }
}

fn events<'e>(explanation: &'e Explanation, field: Option<&str>) -> Vec<&'e Event> {
    match field {
        Some(field) => explanation.of_field(field),
        None => explanation.events.iter().collect(),
    }
}

/// Whether a change is about the field, or all are asked for.
fn is_wanted(change: &Change, field: Option<&str>) -> bool {
    let below = |a: &str, b: &str| {
        a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    field.is_none_or(|field| below(&change.path, field) || below(field, &change.path))
}

fn text(place: &Place, explanation: &Explanation, field: Option<&str>) -> String {
    let object = &explanation.object;
    let mut out = String::new();
    let _ = write!(out, "{} {}", plain(&object["kind"]), plain(&object["metadata"]["name"]));
    if let Some(namespace) = object["metadata"]["namespace"].as_str() {
        let _ = write!(out, " in {namespace}");
    }
    out.push('\n');
    for event in events(explanation, field) {
        let _ = writeln!(out, "  {}  {}", show_file(place, &event.file), event.step);
        for change in event.changes.iter().filter(|change| is_wanted(change, field)) {
            let values = match (&change.before, &change.after) {
                (None, Some(after)) => format!("+ {}", shown(object, change, after)),
                (Some(before), None) => format!("- {}", shown(object, change, before)),
                (before, after) => {
                    let side = |value: &Option<Value>| {
                        value.as_ref().map_or_else(String::new, |value| shown(object, change, value))
                    };
                    format!("{} -> {}", side(before), side(after))
                }
            };
            let _ = writeln!(out, "      {}  {values}", change.path);
        }
    }
    out
}

fn show_file(place: &Place, file: &str) -> String {
    place.show(file)
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A value; what a Secret holds is not shown.
fn shown(object: &Value, change: &Change, value: &Value) -> String {
    const SHOWN_CHARS_MAX: usize = 120;
    if is_hidden(object, change) {
        return "(not shown)".to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn is_hidden(object: &Value, change: &Change) -> bool {
    object["kind"] == "Secret"
        && (change.path.starts_with("data")
            || change.path.starts_with("stringData")
            || change.path.is_empty())
}

fn json_of(place: &Place, explanation: &Explanation, field: Option<&str>) -> Value {
    let object = &explanation.object;
    let events: Vec<Value> = events(explanation, field)
        .into_iter()
        .map(|event| {
            let changes: Vec<Value> = event
                .changes
                .iter()
                .filter(|change| is_wanted(change, field))
                .map(|change| {
                    if is_hidden(object, change) {
                        return json!({"path": change.path, "hidden": true});
                    }
                    json!({"path": change.path, "before": change.before, "after": change.after})
                })
                .collect();
            json!({"file": show_file(place, &event.file), "step": event.step, "changes": changes})
        })
        .collect();
    json!({"kind": object["kind"], "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"], "events": events})
}
