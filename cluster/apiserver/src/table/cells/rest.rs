//! Cells of the kinds that are looked at less often: policies and webhooks, autoscalers, certificates, flow control, devices, storage
//! drivers, API services.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{age, count, duration, list, or, selector, text};
use crate::kinds::Kind;

/// How many metrics of an autoscaler are shown.
const METRICS_MAX: usize = 2;

/// The cells after the name, or nothing for a kind that is not here.
pub(super) fn cells(kind: &Kind, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let born = age(&object["metadata"]["creationTimestamp"], now);
    let cells = match (kind.group.as_str(), kind.plural.as_str()) {
        (_, "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            vec![count(&object["webhooks"]).into(), born]
        }
        (_, "validatingadmissionpolicies") => {
            vec![count(&spec["validations"]).into(), parameter_kind(spec), born]
        }
        (_, "mutatingadmissionpolicies") => {
            vec![count(&spec["mutations"]).into(), parameter_kind(spec), born]
        }
        (_, "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings") => {
            vec![spec["policyName"].clone(), parameter(&spec["paramRef"]), born]
        }
        ("apiregistration.k8s.io", "apiservices") => vec![api_service(spec), available(status), born],
        ("autoscaling", "horizontalpodautoscalers") => autoscaler(object, born),
        ("certificates.k8s.io", "certificatesigningrequests") => {
            let expiry = match spec["expirationSeconds"].as_i64() {
                Some(seconds) => duration(seconds).into(),
                None => json!("<none>"),
            };
            let signer = or(text(&spec["signerName"]), "<none>");
            vec![born, signer, text(&spec["username"]).into(), expiry, signing(status)]
        }
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => vec![
            spec["priorityLevelConfiguration"]["name"].clone(),
            spec["matchingPrecedence"].clone(),
            or(text(&spec["distinguisherMethod"]["type"]), "<none>"),
            born,
            condition(status, "Dangling").map_or(json!("?"), |found| found["status"].clone()),
        ],
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            let limited = &spec["limited"];
            let queuing = &limited["limitResponse"]["queuing"];
            let given = |value: &Value| if value.is_null() { json!("<none>") } else { value.clone() };
            vec![
                spec["type"].clone(),
                given(&limited["nominalConcurrencyShares"]),
                given(&queuing["queues"]),
                given(&queuing["handSize"]),
                given(&queuing["queueLengthLimit"]),
                born,
            ]
        }
        // Upstream writes an age, too, for which it has no column.
        ("networking.k8s.io", "ipaddresses") => vec![parent(&spec["parentRef"]), born],
        ("networking.k8s.io", "servicecidrs") => vec![joined(&spec["cidrs"]).into(), born],
        ("resource.k8s.io", "deviceclasses" | "resourceclaimtemplates") => vec![born],
        ("resource.k8s.io", "resourceclaims") => vec![claim(object).into(), born],
        ("resource.k8s.io", "resourceslices") => {
            vec![text(&spec["nodeName"]).into(), spec["driver"].clone(), spec["pool"]["name"].clone(), born]
        }
        ("storage.k8s.io", "csidrivers") => driver(spec, born),
        ("storage.k8s.io", "csinodes") => vec![count(&spec["drivers"]).into(), born],
        ("storage.k8s.io", "csistoragecapacities") => vec![object["metadata"]["creationTimestamp"].clone()],
        ("storage.k8s.io", "volumeattachments") => vec![
            spec["attacher"].clone(),
            text(&spec["source"]["persistentVolumeName"]).into(),
            spec["nodeName"].clone(),
            (status["attached"] == true).into(),
            born,
        ],
        ("storage.k8s.io", "volumeattributesclasses") => vec![object["driverName"].clone(), born],
        _ => return None,
    };
    Some(cells)
}

fn joined(items: &Value) -> String {
    list(items).iter().map(text).collect::<Vec<_>>().join(",")
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&status["conditions"]).iter().find(|condition| condition["type"] == kind)
}

fn parameter_kind(spec: &Value) -> Value {
    let kind = &spec["paramKind"];
    if kind.is_null() {
        return "<unset>".into();
    }
    format!("{}/{}", text(&kind["apiVersion"]), text(&kind["kind"])).into()
}

fn parameter(reference: &Value) -> Value {
    let (name, namespace) = (text(&reference["name"]), text(&reference["namespace"]));
    match (name.is_empty(), namespace.is_empty()) {
        (false, false) => format!("{namespace}/{name}").into(),
        (false, true) => format!("*/{name}").into(),
        _ if reference["selector"].is_object() => selector(&reference["selector"]),
        _ => "<unset>".into(),
    }
}

fn api_service(spec: &Value) -> Value {
    let service = &spec["service"];
    if service.is_null() {
        return "Local".into();
    }
    format!("{}/{}", text(&service["namespace"]), text(&service["name"])).into()
}

