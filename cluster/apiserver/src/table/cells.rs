//! The cells of built-in kinds.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::Kind;

mod pod;
mod rest;

pub(crate) use pod::row_conditions;

/// How long ago, as kubectl shows it; `<unknown>` without a time.
pub(super) fn age(time: &Value, now: Timestamp) -> Value {
    match time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(time) => Value::String(duration((now.as_second() - time.as_second()).max(0))),
        None => Value::String("<unknown>".into()),
    }
}

/// Seconds in the short form of kubectl: `5s`, `3m20s`, `4h`, `2d3h`.
pub(super) fn duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        match seconds % 60 {
            0 => format!("{minutes}m"),
            rest => format!("{minutes}m{rest}s"),
        }
    } else if hours < 3 {
        format!("{minutes}m")
    } else if hours < 8 {
        match minutes % 60 {
            0 => format!("{hours}h"),
            rest => format!("{hours}h{rest}m"),
        }
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        match hours % 24 {
            0 => format!("{days}d"),
            rest => format!("{days}d{rest}h"),
        }
    } else if days < 730 {
        format!("{days}d")
    } else if days < 2920 {
        match days % 365 {
            0 => format!("{}y", days / 365),
            rest => format!("{}y{rest}d", days / 365),
        }
    } else {
        format!("{}y", days / 365)
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn or(text: String, empty: &str) -> Value {
    if text.is_empty() { empty.into() } else { text.into() }
}

fn n(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn count(value: &Value) -> usize {
    value.as_array().map(Vec::len).or_else(|| value.as_object().map(serde_json::Map::len)).unwrap_or(0)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn join<'a>(items: impl IntoIterator<Item = &'a Value>, separator: &str) -> String {
    items.into_iter().map(text).collect::<Vec<_>>().join(separator)
}

fn labels(map: &Value) -> Value {
    let pairs: Vec<String> =
        map.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value))).collect();
    or(pairs.join(","), "<none>")
}

fn selector(selector: &Value) -> Value {
    let mut terms: Vec<String> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        terms.push(format!("{key}={}", text(value)));
    }
    for term in list(&selector["matchExpressions"]) {
        let key = text(&term["key"]);
        let values = join(list(&term["values"]), ",");
        terms.push(match term["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key,
            _ => format!("!{key}"),
        });
    }
    or(terms.join(","), "<none>")
}

/// Names and images of the containers of a template.
fn containers(template: &Value) -> (Value, Value) {
    let all = list(&template["spec"]["containers"]);
    (
        join(all.iter().map(|container| &container["name"]), ",").into(),
        join(all.iter().map(|container| &container["image"]), ",").into(),
    )
}

