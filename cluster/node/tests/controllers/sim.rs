//! The controllers on the API server itself, two instances at once, with every fault of the simulation.
//!
//! Each scenario has its invariants beside it; `kubelet` plays the Nodes. What an instance may not be blamed for is written
//! down in one place, `late`.

mod jobs;
mod kubelet;
mod suites;
