//! A second reader and writer of the files of the store, made from `docs/reference/store-format.md` alone: the witness of
//! other tests, and how they make files that the server would not.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

/// A record; for its fields see the document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) revision: u64,
    pub(crate) flags: u8,
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
}

/// The header of a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) salt: u64,
    pub(crate) base: u64,
    pub(crate) key: [u8; 16],
}

pub(crate) struct Snapshot {
    pub(crate) revision: u64,
    pub(crate) key: [u8; 16],
    pub(crate) records: Vec<Record>,
}

/// Takes bytes off the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(n);
        self.0 = rest;
        first
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let len = self.u32() as usize;
        String::from_utf8(self.take(len).to_vec()).unwrap()
    }

    fn record(&mut self) -> Record {
        let len = self.u32() as usize;
        let checksum = self.u32();
        let mut body = Bytes(self.take(len));
        assert_eq!(crc32c::crc32c(body.0), checksum, "checksum of a record");
        Record {
            revision: body.u64(),
            flags: body.take(1)[0],
            resource: body.text(),
            namespace: body.text(),
            name: body.text(),
            value: body.0.to_vec(),
        }
    }
}

/// The groups of a log that was closed in order.
pub(crate) fn read_log(bytes: &[u8]) -> (Header, Vec<Vec<Record>>) {
    let mut rest = Bytes(bytes);
    assert_eq!(rest.take(8), b"DODAILG2");
    let header = Header { salt: rest.u64(), base: rest.u64(), key: rest.take(16).try_into().unwrap() };
    assert_eq!(rest.u32(), crc32c::crc32c(&bytes[..40]), "checksum of the header");
    rest.take(20);
    let mut groups = Vec::new();
    while !rest.0.is_empty() {
        let whole = rest.0;
        assert_eq!(rest.take(4), b"GRP\x02");
        assert_eq!((rest.u64(), rest.u64()), (header.salt, groups.len() as u64 + 1));
        let len = rest.u64() as usize;
        let checksum = rest.u32();
        assert_eq!(rest.u32(), crc32c::crc32c(&whole[..32]), "checksum of the header of a group");
        let mut body = Bytes(rest.take(len));
        assert_eq!(crc32c::crc32c(body.0), checksum, "checksum of a group");
        let mut records = Vec::new();
        while !body.0.is_empty() {
            records.push(body.record());
        }
        groups.push(records);
        rest.take((36 + len).next_multiple_of(64) - 36 - len);
    }
    (header, groups)
}

pub(crate) fn read_snapshot(bytes: &[u8]) -> Snapshot {
    let (content, checksum) = bytes.split_at(bytes.len() - 4);
    assert_eq!(crc32c::crc32c(content).to_le_bytes(), checksum, "checksum of the snapshot");
    let mut rest = Bytes(content);
    assert_eq!(rest.take(8), b"DODAISN2");
    let (revision, key) = (rest.u64(), rest.take(16).try_into().unwrap());
    let n_records = rest.u64();
    let records = (0..n_records).map(|_| rest.record()).collect();
    assert!(rest.0.is_empty());
    Snapshot { revision, key, records }
}

fn write_record(record: &Record, out: &mut Vec<u8>) {
    let mut body = record.revision.to_le_bytes().to_vec();
    body.push(record.flags);
    for text in [&record.resource, &record.namespace, &record.name] {
        body.extend((text.len() as u32).to_le_bytes());
        body.extend(text.as_bytes());
    }
    body.extend(&record.value);
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(crc32c::crc32c(&body).to_le_bytes());
    out.extend(body);
}

/// A log with these groups; the last should be empty.
pub(crate) fn write_log(header: &Header, groups: &[Vec<Record>]) -> Vec<u8> {
    let mut out = b"DODAILG2".to_vec();
    out.extend(header.salt.to_le_bytes());
    out.extend(header.base.to_le_bytes());
    out.extend(header.key);
    out.extend(crc32c::crc32c(&out).to_le_bytes());
    out.resize(64, 0);
    for (at, records) in groups.iter().enumerate() {
        let mut body = Vec::new();
        records.iter().for_each(|record| write_record(record, &mut body));
        let start = out.len();
        out.extend(b"GRP\x02");
        out.extend(header.salt.to_le_bytes());
        out.extend((at as u64 + 1).to_le_bytes());
        out.extend((body.len() as u64).to_le_bytes());
        out.extend(crc32c::crc32c(&body).to_le_bytes());
        out.extend(crc32c::crc32c(&out[start..]).to_le_bytes());
        out.extend(body);
        out.resize(out.len().next_multiple_of(64), 0);
    }
    out
}

/// The key in a key file, and its name.
pub(crate) fn read_key(text: &str) -> ([u8; 32], [u8; 16]) {
    use sha2::Digest;
    let line =
        text.lines().find_map(|line| line.strip_prefix("DODAI-STORE-KEY-1 ")).expect("a line with a key");
    let key: [u8; 32] = hex::decode(line.trim()).unwrap().try_into().unwrap();
    let digest = sha2::Sha256::digest([&b"dodai store key id\0"[..], &key].concat());
    (key, digest[..16].try_into().unwrap())
}

/// The plain value of a sealed record.
pub(crate) fn unseal(key: &[u8; 32], record: &Record) -> Vec<u8> {
    assert_eq!(record.flags & 2, 2, "it is sealed");
    let (id, rest) = record.value.split_at(16);
    let (nonce, text) = rest.split_at(24);
    let mut aad = b"dodai store record 1\0".to_vec();
    aad.extend(id);
    aad.extend(record.revision.to_le_bytes());
    aad.push(record.flags & 1);
    for part in [&record.resource, &record.namespace, &record.name] {
        aad.extend((part.len() as u32).to_le_bytes());
        aad.extend(part.as_bytes());
    }
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: text, aad: &aad }).expect("it opens")
}
