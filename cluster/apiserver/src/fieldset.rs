//! Sets of fields for the merge crate.

use dodai_merge::fields::{Set, Step};

/// The set of these dotted paths.
pub(crate) fn of(paths: &[&str]) -> Set {
    let mut set = Set::new();
    for path in paths {
        let steps: Vec<Step> = path.split('.').map(Step::field).collect();
        set.insert(&steps);
    }
    set
}
