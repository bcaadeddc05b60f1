//! Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{at_least_zero, list, one_of, pod, text};
use crate::names;
use crate::schema::int_or_string;
use crate::special::selects;
use crate::status::Cause;

/// Characters of a CronJob's name: its Jobs add eleven.
const CRON_NAME_LEN_MAX: usize = 52;

fn labels_of(template: &Value) -> BTreeMap<String, String> {
    let labels = template["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn selector(spec: &Value, causes: &mut Vec<Cause>) {
    let selector = &spec["selector"];
    let empty = selector["matchLabels"].as_object().is_none_or(|map| map.is_empty())
        && list(&selector["matchExpressions"]).is_empty();
    if selector.is_null() {
        causes.push(Cause::required("spec.selector", ""));
        let detail = "`selector` does not match template `labels`";
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            &spec["template"]["metadata"]["labels"],
            detail,
        ));
    } else if empty {
        causes.push(Cause::invalid("spec.selector", selector, "empty selector is invalid for deployment"));
    } else if !selects(selector, &labels_of(&spec["template"])) {
        let detail = "`selector` does not match template `labels`";
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            &spec["template"]["metadata"]["labels"],
            detail,
        ));
    }
    super::labels(&selector["matchLabels"], "spec.selector.matchLabels", causes);
}

fn template(spec: &Value, path: &str, kind: &str, causes: &mut Vec<Cause>) {
    let template = &spec["template"];
    super::labels(&template["metadata"]["labels"], &format!("{path}.metadata.labels"), causes);
    pod::spec(&template["spec"], &format!("{path}.spec"), causes);
    let restart = &template["spec"]["restartPolicy"];
    if restart != "Always" {
        causes.push(Cause::not_supported(format!("{path}.spec.restartPolicy"), restart, &["Always"]));
    }
    if !template["spec"]["activeDeadlineSeconds"].is_null() {
        let text = format!("activeDeadlineSeconds in {kind} is not Supported");
        causes.push(Cause::forbidden(format!("{path}.spec.activeDeadlineSeconds"), &text));
    }
}

pub(super) fn deployment(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    at_least_zero(spec, "replicas", "spec", causes);
    selector(spec, causes);
    template(spec, "spec.template", "ReplicaSet", causes);
    strategy(&spec["strategy"], "spec.strategy", &["Recreate", "RollingUpdate"], causes);
    at_least_zero(spec, "minReadySeconds", "spec", causes);
    at_least_zero(spec, "revisionHistoryLimit", "spec", causes);
    if let Some(deadline) = spec["progressDeadlineSeconds"].as_i64() {
        at_least_zero(spec, "progressDeadlineSeconds", "spec", causes);
        if deadline <= spec["minReadySeconds"].as_i64().unwrap_or(0) {
            causes.push(Cause::invalid(
                "spec.progressDeadlineSeconds",
                &deadline.into(),
                "must be greater than minReadySeconds",
            ));
        }
    }
}

fn strategy(strategy: &Value, path: &str, kinds: &[&str], causes: &mut Vec<Cause>) {
    let ty = text(strategy, "type");
    if ty == "Recreate" && strategy["rollingUpdate"].is_object() {
        causes.push(Cause::forbidden(
            format!("{path}.rollingUpdate"),
            "may not be specified when strategy `type` is 'Recreate'",
        ));
        return;
    }
    one_of(strategy, "type", kinds, path, causes);
    let rolling = &strategy["rollingUpdate"];
    if !rolling.is_object() {
        return;
    }
    let mut zero = true;
    for field in ["maxUnavailable", "maxSurge"] {
        zero &= rolling[field].is_null() || int_or_string::scaled(&rolling[field], 100, true) == Ok(0);
        super::int_or_percent(&rolling[field], &format!("{path}.rollingUpdate.{field}"), causes);
    }
    if zero {
        let shown = &rolling["maxUnavailable"];
        let detail = "may not be 0 when `maxSurge` is 0";
        causes.push(Cause::invalid(format!("{path}.rollingUpdate.maxUnavailable"), shown, detail));
    }
}

