//! Reads what was made and compares it with what was meant.

use dodai_api::dodai::encrypted_secret::WrappedKey;

use super::{FileError, FileResult, documents, find_all};

/// What an object must be afterwards; all other documents must be what they were.
pub(crate) struct Meant {
    /// Number of its document.
    pub(crate) index: usize,
    /// Its data keys.
    pub(crate) keys: Vec<WrappedKey>,
    /// Its values, in the order of the file.
    pub(crate) data: Vec<(String, String)>,
}

/// Refuses a new text that is not the old one with the given objects changed.
pub(crate) fn check(old: &str, new: &str, meant: &[Meant]) -> FileResult<()> {
    let unfaithful = || {
        FileError::new(
            "this file is written in a way that cannot be changed safely here; nothing was changed",
        )
    };
    let before = documents(old)?;
    let after = documents(new).map_err(|_| unfaithful())?;
    if before.len() != after.len() {
        return Err(unfaithful());
    }
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        if meant.iter().any(|meant| meant.index == index) {
            continue;
        }
        if before.to_json().ok() != after.to_json().ok() {
            return Err(unfaithful());
        }
    }
    let found = find_all(new).map_err(|_| unfaithful())?;
    for meant in meant {
        let Some(found) = found.iter().find(|found| found.index == meant.index) else {
            return Err(unfaithful());
        };
        let same_data = found.data.len() == meant.data.len()
            && found.data.iter().zip(&meant.data).all(|(entry, (key, text))| {
                entry.key == *key && (entry.text.as_deref() == Some(text) || entry.text.is_none())
            });
        let mut rest = [before[meant.index].to_json(), after[meant.index].to_json()].map(Result::ok);
        for value in rest.iter_mut().flatten() {
            value["kind"] = "".into();
            if let Some(spec) = value["spec"].as_object_mut() {
                spec.remove("data");
                spec.remove("keys");
            }
            if value["spec"].as_object().is_none_or(serde_json::Map::is_empty) {
                value["spec"] = serde_json::Value::Null;
            }
        }
        if !same_data || found.spec.keys != meant.keys || rest[0] != rest[1] {
            return Err(unfaithful());
        }
    }
    Ok(())
}
