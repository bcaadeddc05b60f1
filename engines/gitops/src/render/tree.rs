//! What a build reads from: a folder, a git tree, files in memory. Paths are relative to the root of the tree, with
//! `/` between their parts; the root itself is the empty path. A tree answers for one path part by part: links are
//! followed by the reader (`files.rs`), so that no tree can be left through one.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What stands at a path, a link not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// With its size in bytes.
    File(u64),
    Folder,
    /// With its text.
    Link(String),
}

/// A tree of files. Implementations must give the same answers during one build.
pub trait Tree: Sync {
    /// What stands at a path whose parents are folders.
    ///
    /// # Errors
    /// What keeps the tree from answering; that nothing is there is no error.
    fn entry(&self, path: &str) -> io::Result<Option<Entry>>;

    /// The content of a file.
    ///
    /// # Errors
    /// As [`Tree::entry`]; also if there is no file.
    fn read(&self, path: &str) -> io::Result<Arc<[u8]>>;
}

/// A folder on disk.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// `root` is not read now.
    pub fn new(root: impl Into<PathBuf>) -> Folder {
        Folder { root: root.into() }
    }

    /// Where a path of the tree is on disk.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Tree for Folder {
    fn entry(&self, path: &str) -> io::Result<Option<Entry>> {
        let full = self.root.join(path);
        let metadata = match std::fs::symlink_metadata(&full) {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            // A name that the system does not take is not there.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Ok(Some(Entry::Folder));
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(&full)?;
            return match target.to_str() {
                Some(target) => Ok(Some(Entry::Link(target.to_owned()))),
                None => Err(io::Error::new(io::ErrorKind::InvalidData, "the link's text is not UTF-8")),
            };
        }
        if kind.is_file() {
            return Ok(Some(Entry::File(metadata.len())));
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "neither a file nor a folder"))
    }

    fn read(&self, path: &str) -> io::Result<Arc<[u8]>> {
        std::fs::read(self.root.join(path)).map(Arc::from)
    }
}

/// Files in memory; folders are what their paths say.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: BTreeMap<String, Arc<[u8]>>,
}

impl Memory {
    /// Adds or replaces a file. `path` is relative, without `.` and `..`.
    pub fn insert(&mut self, path: impl Into<String>, content: impl Into<Arc<[u8]>>) {
        self.files.insert(path.into(), content.into());
    }
}

impl Tree for Memory {
    fn entry(&self, path: &str) -> io::Result<Option<Entry>> {
        if let Some(file) = self.files.get(path) {
            return Ok(Some(Entry::File(file.len() as u64)));
        }
        let prefix = format!("{path}/");
        let below = self.files.range(prefix.clone()..).next();
        let is_folder = path.is_empty() || below.is_some_and(|(name, _)| name.starts_with(&prefix));
        Ok(is_folder.then_some(Entry::Folder))
    }

    fn read(&self, path: &str) -> io::Result<Arc<[u8]>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}
