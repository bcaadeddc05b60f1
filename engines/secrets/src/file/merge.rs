//! The merge driver: values and data keys are merged by name, the rest of the file by lines.
//!
//! [`prepare`] makes the three versions alike in everything that could be merged by name, so that a merge by lines of
//! what it gives (git's own, by the caller) meets only what is left: comments, other objects, and true conflicts.

use std::collections::BTreeMap;

use dodai_api::dodai::encrypted_secret::WrappedKey;
use dodai_yaml::{NodeKind, StructureStyle};
use serde_json::Value;

use super::back::put;
use super::keys::replace_keys;
use super::splice::{self, Edits, entry, find};
use super::{FileError, FileResult, Found, find_all, find_one};
use crate::seal::value::looks_sealed;

/// The three versions, made alike.
pub struct Prepared {
    /// The common ancestor.
    pub base: String,
    /// This side.
    pub ours: String,
    /// The other side.
    pub theirs: String,
    /// `object: key` that both sides changed, each in its own way.
    pub conflicts: Vec<String>,
}

/// What was on the three sides of a thing.
struct Sides<T> {
    base: Option<T>,
    ours: Option<T>,
    theirs: Option<T>,
}

impl<T: PartialEq + Clone> Sides<T> {
    /// The merged thing (`None`: gone), or a conflict.
    fn merge(&self) -> Result<Option<T>, ()> {
        if self.ours == self.theirs || self.theirs == self.base {
            return Ok(self.ours.clone());
        }
        if self.ours == self.base {
            return Ok(self.theirs.clone());
        }
        Err(())
    }
}

