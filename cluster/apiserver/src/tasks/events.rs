//! Events are kept for a time, then they go.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;

use crate::server::Server;
use crate::store::{Change, Key, View};
use crate::write::Failure;

/// How often old events are looked for, unless they are kept for very long.
const EVERY: Duration = Duration::from_secs(60);
/// Looks within the time that an event is kept, at most.
const LOOKS_MAX: u32 = 60;

/// Removes old events until the server goes.
pub(super) async fn run(server: Weak<Server>) {
    let resource: Arc<str> = "core/events".into();
    let Some(mut closing) = server.upgrade().map(|server| server.closing.subscribe()) else { return };
    let Some(every) = server.upgrade().map(|server| EVERY.max(server.config.events_ttl / LOOKS_MAX)) else {
        return;
    };
    loop {
        tokio::select! {
            biased;
            _ = closing.changed() => return,
            () = tokio::time::sleep(every) => {}
        }
        let Some(server) = server.upgrade() else { return };
        let now = crate::clock::now().as_second();
        let ttl = server.config.events_ttl.as_secs() as i64;
        for object in server.store.list(&resource, "").objects {
            let value = object.value();
            let newest = ["lastTimestamp", "eventTime"].iter().filter_map(|field| value[field].as_str());
            let newest = newest.chain(value["series"]["lastObservedTime"].as_str());
            let newest = newest.chain(value["metadata"]["creationTimestamp"].as_str());
            let newest =
                newest.filter_map(|text| text.parse::<Timestamp>().ok()).map(|time| time.as_second()).max();
            if newest.is_some_and(|newest| now - newest < ttl) {
                continue;
            }
            let key = Key::new(&resource, &object.namespace, &object.name);
            let revision = object.revision;
            let written = server.store.write(&key, |current, _: &View<'_>| {
                // An event that has happened again stays.
                let same = current.is_some_and(|current| current.revision == revision);
                Ok::<_, Failure>(if same { Change::Delete(value) } else { Change::Nothing })
            });
            if written.await.is_err() {
                tracing::warn!("old events cannot be removed");
                break;
            }
        }
    }
}
