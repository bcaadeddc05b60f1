//! Where identities are: flags, the environment, SOPS' own places, the user's configuration folder.
//!
//! The configuration folder's file must be readable by its owner alone; dodai makes it so and refuses it otherwise.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::rules::DEMO_MARK;
use crate::seal::Keyring;
use crate::seal::keyring::{Identity, parse_identities};
use crate::sealed;
use crate::sops::gpg::Gpg;

/// Longest file with identities, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The file of the user's own identities, in `dodai` in the configuration folder.
pub const IDENTITY_FILE: &str = "identity.txt";
/// The folder beside it with imported private keys of Sealed Secrets controllers.
pub const SEALING_KEYS_FOLDER: &str = "sealed-secrets";

/// Identities, and where each came from.
#[derive(Debug, Default)]
pub struct Found {
    /// The identities; first what was asked for by name.
    pub identities: Vec<Identity>,
    /// `place: n identities`, for people.
    pub places: Vec<(String, usize)>,
}

/// Where to look besides the environment and the user's folders.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Files that were named.
    pub files: Vec<PathBuf>,
    /// A demo identity beside the files.
    pub demo: Option<PathBuf>,
    /// Files with private keys of a Sealed Secrets controller that were named.
    pub sealing_keys: Vec<PathBuf>,
    /// Look into nothing else.
    pub only_these: bool,
}

/// Why identities could not be read. Never holds one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that is there and cannot be read.
    #[error("cannot read the identities in `{place}`")]
    Read {
        /// The file.
        place: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not what identities look like.
    #[error("cannot read the identities in `{place}`: {what}")]
    Bad {
        /// The file or variable.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// Others can read it.
    #[error(
        "`{place}` can be read by others (mode {mode:03o}): `chmod 600` it, and give everybody new keys if others did"
    )]
    Open {
        /// The file.
        place: String,
        /// Its mode.
        mode: u32,
    },
    /// It could not be made.
    #[error("cannot write the identity `{place}`")]
    Write {
        /// The file.
        place: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No home.
    #[error("neither `XDG_CONFIG_HOME` nor `HOME` says where the configuration folder is")]
    NoHome,
}

/// The user's configuration folder for dodai.
pub fn config_folder() -> Option<PathBuf> {
    config_home().map(|home| home.join("dodai"))
}

fn config_home() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))
}

