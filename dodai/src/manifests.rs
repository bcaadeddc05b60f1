//! Reads the manifests of a folder, keeping for each object where in which file every field stands.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dodai_yaml::{Document, Position};
use serde_json::Value;

use crate::failure::{Context, Failure, Result};

/// Largest manifest file, bytes.
const FILE_BYTES_MAX: u64 = 3 << 20;

/// An object of a file.
#[derive(Clone)]
pub(crate) struct Manifest {
    /// The object.
    pub(crate) value: Value,
    /// Where it stands.
    pub(crate) place: Place,
}

/// A document of a file.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    text: Arc<str>,
    document: Arc<Document>,
}

impl Place {
    /// An error at a field, as `experience.md` shows it: file, line and column, the line itself, what is wrong.
    pub(crate) fn error(&self, path: &str, message: &str, hint: Option<&str>) -> String {
        let position = self.document.position(path).unwrap_or_else(|| self.document.nearest_position(path));
        let length = self.document.key_range(path).map_or(1, |range| range.len());
        self.at(position, length, message, hint)
    }

    fn at(&self, position: Position, length: usize, message: &str, hint: Option<&str>) -> String {
        dodai_yaml::render_snippet(
            &self.file.display().to_string(),
            &self.text,
            position,
            length,
            message,
            hint,
        )
    }
}

impl Manifest {
    pub(crate) fn api_version(&self) -> &str {
        self.value["apiVersion"].as_str().unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.value["metadata"]["namespace"].as_str()
    }

    pub(crate) fn is_app(&self) -> bool {
        self.kind() == "App" && self.api_version().starts_with("dodai.dev/")
    }

    /// Whether an engine of ours makes a Secret of it.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.kind(), "EncryptedSecret" | "SopsSecret" | "SealedSecret")
    }

    /// The folder of sources that the file names, relative to the file.
    pub(crate) fn source_folder(&self) -> Option<PathBuf> {
        let folder = self.value["spec"]["source"]["folder"].as_str().filter(|_| self.is_app())?;
        Some(self.place.file.parent().unwrap_or(Path::new(".")).join(folder))
    }
}

/// What a folder holds.
pub(crate) struct Manifests {
    pub(crate) objects: Vec<Manifest>,
    /// Files that hold no Kubernetes object, left out.
    pub(crate) skipped: Vec<PathBuf>,
}

