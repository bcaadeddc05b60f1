//! The tree of a commit, read straight from the objects of a repository: no work tree, nothing written.
//!
//! Objects come from `gix-odb` (loose ones and packs). References, commits and trees are simple enough to be read here,
//! which keeps the rest of gix, with its transports and configuration, out.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gix_hash::ObjectId;
use gix_object::{Find, Kind};

use super::tree::{Entry, Tree};

/// Commits that one revision (`main~1000`) may go back.
const PARENTS_MAX: usize = 10_000;
/// References that refer to references, and tags of tags.
const STEPS_MAX: usize = 16;

/// Why a repository or a revision cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("`{path}` is no git repository")]
    NoRepository { path: String },
    #[error("cannot open the repository `{path}`")]
    Open {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("there is no commit `{revision}` in the repository")]
    NoRevision { revision: String },
    #[error("cannot read the object {id}: {message}")]
    Object { id: String, message: String },
}

/// The files of one commit.
pub struct GitTree {
    objects: Objects,
    root: ObjectId,
    commit: ObjectId,
    /// Folders that were listed.
    folders: Mutex<HashMap<String, Listing>>,
}

type Listing = Arc<HashMap<String, (Mode, ObjectId)>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Folder,
    File,
    Link,
    Submodule,
}

struct Objects(Mutex<gix_odb::Handle>);

impl Objects {
    fn get(&self, id: ObjectId) -> Result<(Kind, Vec<u8>), GitError> {
        let failed = |message: String| GitError::Object { id: id.to_string(), message };
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = Vec::new();
        let found = handle.try_find(&id, &mut buffer).map_err(|error| failed(error.to_string()))?;
        let kind = found.ok_or_else(|| failed("it is not there".to_owned()))?.kind;
        Ok((kind, buffer))
    }

    fn size(&self, id: ObjectId) -> Result<u64, GitError> {
        let failed = |message: String| GitError::Object { id: id.to_string(), message };
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found =
            gix_object::FindHeader::try_header(&*handle, &id).map_err(|error| failed(error.to_string()))?;
        found.map(|header| header.size).ok_or_else(|| failed("it is not there".to_owned()))
    }

