//! The kinds of the group `bitnami.com`.

pub mod sealed_secret;
