//! Seals what was edited, or what was never sealed. What did not change gets back the very bytes that it had.

use std::collections::BTreeMap;

use dodai_api::dodai::encrypted_secret::WrappedKey;
use zeroize::Zeroizing;

use super::check::{Meant, check};
use super::keys::replace_keys;
use super::splice::{self, Edits};
use super::{DECRYPTED, DataEntry, DataKeys, ENCRYPTED, FileError, FileResult, Found, find_all, plain, view};
use crate::error::Error;
use crate::seal::value::looks_sealed;
use crate::seal::{Binding, DataKey, Keyring, Opened, Recipient, SealedValue, wrapping};

/// What sealing needs to know besides the file.
pub struct Sealing<'a> {
    /// The identities at hand.
    pub keyring: &'a Keyring,
    /// For whom a data key of an object that has none is wrapped: what the rules of the repository say.
    pub recipients: &'a [Recipient],
    /// Seconds since 1970.
    pub now_s: u64,
}

impl Sealing<'_> {
    /// When a value is set that comes in the place of another: later than that one, though it be in the same second, since
    /// what uses the Secret is told by the time that there is another value.
    pub(crate) fn set_at(&self, before: &Opened, value: &[u8]) -> u64 {
        match before.value.as_slice() == value {
            true => self.now_s,
            false => self.now_s.max(before.set_at_s.saturating_add(1)),
        }
    }

    /// The time as a data key carries it.
    pub(crate) fn created(&self) -> String {
        let seconds = i64::try_from(self.now_s).unwrap_or_default();
        let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// Seals every plaintext value of `edited`. `original` is the text that was shown to be edited, before it was opened; a
/// value that is still the same keeps its ciphertext.
///
/// # Errors
/// A text that does not read, and a value that cannot be sealed; nothing is lost: the caller shows the text again.
pub fn back(original: Option<&str>, edited: &str, sealing: &Sealing<'_>) -> FileResult<Zeroizing<String>> {
    let originals = match original {
        Some(original) => find_all(original)?,
        None => Vec::new(),
    };
    let edited_objects = find_all(edited)?;
    let mut edits = Edits::default();
    let mut meant = Vec::new();
    for found in &edited_objects {
        let original = match_original(found, &edited_objects, &originals);
        meant.push(Object::new(found, original, sealing)?.seal(&mut edits)?);
    }
    let text = edits.apply(edited).ok_or_else(|| FileError::new("values overlap"))?;
    check(edited, &text, &meant)?;
    Ok(Zeroizing::new(text))
}

/// The object before the edit: of the same name, else one that is gone under its old name and shares a data key.
fn match_original<'a>(found: &Found, edited: &[Found], originals: &'a [Found]) -> Option<&'a Found> {
    let same_name = |one: &Found, other: &Found| one.name == other.name && one.namespace == other.namespace;
    originals.iter().find(|original| same_name(original, found)).or_else(|| {
        originals.iter().find(|original| {
            !edited.iter().any(|edited| same_name(edited, original))
                && original.spec.keys.iter().any(|key| found.spec.keys.iter().any(|own| own.id == key.id))
        })
    })
}

struct Object<'a> {
    found: &'a Found,
    /// The object before, and what its values were bound to.
    original: Option<(&'a Found, Binding)>,
    binding: Binding,
    /// Unwrapped under the binding that the keys were made for.
    keys: DataKeys,
    sealing: &'a Sealing<'a>,
}

