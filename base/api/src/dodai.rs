//! The kinds of the group `dodai.dev`.

pub mod app;
pub mod condition;
pub mod encrypted_secret;
pub mod release;
pub mod sops_secret;
