//! Tests of the node: real processes, real namespaces, no sleeping but for a state that is awaited.

#![allow(unreachable_pub)]

#[path = "it/common.rs"]
mod common;
#[path = "it/exec.rs"]
mod exec;
#[path = "it/forwarder.rs"]
mod forwarder;
#[path = "it/images.rs"]
mod images;
#[path = "it/kubelet.rs"]
mod kubelet;
#[path = "it/supervisor.rs"]
mod supervisor;
