//! Tests of the public surface: upstream's cases as data, our own, and random ones.
//!
//! Upstream's cases need the shared test data beside the repository; without it they print `skipped: not found`.

#[path = "it/support.rs"]
mod support;

#[path = "it/expressions.rs"]
mod expressions;
#[path = "it/own.rs"]
mod own;
#[path = "it/random.rs"]
mod random;
#[path = "it/schemas.rs"]
mod schemas;
#[path = "it/tables.rs"]
mod tables;
