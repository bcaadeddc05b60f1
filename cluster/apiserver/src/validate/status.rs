//! Statuses that are written by themselves.

use serde_json::Value;

use super::at::At;
use super::{certificate, claim, limits, network};
use crate::kinds::Kind;
use crate::status::Cause;

const MORE_THAN_ALL: &str = "cannot be greater than status.replicas";

/// Counts that may not be negative, by plural.
const COUNTS: &[(&str, &[&str])] = &[
    (
        "deployments",
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
    ),
    (
        "replicasets",
        &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ],
    ),
    (
        "statefulsets",
        &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
    ),
    (
        "daemonsets",
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
    ),
    ("jobs", &["active", "succeeded", "failed", "ready", "terminating"]),
    ("poddisruptionbudgets", &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"]),
    ("horizontalpodautoscalers", &["currentReplicas", "desiredReplicas"]),
];

/// Counts that are parts of `replicas`, by plural.
const PARTS: &[(&str, &[&str])] = &[
    ("deployments", &["updatedReplicas", "readyReplicas", "availableReplicas"]),
    ("replicasets", &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"]),
    ("statefulsets", &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"]),
];

fn listed<'a>(table: &'a [(&str, &'a [&'a str])], plural: &str) -> &'a [&'a str] {
    table.iter().find(|(name, _)| *name == plural).map(|(_, fields)| *fields).unwrap_or_default()
}

/// Checks the status of an object.
pub(crate) fn status(kind: &Kind, old: &Value, object: &Value, causes: &mut Vec<Cause>) {
    let place = At::new(&object["status"], "status");
    for field in listed(COUNTS, &kind.plural) {
        place.get(field).not_negative(causes);
    }
    let parts = listed(PARTS, &kind.plural);
    let number = |field: &str| place.int(field).unwrap_or(0);
    for field in parts {
        if number(field) > number("replicas") {
            place.get(field).invalid_as(number(field), MORE_THAN_ALL, causes);
        }
    }
    if !parts.is_empty() && number("availableReplicas") > number("readyReplicas") {
        let whole = if kind.plural == "statefulsets" { "status.readyReplicas" } else { "readyReplicas" };
        let shown = number("availableReplicas");
        place.get("availableReplicas").invalid_as(shown, &format!("cannot be greater than {whole}"), causes);
    }
    let collisions = |object: &Value| object["status"]["collisionCount"].as_i64();
    if kind.group == "apps"
        && collisions(old).is_some_and(|old| collisions(object).is_none_or(|new| new < old))
    {
        let shown = collisions(object).unwrap_or(0);
        place.get("collisionCount").invalid_as(shown, "cannot be decremented", causes);
    }
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "services") => network::service_status(object, causes),
        ("networking.k8s.io", "ingresses") => network::ingress_status(object, causes),
        ("", "resourcequotas") => limits::quota(object, causes),
        ("", "persistentvolumeclaims") => claim::status(object, causes),
        ("", "pods") => pod(old, object, causes),
        ("batch", "jobs") => job(old, object, causes),
        ("policy", "poddisruptionbudgets") => conditions(&place.get("conditions"), causes),
        ("certificates.k8s.io", "certificatesigningrequests") => certificate::conditions(object, causes),
        _ => {}
    }
}

/// Conditions of the common type.
fn conditions(list: &At<'_>, causes: &mut Vec<Cause>) {
    let mut seen = std::collections::HashSet::new();
    for condition in list.elements() {
        let ty = condition.get("type");
        if ty.own_text().is_empty() {
            ty.required("must be set", causes);
        } else {
            ty.qualified(causes);
            if !seen.insert(ty.own_text()) {
                ty.duplicate(causes);
            }
        }
        match condition.text("status") {
            "" => condition.get("status").required("must be set", causes),
            _ => condition.get("status").one_of(&["False", "True", "Unknown"], causes),
        }
        condition.get("observedGeneration").not_negative(causes);
        if condition.text("lastTransitionTime").is_empty() {
            condition.get("lastTransitionTime").required("must be set", causes);
        }
        let reason = condition.get("reason");
        if reason.own_text().is_empty() {
            reason.required("must be set", causes);
        } else {
            let text = reason.own_text();
            let sound = text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_,:".contains(&b));
            if !sound {
                let detail = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
                reason.invalid(detail, causes);
            }
        }
    }
}

