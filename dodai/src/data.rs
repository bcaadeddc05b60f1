//! The data folder: made so that git ignores it, locked so that one dodai at a time uses it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure, Result};
use crate::target;

/// The folder, ours as long as this lives.
pub(crate) struct DataFolder {
    pub(crate) path: PathBuf,
    lock: File,
}

impl DataFolder {
    /// Makes the folder if need be and takes its lock.
    pub(crate) fn open(path: &Path) -> Result<DataFolder> {
        let cannot = || format!("cannot use the data folder `{}`", path.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).context(cannot())?;
        let path = fs::canonicalize(path).context(cannot())?;
        let ignore = path.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "# dodai's own: everything in here.\n*\n").context(cannot())?;
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .context(cannot())?;
        if target::lock(&lock).is_err() {
            let mut text = String::new();
            let _ = lock.read_to_string(&mut text);
            let pid = text.lines().next().unwrap_or("?").to_owned();
            return Err(Failure::failed(format!(
                "the data folder `{}` is in use by another dodai (process {pid})",
                path.display()
            ))
            .hint("`dodai apply DIR` changes what runs there, `dodai down` stops it"));
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .context(cannot())?;
        Ok(DataFolder { path, lock })
    }

    /// A small text that is kept over restarts, such as the port of the API.
    pub(crate) fn recall(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path.join(name)).ok().map(|text| text.trim().to_owned())
    }

    /// Keeps such a text.
    pub(crate) fn keep(&self, name: &str, text: &str) -> Result<()> {
        let place = self.path.join(name);
        fs::write(&place, format!("{text}\n")).context(format!("cannot write `{}`", place.display()))
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // The lock goes with the descriptor; the process that held it is no longer of interest.
        let _ = self.lock.set_len(0);
    }
}
