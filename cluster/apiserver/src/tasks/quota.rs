//! Quotas: the spec is copied to the status, and what is used is counted anew after changes in the namespace.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Feed, Next};
use crate::admission::quota::count;
use crate::server::Server;
use crate::store::{Change, Event, EventKind, Key, Moment, View};
use crate::write::Failure;

/// Changes within this time are counted together.
const GATHER: Duration = Duration::from_millis(20);
/// Times a count is tried again because the quota was charged meanwhile.
const TRIES_MAX: usize = 5;

const QUOTAS: &str = "core/resourcequotas";

/// What may change the use of a quota, where there is any. Changes are charged when they are written, but a Pod that has ended is free.
fn wanted(moment: &Moment<'_>, key: &Key, event: &Event) -> bool {
    let counts = event.kind != EventKind::Modified
        || matches!(&*key.resource, QUOTAS | "core/pods" | "core/services" | "core/persistentvolumeclaims");
    counts && !key.namespace.is_empty() && moment.has(QUOTAS)
}

/// Keeps the status of quotas until the server goes.
pub(super) async fn run(server: Weak<Server>) {
    let Some(mut feed) = Feed::new(&server, wanted) else { return };
    let resource: Arc<str> = QUOTAS.into();
    let mut todo = all(&feed, &resource);
    loop {
        for namespace in std::mem::take(&mut todo) {
            let Some(server) = feed.server() else { return };
            for quota in server.store.list(&resource, &namespace).objects {
                recount(&server, &Key::new(&resource, &namespace, &quota.name)).await;
            }
        }
        match feed.next().await {
            Next::Closed => return,
            Next::Missed => todo = all(&feed, &resource),
            Next::Event(key, _) => {
                note(&feed, &resource, &key, &mut todo);
                if todo.is_empty() {
                    continue;
                }
                tokio::time::sleep(GATHER).await;
                while let Some((key, _)) = feed.events.try_next() {
                    note(&feed, &resource, &key, &mut todo);
                }
            }
        }
    }
}

fn all(feed: &Feed, resource: &Arc<str>) -> BTreeSet<String> {
    let quotas = feed.server().map(|server| server.store.list(resource, "").objects).unwrap_or_default();
    quotas.iter().map(|quota| quota.namespace.to_string()).collect()
}

/// Notes a namespace whose use may have changed.
fn note(feed: &Feed, resource: &Arc<str>, key: &Key, todo: &mut BTreeSet<String>) {
    if todo.contains(&*key.namespace) {
        return;
    }
    let Some(server) = feed.server() else { return };
    if !server.store.list(resource, &key.namespace).objects.is_empty() {
        todo.insert(key.namespace.to_string());
    }
}

async fn recount(server: &Arc<Server>, key: &Key) {
    for _ in 0..TRIES_MAX {
        let Some(seen) = server.store.get(key) else { return };
        let mut value = seen.value();
        let status = count(server, &value, &key.namespace);
        if value["status"] == status {
            return;
        }
        value["status"] = status;
        let decide = |current: Option<&Arc<crate::store::Object>>, _: &View<'_>| match current {
            Some(current) if current.revision == seen.revision => Ok(Change::Put(value)),
            Some(_) => Err(Failure::Retry),
            None => Ok::<Change, Failure>(Change::Nothing),
        };
        match server.store.write(key, decide).await {
            Err(Failure::Retry) => {}
            Err(Failure::Api(error)) => {
                tracing::warn!(quota = %key.name, %error, "the status of a quota cannot be written");
                return;
            }
            Ok(_) => return,
        }
    }
}
