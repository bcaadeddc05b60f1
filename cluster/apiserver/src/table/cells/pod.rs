//! The cells of Pods, whose status says more than its phase.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{age, count, duration, list, n, or, text};
use crate::kinds::Kind;

/// Cells of a Pod.
pub(super) fn pod(object: &Value, now: Timestamp) -> Vec<Value> {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let reason = pod_reason(object);
    let sidecar = |name: &Value| {
        list(&spec["initContainers"])
            .iter()
            .any(|found| found["name"] == *name && found["restartPolicy"] == "Always")
    };
    let statuses = list(&status["containerStatuses"]);
    let sidecars: Vec<&Value> =
        list(&status["initContainerStatuses"]).iter().filter(|found| sidecar(&found["name"])).collect();
    let total = count(&spec["containers"])
        + list(&spec["initContainers"]).iter().filter(|found| found["restartPolicy"] == "Always").count();
    let ready = statuses
        .iter()
        .filter(|found| found["ready"] == true && found["state"]["running"].is_object())
        .count()
        + sidecars.iter().filter(|found| found["ready"] == true).count();
    let initializing = reason.starts_with("Init:");
    let counted: Vec<&Value> = if initializing {
        list(&status["initContainerStatuses"]).iter().collect()
    } else {
        statuses.iter().chain(sidecars).collect()
    };
    let restarts: i64 = counted.iter().map(|found| n(&found["restartCount"])).sum();
    let last = counted
        .iter()
        .filter_map(|found| {
            found["lastState"]["terminated"]["finishedAt"].as_str()?.parse::<Timestamp>().ok()
        })
        .max();
    let restarts = match last {
        Some(last) if restarts > 0 => {
            format!("{restarts} ({} ago)", duration((now.as_second() - last.as_second()).max(0)))
        }
        _ => restarts.to_string(),
    };
    let gates = list(&spec["readinessGates"]);
    let gates_shown = if gates.is_empty() {
        "<none>".to_owned()
    } else {
        let open = gates.iter().filter(|gate| {
            list(&status["conditions"])
                .iter()
                .any(|found| found["type"] == gate["conditionType"] && found["status"] == "True")
        });
        format!("{}/{}", open.count(), gates.len())
    };
    let ip =
        list(&status["podIPs"]).first().map(|ip| text(&ip["ip"])).unwrap_or_else(|| text(&status["podIP"]));
    vec![
        meta["name"].clone(),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.into(),
        age(&meta["creationTimestamp"], now),
        or(ip, "<none>"),
        or(text(&spec["nodeName"]), "<none>"),
        or(text(&status["nominatedNodeName"]), "<none>"),
        gates_shown.into(),
    ]
}

/// What the column Status shows.
fn pod_reason(object: &Value) -> String {
    let (spec, status) = (&object["spec"], &object["status"]);
    let mut reason = text(&status["phase"]);
    if !text(&status["reason"]).is_empty() {
        reason = text(&status["reason"]);
    }
    let gated = list(&status["conditions"])
        .iter()
        .any(|found| found["type"] == "PodScheduled" && found["reason"] == "SchedulingGated");
    if gated {
        reason = "SchedulingGated".into();
    }
    let (init_reason, initializing) = init_reason(spec, status);
    if let Some(found) = init_reason {
        reason = found;
    }
    let initialized = list(&status["conditions"])
        .iter()
        .any(|found| found["type"] == "Initialized" && found["status"] == "True");
    if !initializing || initialized {
        let mut running = false;
        for container in list(&status["containerStatuses"]).iter().rev() {
            let state = &container["state"];
            let waiting = text(&state["waiting"]["reason"]);
            let terminated = &state["terminated"];
            if !waiting.is_empty() {
                reason = waiting;
            } else if !text(&terminated["reason"]).is_empty() {
                reason = text(&terminated["reason"]);
            } else if terminated.is_object() {
                reason = match n(&terminated["signal"]) {
                    0 => format!("ExitCode:{}", n(&terminated["exitCode"])),
                    signal => format!("Signal:{signal}"),
                };
            } else if container["ready"] == true && state["running"].is_object() {
                running = true;
            }
        }
        if reason == "Completed" && running {
            let ready = list(&status["conditions"])
                .iter()
                .any(|found| found["type"] == "Ready" && found["status"] == "True");
            reason = if ready { "Running".into() } else { "NotReady".into() };
        }
    }
    if !object["metadata"]["deletionTimestamp"].is_null() {
        if text(&status["reason"]) == "NodeLost" {
            reason = "Unknown".into();
        } else if !matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) {
            reason = "Terminating".into();
        }
    }
    reason
}

fn init_reason(spec: &Value, status: &Value) -> (Option<String>, bool) {
    let total = count(&spec["initContainers"]);
    for (at, container) in list(&status["initContainerStatuses"]).iter().enumerate() {
        let state = &container["state"];
        let sidecar = list(&spec["initContainers"])
            .iter()
            .any(|found| found["name"] == container["name"] && found["restartPolicy"] == "Always");
        let terminated = &state["terminated"];
        if terminated.is_object() && n(&terminated["exitCode"]) == 0
            || sidecar && container["started"] == true
        {
            continue;
        }
        let reason = if terminated.is_object() {
            match text(&terminated["reason"]) {
                reason if !reason.is_empty() => format!("Init:{reason}"),
                _ => match n(&terminated["signal"]) {
                    0 => format!("Init:ExitCode:{}", n(&terminated["exitCode"])),
                    signal => format!("Init:Signal:{signal}"),
                },
            }
        } else {
            match text(&state["waiting"]["reason"]) {
                reason if !reason.is_empty() && reason != "PodInitializing" => format!("Init:{reason}"),
                _ => format!("Init:{at}/{total}"),
            }
        };
        return (Some(reason), true);
    }
    (None, false)
}

/// Rows of finished Pods say so.
pub(crate) fn row_conditions(kind: &Kind, object: &Value) -> Option<Value> {
    if !kind.is("", "pods") {
        return None;
    }
    let (reason, message) = match object["status"]["phase"].as_str()? {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{ "type": "Completed", "status": "True", "reason": reason, "message": message }]))
}
