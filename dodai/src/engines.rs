//! The engines of this binary. Only here is the list known; switching one off means not starting it.

use dodai_kit::Engine;

/// Every engine, in the order in which they start.
pub(crate) fn all() -> Vec<Engine> {
    vec![dodai_secrets::engine(), dodai_apps::engine()]
}
