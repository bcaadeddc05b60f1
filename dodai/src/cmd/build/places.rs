//! What the arguments of `build` mean: folders, patterns of folders, folders of a commit.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use dodai_gitops::render::{FILE_NAMES, Folder, GitTree, Tree};

use crate::failure::{Context, Failure, Result};

/// A folder to build.
pub(super) struct Place {
    pub(super) tree: Arc<dyn Tree + Send>,
    /// In the tree.
    pub(super) folder: String,
    /// As the person knows it.
    pub(super) name: String,
    /// What paths of the tree are shown relative to, and what is put before them.
    base: Option<String>,
    prefix: String,
}

/// Folders that one pattern may stand for.
const MATCHES_MAX: usize = 10_000;

impl Place {
    /// A path of the tree as the person would write it.
    pub(super) fn show(&self, path: &str) -> String {
        if let Some(base) = &self.base {
            if let Some(rest) = path.strip_prefix(base.as_str()).and_then(|rest| rest.strip_prefix('/')) {
                return rest.to_owned();
            }
            if path == base {
                return ".".to_owned();
            }
        }
        format!("{}{path}", self.prefix)
    }

    /// Its number among all, and itself.
    pub(super) fn as_entry<'p>(&'p self, all: &[Place]) -> (usize, &'p Place) {
        let at = (std::ptr::from_ref(self) as usize - all.as_ptr() as usize) / size_of::<Place>();
        (at, self)
    }
}

pub(super) fn find(arguments: &[String]) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for argument in arguments {
        if Path::new(argument).exists() {
            places.push(folder(argument)?);
        } else if let Some((repository, revision, path)) = split_git(argument) {
            places.push(of_commit(argument, repository, revision, path)?);
        } else if argument.contains(['*', '?']) {
            let found = matches(argument)?;
            if found.is_empty() {
                let message = format!("no folder with a kustomization fits `{argument}`");
                return Err(Failure::invalid(message).hint(format!("looked for {}", FILE_NAMES.join(", "))));
            }
            for name in found {
                places.push(folder(&name)?);
            }
        } else {
            return Err(Failure::invalid(format!("`{argument}` does not exist")));
        }
    }
    Ok(places)
}

/// A folder on disk. The tree is the whole disk, as for upstream: bases may be anywhere.
fn folder(name: &str) -> Result<Place> {
    let full = std::fs::canonicalize(name).context(format!("cannot find `{name}`"))?;
    let here = std::env::current_dir().and_then(std::fs::canonicalize).ok();
    let in_tree = |path: &Path| path.to_str().map(|path| path.trim_start_matches('/').to_owned());
    let Some(folder) = in_tree(&full) else {
        return Err(Failure::invalid(format!("the path of `{name}` is not UTF-8")));
    };
    let base = here.as_deref().and_then(in_tree);
    Ok(Place {
        tree: Arc::new(Folder::new("/")),
        folder,
        name: name.to_owned(),
        base,
        prefix: "/".to_owned(),
    })
}

/// `REPOSITORY@REVISION:FOLDER`
fn split_git(argument: &str) -> Option<(&str, &str, &str)> {
    let (before, path) = argument.rsplit_once(':')?;
    let (repository, revision) = before.rsplit_once('@')?;
    let repository = if repository.is_empty() { "." } else { repository };
    (!revision.is_empty() && Path::new(repository).is_dir()).then_some((repository, revision, path))
}

fn of_commit(argument: &str, repository: &str, revision: &str, path: &str) -> Result<Place> {
    let tree = GitTree::open(Path::new(repository), revision)
        .map_err(|error| Failure::invalid(dodai_kit::chain(&error)))?;
    let prefix = format!("{repository}@{revision}:");
    Ok(Place { tree: Arc::new(tree), folder: path.to_owned(), name: argument.to_owned(), base: None, prefix })
}

/// Folders with a kustomization that fit a pattern, in order.
fn matches(pattern: &str) -> Result<Vec<String>> {
    let mut found = vec![PathBuf::new()];
    for component in Path::new(pattern).components() {
        let Component::Normal(part) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let part = part.to_string_lossy();
        if !part.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(&*part));
            continue;
        }
        let mut next = Vec::new();
        for path in &found {
            let folder = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let hidden = name.to_string_lossy().starts_with('.') && !part.starts_with('.');
                if !hidden && fits(&part, &name.to_string_lossy()) && entry.path().is_dir() {
                    next.push(path.join(name));
                }
            }
            if next.len() > MATCHES_MAX {
                return Err(Failure::invalid(format!("`{pattern}` fits more than {MATCHES_MAX} folders")));
            }
        }
        next.sort();
        found = next;
    }
    found.retain(|path| FILE_NAMES.iter().any(|name| path.join(name).is_file()));
    Ok(found.into_iter().map(|path| path.to_string_lossy().into_owned()).collect())
}

/// `*` stands for any text, `?` for one character.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(character) if *character == '?' || *character == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                // The last star takes one more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_fit() {
        for (pattern, name, wanted) in [
            ("*", "a", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("?b", "ab", true),
            ("a?", "a", false),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
