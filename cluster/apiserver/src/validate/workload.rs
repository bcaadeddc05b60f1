//! Deployments, ReplicaSets, StatefulSets, DaemonSets.

use crate::schema::int_or_string;
use serde_json::{Value, json};

use super::at::{At, internal};
use super::{claim, pod, selector};
use crate::special::selects;
use crate::status::Cause;
use crate::store::Labels;

const MISMATCH: &str = "`selector` does not match template `labels`";

fn is_empty(selector: &Value) -> bool {
    selector["matchLabels"].as_object().is_none_or(|map| map.is_empty())
        && super::list(&selector["matchExpressions"]).is_empty()
}

pub(super) fn mismatch(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let template = spec.get("template").get("metadata").get("labels");
    if !selects(&spec.value["selector"], &Labels::of(&spec.value["template"]["metadata"]["labels"])) {
        template.invalid(MISMATCH, causes);
    }
}

/// The selector of a workload; whether the template can be held against it.
fn selector(spec: &At<'_>, kind: &str, broken: &str, causes: &mut Vec<Cause>) -> bool {
    let chosen = spec.get("selector");
    if chosen.is_set() {
        selector::label_selector(&chosen, causes);
        if is_empty(chosen.value) {
            chosen.invalid(&format!("empty selector is invalid for {kind}"), causes);
        }
        if !selector::is_usable(&chosen) {
            chosen.invalid(broken, causes);
            return false;
        }
    } else {
        chosen.required("", causes);
    }
    if !chosen.is_set() || !is_empty(chosen.value) {
        mismatch(spec, causes);
    }
    true
}

fn always(spec: &At<'_>, kind: &str, causes: &mut Vec<Cause>) {
    let inner = spec.get("template").get("spec");
    inner.get("restartPolicy").one_of(&["Always"], causes);
    if inner.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        inner.get("activeDeadlineSeconds").forbidden(&detail, causes);
    }
}

fn replicated(spec: &At<'_>, causes: &mut Vec<Cause>) {
    spec.get("replicas").not_negative(causes);
    spec.get("minReadySeconds").not_negative(causes);
    if selector(spec, "deployment", "invalid label selector", causes) {
        pod::template(&spec.get("template"), causes);
        always(spec, "ReplicaSet", causes);
    }
}

pub(super) fn deployment(object: &Value, causes: &mut Vec<Cause>) {
    let spec = At::new(&object["spec"], "spec");
    replicated(&spec, causes);
    let strategy = spec.get("strategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.text("type") {
        "Recreate" if rolling.is_set() => {
            rolling.forbidden("may not be specified when strategy `type` is 'Recreate'", causes);
        }
        "Recreate" => {}
        "RollingUpdate" if !rolling.is_set() => {
            rolling.required("this should be defaulted and never be nil", causes);
        }
        "RollingUpdate" => deployment_rolling(&rolling, causes),
        _ => unsupported_strategy(&strategy, &["Recreate", "RollingUpdate"], causes),
    }
    spec.get("revisionHistoryLimit").not_negative(causes);
    let deadline = spec.get("progressDeadlineSeconds");
    deadline.not_negative(causes);
    let ready = spec.int("minReadySeconds").unwrap_or(0);
    if deadline.value.as_i64().is_some_and(|seconds| seconds <= ready) {
        deadline.invalid("must be greater than minReadySeconds", causes);
    }
}

fn unsupported_strategy(strategy: &At<'_>, known: &[&str], causes: &mut Vec<Cause>) {
    let members = [("Type", "type", json!("")), ("RollingUpdate", "rollingUpdate", Value::Null)];
    let mut shown = internal(strategy.value, &members);
    if strategy.has("rollingUpdate") {
        let rolling = [("MaxUnavailable", "maxUnavailable", json!(0)), ("MaxSurge", "maxSurge", json!(0))];
        shown["RollingUpdate"] = internal(&strategy.value["rollingUpdate"], &rolling);
    }
    causes.push(Cause::not_supported(strategy.path.clone(), &shown, known));
}

/// The number in a count, or of a hundred in a percentage.
fn number(value: &Value) -> i64 {
    int_or_string::scaled(value, 100, true).unwrap_or(0)
}

fn count_or_percent(place: &At<'_>, causes: &mut Vec<Cause>) {
    if place.is_set() {
        super::int_or_percent(place.value, &place.path, causes);
    }
}

fn deployment_rolling(rolling: &At<'_>, causes: &mut Vec<Cause>) {
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    count_or_percent(&unavailable, causes);
    count_or_percent(&surge, causes);
    if number(unavailable.value) == 0 && number(surge.value) == 0 {
        let shown = if unavailable.is_set() { unavailable.value.clone() } else { 0.into() };
        unavailable.invalid_as(shown, "may not be 0 when `maxSurge` is 0", causes);
    }
    at_most_all(&unavailable, causes);
}

pub(super) fn at_most_all(place: &At<'_>, causes: &mut Vec<Cause>) {
    let percent =
        place.own_text().strip_suffix('%').is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    if percent && number(place.value) > 100 {
        place.invalid("must not be greater than 100%", causes);
    }
}

pub(super) fn replica_set(object: &Value, causes: &mut Vec<Cause>) {
    replicated(&At::new(&object["spec"], "spec"), causes);
}

