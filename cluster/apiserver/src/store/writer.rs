//! The thread that makes groups of writes durable, publishes them and answers their writers.

use std::sync::{Arc, MutexGuard, PoisonError};

use super::disk::Disk;
use super::log::{Log, LogError, Record};
use super::planted::{self, Bug};
use super::recovery::{Limits, everything, record_of, snapshot};
use super::seal::Sealer;
use super::{Head, Pending, PendingWrite, Shared, StoreError, lock, publish};

/// Writes that may wait for one sync.
const GROUP_RECORDS_MAX: usize = 4096;
/// The file that takes space, so that deletions go through when the disk is full.
const RESERVE: &str = "reserve";

/// The thread that writes groups.
pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    log: Log,
    limits: Limits,
    /// Whether the reserve file is there.
    reserved: bool,
    /// The seal did not fit; the next write brings another.
    seal_failed: bool,
    /// Length of the log (bytes) at which it is replaced by a snapshot.
    snapshot_at: u64,
}

/// The thread's work, step by step.
pub struct Steps {
    writer: Writer,
    started: bool,
}

impl Steps {
    pub(super) fn new(writer: Writer) -> Steps {
        Steps { writer, started: false }
    }

    /// Makes what is pending durable, publishes it and answers; seals the log if nothing is pending.
    pub fn step(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            self.writer.reserve();
        }
        let shared = self.writer.shared.clone();
        let group = take(&mut lock(&shared.head));
        self.writer.step(group);
    }

    /// What the thread does at its end.
    pub fn close(mut self) {
        lock(&self.writer.shared.head).closing = true;
        self.writer.close();
    }
}

fn take(head: &mut MutexGuard<'_, Head>) -> Vec<Pending> {
    let n = head.pending.len().min(GROUP_RECORDS_MAX);
    head.pending.drain(..n).collect()
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, disk: Arc<dyn Disk>, log: Log, limits: Limits) -> Writer {
        let snapshot_at = limits.log_bytes_max;
        Writer { shared, disk, log, limits, reserved: false, seal_failed: false, snapshot_at }
    }

    /// Writes until the store is closed.
    pub(super) fn run(mut self) {
        self.reserve();
        let shared = self.shared.clone();
        loop {
            let group = {
                let mut head = lock(&shared.head);
                while head.pending.is_empty() && !head.closing {
                    head.sleeps = true;
                    if self.log.is_sealed() || self.seal_failed || head.failed.is_some() {
                        head = shared.wake.wait(head).unwrap_or_else(PoisonError::into_inner);
                    } else {
                        let waited = shared.wake.wait_timeout(head, self.limits.seal_after);
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
                head.sleeps = false;
                take(&mut head)
            };
            self.step(group);
        }
        self.close();
    }

    fn step(&mut self, group: Vec<Pending>) {
        match group.is_empty() {
            true => self.seal(),
            false => self.commit(group),
        }
    }

    /// After a failure of which nobody knows what it left, nothing more is written.
    fn close(&mut self) {
        if lock(&self.shared.head).failed.is_some() {
            return;
        }
        let closed = match self.log.len() > self.limits.log_bytes_open_max {
            true => self.snapshot().map(drop),
            false => self.log.seal(&*self.disk),
        };
        if let Err(error) = closed {
            tracing::error!(error = %chain(&error), "the store could not be closed cleanly; its log is kept");
        }
    }

    fn snapshot(&mut self) -> Result<u64, LogError> {
        let shared = self.shared.clone();
        // Nothing is published meanwhile, since that is what this thread does; readers need not wait.
        let all = everything(&shared.published.read().unwrap_or_else(PoisonError::into_inner));
        let sealer = sealer(&shared);
        let key = sealer.key().unwrap_or(self.log.key());
        snapshot(&mut self.log, &*self.disk, all, sealer, key)
    }

    /// Takes space while there is some. Without it the store works all the same.
    fn reserve(&mut self) {
        let made = self
            .disk
            .create(RESERVE)
            .and_then(|()| self.disk.append(RESERVE, &vec![0; self.limits.reserve_bytes]));
        self.reserved = made.and_then(|()| self.disk.sync(RESERVE)).is_ok();
    }

    fn seal(&mut self) {
        if lock(&self.shared.head).failed.is_some() {
            return;
        }
        match self.log.seal(&*self.disk) {
            Ok(()) => {}
            Err(error) if error.is_full() => self.seal_failed = true,
            Err(error) => self.fail(Vec::new(), &error),
        }
    }

    fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        match self.log.commit(&*self.disk, records) {
            Err(error) if error.is_full() && self.reserved && records.iter().all(|record| record.deleted) => {
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
        let writes = || group.iter().filter_map(|pending| pending.write.as_ref());
        let record = |write: &PendingWrite| {
            record_of(&write.key.resource, &write.object, write.deleted, sealer(&self.shared))
        };
        let records: Vec<Record> = writes().map(record).collect();
        if planted::is(Bug::PublishesBeforeSync) {
            publish(&self.shared, writes().map(PendingWrite::shown));
        }
        // Who only waits, waits for earlier groups: they are durable by now.
        if !records.is_empty() {
            if let Err(error) = self.append(&records) {
                self.fail(group, &error);
                return;
            }
            self.seal_failed = false;
        }
        publish(&self.shared, writes().map(PendingWrite::shown));
        let mut head = lock(&self.shared.head);
        for write in writes() {
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

    /// Replaces a long log by a snapshot. A failure before the log is touched harms nobody: it is tried again later.
    fn shrink(&mut self) {
        let made = self.snapshot();
        // A log may become as long as the snapshot, so that at most half of what is written is written anew.
        let snapshot_bytes = made.as_ref().map_or(0, |bytes| *bytes);
        self.snapshot_at = self.log.len() + self.limits.log_bytes_max.max(snapshot_bytes);
        let Err(error) = made else { return };
        tracing::error!(error = %chain(&error), "cannot write a snapshot");
        if !error.is_harmless() {
            self.fail(Vec::new(), &error);
        }
    }

    /// Takes back everything that is not published. After a full disk writing may go on; after any other error the
    /// state of the file is unknown and only a restart helps.
    fn fail(&mut self, group: Vec<Pending>, error: &LogError) {
        let full = error.is_full();
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

fn sealer(shared: &Shared) -> &Sealer {
    shared.sealer.as_ref().expect("a store that is written to a disk has one")
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
