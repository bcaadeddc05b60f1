//! Packs a source folder by content: the same files give the same digest, wherever and whenever they are packed.
//!
//! The tar holds paths in byte order, no owners, no times, and of the mode only whether a file may be executed. What git
//! ignores is left out, and so are `.git`, `.dodai` and the manifests themselves (a new number of replicas is no new
//! source). Symlinks are kept as they are; they are resolved inside the Pod, where they cannot lead out.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::failure::{Context, Failure, Result};
use crate::units;

/// Largest source folder, bytes of the tar.
pub(crate) const SOURCE_BYTES_MAX: u64 = 1 << 30;
/// Most files and folders in a source folder.
pub(crate) const SOURCE_ENTRIES_MAX: usize = 100_000;

/// Packs `folder` into `<store>/<hex>.tar` and returns the hex digest. Files in `without` are left out.
pub(crate) fn pack(folder: &Path, without: &[PathBuf], store: &Path) -> Result<String> {
    let entries = list(folder, without)?;
    if entries.is_empty() {
        return Err(Failure::invalid(format!("nothing to pack in `{}`", folder.display()))
            .hint("every file there is ignored by git or is a manifest"));
    }
    fs::create_dir_all(store).context(format!("cannot create `{}`", store.display()))?;
    let temporary = store.join(format!(".packing-{}-{:08x}", std::process::id(), rand()));
    let result = write(folder, &entries, &temporary);
    let digest = match result {
        Ok(digest) => digest,
        Err(failure) => {
            let _ = fs::remove_file(&temporary);
            return Err(failure);
        }
    };
    let place = store.join(format!("{digest}.tar"));
    fs::rename(&temporary, &place).context(format!("cannot store the sources as `{}`", place.display()))?;
    Ok(digest)
}

fn rand() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() as u32
}

/// Paths relative to the folder, in byte order.
fn list(folder: &Path, without: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let without: Vec<PathBuf> = without.iter().filter_map(|file| fs::canonicalize(file).ok()).collect();
    let root =
        fs::canonicalize(folder).context(format!("cannot read the source folder `{}`", folder.display()))?;
    if !root.is_dir() {
        return Err(Failure::invalid(format!("the source folder `{}` is a file", folder.display())));
    }
    let walk = ignore::WalkBuilder::new(&root)
        .hidden(false)
        .parents(true)
        .require_git(false)
        .git_global(false)
        .follow_links(false)
        .filter_entry(|entry| !matches!(entry.file_name().as_bytes(), b".git" | b".dodai"))
        .build();
    let mut paths = Vec::new();
    for entry in walk {
        let entry = entry.context(format!("cannot read the source folder `{}`", folder.display()))?;
        let Ok(path) = entry.path().strip_prefix(&root) else { continue };
        if path.as_os_str().is_empty() || without.iter().any(|file| file == entry.path()) {
            continue;
        }
        paths.push(path.to_owned());
        if paths.len() > SOURCE_ENTRIES_MAX {
            return Err(Failure::invalid(format!(
                "the source folder `{}` holds more than {SOURCE_ENTRIES_MAX} files",
                folder.display()
            ))
            .hint("name what does not belong to the sources in `.gitignore`"));
        }
    }
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(paths)
}

fn write(folder: &Path, paths: &[PathBuf], temporary: &Path) -> Result<String> {
    let out = File::create(temporary).context(format!("cannot write `{}`", temporary.display()))?;
    let mut tar = tar::Builder::new(Hashing { out: io::BufWriter::new(out), hash: Sha256::new(), bytes: 0 });
    for path in paths {
        append(&mut tar, folder, path).context(format!("cannot pack `{}`", folder.join(path).display()))?;
    }
    let hashing = tar.into_inner().context("cannot pack the sources")?;
    let bytes = hashing.bytes;
    let mut out = hashing.out;
    out.flush()
        .and_then(|()| out.get_ref().sync_all())
        .context(format!("cannot write `{}`", temporary.display()))?;
    if bytes > SOURCE_BYTES_MAX {
        return Err(too_large(folder));
    }
    Ok(hex::encode(hashing.hash.finalize()))
}

fn too_large(folder: &Path) -> Failure {
    let max = units::size(SOURCE_BYTES_MAX);
    Failure::invalid(format!("the source folder `{}` is larger than {max}", folder.display()))
        .hint("name what does not belong to the sources in `.gitignore`")
}

fn append(tar: &mut tar::Builder<Hashing>, folder: &Path, path: &Path) -> io::Result<()> {
    let full = folder.join(path);
    let meta = fs::symlink_metadata(&full)?;
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    if meta.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, path, io::empty())
    } else if meta.file_type().is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        tar.append_link(&mut header, path, fs::read_link(&full)?)
    } else if meta.is_file() {
        if tar.get_ref().bytes + meta.len() > SOURCE_BYTES_MAX {
            return Err(io::Error::other(format!("more than {} in all", units::size(SOURCE_BYTES_MAX))));
        }
        header.set_mode(if meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 });
        header.set_size(meta.len());
        tar.append_data(&mut header, path, Exact { file: File::open(&full)?, left: meta.len() })
    } else {
        Err(io::Error::other("neither a file, a folder nor a symlink"))
    }
}

/// A file that is being written to while it is packed must not shift what follows it.
struct Exact {
    file: File,
    left: u64,
}

impl io::Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = io::Read::read(&mut self.file, &mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::other("the file became shorter while it was packed"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

struct Hashing {
    out: io::BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.out.write(data)?;
        self.hash.update(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_follows_content_and_nothing_else() {
        let base = std::env::temp_dir().join(format!("dodai-pack-{}", std::process::id()));
        let digests: Vec<String> = ["one", "two"]
            .iter()
            .map(|name| {
                let folder = base.join(name);
                fs::create_dir_all(folder.join("sub/.git")).unwrap();
                fs::create_dir_all(folder.join(".venv")).unwrap();
                fs::write(folder.join("sub/a.py"), "print(1)").unwrap();
                fs::write(folder.join("app.yaml"), name).unwrap();
                fs::write(folder.join(".venv/x"), name).unwrap();
                fs::write(folder.join("sub/.git/x"), name).unwrap();
                fs::write(folder.join(".gitignore"), ".venv/\n").unwrap();
                pack(&folder, &[folder.join("app.yaml")], &base.join("store")).unwrap()
            })
            .collect();
        assert_eq!(digests[0], digests[1]);
        assert_eq!(
            hex::encode(Sha256::digest(fs::read(base.join(format!("store/{}.tar", digests[0]))).unwrap())),
            digests[0]
        );
        fs::write(base.join("one/sub/a.py"), "print(2)").unwrap();
        let changed = pack(&base.join("one"), &[base.join("one/app.yaml")], &base.join("store")).unwrap();
        assert_ne!(changed, digests[0]);
        fs::remove_dir_all(&base).unwrap();
    }
}
