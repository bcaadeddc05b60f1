//! The node's image store: packed sources in `<data>/sources/<hex>.tar`, built images in
//! `<data>/images/<hex>/{root/..., image.json}`.
//!
//! An image is built in the place where it stays (`/app`), since a Python venv and much else hold absolute paths. It
//! appears by one rename and is never changed after. Names are given by whoever asks for a build: the hash of its
//! inputs, so a name that is there is never built again.

mod collect;
mod unpack;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dodai_api::names::{BUILD_IMAGE_PREFIX, SOURCE_IMAGE_PREFIX};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::interpreters::Interpreter;
use crate::runtime::process::remove_tree;
use crate::supervisor::records;

pub use collect::{Collected, Policy};

/// Where the tree of a source or a build is seen in a container.
pub const APP_DIR: &str = "/app";
/// Folders of a tree whose programs are found without a path: those that package managers put their scripts in.
const SCRIPT_FOLDERS: &[&str] = &[".venv/bin", "venv/bin", "node_modules/.bin", "bin"];

/// An image reference that this node understands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageRef {
    /// A packed source folder, by the hash of its tar.
    Source(String),
    /// A built image, by the name that its maker gave it.
    Build(String),
}

impl ImageRef {
    /// Reads a reference; the error's reason is the one that Kubernetes shows for the container.
    pub fn parse(image: &str) -> Result<ImageRef> {
        let is_hash = |hex: &str| {
            hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let own = |prefix: &str| image.strip_prefix(prefix);
        match (own(SOURCE_IMAGE_PREFIX), own(BUILD_IMAGE_PREFIX)) {
            (Some(hex), _) if is_hash(hex) => Ok(ImageRef::Source(hex.to_string())),
            (_, Some(hex)) if is_hash(hex) => Ok(ImageRef::Build(hex.to_string())),
            _ if image.is_empty() || image.starts_with("dodai.local/") => Err(Error::Image {
                reason: "InvalidImageName",
                message: format!("`{image}` is no image of this node: a sha256 in hex must follow the `@`"),
            }),
            _ => Err(Error::Image {
                reason: "ErrImagePull",
                message: format!(
                    "cannot pull `{image}`: the process runtime runs images that dodai built, it cannot pull OCI images yet"
                ),
            }),
        }
    }
}

/// What is known of a built image; the words of the OCI image configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `NAME=value`.
    #[serde(rename = "Env", default)]
    pub env: Vec<String>,
    /// Command if the container names none.
    #[serde(rename = "Cmd", default)]
    pub cmd: Vec<String>,
    /// Directory to start in.
    #[serde(rename = "WorkingDir", default)]
    pub working_dir: String,
    /// Interpreters that the build could use; a container of the image needs them at the same place.
    #[serde(default)]
    pub interpreters: Vec<Interpreter>,
    /// Size of the tree when it was built.
    #[serde(default)]
    pub size_bytes: u64,
}

/// A built image as it lies in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// How it is run.
    pub config: ImageConfig,
    /// Entries of its root: where they are on this machine, and in a container.
    pub entries: Vec<(PathBuf, String)>,
}

/// The store in a data folder.
#[derive(Debug, Clone)]
pub struct ImageStore {
    sources: PathBuf,
    images: PathBuf,
}

impl ImageStore {
    /// Opens the store and removes what an interrupted build or removal left.
    pub fn open(data: &Path) -> Result<ImageStore> {
        let store = ImageStore { sources: data.join("sources"), images: data.join("images") };
        for folder in [&store.sources, &store.images] {
            fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
            for entry in fs::read_dir(folder).map_err(Error::file("read", folder))?.flatten() {
                if entry.file_name().to_string_lossy().starts_with('.') && entry.path().is_dir() {
                    remove_tree(&entry.path()).map_err(Error::file("remove", entry.path()))?;
                }
            }
        }
        Ok(store)
    }

    /// File of a packed source, there or not.
    pub fn source_path(&self, hex: &str) -> PathBuf {
        self.sources.join(format!("{hex}.tar"))
    }

    /// Whether a built image is there.
    pub fn has(&self, hex: &str) -> bool {
        self.images.join(hex).join("image.json").exists()
    }

