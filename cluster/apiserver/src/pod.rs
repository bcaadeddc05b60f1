//! What the server works out about Pods and their owners.

use serde_json::{Value, json};

use crate::schema::quantity::Quantity;

/// `Guaranteed`, `Burstable` or `BestEffort`, by the requests and limits of the containers.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let lists = ["containers", "initContainers"];
    let containers = lists.iter().filter_map(|list| pod["spec"][list].as_array()).flatten();
    let mut any = false;
    let mut guaranteed = true;
    for container in containers {
        let resources = &container["resources"];
        for name in ["cpu", "memory"] {
            let read = |part: &str| {
                resources[part][name]
                    .as_str()
                    .and_then(Quantity::parse)
                    .filter(|quantity| quantity.nano() != 0)
            };
            let (request, limit) = (read("requests"), read("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &=
                limit.is_some() && request.map(|request| request.nano()) == limit.map(|limit| limit.nano());
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// A Pod with scheduling gates says so from the start.
pub(crate) fn scheduling_gates(pod: &mut Value) {
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates", "lastProbeTime": null,
            "lastTransitionTime": crate::write::now(),
        }]);
    }
}

/// A Job selects its own Pods by its uid, unless it says that it selects by itself.
pub(crate) fn job_selector(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    let labels = [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ];
    for (label, value) in labels {
        let labels = &mut job["spec"]["template"]["metadata"]["labels"];
        if labels[label].is_null() {
            labels[label] = value.clone();
        }
    }
    let own = &mut job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"];
    if own.is_null() {
        *own = uid;
    }
}

/// `resize` takes the resources of containers and nothing else.
pub(crate) fn take_resources(from: &Value, to: &mut Value) {
    for list in ["containers", "initContainers"] {
        let wanted = from["spec"][list].as_array().cloned().unwrap_or_default();
        for container in to["spec"][list].as_array_mut().into_iter().flatten() {
            if let Some(wanted) = wanted.iter().find(|wanted| wanted["name"] == container["name"]) {
                for field in ["resources", "resizePolicy"] {
                    crate::write::copy_or_remove(wanted, container, field);
                }
            }
        }
    }
}
