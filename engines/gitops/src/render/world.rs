//! What one build shares: its files, schemas, options, warnings.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::cache::{Cache, Documents};
use super::error::{Error, ErrorPlace};
use super::explain::Wanted;
use super::files::{FileError, Files};
use super::id::Gvk;
use super::parse::ParseError;
use super::resource::{Resource, Source};
use super::schema::Schemas;
use super::{LoadRestrictor, Options};

type GroupVersion = (Arc<str>, Arc<str>);

/// A field of a kustomization that had no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// File of the kustomization.
    pub file: String,
    /// `patches[0]`
    pub field: String,
    pub message: String,
}

pub(crate) struct World<'w> {
    pub(crate) files: Files<'w>,
    pub(crate) schemas: Schemas,
    pub(crate) cache: &'w Cache,
    pub(crate) options: &'w Options,
    pub(crate) warnings: RefCell<Vec<String>>,
    /// What did nothing, for `lint`.
    pub(crate) notes: RefCell<Vec<Note>>,
    /// Set by a transformer that found nothing to change.
    pub(crate) idle: std::cell::Cell<bool>,
    /// API version -> group and version.
    gvks: RefCell<HashMap<Arc<str>, GroupVersion>>,
}

impl<'w> World<'w> {
    pub(crate) fn new(files: Files<'w>, cache: &'w Cache, options: &'w Options) -> World<'w> {
        World {
            files,
            schemas: Schemas::default(),
            cache,
            options,
            warnings: RefCell::default(),
            notes: RefCell::default(),
            idle: std::cell::Cell::new(false),
            gvks: RefCell::default(),
        }
    }

    pub(crate) fn gvk(&self, api_version: &Arc<str>, kind: &Arc<str>) -> Gvk {
        let mut known = self.gvks.borrow_mut();
        let (group, version) = known.entry(Arc::clone(api_version)).or_insert_with(|| {
            let gvk = Gvk::from_api_version(api_version, kind);
            (gvk.group, gvk.version)
        });
        Gvk { group: Arc::clone(group), version: Arc::clone(version), kind: Arc::clone(kind) }
    }

    pub(crate) fn warn(&self, warning: impl Into<String>) {
        self.warnings.borrow_mut().push(warning.into());
    }

    /// Whether histories of objects are kept.
    pub(crate) fn explains(&self) -> Option<&Wanted> {
        self.options.explain.as_ref()
    }

    /// A file that a kustomization in `root` names.
    pub(crate) fn read(&self, root: &str, path: &str) -> Result<(String, Arc<[u8]>), Error> {
        if is_url(path) {
            return Err(Error::new(format!(
                "`{path}` is on another machine; only files of this tree are read"
            )));
        }
        let restricted = match self.options.load_restrictor {
            LoadRestrictor::RootOnly => Some(root),
            LoadRestrictor::None => None,
        };
        self.files.read(root, path, restricted).map_err(from_file_error)
    }

    /// The objects in a file.
    pub(crate) fn objects(&self, root: &str, path: &str) -> Result<Vec<Resource>, Error> {
        let (file, content) = self.read(root, path)?;
        let documents = self.cache.parse(&content);
        self.objects_of(&documents, Some(&Arc::from(file)), &content)
    }

    /// The objects in a text that stands in a kustomization.
    pub(crate) fn objects_in_text(&self, text: &str) -> Result<Vec<Resource>, Error> {
        let content: Arc<[u8]> = Arc::from(text.as_bytes());
        let documents = self.cache.parse(&content);
        self.objects_of(&documents, None, &content)
    }

    pub(crate) fn objects_of(
        &self,
        documents: &Documents,
        file: Option<&Arc<str>>,
        content: &Arc<[u8]>,
    ) -> Result<Vec<Resource>, Error> {
        let place = |position, len| {
            let file = file?.to_string();
            Some(ErrorPlace { file, position, len, text: Some(Arc::clone(content)) })
        };
        let parsed = match &**documents {
            Ok(parsed) => parsed,
            Err(error) => {
                let message = match error {
                    ParseError::Yaml { error, .. } => error.message(),
                    other => other.to_string(),
                };
                let error_of = Error::new(message);
                return Err(match place(error.position(), 1) {
                    Some(place) => error_of.at(|| place),
                    None => error_of,
                });
            }
        };
        let trees = parsed.iter().map(|parsed| (parsed.tree.clone(), parsed.line)).collect();
        super::objects::from_trees(trees, file).map_err(|refused| {
            let position = dodai_yaml::Position { line: refused.line, column: 1 };
            let error = Error::new(refused.message);
            match place(Some(position), 1) {
                Some(place) => error.at(|| place),
                None => error,
            }
        })
    }
}

/// A file or an object where something is wrong.
pub(crate) fn place_of(source: &Source) -> ErrorPlace {
    ErrorPlace {
        file: source.file.to_string(),
        position: Some(dodai_yaml::Position { line: source.line, column: 1 }),
        len: 1,
        text: None,
    }
}

pub(crate) fn is_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

pub(crate) fn from_file_error(error: FileError) -> Error {
    let hint = match &error {
        FileError::Restricted { .. } => Some(
            "move the file below the kustomization, or allow it with `--load-restrictor LoadRestrictionsNone`",
        ),
        _ => None,
    };
    let error = Error::new(error.to_string());
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
