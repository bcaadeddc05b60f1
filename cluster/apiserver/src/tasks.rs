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

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::server::Server;

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
    events: tokio::sync::broadcast::Receiver<(crate::store::Key, Arc<crate::store::Event>)>,
    closing: tokio::sync::watch::Receiver<bool>,
    /// Since when the task looks at everything.
    looking: Option<Instant>,
    /// How long it took last.
    took: Duration,
}

/// What a feed brings.
enum Next {
    Event(crate::store::Key, Arc<crate::store::Event>),
    /// Events were missed: look at everything.
    Missed,
    Closed,
}

impl Feed {
    fn new(server: &Weak<Server>) -> Option<Feed> {
        let strong = server.upgrade()?;
        Some(Feed {
            server: server.clone(),
            events: strong.store.events(),
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
            event = self.events.recv() => event,
        };
        match event {
            Ok((key, event)) => Next::Event(key, event),
            Err(RecvError::Lagged(_)) => self.missed().await,
            Err(RecvError::Closed) => Next::Closed,
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
        self.events = self.events.resubscribe();
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
    use crate::store::{Change, Key, Store, StoreError};

    #[tokio::test(start_paused = true)]
    async fn missed_events_are_made_good_by_one_look_after_a_wait() {
        let (send, events) = tokio::sync::broadcast::channel(4);
        let (_open, closing) = tokio::sync::watch::channel(false);
        let (server, took) = (Weak::new(), Duration::ZERO);
        let mut feed = Feed { server, events, closing, looking: None, took };
        let store = Store::memory();
        let mut real = store.events();
        let key = Key::new(&"core/configmaps".into(), "default", "a");
        let value = serde_json::json!({ "metadata": { "name": "a", "uid": "u" } });
        store.write(&key, |_, _| Ok::<_, StoreError>(Change::Put(value))).await.unwrap();
        let (_, event) = real.recv().await.unwrap();
        let flood = |n: usize| (0..n).for_each(|_| drop(send.send((key.clone(), event.clone()))));

        flood(3);
        for _ in 0..3 {
            assert!(matches!(feed.next().await, Next::Event(..)));
        }
        flood(50);
        let began = Instant::now();
        assert!(matches!(feed.next().await, Next::Missed));
        assert_eq!(began.elapsed(), MISSED_WAIT.0);
        // The look takes a second, in which much happens: only what comes after its begin counts.
        flood(2);
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..2 {
            assert!(matches!(feed.next().await, Next::Event(..)));
        }
        flood(50);
        let began = Instant::now();
        assert!(matches!(feed.next().await, Next::Missed));
        assert_eq!(began.elapsed(), Duration::from_secs(1) * MISSED_SHARE, "a long look is rare");
    }
}
