//! The GitOps engine. So far its renderer: [`render`] builds kustomizations in process, without executing anything.

pub mod render;