pub(super) fn replica_set(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    at_least_zero(spec, "replicas", "spec", causes);
    at_least_zero(spec, "minReadySeconds", "spec", causes);
    selector(spec, causes);
    template(spec, "spec.template", "ReplicaSet", causes);
}

pub(super) fn daemon_set(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    selector(spec, causes);
    template(spec, "spec.template", "DaemonSet", causes);
    at_least_zero(spec, "minReadySeconds", "spec", causes);
    strategy(&spec["updateStrategy"], "spec.updateStrategy", &["RollingUpdate", "OnDelete"], causes);
    at_least_zero(spec, "revisionHistoryLimit", "spec", causes);
}

pub(super) fn stateful_set(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    one_of(spec, "podManagementPolicy", &["OrderedReady", "Parallel"], "spec", causes);
    one_of(&spec["updateStrategy"], "type", &["RollingUpdate", "OnDelete"], "spec.updateStrategy", causes);
    at_least_zero(spec, "replicas", "spec", causes);
    at_least_zero(spec, "minReadySeconds", "spec", causes);
    selector(spec, causes);
    // The claims of the set are volumes of its Pods.
    let mut with_claims = spec.clone();
    for claim in list(&spec["volumeClaimTemplates"]) {
        let volume = serde_json::json!({ "name": claim["metadata"]["name"], "emptyDir": {} });
        let volumes = &mut with_claims["template"]["spec"]["volumes"];
        let mut known = volumes.as_array().cloned().unwrap_or_default();
        known.retain(|found| found["name"] != volume["name"]);
        known.push(volume);
        *volumes = known.into();
    }
    template(&with_claims, "spec.template", "StatefulSet", causes);
}

pub(super) fn stateful_set_update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
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
    if old["spec"]["selector"] != new["spec"]["selector"] {
        causes.push(Cause::invalid("spec.selector", &new["spec"]["selector"], "field is immutable"));
    }
}

fn job_spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        at_least_zero(spec, field, path, causes);
    }
    one_of(spec, "completionMode", &["NonIndexed", "Indexed"], path, causes);
    if spec["completionMode"] == "Indexed" && spec["completions"].is_null() {
        causes.push(Cause::required(format!("{path}.completions"), "when completion mode is Indexed"));
    }
    for (at, rule) in list(&spec["podFailurePolicy"]["rules"]).iter().enumerate() {
        one_of(
            rule,
            "action",
            &["Count", "FailIndex", "FailJob", "Ignore"],
            &format!("{path}.podFailurePolicy.rules[{at}]"),
            causes,
        );
    }
    let template = &spec["template"];
    super::labels(&template["metadata"]["labels"], &format!("{path}.template.metadata.labels"), causes);
    pod::spec(&template["spec"], &format!("{path}.template.spec"), causes);
    match text(&template["spec"], "restartPolicy") {
        "" | "Always" => causes.push(Cause::required(
            format!("{path}.template.spec.restartPolicy"),
            "valid values: \"OnFailure\", \"Never\"",
        )),
        _ => {}
    }
}

pub(super) fn job(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let own = serde_json::json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": object["metadata"]["uid"] } });
    if spec["manualSelector"] != true && spec["selector"] != own {
        causes.push(Cause::invalid(
            "spec.selector",
            &shown_selector(spec, &own),
            "`selector` not auto-generated",
        ));
    }
    if let Some(manager) = spec["managedBy"].as_str() {
        let wrong = names::text::domain_path(manager).into_iter();
        causes.extend(wrong.map(|detail| match manager {
            "" => Cause::required("spec.managedBy", ""),
            _ => Cause::invalid("spec.managedBy", &spec["managedBy"], &detail),
        }));
        if manager.len() > 63 {
            causes.push(Cause::too_long("spec.managedBy", 63));
        }
    }
    if !selects(&spec["selector"], &labels_of(&spec["template"])) {
        let detail = "`selector` does not match template `labels`";
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            &spec["template"]["metadata"]["labels"],
            detail,
        ));
    }
    job_spec(spec, "spec", causes);
}

fn shown_selector(spec: &Value, own: &Value) -> Value {
    let mut shown = spec["selector"].clone();
    for (key, value) in own["matchLabels"].as_object().into_iter().flatten() {
        shown["matchLabels"][key] = value.clone();
    }
    shown
}

