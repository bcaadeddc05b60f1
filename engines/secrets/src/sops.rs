//! Files that SOPS encrypted, as they are: YAML, JSON, dotenv, INI and binary; keys of age, SSH, AWS KMS, PGP (through the
//! `gpg` program), and several groups of keys (Shamir's sharing).
//!
//! The MAC over the whole file is always checked: a file without one, or with another, gives no value. Facts of the format
//! are those of SOPS 3.11 to 3.13. Left out: encrypting, comments (SOPS does not authenticate them), keys of GCP, Azure,
//! Vault and age plugins.

pub mod decrypt;
mod format;
pub mod gpg;
mod ini;
mod metadata;
mod shamir;
mod tree;

pub use decrypt::decrypt;
pub use format::Format;
pub use tree::{Leaf, Tree};

/// Why a SOPS file does not open. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not of the format.
    #[error("cannot read the file as {format}: {what}")]
    Format {
        /// The format.
        format: &'static str,
        /// What is wrong.
        what: String,
    },
    /// No `sops` section, or one that makes no sense.
    #[error("`sops`: {0}")]
    Metadata(String),
    /// No key at hand opens the file.
    #[error("no key at hand opens it; it needs {}", .0.join(", "))]
    NoKey(Vec<String>),
    /// A value was changed, or moved to another path.
    #[error("the value of `{0}` was changed, or moved here")]
    Value(String),
    /// Something was added, removed or changed.
    #[error("the file was changed: its MAC does not fit")]
    Mac,
    /// There is no MAC.
    #[error("the file has no MAC: nothing says that it is whole")]
    NoMac,
    /// `gpg` was asked and has not answered yet.
    #[error("`gpg` was asked for PGP key {0} and has not answered yet")]
    PgpPending(String),
    /// KMS was asked and did not answer as needed.
    #[error("KMS key `{arn}`: {error}")]
    Kms {
        /// The key.
        arn: String,
        /// What it answered.
        error: crate::error::KmsError,
    },
}

/// Whether a text looks like a SOPS file of YAML or JSON, without reading all of it.
pub fn looks_encrypted(text: &str) -> bool {
    text.contains("sops") && text.contains("ENC[AES256_GCM,") && text.contains("mac")
}
