//! Directives inside of maps, and getting rid of them where there is nothing to merge with.

use serde_json::{Map, Value};

use super::Error;

pub(super) const PATCH: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
pub(super) const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList/";

/// Whether a member of a list says `$patch: delete`.
pub(super) fn is_delete(element: &Value) -> bool {
    element.get(PATCH).and_then(Value::as_str) == Some("delete")
}

fn is_list_directive(key: &str) -> bool {
    key.starts_with(SET_ELEMENT_ORDER) || key.starts_with(DELETE_FROM_PRIMITIVE_LIST)
}

/// `$retainKeys`: all members that it does not name go. What the patch sets it must name.
pub(super) fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let keys = keys.as_array().ok_or(Error::RetainKeys)?;
    let named = |key: &str| keys.iter().any(|named| named.as_str() == Some(key));
    let set = patch.iter().filter(|(key, value)| !value.is_null() && !is_list_directive(key));
    for (key, _) in set {
        if !named(key) {
            return Err(Error::RetainKeysContent);
        }
    }
    original.retain(|key, _| named(key));
    Ok(())
}

/// A value that is new: without nulls in its maps and without directives. `None`: it says that it be deleted.
pub(super) fn clean(value: Value) -> Option<Value> {
    match value {
        Value::Object(mut map) => {
            let directive = map.remove(PATCH);
            if directive.as_ref().and_then(Value::as_str) == Some("delete") {
                return None;
            }
            let cleaned = map
                .into_iter()
                .filter(|(key, value)| !value.is_null() && key != RETAIN_KEYS && !is_list_directive(key))
                .filter_map(|(key, value)| Some((key, clean(value)?)));
            Some(Value::Object(cleaned.collect()))
        }
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(clean).collect())),
        scalar => Some(scalar),
    }
}

/// A value as Go's `%v` shows it: `map[name:3 value:a]`, `[1 2]`.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => show_list(list),
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            let members: Vec<String> =
                members.into_iter().map(|(key, value)| format!("{key}:{}", show(value))).collect();
            format!("map[{}]", members.join(" "))
        }
        scalar => {
            let mut out = String::new();
            crate::value::write_display(scalar, &mut out);
            out
        }
    }
}

pub(super) fn show_list(list: &[Value]) -> String {
    let elements: Vec<String> = list.iter().map(show).collect();
    format!("[{}]", elements.join(" "))
}