/// Reads a file, or the YAML files of a folder (not of folders in it, as `kubectl apply -f` does).
pub(crate) fn read(path: &Path) -> Result<Manifests> {
    let files = files(path)?;
    let mut manifests = Manifests { objects: Vec::new(), skipped: Vec::new() };
    let mut errors = Vec::new();
    for file in files {
        match read_file(&file) {
            Ok(objects) if objects.is_empty() => manifests.skipped.push(file),
            Ok(objects) => manifests.objects.extend(objects),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(Failure::invalid(errors.join("\n\n")));
    }
    refuse_duplicates(&manifests.objects)?;
    if manifests.objects.is_empty() {
        return Err(Failure::invalid(format!("no manifest in `{}`", path.display()))
            .hint("write an `app.yaml` there; the README's first example is one of a few lines"));
    }
    Ok(manifests)
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let meta = fs::metadata(path).context(format!("cannot read `{}`", path.display()))?;
    if meta.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).context(format!("cannot read `{}`", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.context(format!("cannot read `{}`", path.display()))?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if matches!(name.as_str(), "kustomization.yaml" | "kustomization.yml" | "Kustomization") {
            return Err(Failure::invalid(format!(
                "`{}`: kustomizations are not rendered yet",
                file.display()
            ))
            .hint("render it with `kubectl kustomize`, and give the result's folder"));
        }
        let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        if is_yaml && !name.starts_with('.') && name != "dodai.yaml" && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The objects of a file, or an error that names the line.
fn read_file(file: &Path) -> std::result::Result<Vec<Manifest>, String> {
    let shown = file.display();
    let fail = |error: std::io::Error| format!("{shown}: error: cannot read the file: {error}");
    if fs::metadata(file).map_err(fail)?.len() > FILE_BYTES_MAX {
        return Err(format!("{shown}: error: larger than {FILE_BYTES_MAX} bytes"));
    }
    let text: Arc<str> = fs::read_to_string(file).map_err(fail)?.into();
    let rendered = |error: dodai_yaml::Error| error.render(&shown.to_string(), &text);
    if dodai_secrets::import::is_sops(&text) {
        return sops(file, &text);
    }
    let mut objects = Vec::new();
    for document in dodai_yaml::parse(&text).map_err(rendered)? {
        let value = document.to_json().map_err(rendered)?;
        let place = Place { file: file.to_owned(), text: text.clone(), document: Arc::new(document) };
        refuse_plaintext(&value, &place)?;
        objects.extend(object(value, place)?);
    }
    Ok(objects)
}

/// An EncryptedSecret with a value in plaintext does not leave this machine. The line is not shown: it may be the value.
fn refuse_plaintext(value: &Value, place: &Place) -> std::result::Result<(), String> {
    let Some(data) = value["spec"]["data"].as_object().filter(|_| value["kind"] == "EncryptedSecret") else {
        return Ok(());
    };
    for (key, text) in data {
        if !text.as_str().is_some_and(dodai_secrets::seal::value::looks_sealed) {
            let position = place.document.nearest_position(&format!("spec.data[\"{key}\"]"));
            return Err(format!(
                "{}:{}:{}: error: `{key}` is not sealed, and is not sent: `dodai secret encrypt {0}`",
                place.file.display(),
                position.line,
                position.column
            ));
        }
    }
    Ok(())
}

/// A file that SOPS encrypted is sent as it is, whole (its MAC covers all documents), in a `SopsSecret`, which only the
/// secrets engine opens. One that holds no Kubernetes object is left out.
fn sops(file: &Path, text: &Arc<str>) -> std::result::Result<Vec<Manifest>, String> {
    let shown = file.display();
    let documents = dodai_yaml::parse(text).map_err(|error| error.render(&shown.to_string(), text))?;
    let Some(document) = documents.into_iter().next() else { return Ok(Vec::new()) };
    let value = document.to_json().map_err(|error| error.render(&shown.to_string(), text))?;
    let place = Place { file: file.to_owned(), text: text.clone(), document: Arc::new(document) };
    let Some(first) = object(value, place.clone())? else { return Ok(Vec::new()) };
    // Where all of a file is encrypted, its own name is known to the engine alone.
    let is_open = |text: &&str| !text.starts_with("ENC[");
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut value = serde_json::json!({
        "apiVersion": "dodai.dev/v1alpha1",
        "kind": "SopsSecret",
        "metadata": {"name": Some(first.name()).filter(is_open).unwrap_or(&stem)},
        "spec": {"document": &**text},
    });
    if let Some(namespace) = first.namespace().filter(is_open) {
        value["metadata"]["namespace"] = namespace.into();
    }
    Ok(vec![Manifest { value, place }])
}

/// The object of a document; none if it is no Kubernetes object at all.
fn object(value: Value, place: Place) -> std::result::Result<Option<Manifest>, String> {
    let has = |field: &str| value.get(field).is_some_and(|value| value.is_string());
    if !has("apiVersion") && !has("kind") {
        return Ok(None);
    }
    for field in ["apiVersion", "kind"] {
        if !has(field) {
            return Err(place.error("", &format!("missing field `{field}`"), None));
        }
    }
    if value["kind"] == "List" {
        return Err(place.error(
            "kind",
            "lists are not read from files",
            Some("separate the objects by `---`"),
        ));
    }
    match value["metadata"]["name"].as_str() {
        Some(name) if !name.is_empty() => Ok(Some(Manifest { value, place })),
        _ => Err(place.error("metadata", "missing field `metadata.name`", None)),
    }
}

fn refuse_duplicates(objects: &[Manifest]) -> Result<()> {
    let mut seen = std::collections::BTreeMap::new();
    for object in objects {
        let id = (object.api_version(), object.kind(), object.namespace(), object.name());
        if let Some(first) = seen.insert(id, object) {
            let message =
                format!("{} `{}` is in {} too", object.kind(), object.name(), first.place.file.display());
            return Err(Failure::invalid(object.place.error("metadata.name", &message, None)));
        }
    }
    Ok(())
}