/// Cells for all columns, or for the first few of a kind that has no printer here.
pub(super) fn cells(kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    let meta = &object["metadata"];
    let (spec, status) = (&object["spec"], &object["status"]);
    let name = meta["name"].clone();
    let born = age(&meta["creationTimestamp"], now);
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod::pod(object, now),
        ("", "podtemplates") => {
            let (names, images) = containers(&object["template"]);
            vec![name, names, images, labels(&object["template"]["metadata"]["labels"])]
        }
        ("", "services") => {
            vec![
                name,
                spec["type"].clone(),
                or(text(&spec["clusterIP"]), "<none>"),
                external_address(object),
                service_ports(spec),
                born,
                labels(&spec["selector"]),
            ]
        }
        ("", "configmaps") => {
            vec![name, (count(&object["data"]) + count(&object["binaryData"])).into(), born]
        }
        ("", "secrets") => vec![name, object["type"].clone(), count(&object["data"]).into(), born],
        ("", "serviceaccounts") => vec![name, born],
        ("", "componentstatuses") => {
            let condition = &object["conditions"][0];
            let health = match text(&condition["status"]).as_str() {
                "True" => "Healthy",
                "False" => "Unhealthy",
                _ => "Unknown",
            };
            vec![name, health.into(), text(&condition["message"]).into(), text(&condition["error"]).into()]
        }
        ("", "namespaces") => vec![name, status["phase"].clone(), born],
        ("", "nodes") => node(object, now),
        ("", "endpoints") => vec![name, endpoints(object), born],
        ("", "events") | ("events.k8s.io", "events") => event(object, now),
        ("", "persistentvolumes") => {
            let claim = &spec["claimRef"];
            let bound = if claim.is_object() {
                format!("{}/{}", text(&claim["namespace"]), text(&claim["name"]))
            } else {
                String::new()
            };
            vec![
                name,
                or(text(&spec["capacity"]["storage"]), ""),
                access_modes(&spec["accessModes"]),
                spec["persistentVolumeReclaimPolicy"].clone(),
                deleting_or(object, text(&status["phase"])),
                bound.into(),
                text(&spec["storageClassName"]).into(),
                or(text(&spec["volumeAttributesClassName"]), "<unset>"),
                text(&status["reason"]).into(),
                born,
                or(text(&spec["volumeMode"]), "<unset>"),
            ]
        }
        ("", "persistentvolumeclaims") => {
            let bound = !text(&spec["volumeName"]).is_empty();
            vec![
                name,
                deleting_or(object, text(&status["phase"])),
                text(&spec["volumeName"]).into(),
                if bound { text(&status["capacity"]["storage"]).into() } else { "".into() },
                if bound { access_modes(&status["accessModes"]) } else { "".into() },
                text(&spec["storageClassName"]).into(),
                or(text(&spec["volumeAttributesClassName"]), "<unset>"),
                born,
                or(text(&spec["volumeMode"]), "<unset>"),
            ]
        }
        ("", "replicationcontrollers") => {
            let (names, images) = containers(&spec["template"]);
            vec![
                name,
                n(&spec["replicas"]).into(),
                n(&status["replicas"]).into(),
                n(&status["readyReplicas"]).into(),
                born,
                names,
                images,
                labels(&spec["selector"]),
            ]
        }
        ("", "limitranges") => vec![name, meta["creationTimestamp"].clone()],
        ("", "resourcequotas") => {
            let (mut requests, mut limits) = (Vec::new(), Vec::new());
            for (resource, hard) in status["hard"].as_object().into_iter().flatten() {
                let used = status["used"].get(resource).map(text).unwrap_or_else(|| "0".into());
                let line = format!("{resource}: {used}/{}", text(hard));
                if resource.starts_with("limits.") { limits.push(line) } else { requests.push(line) }
            }
            vec![name, requests.join(", ").into(), limits.join(", ").into(), born]
        }
        ("apps", "deployments") => {
            let (names, images) = containers(&spec["template"]);
            vec![
                name,
                format!("{}/{}", n(&status["readyReplicas"]), n(&spec["replicas"])).into(),
                n(&status["updatedReplicas"]).into(),
                n(&status["availableReplicas"]).into(),
                born,
                names,
                images,
                selector(&spec["selector"]),
            ]
        }
        ("apps", "replicasets") => {
            let (names, images) = containers(&spec["template"]);
            vec![
                name,
                n(&spec["replicas"]).into(),
                n(&status["replicas"]).into(),
                n(&status["readyReplicas"]).into(),
                born,
                names,
                images,
                selector(&spec["selector"]),
            ]
        }
        ("apps", "statefulsets") => {
            let (names, images) = containers(&spec["template"]);
            vec![
                name,
                format!("{}/{}", n(&status["readyReplicas"]), n(&spec["replicas"])).into(),
                born,
                names,
                images,
            ]
        }
        ("apps", "daemonsets") => {
            let (names, images) = containers(&spec["template"]);
            vec![
                name,
                n(&status["desiredNumberScheduled"]).into(),
                n(&status["currentNumberScheduled"]).into(),
                n(&status["numberReady"]).into(),
                n(&status["updatedNumberScheduled"]).into(),
                n(&status["numberAvailable"]).into(),
                labels(&spec["template"]["spec"]["nodeSelector"]),
                born,
                names,
                images,
                selector(&spec["selector"]),
            ]
        }
        ("apps", "controllerrevisions") => {
            let owner = list(&meta["ownerReferences"]).iter().find(|owner| owner["controller"] == true);
            let owner = owner.map(owner_name).unwrap_or_else(|| "<none>".into());
            vec![name, owner.into(), n(&object["revision"]).into(), born]
        }
        ("batch", "jobs") => job(object, now),
        ("batch", "cronjobs") => {
            let (names, images) = containers(&spec["jobTemplate"]["spec"]["template"]);
            let last = if status["lastScheduleTime"].is_null() {
                "<none>".into()
            } else {
                age(&status["lastScheduleTime"], now)
            };
            vec![
                name,
                spec["schedule"].clone(),
                or(text(&spec["timeZone"]), "<none>"),
                if spec["suspend"] == true { "True".into() } else { "False".into() },
                count(&status["active"]).into(),
                last,
                born,
                names,
                images,
                selector(&spec["jobTemplate"]["spec"]["selector"]),
            ]
        }
        ("networking.k8s.io", "ingresses") => {
            let hosts: Vec<String> = list(&spec["rules"])
                .iter()
                .map(|rule| text(&rule["host"]))
                .filter(|host| !host.is_empty())
                .collect();
            let hosts = match hosts.len() {
                0 => "*".to_owned(),
                1..=3 => hosts.join(","),
                many => format!("{} + {} more...", hosts[..3].join(","), many - 3),
            };
            let ports = if count(&spec["tls"]) > 0 { "80, 443" } else { "80" };
            vec![
                name,
                or(text(&spec["ingressClassName"]), "<none>"),
                hosts.into(),
                load_balancer(status).into(),
                ports.into(),
                born,
            ]
        }
        ("networking.k8s.io", "ingressclasses") => {
            let parameters = &spec["parameters"];
            let shown = if parameters.is_object() {
                let kind = text(&parameters["kind"]);
                let group = text(&parameters["apiGroup"]);
                let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
                format!("{kind}/{}", text(&parameters["name"]))
            } else {
                "<none>".into()
            };
            vec![name, spec["controller"].clone(), shown.into(), born]
        }
        ("networking.k8s.io", "networkpolicies") => vec![name, selector(&spec["podSelector"]), born],
        ("discovery.k8s.io", "endpointslices") => {
            let ports = list(&object["ports"])
                .iter()
                .map(|port| port.get("port").map(text).unwrap_or_else(|| "*".into()))
                .collect::<Vec<_>>();
            let addresses: Vec<&Value> =
                list(&object["endpoints"]).iter().flat_map(|endpoint| list(&endpoint["addresses"])).collect();
            vec![
                name,
                object["addressType"].clone(),
                or(short(&ports), "<unset>"),
                or(short(&addresses.iter().map(|address| text(address)).collect::<Vec<_>>()), "<unset>"),
                born,
            ]
        }
        ("coordination.k8s.io", "leases") => vec![name, text(&spec["holderIdentity"]).into(), born],
        ("storage.k8s.io", "storageclasses") => {
            let default = meta["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true";
            let shown = if default { format!("{} (default)", text(&name)) } else { text(&name) };
            vec![
                shown.into(),
                object["provisioner"].clone(),
                or(text(&object["reclaimPolicy"]), "Delete"),
                or(text(&object["volumeBindingMode"]), "Immediate"),
                (object["allowVolumeExpansion"] == true).into(),
                born,
            ]
        }
        ("scheduling.k8s.io", "priorityclasses") => {
            vec![
                name,
                object["value"].clone(),
                (object["globalDefault"] == true).into(),
                born,
                or(text(&object["preemptionPolicy"]), ""),
            ]
        }
        ("node.k8s.io", "runtimeclasses") => vec![name, object["handler"].clone(), born],
        ("policy", "poddisruptionbudgets") => {
            let shown = |field: &str| or(text(&spec[field]), "N/A");
            vec![
                name,
                shown("minAvailable"),
                shown("maxUnavailable"),
                n(&status["disruptionsAllowed"]).into(),
                born,
            ]
        }
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            vec![name, meta["creationTimestamp"].clone()]
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            let subjects = |kind: &str| {
                let found = list(&object["subjects"]).iter().filter(|subject| subject["kind"] == kind);
                let names: Vec<String> = found
                    .map(|subject| match kind {
                        "ServiceAccount" => {
                            format!("{}/{}", text(&subject["namespace"]), text(&subject["name"]))
                        }
                        _ => text(&subject["name"]),
                    })
                    .collect();
                Value::String(names.join(", "))
            };
            let role = format!("{}/{}", text(&object["roleRef"]["kind"]), text(&object["roleRef"]["name"]));
            vec![name, role.into(), born, subjects("User"), subjects("Group"), subjects("ServiceAccount")]
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            vec![name, meta["creationTimestamp"].clone()]
        }
        _ => {
            let rest = rest::cells(kind, object, now).unwrap_or_default();
            std::iter::once(name).chain(rest).collect()
        }
    }
}

