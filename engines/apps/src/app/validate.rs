//! What the schema cannot say about an App's spec.

use std::collections::BTreeSet;

use dodai_api::dodai::app::AppSpec;
use dodai_api::duration;

use crate::error::Error;

/// Longest name of an App: a Release's Job is named `<app>-v<number>-release-<attempt>` and its Pods carry that name in a
/// label of at most 63 characters.
const APP_NAME_MAX: usize = 38;
/// Longest name of a process or volume, so that `<app>-<process>` stays a DNS label with room for a Pod's suffix.
const PART_NAME_MAX: usize = 15;

/// The first thing that is wrong, if any.
pub(super) fn validate(name: &str, spec: &AppSpec) -> Result<(), Error> {
    dns_label("metadata.name", name, APP_NAME_MAX)?;
    if spec.source.is_some() == spec.image.is_some() {
        return Err(Error::SourceOrImage);
    }
    if spec.processes.is_empty() {
        return Err(Error::NoProcess);
    }
    for (name, process) in &spec.processes {
        dns_label("spec.processes", name, PART_NAME_MAX)?;
        if process.command.is_empty() {
            return Err(Error::NoCommand(name.clone()));
        }
    }
    let mut seen = BTreeSet::new();
    for volume in &spec.volumes {
        dns_label("spec.volumes", &volume.name, PART_NAME_MAX)?;
        for text in [&volume.name, &volume.mount_path] {
            if !seen.insert(text) {
                return Err(Error::DuplicateVolume(text.clone()));
            }
        }
    }
    release_step(spec)
}

fn release_step(spec: &AppSpec) -> Result<(), Error> {
    let Some(step) = &spec.release else { return Ok(()) };
    let strategy = step.strategy.as_ref();
    let durations = [
        ("spec.release.timeout", step.timeout.as_ref()),
        (
            "spec.release.strategy.progressDeadline",
            strategy.and_then(|strategy| strategy.progress_deadline.as_ref()),
        ),
    ];
    for (path, value) in durations {
        if let Some(value) = value
            && duration::parse(value).is_none_or(|duration| duration.as_secs() == 0)
        {
            return Err(Error::Duration { path, value: value.clone() });
        }
    }
    match strategy {
        Some(strategy) if strategy.max_surge == Some(0) && strategy.max_unavailable.unwrap_or(0) == 0 => {
            Err(Error::NoRoomToRollOut)
        }
        _ => Ok(()),
    }
}

fn dns_label(path: &'static str, name: &str, max: usize) -> Result<(), Error> {
    let fits = !name.is_empty()
        && name.len() <= max
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if fits { Ok(()) } else { Err(Error::Name { path, name: name.to_owned(), max }) }
}
