//! Changes of `spec.keys`: rotate (other recipients, values untouched) and rekey (a new data key, all values anew).

use dodai_api::dodai::encrypted_secret::WrappedKey;
use dodai_yaml::{NodeId, NodeKind, StructureStyle};
use serde_json::Value;

use super::back::{Sealing, put};
use super::check::{Meant, check};
use super::splice::{self, Edits, entry, find};
use super::{FileError, FileResult, Found, find_all};
use crate::seal::checks::{Check, on};
use crate::seal::{DataKey, Recipient, SealedValue, wrapping};

/// Re-wraps the data keys of every object of a file for other recipients. Values stay as they are: whoever could read
/// them and kept a copy still can; `rekey` ends that for what is sealed afterwards.
///
/// # Errors
/// A data key that cannot be unwrapped here, or whose recipients were changed by a stranger.
pub fn rotate(text: &str, sealing: &Sealing<'_>) -> FileResult<String> {
    change_all(text, |found, edits| {
        let binding = found.binding()?;
        let mut keys = Vec::new();
        for wrapped in &found.spec.keys {
            let key = wrapping::unwrap(wrapped, &binding, sealing.keyring);
            let key = key.map_err(|error| found.error(&error))?;
            let recipients = wanted(found, sealing)?;
            let rewrapped = wrapping::rewrap(&key, &binding, wrapped, &recipients, sealing.keyring);
            keys.push(rewrapped.map_err(|error| found.error(&error))?);
        }
        if keys != found.spec.keys {
            replace_keys(edits, found, &keys)?;
        }
        let data = found.data.iter().map(|entry| (entry.key.clone(), entry.text.clone().unwrap_or_default()));
        Ok(Meant { index: found.index, keys, data: data.collect() })
    })
}

/// Gives every object of a file one new data key and seals all its values with it. Who is no longer a recipient cannot
/// read them from then on, and old ciphertext put back is refused.
///
/// # Errors
/// A value that cannot be opened here.
pub fn rekey(text: &str, sealing: &Sealing<'_>) -> FileResult<String> {
    change_all(text, |found, edits| {
        let binding = found.binding()?;
        let keys = found.data_keys(&binding, sealing.keyring);
        let new = match found.spec.keys.first() {
            // For the attack tests: what rekey is worth without a new key.
            Some(old) if !on(Check::NewDataKey) => keys.get(&old.id).cloned(),
            _ => DataKey::generate(),
        };
        let new = new.map_err(|error| found.error(&error))?;
        let mut data = Vec::new();
        for entry in &found.data {
            let at = |message: String| FileError::at(&found.document, entry.node, message);
            let text = entry.text.as_deref().unwrap_or_default();
            let opened = SealedValue::parse(text)
                .and_then(|value| value.open(keys.get(&value.key_id)?, &binding, &entry.key))
                .map_err(|error| at(format!("`{}`: {error}", entry.key)))?;
            let sealed = SealedValue::seal(&new, &binding, &entry.key, &opened.value, opened.set_at_s)
                .map_err(|error| at(format!("`{}`: {error}", entry.key)))?
                .to_string();
            put(edits, found, entry, &sealed);
            data.push((entry.key.clone(), sealed));
        }
        let recipients = wanted(found, sealing)?;
        let wrapped = wrapping::wrap(&new, &binding, &recipients, &sealing.created(), sealing.keyring);
        let mut wrapped = vec![wrapped.map_err(|error| found.error(&error))?];
        if !on(Check::OldKeysGo) {
            wrapped.extend(found.spec.keys.clone());
        }
        replace_keys(edits, found, &wrapped)?;
        Ok(Meant { index: found.index, keys: wrapped, data })
    })
}

/// Whom the rules name, else who could read before.
fn wanted(found: &Found, sealing: &Sealing<'_>) -> FileResult<Vec<Recipient>> {
    if sealing.recipients.is_empty() {
        return found.recipients().map_err(|error| found.error(&error));
    }
    Ok(sealing.recipients.to_vec())
}

fn change_all(text: &str, change: impl Fn(&Found, &mut Edits) -> FileResult<Meant>) -> FileResult<String> {
    let mut edits = Edits::default();
    let mut meant = Vec::new();
    for found in find_all(text)?.iter().filter(|found| !found.decrypted) {
        meant.push(change(found, &mut edits)?);
    }
    let new = edits.apply(text).ok_or_else(|| FileError::new("changes overlap"))?;
    check(text, &new, &meant)?;
    Ok(new)
}