fn owner_name(owner: &Value) -> String {
    let api_version = text(&owner["apiVersion"]);
    let kind = text(&owner["kind"]).to_lowercase();
    match api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", text(&owner["name"])),
        None => format!("{kind}/{}", text(&owner["name"])),
    }
}

fn short(items: &[String]) -> String {
    match items.len() {
        0..=3 => items.join(","),
        many => format!("{} + {} more...", items[..3].join(","), many - 3),
    }
}

fn deleting_or(object: &Value, phase: String) -> Value {
    if object["metadata"]["deletionTimestamp"].is_null() { phase.into() } else { "Terminating".into() }
}

fn access_modes(modes: &Value) -> Value {
    let mut shown = Vec::new();
    for (mode, word) in [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ] {
        if list(modes).iter().any(|found| found == mode) {
            shown.push(word);
        }
    }
    shown.join(",").into()
}

fn load_balancer(status: &Value) -> String {
    let found = list(&status["loadBalancer"]["ingress"]).iter().map(|ingress| match ingress["ip"].as_str() {
        Some(ip) => ip.to_owned(),
        None => text(&ingress["hostname"]),
    });
    found.collect::<Vec<_>>().join(",")
}

fn external_address(service: &Value) -> Value {
    let (spec, status) = (&service["spec"], &service["status"]);
    let external = join(list(&spec["externalIPs"]), ",");
    match spec["type"].as_str().unwrap_or_default() {
        "ExternalName" => spec["externalName"].clone(),
        "LoadBalancer" => {
            let mut all: Vec<String> =
                vec![load_balancer(status), external].into_iter().filter(|text| !text.is_empty()).collect();
            all.dedup();
            or(all.join(","), "<pending>")
        }
        _ => or(external, "<none>"),
    }
}

