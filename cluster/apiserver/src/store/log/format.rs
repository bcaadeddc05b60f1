//! The bytes of log and snapshot. `docs/reference/store-format.md` says the same in words: change both, and the number in
//! the magics, or older files are misread.

use super::super::planted::{self, Bug};
use super::super::seal::KeyId;
use super::{LOG, LogError, SNAPSHOT};

const LOG_MAGIC: &[u8; 7] = b"DODAILG";
const SNAPSHOT_MAGIC: &[u8; 7] = b"DODAISN";
/// The version of the format, a digit behind both magics.
const VERSION: u8 = b'2';
const GROUP_MAGIC: &[u8; 4] = b"GRP\x02";
/// Groups start at multiples of this, so that no header crosses a sector.
const ALIGN: usize = 64;
pub(super) const HEADER_LEN: usize = ALIGN;
const GROUP_HEADER_LEN: usize = 36;
const SNAPSHOT_HEADER_LEN: usize = 40;
/// An upper bound for one record (bytes); a longer length field is damage.
const RECORD_LEN_MAX: usize = 16 << 20;
/// What a record has besides its value, about.
const RECORD_BYTES: usize = 256;
/// A snapshot is written in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;
const DELETED: u8 = 1;
const SEALED: u8 = 2;

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The revision that the change made.
    pub revision: u64,
    /// Storage name of the resource, `group/plural`.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
    /// The new JSON text; for a deletion the last state. Sealed if `sealed` says so.
    pub value: Vec<u8>,
    pub deleted: bool,
    pub sealed: bool,
}

/// What the header of a log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Differs from log to log: what an earlier one left in a sector is never taken for a group of this one.
    pub salt: u64,
    /// The first record is of the revision after this one; an older snapshot does not belong to this log.
    pub base: u64,
    /// The key that sealed when the log was made.
    pub key: KeyId,
}

/// A snapshot as it was read.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub revision: u64,
    pub key: KeyId,
    /// Carry their own, older revisions.
    pub records: Vec<Record>,
}

/// A log as it was read.
#[derive(Debug)]
pub(super) struct Read {
    pub header: Header,
    pub records: Vec<Record>,
    /// Length of what is sound.
    pub len: usize,
    pub next_group: u64,
    /// Whether the last group is a seal.
    pub sealed: bool,
    /// Whether something behind it was cut off.
    pub torn: bool,
}

pub(super) fn encode_header(header: &Header) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend_from_slice(LOG_MAGIC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&header.salt.to_le_bytes());
    bytes.extend_from_slice(&header.base.to_le_bytes());
    bytes.extend_from_slice(header.key.bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.resize(HEADER_LEN, 0);
    bytes
}

