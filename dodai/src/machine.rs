//! What this machine must allow so that Pods run, tried for real.

use crate::failure::{Failure, Result};

/// An error that says what to do, if Pods cannot run here.
pub(crate) fn require() -> Result<()> {
    dodai_node::doctor::require().map_err(|error| {
        let hint = match &error {
            dodai_node::Error::Machine { hints, .. } => hints.join("\nhint: "),
            _ => "`dodai doctor` tells more".to_owned(),
        };
        Failure::from_error("cannot run Pods on this machine", &error).hint(hint)
    })
}