pub(super) fn daemon_set(object: &Value, causes: &mut Vec<Cause>) {
    let spec = At::new(&object["spec"], "spec");
    let chosen = spec.get("selector");
    selector::label_selector(&chosen, causes);
    if selector::is_usable(&chosen) {
        mismatch(&spec, causes);
    }
    if chosen.is_set() && is_empty(chosen.value) {
        chosen.invalid("empty selector is invalid for daemonset", causes);
    }
    pod::template(&spec.get("template"), causes);
    always(&spec, "DaemonSet", causes);
    spec.get("minReadySeconds").not_negative(causes);
    let strategy = spec.get("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => rolling.required("", causes),
        "RollingUpdate" => daemon_rolling(&rolling, causes),
        _ => unsupported_strategy(&strategy, &["RollingUpdate", "OnDelete"], causes),
    }
    spec.get("revisionHistoryLimit").not_negative(causes);
}

fn daemon_rolling(rolling: &At<'_>, causes: &mut Vec<Cause>) {
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    for place in [&unavailable, &surge] {
        count_or_percent(place, causes);
        at_most_all(place, causes);
    }
    match (number(unavailable.value) != 0, number(surge.value) != 0) {
        (true, true) => surge.invalid("may not be set when maxUnavailable is non-zero", causes),
        (false, false) => unavailable.required("cannot be 0 when maxSurge is 0", causes),
        _ => {}
    }
}

/// A StatefulSet; `old` when it is changed.
pub(super) fn stateful_set(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let spec = At::new(&object["spec"], "spec");
    let management = spec.get("podManagementPolicy");
    match management.own_text() {
        "" => management.required("", causes),
        "OrderedReady" | "Parallel" => {}
        _ => management.invalid("must be 'OrderedReady' or 'Parallel'", causes),
    }
    stateful_strategy(&spec.get("updateStrategy"), causes);
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"].iter().filter(|_| retention.is_set()) {
        retention.get(field).one_of(&["Retain", "Delete"], causes);
    }
    if old.is_none() {
        for template in spec.items("volumeClaimTemplates") {
            claim::spec(&template.get("spec"), causes);
        }
    }
    spec.get("replicas").not_negative(causes);
    spec.get("minReadySeconds").not_negative(causes);
    spec.get("ordinals").get("start").not_negative(causes);
    if old.is_none() && !spec.text("serviceName").is_empty() {
        spec.get("serviceName").label(causes);
    }
    if selector(&spec, "statefulset", "", causes) {
        // A set that was not sound before is not held to what it always had.
        let lax = old.is_some_and(|old| !was_sound(old));
        if !lax {
            let template = with_claims(spec.value);
            pod::template(&At::new(&template, "spec.template"), causes);
        }
    }
    always(&spec, "StatefulSet", causes);
}

fn was_sound(old: &Value) -> bool {
    let mut wrong = Vec::new();
    stateful_set(None, old, &mut wrong);
    wrong.retain(|cause| {
        !cause.field.starts_with("spec.serviceName") && !cause.field.starts_with("spec.volumeClaimTemplates")
    });
    wrong.is_empty()
}

/// The template of the Pods with the claims of the set as volumes, and without the names the set gives.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    let claims = super::list(&spec["volumeClaimTemplates"]);
    let Some(inner) = template["spec"].as_object_mut() else { return template };
    inner.remove("hostname");
    inner.remove("subdomain");
    if claims.is_empty() {
        return template;
    }
    let mut volumes: Vec<Value> = Vec::new();
    for claim in claims {
        let name = &claim["metadata"]["name"];
        volumes.retain(|volume| volume["name"] != *name);
        volumes.push(json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }));
    }
    let own = inner.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let hidden = |volume: &Value| claims.iter().any(|claim| claim["metadata"]["name"] == volume["name"]);
    volumes.extend(own.into_iter().filter(|volume| !hidden(volume)));
    inner.insert("volumes".into(), volumes.into());
    template
}

fn stateful_strategy(strategy: &At<'_>, causes: &mut Vec<Cause>) {
    let rolling = strategy.get("rollingUpdate");
    let members = [("Partition", "partition", json!(0)), ("MaxUnavailable", "maxUnavailable", Value::Null)];
    match strategy.text("type") {
        "" => strategy.required("", causes),
        "OnDelete" => {
            if rolling.is_set() {
                let shown = internal(rolling.value, &members);
                rolling.invalid_as(shown, "only allowed for updateStrategy 'RollingUpdate'", causes);
            }
        }
        "RollingUpdate" => {
            rolling.get("partition").not_negative(causes);
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.is_set() {
                count_or_percent(&unavailable, causes);
                if number(unavailable.value) == 0 {
                    unavailable.invalid("cannot be 0", causes);
                }
                at_most_all(&unavailable, causes);
            }
        }
        _ => {
            let mut shown = internal(
                strategy.value,
                &[("Type", "type", json!("")), ("RollingUpdate", "rollingUpdate", Value::Null)],
            );
            if rolling.is_set() {
                shown["RollingUpdate"] = internal(rolling.value, &members);
            }
            strategy.invalid_as(shown, "must be 'RollingUpdate' or 'OnDelete'", causes);
        }
    }
}

pub(super) fn stateful_set_update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    stateful_set(Some(old), new, causes);
    let mut masked = new["spec"].clone();
    for field in [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ] {
        crate::write::copy_or_remove(&old["spec"], &mut masked, field);
    }
    if masked != old["spec"] {
        causes.push(Cause::forbidden("spec", "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"));
    }
}

/// Selectors of Deployments, ReplicaSets and DaemonSets stay.
pub(super) fn selector_update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let (before, after) = (&old["spec"]["selector"], &new["spec"]["selector"]);
    if before != after {
        causes.push(Cause::invalid("spec.selector", after, "field is immutable"));
    }
}