pub(super) fn encode_group(salt: u64, group: u64, records: &[Record]) -> Vec<u8> {
    let size: usize = records.iter().map(|record| record.value.len() + RECORD_BYTES).sum();
    let mut bytes = Vec::with_capacity(GROUP_HEADER_LEN + size + ALIGN);
    bytes.resize(GROUP_HEADER_LEN, 0);
    for record in records {
        encode_record(record, &mut bytes);
    }
    let (header, body) = bytes.split_at_mut(GROUP_HEADER_LEN);
    header[..4].copy_from_slice(GROUP_MAGIC);
    header[4..12].copy_from_slice(&salt.to_le_bytes());
    header[12..20].copy_from_slice(&group.to_le_bytes());
    header[20..28].copy_from_slice(&(body.len() as u64).to_le_bytes());
    header[28..32].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let checksum = crc32c::crc32c(&header[..32]);
    header[32..].copy_from_slice(&checksum.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
    bytes
}

fn encode_record(record: &Record, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&record.revision.to_le_bytes());
    bytes.push(if record.deleted { DELETED } else { 0 } | if record.sealed { SEALED } else { 0 });
    for part in [&record.resource, &record.namespace, &record.name] {
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes.extend_from_slice(&record.value);
    let len = (bytes.len() - start - 8) as u32;
    let checksum = crc32c::crc32c(&bytes[start + 8..]);
    bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
    bytes[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// Writes a snapshot in pieces of some size, so that it is never in memory as a whole. Returns its length.
pub(super) fn write_snapshot<E>(
    revision: u64,
    key: KeyId,
    records: impl ExactSizeIterator<Item = Record>,
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    let mut piece = Vec::new();
    piece.extend_from_slice(SNAPSHOT_MAGIC);
    piece.push(VERSION);
    piece.extend_from_slice(&revision.to_le_bytes());
    piece.extend_from_slice(key.bytes());
    piece.extend_from_slice(&(records.len() as u64).to_le_bytes());
    let (mut checksum, mut len) = (0, 0);
    for record in records {
        encode_record(&record, &mut piece);
        if piece.len() >= PIECE_BYTES {
            checksum = crc32c::crc32c_append(checksum, &piece);
            len += piece.len() as u64;
            write(&piece)?;
            piece.clear();
        }
    }
    checksum = crc32c::crc32c_append(checksum, &piece);
    piece.extend_from_slice(&checksum.to_le_bytes());
    write(&piece)?;
    Ok(len + piece.len() as u64)
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
    let flags = *body.get(8)?;
    if flags & !(DELETED | SEALED) != 0 {
        return None;
    }
    let mut position = 9;
    let mut parts = Vec::with_capacity(3);
    for _ in 0..3 {
        let len = u32_at(body, position)? as usize;
        let part = body.get(position + 4..(position + 4).checked_add(len)?)?;
        parts.push(String::from_utf8(part.to_vec()).ok()?);
        position += 4 + len;
    }
    let value = body.get(position..)?.to_vec();
    let name = parts.pop()?;
    let namespace = parts.pop()?;
    let resource = parts.pop()?;
    let (deleted, sealed) = (flags & DELETED != 0, flags & SEALED != 0);
    Some((Record { revision, resource, namespace, name, value, deleted, sealed }, end))
}

/// All records from `at` to `end`, or the offset of the first bad one.
fn decode_records(bytes: &[u8], mut at: usize, end: usize) -> Result<Vec<Record>, usize> {
    let mut records = Vec::new();
    while at < end {
        let (record, next) = decode_record(&bytes[..end], at).ok_or(at)?;
        records.push(record);
        at = next;
    }
    Ok(records)
}

fn corrupt(file: &'static str, offset: usize, what: impl Into<String>) -> LogError {
    LogError::Corrupt { file, offset, what: what.into() }
}

/// Whether a file begins as one of ours, in this version.
fn check_magic(file: &'static str, bytes: &[u8], magic: &[u8; 7]) -> Result<(), LogError> {
    match bytes.split_first_chunk::<7>() {
        Some((found, [version, ..])) if found == magic => match *version {
            VERSION => Ok(()),
            version if version.is_ascii_digit() => Err(LogError::Version { file, found: version.into() }),
            _ => Err(corrupt(file, 7, "the version of the format is no digit")),
        },
        _ => Err(corrupt(file, 0, format!("it does not start as a {file}"))),
    }
}

pub(super) fn read_snapshot(bytes: &[u8]) -> Result<Snapshot, LogError> {
    check_magic(SNAPSHOT, bytes, SNAPSHOT_MAGIC)?;
    let cut = || corrupt(SNAPSHOT, bytes.len(), "it is cut off");
    let end = bytes.len().checked_sub(4).filter(|end| *end >= SNAPSHOT_HEADER_LEN).ok_or_else(cut)?;
    let revision = u64_at(bytes, 8).ok_or_else(cut)?;
    let key = KeyId::new(array(bytes, 16).ok_or_else(cut)?);
    let n_records = u64_at(bytes, 32).ok_or_else(cut)?;
    let records = decode_records(bytes, SNAPSHOT_HEADER_LEN, end)
        .map_err(|at| corrupt(SNAPSHOT, at, "the checksum of a record does not match"))?;
    if u32_at(bytes, end) != Some(crc32c::crc32c(&bytes[..end])) || records.len() as u64 != n_records {
        return Err(corrupt(SNAPSHOT, end, "the checksum of the file does not match"));
    }
    Ok(Snapshot { revision, key, records })
}

/// The header of a group.
struct GroupHeader {
    number: u64,
    len: usize,
    checksum: u32,
}

fn group_header(bytes: &[u8], at: usize, salt: u64) -> Option<GroupHeader> {
    let header = bytes.get(at..at.checked_add(GROUP_HEADER_LEN)?)?;
    let sound = &header[..4] == GROUP_MAGIC
        && u64_at(header, 4) == Some(salt)
        && u32_at(header, 32) == Some(crc32c::crc32c(&header[..32]));
    if !sound {
        return None;
    }
    let len = usize::try_from(u64_at(header, 20)?).ok()?;
    Some(GroupHeader { number: u64_at(header, 12)?, len, checksum: u32_at(header, 28)? })
}

/// A sound group with this number at `at`: its records and where the next one starts.
///
/// # Errors
/// The offset of the first byte that is not as it was written, as far as it can be told.
fn read_group(bytes: &[u8], at: usize, salt: u64, number: u64) -> Result<(Vec<Record>, usize), usize> {
    let header = group_header(bytes, at, salt).filter(|header| header.number == number).ok_or(at)?;
    let start = at + GROUP_HEADER_LEN;
    let end = start.checked_add(header.len).ok_or(at)?;
    let next = end.checked_next_multiple_of(ALIGN).ok_or(at)?;
    if next > bytes.len() {
        return Err(bytes.len());
    }
    let records = decode_records(bytes, start, end)?;
    if crc32c::crc32c(&bytes[start..end]) != header.checksum {
        return Err(start);
    }
    Ok((records, next))
}

/// Whether a sound header of a group newer than `group` starts somewhere behind `at`.
fn later_group(bytes: &[u8], at: usize, salt: u64, group: u64) -> bool {
    let mut position = (at + 1).next_multiple_of(ALIGN);
    while position < bytes.len() {
        if group_header(bytes, position, salt).is_some_and(|header| header.number > group) {
            return true;
        }
        position += ALIGN;
    }
    false
}

/// Where the one bit is that, turned back, makes a whole group of what is at `at`: the group was there and is damaged,
/// since a torn write leaves out sectors. A seal does not matter.
fn flipped_bit(bytes: &[u8], at: usize, salt: u64, number: u64) -> Option<usize> {
    let whole = |place: usize, mask: u8| {
        let mut mended = bytes.to_vec();
        mended[place] ^= mask;
        read_group(&mended, at, salt, number).is_ok_and(|(records, _)| !records.is_empty())
    };
    let Some(header) = group_header(bytes, at, salt).filter(|header| header.number == number) else {
        let header = bytes.get(at..at + GROUP_HEADER_LEN)?;
        for place in 0..GROUP_HEADER_LEN {
            for bit in 0..8 {
                let mut mended = header.to_vec();
                mended[place] ^= 1 << bit;
                if group_header(&mended, 0, salt).is_some() && whole(at + place, 1 << bit) {
                    return Some(at + place);
                }
            }
        }
        return None;
    };
    let start = at + GROUP_HEADER_LEN;
    let end = start.checked_add(header.len)?;
    let body = bytes.get(start..end)?;
    // A checksum is linear: one flipped bit changes it by what depends on the bit's place alone. From the last bit of
    // the body backwards each place's change follows from the one before.
    let wanted = crc32c::crc32c(body) ^ header.checksum;
    let mut change = POLYNOMIAL;
    for place in (start..end).rev() {
        for bit in (0..8).rev() {
            if change == wanted && whole(place, 1 << bit) {
                return Some(place);
            }
            change = if change & 1 == 1 { change >> 1 ^ POLYNOMIAL } else { change >> 1 };
        }
    }
    None
}

/// CRC-32C's polynomial, lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

pub(super) fn read_log(bytes: &[u8]) -> Result<Read, LogError> {
    check_magic(LOG, bytes, LOG_MAGIC)?;
    let unsound = || corrupt(LOG, 8, "the checksum of the header does not match");
    if bytes.len() < HEADER_LEN || u32_at(bytes, 40) != Some(crc32c::crc32c(&bytes[..40])) {
        return Err(unsound());
    }
    let salt = u64_at(bytes, 8).ok_or_else(unsound)?;
    let base = u64_at(bytes, 16).ok_or_else(unsound)?;
    let key = KeyId::new(array(bytes, 24).ok_or_else(unsound)?);
    let mut read = Read {
        header: Header { salt, base, key },
        records: Vec::new(),
        len: HEADER_LEN,
        next_group: 1,
        sealed: false,
        torn: false,
    };
    while read.len < bytes.len() {
        let (at, group) = (read.len, read.next_group);
        match read_group(bytes, at, salt, group) {
            Ok((mut records, next)) => {
                read.sealed = records.is_empty();
                check_revisions(&read, &records, at)?;
                read.records.append(&mut records);
                read.len = next;
                read.next_group += 1;
            }
            // Bad, with something behind it or by a single bit: damage.
            Err(offset) if later_group(bytes, at, salt, group) => {
                return Err(corrupt(LOG, offset, format!("group {group} does not match its checksum")));
            }
            Err(_) => {
                if let Some(offset) = flipped_bit(bytes, at, salt, group)
                    && !planted::is(Bug::FlippedBitIsTorn)
                {
                    return Err(corrupt(LOG, offset, format!("a bit of group {group}, the last, is wrong")));
                }
                // A write cut short. Nothing of it was acknowledged: it goes as a whole.
                read.torn = true;
                break;
            }
        }
    }
    Ok(read)
}

/// Revisions follow each other without a gap.
fn check_revisions(read: &Read, records: &[Record], at: usize) -> Result<(), LogError> {
    let mut last = read.records.last().map_or(read.header.base, |record| record.revision);
    for record in records {
        if record.revision != last.wrapping_add(1) {
            let what = format!("revision {} follows {last}", record.revision);
            return Err(corrupt(LOG, at, what));
        }
        last = record.revision;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(revision: u64, len: usize) -> Record {
        Record {
            revision,
            resource: "core/configmaps".into(),
            namespace: "default".into(),
            name: format!("m{revision}"),
            value: (0..len).map(|at| (at * 31 % 251) as u8).collect(),
            deleted: revision.is_multiple_of(2),
            sealed: false,
        }
    }

    fn log() -> (Vec<u8>, usize) {
        let mut bytes = encode_header(&Header { salt: 9, base: 0, key: KeyId::new([7; 16]) });
        bytes.extend(encode_group(9, 1, &[record(1, 30), record(2, 700)]));
        let last = bytes.len();
        bytes.extend(encode_group(9, 2, &[record(3, 1200), record(4, 3)]));
        (bytes, last)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, _) = log();
        let read = read_log(&bytes).unwrap();
        assert_eq!(read.records, [record(1, 30), record(2, 700), record(3, 1200), record(4, 3)]);
        assert_eq!((read.len, read.next_group, read.sealed, read.torn), (bytes.len(), 3, false, false));
        let big = Record { value: vec![7; PIECE_BYTES / 3], ..record(5, 0) };
        for records in [vec![], read.records.clone(), vec![big; 10]] {
            let (mut text, mut pieces) = (Vec::new(), 0);
            let len = write_snapshot(4, KeyId::new([7; 16]), records.clone().into_iter(), |piece| {
                text.extend_from_slice(piece);
                pieces += 1;
                Ok::<_, ()>(())
            });
            assert_eq!(len, Ok(text.len() as u64));
            assert_eq!(pieces, if records.len() == 10 { 4 } else { 1 });
            let snapshot = read_snapshot(&text).unwrap();
            assert_eq!((snapshot.revision, snapshot.records), (4, records));
        }
    }

    #[test]
    fn zeros_behind_the_last_group_are_space_that_was_made_ready() {
        let (bytes, last) = log();
        let sound = read_log(&bytes).unwrap().records;
        let ready = |bytes: &[u8]| [bytes, &[0; 3 * 4096]].concat();
        let read = read_log(&ready(&bytes)).unwrap();
        assert_eq!((read.len, read.records, read.next_group), (bytes.len(), sound.clone(), 3));
        // A flipped bit of the last group is found with zeros behind it as without, and one of the zeros does no harm.
        let whole = ready(&bytes);
        let in_last = (last..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit)));
        let in_zeros = (bytes.len()..whole.len()).step_by(61).map(|at| (at, at % 8));
        for (at, bit) in in_last.chain(in_zeros) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            match read_log(&damaged) {
                Err(LogError::Corrupt { .. }) => assert!(at < bytes.len(), "byte {at}"),
                Err(other) => panic!("bit {bit} of byte {at}: {other}"),
                Ok(read) => assert_eq!(read.records, sound, "bit {bit} of byte {at}"),
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found_or_harmless_even_in_the_last_group() {
        let (bytes, _) = log();
        let sound = read_log(&bytes).unwrap().records;
        let (mut found, mut harmless) = (0, 0);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                match read_log(&damaged) {
                    Err(LogError::Corrupt { .. } | LogError::Version { .. }) => found += 1,
                    Err(other) => panic!("bit {bit} of byte {at}: {other}"),
                    Ok(read) => {
                        assert_eq!(read.records, sound, "bit {bit} of byte {at}");
                        harmless += 1;
                    }
                }
            }
        }
        assert!(found > 8 * 1800 && harmless > 0, "{found} found, {harmless} harmless");
    }

    #[test]
    fn a_last_group_without_some_of_its_sectors_is_torn() {
        let (bytes, last) = log();
        let mut torn = 0;
        for lost in 1_u32..1 << (bytes.len() / 512 - last / 512 + 1) {
            let mut left = bytes.clone();
            for at in (last..left.len()).filter(|at| lost & 1 << (at / 512 - last / 512) != 0) {
                left[at] = 0;
            }
            let read = read_log(&left).unwrap();
            let is_torn = left != bytes;
            assert_eq!(read.records.len(), if is_torn { 2 } else { 4 }, "sectors {lost:b}");
            torn += usize::from(read.torn);
        }
        for len in last..bytes.len() {
            assert_eq!(read_log(&bytes[..len]).unwrap().records.len(), 2, "cut to {len}");
        }
        assert!(torn > 3, "{torn}");
    }

    #[test]
    fn damage_before_a_later_group_and_a_gap_are_told() {
        let (bytes, last) = log();
        let mut damaged = bytes.clone();
        damaged[HEADER_LEN..last].fill(0);
        assert!(matches!(read_log(&damaged), Err(LogError::Corrupt { offset: HEADER_LEN, .. })));
        let mut gap = encode_header(&Header { salt: 9, base: 0, key: KeyId::new([7; 16]) });
        gap.extend(encode_group(9, 1, &[record(2, 3)]));
        let error = read_log(&gap).unwrap_err();
        assert!(error.to_string().contains("revision 2 follows 0"), "{error}");
        let mut old = bytes;
        old[7] = b'1';
        assert!(matches!(read_log(&old), Err(LogError::Version { found: '1', .. })));
    }
}
