//! Encrypted secrets that review, merge and rotate like code.

pub mod error;
pub mod file;
pub mod places;
pub mod rotation;
pub mod rules;
pub mod seal;

pub use error::{Error, Reason};
