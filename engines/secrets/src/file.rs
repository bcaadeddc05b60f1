//! Files with EncryptedSecrets: what the command line does with them, as pure functions from text to text.
//!
//! A file may hold other objects too, in any order and style. What is not meant to change stays byte for byte: comments,
//! order, quotes, line ends, the ciphertext of values that are not touched. Each result is read again and compared with
//! what was meant before it is given out.
//!
//! - [`view`]: with plaintext, to look at or to edit. - [`back`]: seals what was edited. - [`change`]: one value set.
//! - [`keys`]: rotate, rekey. - [`lint`]. - [`merge`] and [`textconv`]: for git.

pub mod back;
pub mod change;
pub(crate) mod check;
pub mod convert;
pub mod keys;
pub mod lint;
pub mod merge;
pub(crate) mod plain;
pub(crate) mod splice;
pub mod textconv;
pub mod view;

use dodai_api::dodai::encrypted_secret::EncryptedSecretSpec;
use dodai_yaml::{Document, NodeId, NodeKind};

use crate::error::Error;
use crate::seal::{Binding, DataKey, Keyring, Recipient, wrapping};

/// The kind in files as they are committed.
pub const ENCRYPTED: &str = "EncryptedSecret";
/// The kind of the same object with plaintext, so that nobody applies it by accident.
pub const DECRYPTED: &str = "DecryptedSecret";

/// What goes wrong with a file. The text never holds a value; a line of the file is never shown, since it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// Line and column, from 1, where it is known.
    pub position: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{line}:{column}: error: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for FileError {}

impl FileError {
    pub(crate) fn new(message: impl Into<String>) -> FileError {
        FileError { position: None, message: message.into() }
    }

    pub(crate) fn at(document: &Document, node: NodeId, message: impl Into<String>) -> FileError {
        let position = document.position_at(document.node(node).range().start);
        FileError { position: Some((position.line, position.column)), message: message.into() }
    }

    fn yaml(error: &dodai_yaml::Error) -> FileError {
        let position = error.position().map(|position| (position.line, position.column));
        FileError { position, message: error.message().to_owned() }
    }
}

/// A result of a change of a file.
pub type FileResult<T> = Result<T, FileError>;

/// An EncryptedSecret (or its plaintext form) in a file.
#[derive(Clone, Debug)]
pub struct Found {
    /// Number of its document.
    pub index: usize,
    /// The document.
    pub document: Document,
    /// Whether the kind is [`DECRYPTED`].
    pub decrypted: bool,
    /// `metadata.namespace`, if there is one.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// The spec, without `data`.
    pub spec: EncryptedSecretSpec,
    /// The direct entries of `spec.data`, in the order of the file.
    pub data: Vec<DataEntry>,
}

/// An entry of `spec.data`.
#[derive(Clone, Debug)]
pub struct DataEntry {
    /// The key.
    pub key: String,
    /// The node of the key.
    pub key_node: NodeId,
    /// The node of the value.
    pub node: NodeId,
    /// The text of the value; `None` for an alias, a list or a map.
    pub text: Option<String>,
}

impl Found {
    /// `namespace/name`, or the name alone.
    pub fn display_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// What its values are bound to.
    ///
    /// # Errors
    /// No namespace where the scope needs one.
    pub fn binding(&self) -> FileResult<Binding> {
        Binding::new(self.namespace.as_deref(), &self.name, &self.spec).map_err(|error| self.error(&error))
    }

    /// An error about the object.
    pub(crate) fn error(&self, error: &dyn std::fmt::Display) -> FileError {
        let node = splice::find(&self.document, &["metadata", "name"]);
        let message = format!("`{}`: {error}", self.display_name());
        FileError::at(&self.document, node.unwrap_or(self.document.root_id()), message)
    }

    /// The data key, unwrapped.
    ///
    /// # Errors
    /// What unwrapping says, and a key that is not there.
    pub fn data_key(&self, id: &str, binding: &Binding, keyring: &Keyring) -> Result<DataKey, Error> {
        let wrapped = self.spec.keys.iter().find(|key| key.id == id);
        wrapping::unwrap(wrapped.ok_or_else(|| Error::UnknownKey(id.to_owned()))?, binding, keyring)
    }

    /// All data keys, each unwrapped or with the reason why not.
    pub(crate) fn data_keys(&self, binding: &Binding, keyring: &Keyring) -> DataKeys {
        let unwrapped = self
            .spec
            .keys
            .iter()
            .map(|wrapped| (wrapped.id.clone(), wrapping::unwrap(wrapped, binding, keyring)));
        DataKeys(unwrapped.collect())
    }

    /// Everybody for whom some data key of the object is wrapped, in the order of the file.
    ///
    /// # Errors
    /// An entry that names nobody.
    pub fn recipients(&self) -> Result<Vec<Recipient>, Error> {
        let mut all = Vec::new();
        for entry in self.spec.keys.iter().flat_map(|key| &key.recipients) {
            let recipient = Recipient::of(entry)?;
            if !all.contains(&recipient) {
                all.push(recipient);
            }
        }
        Ok(all)
    }

