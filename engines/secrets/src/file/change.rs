//! One value set, or one key taken out. Setting needs no right to read: then the value gets a data key of its own.

use serde_json::Value;

use super::back::{Sealing, choose, put, wrap_new};
use super::check::{Meant, check};
use super::keys::replace_keys;
use super::splice::{self, Edits, entry};
use super::{FileError, FileResult, Found, find_one};
use crate::seal::{DataKey, Keyring, SealedValue};

/// Sets one value of an object. With `blind` nothing is unwrapped: public recipients are all that is needed.
///
/// # Errors
/// No such object, a key that Secrets cannot have, no recipients.
pub fn set(
    text: &str,
    object: Option<&str>,
    key: &str,
    value: &[u8],
    blind: bool,
    sealing: &Sealing<'_>,
) -> FileResult<String> {
    if key.is_empty()
        || key.len() > 253
        || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        return Err(FileError::new(format!(
            "`{key}` cannot be a key of a Secret: letters, digits, `-`, `_`, `.` only"
        )));
    }
    let found = find_one(text, object)?;
    if found.decrypted {
        return Err(found.error(&"it is decrypted: `dodai secret encrypt` first"));
    }
    let binding = found.binding()?;
    let mut wrapped = found.spec.keys.clone();
    let (data_key, set_at_s) = if blind {
        (blind_key(&found, &binding, sealing, &mut wrapped)?, sealing.now_s)
    } else {
        let keys = found.data_keys(&binding, sealing.keyring);
        let before = || {
            let before = SealedValue::parse(found.entry(key)?.text.as_deref()?).ok()?;
            before.open(keys.get(&before.key_id).ok()?, &binding, key).ok()
        };
        let set_at_s = before().map_or(sealing.now_s, |before| sealing.set_at(&before, value));
        (choose(&found, &keys, &binding, sealing, &mut wrapped)?, set_at_s)
    };
    let sealed = SealedValue::seal(&data_key, &binding, key, value, set_at_s)
        .map_err(|error| found.error(&error))?
        .to_string();
    let mut edits = Edits::default();
    let mut data: Vec<(String, String)> =
        found.data.iter().map(|entry| (entry.key.clone(), entry.text.clone().unwrap_or_default())).collect();
    match found.data.iter().position(|entry| entry.key == key) {
        Some(at) if found.data[at].text.is_some() => {
            put(&mut edits, &found, &found.data[at], &sealed);
            data[at].1 = sealed;
        }
        Some(at) => {
            let message = format!("`{key}` must be a text, written here");
            return Err(FileError::at(&found.document, found.data[at].node, message));
        }
        None => {
            insert(&mut edits, &found, key, &sealed)?;
            data.push((key.to_owned(), sealed));
        }
    }
    if wrapped != found.spec.keys && find_spec_is_there(&found) {
        replace_keys(&mut edits, &found, &wrapped)?;
    }
    let new = edits.apply(text).ok_or_else(|| FileError::new("changes overlap"))?;
    if !find_spec_is_there(&found) {
        // An object without `spec` gets it in two steps, each read again.
        let again = find_one(&new, Some(&found.display_name()))?;
        let mut edits = Edits::default();
        replace_keys(&mut edits, &again, &wrapped)?;
        let new = edits.apply(&new).ok_or_else(|| FileError::new("changes overlap"))?;
        check(text, &new, &[Meant { index: found.index, keys: wrapped, data }])?;
        return Ok(new);
    }
    check(text, &new, &[Meant { index: found.index, keys: wrapped, data }])?;
    Ok(new)
}

fn blind_key(
    found: &Found,
    binding: &crate::seal::Binding,
    sealing: &Sealing<'_>,
    wrapped: &mut Vec<dodai_api::dodai::encrypted_secret::WrappedKey>,
) -> FileResult<DataKey> {
    let key = DataKey::generate().map_err(|error| found.error(&error))?;
    wrapped.push(wrap_new(found, &key, binding, sealing)?);
    Ok(key)
}

fn find_spec_is_there(found: &Found) -> bool {
    let document = &found.document;
    entry(document, document.root_id(), "spec").is_some_and(|(_, spec)| !splice::is_null(document, spec))
}

fn insert(edits: &mut Edits, found: &Found, key: &str, sealed: &str) -> FileResult<()> {
    let document = &found.document;
    let root = document.root_id();
    let value = Value::String(sealed.to_owned());
    let data = Value::Object([(key.to_owned(), value.clone())].into_iter().collect());
    let done = match entry(document, root, "spec") {
        None => {
            let spec = Value::Object([("data".to_owned(), data)].into_iter().collect());
            splice::insert_entry(edits, document, &[root], (None, root), "spec", &spec)
        }
        Some((spec_key, spec)) => match entry(document, spec, "data") {
            None => {
                splice::insert_entry(edits, document, &[root, spec], (Some(spec_key), spec), "data", &data)
            }
            Some((data_key, node)) => splice::insert_entry(
                edits,
                document,
                &[root, spec, node],
                (Some(data_key), node),
                key,
                &value,
            ),
        },
    };
    done.ok_or_else(|| found.error(&"`spec.data` is written in a way that cannot be changed here"))
}

/// A new object as a file.
///
/// # Errors
/// No recipients.
pub fn create(namespace: &str, name: &str) -> String {
    let object = serde_json::json!({
        "apiVersion": "dodai.dev/v1alpha1",
        "kind": super::ENCRYPTED,
        "metadata": {"name": name, "namespace": namespace},
    });
    dodai_yaml::to_string(&object)
}

/// Opens one value.
///
/// # Errors
/// No such object or key, or why it does not open.
pub fn show(
    text: &str,
    object: Option<&str>,
    key: &str,
    keyring: &Keyring,
) -> FileResult<zeroize::Zeroizing<Vec<u8>>> {
    let found = find_one(text, object)?;
    let Some(entry) = found.entry(key) else {
        let keys: Vec<&str> = found.data.iter().map(|entry| entry.key.as_str()).collect();
        return Err(FileError::new(format!(
            "`{}` has no `{key}`; it has: {}",
            found.display_name(),
            keys.join(", ")
        )));
    };
    let opened = super::view::open(&found, key, entry.text.as_deref().unwrap_or_default(), keyring);
    opened
        .map(|opened| opened.value)
        .map_err(|error| FileError::at(&found.document, entry.node, format!("`{key}`: {error}")))
}
