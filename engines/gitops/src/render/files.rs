//! Reading from a tree: links followed within it, bounds kept, and everything that was looked at written down.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::tree::{Entry, Tree};

/// Size of one file.
pub const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Size of all files that one build reads, those read again counted again.
pub const READ_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Links that one path may go through.
const LINKS_MAX: usize = 40;

/// What a build looked at. If none of it changes, neither does the result. Paths are relative to the root of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Files whose content was read.
    pub files: BTreeSet<String>,
    /// Folders that had to be there.
    pub folders: BTreeSet<String>,
    /// Links that were followed.
    pub links: BTreeSet<String>,
    /// Paths where nothing was found.
    pub absent: BTreeSet<String>,
}

impl Reads {
    /// Whether a change at this path (its content, that it comes or goes) may change the result.
    pub fn touches(&self, path: &str) -> bool {
        self.files.contains(path)
            || self.folders.contains(path)
            || self.links.contains(path)
            || self.absent.contains(path)
            // Something that was absent may come with a whole folder, and a folder goes with what is in it.
            || self.absent.iter().any(|absent| is_below(path, absent))
    }

    /// Takes over what another build read.
    pub fn extend(&mut self, other: &Reads) {
        self.files.extend(other.files.iter().cloned());
        self.folders.extend(other.folders.iter().cloned());
        self.links.extend(other.links.iter().cloned());
        self.absent.extend(other.absent.iter().cloned());
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Why a path cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    #[error("`{0}` does not exist")]
    Absent(String),
    #[error("`{0}` is a folder, a file is needed")]
    IsFolder(String),
    #[error("`{0}` is a file, a folder is needed")]
    IsFile(String),
    #[error("`{0}` leads out of the tree")]
    Outside(String),
    #[error("security: file `{file}` is not in or below `{root}`")]
    Restricted { file: String, root: String },
    #[error("`{0}` leads through too many links")]
    Links(String),
    #[error("`{path}` has {bytes} bytes, more than {FILE_BYTES_MAX}")]
    TooLarge { path: String, bytes: u64 },
    #[error("the build reads more than {READ_BYTES_MAX} bytes")]
    TooMuch,
    #[error("cannot read `{path}`: {message}")]
    Io { path: String, message: String },
}

/// Where a path leads, links followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    File { path: String, size: u64 },
    Folder { path: String },
}

pub(crate) struct Files<'t> {
    tree: &'t dyn Tree,
    reads: RefCell<Reads>,
    bytes: Cell<u64>,
}

impl<'t> Files<'t> {
    pub(crate) fn new(tree: &'t dyn Tree) -> Files<'t> {
        Files { tree, reads: RefCell::default(), bytes: Cell::new(0) }
    }

    pub(crate) fn reads(&self) -> Reads {
        self.reads.borrow().clone()
    }

    /// Follows a path from a folder (relative), or from the root of the tree (absolute).
    pub(crate) fn resolve(&self, folder: &str, path: &str) -> Result<Place, FileError> {
        let mut at: Vec<String> = if path.starts_with('/') { Vec::new() } else { parts(folder) };
        // `..` of the path itself is taken as text, before links are looked at, as there.
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    if at.pop().is_none() {
                        return Err(FileError::Outside(path.to_owned()));
                    }
                }
                name => at.push(name.to_owned()),
            }
        }
        self.follow(at, path)
    }

    fn follow(&self, wanted: Vec<String>, shown: &str) -> Result<Place, FileError> {
        let mut waiting: Vec<String> = wanted.into_iter().rev().collect();
        let mut at: Vec<String> = Vec::new();
        let mut n_links = 0;
        while let Some(part) = waiting.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    if at.pop().is_none() {
                        return Err(FileError::Outside(shown.to_owned()));
                    }
                    continue;
                }
                _ => at.push(part),
            }
            let path = at.join("/");
            match self.entry(&path)? {
                None => {
                    self.reads.borrow_mut().absent.insert(path.clone());
                    return Err(FileError::Absent(path));
                }
                Some(Entry::Folder) => {}
                Some(Entry::File(size)) => {
                    if waiting.iter().any(|part| part != "." && !part.is_empty()) {
                        // The path goes on below a file: there is nothing.
                        self.reads.borrow_mut().absent.insert(path.clone());
                        return Err(FileError::Absent(path));
                    }
                    return Ok(Place::File { path, size });
                }
                Some(Entry::Link(target)) => {
                    n_links += 1;
                    if n_links > LINKS_MAX {
                        return Err(FileError::Links(shown.to_owned()));
                    }
                    self.reads.borrow_mut().links.insert(path);
                    at.pop();
                    if target.starts_with('/') {
                        at.clear();
                    }
                    waiting.extend(target.split('/').rev().map(str::to_owned));
                }
            }
        }
        let path = at.join("/");
        self.reads.borrow_mut().folders.insert(path.clone());
        Ok(Place::Folder { path })
    }

    fn entry(&self, path: &str) -> Result<Option<Entry>, FileError> {
        let io = |error: std::io::Error| FileError::Io { path: path.to_owned(), message: error.to_string() };
        self.tree.entry(path).map_err(io)
    }

    pub(crate) fn folder(&self, folder: &str, path: &str) -> Result<String, FileError> {
        match self.resolve(folder, path)? {
            Place::Folder { path } => Ok(path),
            Place::File { path, .. } => {
                self.reads.borrow_mut().files.insert(path.clone());
                Err(FileError::IsFile(path))
            }
        }
    }

    /// Reads a file. With `root`, it must be in or below that folder once links are followed.
    pub(crate) fn read(
        &self,
        folder: &str,
        path: &str,
        root: Option<&str>,
    ) -> Result<(String, Arc<[u8]>), FileError> {
        let (path, size) = match self.resolve(folder, path)? {
            Place::Folder { path } => return Err(FileError::IsFolder(path)),
            Place::File { path, size } => (path, size),
        };
        self.reads.borrow_mut().files.insert(path.clone());
        if let Some(root) = root.filter(|root| !root.is_empty() && !is_below(&path, root)) {
            return Err(FileError::Restricted { file: path, root: root.to_owned() });
        }
        if size > FILE_BYTES_MAX {
            return Err(FileError::TooLarge { path, bytes: size });
        }
        let content = self
            .tree
            .read(&path)
            .map_err(|error| FileError::Io { path: path.clone(), message: error.to_string() })?;
        let bytes = self.bytes.get().saturating_add(content.len() as u64);
        self.bytes.set(bytes);
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(FileError::TooLarge { path, bytes: content.len() as u64 });
        }
        if bytes > READ_BYTES_MAX {
            return Err(FileError::TooMuch);
        }
        Ok((path, content))
    }
}

fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
