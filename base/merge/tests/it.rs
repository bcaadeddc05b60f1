//! Tests of the public surface: upstream's suites as data, our own cases, and random ones.
//!
//! The suites need the shared test data beside the repository; without it they print `skipped: not found`.

#[path = "it/support.rs"]
mod support;

#[path = "it/managed.rs"]
mod managed;
#[path = "it/openapi.rs"]
mod openapi;
#[path = "it/properties.rs"]
mod properties;
#[path = "it/smd_merge.rs"]
mod smd_merge;
#[path = "it/smd_typed.rs"]
mod smd_typed;
#[path = "it/strategic.rs"]
mod strategic;
