//! Encrypted secrets that review, merge and rotate like code.
//!
//! Values live in git, each sealed by itself, and become Kubernetes Secrets. Read in this order: [`seal`] (the
//! cryptography), [`file`](mod@file) (what the command line does with files), [`encrypted_secret`] (the controller).
//!
//! Deliberately absent: what a person sees on the command line (`dodai secret`), where Secrets are mounted
//! (`cluster/node`, or a cluster's kubelets).

mod access;
pub mod encrypted_secret;
pub mod error;
pub mod export;
pub mod file;
pub mod hostile;
pub mod import;
pub mod kms;
pub mod places;
pub mod planted;
pub mod policy;
pub mod report;
pub mod rotation;
pub mod rules;
pub mod seal;
pub mod sealed;
pub mod sealed_secret;
mod secret;
pub mod sops;
pub mod sops_secret;

use dodai_kit::Engine;

pub use error::{Error, Reason};

/// The field manager of everything that this engine writes.
pub const MANAGER: &str = "dodai-secrets";

/// The engine with its controllers. They find the identities in the context's `outside` as a [`seal::Keyring`].
pub fn engine() -> Engine {
    Engine::new("secrets")
        .with::<encrypted_secret::EncryptedSecretController>()
        .with::<sops_secret::SopsSecretController>()
        .with::<sealed_secret::SealedSecretController>()
}
