//! Tests of the node: real processes, real namespaces, no sleeping but for a state that is awaited.

#![allow(unreachable_pub)]

#[path = "it/common.rs"]
mod common;
#[path = "it/supervisor.rs"]
mod supervisor;