    /// Follows tags to a commit.
    fn commit(&self, mut id: ObjectId) -> Result<Option<(ObjectId, Vec<u8>)>, GitError> {
        for _ in 0..STEPS_MAX {
            match self.get(id)? {
                (Kind::Commit, text) => return Ok(Some((id, text))),
                (Kind::Tag, text) => match header(&text, "object").next() {
                    Some(target) => id = target,
                    None => return Ok(None),
                },
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// The ids behind a name in the head of a commit or tag.
fn header<'t>(text: &'t [u8], name: &'t str) -> impl Iterator<Item = ObjectId> + 't {
    text.split(|byte| *byte == b'\n')
        .take_while(|line| !line.is_empty())
        .filter_map(move |line| line.strip_prefix(name.as_bytes())?.strip_prefix(b" "))
        .filter_map(|hex| ObjectId::from_hex(hex).ok())
}

impl GitTree {
    /// Opens a repository (a work tree, or a bare one) at a revision: a branch, a tag, a commit or the beginning of one,
    /// each with `~N` and `^` behind it.
    ///
    /// # Errors
    /// No repository, no such revision, or one that is no commit.
    pub fn open(path: &Path, revision: &str) -> Result<GitTree, GitError> {
        let folders = Folders::find(path)?;
        let open = |source| GitError::Open { path: path.display().to_string(), source };
        let store = gix_odb::at(folders.common.join("objects"), gix_hash::Kind::Sha1).map_err(open)?;
        let objects = Objects(Mutex::new(store));
        let missing = || GitError::NoRevision { revision: revision.to_owned() };
        let (base, steps) = split_revision(revision).ok_or_else(missing)?;
        let id = folders.reference(base).or_else(|| by_prefix(&objects, base)).ok_or_else(missing)?;
        let (mut commit, mut text) = objects.commit(id)?.ok_or_else(missing)?;
        for _ in 0..steps {
            let parent = header(&text, "parent").next().ok_or_else(missing)?;
            (commit, text) = objects.commit(parent)?.ok_or_else(missing)?;
        }
        let root = header(&text, "tree").next().ok_or_else(missing)?;
        Ok(GitTree { objects, root, commit, folders: Mutex::default() })
    }

    /// The commit that the revision stands for.
    pub fn commit(&self) -> String {
        self.commit.to_string()
    }

    fn list(&self, folder: &str) -> io::Result<Option<Listing>> {
        if let Some(known) = self.folders.lock().unwrap_or_else(PoisonError::into_inner).get(folder) {
            return Ok(Some(Arc::clone(known)));
        }
        let id = match folder {
            "" => self.root,
            _ => match self.find(folder)? {
                Some((Mode::Folder, id)) => id,
                _ => return Ok(None),
            },
        };
        let (_, content) = self.objects.get(id).map_err(io::Error::other)?;
        let listing = Arc::new(read_tree(&content));
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        folders.insert(folder.to_owned(), Arc::clone(&listing));
        Ok(Some(listing))
    }

    fn find(&self, path: &str) -> io::Result<Option<(Mode, ObjectId)>> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok(self.list(folder)?.and_then(|listing| listing.get(name).copied()))
    }
}

impl Tree for GitTree {
    fn entry(&self, path: &str) -> io::Result<Option<Entry>> {
        if path.is_empty() {
            return Ok(Some(Entry::Folder));
        }
        let Some((mode, id)) = self.find(path)? else { return Ok(None) };
        match mode {
            Mode::Folder => Ok(Some(Entry::Folder)),
            Mode::File => Ok(Some(Entry::File(self.objects.size(id).map_err(io::Error::other)?))),
            Mode::Link => {
                let (_, target) = self.objects.get(id).map_err(io::Error::other)?;
                match String::from_utf8(target) {
                    Ok(target) => Ok(Some(Entry::Link(target))),
                    Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the link's text is not UTF-8")),
                }
            }
            Mode::Submodule => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a submodule; its files are in another repository",
            )),
        }
    }

    fn read(&self, path: &str) -> io::Result<Arc<[u8]>> {
        match self.find(path)? {
            Some((Mode::File, id)) => Ok(self.objects.get(id).map_err(io::Error::other)?.1.into()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
}

/// Entries of a tree object; names that are not UTF-8 cannot be asked for.
fn read_tree(mut content: &[u8]) -> HashMap<String, (Mode, ObjectId)> {
    const ID_BYTES: usize = 20;
    let mut listing = HashMap::new();
    while let Some(space) = content.iter().position(|byte| *byte == b' ') {
        let Some(end) = content.iter().position(|byte| *byte == 0) else { break };
        let Some(id) = content.get(end + 1..end + 1 + ID_BYTES) else { break };
        let mode = match &content[..space] {
            b"40000" | b"040000" => Mode::Folder,
            b"120000" => Mode::Link,
            b"160000" => Mode::Submodule,
            _ => Mode::File,
        };
        if let (Ok(name), Ok(id)) = (std::str::from_utf8(&content[space + 1..end]), ObjectId::try_from(id)) {
            listing.insert(name.to_owned(), (mode, id));
        }
        content = &content[end + 1 + ID_BYTES..];
    }
    listing
}

/// `main~2^` -> `main`, 3.
fn split_revision(revision: &str) -> Option<(&str, usize)> {
    let end = revision.find(['~', '^']).unwrap_or(revision.len());
    let (base, mut rest) = revision.split_at(end);
    let mut steps = 0_usize;
    while let Some(step) = rest.chars().next() {
        let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
        let number = &rest[1..1 + digits];
        steps = steps.saturating_add(match (step, number) {
            ('~' | '^', "") | ('^', "1") => 1,
            ('^', "0") => 0,
            ('~', number) => number.parse().ok()?,
            // Other parents of merges are not asked for.
            _ => return None,
        });
        rest = &rest[1 + digits..];
    }
    let base = if base.is_empty() || base == "@" { "HEAD" } else { base };
    (steps <= PARENTS_MAX).then_some((base, steps))
}

/// A commit by the beginning of its id.
fn by_prefix(objects: &Objects, hex: &str) -> Option<ObjectId> {
    if let Ok(id) = ObjectId::from_hex(hex.as_bytes()) {
        return Some(id);
    }
    let prefix = gix_hash::Prefix::from_hex(hex).ok()?;
    let handle = objects.0.lock().unwrap_or_else(PoisonError::into_inner);
    handle.lookup_prefix(prefix, None).ok()??.ok()
}

/// Where a repository keeps its files.
struct Folders {
    /// Of this work tree.
    git: PathBuf,
    /// Shared by all work trees.
    common: PathBuf,
}

impl Folders {
    fn find(path: &Path) -> Result<Folders, GitError> {
        let missing = || GitError::NoRepository { path: path.display().to_string() };
        let inner = path.join(".git");
        let git = if inner.is_dir() {
            inner
        } else if let Ok(text) = std::fs::read_to_string(&inner) {
            path.join(text.trim().strip_prefix("gitdir:").ok_or_else(missing)?.trim())
        } else if path.join("HEAD").is_file() && path.join("objects").is_dir() {
            path.to_owned()
        } else {
            return Err(missing());
        };
        let common = match std::fs::read_to_string(git.join("commondir")) {
            Ok(text) => git.join(text.trim()),
            Err(_) => git.clone(),
        };
        Ok(Folders { git, common })
    }

    /// What a name refers to, looked for where git does.
    fn reference(&self, name: &str) -> Option<ObjectId> {
        let is_plain = !name.starts_with('/')
            && name.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
        if !is_plain {
            return None;
        }
        let places = ["", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"];
        places.iter().find_map(|place| self.full_reference(format!("{place}{name}")))
    }

    fn full_reference(&self, mut name: String) -> Option<ObjectId> {
        for _ in 0..STEPS_MAX {
            let loose = [&self.git, &self.common]
                .iter()
                .find_map(|folder| std::fs::read_to_string(folder.join(&name)).ok());
            let Some(text) = loose else { return self.packed(&name) };
            match text.trim().strip_prefix("ref:") {
                Some(target) => name = target.trim().to_owned(),
                None => return ObjectId::from_hex(text.trim().as_bytes()).ok(),
            }
        }
        None
    }

    fn packed(&self, name: &str) -> Option<ObjectId> {
        let text = std::fs::read_to_string(self.common.join("packed-refs")).ok()?;
        let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(_, found)| found == name))?;
        ObjectId::from_hex(line.split(' ').next()?.as_bytes()).ok()
    }
}