pub(super) fn job_update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let (before, after) = (&old["spec"], &new["spec"]);
    let suspended = before["suspend"] == true && old["status"]["startTime"].is_null();
    let (mut old_template, mut new_template) = (before["template"].clone(), after["template"].clone());
    if suspended {
        // Where it may run can still change while it has not started.
        for template in [&mut old_template, &mut new_template] {
            for field in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
                template["spec"].as_object_mut().map(|spec| spec.remove(field));
            }
            template.as_object_mut().map(|template| template.remove("metadata"));
        }
    }
    for (field, changed) in [
        (
            "completions",
            before["completions"] != after["completions"] && before["completionMode"] != "Indexed",
        ),
        ("selector", before["selector"] != after["selector"]),
        ("template", old_template != new_template),
        ("completionMode", before["completionMode"] != after["completionMode"]),
        ("podFailurePolicy", before["podFailurePolicy"] != after["podFailurePolicy"]),
        ("backoffLimitPerIndex", before["backoffLimitPerIndex"] != after["backoffLimitPerIndex"]),
    ] {
        if changed {
            causes.push(Cause::invalid(format!("spec.{field}"), &after[field], "field is immutable"));
        }
    }
}

pub(super) fn cron_job(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let name = text(&object["metadata"], "name");
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        causes.push(Cause::required("spec.schedule", ""));
    } else if schedule.contains("TZ=") {
        causes.push(Cause::invalid(
            "spec.schedule",
            &schedule.into(),
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ));
    } else if let Some(detail) = cron_error(schedule) {
        causes.push(Cause::invalid("spec.schedule", &schedule.into(), &detail));
    }
    at_least_zero(spec, "startingDeadlineSeconds", "spec", causes);
    if let Some(zone) = spec["timeZone"].as_str() {
        if zone.is_empty() {
            causes.push(Cause::invalid(
                "spec.timeZone",
                &zone.into(),
                "timeZone must be nil or non-empty string",
            ));
        } else if zone.eq_ignore_ascii_case("local") || jiff::tz::TimeZone::get(zone).is_err() {
            causes.push(Cause::invalid("spec.timeZone", &zone.into(), &format!("unknown time zone {zone}")));
        }
    }
    one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], "spec", causes);
    job_spec(&spec["jobTemplate"]["spec"], "spec.jobTemplate.spec", causes);
    at_least_zero(spec, "successfulJobsHistoryLimit", "spec", causes);
    at_least_zero(spec, "failedJobsHistoryLimit", "spec", causes);
    if name.len() > CRON_NAME_LEN_MAX {
        causes.push(Cause::invalid("metadata.name", &name.into(), "must be no more than 52 characters"));
    }
}

/// What is wrong with a schedule.
fn cron_error(schedule: &str) -> Option<String> {
    if let Some(word) = schedule.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        let fine = known.contains(&word) || word.starts_with("every ");
        return (!fine).then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    const NAMES: &[&str] = &[
        "sun", "mon", "tue", "wed", "thu", "fri", "sat", "jan", "feb", "mar", "apr", "may", "jun", "jul",
        "aug", "sep", "oct", "nov", "dec",
    ];
    let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
    for (field, (low, high)) in fields.iter().zip(bounds) {
        for part in field.split(',') {
            let (range, step) =
                part.split_once('/').map(|(range, step)| (range, Some(step))).unwrap_or((part, None));
            if step.is_some_and(|step| step.parse::<u32>().map_or(true, |step| step == 0)) {
                return Some(format!("failed to parse int from {part}"));
            }
            if matches!(range, "*" | "?") {
                continue;
            }
            for end in range.split('-') {
                let known = NAMES.contains(&end.to_lowercase().as_str());
                match end.parse::<i64>() {
                    Ok(number) if number < low => {
                        return Some(format!("beginning of range ({number}) below minimum ({low}): {part}"));
                    }
                    Ok(number) if number > high => {
                        return Some(format!("end of range ({number}) above maximum ({high}): {part}"));
                    }
                    Ok(_) => {}
                    Err(_) if known => {}
                    Err(_) => return Some(format!("failed to parse int from {end}")),
                }
            }
        }
    }
    None
}
