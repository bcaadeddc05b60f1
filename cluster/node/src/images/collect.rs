//! Removes images and sources that were not used for long, or the oldest ones while all are too large together.
//! Never one that the caller names: in use by a Pod, or named by a Release that is kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{ImageConfig, ImageRef, ImageStore};
use crate::error::{Error, Result};
use crate::runtime::process::remove_tree;
use crate::supervisor::records;

/// When an entry may go.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Entries not used for so long are removed.
    pub unused_max: Duration,
    /// While all entries are larger together, the ones unused for the longest time are removed.
    pub size_bytes_max: u64,
    /// Younger entries stay: whoever made one may not have named it yet.
    pub young_max: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            unused_max: Duration::from_secs(14 * 24 * 3600),
            size_bytes_max: 10 * 1024 * 1024 * 1024,
            young_max: Duration::from_secs(3600),
        }
    }
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Removed entries.
    pub removed: Vec<ImageRef>,
    /// Their size.
    pub size_bytes: u64,
}

struct Entry {
    image: ImageRef,
    path: PathBuf,
    used: SystemTime,
    size_bytes: u64,
}

impl ImageStore {
    /// Removes what `policy` lets go and `keep` does not name.
    pub fn collect(&self, keep: &BTreeSet<ImageRef>, policy: &Policy, now: SystemTime) -> Result<Collected> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut total: u64 = entries.iter().map(|entry| entry.size_bytes).sum();
        let mut collected = Collected::default();
        for entry in entries {
            let unused = now.duration_since(entry.used).unwrap_or_default();
            let may_go = !keep.contains(&entry.image) && unused >= policy.young_max;
            if !may_go || (unused < policy.unused_max && total <= policy.size_bytes_max) {
                continue;
            }
            remove(&entry)?;
            total -= entry.size_bytes;
            collected.size_bytes += entry.size_bytes;
            collected.removed.push(entry.image);
        }
        Ok(collected)
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.images).map_err(Error::file("read", &self.images))?.flatten() {
            let path = file.path();
            let Ok(metadata) = fs::metadata(path.join("image.json")) else { continue };
            let config: ImageConfig = records::read(&path.join("image.json")).unwrap_or_default();
            entries.push(Entry {
                image: ImageRef::Build(file.file_name().to_string_lossy().into_owned()),
                used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                size_bytes: config.size_bytes,
                path,
            });
        }
        for file in fs::read_dir(&self.sources).map_err(Error::file("read", &self.sources))?.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let (Some(hex), Ok(metadata)) = (name.strip_suffix(".tar"), file.metadata()) else { continue };
            entries.push(Entry {
                image: ImageRef::Source(hex.to_string()),
                used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                size_bytes: metadata.len(),
                path: file.path(),
            });
        }
        Ok(entries)
    }
}

fn remove(entry: &Entry) -> Result<()> {
    if entry.path.is_file() {
        return fs::remove_file(&entry.path).map_err(Error::file("remove", &entry.path));
    }
    // First its name, so that no half-removed image is ever found.
    let aside = entry.path.with_file_name(format!(".old-{}", fastrand::u64(..)));
    fs::rename(&entry.path, &aside).map_err(Error::file("move", &entry.path))?;
    remove_tree(&aside).map_err(Error::file("remove", aside))
}

/// Bytes of all files below a folder; links are not followed.
pub(super) fn size_of_tree(folder: &Path) -> u64 {
    let mut size = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        size += if metadata.is_dir() { size_of_tree(&entry.path()) } else { metadata.len() };
    }
    size
}
