//! What an API server needs to be usable, as tasks beside it: garbage collection, namespace deletion, role
//! aggregation, service accounts, quota; these can be switched off in the `Config`. Deletion of custom resources with
//! their definition and expiry of events always run.

mod accounts;
mod aggregate;
mod collect;
mod definitions;
mod events;
mod namespaces;
mod quota;
mod token_secrets;

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::server::Server;
use crate::store::{Event, Key, Missed, Moment};

/// Shortest and longest wait before everything is looked at because events were missed.
const MISSED_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A look at everything may take one part in so many of a task's time.
const MISSED_SHARE: u32 = 8;

/// Starts the tasks; they end with the server.
pub(crate) fn start(server: &Arc<Server>) {
    let config = &server.config;
    if config.controllers {
        spawn(server, accounts::run);
        spawn(server, token_secrets::run);
        spawn(server, quota::run);
        spawn(server, aggregate::run);
        if config.garbage_collection {
            spawn(server, collect::run);
        }
        if config.namespace_deletion {
            spawn(server, namespaces::run);
        }
    }
    spawn(server, definitions::run);
    spawn(server, events::run);
}

fn spawn<F: Future<Output = ()> + Send + 'static>(server: &Arc<Server>, run: fn(Weak<Server>) -> F) {
    let (clock, task) = (server.config.clock.clone(), run(Arc::downgrade(server)));
    tokio::spawn(async move { clock.show(task).await });
}

/// The events of a server, until it goes.
struct Feed {
    server: Weak<Server>,
    events: crate::store::Feed,
    closing: tokio::sync::watch::Receiver<bool>,
    /// Since when the task looks at everything.
    looking: Option<Instant>,
    /// How long it took last.
    took: Duration,
}

/// What a feed brings.
enum Next {
    Event(Key, Arc<Event>),
    /// Events were missed: look at everything.
    Missed,
    Closed,
}

impl Feed {
    /// The events that a task wants.
    fn new(server: &Weak<Server>, wanted: fn(&Moment<'_>, &Key, &Event) -> bool) -> Option<Feed> {
        let strong = server.upgrade()?;
        Some(Feed {
            server: server.clone(),
            events: strong.store.feed(wanted),
            closing: strong.closing.subscribe(),
            looking: None,
            took: Duration::ZERO,
        })
    }

    async fn next(&mut self) -> Next {
        if let Some(since) = self.looking.take() {
            self.took = since.elapsed();
        }
        if *self.closing.borrow() {
            return Next::Closed;
        }
        let event = tokio::select! {
            biased;
            _ = self.closing.changed() => return Next::Closed,
            event = self.events.next() => event,
        };
        match event {
            Ok((key, event)) => Next::Event(key, event),
            Err(Missed) => self.missed().await,
        }
    }

    /// Waits, so that a flood of events does not become a flood of looks at everything, then begins anew with what
    /// comes from now on.
    async fn missed(&mut self) -> Next {
        let wait = (self.took * MISSED_SHARE).clamp(MISSED_WAIT.0, MISSED_WAIT.1);
        tokio::select! {
            biased;
            _ = self.closing.changed() => return Next::Closed,
            () = tokio::time::sleep(wait) => {}
        }
        // Before the look, so that nothing falls between.
        self.events.restart();
        self.looking = Some(Instant::now());
        Next::Missed
    }

    fn server(&self) -> Option<Arc<Server>> {
        self.server.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, Store, StoreError};

    /// Changes an object so many times; another one, that is not wanted, as often.
    async fn flood(store: &Store, n: usize) {
        for _ in 0..n {
            for name in ["a", "b"] {
                let key = Key::new(&"core/configmaps".into(), "default", name);
                let value = serde_json::json!({ "metadata": { "name": name, "uid": name } });
                store.write(&key, |_, _| Ok::<_, StoreError>(Change::Put(value))).await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn missed_events_are_made_good_by_one_look_after_a_wait() {
        let (_open, closing) = tokio::sync::watch::channel(false);
        let (server, took) = (Weak::new(), Duration::ZERO);
        let store = Store::memory();
        let events = store.feed(|_, key, _| &*key.name == "a");
        let mut feed = Feed { server, events, closing, looking: None, took };

        flood(&store, 2048).await;
        for _ in 0..2048 {
            assert!(matches!(feed.next().await, Next::Event(key, _) if &*key.name == "a"));
        }
        assert!(feed.events.try_next().is_none());
        flood(&store, 2049).await;
        let began = Instant::now();
        assert!(matches!(feed.next().await, Next::Missed));
        assert_eq!(began.elapsed(), MISSED_WAIT.0);
        // The look takes a second, in which much happens: only what comes after its begin counts.
        flood(&store, 2).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..2 {
            assert!(matches!(feed.next().await, Next::Event(..)));
        }
        flood(&store, 5000).await;
        let began = Instant::now();
        assert!(matches!(feed.next().await, Next::Missed));
        assert_eq!(began.elapsed(), Duration::from_secs(1) * MISSED_SHARE, "a long look is rare");
        assert!(feed.events.try_next().is_none());
    }
}
