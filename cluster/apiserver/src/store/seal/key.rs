//! The keys that seal, and where they lie: never in the data folder.
//!
//! A key is named by a digest of itself, so a wrong one is told from a right one without trying. In a folder there is
//! one file per key, `<id>.key`; a file that was named may hold several: the first seals, the others open what they
//! sealed. Files must be readable by their owner alone.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key.
const KEY_LEN: usize = 32;
/// Bytes of its name.
const ID_LEN: usize = 16;
/// What a line with a key begins with; the number is the version of the line.
const LINE: &str = "DODAI-STORE-KEY-1";
/// Longest file with keys, bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The folder in the user's configuration folder.
const FOLDER: &str = "dodai/store-keys";

/// Why a key cannot be had. Never holds one.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file that is there and cannot be read.
    #[error("cannot read the key in `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be made.
    #[error("cannot write the key `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read it.
    #[error(
        "the key in `{}` can be read by others (mode {mode:03o}): `chmod 600` it; if others did read it, the Secrets are \
         no longer secret",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not what keys look like.
    #[error("`{}` holds no key of a store: a line `{LINE}` and 64 hexadecimal digits is wanted", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
    },
    /// No home.
    #[error(
        "neither `XDG_CONFIG_HOME` nor `HOME` says where the user's configuration folder is, in which the key that seals \
         Secrets is kept: set one, or name a file for it (`--key-file`)"
    )]
    NoHome,
}

/// The name of a key: the first half of the SHA-256 of a fixed word and the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; ID_LEN]);

impl KeyId {
    /// From the bytes in a record or header.
    pub fn new(bytes: [u8; ID_LEN]) -> KeyId {
        KeyId(bytes)
    }

    /// As records and headers hold it.
    pub fn bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A key. Its bytes are wiped when it goes, and never printed.
#[derive(Clone)]
pub struct SealKey {
    bytes: Zeroizing<[u8; KEY_LEN]>,
    id: KeyId,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

impl SealKey {
    /// A new key from the system's random bytes.
    pub fn generate() -> SealKey {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        SystemRandom::new().fill(&mut *bytes).expect("the system gives random bytes");
        SealKey::from_bytes(bytes)
    }

    fn from_bytes(bytes: Zeroizing<[u8; KEY_LEN]>) -> SealKey {
        let digest = Sha256::new().chain_update(b"dodai store key id\0").chain_update(*bytes).finalize();
        let id = digest.first_chunk().expect("a digest has 32 bytes");
        SealKey { id: KeyId(*id), bytes }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.bytes
    }

    /// A file with this key; `of` is said in a comment.
    fn file(&self, of: &str) -> Zeroizing<String> {
        let mut digits = hex::encode(*self.bytes);
        let text = format!(
            "# Key {} seals the Secrets in {}.\n# Whoever has both reads them; without this file nobody does. Keep a \
             copy elsewhere.\n{LINE} {digits}\n",
            self.id,
            of.escape_default()
        );
        digits.zeroize();
        Zeroizing::new(text)
    }

    /// The keys in the text of a file; `None` when a line is something else.
    fn parse_all(text: &str) -> Option<Vec<SealKey>> {
        let mut keys = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let digits = line.strip_prefix(LINE)?.trim();
            let mut bytes = Zeroizing::new([0; KEY_LEN]);
            hex::decode_to_slice(digits, &mut *bytes).ok()?;
            keys.push(SealKey::from_bytes(bytes));
        }
        Some(keys).filter(|keys| !keys.is_empty())
    }
}

/// Where the keys of a store are.
#[derive(Clone, Debug)]
pub enum KeyPlace {
    /// A folder with a file per key.
    Folder(PathBuf),
    /// One file; the first key in it seals.
    File(PathBuf),
    /// In memory, for tests; the first seals.
    Given(Vec<SealKey>),
}

/// `dodai/store-keys` in the user's configuration folder.
///
/// # Errors
/// No home.
pub fn user_folder() -> Result<PathBuf, KeyError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    home.map(|home| home.join(FOLDER)).ok_or(KeyError::NoHome)
}

impl KeyPlace {
    /// The file in which the key `id` is looked for.
    pub fn file_of(&self, id: KeyId) -> Option<PathBuf> {
        match self {
            KeyPlace::Folder(folder) => Some(folder.join(format!("{id}.key"))),
            KeyPlace::File(file) => Some(file.clone()),
            KeyPlace::Given(_) => None,
        }
    }

