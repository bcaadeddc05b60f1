//! Jobs, by themselves and as templates of CronJobs.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};

use super::at::At;
use super::{pod, selector, workload};
use crate::special::selects;
use crate::status::Cause;
use crate::store::Labels;

const INDEXED_PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const MANY_COMPLETIONS_MAX: i64 = 10_000;
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const MANAGER_LEN_MAX: usize = 63;
const NEED_INDEXED: &str = "requires indexed completion mode";

/// A new Job, and the parts of a changed one that are checked again.
pub(super) fn job(object: &Value, causes: &mut Vec<Cause>) {
    generated(object, causes);
    checked(object, causes);
    let (name, spec) = (super::text(&object["metadata"], "name"), &object["spec"]);
    let completions = spec["completions"].as_i64().unwrap_or(0);
    if spec["completionMode"] == "Indexed" && completions > 0 {
        let last = format!("{name}-{}", completions - 1);
        if !crate::names::label(&last).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {last}");
            causes.push(Cause::invalid("metadata.name", &name.into(), &detail));
        }
    }
}

fn checked(object: &Value, causes: &mut Vec<Cause>) {
    let place = At::new(&object["spec"], "spec");
    spec(&place, causes);
    let chosen = place.get("selector");
    if chosen.is_set() {
        selector::label_selector(&chosen, causes);
    } else {
        chosen.required("", causes);
    }
    if selector::is_usable(&chosen) {
        workload::mismatch(&place, causes);
    }
}

/// The selector and the labels are the server's own, if they are not said to be manual.
fn generated(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    if spec["manualSelector"] == true || spec["selector"].is_null() {
        return;
    }
    let (uid, name) = (super::text(&object["metadata"], "uid"), super::text(&object["metadata"], "name"));
    let labels = At::new(&spec["template"]["metadata"]["labels"], "spec.template.metadata.labels");
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    for (key, wanted) in expected {
        let place = At::new(&labels.value[key], format!("{}[{key}]", labels.path));
        let detail = format!("must be '{wanted}'");
        if !place.is_set() {
            place.required(&detail, causes);
        } else if place.own_text() != wanted {
            place.invalid(&detail, causes);
        }
    }
    let expected = Labels::from(expected.as_slice());
    let chosen = At::new(&spec["selector"], "spec.selector");
    if selector::is_usable(&chosen) && !selects(chosen.value, &expected) {
        chosen.invalid("`selector` not auto-generated", causes);
    }
}

/// The spec of a Job, without its selector.
pub(super) fn spec(spec: &At<'_>, causes: &mut Vec<Cause>) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.get(field).not_negative(causes);
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        spec.get("backoffLimitPerIndex").required("when maxFailedIndexes is specified", causes);
    }
    let manager = spec.get("managedBy");
    if manager.is_set() {
        super::domain_prefixed_path(&manager, causes);
        if manager.own_text().len() > MANAGER_LEN_MAX {
            causes.push(Cause::too_long(manager.path.clone(), MANAGER_LEN_MAX));
        }
    }
    completion_mode(spec, causes);
    if spec.has("podFailurePolicy") {
        failure_policy(spec, causes);
    }
    let success = spec.get("successPolicy");
    if success.is_set() {
        if spec.text("completionMode") == "Indexed" {
            success_policy(spec, &success, causes);
        } else {
            success.invalid_as(shown_success(success.value), NEED_INDEXED, causes);
        }
    }
    let replacement = spec.get("podReplacementPolicy");
    let known: &[&str] =
        if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    replacement.one_of_if_set(known, causes);
    pod::template(&spec.get("template"), causes);
    let restart = spec.get("template").get("spec").get("restartPolicy");
    match restart.own_text() {
        "" | "Always" => restart.required("valid values: \"OnFailure\", \"Never\"", causes),
        "Never" => {}
        "OnFailure" => {
            if spec.has("podFailurePolicy") {
                restart.invalid("only \"Never\" is supported when podFailurePolicy is specified", causes);
            }
        }
        _ => restart.unsupported(&["OnFailure", "Never"], causes),
    }
}

