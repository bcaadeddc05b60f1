//! The disk as the store sees it: a handful of calls on flat file names, so that a simulation can stand in for it.
//!
//! Leaves out: directories, permissions, locking (see `store.rs`).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the store asks of a disk. Names are plain file names inside one folder.
///
/// `append` and `truncate` need not be durable before `sync`; `rename`, `create` and `remove` need not be durable
/// before `sync_dir`.
pub trait Disk: std::fmt::Debug + Send + Sync + 'static {
    /// Creates an empty file, or empties an existing one.
    fn create(&self, name: &str) -> io::Result<()>;
    /// Writes all of `data` at the end of the file.
    fn append(&self, name: &str, data: &[u8]) -> io::Result<()>;
    /// The whole content; `NotFound` when there is no such file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Cuts the file to `len` bytes.
    fn truncate(&self, name: &str, len: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Replaces `to` by `from`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes the file; no error when it is absent.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// Bytes that are made ready behind the end of a file which grows.
const AHEAD_BYTES: u64 = 4 << 20;
/// Zeros are written in such pieces.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A folder of the real file system.
///
/// A file that is appended to again after a sync will be appended to often. Behind its end zeros are written and synced, so that a
/// later append writes over what is there: a sync then has data to bring to the disk and nothing of the file system, which takes
/// a small part of the time. What is read back, and what is left when the file is closed, ends where the data ends; after a crash
/// there may be zeros behind it.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    open: Mutex<HashMap<String, Open>>,
}

/// A file that is being written.
#[derive(Debug)]
struct Open {
    file: File,
    /// Where the data ends, and the place of the file's cursor.
    len: u64,
    /// Where the file ends: zeros lie between.
    made: u64,
    /// Whether it was synced, so that space is made for what follows; not once that has failed.
    grows: Option<bool>,
}

impl Open {
    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let end = self.len + data.len() as u64;
        if self.grows == Some(true) && end > self.made && self.make(end + AHEAD_BYTES).is_err() {
            // A full disk, perhaps: what is to be written may still fit.
            self.grows = None;
            self.file.set_len(self.len)?;
            self.made = self.len;
            self.file.seek(SeekFrom::Start(self.len))?;
        }
        self.file.write_all(data)?;
        self.len = end;
        self.made = self.made.max(end);
        Ok(())
    }

    /// Writes zeros up to `end`.
    fn make(&mut self, end: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.made))?;
        while self.made < end {
            let piece = ZEROS.len().min((end - self.made) as usize);
            self.file.write_all(&ZEROS[..piece])?;
            self.made += piece as u64;
        }
        self.file.seek(SeekFrom::Start(self.len)).map(drop)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.file.seek(SeekFrom::Start(len))?;
        (self.len, self.made) = (len, len);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.grows = self.grows.map(|_| true);
        Ok(())
    }
}

impl Drop for Open {
    /// Gives back what was made ready. Zeros that stay harm nobody.
    fn drop(&mut self) {
        if self.made > self.len {
            let _ = self.file.set_len(self.len);
        }
    }
}

impl FileDisk {
    /// Opens the folder, creating it (mode 0700) when it is missing.
    pub fn new(root: PathBuf) -> io::Result<FileDisk> {
        std::fs::create_dir_all(&root)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700))?;
        }
        Ok(FileDisk { root, open: Mutex::new(HashMap::new()) })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Open) -> io::Result<T>) -> io::Result<T> {
        let mut open = self.open();
        if !open.contains_key(name) {
            let mut file = options().write(true).open(self.root.join(name))?;
            let len = file.seek(SeekFrom::End(0))?;
            open.insert(name.to_owned(), Open { file, len, made: len, grows: Some(false) });
        }
        act(open.get_mut(name).expect("inserted just above"))
    }

    fn forget(&self, name: &str) {
        self.open().remove(name);
    }
}

fn options() -> OpenOptions {
    #[allow(unused_mut)]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

impl Disk for FileDisk {
    fn create(&self, name: &str) -> io::Result<()> {
        self.forget(name);
        options().write(true).create(true).truncate(true).open(self.root.join(name)).map(drop)
    }

    fn append(&self, name: &str, data: &[u8]) -> io::Result<()> {
        self.with(name, |file| file.append(data))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        File::open(self.root.join(name))?.read_to_end(&mut content)?;
        if let Some(open) = self.open().get(name) {
            content.truncate(open.len as usize);
        }
        Ok(content)
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.with(name, |file| file.truncate(len))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.with(name, Open::sync)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        std::fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.forget(name);
        match std::fs::remove_file(self.root.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.root)?.sync_all()
    }
}
