//! The cryptography of EncryptedSecret: pure, synchronous, no file, no clock, no network.
//!
//! Byte by byte it is described in `docs/concepts/encrypted-secrets.md`; the two must say the same. Read in this order:
//! [`binding`] (what a value is bound to), [`data_key`] (what is derived from a data key), [`value`] (one sealed value),
//! [`wrapping`] (a data key for its recipients), [`recipient`], [`keyring`] (the identities at hand).

pub mod binding;
pub(crate) mod checks;
pub mod data_key;
pub mod keyring;
pub mod recipient;
pub mod value;
pub mod wrapping;

#[cfg(test)]
mod attacks;
#[cfg(test)]
#[path = "../tests/it/moto.rs"]
mod moto;

pub use binding::Binding;
pub use data_key::DataKey;
pub use keyring::{Identity, Keyring, Kms};
pub use recipient::Recipient;
pub use value::{Opened, SealedValue};
