//! What reads outside input, as functions of bytes: no panic, bounded work, and a law or two that hold whatever comes.
//!
//! The same functions are run three ways: over the kept corpus and seeded mutations of it by `cargo test`
//! (`tests/it.rs`), and under libFuzzer by `fuzz/run` (`libfuzzer/`, a workspace of its own).

mod base;
pub mod mutate;
mod request;

use dodai_gitops::render::fuzz as kustomize;
use dodai_secrets::hostile as secrets;

/// One reader of bytes. It panics where a law is broken; any other outcome is fine.
pub type Read = fn(&[u8]);

/// Every target: its name, which is that of its folder in `corpus/`, and what it does.
pub const TARGETS: &[(&str, Read)] = &[
    ("yaml", base::yaml),
    ("yaml_edit", base::yaml_edit),
    ("cel", base::cel),
    ("strategic_merge", base::strategic_merge),
    ("apply", base::apply),
    ("field_set", base::field_set),
    ("request", request::request),
    ("kustomization", kustomize::kustomization),
    ("kustomize_resources", kustomize::resources),
    ("kustomize_patch", kustomize::patch),
    ("kustomize_replacements", kustomize::replacements),
    ("kustomize_configuration", kustomize::configuration),
    ("kustomize_generated", kustomize::generated),
    ("sealed_value", secrets::value),
    ("encrypted_secret", secrets::file),
    ("secret_versions", secrets::versions),
    ("sops", secrets::sops_file),
    ("age", secrets::age_file),
    ("sealing_keys", secrets::sealing_keys),
    ("secret_rules", secrets::rules),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Read> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, read)| *read)
}
