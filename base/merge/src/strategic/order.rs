//! The order of a merged list.

use serde_json::Value;

use super::{Error, directives};

/// Whether two elements are the same one: scalars by value, objects by their merge key.
fn same(a: &Value, b: &Value, merge_key: Option<&str>) -> bool {
    match merge_key {
        Some(key) => a.get(key) == b.get(key),
        None => a == b,
    }
}

fn position(list: &[Value], element: &Value, merge_key: Option<&str>) -> Option<usize> {
    list.iter().position(|other| same(other, element, merge_key))
}

/// Puts what `wanted` names in its order; the other elements keep the order of `live`, and stand before the first
/// wanted one that comes after them in `live`.
pub(super) fn enforce(
    merged: Vec<Value>,
    wanted: &[Value],
    live: &[Value],
    merge_key: Option<&str>,
) -> Vec<Value> {
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|element| position(wanted, element, merge_key).is_some());
    named.sort_by_key(|element| position(wanted, element, merge_key));
    others.sort_by_key(|element| position(live, element, merge_key).unwrap_or(usize::MAX));

    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for element in named {
        let at = position(live, &element, merge_key);
        while let Some(other) = others.next_if(|other| {
            let other = position(live, other, merge_key);
            matches!((other, at), (Some(other), Some(at)) if other < at)
        }) {
            result.push(other);
        }
        result.push(element);
    }
    result.extend(others);
    result
}

/// The elements in the order in which they first occur.
pub(super) fn without_duplicates<'v>(elements: impl Iterator<Item = &'v Value>) -> Vec<Value> {
    let mut result: Vec<Value> = Vec::new();
    for element in elements {
        if !result.contains(element) {
            result.push(element.clone());
        }
    }
    result
}

/// A patch's list must have the order that the patch asks for. Elements that are deleted do not count.
pub(super) fn check(patch: &[Value], wanted: &[Value], merge_key: Option<&str>) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut wanted_left = wanted.iter();
    let kept = patch.iter().filter(|element| merge_key.is_none() || !directives::is_delete(element));
    for element in kept {
        if !wanted_left.any(|wanted| same(wanted, element, merge_key)) {
            return Err(Error::Order {
                patch: directives::show_list(patch),
                order: directives::show_list(wanted),
            });
        }
    }
    Ok(())
}
