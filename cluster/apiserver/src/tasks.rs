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

use tokio::sync::broadcast::error::RecvError;

use crate::server::Server;

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
        })
    }

    async fn next(&mut self) -> Next {
        if *self.closing.borrow() {
            return Next::Closed;
        }
        tokio::select! {
            biased;
            _ = self.closing.changed() => Next::Closed,
            event = self.events.recv() => match event {
                Ok((key, event)) => Next::Event(key, event),
                Err(RecvError::Lagged(_)) => Next::Missed,
                Err(RecvError::Closed) => Next::Closed,
            },
        }
    }

    fn server(&self) -> Option<Arc<Server>> {
        self.server.upgrade()
    }
}
