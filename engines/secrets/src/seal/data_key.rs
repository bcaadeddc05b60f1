//! A data key, and what is derived from it. The data key itself encrypts nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::OsRng;
use chacha20poly1305::aead::rand_core::RngCore;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2_for_age::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::Error;

/// Bytes of a data key.
pub const DATA_KEY_BYTES: usize = 32;
/// Bytes of a key id before it is written as text.
const ID_BYTES: usize = 24;
/// A key id begins with this, so that YAML reads it as text whatever follows.
const ID_PREFIX: &str = "k";
/// Characters of a key id.
pub const ID_LENGTH: usize = 33;

/// 32 random bytes, gone from memory when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DataKey([u8; DATA_KEY_BYTES]);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataKey({})", self.id())
    }
}

impl DataKey {
    /// A new one from the system's randomness.
    ///
    /// # Errors
    /// The system has none.
    pub fn generate() -> Result<DataKey, Error> {
        let mut bytes = [0; DATA_KEY_BYTES];
        OsRng.try_fill_bytes(&mut bytes).map_err(|_| Error::NoRandomness)?;
        let key = DataKey(bytes);
        bytes.zeroize();
        Ok(key)
    }

    /// From what was unwrapped. `None` unless it has the right length.
    pub fn from_bytes(bytes: &[u8]) -> Option<DataKey> {
        Some(DataKey(bytes.try_into().ok()?))
    }

    /// The bytes to wrap.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the values name it by: 192 bits that commit to the key. Whoever finds two keys with one id has found a
    /// collision of SHA-256 cut to 192 bits.
    pub fn id(&self) -> String {
        let bytes: Zeroizing<[u8; ID_BYTES]> = self.derive(b"dodai.dev/EncryptedSecret/v1/key-id");
        format!("{ID_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice()))
    }

    /// The key of values.
    pub(crate) fn sealing_key(&self) -> Zeroizing<[u8; 32]> {
        self.derive(b"dodai.dev/EncryptedSecret/v1/seal")
    }

    /// The MAC over a list of recipients.
    pub(crate) fn mac(&self, message: &[u8]) -> [u8; 32] {
        let key: Zeroizing<[u8; 32]> = self.derive(b"dodai.dev/EncryptedSecret/v1/recipients");
        hmac(key.as_slice(), message)
    }

    fn derive<const N: usize>(&self, info: &[u8]) -> Zeroizing<[u8; N]> {
        let mut out = Zeroizing::new([0; N]);
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(info, out.as_mut_slice())
            .expect("32 bytes are fewer than HKDF can give");
        out
    }
}

/// HMAC-SHA256.
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Compares without telling by time where the difference is.
pub(crate) fn equal(one: &[u8], other: &[u8]) -> bool {
    bool::from(one.ct_eq(other))
}

/// Whether a text has the form of a key id.
pub fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH
        && text.starts_with(ID_PREFIX)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