    /// The entry of `spec.data` with this key.
    pub fn entry(&self, key: &str) -> Option<&DataEntry> {
        self.data.iter().find(|entry| entry.key == key)
    }
}

/// The data keys of an object.
pub(crate) struct DataKeys(Vec<(String, Result<DataKey, Error>)>);

impl DataKeys {
    pub(crate) fn get(&self, id: &str) -> Result<&DataKey, Error> {
        match self.0.iter().find(|(key, _)| key == id) {
            Some((_, Ok(key))) => Ok(key),
            Some((_, Err(error))) => Err(error.clone()),
            None => Err(Error::UnknownKey(id.to_owned())),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(String, Result<DataKey, Error>)> {
        self.0.iter()
    }
}

/// The documents of a text.
pub(crate) fn documents(text: &str) -> FileResult<Vec<Document>> {
    dodai_yaml::parse(text).map_err(|error| FileError::yaml(&error))
}

/// The EncryptedSecrets of a text, in either form.
///
/// # Errors
/// What is no YAML, and an EncryptedSecret whose fields have the wrong form.
pub fn find_all(text: &str) -> FileResult<Vec<Found>> {
    let mut found = Vec::new();
    for (index, document) in documents(text)?.into_iter().enumerate() {
        found.extend(read(index, document)?);
    }
    Ok(found)
}

/// The one object that is meant: the only one, or the one with this name (`name` or `namespace/name`).
///
/// # Errors
/// None, or several.
pub fn find_one(text: &str, name: Option<&str>) -> FileResult<Found> {
    let mut all = find_all(text)?;
    let names: Vec<String> = all.iter().map(Found::display_name).collect();
    if let Some(name) = name {
        all.retain(|found| found.name == name || found.display_name() == name);
    }
    match (all.len(), name) {
        (1, _) => Ok(all.remove(0)),
        (0, Some(name)) => Err(FileError::new(format!("no {ENCRYPTED} `{name}` in the file"))),
        (0, None) => Err(FileError::new(format!("no {ENCRYPTED} in the file"))),
        (_, _) => Err(FileError::new(format!("several: {}; say which", names.join(", ")))),
    }
}

fn read(index: usize, document: Document) -> FileResult<Option<Found>> {
    let text_at = |path: &[&str]| {
        splice::find(&document, path).and_then(|node| splice::scalar_text(&document, node)).map(str::to_owned)
    };
    let kind = text_at(&["kind"]).unwrap_or_default();
    let group = text_at(&["apiVersion"]).unwrap_or_default();
    if !group.starts_with("dodai.dev/") || (kind != ENCRYPTED && kind != DECRYPTED) {
        return Ok(None);
    }
    let name = text_at(&["metadata", "name"]).unwrap_or_default();
    if name.is_empty() {
        return Err(FileError::at(&document, document.root_id(), "missing field `metadata.name`"));
    }
    let mut value = document.to_json().map_err(|error| FileError::yaml(&error))?;
    let mut spec = value["spec"].take();
    if let Some(map) = spec.as_object_mut() {
        // Values are read from the nodes: plaintext may be of any type, and must not be copied about.
        map.remove("data");
    }
    let spec: EncryptedSecretSpec = match spec {
        serde_json::Value::Null => EncryptedSecretSpec::default(),
        spec => serde_json::from_value(spec).map_err(|error| {
            let node = splice::find(&document, &["spec"]).unwrap_or(document.root_id());
            FileError::at(&document, node, format!("`spec`: {error}"))
        })?,
    };
    let data = data_entries(&document)?;
    Ok(Some(Found {
        index,
        decrypted: kind == DECRYPTED,
        namespace: text_at(&["metadata", "namespace"]).filter(|namespace| !namespace.is_empty()),
        name,
        spec,
        data,
        document,
    }))
}

fn data_entries(document: &Document) -> FileResult<Vec<DataEntry>> {
    let Some(data) = splice::find(document, &["spec", "data"]) else { return Ok(Vec::new()) };
    let entries = match &document.node(data).kind {
        NodeKind::Mapping { entries, .. } => entries,
        _ if splice::is_null(document, data) => return Ok(Vec::new()),
        _ => return Err(FileError::at(document, data, "`spec.data` must be a mapping, written here")),
    };
    let mut found = Vec::new();
    for (key, node) in entries {
        let Some(name) = splice::scalar_text(document, *key) else {
            return Err(FileError::at(document, *key, "a key of `spec.data` must be a text"));
        };
        if name == "<<" {
            return Err(FileError::at(
                document,
                *key,
                "values cannot be merged in: each is sealed for its key",
            ));
        }
        let text = splice::scalar_text(document, *node).map(str::to_owned);
        found.push(DataEntry { key: name.to_owned(), key_node: *key, node: *node, text });
    }
    Ok(found)
}
