//! Reading the history of a resource as it grows.

use std::sync::Arc;

use super::{Event, Expired, Store};

/// Events handed to a watcher at a time.
const WATCH_BATCH_MAX: usize = 512;

/// A place in the history of a resource.
pub struct Watcher {
    pub(super) store: Store,
    pub(super) resource: Arc<str>,
    pub(super) cursor: u64,
    pub(super) changed: crate::changed::Receiver,
}

impl Watcher {
    /// The revision up to which everything was handed out.
    pub fn revision(&self) -> u64 {
        self.cursor
    }

    /// What happened since the last call, without waiting. Moves the cursor.
    pub fn take(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        self.changed.mark_unchanged();
        let published = self.store.published();
        let Some(resource) = published.resources.get(&self.resource) else {
            return Ok(Vec::new());
        };
        if self.cursor < resource.floor {
            return Err(Expired { oldest: resource.floor });
        }
        let start = resource.ring.partition_point(|event| event.object.revision <= self.cursor);
        let events: Vec<_> = resource.ring.iter().skip(start).take(WATCH_BATCH_MAX).cloned().collect();
        let rest = resource.ring.len() - start > events.len();
        self.cursor = match events.last() {
            Some(last) if rest => last.object.revision,
            _ => published.revision.max(self.cursor),
        };
        Ok(events)
    }

    /// Waits until there is something, and takes it.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        loop {
            let events = self.take()?;
            if !events.is_empty() {
                return Ok(events);
            }
            self.changed.changed().await;
        }
    }
}
