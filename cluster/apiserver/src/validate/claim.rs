//! PersistentVolumeClaims, by themselves and as templates.

use serde_json::Value;

use super::at::At;
use super::selector;
use crate::names;
use crate::schema::quantity::Quantity;
use crate::status::Cause;

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn storage(spec: &Value) -> Option<Quantity> {
    spec["resources"]["requests"]["storage"].as_str().and_then(Quantity::parse)
}

/// The spec of a claim.
pub(super) fn spec(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let place = spec.get("accessModes");
    let modes = place.elements();
    if modes.is_empty() {
        place.required("at least 1 access mode is required", causes);
    }
    selector::label_selector(&spec.get("selector"), causes);
    for mode in &modes {
        mode.moved(&place.path).one_of(MODES, causes);
    }
    let alone = |mode: &At<'_>| mode.own_text() == "ReadWriteOncePod";
    if modes.iter().any(alone) && modes.iter().any(|mode| !alone(mode) && MODES.contains(&mode.own_text())) {
        place.forbidden("may not use ReadWriteOncePod with other access modes", causes);
    }
    let path = format!("{}.resources[storage]", spec.path);
    let size = At::new(&spec.value["resources"]["requests"]["storage"], path);
    if !size.is_set() {
        size.required("", causes);
    } else if storage(spec.value).is_none_or(|size| size.nano() <= 0) {
        size.invalid("must be greater than zero", causes);
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        if !spec.text(field).is_empty() {
            spec.get(field).subdomain(causes);
        }
    }
    spec.get("volumeMode").one_of_if_set(&["Block", "Filesystem"], causes);
    sources(spec, causes);
}

fn sources(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    for found in [&source, &reference] {
        if !found.is_set() {
            continue;
        }
        found.get("name").not_empty(causes);
        found.get("kind").not_empty(causes);
        let (group, kind) = (found.text("apiGroup"), found.text("kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            found.invalid_as(kind, detail, causes);
        }
        if !group.is_empty() {
            found.get("apiGroup").subdomain(causes);
        }
        let namespace = found.text("namespace");
        if !namespace.is_empty() {
            found.get("namespace").all(names::label(namespace), causes);
        }
    }
    let shown = source.path.clone();
    if !reference.text("namespace").is_empty() {
        if source.is_set() {
            let detail = "may not be specified when dataSourceRef.namespace is specified";
            causes.push(Cause::invalid_text(spec.path.clone(), &shown, detail));
        }
    } else if source.is_set() && reference.is_set() {
        let same = |field: &str| source.value[field] == reference.value[field];
        if !["apiGroup", "kind", "name"].into_iter().all(same) {
            causes.push(Cause::invalid_text(spec.path.clone(), &shown, "must match dataSourceRef"));
        }
    }
}

/// What may change in a claim.
pub(super) fn update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    spec(&At::new(&new["spec"], "spec"), causes);
    let (before, mut after) = (&old["spec"], new["spec"].clone());
    let bound = new["status"]["phase"] == "Bound";
    if bound {
        if after["resources"]["requests"].is_object() {
            after["resources"]["requests"]["storage"] = before["resources"]["requests"]["storage"].clone();
        }
        crate::write::copy_or_remove(before, &mut after, "volumeAttributesClassName");
    }
    if super::text(before, "volumeName").is_empty() {
        // Binding sets the name once.
        crate::write::copy_or_remove(before, &mut after, "volumeName");
    }
    if before["storageClassName"].is_null() {
        crate::write::copy_or_remove(before, &mut after, "storageClassName");
    }
    if after != *before {
        causes.push(Cause::forbidden("spec", "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"));
    }
    let zero = Quantity::ZERO;
    let (old_size, new_size) = (storage(before).unwrap_or(zero), storage(&new["spec"]).unwrap_or(zero));
    let capacity = old["status"]["capacity"]["storage"].as_str().and_then(Quantity::parse).unwrap_or(zero);
    if new_size.nano() < old_size.nano() && new_size.nano() <= capacity.nano() {
        causes.push(Cause::forbidden(
            "spec.resources.requests.storage",
            "field can not be less than status.capacity",
        ));
    }
    if before["volumeMode"] != new["spec"]["volumeMode"] {
        causes.push(Cause::invalid("volumeMode", &new["spec"]["volumeMode"], "field is immutable"));
    }
}

/// The status of a claim, written by itself.
pub(super) fn status(object: &Value, causes: &mut Vec<Cause>) {
    const STEPS: &[&str] = &[
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let status = At::new(&object["status"], "status");
    for part in ["capacity", "allocatedResources"] {
        for (name, value) in status.get(part).entries() {
            if part == "allocatedResources" && !resource_key(name, &status.get(part), causes) {
                continue;
            }
            let amount = Quantity::parse(value.own_text()).unwrap_or(Quantity::ZERO);
            if amount.is_negative() {
                let whole = (amount.nano() / 1_000_000_000) as i64;
                value.invalid_as(whole, "must be a valid resource quantity", causes);
            }
        }
    }
    let steps = status.get("allocatedResourceStatuses");
    for (name, value) in steps.entries() {
        resource_key(name, &steps, causes);
        if !STEPS.contains(&value.own_text()) {
            let mut known = STEPS.to_vec();
            known.sort_unstable();
            causes.push(Cause::not_supported(steps.path.clone(), &name.into(), &known));
        }
    }
}

fn resource_key(name: &str, place: &At<'_>, causes: &mut Vec<Cause>) -> bool {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        causes.extend(wrong.iter().map(|detail| Cause::invalid(place.path.clone(), &name.into(), detail)));
        return false;
    }
    if (!name.contains('/') || name.contains("kubernetes.io/")) && name != "storage" {
        causes.push(Cause::not_supported(place.path.clone(), &name.into(), &["storage"]));
        return false;
    }
    true
}
