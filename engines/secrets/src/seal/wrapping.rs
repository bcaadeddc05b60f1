//! A data key wrapped for its recipients, and the MAC by which a change of that list by a stranger is seen.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dodai_api::dodai::encrypted_secret::{WrappedKey, WrappedRecipient};

use crate::error::{Error, KmsError, KmsErrorKind};
use crate::seal::binding::{Binding, push};
use crate::seal::checks::{Check, on};
use crate::seal::data_key::{DataKey, equal};
use crate::seal::keyring::{AgeError, Keyring, WRAPPED_BYTES_MAX, seal_age};
use crate::seal::recipient::Recipient;

/// Most recipients of a data key.
pub const RECIPIENTS_MAX: usize = 100;

/// Wraps a data key for its recipients.
///
/// # Errors
/// No recipient, too many, or what KMS answered.
pub fn wrap(
    data_key: &DataKey,
    binding: &Binding,
    recipients: &[Recipient],
    created: &str,
    keyring: &Keyring,
) -> Result<WrappedKey, Error> {
    if recipients.is_empty() {
        return Err(Error::NoRecipient);
    }
    let id = data_key.id();
    let mut wrapped = Vec::new();
    for recipient in recipients {
        wrapped.push(wrap_for(data_key, binding, recipient, &id, keyring)?);
    }
    let mut key = WrappedKey { id, created: created.to_owned(), recipients: wrapped, mac: String::new() };
    sign(data_key, binding, &mut key)?;
    Ok(key)
}

/// Wraps an opened data key for another list of recipients; those that stay keep what they have, byte for byte.
///
/// # Errors
/// See [`wrap`].
pub fn rewrap(
    data_key: &DataKey,
    binding: &Binding,
    old: &WrappedKey,
    recipients: &[Recipient],
    keyring: &Keyring,
) -> Result<WrappedKey, Error> {
    if recipients.is_empty() {
        return Err(Error::NoRecipient);
    }
    let mut kept: Vec<WrappedRecipient> = Vec::new();
    for entry in &old.recipients {
        if recipients.contains(&Recipient::of(entry)?) {
            kept.push(entry.clone());
        }
    }
    for recipient in recipients {
        let mut is_new = true;
        for entry in &kept {
            is_new &= Recipient::of(entry)? != *recipient;
        }
        if is_new {
            kept.push(wrap_for(data_key, binding, recipient, &old.id, keyring)?);
        }
    }
    let mut key = WrappedKey { recipients: kept, ..old.clone() };
    sign(data_key, binding, &mut key)?;
    Ok(key)
}

fn wrap_for(
    data_key: &DataKey,
    binding: &Binding,
    recipient: &Recipient,
    id: &str,
    keyring: &Keyring,
) -> Result<WrappedRecipient, Error> {
    match recipient {
        Recipient::Age(age) => {
            let wrapped = seal_age(age, data_key.bytes()).ok_or_else(|| Error::BadRecipient(age.clone()))?;
            Ok(WrappedRecipient { age: Some(age.clone()), kms: None, wrapped: STANDARD.encode(wrapped) })
        }
        Recipient::Kms(arn) => {
            let failed = |error| Error::Kms { arn: arn.clone(), error };
            let kms = keyring.kms.as_ref().ok_or_else(|| failed(no_kms()))?;
            let wrapped = kms.encrypt(arn, data_key.bytes(), &binding.kms_context(id)).map_err(failed)?;
            Ok(WrappedRecipient { age: None, kms: Some(arn.clone()), wrapped: STANDARD.encode(wrapped) })
        }
    }
}

fn no_kms() -> KmsError {
    KmsError { kind: KmsErrorKind::NoCredentials, message: "KMS is not set up here".to_owned() }
}

/// Unwraps a data key, then checks that it is the one its id commits to and that its recipients are those that a holder
/// of the key wrote. Identities of age are tried first: they cost nothing.
///
/// # Errors
/// Nothing at hand unwraps it, or a check fails. What fails is never given out.
pub fn unwrap(wrapped: &WrappedKey, binding: &Binding, keyring: &Keyring) -> Result<DataKey, Error> {
    if wrapped.recipients.len() > RECIPIENTS_MAX {
        return Err(Error::TooMuch { what: "recipients of a data key", max: RECIPIENTS_MAX });
    }
    let data_key = unwrap_age(wrapped, keyring)?;
    let data_key = match data_key {
        Some(data_key) => data_key,
        None => unwrap_kms(wrapped, binding, keyring)?,
    };
    if on(Check::Commitment) && data_key.id() != wrapped.id {
        return Err(Error::KeyExchanged(wrapped.id.clone()));
    }
    let mac = STANDARD.decode(&wrapped.mac).unwrap_or_default();
    if on(Check::RecipientsMac) && !equal(&mac, &mac_of(&data_key, binding, wrapped)) {
        return Err(Error::RecipientsChanged(wrapped.id.clone()));
    }
    Ok(data_key)
}

