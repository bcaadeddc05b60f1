//! Unpacks a tar that nobody trusts: nothing is written outside the folder, no link leads out of it, no device or
//! pipe is made, and its size is bounded.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Entries of an archive.
const ENTRIES_MAX: usize = 500_000;
/// Bytes of an archive's files.
const BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

pub(super) fn unpack(archive: impl Read, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    let mut archive = tar::Archive::new(archive);
    let mut left = BYTES_MAX;
    let refused = |error: io::Error| Error::Archive { message: error.to_string() };
    for (number, entry) in archive.entries().map_err(refused)?.enumerate() {
        if number >= ENTRIES_MAX {
            return Err(Error::Archive { message: format!("more than {ENTRIES_MAX} entries") });
        }
        let mut entry = entry.map_err(refused)?;
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = relative(&entry.path().map_err(refused)?).ok_or_else(|| leaves(&shown))?;
        let kind = entry.header().entry_type();
        if path.as_os_str().is_empty() {
            continue; // The folder itself.
        }
        let target = folder.join(&path);
        make_parents(folder, &path, &shown)?;
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        if kind.is_dir() {
            make_folder(&target, &shown)?;
        } else if kind.is_file() {
            left = left
                .checked_sub(entry.size())
                .ok_or_else(|| Error::Archive { message: format!("more than {BYTES_MAX} bytes") })?;
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode | 0o600)
                .open(&target)
                .map_err(Error::file("write", &target))?;
            io::copy(&mut entry, &mut file).map_err(Error::file("write", &target))?;
        } else if kind.is_symlink() {
            let to = entry.link_name().map_err(refused)?.ok_or_else(|| leaves(&shown))?.into_owned();
            if !link_stays_inside(&path, &to) {
                return Err(leaves(&shown));
            }
            symlink(&to, &target).map_err(Error::file("link", &target))?;
        } else if kind.is_hard_link() {
            let to = entry.link_name().map_err(refused)?.ok_or_else(|| leaves(&shown))?;
            let to = relative(&to).ok_or_else(|| leaves(&shown))?;
            make_parents(folder, &to, &shown)?;
            fs::hard_link(folder.join(to), &target).map_err(Error::file("link", &target))?;
        } else {
            return Err(Error::Archive { message: format!("`{shown}` is neither file, folder nor link") });
        }
    }
    Ok(())
}

fn leaves(shown: &str) -> Error {
    Error::Archive { message: format!("`{shown}` leads out of the folder") }
}

/// The path without `.`, refused if it is absolute or has `..`.
fn relative(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(clean)
}

/// `..` is allowed only at the beginning of a link: behind a name it could be taken from wherever a link of that name
/// leads to.
fn link_stays_inside(path: &Path, to: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    let mut named = false;
    for part in to.components() {
        match part {
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::ParentDir if !named && depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

/// Makes the folders above an entry; none of them may be a link.
fn make_parents(folder: &Path, path: &Path, shown: &str) -> Result<()> {
    let mut parent = folder.to_path_buf();
    let parts: Vec<_> = path.components().collect();
    for part in &parts[..parts.len().saturating_sub(1)] {
        parent.push(part);
        make_folder(&parent, shown)?;
    }
    Ok(())
}

fn make_folder(path: &Path, shown: &str) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Error::Archive { message: format!("`{shown}` is below a file or link") }),
        Err(_) => fs::create_dir(path).map_err(Error::file("make", path)),
    }
}
