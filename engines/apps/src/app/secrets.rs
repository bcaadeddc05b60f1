//! The Secrets that an App's environment names: a changed one makes a new Release, a missing one keeps it waiting.

use std::collections::BTreeMap;
use std::sync::Arc;

use dodai_api::dodai::app::AppSpec;
use dodai_api::names::ANNOTATION_REVISION;
use k8s_openapi::api::core::v1::{EnvVar, Secret};
use kube::ResourceExt;

/// Names of the Secrets, and whether the App can do without.
pub(super) fn named(spec: &AppSpec) -> BTreeMap<String, bool> {
    let mut names = BTreeMap::new();
    let mut add = |env: &[EnvVar]| {
        for variable in env {
            let reference = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref());
            let Some(reference) = reference else { continue };
            let optional = reference.optional == Some(true);
            let entry = names.entry(reference.name.clone()).or_insert(true);
            *entry &= optional;
        }
    };
    add(&spec.env);
    spec.processes.values().for_each(|process| add(&process.env));
    if let Some(build) = spec.source.as_ref().and_then(|source| source.build.as_ref()) {
        add(&build.env);
    }
    names
}

/// What changes when a value of a Secret does: what `secrets` says, else the version of the object. `Err` names the first
/// Secret that is not there.
pub(super) fn revisions(
    spec: &AppSpec,
    get: impl Fn(&str) -> Option<Arc<Secret>>,
) -> Result<BTreeMap<String, String>, String> {
    let mut revisions = BTreeMap::new();
    for (name, optional) in named(spec) {
        match get(&name) {
            Some(secret) => {
                let told = secret.annotations().get(ANNOTATION_REVISION).cloned();
                let version = || secret.resource_version().unwrap_or_default();
                revisions.insert(name, told.unwrap_or_else(version));
            }
            None if optional => {}
            None => return Err(name),
        }
    }
    Ok(revisions)
}
