//! The append log and the snapshot on disk: format, writing, recovery.
//!
//! A log is a header and groups. A group is what one sync made durable; group n+1 is written only after the sync of
//! n, so only the last group may be torn: nothing of it was
//! acknowledged, and it is cut off. A bad record with a later group behind it
//! is corruption, and opening fails with the file and the offset. When the log is idle an empty group (a seal)
//! follows, so that a bit flipped in an acknowledged group never passes for a torn tail.
//!
//! Leaves out: what the records mean (`store.rs`), encryption of Secrets (the crate that owns the platform key).

use std::io;

use super::disk::Disk;

const LOG: &str = "log";
const LOG_NEW: &str = "log.new";
const SNAPSHOT: &str = "snapshot";
const SNAPSHOT_NEW: &str = "snapshot.new";
const LOG_MAGIC: &[u8; 8] = b"DODAILG1";
const SNAPSHOT_MAGIC: &[u8; 8] = b"DODAISN1";
const GROUP_MAGIC: &[u8; 4] = b"GRP\x01";
/// Groups start at multiples of this, so that no header crosses a sector.
const ALIGN: usize = 64;
const HEADER_LEN: usize = ALIGN;
const GROUP_HEADER_LEN: usize = 32;
/// An upper bound for one record (bytes); a longer length field is damage.
const RECORD_LEN_MAX: usize = 16 << 20;

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The revision that the change made.
    pub revision: u64,
    /// Storage name of the resource, `group/plural`.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
    /// The new JSON text; for a deletion the last state.
    pub value: Vec<u8>,
    pub deleted: bool,
}

/// Why a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {action} `{file}`")]
    Io {
        action: &'static str,
        file: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("`{file}` is damaged at offset {offset}: {what}")]
    Corrupt { file: &'static str, offset: usize, what: String },
}

fn io_error(action: &'static str, file: &'static str) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { action, file, source }
}

/// What recovery found.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// Revision of the snapshot; its records carry their own, older revisions.
    pub snapshot_revision: u64,
    pub snapshot: Vec<Record>,
    /// Changes after the snapshot, in order.
    pub changes: Vec<Record>,
}

/// The open log: where the next group goes.
#[derive(Debug)]
pub(super) struct Log {
    salt: u64,
    next_group: u64,
    /// Durable length; what lies behind it is removed before the next append.
    len: u64,
    sealed: bool,
}

impl Log {
    /// Reads snapshot and log, cuts a torn tail (durably) and seals what is left.
    pub(super) fn open(disk: &dyn Disk, salt: u64) -> Result<(Log, Recovered), LogError> {
        let mut recovered = Recovered::default();
        if let Some(bytes) = read_optional(disk, SNAPSHOT)? {
            read_snapshot(&bytes, &mut recovered)?;
        }
        let mut log = match read_optional(disk, LOG)? {
            Some(bytes) => {
                let (log, changes) = read_log(&bytes)?;
                let floor = recovered.snapshot_revision;
                recovered.changes = changes.into_iter().filter(|record| record.revision > floor).collect();
                if log.len < bytes.len() as u64 {
                    disk.truncate(LOG, log.len).map_err(io_error("cut", LOG))?;
                    disk.sync(LOG).map_err(io_error("sync", LOG))?;
                }
                log
            }
            None => new_log(disk, salt)?,
        };
        log.seal(disk)?;
        Ok((log, recovered))
    }

    /// Bytes of the log.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the last group is a seal.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Writes the records as one group and syncs it. After an error from `append` the file is cut back to its old
    /// length, so the caller may go on; after an error from `sync` it must not.
    pub(super) fn commit(&mut self, disk: &dyn Disk, records: &[Record]) -> Result<(), LogError> {
        let bytes = encode_group(self.salt, self.next_group, records);
        if let Err(error) = disk.append(LOG, &bytes) {
            disk.truncate(LOG, self.len).map_err(io_error("cut", LOG))?;
            return Err(io_error("append to", LOG)(error));
        }
        disk.sync(LOG).map_err(io_error("sync", LOG))?;
        self.len += bytes.len() as u64;
        self.next_group += 1;
        self.sealed = records.is_empty();
        Ok(())
    }

