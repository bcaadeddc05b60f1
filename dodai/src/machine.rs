//! What this machine must allow so that Pods run, tried for real.

use std::ffi::OsString;
use std::path::Path;

use dodai_node::doctor::Finding;

use crate::failure::{Failure, Result};

/// This program as the supervisor of a Pod.
pub(crate) fn supervisor() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), dodai_node::SUPERVISOR_ARGUMENT.into()]
}

/// Runs a container in a folder that may be written to.
pub(crate) async fn try_container(folder: &Path) -> Finding {
    dodai_node::doctor::check(folder, supervisor()).await
}

/// An error that says what to do, if Pods cannot run here.
pub(crate) async fn require(folder: &Path) -> Result<()> {
    match try_container(folder).await {
        Finding::Works => Ok(()),
        Finding::Fails { problem, hints } => {
            Err(Failure::failed(format!("cannot run Pods on this machine: {problem}"))
                .hint(hints.join("\nhint: ")))
        }
    }
}
