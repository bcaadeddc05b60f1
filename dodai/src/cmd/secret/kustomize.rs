//! Finds overlays that would change the name or namespace of an EncryptedSecret with a scope that forbids it, by looking
//! at `namespace`, `namePrefix` and `nameSuffix` of kustomizations. Patches are not followed: `lint --rendered` sees all.

use std::fs;
use std::path::{Path, PathBuf};

use dodai_api::dodai::encrypted_secret::Scope;
use dodai_secrets::file::lint::{Finding, Severity};
use dodai_secrets::file::{FileResult, find_all};
use serde_json::Value;

use crate::failure::Result;

/// Deepest chain of kustomizations.
const DEPTH_MAX: usize = 20;
/// Names of kustomization files.
const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A kustomization that changes names.
pub(crate) struct Overlay {
    file: PathBuf,
    namespace: Option<String>,
    prefix: String,
    suffix: String,
    /// Files it reaches.
    files: Vec<PathBuf>,
}

/// The kustomizations in the folders that change names.
pub(crate) fn overlays(paths: &[PathBuf]) -> Result<Vec<Overlay>> {
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| path.is_dir()) {
        for file in ignore::WalkBuilder::new(path).max_depth(Some(DEPTH_MAX)).build().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if !NAMES.contains(&name.as_str()) {
                continue;
            }
            let Some(value) = read(file.path()) else { continue };
            let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
            let overlay = Overlay {
                namespace: Some(text("namespace")).filter(|namespace| !namespace.is_empty()),
                prefix: text("namePrefix"),
                suffix: text("nameSuffix"),
                files: reached(file.path(), &value, 0),
                file: file.path().to_owned(),
            };
            if overlay.namespace.is_some() || !overlay.prefix.is_empty() || !overlay.suffix.is_empty() {
                found.push(overlay);
            }
        }
    }
    Ok(found)
}

fn read(file: &Path) -> Option<Value> {
    dodai_yaml::from_str_json(&fs::read_to_string(file).ok()?).ok()
}

/// The files that a kustomization takes in, through others too.
fn reached(file: &Path, value: &Value, depth: usize) -> Vec<PathBuf> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut files = Vec::new();
    let lists = ["resources", "bases", "components"].into_iter().filter_map(|field| value[field].as_array());
    for name in lists.flatten().filter_map(Value::as_str) {
        let Ok(path) = fs::canonicalize(folder.join(name)) else { continue };
        if path.is_file() {
            files.push(path);
        } else if depth < DEPTH_MAX
            && let Some(next) = NAMES.iter().map(|name| path.join(name)).find(|file| file.is_file())
            && let Some(value) = read(&next)
        {
            files.extend(reached(&next, &value, depth + 1));
        }
    }
    files
}

/// What overlays break in a file.
pub(crate) fn lint(file: &Path, text: &str, overlays: &[Overlay]) -> FileResult<Vec<Finding>> {
    let Ok(path) = fs::canonicalize(file) else { return Ok(Vec::new()) };
    let mut findings = Vec::new();
    for overlay in overlays.iter().filter(|overlay| overlay.files.contains(&path)) {
        for found in find_all(text)? {
            let scope = found.spec.scope.unwrap_or_default();
            let other_namespace = overlay.namespace.is_some()
                && overlay.namespace != found.namespace
                && scope != Scope::Cluster;
            let other_name =
                scope == Scope::Strict && !(overlay.prefix.is_empty() && overlay.suffix.is_empty());
            if !other_namespace && !other_name {
                continue;
            }
            let namespace = overlay.namespace.clone().or(found.namespace.clone()).unwrap_or_default();
            let position = found.document.position("metadata.name").unwrap_or(found.document.start());
            findings.push(Finding {
                severity: Severity::Error,
                rule: "RenderedElsewhere",
                position: (position.line, position.column),
                message: format!(
                    "`{}` makes `{namespace}/{}{}{}` of `{}`, whose scope `{}` binds its values to where they were sealed",
                    overlay.file.display(),
                    overlay.prefix,
                    found.name,
                    overlay.suffix,
                    found.display_name(),
                    scope.as_str()
                ),
            });
        }
    }
    Ok(findings)
}