fn available(status: &Value) -> Value {
    let Some(found) = condition(status, "Available") else { return "Unknown".into() };
    let (state, reason) = (text(&found["status"]), text(&found["reason"]));
    if state == "True" || reason.is_empty() { state.into() } else { format!("{state} ({reason})").into() }
}

/// Denied before approved, then what became of it.
fn signing(status: &Value) -> Value {
    let has = |kind| condition(status, kind).is_some();
    let mut shown = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied".to_owned(),
        (_, true) => "Approved".to_owned(),
        _ => "Pending".to_owned(),
    };
    if has("Failed") {
        shown.push_str(",Failed");
    }
    if !text(&status["certificate"]).is_empty() {
        shown.push_str(",Issued");
    }
    shown.into()
}

fn parent(reference: &Value) -> Value {
    if reference.is_null() {
        return "<none>".into();
    }
    let mut parts = vec![match text(&reference["group"]) {
        group if group.is_empty() => text(&reference["resource"]).to_lowercase(),
        group => format!("{}.{group}", text(&reference["resource"])).to_lowercase(),
    }];
    parts.extend([text(&reference["namespace"])].into_iter().filter(|namespace| !namespace.is_empty()));
    parts.push(text(&reference["name"]));
    parts.join("/").into()
}

fn claim(object: &Value) -> String {
    let deleted = !object["metadata"]["deletionTimestamp"].is_null();
    let allocated = !object["status"]["allocation"].is_null();
    let states = [
        ("deleted", deleted),
        ("pending", !allocated && !deleted),
        ("allocated", allocated),
        ("reserved", allocated && count(&object["status"]["reservedFor"]) > 0),
    ];
    states.iter().filter(|(_, holds)| *holds).map(|(state, _)| *state).collect::<Vec<_>>().join(",")
}

fn driver(spec: &Value, born: Value) -> Vec<Value> {
    let flag = |field: &str, unset: bool| spec[field].as_bool().unwrap_or(unset).into();
    let audiences = match spec["tokenRequests"].as_array() {
        Some(requests) => {
            requests.iter().map(|request| text(&request["audience"])).collect::<Vec<_>>().join(",")
        }
        None => "<unset>".into(),
    };
    vec![
        flag("attachRequired", true),
        flag("podInfoOnMount", false),
        flag("storageCapacity", false),
        audiences.into(),
        flag("requiresRepublish", false),
        or(joined(&spec["volumeLifecycleModes"]), "<none>"),
        born,
    ]
}

fn autoscaler(object: &Value, born: Value) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let target = &spec["scaleTargetRef"];
    vec![
        format!("{}/{}", text(&target["kind"]), text(&target["name"])).into(),
        metrics(spec, status).into(),
        or(text(&spec["minReplicas"]), "<unset>"),
        spec["maxReplicas"].clone(),
        status["currentReplicas"].as_i64().unwrap_or(0).into(),
        born,
    ]
}

/// `cpu: 20%/80%`: what is there over what is aimed at, for the first metrics.
fn metrics(spec: &Value, status: &Value) -> String {
    // Version 1 knows only the processor.
    if let Some(aim) = spec["targetCPUUtilizationPercentage"].as_i64() {
        let there = status["currentCPUUtilizationPercentage"].as_i64();
        return format!("cpu: {}/{aim}%", there.map_or("<unknown>".into(), |there| format!("{there}%")));
    }
    let all = list(&spec["metrics"]);
    if all.is_empty() {
        return "<none>".into();
    }
    let shown: Vec<String> = all
        .iter()
        .enumerate()
        .take(METRICS_MAX)
        .map(|(at, metric)| one_metric(metric, &status["currentMetrics"][at]))
        .collect();
    match all.len() {
        many if many > METRICS_MAX => format!("{} + {} more...", shown.join(", "), many - METRICS_MAX),
        _ => shown.join(", "),
    }
}

fn one_metric(metric: &Value, there: &Value) -> String {
    let (source, of_resource) = match metric["type"].as_str().unwrap_or_default() {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".into(),
    };
    let (target, current) = (&metric[source]["target"], &there[source]["current"]);
    let known = |value: &Value, unit: &str| match value {
        Value::Null => "<unknown>".to_owned(),
        value => format!("{}{unit}", text(value)),
    };
    let prefix = if of_resource { format!("{}: ", text(&metric[source]["name"])) } else { String::new() };
    let average = &target["averageValue"];
    if !average.is_null() {
        let note = if of_resource || source == "pods" { "" } else { " (avg)" };
        return format!("{prefix}{}/{}{note}", known(&current["averageValue"], ""), text(average));
    }
    if of_resource {
        let aim = match &target["averageUtilization"] {
            Value::Null => "<auto>".to_owned(),
            aim => format!("{}%", text(aim)),
        };
        return format!("{prefix}{}/{aim}", known(&current["averageUtilization"], "%"));
    }
    format!("{}/{}", known(&current["value"], ""), text(&target["value"]))
}
