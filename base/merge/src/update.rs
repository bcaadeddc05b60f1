//! Ownership of fields: what an apply and an ordinary update do to an object and to its managers.

use crate::typed::Typed;

/// Converts objects between API versions.
pub trait Converter {
    /// The object in `version` (`group/version`). The schema of the result is that version's.
    fn convert(&self, object: &Typed, version: &str) -> Result<Typed, ConvertError>;
}

/// Why an object cannot be had in another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The version is not (or no longer) served: its managers are forgotten.
    #[error("version `{0}` is not known")]
    MissingVersion(String),
    /// Fails the whole operation.
    #[error("{0}")]
    Other(String),
}

/// All versions look alike. Right for a kind with one version, and for CRDs without a conversion webhook whose
/// versions have the same schema.
#[derive(Debug, Clone, Copy, Default)]
pub struct SameInAllVersions;

impl Converter for SameInAllVersions {
    fn convert(&self, object: &Typed, version: &str) -> Result<Typed, ConvertError> {
        Ok(Typed { version: version.into(), ..object.clone() })
    }
}
