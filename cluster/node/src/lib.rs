//! Runs workloads on one machine.

mod error;
pub mod runtime;
pub mod supervisor;

pub use error::Error;
pub use supervisor::supervisor_main;
