//! A number that many tasks wait for, which wakes them in the order in which they began to wait.
//!
//! In place of `tokio::sync::watch`, which wakes in an order of its own choosing: a simulated run could not be had again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Shared {
    number: AtomicU64,
    changed: Notify,
}

/// Sets the number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sender(Arc<Shared>);

impl Sender {
    pub(crate) fn get(&self) -> u64 {
        self.0.number.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, number: u64) {
        self.0.number.store(number, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn subscribe(&self) -> Receiver {
        Receiver { shared: self.0.clone(), seen: self.get() }
    }
}

/// Waits until the number is another than it has seen.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    seen: u64,
}

impl Receiver {
    /// The number as it is now counts as seen.
    pub(crate) fn mark_unchanged(&mut self) {
        self.seen = self.shared.number.load(Ordering::SeqCst);
    }

    pub(crate) async fn changed(&mut self) {
        loop {
            // Registered before the look, so that no change falls between.
            let mut notified = std::pin::pin!(self.shared.changed.notified());
            notified.as_mut().enable();
            let number = self.shared.number.load(Ordering::SeqCst);
            if number != self.seen {
                self.seen = number;
                return;
            }
            notified.await;
        }
    }
}
