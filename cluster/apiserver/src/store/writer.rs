//! The thread that makes groups of writes durable, publishes them and answers their writers.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::disk::Disk;
use super::log::{Log, LogError, Record};
use super::{LOG_BYTES_OPEN_MAX, Pending, Shared, StoreError, lock, publish, record_of, snapshot};

/// Log length (bytes) from which a snapshot replaces it.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// How long the log stays unsealed after the last write.
const SEAL_AFTER: Duration = Duration::from_millis(50);
/// Writes that may wait for one sync.
const GROUP_RECORDS_MAX: usize = 4096;
/// The thread that writes groups.
pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    log: Log,
    /// Whether the reserve file is there: its space lets deletions through when the disk is full.
    reserved: bool,
    /// The seal did not fit; the next write brings another.
    seal_failed: bool,
    /// Length of the log (bytes) at which it is replaced by a snapshot.
    snapshot_at: u64,
}

const RESERVE: &str = "reserve";
/// Bytes of the reserve file.
const RESERVE_LEN: usize = 1 << 20;

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, disk: Arc<dyn Disk>, log: Log) -> Writer {
        Writer { shared, disk, log, reserved: false, seal_failed: false, snapshot_at: LOG_BYTES_MAX }
    }

    /// Writes until the store is closed.
    pub(super) fn run(mut self) {
        self.reserve();
        loop {
            let group = {
                let mut head = lock(&self.shared.head);
                while head.pending.is_empty() && !head.closing {
                    if self.log.is_sealed() || self.seal_failed {
                        head = self.shared.wake.wait(head).unwrap_or_else(PoisonError::into_inner);
                    } else {
                        let waited = self.shared.wake.wait_timeout(head, SEAL_AFTER);
                        let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                        head = again;
                        if timeout.timed_out() && head.pending.is_empty() {
                            break;
                        }
                    }
                }
                if head.pending.is_empty() && head.closing {
                    break;
                }
                let n = head.pending.len().min(GROUP_RECORDS_MAX);
                head.pending.drain(..n).collect::<Vec<_>>()
            };
            if group.is_empty() {
                self.seal();
            } else {
                self.commit(group);
            }
        }
        let published = self.shared.published.read().unwrap_or_else(PoisonError::into_inner);
        let closed = match self.log.len() > LOG_BYTES_OPEN_MAX {
            true => snapshot(&mut self.log, &*self.disk, &published),
            false => self.log.seal(&*self.disk),
        };
        if let Err(error) = closed {
            tracing::error!(error = %chain(&error), "the store could not be closed cleanly; its log is kept");
        }
    }

    /// Takes space while there is some. Without it the store works all the same.
    fn reserve(&mut self) {
        let made = self.disk.create(RESERVE).and_then(|()| self.disk.append(RESERVE, &vec![0; RESERVE_LEN]));
        self.reserved = made.and_then(|()| self.disk.sync(RESERVE)).is_ok();
    }

    fn seal(&mut self) {
        match self.log.seal(&*self.disk) {
            Ok(()) => {}
            Err(error) if is_full(&error) => self.seal_failed = true,
            Err(error) => self.fail(Vec::new(), &error),
        }
    }

    fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        match self.log.commit(&*self.disk, records) {
            Err(error) if is_full(&error) && self.reserved && records.iter().all(|record| record.deleted) => {
                tracing::warn!("the disk is full: deletions use the reserve");
                self.reserved = false;
                self.disk.remove(RESERVE).map_err(|source| LogError::Io {
                    action: "remove",
                    file: RESERVE,
                    source,
                })?;
                self.log.commit(&*self.disk, records)
            }
            other => other,
        }
    }

    fn commit(&mut self, group: Vec<Pending>) {
        let records: Vec<Record> =
            group.iter().map(|write| record_of(&write.key.resource, &write.object, write.deleted)).collect();
        if let Err(error) = self.append(&records) {
            self.fail(group, &error);
            return;
        }
        self.seal_failed = false;
        for write in &group {
            publish(&self.shared, &write.key, &write.object, write.deleted);
        }
        let mut head = lock(&self.shared.head);
        for write in &group {
            let newest =
                head.overlay.get(&write.key).is_some_and(|(revision, _)| *revision == write.object.revision);
            if newest {
                head.overlay.remove(&write.key);
            }
        }
        drop(head);
        for write in group {
            // A writer that went away does not want the answer.
            let _ = write.done.send(Ok(()));
        }
        if self.log.len() > self.snapshot_at {
            self.shrink();
        }
    }

    /// Replaces a long log by a snapshot. A failure before the log is replaced harms nobody: it is tried again later.
    fn shrink(&mut self) {
        let shared = self.shared.clone();
        let published = shared.published.read().unwrap_or_else(PoisonError::into_inner);
        let made = snapshot(&mut self.log, &*self.disk, &published);
        drop(published);
        self.snapshot_at = self.log.len() + LOG_BYTES_MAX;
        let Err(error) = made else { return };
        tracing::error!(error = %chain(&error), "cannot write a snapshot");
        if matches!(&error, LogError::Io { action: "sync the folder of", file: "log", .. }) {
            self.fail(Vec::new(), &error);
        }
    }

    /// Takes back everything that is not published. After a full disk writing may go on; after any other error the
    /// state of the file is unknown and only a restart helps.
    fn fail(&mut self, group: Vec<Pending>, error: &LogError) {
        let full = is_full(error);
        let reason = if full { StoreError::NoSpace } else { StoreError::Failed(chain(error)) };
        tracing::error!(error = %chain(error), "a write to the store failed");
        let mut head = lock(&self.shared.head);
        if !full {
            head.failed = Some(reason.clone());
        }
        head.overlay.clear();
        head.revision = self.shared.published.read().unwrap_or_else(PoisonError::into_inner).revision;
        let pending = std::mem::take(&mut head.pending);
        drop(head);
        for write in group.into_iter().chain(pending) {
            let _ = write.done.send(Err(reason.clone()));
        }
    }
}

/// Whether a write did not fit on the disk and left no trace.
fn is_full(error: &LogError) -> bool {
    matches!(error, LogError::Io { action: "append to", file: "log", source }
        if source.kind() == std::io::ErrorKind::StorageFull)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