impl<'a> Object<'a> {
    fn new(
        found: &'a Found,
        original: Option<&'a Found>,
        sealing: &'a Sealing<'a>,
    ) -> FileResult<Object<'a>> {
        let binding = found.binding()?;
        let original = match original {
            Some(original) => Some((original, original.binding()?)),
            None => None,
        };
        if let Some((original, _)) = &original
            && original.spec.keys != found.spec.keys
        {
            return Err(
                found.error(&"`spec.keys` was edited: who may read is changed with `dodai secret rotate`")
            );
        }
        let keys = match &original {
            Some((original, binding)) => original.data_keys(binding, sealing.keyring),
            None => found.data_keys(&binding, sealing.keyring),
        };
        Ok(Object { found, original, binding, keys, sealing })
    }

    fn is_moved(&self) -> bool {
        self.original.as_ref().is_some_and(|(_, binding)| *binding != self.binding)
    }

    fn seal(&self, edits: &mut Edits) -> FileResult<Meant> {
        let mut wrapped = self.found.spec.keys.clone();
        let mut chosen: Option<DataKey> = None;
        let mut data = Vec::new();
        for entry in &self.found.data {
            let text = match self.kept(entry)? {
                Some(text) => text,
                None => {
                    let plain = self.plain(entry)?;
                    match self.unchanged(entry, &plain) {
                        Some((original, text)) => {
                            put_back(edits, self.found, entry, original, &plain, &text);
                            text
                        }
                        None => {
                            if chosen.is_none() {
                                chosen = Some(self.choose(&mut wrapped)?);
                            }
                            let Some(key) = &chosen else { continue };
                            let text = self.seal_one(key, entry, &plain)?;
                            put(edits, self.found, entry, &text);
                            text
                        }
                    }
                }
            };
            data.push((entry.key.clone(), text));
        }
        if wrapped != self.found.spec.keys {
            replace_keys(edits, self.found, &wrapped)?;
        }
        if self.found.decrypted
            && let Some(kind) = splice::find(&self.found.document, &["kind"])
        {
            let range = self.found.document.node(kind).range();
            let raw = &self.found.document.text()[range.clone()];
            edits.replace(range, raw.replace(DECRYPTED, ENCRYPTED));
        }
        Ok(Meant { index: self.found.index, keys: wrapped, data })
    }

    /// A value that stays as it is written: sealed already, and not moved.
    fn kept(&self, entry: &DataEntry) -> FileResult<Option<String>> {
        match &entry.text {
            Some(text) if looks_sealed(text) && !self.is_moved() => Ok(Some(text.clone())),
            Some(_) => Ok(None),
            None => {
                // An alias: each value is sealed for its key, so it can be no value; what was so before stays so.
                let before = self.original.as_ref().and_then(|(original, _)| original.entry(&entry.key));
                match before {
                    Some(before) if before.text.is_none() => Ok(Some(String::new())),
                    _ => Err(FileError::at(
                        &self.found.document,
                        entry.node,
                        format!("`{}` must be a text, written here", entry.key),
                    )),
                }
            }
        }
    }

    fn plain(&self, entry: &DataEntry) -> FileResult<Zeroizing<Vec<u8>>> {
        let text = entry.text.as_deref().unwrap_or_default();
        if !looks_sealed(text) {
            return plain::read(&self.found.document, entry.node).ok_or_else(|| {
                let message = format!("`{}` is not a text, nor `!!binary` with base64", entry.key);
                FileError::at(&self.found.document, entry.node, message)
            });
        }
        // Sealed for the old place of an object that was moved.
        let opened = self.open_original(entry.key.as_str(), text);
        opened.map(|opened| opened.value).map_err(|error| {
            let message = format!(
                "`{}` must be sealed anew, since what values are bound to was changed, and cannot be opened: {error}",
                entry.key
            );
            FileError::at(&self.found.document, entry.node, message)
        })
    }

    fn open_original(&self, key: &str, text: &str) -> Result<crate::seal::Opened, Error> {
        let binding = self.original.as_ref().map_or(&self.binding, |(_, binding)| binding);
        let value = SealedValue::parse(text)?;
        value.open(self.keys.get(&value.key_id)?, binding, key)
    }

    /// The sealed text of before, if it still says the same in the same place.
    fn unchanged(&self, entry: &DataEntry, plain: &[u8]) -> Option<((&'a Found, &'a DataEntry), String)> {
        if self.is_moved() {
            return None;
        }
        let original: &'a Found = self.original.as_ref()?.0;
        let before = original.entry(&entry.key)?;
        let text = before.text.clone().filter(|text| looks_sealed(text))?;
        let opened = self.open_original(&entry.key, &text).ok()?;
        (opened.value.as_slice() == plain).then_some(((original, before), text))
    }

    fn seal_one(&self, key: &DataKey, entry: &DataEntry, plain: &[u8]) -> FileResult<String> {
        // A value that only moved is as old as it was.
        let before =
            self.original.as_ref().and_then(|(original, _)| original.entry(&entry.key)?.text.clone());
        let opened = before.and_then(|text| self.open_original(&entry.key, &text).ok());
        let set_at_s = match opened {
            Some(opened) if opened.value.as_slice() == plain => opened.set_at_s,
            Some(opened) => self.sealing.set_at(&opened, plain),
            None => self.sealing.now_s,
        };
        SealedValue::seal(key, &self.binding, &entry.key, plain, set_at_s)
            .map(|sealed| sealed.to_string())
            .map_err(|error| {
                FileError::at(&self.found.document, entry.node, format!("`{}`: {error}", entry.key))
            })
    }

    /// The data key for what is sealed now.
    fn choose(&self, wrapped: &mut Vec<WrappedKey>) -> FileResult<DataKey> {
        if !self.is_moved() {
            return choose(self.found, &self.keys, &self.binding, self.sealing, wrapped);
        }
        // The lists of recipients are bound too: everything is made anew, for the same people.
        if self.found.spec.keys.len() > 1
            && let Some((_, Err(error))) = self.keys.iter().find(|(_, key)| key.is_err())
        {
            return Err(self.found.error(error));
        }
        wrapped.clear();
        let key = DataKey::generate().map_err(|error| self.found.error(&error))?;
        wrapped.push(wrap_new(self.found, &key, &self.binding, self.sealing)?);
        Ok(key)
    }
}

