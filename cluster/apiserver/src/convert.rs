//! Between the stored form of an object and the version that is asked for.
//!
//! Custom resources are converted by their schema only (strategy None). Built-in kinds have one version each, except
//! events, which have two views of one object.

mod autoscaling;

use serde_json::{Map, Value, json};

use crate::crd::structural::drop_nulls;
use crate::kinds::Kind;

/// Whether the stored text is the answer as it is.
pub(crate) fn is_plain(kind: &Kind) -> bool {
    match &kind.custom {
        Some(custom) => !custom.rewrite,
        None => kind.group != "events.k8s.io" && !is_old_autoscaler(kind),
    }
}

/// Whether an object is stored as it is, but for apiVersion and kind.
pub(crate) fn is_stored_as_it_is(kind: &Kind) -> bool {
    is_plain(kind) && kind.custom.as_ref().is_none_or(|custom| custom.storage_schema.is_none())
}

fn is_old_autoscaler(kind: &Kind) -> bool {
    kind.is("autoscaling", "horizontalpodautoscalers") && kind.version == "v1"
}

/// From the stored form to the version of `kind`.
pub(crate) fn from_storage(kind: &Kind, value: &mut Value) {
    if let Some(custom) = &kind.custom {
        if custom.rewrite {
            custom.schema.set_defaults(value);
            drop_nulls(&custom.schema, value);
            custom.schema.prune(value, true, &mut Vec::new());
        }
        return;
    }
    if is_old_autoscaler(kind) {
        autoscaling::to_v1(value);
        crate::codec::normalize(kind, value);
    }
    if kind.group == "events.k8s.io" {
        rename(value, EVENT);
        fill_event(kind, value);
    }
}

/// From the version of `kind` to the stored form.
pub(crate) fn to_storage(kind: &Kind, value: &mut Value) {
    if let Some(schema) = kind.custom.as_ref().and_then(|custom| custom.storage_schema.as_ref()) {
        schema.prune(value, true, &mut Vec::new());
    }
    if is_old_autoscaler(kind) {
        autoscaling::to_v2(value);
        let stored = crate::schema::builtin("io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler");
        crate::schema::normalize(value, stored.root);
    }
    if kind.group == "events.k8s.io" {
        let back: Vec<(&str, &str)> = EVENT.iter().map(|(old, new)| (*new, *old)).collect();
        rename(value, &back);
        let core = crate::schema::builtin("io.k8s.api.core.v1.Event");
        crate::schema::normalize(value, core.root);
    }
}

/// Fields of core events and their names in events.k8s.io.
const EVENT: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(value: &mut Value, names: &[(&str, &str)]) {
    let Some(map) = value.as_object_mut() else { return };
    let mut moved = Map::new();
    for (old, new) in names {
        if let Some(inner) = map.remove(*old) {
            moved.insert((*new).into(), inner);
        }
    }
    map.append(&mut moved);
}

fn fill_event(kind: &Kind, value: &mut Value) {
    if !value["deprecatedSource"].is_object() {
        value["deprecatedSource"] = json!({});
    }
    if let Some(info) = kind.info() {
        crate::schema::normalize(value, info.root);
    }
}
