//! What is odd in the kustomizations below a folder, and repairing what can be repaired line by line.

mod fix;
mod secrets;

use std::collections::BTreeSet;

use super::kustomization::FILE_NAMES;
use super::tree::{Entry, Tree};
use super::{Cache, Options, Reads, render_with};

pub use fix::{Fix, fix};

/// Folders and files that one lint looks at.
const ENTRIES_MAX: usize = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A kustomization that does not build.
    Broken,
    /// A field that upstream will remove.
    Deprecated,
    /// A field that has no effect.
    MatchesNothing,
    /// A value that should not be in a repository.
    Secret,
    /// A file that no kustomization reads.
    Unused,
}

impl Rule {
    pub fn name(self) -> &'static str {
        match self {
            Rule::Broken => "broken",
            Rule::Deprecated => "deprecated",
            Rule::MatchesNothing => "matches-nothing",
            Rule::Secret => "secret",
            Rule::Unused => "unused",
        }
    }
}

/// One thing that is odd.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub file: String,
    /// Line and column, from 1.
    pub position: Option<(usize, usize)>,
    pub rule: Rule,
    /// Of the kustomization.
    pub field: String,
    pub message: String,
}

/// A tree whose folders can be listed.
pub trait Listed: Tree {
    /// Names in a folder.
    ///
    /// # Errors
    /// What keeps the tree from answering.
    fn list(&self, folder: &str) -> std::io::Result<Vec<String>>;
}

/// Looks at all kustomizations in and below a folder.
///
/// # Errors
/// If the folder cannot be listed.
pub fn lint(tree: &dyn Listed, folder: &str) -> std::io::Result<Vec<Finding>> {
    let mut found = Walk::default();
    walk(tree, folder, &mut found, 0)?;
    let cache = Cache::default();
    let mut findings = BTreeSet::new();
    let mut reads = Reads::default();
    for (kustomization, file) in &found.kustomizations {
        match render_with(tree, kustomization, &Options::default(), &cache) {
            Ok(output) => {
                reads.extend(&output.reads);
                for note in output.notes {
                    let position = position_of(tree, &note.file, &note.field);
                    let rule = Rule::MatchesNothing;
                    findings.insert(Finding {
                        file: note.file,
                        position,
                        rule,
                        field: note.field,
                        message: note.message,
                    });
                }
            }
            Err(error) => {
                reads.extend(error.reads());
                let place = error.place();
                findings.insert(Finding {
                    file: place.map_or_else(|| file.clone(), |place| place.file.clone()),
                    position: place.and_then(|place| place.position).map(|at| (at.line, at.column)),
                    rule: Rule::Broken,
                    field: error.field().unwrap_or_default().to_owned(),
                    message: error.message().to_owned(),
                });
            }
        }
        if let Ok(text) = tree.read(file) {
            in_file(file, &text, &mut findings);
        }
    }
    for file in found.files {
        if !found.kustomizations.is_empty() && !reads.files.contains(&file) {
            let message = "no kustomization reads this file".to_owned();
            findings.insert(Finding {
                file,
                position: None,
                rule: Rule::Unused,
                field: String::new(),
                message,
            });
        }
    }
    Ok(findings.into_iter().collect())
}

#[derive(Default)]
struct Walk {
    /// Folder and file.
    kustomizations: Vec<(String, String)>,
    /// YAML files.
    files: Vec<String>,
    n_entries: usize,
}

fn walk(tree: &dyn Listed, folder: &str, found: &mut Walk, depth: usize) -> std::io::Result<()> {
    const DEPTH_MAX: usize = 64;
    let mut names = tree.list(folder)?;
    names.sort();
    for name in names.iter().filter(|name| !name.starts_with('.')) {
        found.n_entries += 1;
        if found.n_entries > ENTRIES_MAX {
            return Err(std::io::Error::other(format!("more than {ENTRIES_MAX} files")));
        }
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        match tree.entry(&path)? {
            Some(Entry::Folder) if depth < DEPTH_MAX && name != "node_modules" => {
                walk(tree, &path, found, depth + 1)?
            }
            Some(Entry::File(_)) if FILE_NAMES.contains(&name.as_str()) => {
                found.kustomizations.push((folder.to_owned(), path));
            }
            Some(Entry::File(_)) if name.ends_with(".yaml") || name.ends_with(".yml") => {
                found.files.push(path)
            }
            _ => {}
        }
    }
    Ok(())
}

/// Deprecated fields with what stands in for them.
const DEPRECATED: [(&str, &str); 6] = [
    ("bases", "resources"),
    ("commonLabels", "labels"),
    ("imageTags", "images"),
    ("patchesJson6902", "patches"),
    ("patchesStrategicMerge", "patches"),
    ("vars", "replacements"),
];

fn in_file(file: &str, text: &[u8], findings: &mut BTreeSet<Finding>) {
    let text = String::from_utf8_lossy(text);
    let Ok(documents) = dodai_yaml::parse_with(&text, &super::FIRST_DOCUMENT) else { return };
    let Some(document) = documents.first() else { return };
    let Ok(value) = document.to_json() else { return };
    let mut add = |rule, field: &str, message: String| {
        let at = document.locate(field).position;
        findings.insert(Finding {
            file: file.to_owned(),
            position: Some((at.line, at.column)),
            rule,
            field: field.to_owned(),
            message,
        });
    };
    for (field, instead) in DEPRECATED {
        if value.get(field).is_some() {
            add(Rule::Deprecated, field, format!("`{field}` is deprecated, use `{instead}`"));
        }
    }
    for (field, what) in secrets::find(&value) {
        add(Rule::Secret, &field, what);
    }
}

fn position_of(tree: &dyn Tree, file: &str, field: &str) -> Option<(usize, usize)> {
    let text = tree.read(file).ok()?;
    let text = String::from_utf8_lossy(&text);
    let documents = dodai_yaml::parse_with(&text, &super::FIRST_DOCUMENT).ok()?;
    let at = documents.first()?.locate(field).position;
    Some((at.line, at.column))
}

impl Listed for super::Folder {
    fn list(&self, folder: &str) -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(folder))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }
}