    /// Writes an empty group, unless the last one is already empty.
    pub(super) fn seal(&mut self, disk: &dyn Disk) -> Result<(), LogError> {
        if self.sealed {
            return Ok(());
        }
        self.commit(disk, &[])
    }

    /// Replaces the log by a snapshot of `records` at `revision`.
    pub(super) fn snapshot<'a>(
        &mut self,
        disk: &dyn Disk,
        revision: u64,
        records: impl Iterator<Item = Record> + 'a,
        salt: u64,
    ) -> Result<(), LogError> {
        let bytes = encode_snapshot(revision, records);
        disk.create(SNAPSHOT_NEW).map_err(io_error("create", SNAPSHOT_NEW))?;
        disk.append(SNAPSHOT_NEW, &bytes).map_err(io_error("append to", SNAPSHOT_NEW))?;
        disk.sync(SNAPSHOT_NEW).map_err(io_error("sync", SNAPSHOT_NEW))?;
        disk.rename(SNAPSHOT_NEW, SNAPSHOT).map_err(io_error("rename", SNAPSHOT_NEW))?;
        disk.sync_dir().map_err(io_error("sync the folder of", SNAPSHOT))?;
        *self = new_log(disk, salt)?;
        self.seal(disk)
    }
}

fn read_optional(disk: &dyn Disk, name: &'static str) -> Result<Option<Vec<u8>>, LogError> {
    match disk.read(name) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", name)(error)),
    }
}

fn new_log(disk: &dyn Disk, salt: u64) -> Result<Log, LogError> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.extend_from_slice(LOG_MAGIC);
    header.extend_from_slice(&salt.to_le_bytes());
    let checksum = crc32c::crc32c(&header);
    header.extend_from_slice(&checksum.to_le_bytes());
    header.resize(HEADER_LEN, 0);
    disk.create(LOG_NEW).map_err(io_error("create", LOG_NEW))?;
    disk.append(LOG_NEW, &header).map_err(io_error("append to", LOG_NEW))?;
    disk.sync(LOG_NEW).map_err(io_error("sync", LOG_NEW))?;
    disk.rename(LOG_NEW, LOG).map_err(io_error("rename", LOG_NEW))?;
    disk.sync_dir().map_err(io_error("sync the folder of", LOG))?;
    Ok(Log { salt, next_group: 1, len: HEADER_LEN as u64, sealed: false })
}