fn completion_mode(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let (mode, failed) = (spec.get("completionMode"), spec.get("maxFailedIndexes"));
    mode.one_of_if_set(&["NonIndexed", "Indexed"], causes);
    if matches!(mode.own_text(), "" | "NonIndexed") {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if spec.has(field) {
                spec.get(field).invalid(NEED_INDEXED, causes);
            }
        }
    }
    if mode.own_text() != "Indexed" {
        return;
    }
    let (completions, parallelism) = (spec.int("completions"), spec.get("parallelism"));
    if completions.is_none() {
        spec.get("completions").required("when completion mode is Indexed", causes);
    }
    let above = |place: &At<'_>, max: i64| place.value.as_i64().is_some_and(|number| number > max);
    if above(&parallelism, INDEXED_PARALLELISM_MAX) {
        let detail = format!(
            "must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed"
        );
        parallelism.invalid(&detail, causes);
    }
    if completions.is_some_and(|completions| above(&failed, completions)) {
        failed.invalid("must be less than or equal to completions", causes);
    }
    if above(&failed, FAILED_INDEXES_MAX) {
        failed.invalid(&format!("must be less than or equal to {FAILED_INDEXES_MAX}"), causes);
    }
    if completions.unwrap_or(0) > COMPLETIONS_SOFT_MAX && spec.has("backoffLimitPerIndex") {
        if !failed.is_set() {
            let detail = format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}");
            failed.required(&detail, causes);
        }
        let detail = format!(
            "must be less than or equal to {MANY_COMPLETIONS_MAX} when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index"
        );
        for place in [&parallelism, &failed] {
            if above(place, MANY_COMPLETIONS_MAX) {
                place.invalid(&detail, causes);
            }
        }
    }
}

fn failure_policy(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let rules = spec.get("podFailurePolicy").get("rules");
    let all = rules.elements();
    if all.len() > RULES_MAX {
        causes.push(Cause::too_many(rules.path.clone(), all.len(), RULES_MAX));
    }
    let inner = spec.get("template").get("spec");
    let mut containers = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        containers.extend(inner.items(list).iter().map(|container| container.text("name").to_owned()));
    }
    for rule in all {
        failure_rule(spec, &rule, &containers, causes);
    }
}

fn listed(known: &[&str]) -> String {
    let known: Vec<String> = known.iter().map(|word| format!("\"{word}\"")).collect();
    format!("valid values: [{}]", known.join(" "))
}

fn word(place: &At<'_>, known: &[&str], causes: &mut Vec<Cause>) {
    match place.own_text() {
        "" => place.required(&listed(known), causes),
        _ => place.one_of(known, causes),
    }
}

fn failure_rule(spec: &At<'_>, rule: &At<'_>, containers: &BTreeSet<String>, causes: &mut Vec<Cause>) {
    let (action, codes, conditions) =
        (rule.get("action"), rule.get("onExitCodes"), rule.items("onPodConditions"));
    if action.own_text() == "FailIndex" {
        if !spec.has("backoffLimitPerIndex") {
            action.invalid("requires the backoffLimitPerIndex to be set", causes);
        }
    } else {
        word(&action, &["Count", "FailIndex", "FailJob", "Ignore"], causes);
    }
    if codes.is_set() {
        exit_codes(&codes, containers, causes);
    }
    if conditions.len() > RULES_MAX {
        let path = rule.get("onPodConditions").path;
        causes.push(Cause::too_many(path, conditions.len(), RULES_MAX));
    }
    for pattern in &conditions {
        pattern.get("type").qualified(causes);
        word(&pattern.get("status"), &["False", "True", "Unknown"], causes);
    }
    let detail = match (codes.is_set(), !conditions.is_empty()) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    causes.push(Cause::invalid_bare(rule.path.clone(), detail));
}

fn exit_codes(codes: &At<'_>, containers: &BTreeSet<String>, causes: &mut Vec<Cause>) {
    word(&codes.get("operator"), &["In", "NotIn"], causes);
    let name = codes.get("containerName");
    if name.is_set() && !containers.contains(name.own_text()) {
        let detail = "must be one of the container or initContainer names in the pod template";
        name.invalid(detail, causes);
    }
    let values = codes.get("values");
    let all = values.elements();
    if all.is_empty() {
        values.invalid("at least one value is required", causes);
    } else if all.len() > EXIT_CODES_MAX {
        causes.push(Cause::too_many(values.path.clone(), all.len(), EXIT_CODES_MAX));
    }
    let (mut seen, mut last, mut ordered) = (HashSet::new(), i64::MIN, true);
    for value in &all {
        let number = value.value.as_i64().unwrap_or(0);
        if codes.text("operator") == "In" && number == 0 {
            value.invalid_as(0, "must not be 0 for the In operator", causes);
        }
        if !seen.insert(number) {
            value.duplicate(causes);
        }
        ordered &= last <= number;
        last = number;
    }
    if !ordered {
        values.invalid("must be ordered", causes);
    }
}

