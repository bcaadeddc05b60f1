//! The `sops` section: who can open the file, and how it was made.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::gpg::PgpError;
use super::{Error, shamir};
use crate::seal::Keyring;
use crate::seal::recipient::region;

/// Most keys that are tried.
const KEYS_MAX: usize = 200;

/// What is read of the section; other fields are of no use here.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "or_default")]
    age: Vec<AgeKey>,
    #[serde(default, deserialize_with = "or_default")]
    pgp: Vec<PgpKey>,
    #[serde(default, deserialize_with = "or_default")]
    kms: Vec<KmsKey>,
    #[serde(default, deserialize_with = "or_default")]
    gcp_kms: Vec<Value>,
    #[serde(default, deserialize_with = "or_default")]
    azure_kv: Vec<Value>,
    #[serde(default, deserialize_with = "or_default")]
    hc_vault: Vec<Value>,
    #[serde(default, deserialize_with = "or_default")]
    key_groups: Vec<Group>,
    #[serde(default, deserialize_with = "number_or_text")]
    shamir_threshold: usize,
    pub(super) lastmodified: Option<String>,
    pub(super) mac: Option<String>,
    #[serde(default)]
    pub(super) mac_only_encrypted: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Group {
    #[serde(default, deserialize_with = "or_default")]
    age: Vec<AgeKey>,
    #[serde(default, deserialize_with = "or_default")]
    pgp: Vec<PgpKey>,
    #[serde(default, deserialize_with = "or_default")]
    kms: Vec<KmsKey>,
    #[serde(default, deserialize_with = "or_default")]
    gcp_kms: Vec<Value>,
    #[serde(default, deserialize_with = "or_default")]
    azure_kv: Vec<Value>,
    #[serde(default, deserialize_with = "or_default")]
    hc_vault: Vec<Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct AgeKey {
    #[serde(default)]
    recipient: String,
    enc: String,
}

#[derive(Debug, Clone, Deserialize)]
struct PgpKey {
    #[serde(default)]
    fp: String,
    enc: String,
}

#[derive(Debug, Clone, Deserialize)]
struct KmsKey {
    arn: String,
    enc: String,
    #[serde(default, deserialize_with = "or_default")]
    context: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    role: String,
}

/// `null` where older versions wrote one.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A number that flat formats write as text.
fn number_or_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default();
    Ok(usize::try_from(number).unwrap_or_default())
}

impl Metadata {
    pub(super) fn read(value: Value) -> Result<Metadata, Error> {
        let metadata: Metadata =
            serde_json::from_value(value).map_err(|error| Error::Metadata(error.to_string()))?;
        let n_keys: usize =
            metadata.groups().iter().map(|group| group.age.len() + group.pgp.len() + group.kms.len()).sum();
        if n_keys > KEYS_MAX {
            return Err(Error::Metadata(format!("more than {KEYS_MAX} keys")));
        }
        Ok(metadata)
    }

    fn groups(&self) -> Vec<Group> {
        if !self.key_groups.is_empty() {
            return self.key_groups.clone();
        }
        vec![Group {
            age: self.age.clone(),
            pgp: self.pgp.clone(),
            kms: self.kms.clone(),
            gcp_kms: self.gcp_kms.clone(),
            azure_kv: self.azure_kv.clone(),
            hc_vault: self.hc_vault.clone(),
        }]
    }

    /// The data key, with what is at hand.
    pub(super) fn data_key(&self, keyring: &Keyring) -> Result<Zeroizing<Vec<u8>>, Error> {
        let groups = self.groups();
        let mut parts = Vec::new();
        let mut needed = Vec::new();
        let mut asked = None;
        for group in &groups {
            match group.open(keyring) {
                Ok(part) => parts.push(part),
                Err(Error::NoKey(names)) => needed.extend(names),
                Err(error) => asked = Some(error),
            }
        }
        let key = match groups.len() {
            1 => parts.pop(),
            n => {
                let threshold = if self.shamir_threshold == 0 { n } else { self.shamir_threshold };
                (parts.len() >= threshold).then(|| shamir::combine(&parts)).flatten()
            }
        };
        key.ok_or_else(|| asked.unwrap_or(Error::NoKey(needed)))
    }
}

impl Group {
    /// What any key of the group opens; age first, which costs nothing.
    fn open(&self, keyring: &Keyring) -> Result<Zeroizing<Vec<u8>>, Error> {
        for key in &self.age {
            if let Ok(part) = keyring.open_age(key.enc.trim().as_bytes()) {
                return Ok(part);
            }
        }
        let mut asked = None;
        if let Some(pgp) = &keyring.pgp {
            for key in &self.pgp {
                match pgp.decrypt(key.enc.as_bytes()) {
                    Ok(part) => return Ok(part),
                    Err(PgpError::Pending) => asked = Some(Error::PgpPending(key.fp.clone())),
                    Err(PgpError::NoKey) => {}
                }
            }
        }
        if let Some(kms) = &keyring.kms {
            for key in self.kms.iter().filter(|key| region(&key.arn).is_some() && key.role.is_empty()) {
                let Ok(blob) = STANDARD.decode(key.enc.trim()) else { continue };
                match kms.decrypt(&key.arn, &blob, &key.context) {
                    Ok(part) => return Ok(part),
                    // What is still under way may open it: that outweighs a refusal.
                    Err(error) if matches!(asked, Some(Error::PgpPending(_))) => drop(error),
                    Err(error) => asked = Some(Error::Kms { arn: key.arn.clone(), error }),
                }
            }
        }
        let others = [
            (self.gcp_kms.len(), "GCP KMS (not supported)"),
            (self.azure_kv.len(), "Azure Key Vault (not supported)"),
            (self.hc_vault.len(), "Vault (not supported)"),
        ];
        let names = self
            .age
            .iter()
            .map(|key| key.recipient.clone())
            .chain(self.pgp.iter().map(|key| format!("PGP key {}", key.fp)))
            .chain(self.kms.iter().map(|key| key.arn.clone()))
            .chain(others.into_iter().filter(|(n, _)| *n > 0).map(|(_, name)| name.to_owned()));
        Err(asked.unwrap_or_else(|| Error::NoKey(names.collect())))
    }
}
