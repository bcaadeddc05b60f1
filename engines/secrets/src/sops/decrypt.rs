//! Opens a SOPS file: the data key, each value, and the MAC over all of them.

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, KeyInit, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2_for_age::{Digest, Sha512};
use zeroize::Zeroizing;

use super::Error;
use super::format::{Format, binary};
use super::metadata::Metadata;
use super::tree::{Leaf, Tree};
use crate::seal::Keyring;
use crate::seal::data_key::equal;

/// Longest file, bytes.
pub const FILE_BYTES_MAX: usize = 3 << 20;
/// SHA-256 of `sops`, which begins a MAC over encrypted values alone.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b,
    0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// The documents of a file in plaintext. Nothing is given out unless the MAC fits.
///
/// # Errors
/// See [`Error`].
pub fn decrypt(text: &str, format: Format, keyring: &Keyring) -> Result<Vec<Tree>, Error> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Error::Format {
            format: format.name(),
            what: format!("more than {FILE_BYTES_MAX} bytes"),
        });
    }
    let (mut trees, metadata) = format.read(text)?;
    let metadata = Metadata::read(metadata)?;
    let key = metadata.data_key(keyring)?;
    let mut opening = Opening { key: &key, hash: Sha512::new(), only_encrypted: metadata.mac_only_encrypted };
    if metadata.mac_only_encrypted {
        opening.hash.update(ONLY_ENCRYPTED);
    }
    for tree in &mut trees {
        opening.walk(tree, &mut Vec::new())?;
    }
    let computed = hex::encode_upper(opening.hash.finalize());
    let mac = metadata.mac.filter(|mac| !mac.is_empty()).ok_or(Error::NoMac)?;
    let modified = metadata.lastmodified.ok_or_else(|| Error::Metadata("no `lastmodified`".into()))?;
    let modified = as_sops_writes(&modified)?;
    let told = value(&mac, &key, &modified).ok_or(Error::Mac)?.ok_or(Error::Mac)?;
    match told {
        Leaf::Text(told) if equal(told.as_bytes(), computed.as_bytes()) => Ok(trees),
        _ => Err(Error::Mac),
    }
}

/// The bytes of a binary file, or the values of another.
pub fn binary_value(trees: &[Tree]) -> Option<Zeroizing<Vec<u8>>> {
    binary(trees.first()?).map(Leaf::mac_bytes)
}

/// The time as the additional data of the MAC has it: read and written again.
fn as_sops_writes(text: &str) -> Result<String, Error> {
    let bad = || Error::Metadata("`lastmodified` is not a time".into());
    let is_time = text.parse::<jiff::Timestamp>().is_ok();
    if !is_time {
        return Err(bad());
    }
    // Fractions of a second are dropped; the zone stays as it was written.
    match (text.find('.'), text.rfind(['Z', 'z', '+', '-'])) {
        (Some(dot), Some(zone)) if zone > dot => Ok(format!("{}{}", &text[..dot], &text[zone..])),
        _ => Ok(text.to_owned()),
    }
}

struct Opening<'a> {
    key: &'a [u8],
    hash: Sha512,
    only_encrypted: bool,
}

impl Opening<'_> {
    fn walk(&mut self, tree: &mut Tree, path: &mut Vec<String>) -> Result<(), Error> {
        match tree {
            Tree::Map(entries) => {
                for (key, value) in entries {
                    path.push(key.clone());
                    self.walk(value, path)?;
                    path.pop();
                }
            }
            // Items have the path of their list.
            Tree::List(items) => {
                for item in items {
                    self.walk(item, path)?;
                }
            }
            Tree::Leaf(leaf) => {
                let data = format!("{}:", path.join(":"));
                let opened = match &*leaf {
                    Leaf::Text(text) => value(text, self.key, &data),
                    _ => None,
                };
                let encrypted = opened.is_some();
                if let Some(opened) = opened {
                    *leaf = opened.ok_or_else(|| Error::Value(path.join(".")))?;
                }
                if encrypted || !self.only_encrypted {
                    self.hash.update(leaf.mac_bytes());
                }
            }
        }
        Ok(())
    }
}

/// An encrypted value: `ENC[AES256_GCM,data:...,iv:...,tag:...,type:...]`. `None` if the text is not one; `Some(None)` if it
/// does not open.
fn value(text: &str, key: &[u8], data: &str) -> Option<Option<Leaf>> {
    let inner = text.strip_prefix("ENC[AES256_GCM,data:")?.strip_suffix(']')?;
    let (sealed, rest) = inner.split_once(",iv:")?;
    let (iv, rest) = rest.split_once(",tag:")?;
    let (tag, type_) = rest.split_once(",type:")?;
    Some(open([sealed, iv, tag], key, data).and_then(|plain| typed(&plain, type_)))
}

fn open([sealed, iv, tag]: [&str; 3], key: &[u8], data: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = STANDARD.decode(sealed).ok()?;
    bytes.extend(STANDARD.decode(tag).ok().filter(|tag| tag.len() == 16)?);
    let payload = Payload { msg: &bytes, aad: data.as_bytes() };
    let iv = STANDARD.decode(iv).ok()?;
    let plain = match iv.len() {
        32 => {
            let cipher = AesGcm::<Aes256, U32>::new_from_slice(key).ok()?;
            cipher.decrypt(Nonce::from_slice(&iv), payload).ok()?
        }
        // Old versions.
        12 => {
            let cipher = aes_gcm::Aes256Gcm::new_from_slice(key).ok()?;
            cipher.decrypt(Nonce::from_slice(&iv), payload).ok()?
        }
        _ => return None,
    };
    Some(Zeroizing::new(plain))
}

/// The label says what a value was. It is not authenticated: what does not fit it stays a text, as in SOPS.
fn typed(plain: &[u8], type_: &str) -> Option<Leaf> {
    let text = std::str::from_utf8(plain);
    let leaf = match (type_, text) {
        ("bytes", _) | (_, Err(_)) => Leaf::Bytes(Zeroizing::new(plain.to_vec())),
        ("int", Ok(text)) => text.parse().map(Leaf::Int).unwrap_or_else(|_| as_text(text)),
        ("float", Ok(text)) => text.parse().map(Leaf::Float).unwrap_or_else(|_| as_text(text)),
        ("bool", Ok("True" | "true")) => Leaf::Bool(true),
        ("bool", Ok("False" | "false")) => Leaf::Bool(false),
        ("str" | "bool" | "time" | "comment", Ok(text)) => as_text(text),
        _ => return None,
    };
    Some(leaf)
}

fn as_text(text: &str) -> Leaf {
    Leaf::Text(Zeroizing::new(text.to_owned()))
}
