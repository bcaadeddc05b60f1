//! The append log and the snapshot on disk: writing, recovery. The bytes are in `log/format.rs`.
//!
//! A log is a header and groups. A group is what one sync made durable; group n+1 is written only after the sync of
//! n, so only the last group may be torn: nothing of it was acknowledged, and it is left out. A bad group with a later
//! one behind it, or one that a single bit makes whole, is corruption, and opening fails with the file and the offset.
//! When the log is idle an empty group (a seal) follows, so that larger damage never passes for a torn tail either.
//!
//! Recovery does not write to the log that it read: the sound part goes into a new file, which then takes the old one's
//! name. A sync, of the file or of the folder, may have failed before the last process ended; what the system still shows
//! is then not on the disk, and no later sync brings it there.
//!
//! Leaves out: what the records mean (`store.rs`), sealing (`seal.rs`).

mod format;

use std::io;

use super::disk::Disk;
use super::planted::{self, Bug};
use super::seal::KeyId;
pub(super) use format::Record;
use format::{Header, Read, encode_group, encode_header, read_log, read_snapshot, write_snapshot};

const LOG: &str = "log";
const LOG_NEW: &str = "log.new";
const SNAPSHOT: &str = "snapshot";
const SNAPSHOT_NEW: &str = "snapshot.new";

/// Why a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A call to the disk failed.
    #[error("cannot {action} `{file}`")]
    Io {
        action: &'static str,
        file: &'static str,
        #[source]
        source: io::Error,
    },
    /// What is there is not what was written.
    #[error("`{file}` is damaged at offset {offset}: {what}")]
    Corrupt { file: &'static str, offset: usize, what: String },
    /// Another version of dodai wrote it.
    #[error(
        "`{file}` is in version {found} of the format, this dodai reads 2{}",
        if *found == '1' { ": version 1 was never released and did not seal Secrets; move the folder away and start anew" }
        else { "" }
    )]
    Version { file: &'static str, found: char },
    /// The key that seals cannot be had.
    #[error("cannot use the key that seals Secrets")]
    Key(#[source] super::seal::KeyError),
}

impl LogError {
    /// Whether an attempt to make a snapshot ended before it touched what counts: the old log goes on.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(self, LogError::Io { action: CREATE | APPEND, file: LOG_NEW | SNAPSHOT_NEW, .. })
    }

    /// Whether a write did not fit on the disk and left no trace.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, LogError::Io { action: APPEND, file: LOG, source }
            if source.kind() == io::ErrorKind::StorageFull)
    }
}

const CREATE: &str = "create";
const APPEND: &str = "append to";
const SYNC: &str = "sync";
const SYNC_FOLDER: &str = "sync the folder of";

fn io_error(action: &'static str, file: &'static str) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { action, file, source }
}

/// What recovery found. Nothing was written yet.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Revision of the snapshot; its records carry their own, older revisions.
    pub snapshot_revision: u64,
    pub snapshot: Vec<Record>,
    /// Changes after the snapshot, in order.
    pub changes: Vec<Record>,
    /// The key that sealed last.
    pub key: KeyId,
    log: Read,
    /// The sound part of the log.
    bytes: Vec<u8>,
}

/// The open log: where the next group goes.
#[derive(Debug)]
pub(super) struct Log {
    header: Header,
    next_group: u64,
    /// Durable length; what lies behind it is removed before the next append.
    len: u64,
    sealed: bool,
}

/// Reads snapshot and log; `None` when there is neither.
pub(super) fn recover(disk: &dyn Disk) -> Result<Option<Recovered>, LogError> {
    let snapshot = read_optional(disk, SNAPSHOT)?.map(|bytes| read_snapshot(&bytes)).transpose()?;
    let missing = |file, what: &str| LogError::Corrupt { file, offset: 0, what: what.into() };
    let Some(mut bytes) = read_optional(disk, LOG)? else {
        return match snapshot {
            None => Ok(None),
            // The log is made before the first snapshot, and replaced in one step.
            Some(_) => Err(missing(LOG, "it is missing, and `snapshot` is there")),
        };
    };
    let mut log = read_log(&bytes)?;
    bytes.truncate(log.len);
    let base = log.header.base;
    let snapshot_revision = snapshot.as_ref().map_or(0, |snapshot| snapshot.revision);
    if snapshot_revision < base && !planted::is(Bug::BaseIsIgnored) {
        let what = format!("`log` goes on from revision {base}, and the snapshot is of {snapshot_revision}");
        return Err(missing(SNAPSHOT, &what));
    }
    let changes = std::mem::take(&mut log.records);
    let changes: Vec<Record> =
        changes.into_iter().filter(|record| record.revision > snapshot_revision).collect();
    let key = snapshot.as_ref().filter(|_| snapshot_revision > base).map_or(log.header.key, |s| s.key);
    let snapshot = snapshot.map(|snapshot| snapshot.records).unwrap_or_default();
    Ok(Some(Recovered { snapshot_revision, snapshot, changes, key, log, bytes }))
}

impl Recovered {
    /// Bytes of the log.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether log and key go on as they are; a snapshot with a new key makes a new log.
    pub(super) fn is_sealed_with(&self, key: KeyId) -> bool {
        self.log.header.key == key
    }