fn pod(old: &Value, object: &Value, causes: &mut Vec<Cause>) {
    let status = At::new(&object["status"], "status");
    for condition in status.items("conditions") {
        if condition.int("observedGeneration").is_some_and(|number| number < 0) {
            condition.get("observedGeneration").invalid("must be a non-negative integer", causes);
        }
        if !matches!(condition.text("type"), "PodScheduled" | "Ready" | "Initialized") {
            condition.get_as("type", "Type").qualified(causes);
        }
    }
    let nominated = status.get("nominatedNodeName");
    if *nominated.value != old["status"]["nominatedNodeName"] && !nominated.own_text().is_empty() {
        nominated.subdomain(causes);
        if !super::text(&old["spec"], "nodeName").is_empty() {
            nominated.forbidden("may not be set on pods that are already bound to a node", causes);
        }
    }
    if status.int("observedGeneration").is_some_and(|number| number < 0) {
        status.get("observedGeneration").invalid("must be a non-negative integer", causes);
    }
    claims(&At::new(&object["spec"], "spec"), &status, causes);
    for (list, single) in [("podIPs", "podIP"), ("hostIPs", "hostIP")] {
        let all = status.items(list);
        if let Some(first) = all.first().filter(|_| list == "hostIPs")
            && first.text("ip") != status.text(single)
        {
            first.get("ip").all(["must be equal to `hostIP`".to_owned()], causes);
        }
        for address in &all {
            address.get("ip").moved(&address.path).ip(causes);
        }
        let four = all.iter().filter(|address| !address.text("ip").contains(':')).count();
        if all.len() > 1 && (four == 0 || four == all.len() || all.len() > 2) {
            let detail = "may specify no more than one IP for each IP family";
            status.get(list).invalid(detail, causes);
        }
    }
}

/// What the status says of resource claims must be in the spec.
fn claims(spec: &At<'_>, status: &At<'_>, causes: &mut Vec<Cause>) {
    let known = spec.items("resourceClaims");
    let mut seen = std::collections::HashSet::new();
    for claim in status.items("resourceClaimStatuses") {
        let name = claim.get("name");
        if !known.iter().any(|known| known.text("name") == name.own_text()) {
            name.all(["must match the name of an entry in `spec.resourceClaims`".to_owned()], causes);
        }
        if !seen.insert(name.own_text()) {
            name.duplicate(causes);
        }
        if claim.has("resourceClaimName") {
            claim.get("resourceClaimName").subdomain(causes);
        }
    }
    let extended = status.get("extendedResourceClaimStatus");
    if !extended.is_set() {
        return;
    }
    let mappings = extended.get("requestMappings");
    if mappings.elements().is_empty() {
        mappings.required("at least one request mapping is required", causes);
    }
    let mut containers = spec.items("initContainers");
    containers.extend(spec.items("containers"));
    let mut seen = std::collections::HashSet::new();
    for mapping in mappings.elements() {
        let (name, resource) = (mapping.get("containerName"), mapping.get("resourceName"));
        match containers.iter().rfind(|container| container.text("name") == name.own_text()) {
            None => {
                let detail =
                    "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                name.all([detail.to_owned()], causes);
            }
            Some(container) if !container.get("resources").get("requests").has(resource.own_text()) => {
                let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                resource.all([detail.to_owned()], causes);
            }
            Some(_) => {}
        }
        // The place is that of the whole.
        let request = mapping.get("requestName");
        request.moved(&extended.get("requestName").path).label(causes);
        if !seen.insert((name.own_text(), resource.own_text(), request.own_text())) {
            for place in [&name, &resource, &request] {
                place.duplicate(causes);
            }
        }
    }
    let claim = extended.get("resourceClaimName");
    match claim.own_text() {
        "" => claim.required("", causes),
        _ => claim.subdomain(causes),
    }
}

fn condition(object: &Value, name: &str) -> bool {
    let list = super::list(&object["status"]["conditions"]);
    list.iter().any(|condition| condition["type"] == name && condition["status"] == "True")
}