fn shown_success(policy: &Value) -> Value {
    let rules = super::list(&policy["rules"]).iter().map(|rule| {
        json!({ "SucceededIndexes": rule["succeededIndexes"], "SucceededCount": rule["succeededCount"] })
    });
    let rules: Vec<Value> = rules.collect();
    json!({ "Rules": if policy["rules"].is_null() { Value::Null } else { rules.into() } })
}

fn success_policy(spec: &At<'_>, policy: &At<'_>, causes: &mut Vec<Cause>) {
    let rules = policy.items("rules");
    let completions = spec.int("completions").unwrap_or(0);
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        policy.get("rules").required(detail, causes);
    }
    if rules.len() > RULES_MAX {
        causes.push(Cause::too_many(policy.get("rules").path, rules.len(), RULES_MAX));
    }
    for rule in rules {
        let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
        if !count.is_set() && !indexes.is_set() {
            rule.required("at least one of succeededCount or succeededIndexes must be specified", causes);
        }
        let mut total = 0;
        if indexes.is_set() {
            match count_indexes(indexes.own_text(), completions) {
                Ok(found) => total = found,
                Err(detail) => indexes.invalid(&format!("error parsing succeededIndexes: {detail}"), causes),
            }
        }
        count.not_negative(causes);
        let Some(wanted) = count.value.as_i64() else { continue };
        if wanted > completions {
            let detail =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            count.invalid(&detail, causes);
        }
        if indexes.is_set() && wanted > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            count.invalid(&detail, causes);
        }
    }
}

/// How many indexes a text such as `1,3-5` names.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut total, mut last): (i64, Option<i64>) = (0, None);
    for interval in text.split(',') {
        let limits: Vec<&str> = interval.split('-').collect();
        if limits.len() > 2 {
            return Err(format!(
                "the fragment \"{interval}\" violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let mut ends = Vec::new();
        for part in &limits {
            let number: i64 = part
                .parse()
                .map_err(|_| format!("cannot convert string to integer for index: \"{part}\""))?;
            if number >= completions {
                return Err(format!("too large index: \"{part}\""));
            }
            ends.push(number);
        }
        let (first, end) = (ends[0], *ends.last().unwrap_or(&ends[0]));
        if limits.len() > 1 && first >= end {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        last = Some(end);
        total += end - first + 1;
    }
    Ok(total)
}

pub(super) fn job_update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    job(new, causes);
    let (before, after) = (&old["spec"], &new["spec"]);
    let suspended = before["suspend"] == true && old["status"]["startTime"].is_null();
    let (mut old_template, mut new_template) = (before["template"].clone(), after["template"].clone());
    let mut field = "template";
    if suspended {
        // Where it may run and what it gets can still change while it has not started.
        for template in [&mut old_template, &mut new_template] {
            for field in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
                template["spec"].as_object_mut().map(|spec| spec.remove(field));
            }
            for list in ["containers", "initContainers"] {
                let containers = template["spec"].get_mut(list).and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    container.as_object_mut().map(|container| container.remove("resources"));
                }
            }
            template.as_object_mut().map(|template| template.remove("metadata"));
        }
        field = "template.spec";
    }
    let completions = before["completions"] != after["completions"];
    let indexed = after["completionMode"] == "Indexed";
    if completions
        && indexed
        && !after["completions"].is_null()
        && after["completions"] != after["parallelism"]
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        causes.push(Cause::invalid("spec.completions", &after["completions"], detail));
    }
    if old_template != new_template {
        let shown = if suspended { &after["template"]["spec"] } else { &after["template"] };
        causes.push(Cause::invalid(format!("spec.{field}"), shown, "field is immutable"));
    }
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
        "completions",
    ] {
        if before[field] != after[field] && (field != "completions" || !indexed) {
            causes.push(Cause::invalid(format!("spec.{field}"), &after[field], "field is immutable"));
        }
    }
}