fn service_ports(spec: &Value) -> Value {
    let ports: Vec<String> = list(&spec["ports"])
        .iter()
        .map(|port| {
            let (number, protocol) = (n(&port["port"]), text(&port["protocol"]));
            match n(&port["nodePort"]) {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    or(ports.join(","), "<none>")
}

fn endpoints(object: &Value) -> Value {
    let mut shown = Vec::new();
    for subset in list(&object["subsets"]) {
        let ports = list(&subset["ports"]);
        for address in list(&subset["addresses"]) {
            let ip = text(&address["ip"]);
            if ports.is_empty() {
                shown.push(ip.clone());
            }
            shown.extend(ports.iter().map(|port| format!("{ip}:{}", n(&port["port"]))));
        }
    }
    or(short(&shown), "<none>")
}

fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let core = object.get("involvedObject").is_some();
    let (about, message, source, count_field, first, last) = match core {
        true => ("involvedObject", "message", "source", "count", "firstTimestamp", "lastTimestamp"),
        false => (
            "regarding",
            "note",
            "deprecatedSource",
            "deprecatedCount",
            "deprecatedFirstTimestamp",
            "deprecatedLastTimestamp",
        ),
    };
    let target = &object[about];
    let shown = match text(&target["name"]) {
        name if name.is_empty() => text(&target["kind"]).to_lowercase(),
        name => format!("{}/{name}", text(&target["kind"]).to_lowercase()),
    };
    let mut first_seen = age(&object[first], now);
    if object[first].is_null() {
        first_seen = age(&object["eventTime"], now);
    }
    let mut last_seen = if object[last].is_null() { first_seen.clone() } else { age(&object[last], now) };
    let mut times = n(&object[count_field]);
    if object["series"].is_object() {
        last_seen = age(&object["series"]["lastObservedTime"], now);
        times = n(&object["series"]["count"]);
    } else if times == 0 {
        times = 1;
    }
    let component = text(&object[source]["component"]);
    let component = match (component.is_empty(), core) {
        (false, _) => component,
        (true, true) => text(&object["reportingComponent"]),
        (true, false) => text(&object["reportingController"]),
    };
    let host = text(&object[source]["host"]);
    let origin = if host.is_empty() { component } else { format!("{component}, {host}") };
    vec![
        last_seen,
        object["type"].clone(),
        object["reason"].clone(),
        shown.into(),
        text(&target["fieldPath"]).into(),
        origin.into(),
        text(&object[message]).trim().into(),
        first_seen,
        times.into(),
        object["metadata"]["name"].clone(),
    ]
}

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let succeeded = n(&status["succeeded"]);
    let completions = match (spec["completions"].as_i64(), spec["parallelism"].as_i64().unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let seconds = |value: &Value| {
        value.as_str().and_then(|text| text.parse::<Timestamp>().ok()).map(|time| time.as_second())
    };
    let took = match (seconds(&status["startTime"]), seconds(&status["completionTime"])) {
        (None, _) => String::new(),
        (Some(start), None) => duration((now.as_second() - start).max(0)),
        (Some(start), Some(end)) => duration((end - start).max(0)),
    };
    let holds = |ty: &str| {
        list(&status["conditions"]).iter().any(|found| found["type"] == ty && found["status"] == "True")
    };
    let state = if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if !object["metadata"]["deletionTimestamp"].is_null() {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else if holds("FailureTarget") {
        "FailureTarget"
    } else if holds("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let (names, images) = containers(&spec["template"]);
    vec![
        object["metadata"]["name"].clone(),
        state.into(),
        completions.into(),
        took.into(),
        age(&object["metadata"]["creationTimestamp"], now),
        names,
        images,
        selector(&spec["selector"]),
    ]
}

fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let ready = list(&status["conditions"]).iter().find(|found| found["type"] == "Ready");
    let mut state = match ready.map(|found| found["status"] == "True") {
        Some(true) => "Ready".to_owned(),
        Some(false) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if spec["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<String> = Vec::new();
    for (label, value) in meta["labels"].as_object().into_iter().flatten() {
        if let Some(role) = label.strip_prefix("node-role.kubernetes.io/") {
            roles.push(role.to_owned());
        } else if label == "kubernetes.io/role" {
            roles.push(text(value));
        }
    }
    roles.sort();
    let address = |ty: &str| {
        let found = list(&status["addresses"]).iter().find(|address| address["type"] == ty);
        or(found.map(|address| text(&address["address"])).unwrap_or_default(), "<none>")
    };
    let info = &status["nodeInfo"];
    let unknown = |field: &str| or(text(&info[field]), "<unknown>");
    vec![
        meta["name"].clone(),
        state.into(),
        or(roles.join(","), "<none>"),
        age(&meta["creationTimestamp"], now),
        text(&info["kubeletVersion"]).into(),
        address("InternalIP"),
        address("ExternalIP"),
        unknown("osImage"),
        match (text(&info["kernelVersion"]), text(&info["architecture"])) {
            (kernel, _) if kernel.is_empty() => "<unknown>".into(),
            (kernel, machine) if machine.is_empty() => kernel.into(),
            (kernel, machine) => format!("{kernel} ({machine})").into(),
        },
        unknown("containerRuntimeVersion"),
    ]
}