    /// The log, ready for the next group: a new file with the sound part of the old one and a seal.
    pub(super) fn resume(self, disk: &dyn Disk) -> Result<Log, LogError> {
        let torn = self.log.torn;
        let (mut log, mut bytes) = self.into_log();
        if planted::is(Bug::RecoveryTrustsTail) && !torn || planted::is(Bug::RecoveryKeepsTornGroup) {
            log.seal(disk)?;
            return Ok(log);
        }
        if !log.sealed {
            bytes.extend(encode_group(log.header.salt, log.next_group, &[]));
            log.next_group += 1;
            log.sealed = true;
        }
        replace_log(disk, &bytes)?;
        log.len = bytes.len() as u64;
        Ok(log)
    }

    /// The log as it is, to be replaced by a snapshot before anything is written.
    pub(super) fn into_log(self) -> (Log, Vec<u8>) {
        let log = Log {
            header: self.log.header,
            next_group: self.log.next_group,
            len: self.log.len as u64,
            sealed: self.log.sealed,
        };
        (log, self.bytes)
    }
}

impl Log {
    /// A new log in an empty folder.
    pub(super) fn create(disk: &dyn Disk, salt: u64, key: KeyId) -> Result<Log, LogError> {
        new_log(disk, Header { salt, base: 0, key })
    }

    /// Bytes of the log.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the last group is a seal.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The key that its snapshots name.
    pub(super) fn key(&self) -> KeyId {
        self.header.key
    }

    /// Writes the records as one group and syncs it. After an error from `append` the file is cut back to its old
    /// length, so the caller may go on; after an error from `sync` it must not.
    pub(super) fn commit(&mut self, disk: &dyn Disk, records: &[Record]) -> Result<(), LogError> {
        let bytes = encode_group(self.header.salt, self.next_group, records);
        if let Err(error) = disk.append(LOG, &bytes) {
            if !planted::is(Bug::KeepsFailedAppend) {
                disk.truncate(LOG, self.len).map_err(io_error("cut", LOG))?;
            }
            return Err(io_error(APPEND, LOG)(error));
        }
        let mut synced = Ok(());
        if !planted::is(Bug::GroupIsNotSynced) {
            synced = disk.sync(LOG);
        }
        if synced.is_err() && planted::is(Bug::RetriesFailedSync) {
            synced = disk.sync(LOG);
        }
        synced.map_err(io_error(SYNC, LOG))?;
        self.len += bytes.len() as u64;
        self.next_group += 1;
        self.sealed = records.is_empty();
        Ok(())
    }

    /// Writes an empty group, unless the last one is already empty.
    pub(super) fn seal(&mut self, disk: &dyn Disk) -> Result<(), LogError> {
        if self.sealed || planted::is(Bug::NoSeal) {
            return Ok(());
        }
        self.commit(disk, &[])
    }

    /// Replaces the log by a snapshot of `records` at `revision`. Returns its length.
    pub(super) fn snapshot(
        &mut self,
        disk: &dyn Disk,
        revision: u64,
        key: KeyId,
        records: impl ExactSizeIterator<Item = Record>,
        salt: u64,
    ) -> Result<u64, LogError> {
        disk.create(SNAPSHOT_NEW).map_err(io_error(CREATE, SNAPSHOT_NEW))?;
        let len = write_snapshot(revision, key, records, |piece| {
            disk.append(SNAPSHOT_NEW, piece).map_err(io_error(APPEND, SNAPSHOT_NEW))
        })?;
        if !planted::is(Bug::SnapshotIsNotSynced) {
            disk.sync(SNAPSHOT_NEW).map_err(io_error(SYNC, SNAPSHOT_NEW))?;
        }
        disk.rename(SNAPSHOT_NEW, SNAPSHOT).map_err(io_error("rename", SNAPSHOT_NEW))?;
        if !planted::is(Bug::SnapshotNameIsNotSynced) {
            disk.sync_dir().map_err(io_error(SYNC_FOLDER, SNAPSHOT))?;
        }
        *self = new_log(disk, Header { salt, base: revision, key })?;
        Ok(len)
    }
}

fn read_optional(disk: &dyn Disk, name: &'static str) -> Result<Option<Vec<u8>>, LogError> {
    match disk.read(name) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", name)(error)),
    }
}

/// A log without records, sealed.
fn new_log(disk: &dyn Disk, header: Header) -> Result<Log, LogError> {
    let mut bytes = encode_header(&header);
    bytes.extend(encode_group(header.salt, 1, &[]));
    replace_log(disk, &bytes)?;
    Ok(Log { header, next_group: 2, len: bytes.len() as u64, sealed: true })
}

/// Puts a whole new log in the place of the old one, durably.
fn replace_log(disk: &dyn Disk, bytes: &[u8]) -> Result<(), LogError> {
    disk.create(LOG_NEW).map_err(io_error(CREATE, LOG_NEW))?;
    disk.append(LOG_NEW, bytes).map_err(io_error(APPEND, LOG_NEW))?;
    disk.sync(LOG_NEW).map_err(io_error(SYNC, LOG_NEW))?;
    disk.rename(LOG_NEW, LOG).map_err(io_error("rename", LOG_NEW))?;
    if planted::is(Bug::LogNameIsNotSynced) {
        return Ok(());
    }
    disk.sync_dir().map_err(io_error(SYNC_FOLDER, LOG))
}