/// The data key that most values use, of those that are open; else a new one: a blind add.
pub(crate) fn choose(
    found: &Found,
    keys: &DataKeys,
    binding: &Binding,
    sealing: &Sealing<'_>,
    wrapped: &mut Vec<WrappedKey>,
) -> FileResult<DataKey> {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for text in found.data.iter().filter_map(|entry| entry.text.as_deref()) {
        if let Some(id) = text.split(':').nth(1).filter(|_| looks_sealed(text)) {
            *uses.entry(id).or_default() += 1;
        }
    }
    let open = keys.iter().filter_map(|(id, key)| Some((id, key.as_ref().ok()?)));
    let most = open.max_by_key(|(id, _)| uses.get(id.as_str()).copied().unwrap_or_default());
    if let Some((_, key)) = most {
        return Ok(key.clone());
    }
    // A list that was changed by a stranger is told at once: sealing for it would give the stranger what is new.
    for (_, key) in keys.iter() {
        if let Err(error @ (Error::RecipientsChanged(_) | Error::KeyExchanged(_))) = key {
            return Err(found.error(error));
        }
    }
    let key = DataKey::generate().map_err(|error| found.error(&error))?;
    wrapped.push(wrap_new(found, &key, binding, sealing)?);
    Ok(key)
}

/// A new data key: for those whom the rules name, else for those who could read before.
pub(crate) fn wrap_new(
    found: &Found,
    key: &DataKey,
    binding: &Binding,
    sealing: &Sealing<'_>,
) -> FileResult<WrappedKey> {
    let before = found.recipients().map_err(|error| found.error(&error))?;
    let recipients = if sealing.recipients.is_empty() { before.as_slice() } else { sealing.recipients };
    wrapping::wrap(key, binding, recipients, &sealing.created(), sealing.keyring)
        .map_err(|error| found.error(&error))
}

/// Writes a sealed value where a plaintext one stands.
pub(crate) fn put(edits: &mut Edits, found: &Found, entry: &DataEntry, sealed: &str) {
    let document = &found.document;
    let text = document.text();
    let range = document.node(entry.node).range();
    if splice::is_block(document, entry.node) {
        let tail = &text[splice::tail(document, entry.node)];
        edits.replace(splice::span(document, entry.node), format!("{sealed}{tail}"));
        return;
    }
    let start = with_binary_tag(found, entry);
    let parents: Vec<_> = [vec![], vec!["spec"], vec!["spec", "data"]]
        .iter()
        .filter_map(|path| splice::find(document, path))
        .collect();
    let mut written =
        if splice::in_flow(document, &parents) { splice::quoted(sealed) } else { sealed.to_owned() };
    if range.is_empty() && !text[..start].ends_with([' ', '\t', '\n']) {
        written.insert(0, ' ');
    }
    edits.replace(start..range.end, written);
}

/// Where the value begins, its `!!binary` included.
fn with_binary_tag(found: &Found, entry: &DataEntry) -> usize {
    let range = found.document.node(entry.node).range();
    let before = found.document.text()[..range.start].trim_end_matches([' ', '\t']);
    match before.strip_suffix("!!binary") {
        Some(before) => before.len(),
        None => range.start,
    }
}

/// Gives a value that did not change the bytes that it had.
fn put_back(
    edits: &mut Edits,
    found: &Found,
    entry: &DataEntry,
    (original, before): (&Found, &DataEntry),
    plain: &[u8],
    sealed: &str,
) {
    let Some((original_range, shown)) = view::written(original, before, plain) else {
        return put(edits, found, entry, sealed);
    };
    let document = &found.document;
    let text = document.text();
    let start = with_binary_tag(found, entry);
    let here = start..start + shown.len();
    let span_end = splice::span(document, entry.node).end;
    let whole = here.end == span_end || here.end == splice::tail(document, entry.node).end;
    if whole && text.get(here.clone()) == Some(shown.as_str()) {
        edits.replace(here, &original.document.text()[original_range]);
    } else {
        put(edits, found, entry, sealed);
    }
}
