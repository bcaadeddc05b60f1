//! What may change in a Pod.

use serde_json::Value;

use super::placement;
use crate::status::Cause;
use crate::validate::at::At;
use crate::validate::{list, text};

const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks a changed Pod: the whole of it, and that only a little has changed.
pub(in crate::validate) fn update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    super::object(new, causes);
    annotations(old, new, causes);
    for field in ["containers", "initContainers"] {
        let (before, after) = (list(&old["spec"][field]), At::new(&new["spec"], "spec").get(field));
        if before.len() != after.elements().len() {
            return after.forbidden("pod updates may not add or remove containers", causes);
        }
        for container in after.elements() {
            container.get("image").not_empty(causes);
            super::container::untrimmed_image(&container, causes);
        }
    }
    if deadline(&old["spec"], &new["spec"], causes) {
        return;
    }
    tolerations(&old["spec"], &new["spec"], causes);
    gates(&old["spec"], &new["spec"], causes);
    if masked(&old["spec"], &new["spec"], causes) != old["spec"] {
        causes.push(Cause::forbidden("spec", CHANGEABLE));
    }
}

fn annotations(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
    let (before, after) = (&old["metadata"]["annotations"], &new["metadata"]["annotations"]);
    let mut forbid = |key: &str, detail: &str| {
        causes.push(Cause::forbidden(format!("metadata.annotations[{key}]"), detail));
    };
    for (key, value) in before.as_object().into_iter().flatten() {
        if after.get(key) == Some(value) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            forbid(key, "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            forbid(key, "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in after.as_object().into_iter().flatten() {
        if before.get(key).is_some() {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            forbid(key, "may not add AppArmor annotations");
        }
        if key == MIRROR {
            forbid(key, "may not add mirror pod annotation");
        }
    }
}

/// Whether nothing more is to be said.
fn deadline(before: &Value, after: &Value, causes: &mut Vec<Cause>) -> bool {
    const FIELD: &str = "activeDeadlineSeconds";
    let path = format!("spec.{FIELD}");
    match (before[FIELD].as_i64(), after[FIELD].as_i64()) {
        (_, Some(new)) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            super::super::in_range(new, 0, i64::from(i32::MAX), &path, causes);
            true
        }
        (Some(old), Some(new)) if old < new => {
            causes.push(Cause::invalid(path, &new.into(), "must be less than or equal to previous value"));
            true
        }
        (Some(_), None) => {
            let detail = "must not update from a positive integer to nil value";
            causes.push(Cause::invalid(path, &Value::Null, detail));
            false
        }
        _ => false,
    }
}

fn tolerations(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    let same = |old: &Value, new: &Value| {
        let mut old = old.clone();
        crate::write::copy_or_remove(new, &mut old, "tolerationSeconds");
        old == *new
    };
    let place = At::new(after, "spec").get("tolerations");
    let kept = |old: &Value| list(&after["tolerations"]).iter().any(|new| same(old, new));
    if list(&before["tolerations"]).iter().all(kept) {
        placement::tolerations(&place, causes);
    } else {
        place.forbidden("existing toleration can not be modified except its tolerationSeconds", causes);
    }
}

fn gates(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    let old = list(&before["schedulingGates"]);
    for gate in At::new(after, "spec").items("schedulingGates") {
        if !old.iter().any(|old| old["name"] == gate.value["name"]) {
            let name = gate.text("name");
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            gate.get("name").forbidden(&detail, causes);
        }
    }
}

/// The new spec with the old one's values where a change is allowed.
fn masked(before: &Value, after: &Value, causes: &mut Vec<Cause>) -> Value {
    let mut masked = after.clone();
    for field in ["containers", "initContainers"] {
        let new = masked.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten();
        for (new, old) in new.zip(list(&before[field])) {
            crate::write::copy_or_remove(old, new, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        crate::write::copy_or_remove(before, &mut masked, field);
    }
    const GRACE: &str = "terminationGracePeriodSeconds";
    if before[GRACE].as_i64().is_some_and(|old| old < 0) && after[GRACE] == 1 {
        crate::write::copy_or_remove(before, &mut masked, GRACE);
    }
    if !list(&before["schedulingGates"]).is_empty() {
        if before["nodeSelector"] != after["nodeSelector"] {
            let kept = before["nodeSelector"].as_object().into_iter().flatten();
            if kept.into_iter().any(|(key, value)| after["nodeSelector"].get(key) != Some(value)) {
                let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
                causes.push(Cause::invalid("spec.nodeSelector", &after["nodeSelector"], detail));
            }
            crate::write::copy_or_remove(before, &mut masked, "nodeSelector");
        }
        // Narrowing is not told from widening here.
        crate::write::copy_or_remove(before, &mut masked, "affinity");
    }
    masked
}

/// Ephemeral containers are added, never changed or removed.
pub(in crate::validate) fn ephemeral(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    const NOT_ALLOWED: [&str; 6] =
        ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy"];
    let after = list(&new["spec"]["ephemeralContainers"]);
    for (at, container) in after.iter().enumerate() {
        for field in NOT_ALLOWED {
            if !container[field].is_null() {
                let path = format!("spec.ephemeralContainers[{at}].{field}");
                causes.push(Cause::forbidden(path, "cannot be set for an Ephemeral Container"));
            }
        }
        let resources = &container["resources"];
        if ["requests", "limits"].iter().any(|part| resources[part].is_object()) {
            let path = format!("spec.ephemeralContainers[{at}].resources");
            causes.push(Cause::forbidden(path, "cannot be set for an Ephemeral Container"));
        }
    }
    for container in list(&old["spec"]["ephemeralContainers"]) {
        match after.iter().find(|found| found["name"] == container["name"]) {
            Some(found) if found == container => {}
            Some(_) => {
                let text = format!(
                    "existing ephemeral containers \"{}\" may not be changed\n",
                    text(container, "name")
                );
                causes.push(Cause::forbidden("spec.ephemeralContainers", &text));
            }
            None => {
                let text = format!(
                    "existing ephemeral containers \"{}\" may not be removed\n",
                    text(container, "name")
                );
                causes.push(Cause::forbidden("spec.ephemeralContainers", &text));
            }
        }
    }
}