/// Makes `spec.keys` say this, touching as little as can be: entries and recipients that stay keep their lines.
pub(crate) fn replace_keys(edits: &mut Edits, found: &Found, keys: &[WrappedKey]) -> FileResult<()> {
    let document = &found.document;
    let cannot = || found.error(&"`spec.keys` is written in a way that cannot be changed here");
    let spec = find(document, &["spec"]);
    let Some(node) = find(document, &["spec", "keys"]).filter(|node| !splice::is_null(document, *node))
    else {
        return insert_keys(edits, found, keys).ok_or_else(cannot);
    };
    if let NodeKind::Sequence { items, style: StructureStyle::Block } = &document.node(node).kind
        && items.len() == found.spec.keys.len()
        && keys.len() >= items.len()
        && found.spec.keys.iter().zip(keys).all(|(old, new)| old.id == new.id)
    {
        let mut own = Edits::default();
        if finely(&mut own, found, items, keys).is_some() {
            edits.append(own);
            return Ok(());
        }
    }
    let value = serde_json::to_value(keys).map_err(|error| found.error(&error))?;
    let is_flow = matches!(document.node(node).kind, NodeKind::Sequence { style: StructureStyle::Flow, .. });
    let parents: Vec<NodeId> = std::iter::once(document.root_id()).chain(spec).collect();
    if is_flow || splice::in_flow(document, &parents) {
        edits.replace(document.node(node).range(), splice::flow(&value));
        return Ok(());
    }
    // The whole list, from the line behind its key.
    let (key, _) = spec.and_then(|spec| entry(document, spec, "keys")).ok_or_else(cannot)?;
    let text = document.text();
    let indent = splice::indentation(text, document.node(key).range().start);
    let first = document.node(node).range().start;
    let start = text[..first].rfind('\n').map_or(0, |end| end + 1);
    let start = start.max(document.node(key).range().end);
    // A list begins on a line of its own; its line break is part of what comes before.
    let before = text[..start].trim_end_matches('\n').trim_end_matches('\r').len();
    if before < document.node(key).range().end {
        return Err(cannot());
    }
    let end = splice::end_of_lines(document, node);
    edits.replace(before..end, splice::block_lines(&value, indent, splice::line_end(text, before)));
    Ok(())
}

fn insert_keys(edits: &mut Edits, found: &Found, keys: &[WrappedKey]) -> Option<()> {
    let document = &found.document;
    let value = serde_json::to_value(keys).ok()?;
    let root = document.root_id();
    let Some((spec_key, spec)) = entry(document, root, "spec") else {
        let spec = Value::Object([("keys".to_owned(), value)].into_iter().collect());
        return splice::insert_entry(edits, document, &[root], (None, root), "spec", &spec);
    };
    if let Some((key, null)) = entry(document, spec, "keys") {
        // `keys:` with nothing behind it.
        let text = document.text();
        let range = document.node(null).range();
        if splice::in_flow(document, &[root, spec]) {
            let written = splice::flow(&value);
            edits.replace(range.clone(), if range.is_empty() { format!(" {written}") } else { written });
        } else {
            let indent = splice::indentation(text, document.node(key).range().start);
            let at = range.end + splice::line_length(&text[range.end..]);
            edits.replace(range, "");
            edits.replace(at..at, splice::block_lines(&value, indent, splice::line_end(text, at)));
        }
        return Some(());
    }
    splice::insert_entry(edits, document, &[root, spec], (Some(spec_key), spec), "keys", &value)
}

/// Entry by entry: other MACs, recipients added and dropped, entries added at the end.
fn finely(edits: &mut Edits, found: &Found, items: &[NodeId], keys: &[WrappedKey]) -> Option<()> {
    let document = &found.document;
    let text = document.text();
    for ((item, old), new) in items.iter().zip(&found.spec.keys).zip(keys) {
        if old == new {
            continue;
        }
        if old.created != new.created {
            return None;
        }
        let (_, mac) = entry(document, *item, "mac")?;
        if splice::is_block(document, mac) {
            return None;
        }
        edits.replace(document.node(mac).range(), splice::quoted(&new.mac));
        let (_, list) = entry(document, *item, "recipients")?;
        let NodeKind::Sequence { items: entries, style: StructureStyle::Block } = &document.node(list).kind
        else {
            return None;
        };
        if entries.len() != old.recipients.len() {
            return None;
        }
        let kept = |recipient| new.recipients.contains(recipient);
        if !old.recipients.iter().any(kept) {
            return None;
        }
        for (node, recipient) in entries.iter().zip(&old.recipients) {
            if !kept(recipient) {
                let start = text[..item_start(text, document.node(*node).range().start)?]
                    .trim_end_matches('\n')
                    .trim_end_matches('\r')
                    .len();
                edits.replace(start..splice::end_of_lines(document, *node), "");
            }
        }
        let added: Vec<_> = new.recipients.iter().filter(|added| !old.recipients.contains(added)).collect();
        // New ones stand behind those that stay, as in `new`.
        if !added.is_empty() {
            let at = splice::end_of_lines(document, list);
            let first = document.node(*entries.first()?).range().start;
            let indent = splice::column(text, first).checked_sub(2)?;
            let value = serde_json::to_value(added).ok()?;
            edits.replace(at..at, splice::block_lines(&value, indent, splice::line_end(text, at)));
        }
    }
    let more = &keys[items.len()..];
    if !more.is_empty() {
        let last = *items.last()?;
        let at = splice::end_of_lines(document, last);
        let first = document.node(*items.first()?).range().start;
        let indent = splice::column(text, first).checked_sub(2)?;
        let value = serde_json::to_value(more).ok()?;
        edits.replace(at..at, splice::block_lines(&value, indent, splice::line_end(text, at)));
    }
    Some(())
}

/// The start of the line on which an item's `- ` stands.
fn item_start(text: &str, node_start: usize) -> Option<usize> {
    let line = text[..node_start].rfind('\n').map_or(0, |end| end + 1);
    text[line..node_start].trim().eq("-").then_some(line)
}
