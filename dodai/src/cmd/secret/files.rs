//! What the verbs share: reading and writing files, the rules of the repository, the keys at hand.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use dodai_secrets::file::FileError;
use dodai_secrets::places::{self, Places};
use dodai_secrets::rules::Rules;
use dodai_secrets::seal::{Keyring, Recipient};

use super::cli;
use crate::failure::{Context, Failure, Result};

/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 3 << 20;
/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 20;
/// Most files of a folder.
const FILES_MAX: usize = 100_000;

/// Reads a file.
pub(crate) fn read(file: &Path) -> Result<String> {
    let what = format!("cannot read `{}`", file.display());
    if fs::metadata(file).context(&what)?.len() > FILE_BYTES_MAX {
        return Err(Failure::invalid(format!("{what}: larger than {FILE_BYTES_MAX} bytes")));
    }
    fs::read_to_string(file).context(what)
}

/// Puts a text in the place of a file, all or nothing: a new file beside it, on disk, then renamed. Its mode stays.
pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    let what = || format!("cannot write `{}`", file.display());
    // A link stays one.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let mode = fs::metadata(&file).map_or(0o644, |meta| meta.mode() & 0o7777);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.dodai-{}", std::process::id()));
    let written = (|| {
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        out.write_all(text.as_bytes())?;
        out.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        out.sync_all()?;
        fs::rename(&new, &file)?;
        fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // The old file is untouched; only ciphertext lies in the new one.
        let _ = fs::remove_file(&new);
    }
    written.context(what())
}

/// Standard input to its end.
pub(crate) fn stdin() -> Result<zeroize::Zeroizing<Vec<u8>>> {
    let mut value = zeroize::Zeroizing::new(Vec::new());
    let mut input = std::io::stdin().lock().take(FILE_BYTES_MAX);
    input.read_to_end(&mut value).context("cannot read the standard input")?;
    Ok(value)
}

/// An error of a file with its name.
pub(crate) fn failed(file: &Path, error: &FileError) -> Failure {
    let text = match error.position {
        Some(_) => format!("{}:{error}", file.display()),
        None => format!("{}: {error}", file.display()),
    };
    Failure::invalid(text)
}

/// The YAML files that were named, or are in the folders that were named.
pub(crate) fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let meta = fs::metadata(path).context(format!("cannot read `{}`", path.display()))?;
        match meta.is_dir() {
            true => walk(path, 0, &mut files)?,
            false => files.push(path.clone()),
        }
    }
    Ok(files)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let what = format!("cannot read `{}`", folder.display());
    let entries = fs::read_dir(folder).context(&what)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .context(&what)?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if depth < DEPTH_MAX && name != "node_modules" && name != "target" {
                walk(&path, depth + 1, files)?;
            }
        } else if name.ends_with(".yaml") || name.ends_with(".yml") {
            if files.len() >= FILES_MAX {
                return Err(Failure::invalid(format!("more than {FILES_MAX} files")));
            }
            files.push(path);
        }
    }
    Ok(())
}

/// The nearest `dodai.yaml` upwards from a file or folder, and the file's path relative to it.
pub(crate) fn rules_of(file: &Path) -> Result<(Rules, String, Option<PathBuf>)> {
    let file = std::path::absolute(file).context(format!("cannot read `{}`", file.display()))?;
    for folder in file.ancestors() {
        let place = folder.join("dodai.yaml");
        if !place.is_file() {
            continue;
        }
        let text = read(&place)?;
        let rules = Rules::parse(&text)
            .map_err(|error| Failure::invalid(format!("{}: error: {error}", place.display())))?;
        let relative = file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().into_owned();
        let demo = rules.demo_identity.as_ref().map(|demo| folder.join(demo));
        return Ok((rules, relative, demo));
    }
    Ok((Rules::default(), file.to_string_lossy().into_owned(), None))
}

/// What a verb needs for a file.
pub(crate) struct Session {
    pub(crate) keyring: Keyring,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) rules: Rules,
    pub(crate) path: String,
    pub(crate) now_s: u64,
}

impl Session {
    /// The keys at hand and the rules for a file.
    pub(crate) fn open(file: &Path, args: &cli::Keyring) -> Result<Session> {
        let (rules, path, demo) = rules_of(file)?;
        let recipients = match args.recipient.as_slice() {
            [] => rules.recipients(&path),
            named => named
                .iter()
                .map(|text| Recipient::parse(text))
                .collect::<std::result::Result<_, _>>()
                .map_err(|error| Failure::invalid(format!("`--recipient`: {error}")))?,
        };
        Ok(Session { keyring: keyring(args, demo)?, recipients, rules, path, now_s: now_s() })
    }

    /// What the library needs to seal.
    pub(crate) fn sealing(&self) -> dodai_secrets::file::back::Sealing<'_> {
        dodai_secrets::file::back::Sealing {
            keyring: &self.keyring,
            recipients: &self.recipients,
            now_s: self.now_s,
        }
    }
}

/// The keys at hand.
pub(crate) fn keyring(args: &cli::Keyring, demo: Option<PathBuf>) -> Result<Keyring> {
    let places = Places { files: args.identity.clone(), demo, ..Places::default() };
    let mut keyring = places::keyring(&places).map_err(|error| Failure::from_error("no keys", &error))?;
    keyring.kms = Some(std::sync::Arc::new(dodai_secrets::kms::Blocking::default()));
    Ok(keyring)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