    /// The key that seals, in a store whose files name `id`. `None` when it is not there.
    pub(crate) fn current(&self, id: KeyId) -> Result<Option<SealKey>, KeyError> {
        Ok(match self {
            KeyPlace::Folder(_) => self.find(id)?,
            KeyPlace::File(file) => read(file)?.into_iter().next(),
            KeyPlace::Given(keys) => keys.first().cloned(),
        })
    }

    /// The key with this name; `None` when it is not there.
    pub(crate) fn find(&self, id: KeyId) -> Result<Option<SealKey>, KeyError> {
        let keys = match self {
            KeyPlace::Folder(folder) => read(&folder.join(format!("{id}.key")))?,
            KeyPlace::File(file) => read(file)?,
            KeyPlace::Given(keys) => keys.clone(),
        };
        Ok(keys.into_iter().find(|key| key.id() == id))
    }

    /// A key for a new store: a new one, unless a file was named that holds one; and the file that was written for
    /// it, if one was. It is durable when this returns.
    pub(crate) fn make(&self, of: &str) -> Result<(SealKey, Option<PathBuf>), KeyError> {
        match self {
            KeyPlace::Given(keys) => Ok((keys.first().cloned().unwrap_or_else(SealKey::generate), None)),
            KeyPlace::Folder(folder) => {
                let key = SealKey::generate();
                let path = folder.join(format!("{}.key", key.id()));
                match write(&path, &key.file(of)) {
                    Ok(()) => Ok((key, Some(path))),
                    Err(source) => Err(KeyError::Write { path, source }),
                }
            }
            KeyPlace::File(path) => {
                if let Some(key) = read(path)?.into_iter().next() {
                    return Ok((key, None));
                }
                let key = SealKey::generate();
                match write(path, &key.file(of)) {
                    Ok(()) => Ok((key, Some(path.clone()))),
                    // Another server that shares the file made it in this moment.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        let theirs = read(path)?.into_iter().next();
                        theirs.map(|key| (key, None)).ok_or_else(|| KeyError::Bad { path: path.clone() })
                    }
                    Err(source) => Err(KeyError::Write { path: path.clone(), source }),
                }
            }
        }
    }
}

/// The keys in a file; none when there is no such file.
fn read(path: &Path) -> Result<Vec<SealKey>, KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&meta) & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.to_owned(), mode });
        }
    }
    let bad = || KeyError::Bad { path: path.to_owned() };
    if meta.len() > FILE_BYTES_MAX {
        return Err(bad());
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    SealKey::parse_all(&text).ok_or_else(bad)
}

/// Writes a file that only its owner can read, durably, and never over one that is there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Whole or not there: it gets its name when it is durable, and a link never replaces what has the name.
    let half = path.with_extension(format!("new-{:016x}", fastrand::u64(..)));
    let made = options.open(&half).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::hard_link(&half, path)
    });
    let removed = std::fs::remove_file(&half);
    made.and(removed)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = KeyPlace::Folder(folder.path().join("a/b"));
        let (key, made) = place.make("a\ntest").unwrap();
        let file = place.file_of(key.id()).unwrap();
        assert_eq!(made.as_ref(), Some(&file));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let found = place.find(key.id()).unwrap().unwrap();
        assert_eq!((found.id(), found.bytes()), (key.id(), key.bytes()));
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no half file is left");

        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = place.find(key.id()).unwrap_err();
        assert!(refused.to_string().contains("can be read by others (mode 640)"), "{refused}");
        assert!(!format!("{key:?} {refused:?}").contains(&hex::encode(key.bytes())));
    }

    #[test]
    fn a_named_file_is_made_once_and_may_hold_several() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let place = KeyPlace::File(path.clone());
        let (first, made) = place.make("x").unwrap();
        assert_eq!(made.as_ref(), Some(&path));
        let (again, made) = place.make("y").unwrap();
        assert_eq!((again.id(), made), (first.id(), None));
        let second = SealKey::generate();
        let both = format!("{}{}", &*second.file("x"), std::fs::read_to_string(&path).unwrap());
        std::fs::write(&path, both).unwrap();
        assert_eq!(place.current(first.id()).unwrap().unwrap().id(), second.id(), "the first line seals");
        assert_eq!(place.find(first.id()).unwrap().unwrap().id(), first.id());
        for text in ["", "DODAI-STORE-KEY-1 abc\n", "something else\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(place.current(first.id()), Err(KeyError::Bad { .. })), "{text:?}");
        }
    }
}