    /// Unpacks a source into `folder`, which must not exist. Its content is checked against its name.
    pub fn unpack_source(&self, hex: &str, folder: &Path) -> Result<()> {
        let path = self.source_path(hex);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Image {
                    reason: "ErrImagePull",
                    message: format!("source `{hex}` is not on this machine; `dodai apply` sends it"),
                });
            }
            Err(error) => return Err(Error::file("open", path)(error)),
        };
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut HashWriter(&mut hash)).map_err(Error::file("read", &path))?;
        if hex::encode(hash.finalize()) != hex {
            return Err(Error::Archive {
                message: format!("`{}` is not what its name says", path.display()),
            });
        }
        io::Seek::rewind(&mut file).map_err(Error::file("read", &path))?;
        unpack::unpack(file, folder)
    }

    /// A built image, for running it. Marks it as used now.
    pub fn get(&self, hex: &str) -> Result<Image> {
        let folder = self.images.join(hex);
        let path = folder.join("image.json");
        let config: ImageConfig = match records::read(&path) {
            Ok(config) => config,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Image {
                    reason: "ErrImagePull",
                    message: format!(
                        "image `{BUILD_IMAGE_PREFIX}{hex}` is not in this node's store: its build is missing"
                    ),
                });
            }
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        if let Ok(file) = File::open(&path) {
            // Only what collects images by age looks at it.
            let _ = file.set_modified(std::time::SystemTime::now());
        }
        for interpreter in &config.interpreters {
            if !interpreter.prefix.is_dir() {
                return Err(Error::Image {
                    reason: "ErrImagePull",
                    message: format!(
                        "image `{hex}` was built with {} {} in `{}`, which is gone; build it again",
                        interpreter.name,
                        interpreter.version,
                        interpreter.prefix.display()
                    ),
                });
            }
        }
        let root = folder.join("root");
        let mut entries = Vec::new();
        for entry in fs::read_dir(&root).map_err(Error::file("read", &root))? {
            let entry = entry.map_err(Error::file("read", &root))?;
            entries.push((entry.path(), format!("/{}", entry.file_name().to_string_lossy())));
        }
        entries.sort();
        Ok(Image { config, entries })
    }

    /// Turns a tree into an image: it is moved, not copied. If the image is there already the tree is left alone.
    pub fn commit(&self, tree: &Path, hex: &str, interpreters: &[Interpreter]) -> Result<()> {
        if self.has(hex) {
            return Ok(());
        }
        let fresh = self.images.join(format!(".new-{hex}"));
        remove_tree(&fresh).map_err(Error::file("remove", &fresh))?;
        let root = fresh.join("root");
        fs::create_dir_all(&root).map_err(Error::file("make", &root))?;
        let config = ImageConfig {
            env: script_path(tree),
            cmd: Vec::new(),
            working_dir: APP_DIR.to_string(),
            interpreters: interpreters.to_vec(),
            size_bytes: collect::size_of_tree(tree),
        };
        let app = root.join(APP_DIR.trim_start_matches('/'));
        fs::rename(tree, &app).map_err(Error::file("move", tree))?;
        sync_tree(&app)?;
        records::write_synced(&fresh.join("image.json"), &config).map_err(Error::file("write", &fresh))?;
        let place = self.images.join(hex);
        remove_tree(&place).map_err(Error::file("remove", &place))?;
        fs::rename(&fresh, &place).map_err(Error::file("move", &fresh))?;
        File::open(&self.images)
            .and_then(|folder| folder.sync_all())
            .map_err(Error::file("sync", &self.images))
    }
}

/// Everything of a tree reaches the disk before the image has its name: one call for the whole file system is cheaper
/// than one for each of ten thousand files.
fn sync_tree(tree: &Path) -> Result<()> {
    let file = File::open(tree).map_err(Error::file("open", tree))?;
    // Safety: plain system call on an open descriptor.
    let result = unsafe { libc::syncfs(std::os::fd::AsRawFd::as_raw_fd(&file)) };
    crate::supervisor::sys::check(result).map_err(Error::file("sync", tree))
}

fn script_path(tree: &Path) -> Vec<String> {
    let found: Vec<String> = SCRIPT_FOLDERS
        .iter()
        .filter(|folder| tree.join(folder).is_dir())
        .map(|folder| format!("{APP_DIR}/{folder}"))
        .collect();
    if found.is_empty() { Vec::new() } else { vec![format!("PATH={}", found.join(":"))] }
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