fn encode_group(salt: u64, group: u64, records: &[Record]) -> Vec<u8> {
    let mut body = Vec::new();
    for record in records {
        encode_record(record, &mut body);
    }
    let mut bytes = Vec::with_capacity(GROUP_HEADER_LEN + body.len() + ALIGN);
    bytes.extend_from_slice(GROUP_MAGIC);
    bytes.extend_from_slice(&salt.to_le_bytes());
    bytes.extend_from_slice(&group.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
    bytes
}

fn encode_record(record: &Record, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(record.value.len() + 128);
    body.extend_from_slice(&record.revision.to_le_bytes());
    body.push(u8::from(record.deleted));
    for part in [&record.resource, &record.namespace, &record.name] {
        body.extend_from_slice(&(part.len() as u32).to_le_bytes());
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(&record.value);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    out.extend_from_slice(&body);
}

fn encode_snapshot(revision: u64, records: impl Iterator<Item = Record>) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(SNAPSHOT_MAGIC);
    bytes.extend_from_slice(&revision.to_le_bytes());
    for record in records {
        encode_record(&record, &mut bytes);
    }
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Reads `N` bytes at `at`.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// One record at `at` and where the next one starts; `None` when it is damaged or cut off.
fn decode_record(bytes: &[u8], at: usize) -> Option<(Record, usize)> {
    let len = u32_at(bytes, at)? as usize;
    let checksum = u32_at(bytes, at + 4)?;
    if len > RECORD_LEN_MAX {
        return None;
    }
    let end = (at + 8).checked_add(len)?;
    let body = bytes.get(at + 8..end)?;
    if crc32c::crc32c(body) != checksum {
        return None;
    }
    let revision = u64_at(body, 0)?;
    let deleted = *body.get(8)? != 0;
    let mut position = 9;
    let mut parts = Vec::with_capacity(3);
    for _ in 0..3 {
        let len = u32_at(body, position)? as usize;
        let part = body.get(position + 4..position + 4 + len)?;
        parts.push(String::from_utf8(part.to_vec()).ok()?);
        position += 4 + len;
    }
    let value = body.get(position..)?.to_vec();
    let name = parts.pop()?;
    let namespace = parts.pop()?;
    let resource = parts.pop()?;
    Some((Record { revision, resource, namespace, name, value, deleted }, end))
}

fn read_snapshot(bytes: &[u8], recovered: &mut Recovered) -> Result<(), LogError> {
    let corrupt = |offset: usize, what: &str| LogError::Corrupt { file: SNAPSHOT, offset, what: what.into() };
    if bytes.len() < 20 || &bytes[..8] != SNAPSHOT_MAGIC {
        return Err(corrupt(0, "it does not start as a snapshot"));
    }
    let end = bytes.len() - 4;
    recovered.snapshot_revision = u64_at(bytes, 8).unwrap_or_default();
    let mut at = 16;
    while at < end {
        let Some((record, next)) = decode_record(&bytes[..end], at) else {
            return Err(corrupt(at, "the checksum of a record does not match"));
        };
        recovered.snapshot.push(record);
        at = next;
    }
    if u32_at(bytes, end) != Some(crc32c::crc32c(&bytes[..end])) {
        return Err(corrupt(end, "the checksum of the file does not match"));
    }
    Ok(())
}

/// The header of a group at `at`: its number and body length.
fn group_header(bytes: &[u8], at: usize, salt: u64) -> Option<(u64, usize)> {
    let header = bytes.get(at..at + GROUP_HEADER_LEN)?;
    let sound = &header[..4] == GROUP_MAGIC
        && u64_at(header, 4) == Some(salt)
        && u32_at(header, 28) == Some(crc32c::crc32c(&header[..28]));
    if !sound {
        return None;
    }
    Some((u64_at(header, 12)?, usize::try_from(u64_at(header, 20)?).ok()?))
}

/// Whether a sound header of a group newer than `group` starts somewhere behind `at`.
fn later_group(bytes: &[u8], at: usize, salt: u64, group: u64) -> bool {
    let mut position = at.next_multiple_of(ALIGN);
    if position == at {
        position += ALIGN;
    }
    while position < bytes.len() {
        if group_header(bytes, position, salt).is_some_and(|(number, _)| number > group) {
            return true;
        }
        position += ALIGN;
    }
    false
}

fn read_log(bytes: &[u8]) -> Result<(Log, Vec<Record>), LogError> {
    let corrupt = |offset: usize, what: String| LogError::Corrupt { file: LOG, offset, what };
    let sound = bytes.len() >= HEADER_LEN
        && &bytes[..8] == LOG_MAGIC
        && u32_at(bytes, 16) == Some(crc32c::crc32c(&bytes[..16]));
    if !sound {
        return Err(corrupt(0, "the header is not that of a log".into()));
    }
    let salt = u64_at(bytes, 8).unwrap_or_default();
    let mut records = Vec::new();
    let mut at = HEADER_LEN;
    let mut group = 1;
    let mut sealed = false;
    while at < bytes.len() {
        let header = group_header(bytes, at, salt).filter(|(number, _)| *number == group);
        let Some((_, len)) = header else {
            if later_group(bytes, at, salt, group) {
                return Err(corrupt(at, format!("the header of group {group} does not match")));
            }
            break;
        };
        let start = at + GROUP_HEADER_LEN;
        let end = start.saturating_add(len);
        let mut position = start;
        let mut good = Vec::new();
        while position < end {
            let Some((record, next)) = decode_record(&bytes[..end.min(bytes.len())], position) else { break };
            good.push(record);
            position = next;
        }
        let next = end.saturating_add(ALIGN - 1) / ALIGN * ALIGN;
        if position != end || next > bytes.len() {
            // A good header with a bad body: damage when something came after it, else a write cut short.
            if later_group(bytes, at, salt, group) {
                return Err(corrupt(
                    position,
                    format!("a record of group {group} does not match its checksum"),
                ));
            }
            // Nothing of the group was acknowledged: it goes as a whole.
            break;
        }
        sealed = good.is_empty();
        records.append(&mut good);
        at = next;
        group += 1;
    }
    Ok((Log { salt, next_group: group, len: at.min(bytes.len()) as u64, sealed }, records))
}