/// The status of a Job follows its conditions; most rules hold only for what has changed.
fn job(old: &Value, object: &Value, causes: &mut Vec<Cause>) {
    let status = At::new(&object["status"], "status");
    let conditions = status.get("conditions").path;
    let changed = |field: &str| old["status"][field] != object["status"][field];
    let turned = |name: &str| condition(old, name) != condition(object, name);
    let (complete, failed) = (condition(object, "Complete"), condition(object, "Failed"));
    let (target, met) = (condition(object, "FailureTarget"), condition(object, "SuccessCriteriaMet"));
    let finished = complete || failed;
    let finished_turned = finished != (condition(old, "Complete") || condition(old, "Failed"));
    let bare = |detail: &str, causes: &mut Vec<Cause>| causes.push(Cause::invalid_bare(&*conditions, detail));
    uncounted(&status, causes);
    if complete && failed && (turned("Complete") || turned("Failed")) {
        bare("cannot set Complete=True and Failed=true conditions", causes);
    }
    if complete && target && (turned("Complete") || turned("FailureTarget")) {
        bare("cannot set Complete=True and FailureTarget=true conditions", causes);
    }
    let completion = status.get("completionTime");
    if turned("Complete") || changed("completionTime") {
        if completion.is_set() && !complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            completion.invalid(detail, causes);
        }
        if !completion.is_set() && complete {
            completion.required("completionTime is required for Complete jobs", causes);
        }
    }
    let before =
        completion.is_set() && status.has("startTime") && completion.own_text() < status.text("startTime");
    if before && (changed("startTime") || changed("completionTime")) {
        completion.invalid("must be equal to or after `startTime`", causes);
    }
    if failed && !target && (turned("Failed") || changed("failedIndexes")) {
        bare("cannot set Failed=True condition without the FailureTarget=true condition", causes);
    }
    if complete && !met && (turned("Complete") || turned("SuccessCriteriaMet")) {
        bare("cannot set Complete=True condition without the SuccessCriteriaMet=true condition", causes);
    }
    let number = |field: &str| status.int(field).unwrap_or(0);
    if number("active") > 0 && finished && (finished_turned || changed("active")) {
        status.get("active").invalid("active>0 is invalid for finished job", causes);
    }
    if !status.has("startTime") && finished && (finished_turned || changed("startTime")) {
        status.get("startTime").required("startTime is required for finished job", causes);
    }
    let indexed = object["spec"]["completionMode"] == "Indexed";
    if changed("completedIndexes") && !status.text("completedIndexes").is_empty() && !indexed {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        status.get("completedIndexes").invalid(detail, causes);
    }
    if changed("failedIndexes")
        && status.has("failedIndexes")
        && object["spec"]["backoffLimitPerIndex"].is_null()
    {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        status.get("failedIndexes").invalid(detail, causes);
    }
    if number("terminating") > 0 && finished && (finished_turned || changed("terminating")) {
        status.get("terminating").invalid("terminating>0 is invalid for finished job", causes);
    }
    if status.has("ready") && number("ready") > number("active") && (changed("ready") || changed("active")) {
        status.get("ready").invalid("cannot set more ready pods than active", causes);
    }
    if met && failed {
        bare("cannot set SuccessCriteriaMet=True and Failed=true conditions", causes);
    }
    if met && target {
        bare("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions", causes);
    }
    if !object["spec"]["successPolicy"].is_null() && !met && complete {
        bare("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True", causes);
    }
    history(old, object, &status, causes);
}

/// What a Job cannot take back.
fn history(old: &Value, object: &Value, status: &At<'_>, causes: &mut Vec<Cause>) {
    let conditions = status.get("conditions").path;
    for name in ["Failed", "Complete", "FailureTarget"] {
        if condition(old, name) && !condition(object, name) {
            let detail = format!("cannot disable the terminal {name}=True condition");
            causes.push(Cause::invalid_bare(&*conditions, &detail));
        }
    }
    let elastic = object["spec"]["completionMode"] == "Indexed"
        && object["spec"]["completions"] == object["spec"]["parallelism"];
    for field in ["failed", "succeeded"] {
        let before = old["status"][field].as_i64().unwrap_or(0);
        let now = status.int(field).unwrap_or(0);
        if now < before && (field == "failed" || !elastic) {
            let detail = format!("cannot decrease the {field} counter");
            status.get(field).invalid_as(now, &detail, causes);
        }
    }
    if !old["status"]["startTime"].is_null()
        && old["status"]["startTime"] != object["status"]["startTime"]
        && object["spec"]["suspend"] != true
    {
        let start = status.get("startTime");
        start.invalid("field is immutable for unsuspended job once set", causes);
    }
    if condition(old, "SuccessCriteriaMet") && !condition(object, "SuccessCriteriaMet") {
        let detail = "cannot disable the SuccessCriteriaMet=True condition";
        causes.push(Cause::invalid_bare(&*conditions, detail));
    }
}

fn uncounted(status: &At<'_>, causes: &mut Vec<Cause>) {
    let mut seen = std::collections::HashSet::new();
    for field in ["succeeded", "failed"] {
        for uid in status.get("uncountedTerminatedPods").items(field) {
            if uid.own_text().is_empty() {
                uid.all(["must not be empty".to_owned()], causes);
            } else if !seen.insert(uid.own_text()) {
                uid.duplicate(causes);
            }
        }
    }
}
