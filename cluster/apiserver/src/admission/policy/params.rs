//! The parameters of a binding: objects of the kind that the policy names.

use std::sync::Arc;

use serde_json::Value;

use crate::admission::attributes::Attributes;
use crate::codec;
use crate::kinds::{Kind, split_api_version};
use crate::selector::LabelSelector;
use crate::store::Key;

/// The text for a kind that is not served.
pub(crate) fn unknown(api_version: &str, kind: &str) -> String {
    let (group, version) = split_api_version(api_version);
    format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={kind}'")
}

/// The objects with which the policy is to be evaluated; `None` stands for an evaluation without one.
///
/// # Errors
/// When the reference does not fit its kind, or nothing is found and that is to be refused.
pub(crate) fn collect(
    attributes: &Attributes<'_>,
    kind: Option<&Arc<Kind>>,
    reference: &Value,
) -> Result<Vec<Option<Value>>, String> {
    let Some(kind) = kind else { return Ok(vec![None]) };
    if reference.is_null() {
        return Ok(vec![None]);
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let namespace = match (kind.namespaced, text("namespace"), attributes.namespace) {
        (false, "", _) => "",
        (false, _, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
        }
        (true, "", "") => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                    .into(),
            );
        }
        (true, "", namespace) | (true, namespace, _) => namespace,
    };
    let store = &attributes.server.store;
    let found: Vec<Option<Value>> = match (text("name"), &reference["selector"]) {
        ("", Value::Null) => return Err("one of name or selector must be provided".into()),
        ("", selector) => {
            let selector = LabelSelector::from_object(selector)?;
            let objects = store.list(kind.storage(), namespace).objects;
            let objects = objects.iter().filter(|object| selector.matches(&object.labels));
            objects.map(|object| Some(codec::load(kind, object))).collect()
        }
        (_, selector) if !selector.is_null() => {
            return Err("paramRef.name and paramRef.selector are mutually exclusive".into());
        }
        (name, _) => {
            let object = store.get_head(&Key::new(kind.storage(), namespace, name));
            object.iter().map(|object| Some(codec::load(kind, object))).collect()
        }
    };
    if found.is_empty() && text("parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}
