//! One resource deploys a web application, its migrations as a state machine.
//!
//! An `App` says what is wanted; each change of it becomes an immutable `Release`, and Releases of one App go one at a
//! time through build, release command and roll-out. Two controllers that meet only in objects:
//!
//! - [`app`]: makes a Release for each new spec, keeps the history short, tells the App's state.
//! - [`release`]: moves one Release along, holding the App's Lease while it does.
//!
//! What holds, whatever is killed when (each has a plan case or a live test):
//! 1. one release command of an App at a time, terminating Pods included;
//! 2. a running command is never ended for a newer Release;
//! 3. a recorded success never runs again, and Jobs are kept as long as their Release, so that none is made twice;
//! 4. until the roll-out nothing that the old Release uses is changed;
//! 5. a failed Release leaves the old one serving, and says why with the last lines of the log.
//!
//! Deliberately absent here: how a Pod runs (`cluster/node`, or a cluster's kubelets), routes and certificates.

pub mod app;
pub mod error;
pub mod identity;
pub mod planted;
pub mod reason;
pub mod release;

use dodai_kit::Engine;

/// The engine with its controllers.
pub fn engine() -> Engine {
    Engine::new("apps").with::<app::AppController>().with::<release::ReleaseController>()
}

/// The field manager of everything that this engine writes.
pub const MANAGER: &str = "dodai-apps";
