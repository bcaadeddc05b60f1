//! Annotations that say where an object comes from (`buildMetadata`).

use dodai_yaml::kustomize::{can_be_plain, resolve_plain};

use super::error::Error;
use super::names;
use super::resource::Resource;

/// A file, or what a file configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) path: String,
    pub(crate) configured_in: String,
    /// API version, kind, name, namespace.
    pub(crate) configured_by: Option<[String; 4]>,
}

impl Origin {
    /// The annotation's text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |indent: &str, key: &str, value: &str| {
            if !value.is_empty() {
                out.push_str(&format!("{indent}{key}: {}\n", quoted(value)));
            }
        };
        line("", "path", &self.path);
        line("", "configuredIn", &self.configured_in);
        if let Some(by) = &self.configured_by {
            out.push_str("configuredBy:\n");
            for (key, value) in ["apiVersion", "kind", "name", "namespace"].iter().zip(by) {
                if !value.is_empty() {
                    out.push_str(&format!("  {key}: {}\n", quoted(value)));
                }
            }
        }
        if out.is_empty() {
            out.push_str("{}\n");
        }
        out
    }
}

fn quoted(value: &str) -> String {
    match resolve_plain(value).tag() {
        "str" if can_be_plain(value) => value.to_owned(),
        "str" => format!("'{}'", value.replace('\'', "''")),
        _ => format!("\"{value}\""),
    }
}

/// `a/b` and `../c` -> `a/c`.
pub(crate) fn join(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn failed(error: super::path::PathError) -> Error {
    Error::new(format!("cannot annotate: {error}"))
}

/// Sets the origin unless there is one.
pub(crate) fn set_if_absent(resource: &mut Resource, text: &str) -> Result<(), Error> {
    if resource.annotation(names::ORIGIN).is_some() {
        return Ok(());
    }
    set(resource, text)
}

pub(crate) fn set(resource: &mut Resource, text: &str) -> Result<(), Error> {
    let mut annotations = resource.annotations();
    annotations.insert(names::ORIGIN.into(), text.into());
    resource.set_annotations(&annotations).map_err(failed)
}

/// A transformer was at work: it made the object, if nothing is known of its origin, or changed it.
pub(crate) fn add_transformation(resource: &mut Resource, origin: &str) -> Result<(), Error> {
    let mut annotations = resource.annotations();
    if !annotations.contains_key(names::ORIGIN) {
        annotations.insert(names::ORIGIN.into(), origin.into());
    } else {
        let mut list =
            annotations.get(names::TRANSFORMATIONS).map(|text| text.to_string()).unwrap_or_default();
        for (i, line) in origin.lines().enumerate() {
            list.push_str(if i == 0 { "- " } else { "  " });
            list.push_str(line);
            list.push('\n');
        }
        annotations.insert(names::TRANSFORMATIONS.into(), list.into());
    }
    resource.set_annotations(&annotations).map_err(failed)
}

/// The origin of what a plugin's configuration does.
pub(crate) fn of_plugin(resource: &Resource) -> Option<String> {
    let text = resource.annotation(names::ORIGIN)?;
    let path = text.lines().find_map(|line| line.strip_prefix("path: ")).unwrap_or_default();
    let by = [resource.api_version(), resource.kind(), resource.name(), resource.namespace()]
        .map(|part| part.to_string());
    let path = path.trim_matches(['\'', '"']).to_owned();
    Some(Origin { configured_in: path, configured_by: Some(by), ..Origin::default() }.text())
}
