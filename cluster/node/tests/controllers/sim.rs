//! The controllers on the API server itself, two instances at once, with every fault of the simulation.
//!
//! Each scenario has its invariants beside it; `kubelet` plays the Nodes. What an instance may not be blamed for is written
//! down in one place, `late`.

mod collecting;
mod garbage;
mod jobs;
mod kubelet;
mod roll_outs;
mod sets;
mod suites;
