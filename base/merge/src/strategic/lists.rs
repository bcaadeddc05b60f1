//! Lists that are merged: of scalars as sets, of objects by their merge key.

use serde_json::{Map, Value};

use super::{Error, Place, directives, kind, merge_map, order};
use crate::schema::PatchStrategy;

/// Merges a patch's list into a list. The result has the patch's order, and what the patch does not name keeps its
/// place among its neighbours.
pub(super) fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    element: Place,
    merge_key: Option<&str>,
) -> Result<Vec<Value>, Error> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !is_of_maps(&original, &patch)? {
        let merged = order::without_duplicates(original.iter().chain(&patch));
        return Ok(order::enforce(merged, &patch, &original, None));
    }
    let Some(key) = merge_key else { return Err(Error::NoMergeKeyDeclared(element.name())) };
    let (original, patch) = directive_elements(original, patch, key)?;
    let mut merged = original.clone();
    for wanted in &patch {
        let Value::Object(wanted) = wanted else { continue };
        let name = merge_value(wanted, key)?;
        let found = merged.iter().position(|element| element.get(key) == Some(name));
        match found.map(|index| (index, merged[index].take())) {
            Some((index, Value::Object(old))) => {
                merged[index] = Value::Object(merge_map(old, wanted.clone(), element)?);
            }
            _ => merged.extend(directives::clean(Value::Object(wanted.clone()))),
        }
    }
    for list in [&merged, &original] {
        require_keys(list, key)?;
    }
    Ok(order::enforce(merged, &patch, &original, Some(key)))
}

/// Carries out elements with `$patch`: what is left of the original, and of the patch.
fn directive_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut plain = Vec::new();
    let mut replaces = false;
    for element in patch {
        let directive = element.get(directives::PATCH);
        match (directive, directive.and_then(Value::as_str)) {
            (None, _) => plain.push(element),
            (_, Some("replace")) => replaces = true,
            (_, Some("merge")) => return Err(Error::MergeElement),
            (_, Some("delete")) => {
                let map = element.as_object().ok_or(Error::NoObject(kind(&element)))?;
                let name = merge_value(map, key)?;
                original.retain(|element| element.get(key) != Some(name));
            }
            (Some(other), _) => {
                let directive = directives::show(other);
                return Err(Error::UnknownDirective { directive, map: directives::show(&element) });
            }
        }
    }
    // `$patch: replace` among the elements: the others are the whole list.
    if replaces { Ok((plain, Vec::new())) } else { Ok((original, plain)) }
}

fn merge_value<'m>(map: &'m Map<String, Value>, key: &str) -> Result<&'m Value, Error> {
    map.get(key).ok_or_else(|| Error::NoMergeKey {
        map: directives::show(&Value::Object(map.clone())),
        key: key.to_owned(),
    })
}

fn require_keys(list: &[Value], key: &str) -> Result<(), Error> {
    for element in list {
        match element {
            Value::Object(map) => merge_value(map, key)?,
            other => return Err(Error::NoObject(kind(other))),
        };
    }
    Ok(())
}

/// Whether the lists hold maps; all elements must be of one kind.
fn is_of_maps(original: &[Value], patch: &[Value]) -> Result<bool, Error> {
    let mut kinds = original.iter().chain(patch).map(kind);
    let first = kinds.next().unwrap_or("null");
    if first == "slice" {
        return Err(Error::ListOfLists);
    }
    match kinds.find(|kind| *kind != first) {
        Some("slice") => Err(Error::ListOfLists),
        Some(_) => Err(Error::MixedList(directives::show_list(&[original, patch].concat()))),
        None => Ok(first == "map"),
    }
}

/// Carries out each `$setElementOrder/x` of a patch, together with the patch's own `x`; both are taken out of it.
pub(super) fn set_element_orders(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    place: Place,
) -> Result<(), Error> {
    let directives: Vec<String> =
        patch.keys().filter(|key| key.starts_with(directives::SET_ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let wanted = patch.remove(&directive);
        let wanted = wanted.as_ref().and_then(Value::as_array).ok_or(Error::SetElementOrder)?;
        let key = directive.trim_start_matches(directives::SET_ELEMENT_ORDER);
        if let Some(list) = set_element_order(original.get(key), patch.get(key), wanted, key, place)? {
            original.insert(key.to_owned(), Value::Array(list));
            patch.remove(key);
        }
    }
    Ok(())
}

/// The list in its new order; `None` if there is no list on either side.
fn set_element_order(
    original: Option<&Value>,
    patch: Option<&Value>,
    wanted: &[Value],
    key: &str,
    place: Place,
) -> Result<Option<Vec<Value>>, Error> {
    let list = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list.clone())),
        Some(_) => Err(Error::SetElementOrder),
    };
    // A null in the patch removes the list: there is nothing to order.
    if patch.is_some_and(Value::is_null) {
        return Ok(None);
    }
    let (old, new) = (list(original)?, list(patch)?);
    if old.is_none() && new.is_none() {
        return Ok(None);
    }
    let (below, meta) = place.field(key)?;
    let merge_key = meta.merge_key.as_deref();
    order::check(new.as_deref().unwrap_or_default(), wanted, merge_key)?;
    let mut live = old.clone().unwrap_or_default();
    let merged = match (old, new) {
        (Some(old), None) => old,
        (None, Some(new)) => new.into_iter().filter_map(directives::clean).collect(),
        (Some(old), Some(new)) if meta.strategy == PatchStrategy::Merge => {
            if let Some(merge_key) = merge_key {
                live = order_after_deletions(live, &new, merge_key);
            }
            merge(old, new, below.element(), merge_key)?
        }
        (_, new) => new.unwrap_or_default(),
    };
    if let Some(merge_key) = merge_key {
        for list in [&merged[..], wanted, &live] {
            require_keys(list, merge_key)?;
        }
    }
    Ok(Some(order::enforce(merged, wanted, &live, merge_key)))
}

/// The live order that a reordered list is measured by. Upstream deletes and appends in the memory of the live list, so
/// that as many new elements as were deleted count as standing at its end; clients' patches are made to fit that.
fn order_after_deletions(live: Vec<Value>, patch: &[Value], key: &str) -> Vec<Value> {
    let before = live.len();
    let deletes = |element: &Value| {
        patch.iter().any(|wanted| directives::is_delete(wanted) && wanted.get(key) == element.get(key))
    };
    let mut left: Vec<Value> = live.into_iter().filter(|element| !deletes(element)).collect();
    let deleted = before - left.len();
    let is_new = |wanted: &&Value| {
        wanted.get(directives::PATCH).is_none()
            && !left.iter().any(|element| element.get(key) == wanted.get(key))
    };
    let new: Vec<Value> = patch.iter().filter(is_new).take(deleted).cloned().collect();
    left.extend(new);
    left
}
