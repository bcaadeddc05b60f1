//! Tests of the whole: the architecture's rules, the command line, and the real binary with a real project, real kubectl
//! and real signals.

#[path = "it/support.rs"]
mod support;
#[path = "it/tidy.rs"]
mod tidy;
