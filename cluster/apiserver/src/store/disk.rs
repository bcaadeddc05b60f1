//! The disk as the store sees it: a handful of calls on flat file names, so that a simulation can stand in for it.
//!
//! Leaves out: directories, permissions, locking (see `store.rs`).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Mutex;

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

/// A folder of the real file system.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    open: Mutex<HashMap<String, File>>,
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

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut open = self.open.lock().unwrap_or_else(|poison| poison.into_inner());
        if !open.contains_key(name) {
            let file = options().append(true).open(self.root.join(name))?;
            open.insert(name.to_owned(), file);
        }
        act(open.get_mut(name).expect("inserted just above"))
    }

    fn forget(&self, name: &str) {
        self.open.lock().unwrap_or_else(|poison| poison.into_inner()).remove(name);
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
        self.with(name, |file| file.write_all(data))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        File::open(self.root.join(name))?.read_to_end(&mut content)?;
        Ok(content)
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.with(name, |file| file.set_len(len))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.with(name, |file| file.sync_data())
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