/// Merges what has a name.
///
/// # Errors
/// A version that does not read; then only a merge by lines is left.
pub fn prepare(base: &str, ours: &str, theirs: &str) -> FileResult<Prepared> {
    let mut prepared =
        Prepared { base: base.into(), ours: ours.into(), theirs: theirs.into(), conflicts: Vec::new() };
    let mut names: Vec<(Option<String>, String)> = Vec::new();
    for text in [base, ours, theirs] {
        for found in find_all(text)? {
            let name = (found.namespace.clone(), found.name.clone());
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    for name in &names {
        let of = |text: &str| find_all(text).map(|all| all.into_iter().find(|found| is(found, name)));
        let sides = Sides { base: of(base)?, ours: of(ours)?, theirs: of(theirs)? };
        // An object that is only on one side, or gone on one, is a matter of lines.
        if sides.ours.is_some() && sides.theirs.is_some() {
            merge_object(&sides, &mut prepared)?;
        }
    }
    Ok(prepared)
}

fn is(found: &Found, (namespace, name): &(Option<String>, String)) -> bool {
    found.namespace == *namespace && found.name == *name
}

fn merge_object(sides: &Sides<Found>, prepared: &mut Prepared) -> FileResult<()> {
    let all = [&sides.base, &sides.ours, &sides.theirs];
    // Names in the order in which the sides have them.
    let mut data_names: Vec<String> = Vec::new();
    let mut key_ids: Vec<String> = Vec::new();
    for found in all.into_iter().flatten() {
        let names = found.data.iter().map(|entry| entry.key.clone());
        push_new(&mut data_names, names);
        push_new(&mut key_ids, found.spec.keys.iter().map(|key| key.id.clone()));
    }
    let mut data: BTreeMap<String, Option<String>> = BTreeMap::new();
    let display = sides.ours.as_ref().map(Found::display_name).unwrap_or_default();
    for name in &data_names {
        let text = |found: &Option<Found>| found.as_ref()?.entry(name)?.text.clone();
        let one = Sides { base: text(&sides.base), ours: text(&sides.ours), theirs: text(&sides.theirs) };
        match one.merge() {
            Ok(merged) => drop(data.insert(name.clone(), merged)),
            Err(()) => prepared.conflicts.push(format!("{display}: {name}")),
        }
    }
    let mut keys: Vec<WrappedKey> = Vec::new();
    let mut keys_conflict = false;
    for id in &key_ids {
        let key = |found: &Option<Found>| found.as_ref()?.spec.keys.iter().find(|key| key.id == *id).cloned();
        let one = Sides { base: key(&sides.base), ours: key(&sides.ours), theirs: key(&sides.theirs) };
        // One side gave all values a new data key while the other sealed one with the old: both stay.
        let used = data.values().flatten().any(|text| looks_sealed(text) && text.contains(id.as_str()));
        match one.merge() {
            Ok(Some(key)) => keys.push(key),
            Ok(None) if used => keys.extend(one.ours.or(one.theirs).or(one.base)),
            Ok(None) => {}
            Err(()) => keys_conflict = true,
        }
    }
    if keys_conflict {
        prepared.conflicts.push(format!("{display}: recipients"));
    }
    let keys = (!keys_conflict).then_some(keys);
    for (text, found) in [
        (&mut prepared.base, &sides.base),
        (&mut prepared.ours, &sides.ours),
        (&mut prepared.theirs, &sides.theirs),
    ] {
        if let Some(found) = found {
            let name = (found.namespace.clone(), found.name.clone());
            *text = with(text, &name, &data_names, &data, keys.as_deref())?;
        }
    }
    Ok(())
}

fn push_new(all: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
}

/// A version of the file in which an object has the merged values and keys; a conflict keeps what the version has.
fn with(
    text: &str,
    name: &(Option<String>, String),
    order: &[String],
    data: &BTreeMap<String, Option<String>>,
    keys: Option<&[WrappedKey]>,
) -> FileResult<String> {
    let again = |text: &str| {
        find_all(text)
            .map(|all| all.into_iter().find(|found| is(found, name)))
            .and_then(|found| found.ok_or_else(|| FileError::new("an object was lost while merging")))
    };
    let found = again(text)?;
    let mut edits = Edits::default();
    let mut gone = Vec::new();
    for own in &found.data {
        match data.get(&own.key) {
            Some(Some(merged)) if own.text.as_ref() != Some(merged) => put(&mut edits, &found, own, merged),
            Some(None) => gone.push(own),
            _ => {}
        }
    }
    let document = &found.document;
    let data_node = find(document, &["spec", "data"]);
    let is_block = data_node.is_some_and(|node| {
        matches!(document.node(node).kind, NodeKind::Mapping { style: StructureStyle::Block, .. })
    });
    if !gone.is_empty() && (!is_block || gone.len() == found.data.len()) {
        return Err(FileError::new("a key taken out of values that are written on one line"));
    }
    for own in gone {
        let text = document.text();
        let line = text[..document.node(own.key_node).range().start].rfind('\n').unwrap_or(0);
        let start = line - usize::from(text[..line].ends_with('\r'));
        edits.replace(start..splice::end_of_lines(document, own.node), "");
    }
    let mut text = edits.apply(text).ok_or_else(|| FileError::new("changes overlap"))?;
    for key in order {
        let found = again(&text)?;
        let (Some(Some(merged)), None) = (data.get(key), found.entry(key)) else { continue };
        let document = &found.document;
        let (root, spec) = (document.root_id(), entry(document, document.root_id(), "spec"));
        let Some((_, spec)) = spec else { continue };
        let value = Value::String(merged.clone());
        let mut edits = Edits::default();
        match entry(document, spec, "data") {
            Some((data_key, node)) => splice::insert_entry(
                &mut edits,
                document,
                &[root, spec, node],
                (Some(data_key), node),
                key,
                &value,
            ),
            None => {
                let data = Value::Object([(key.clone(), value)].into_iter().collect());
                splice::insert_entry(&mut edits, document, &[root, spec], (None, spec), "data", &data)
            }
        }
        .ok_or_else(|| FileError::new("values that cannot be added to"))?;
        text = edits.apply(&text).ok_or_else(|| FileError::new("changes overlap"))?;
    }
    if let Some(keys) = keys {
        let found = again(&text)?;
        if found.spec.keys != keys {
            let mut edits = Edits::default();
            replace_keys(&mut edits, &found, keys)?;
            text = edits.apply(&text).ok_or_else(|| FileError::new("changes overlap"))?;
        }
    }
    find_one(&text, Some(&found.display_name()))?;
    Ok(text)
}