fn unwrap_age(wrapped: &WrappedKey, keyring: &Keyring) -> Result<Option<DataKey>, Error> {
    let own = keyring.recipients();
    for entry in &wrapped.recipients {
        // Only what says that it is for us: one unwrapping costs a scalar multiplication.
        let Some(age) = entry.age.as_ref().filter(|age| own.contains(age)) else { continue };
        let damaged = |what: &str| Error::DamagedWrap {
            key: wrapped.id.clone(),
            recipient: age.clone(),
            what: what.to_owned(),
        };
        let file = decode(&entry.wrapped).ok_or_else(|| damaged("not base64"))?;
        match keyring.open_age(&file) {
            Ok(bytes) => {
                let key = DataKey::from_bytes(&bytes).ok_or_else(|| damaged("not 32 bytes"))?;
                return Ok(Some(key));
            }
            // It says that it is for us and is not: somebody exchanged it. Another entry may still be good.
            Err(AgeError::NoMatch) => {}
            Err(AgeError::Damaged(what)) => return Err(damaged(what)),
        }
    }
    Ok(None)
}

fn unwrap_kms(wrapped: &WrappedKey, binding: &Binding, keyring: &Keyring) -> Result<DataKey, Error> {
    let mut refused = None;
    for entry in &wrapped.recipients {
        let (Some(arn), Some(kms)) = (&entry.kms, &keyring.kms) else { continue };
        // Refuses what is no ARN before it becomes a host name.
        Recipient::of(entry)?;
        let damaged = |what: &str| Error::DamagedWrap {
            key: wrapped.id.clone(),
            recipient: arn.clone(),
            what: what.to_owned(),
        };
        let blob = decode(&entry.wrapped).ok_or_else(|| damaged("not base64"))?;
        match kms.decrypt(arn, &blob, &binding.kms_context(&wrapped.id)) {
            Ok(bytes) => return DataKey::from_bytes(&bytes).ok_or_else(|| damaged("not 32 bytes")),
            Err(error) => {
                let error = Error::Kms { arn: arn.clone(), error };
                // One call that may succeed later is worth more than a refusal.
                if refused.as_ref().is_none_or(|_| error.is_transient()) {
                    refused = Some(error);
                }
            }
        }
    }
    Err(refused.unwrap_or_else(|| Error::NoIdentity {
        key: wrapped.id.clone(),
        recipients: wrapped
            .recipients
            .iter()
            .filter_map(|entry| entry.age.clone().or_else(|| entry.kms.clone()))
            .take(8)
            .collect(),
        n_identities: keyring.identities.len(),
    }))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() > WRAPPED_BYTES_MAX * 4 / 3 + 4 {
        return None;
    }
    STANDARD.decode(text).ok()
}

fn sign(data_key: &DataKey, binding: &Binding, key: &mut WrappedKey) -> Result<(), Error> {
    if key.recipients.len() > RECIPIENTS_MAX {
        return Err(Error::TooMuch { what: "recipients of a data key", max: RECIPIENTS_MAX });
    }
    key.mac = STANDARD.encode(mac_of(data_key, binding, key));
    Ok(())
}

/// Covers the object, the id, the time and each recipient with what it was given.
fn mac_of(data_key: &DataKey, binding: &Binding, key: &WrappedKey) -> [u8; 32] {
    let mut bytes = binding.recipients_data();
    push(&mut bytes, key.id.as_bytes());
    push(&mut bytes, key.created.as_bytes());
    let number = u32::try_from(key.recipients.len()).expect("at most `RECIPIENTS_MAX`");
    bytes.extend_from_slice(&number.to_be_bytes());
    for entry in &key.recipients {
        push(&mut bytes, entry.age.as_deref().unwrap_or_default().as_bytes());
        push(&mut bytes, entry.kms.as_deref().unwrap_or_default().as_bytes());
        push(&mut bytes, entry.wrapped.as_bytes());
    }
    data_key.mac(&bytes)
}
