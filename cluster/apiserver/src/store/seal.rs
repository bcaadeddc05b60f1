//! Sealing: the values of Secrets lie encrypted on the disk, in the log and in snapshots.
//!
//! XChaCha20-Poly1305 with a random nonce; what a value belongs to (resource, namespace, name, revision, whether it is a
//! deletion) is bound to it as additional data, so that a record which is moved or given another name does not open.
//! The key lies outside the data folder (`key.rs`). A value that cannot be opened is *locked*: it stays as it is, is
//! served to nobody, and can be deleted.
//!
//! Leaves out: hiding names, labels in names, sizes and times of changes. Whoever can write to the disk can put an older
//! state of the whole store in its place.

mod key;

use std::collections::BTreeMap;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

pub use key::{KeyError, KeyId, KeyPlace, SealKey, user_folder};

use super::log::Record;
use super::planted::{self, Bug};

/// Resources whose values are sealed.
const SEALED: &[&str] = &["core/secrets"];
/// Begins the additional data: another use of the same key gets another word.
const PURPOSE: &[u8] = b"dodai store record 1\0";
const NONCE_LEN: usize = 24;

/// Whether values of a resource are sealed.
pub(super) fn is_sealed(resource: &str) -> bool {
    SEALED.contains(&resource)
}

/// Why a sealed value does not open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// The key is not at hand.
    NoKey(KeyId),
    /// The key is there, but this is not what was sealed, or not here.
    Broken,
}

/// The keys at hand while a store is open.
#[derive(Debug, Default)]
pub(super) struct Sealer {
    /// Seals; `None` when the store's own key is lost, or nothing is kept.
    current: Option<SealKey>,
    /// Open what was sealed earlier.
    others: BTreeMap<KeyId, SealKey>,
}

impl Sealer {
    pub(super) fn new(current: Option<SealKey>) -> Sealer {
        Sealer { current, ..Sealer::default() }
    }

    /// Adds a key that opens and does not seal.
    pub(super) fn add(&mut self, key: SealKey) {
        self.others.insert(key.id(), key);
    }

    /// From now on this key seals.
    pub(super) fn seal_with(&mut self, key: Option<SealKey>) {
        self.current = key;
    }

    /// The key that seals.
    pub(super) fn key(&self) -> Option<KeyId> {
        self.current.as_ref().map(SealKey::id)
    }

    fn find(&self, id: KeyId) -> Option<&SealKey> {
        self.current.as_ref().filter(|key| key.id() == id).or_else(|| self.others.get(&id))
    }

    /// Puts the sealed value into a record, if its resource is sealed.
    pub(super) fn seal(&self, record: &mut Record) {
        if !is_sealed(&record.resource) || record.sealed || planted::is(Bug::SecretsStayPlain) {
            return;
        }
        let Some(key) = &self.current else {
            // Only deletions get here (`Store::write` refuses the rest): what is deleted need not be kept.
            record.value = placeholder(&record.namespace, &record.name, record.revision);
            return;
        };
        let plain = Zeroizing::new(std::mem::take(&mut record.value));
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the system gives random bytes");
        let context = context(record, key.id());
        let payload = Payload { msg: &plain, aad: &context };
        let text = cipher(key).encrypt(XNonce::from_slice(&nonce), payload).expect("a value fits in memory");
        record.value = [&key.id().bytes()[..], &nonce, &text].concat();
        record.sealed = true;
    }

    /// The plain value of a sealed record.
    pub(super) fn open(&self, record: &Record) -> Result<Vec<u8>, Unopened> {
        let (id, rest) = record.value.split_first_chunk().ok_or(Unopened::Broken)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unopened::Broken)?;
        let id = KeyId::new(*id);
        let key = self.find(id).ok_or(Unopened::NoKey(id))?;
        let context = context(record, id);
        let payload = Payload { msg: text, aad: &context };
        cipher(key).decrypt(XNonce::from_slice(nonce), payload).map_err(|_| Unopened::Broken)
    }
}

/// The key that a sealed value names.
pub(super) fn key_of(value: &[u8]) -> Option<KeyId> {
    value.first_chunk().map(|id| KeyId::new(*id))
}

/// What stands in for a value that is not at hand: nothing but what the record says in clear.
pub(super) fn placeholder(namespace: &str, name: &str, revision: u64) -> Vec<u8> {
    let meta =
        serde_json::json!({ "name": name, "namespace": namespace, "resourceVersion": revision.to_string() });
    serde_json::json!({ "metadata": meta }).to_string().into_bytes()
}

fn cipher(key: &SealKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.bytes().into())
}

/// What a value belongs to. Lengths go before texts, so that no two contexts look alike.
fn context(record: &Record, id: KeyId) -> Vec<u8> {
    let mut bytes = PURPOSE.to_vec();
    bytes.extend_from_slice(id.bytes());
    if planted::is(Bug::SealsAreUnbound) {
        return bytes;
    }
    bytes.extend_from_slice(&record.revision.to_le_bytes());
    bytes.push(u8::from(record.deleted));
    for part in [&record.resource, &record.namespace, &record.name] {
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Record {
        Record {
            revision: 7,
            resource: "core/secrets".into(),
            namespace: "shop".into(),
            name: "db".into(),
            value: b"marker".to_vec(),
            deleted: false,
            sealed: false,
        }
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_was_sealed() {
        let sealer = Sealer::new(Some(SealKey::generate()));
        let mut record = secret();
        sealer.seal(&mut record);
        assert!(record.sealed && !record.value.windows(6).any(|window| window == b"marker"));
        assert_eq!(sealer.open(&record).unwrap(), b"marker");
        let moves: [fn(&mut Record); 6] = [
            |record| record.revision += 1,
            |record| record.deleted = true,
            |record| record.resource = "core/configmaps".into(),
            |record| record.namespace = "other".into(),
            |record| record.name = "dc".into(),
            // The same letters, elsewhere.
            |record| (record.namespace, record.name) = ("shopd".into(), "b".into()),
        ];
        for change in moves {
            let mut moved = record.clone();
            change(&mut moved);
            assert_eq!(sealer.open(&moved).unwrap_err(), Unopened::Broken, "{moved:?}");
        }
        for at in 16..record.value.len() {
            let mut damaged = record.clone();
            damaged.value[at] ^= 1;
            assert_eq!(sealer.open(&damaged).unwrap_err(), Unopened::Broken, "byte {at}");
        }
        let other = Sealer::new(Some(SealKey::generate()));
        assert!(matches!(other.open(&record).unwrap_err(), Unopened::NoKey(_)));
    }

    #[test]
    fn other_resources_stay_as_they_are() {
        let sealer = Sealer::new(Some(SealKey::generate()));
        let mut record = Record { resource: "core/configmaps".into(), ..secret() };
        sealer.seal(&mut record);
        assert!(!record.sealed && record.value == b"marker");
    }
}
