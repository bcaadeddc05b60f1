//! One sealed value: `v1:<key id>:<base64 of nonce and ciphertext>`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::rand_core::RngCore;
use chacha20poly1305::aead::{Aead, KeyInit, OsRng, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::seal::binding::Binding;
use crate::seal::checks::{Check, on};
use crate::seal::data_key::{DataKey, is_id};

/// Longest value, bytes: what a Secret may hold in all.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Seconds since 1970 when the value was set, before the value itself.
const TIME_BYTES: usize = 8;
const VERSION: &str = "v1";

/// A value as it stands in a file. Nothing of it has been checked but its form.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// The data key that opens it.
    pub key_id: String,
    bytes: Vec<u8>,
}

impl fmt::Debug for SealedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedValue({}, {} bytes)", self.key_id, self.bytes.len())
    }
}

/// An opened value.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The value, gone from memory when dropped.
    pub value: Zeroizing<Vec<u8>>,
    /// When it was set, seconds since 1970. Kept by `rekey`, since the value is still the same.
    pub set_at_s: u64,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even its length.
        write!(f, "Opened(set_at_s: {})", self.set_at_s)
    }
}

/// Whether a text claims to be sealed. What claims it and is not is damaged, never taken for plaintext.
pub fn looks_sealed(text: &str) -> bool {
    text.strip_prefix(VERSION)
        .and_then(|rest| rest.strip_prefix(':'))
        .is_some_and(|rest| rest.split_once(':').is_some_and(|(id, _)| is_id(id)))
}

impl SealedValue {
    /// Reads the form.
    ///
    /// # Errors
    /// Everything that [`SealedValue`]'s `Display` would not write.
    pub fn parse(text: &str) -> Result<SealedValue, Error> {
        if text.len() > (VALUE_BYTES_MAX + NONCE_BYTES + TAG_BYTES + TIME_BYTES) / 3 * 4 + 64 {
            return Err(Error::TooMuch { what: "bytes of a value", max: VALUE_BYTES_MAX });
        }
        let malformed = |what| Err(Error::Malformed(what));
        let Some((version, rest)) = text.split_once(':') else {
            return malformed("it does not begin with `v1:`");
        };
        if version != VERSION {
            return malformed("it does not begin with `v1:`");
        }
        let Some((id, encoded)) = rest.split_once(':') else { return malformed("no `:` behind the key id") };
        if !is_id(id) {
            return malformed("the key id is not one");
        }
        // The engine refuses what is not canonical, so that one value has one text.
        let Ok(bytes) = STANDARD.decode(encoded) else { return malformed("not base64") };
        if bytes.len() < NONCE_BYTES + TAG_BYTES + TIME_BYTES {
            return malformed("too short");
        }
        Ok(SealedValue { key_id: id.to_owned(), bytes })
    }

    /// Seals a value for its place.
    ///
    /// # Errors
    /// A value that is too long, and a system without randomness.
    pub fn seal(
        data_key: &DataKey,
        binding: &Binding,
        key: &str,
        value: &[u8],
        set_at_s: u64,
    ) -> Result<SealedValue, Error> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::TooMuch { what: "bytes of a value", max: VALUE_BYTES_MAX });
        }
        let mut nonce = [0; NONCE_BYTES];
        OsRng.try_fill_bytes(&mut nonce).map_err(|_| Error::NoRandomness)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(TIME_BYTES + value.len()));
        plain.extend_from_slice(&set_at_s.to_be_bytes());
        plain.extend_from_slice(value);
        let key_id = data_key.id();
        let data = binding.value_data(key, &key_id);
        let sealed = XChaCha20Poly1305::new(data_key.sealing_key().as_slice().into())
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: &plain, aad: &data })
            .expect("a value is far shorter than the cipher's limit");
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        Ok(SealedValue { key_id, bytes })
    }

    /// Opens a value at its place.
    ///
    /// # Errors
    /// [`Error::Refused`] if it was sealed for another place or under another key, or changed.
    pub fn open(&self, data_key: &DataKey, binding: &Binding, key: &str) -> Result<Opened, Error> {
        let (nonce, sealed) = self.bytes.split_at_checked(NONCE_BYTES).ok_or(Error::Refused)?;
        let data = binding.value_data(key, &self.key_id);
        let cipher = XChaCha20Poly1305::new(data_key.sealing_key().as_slice().into());
        let plain = if on(Check::Tag) {
            cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: &data })
        } else {
            // For the attack tests: a stream cipher encrypts and decrypts alike, and asks for no tag.
            let text = &sealed[..sealed.len().saturating_sub(TAG_BYTES)];
            cipher.encrypt(XNonce::from_slice(nonce), text).map(|mut plain| {
                plain.truncate(text.len());
                plain
            })
        };
        let plain = plain.map_err(|_| Error::Refused)?;
        let plain = Zeroizing::new(plain);
        let (time, value) = plain.split_at_checked(TIME_BYTES).ok_or(Error::Refused)?;
        let set_at_s = u64::from_be_bytes(time.try_into().map_err(|_| Error::Refused)?);
        Ok(Opened { value: Zeroizing::new(value.to_vec()), set_at_s })
    }
}

impl fmt::Display for SealedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}:{}:{}", self.key_id, STANDARD.encode(&self.bytes))
    }
}
