//! Keeps the number of managers that update (rather than apply) bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entries::{Manager, Operation, Tracked};

/// Entries of operation `Update` in one object; what is older goes into one entry a version.
pub const UPDATE_MANAGERS_MAX: usize = 10;

/// Name of the entry that old updates are gathered in.
const ANCIENT_CHANGES: &str = "ancient-changes";

/// Gathers the oldest updates until there are few enough. The oldest of a version waits for a second one of that
/// version; then both become that version's gathering entry, with the later time.
pub(super) fn cap(tracked: &mut Tracked) {
    let mut updaters: Vec<Manager> = tracked
        .managers
        .iter()
        .filter(|(_, owned)| !owned.applied)
        .map(|(manager, _)| manager.clone())
        .collect();
    let mut count = updaters.len();
    if count <= UPDATE_MANAGERS_MAX {
        return;
    }
    let times = &tracked.times;
    updaters.sort_by(|a, b| (times.get(a), a).cmp(&(times.get(b), b)));

    let mut first_of: BTreeMap<Arc<str>, Manager> = BTreeMap::new();
    for manager in updaters {
        if count <= UPDATE_MANAGERS_MAX {
            return;
        }
        let Some(version) = tracked.managers.get(&manager).map(|owned| owned.version.clone()) else {
            continue;
        };
        let Some(first) = first_of.get(&version).cloned() else {
            first_of.insert(version, manager);
            continue;
        };
        let gathering = Manager {
            name: ANCIENT_CHANGES.into(),
            operation: Operation::Update,
            api_version: version.to_string(),
            subresource: String::new(),
        };
        if !tracked.managers.contains_key(&gathering)
            && let Some(owned) = tracked.managers.remove(&first)
        {
            tracked.managers.insert(gathering.clone(), owned);
        }
        if gathering != manager
            && let Some(owned) = tracked.managers.remove(&manager)
            && let Some(gathered) = tracked.managers.get_mut(&gathering)
        {
            gathered.set.extend(&owned.set);
        }
        count -= 1;
        match tracked.times.get(&manager).cloned() {
            Some(time) => tracked.times.insert(gathering, time),
            None => tracked.times.remove(&gathering),
        };
    }
}
