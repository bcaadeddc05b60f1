//! Values of Sealed Secrets, with the private key of its controller imported: RSA-OAEP (SHA-256) of a session key, then
//! AES-256-GCM, for each value by itself. The label of the RSA part binds the value to its place.

pub mod certificate;

use std::sync::Arc;

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::rand_core::RngCore;
use dodai_api::SealedSecret;
use dodai_api::bitnami::sealed_secret::{ANNOTATION_CLUSTER_WIDE, ANNOTATION_NAMESPACE_WIDE};
use kube::ResourceExt;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use sha2_for_age::Sha256;
use zeroize::Zeroizing;

use crate::file::convert::PlainSecret;
use crate::seal::Keyring;

/// Longest sealed value, bytes.
const SEALED_BYTES_MAX: usize = 2 << 20;
/// Most private keys: a controller makes one a month.
pub const KEYS_MAX: usize = 500;

/// Why a SealedSecret does not open. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No private key was imported.
    #[error("no private key of a Sealed Secrets controller was imported")]
    NoKey,
    /// Not what sealed values look like.
    #[error("`{0}` is not a sealed value")]
    Malformed(String),
    /// Sealed for another key, name, namespace or scope, or changed.
    #[error("`{0}` was sealed for another controller, name, namespace or scope, or was changed")]
    Refused(String),
    /// Something that is not done here.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// What the values of an object are bound to.
fn label(object: &SealedSecret) -> String {
    let annotation = |name: &str| object.annotations().get(name).is_some_and(|value| value == "true");
    let namespace = object.namespace().unwrap_or_default();
    if annotation(ANNOTATION_CLUSTER_WIDE) {
        String::new()
    } else if annotation(ANNOTATION_NAMESPACE_WIDE) {
        namespace
    } else {
        format!("{namespace}/{}", object.name_any())
    }
}

/// Reads private keys: PEM, PKCS#8 or PKCS#1, or the `kubectl get secret -o yaml` of a controller's keys.
///
/// # Errors
/// A text in which no key is found. Nothing of it is repeated.
pub fn parse_keys(text: &str) -> Result<Vec<Arc<RsaPrivateKey>>, String> {
    let mut keys = Vec::new();
    for pem in pems(text) {
        let key =
            RsaPrivateKey::from_pkcs8_pem(&pem).ok().or_else(|| RsaPrivateKey::from_pkcs1_pem(&pem).ok());
        keys.push(Arc::new(key.ok_or("a private key that is no RSA key")?));
    }
    if keys.is_empty() {
        // The way upstream says to back keys up: a Secret, or a list of them, with `tls.key` in base64.
        for document in dodai_yaml::parse(text).unwrap_or_default() {
            let Ok(value) = document.to_json() else { continue };
            let items = value["items"].as_array().cloned().unwrap_or_else(|| vec![value]);
            for item in items.iter().take(KEYS_MAX) {
                let Some(encoded) = item["data"]["tls.key"].as_str() else { continue };
                let pem = STANDARD.decode(encoded).ok().map(Zeroizing::new);
                let pem = pem.as_deref().and_then(|pem| std::str::from_utf8(pem).ok());
                keys.extend(parse_keys(pem.ok_or("`tls.key` is not base64 of a text")?)?);
            }
        }
    }
    if keys.is_empty() { Err("no private key in it".to_owned()) } else { Ok(keys) }
}

fn pems(text: &str) -> Vec<Zeroizing<String>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ").filter(|_| found.len() < KEYS_MAX) {
        let Some(end) = rest[start..].find("-----END ") else { break };
        let Some(line) = rest[start + end + 9..].find("-----") else { break };
        let end = start + end + 9 + line + 5;
        let pem = &rest[start..end];
        if pem.lines().next().is_some_and(|line| line.contains("PRIVATE KEY")) {
            found.push(Zeroizing::new(format!("{pem}\n")));
        }
        rest = &rest[end..];
    }
    found
}

/// Opens every value of an object.
///
/// # Errors
/// See [`Error`]; the first value that does not open ends it.
pub fn open(object: &SealedSecret, keyring: &Keyring) -> Result<PlainSecret, Error> {
    if keyring.sealing_keys.is_empty() {
        return Err(Error::NoKey);
    }
    let template = object.spec.template.clone().unwrap_or_default();
    if template.data.is_some_and(|data| !data.is_empty()) {
        return Err(Error::Unsupported("`template.data`"));
    }
    let metadata = template.metadata.unwrap_or_default();
    let mut plain = PlainSecret {
        namespace: object.namespace(),
        name: object.name_any(),
        type_: template.type_,
        labels: metadata.labels,
        annotations: metadata.annotations,
        data: Default::default(),
    };
    let label = label(object);
    for (key, text) in &object.spec.encrypted_data {
        let symbols: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let bytes = STANDARD.decode(symbols).ok().filter(|bytes| bytes.len() <= SEALED_BYTES_MAX);
        let bytes = bytes.ok_or_else(|| Error::Malformed(key.clone()))?;
        plain.data.insert(key.clone(), open_value(&bytes, &label, key, keyring)?);
    }
    Ok(plain)
}

/// Two bytes with the length of the RSA part, the RSA part, the AES part with a nonce of zeros (a key is used once).
fn open_value(bytes: &[u8], label: &str, key: &str, keyring: &Keyring) -> Result<Zeroizing<Vec<u8>>, Error> {
    let malformed = || Error::Malformed(key.to_owned());
    let (length, rest) = bytes.split_at_checked(2).ok_or_else(malformed)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let (wrapped, sealed) = rest.split_at_checked(length).ok_or_else(malformed)?;
    for private in &keyring.sealing_keys {
        let padding = Oaep::new_with_label::<Sha256, _>(label);
        let mut random = chacha20poly1305::aead::OsRng;
        let Ok(session) = private.decrypt_blinded(&mut random, padding, wrapped) else { continue };
        let session = Zeroizing::new(session);
        let Ok(cipher) = Aes256Gcm::new_from_slice(&session) else { continue };
        if let Ok(plain) = cipher.decrypt(Nonce::from_slice(&[0; 12]), sealed) {
            return Ok(Zeroizing::new(plain));
        }
    }
    Err(Error::Refused(key.to_owned()))
}

/// Seals a value as [`open_value`] opens it. `None` without randomness, or for a key that is too short.
pub(crate) fn seal_value(value: &[u8], label: &str, key: &RsaPublicKey) -> Option<Vec<u8>> {
    let mut random = chacha20poly1305::aead::OsRng;
    let mut session = Zeroizing::new([0; 32]);
    random.try_fill_bytes(session.as_mut_slice()).ok()?;
    let padding = Oaep::new_with_label::<Sha256, _>(label);
    let wrapped = key.encrypt(&mut random, padding, session.as_slice()).ok()?;
    let cipher = Aes256Gcm::new_from_slice(session.as_slice()).ok()?;
    let sealed = cipher.encrypt(Nonce::from_slice(&[0; 12]), value).ok()?;
    let length = u16::try_from(wrapped.len()).ok()?;
    Some([&length.to_be_bytes(), wrapped.as_slice(), sealed.as_slice()].concat())
}
