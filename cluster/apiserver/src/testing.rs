//! A test environment for operators, and a simulation that looks for the order of events that breaks them.
//!
//! Any program that talks to Kubernetes through `kube` can be put in. Two ways in:
//!
//! - [`TestEnv`]: a server in this process, in milliseconds, with the definitions, users, clock and faults of your choice.
//! - [`Suite`]: thousands of runs of a [`Scenario`] on a clock that never waits, each with another order of events and
//!   other faults, until one breaks what must hold; that one is shortened, shown and can be had again by its seed.
//!
//! Cargo's feature `testing` switches this module on.

mod call;
mod choices;
mod director;
mod env;
mod fault;
mod faults;
mod log;
mod manifests;
mod proof;
pub mod random;
mod runner;
mod scenario;
mod sim;
mod watching;
mod world;

pub use call::{Call, Named};
pub use choices::{Choices, shrink, tape_from_text, tape_to_text};
pub use env::{AWAIT_MAX, Builder, EnvError, TestEnv};
pub use fault::{Director, Fault, LOST_WAIT, WatchFault, layered};
pub use faults::Faults;
pub use proof::{assert_repeats, find_planted};
pub use runner::{Failure, Suite, Summary};
pub use scenario::{Change, Instance, Scenario, Step, deletes_by_uid, generation_goes_on};
pub use sim::{Changes, Outcome, Sim, describe, run_once, warm_up};
pub use watching::{Unmet, Write, Writes};
pub use world::{Id, World};

use crate::ApiServer;

impl ApiServer {
    /// The newest revision.
    pub(crate) fn revision(&self) -> u64 {
        self.server.store.revision()
    }

    /// Every write from now on.
    pub(crate) fn events(
        &self,
    ) -> tokio::sync::broadcast::Receiver<(crate::store::Key, std::sync::Arc<crate::store::Event>)> {
        self.server.store.events()
    }
}
