//! Reads manifests from text, files and folders.

use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::env::EnvError;

/// Files that a folder may hold.
const FILES_MAX: usize = 10_000;

fn wrong(path: &Path, what: impl ToString) -> EnvError {
    EnvError::Manifest { path: path.to_owned(), what: what.to_string() }
}

/// The documents of a text, with the items of lists on their own.
pub(super) fn documents(path: &Path, text: &str) -> Result<Vec<Value>, EnvError> {
    let mut objects = Vec::new();
    for document in dodai_yaml::parse(text).map_err(|error| wrong(path, error))? {
        let mut object = document.to_json().map_err(|error| wrong(path, error))?;
        match object["items"].as_array_mut() {
            Some(items) => objects.append(items),
            None => objects.push(object),
        }
    }
    Ok(objects)
}

/// The definitions in a file, or in the files below a folder.
pub(super) fn definitions(path: &Path) -> Result<Vec<CustomResourceDefinition>, EnvError> {
    let mut files = Vec::new();
    collect(path, &mut files).map_err(|error| wrong(path, error))?;
    let mut found = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).map_err(|error| wrong(file, error))?;
        for object in documents(file, &text)? {
            if object["kind"] == "CustomResourceDefinition" {
                found.push(serde_json::from_value(object).map_err(|error| wrong(file, error))?);
            }
        }
    }
    match found.is_empty() {
        true => Err(wrong(path, "no CustomResourceDefinition in it")),
        false => Ok(found),
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    entries.sort();
    for entry in entries {
        let end = entry.extension().and_then(|end| end.to_str()).unwrap_or_default();
        if entry.is_dir() || matches!(end, "yaml" | "yml" | "json") {
            collect(&entry, files)?;
        }
        if files.len() > FILES_MAX {
            return Err(std::io::Error::other(format!("more than {FILES_MAX} files")));
        }
    }
    Ok(())
}