/// Everything at hand: identities, the way to PGP keys, imported private keys of Sealed Secrets. The way to KMS is for the
/// caller to add.
///
/// # Errors
/// See [`find`].
pub fn keyring(places: &Places) -> Result<Keyring, Error> {
    let mut files = places.sealing_keys.clone();
    if let Some(folder) = config_folder().filter(|_| !places.only_these)
        && let Ok(entries) = fs::read_dir(folder.join(SEALING_KEYS_FOLDER))
    {
        files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    let mut sealing_keys = Vec::new();
    for file in files {
        let place = file.display().to_string();
        let mode = fs::metadata(&file).map(|meta| meta.mode() & 0o777);
        let mode = mode.map_err(|source| Error::Read { place: place.clone(), source })?;
        if mode & 0o077 != 0 && !places.sealing_keys.contains(&file) {
            return Err(Error::Open { place, mode });
        }
        let keys = sealed::parse_keys(&read(&file)?).map_err(|what| Error::Bad { place, what })?;
        sealing_keys.extend(keys);
    }
    let identities = find(places)?.identities;
    Ok(Keyring { identities, sealing_keys, pgp: Some(Arc::new(Gpg::default())), ..Keyring::default() })
}

/// Finds all identities at hand.
///
/// # Errors
/// A place that was named, or the user's own file, cannot be used. Other places are passed over.
pub fn find(places: &Places) -> Result<Found, Error> {
    let mut found = Found::default();
    for file in &places.files {
        found.file(file, false)?;
    }
    if let Some(demo) = &places.demo {
        let text = read(demo)?;
        if !text.lines().any(|line| line.starts_with('#') && line.contains(DEMO_MARK)) {
            return Err(Error::Bad {
                place: demo.display().to_string(),
                what: format!(
                    "an identity beside the files opens them to whoever has the files; one that is for that must say \
                     so in a comment: `# {DEMO_MARK}`"
                ),
            });
        }
        found.text(&demo.display().to_string(), &text)?;
    }
    if places.only_these {
        return Ok(found);
    }
    for name in ["DODAI_AGE_IDENTITY", "SOPS_AGE_KEY"] {
        if let Ok(text) = std::env::var(name) {
            found.text(name, &Zeroizing::new(text))?;
        }
    }
    for name in ["DODAI_AGE_IDENTITY_FILE", "SOPS_AGE_KEY_FILE", "SOPS_AGE_SSH_PRIVATE_KEY_FILE"] {
        if let Some(file) = std::env::var_os(name).filter(|file| !file.is_empty()) {
            found.file(Path::new(&file), false)?;
        }
    }
    if let Some(home) = config_home() {
        let own = home.join("dodai").join(IDENTITY_FILE);
        if own.exists() {
            found.file(&own, true)?;
        }
        let sops = home.join("sops/age/keys.txt");
        if sops.exists() {
            found.file(&sops, false)?;
        }
    }
    // As sops does: an SSH key of the user, if it has no passphrase.
    if let Some(home) = std::env::var_os("HOME") {
        for name in ["id_ed25519", "id_rsa"] {
            let file = Path::new(&home).join(".ssh").join(name);
            if file.exists() {
                // A key with a passphrase is no fault of the user.
                let _ = found.file(&file, false);
            }
        }
    }
    Ok(found)
}

impl Found {
    fn file(&mut self, file: &Path, private: bool) -> Result<(), Error> {
        let place = file.display().to_string();
        if private {
            let meta = fs::metadata(file).map_err(|source| Error::Read { place: place.clone(), source })?;
            let mode = meta.mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(Error::Open { place, mode });
            }
        }
        let text = read(file)?;
        self.text(&place, &text)
    }

    fn text(&mut self, place: &str, text: &str) -> Result<(), Error> {
        let identities =
            parse_identities(text).map_err(|what| Error::Bad { place: place.to_owned(), what })?;
        self.places.push((place.to_owned(), identities.len()));
        for identity in identities {
            let known = identity.recipient().is_some()
                && self.identities.iter().any(|other| other.recipient() == identity.recipient());
            if !known {
                self.identities.push(identity);
            }
        }
        Ok(())
    }
}

fn read(file: &Path) -> Result<Zeroizing<String>, Error> {
    let place = || file.display().to_string();
    let failed = |source| Error::Read { place: place(), source };
    if fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(Error::Bad { place: place(), what: format!("larger than {FILE_BYTES_MAX} bytes") });
    }
    fs::read_to_string(file).map(Zeroizing::new).map_err(failed)
}

/// Writes a new identity to a file that only its owner can read; never over one that is there.
///
/// # Errors
/// The file exists, or cannot be made.
pub fn write_new(file: &Path, identity: &Identity) -> Result<(), Error> {
    let failed = |source| Error::Write { place: file.display().to_string(), source };
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let (Some(secret), Some(recipient)) = (identity.secret_text(), identity.recipient()) else {
        return Err(failed(std::io::Error::other("not an age identity")));
    };
    let text = Zeroizing::new(format!("# public key: {recipient}\n{}\n", *secret));
    let mut out =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)
}

/// The user's own identity file, made if it is not there. Gives the path, and the recipient if it is new.
///
/// # Errors
/// No home, or it cannot be written.
pub fn ensure_own() -> Result<(PathBuf, Option<String>), Error> {
    let file = config_folder().ok_or(Error::NoHome)?.join(IDENTITY_FILE);
    if file.exists() {
        return Ok((file, None));
    }
    let identity = Identity::generate();
    match write_new(&file, &identity) {
        Ok(()) => Ok((file, identity.recipient())),
        // Another dodai made it in this moment.
        Err(Error::Write { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok((file, None))
        }
        Err(error) => Err(error),
    }
}
