//! Waiting for a state, and for silence, with words that say what was missed.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::broadcast;

use super::world::Id;
use crate::ApiServer;
use crate::store::{Event, EventKind, Key};

/// Writes that the text of an error shows.
const SHOWN_MAX: usize = 10;
/// How often a condition is looked at although nothing is written: it may look outside of the server.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Something that a test waited for did not come. Prints as its text, also by `{:?}`, so that `unwrap` reads well.
#[derive(Clone, PartialEq, Eq)]
pub struct Unmet(String);

impl Unmet {
    pub(super) fn written(time: Duration, writes: &[Write]) -> Unmet {
        let rows = listed(writes);
        Unmet(format!("{} writes within {time:?} in which there should be none:{rows}", writes.len()))
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unmet {}

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    /// `created`, `changed` or `deleted`.
    pub what: &'static str,
    /// Of which object.
    pub id: Id,
    /// The field manager that wrote it last; empty if that is not known.
    pub by: String,
    /// The object as it was written.
    pub object: Value,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.what)?;
        if self.by.is_empty() { Ok(()) } else { write!(f, " by {}", self.by) }
    }
}

fn listed(writes: &[Write]) -> String {
    let skip = writes.len().saturating_sub(SHOWN_MAX);
    let rows = writes.iter().skip(skip).map(|write| format!("\n  {write}"));
    rows.collect()
}

/// The writes since it was made; see [`TestEnv::record`](super::TestEnv::record).
#[derive(Debug)]
pub struct Writes {
    events: broadcast::Receiver<(Key, Arc<Event>)>,
}

impl Writes {
    pub(super) fn of(server: &ApiServer) -> Writes {
        Writes { events: server.events() }
    }

    /// The writes since the last call, in their order. Of very many (10,000) the oldest are missing.
    pub fn take(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        loop {
            match self.events.try_recv() {
                Ok((key, event)) => writes.push(write(&key, &event)),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return writes,
            }
        }
    }
}

fn write(key: &Key, event: &Event) -> Write {
    let object = event.object.value();
    let managers = object["metadata"]["managedFields"].as_array();
    let newest = managers.into_iter().flatten().max_by_key(|entry| entry["time"].as_str());
    let what = match event.kind {
        EventKind::Added => "created",
        EventKind::Modified => "changed",
        EventKind::Deleted => "deleted",
    };
    let by = newest.and_then(|entry| entry["manager"].as_str()).filter(|_| event.kind != EventKind::Deleted);
    Write { what, id: Id::of(key), by: by.unwrap_or_default().to_owned(), object }
}

pub(super) async fn await_that<F: Future<Output = bool>>(
    server: &ApiServer,
    what: &str,
    most: Duration,
    mut holds: impl FnMut() -> F,
) -> Result<(), Unmet> {
    let mut events = server.events();
    let mut writes = Writes::of(server);
    let deadline = tokio::time::Instant::now() + most;
    while tokio::time::Instant::now() < deadline {
        if holds().await {
            return Ok(());
        }
        // Woken by a write, or after a while; what was missed has been written, too.
        let _ = tokio::time::timeout(LOOK_EVERY, events.recv()).await;
    }
    let written = writes.take();
    let rows = match written.is_empty() {
        true => "; nothing was written meanwhile".to_owned(),
        false => format!("; of {} writes meanwhile the last were:{}", written.len(), listed(&written)),
    };
    Err(Unmet(format!("waited {most:?} in vain until {what}{rows}")))
}
