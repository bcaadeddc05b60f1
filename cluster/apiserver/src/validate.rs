//! Checks of built-in kinds, with upstream's texts.

pub(crate) use network::service_addresses_are_sound;

mod certificate;
mod limits;
mod network;
mod pod;
mod rbac;
mod workload;

use serde_json::Value;

use crate::kinds::Kind;
use crate::names;
use crate::schema::quantity::Quantity;
use crate::status::Cause;
use crate::subresource::Door;

/// Bytes of all annotations together.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;
/// Bytes of the data of a ConfigMap or Secret.
const DATA_BYTES_MAX: usize = 1 << 20;

/// Rules for `metadata` of a new object.
pub(crate) fn metadata(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let meta = &object["metadata"];
    let name = meta["name"].as_str().unwrap_or_default();
    let generate = meta["generateName"].as_str().unwrap_or_default();
    if !generate.is_empty() && !kind.is_custom() {
        // The base may end with a dash, as it is followed by more.
        let base = format!("{}x", generate.trim_end_matches('-'));
        for detail in check_name(kind, &base) {
            causes.push(Cause::invalid(
                "metadata.generateName",
                &generate.into(),
                &detail.replace("254", "253"),
            ));
        }
    }
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else {
        for detail in check_name(kind, name) {
            causes.push(Cause::invalid("metadata.name", &name.into(), &detail));
        }
    }
    common(meta, causes);
}

/// Rules for `metadata` of a changed object.
pub(crate) fn metadata_update(kind: &Kind, old: &Value, object: &Value, causes: &mut Vec<Cause>) {
    let meta = &object["metadata"];
    let _ = kind;
    common(meta, causes);
    if meta["uid"] != old["metadata"]["uid"] {
        causes.push(Cause::invalid("metadata.uid", &meta["uid"], "field is immutable"));
    }
    if !old["metadata"]["deletionTimestamp"].is_null() {
        let before = old["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let after = meta["finalizers"].as_array().cloned().unwrap_or_default();
        let added: Vec<&Value> = after.iter().filter(|name| !before.contains(name)).collect();
        if !added.is_empty() {
            let names: Vec<String> =
                added.iter().map(|name| format!("\"{}\"", name.as_str().unwrap_or_default())).collect();
            let text = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                names.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", &text));
        }
    }
}

fn common(meta: &Value, causes: &mut Vec<Cause>) {
    labels(&meta["labels"], "metadata.labels", causes);
    let mut size = 0;
    for (key, value) in meta["annotations"].as_object().into_iter().flatten() {
        for detail in names::qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &key.clone().into(), &detail));
        }
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_BYTES_MAX {
        causes.push(Cause::too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX));
    }
    for (at, owner) in meta["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let text =
                    format!("{} must not be empty", if field == "apiVersion" { "version" } else { field });
                causes.push(Cause::invalid(
                    format!("metadata.ownerReferences[{at}].{field}"),
                    &owner[field],
                    &text,
                ));
            }
        }
    }
    let controllers = meta["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|owner| owner["controller"] == true)
        .count();
    if controllers > 1 {
        let text = "Only one reference can have Controller set to true. Found \"true\" in references for more than one";
        causes.push(Cause::invalid("metadata.ownerReferences", &meta["ownerReferences"], text));
    }
    for (at, finalizer) in meta["finalizers"].as_array().into_iter().flatten().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        for detail in names::qualified_name(text) {
            causes.push(Cause::invalid(format!("metadata.finalizers[{at}]"), finalizer, &detail));
        }
    }
}

/// Rules for labels at `path`.
pub(crate) fn labels(labels: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for detail in names::qualified_name(key) {
            causes.push(Cause::invalid(path, &key.clone().into(), &detail));
        }
        if let Some(detail) = names::label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(path, value, &detail));
        }
    }
}

fn check_name(kind: &Kind, name: &str) -> Vec<String> {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "namespaces") => names::label(name),
        ("", "services") => names::label(name),
        ("rbac.authorization.k8s.io", _) => names::path_segment(name),
        _ => names::subdomain(name).into_iter().collect(),
    }
}

/// Checks a new object.
pub(crate) fn create(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod::spec(spec, "spec", causes),
        ("", "configmaps") => config(object, causes),
        ("", "secrets") => secret(object, causes),
        ("", "services") => network::service(object, causes),
        ("", "resourcequotas") => limits::quota(object, causes),
        ("", "limitranges") => limits::range(object, causes),
        ("certificates.k8s.io", "certificatesigningrequests") => certificate::request(object, causes),
        ("", "persistentvolumeclaims") => claim(spec, causes),
        ("apps", "deployments") => workload::deployment(object, causes),
        ("apps", "replicasets") => workload::replica_set(object, causes),
        ("apps", "daemonsets") => workload::daemon_set(object, causes),
        ("apps", "statefulsets") => workload::stateful_set(object, causes),
        ("batch", "jobs") => workload::job(object, causes),
        ("batch", "cronjobs") => workload::cron_job(object, causes),
        ("networking.k8s.io", "ingresses") => network::ingress(object, causes),
        ("networking.k8s.io", "ipaddresses") => {
            let name = &object["metadata"]["name"];
            let wrong = names::net::ip(name.as_str().unwrap_or_default());
            causes.extend(wrong.iter().map(|detail| Cause::invalid("metadata.name", name, detail)));
        }
        ("networking.k8s.io", "servicecidrs") => {
            for (at, network) in list(&spec["cidrs"]).iter().enumerate() {
                for detail in names::net::cidr(network.as_str().unwrap_or_default()) {
                    causes.push(Cause::invalid(format!("spec.cidrs[{at}]"), network, &detail));
                }
            }
        }
        ("networking.k8s.io", "networkpolicies") => network::network_policy(object, causes),
        ("policy", "poddisruptionbudgets") => budget(object, causes),
        ("autoscaling", "horizontalpodautoscalers") => autoscaler(spec, causes),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            rbac::role(object, kind.namespaced, causes);
        }
        ("rbac.authorization.k8s.io", _) => rbac::binding(object, kind.namespaced, causes),
        ("coordination.k8s.io", "leases") => {
            if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|seconds| *seconds <= 0) {
                causes.push(Cause::invalid(
                    "spec.leaseDurationSeconds",
                    &seconds.into(),
                    "must be greater than 0",
                ));
            }
        }
        _ => {}
    }
}

/// Checks a status that is written by itself.
pub(crate) fn status(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "services") | ("networking.k8s.io", "ingresses") => network::load_balancer(object, causes),
        ("", "resourcequotas") => limits::quota(object, causes),
        ("certificates.k8s.io", "certificatesigningrequests") => certificate::conditions(object, causes),
        _ => {}
    }
}

/// Checks a changed object.
pub(crate) fn update(kind: &Kind, door: &Door, old: &Value, object: &Value, causes: &mut Vec<Cause>) {
    match (kind.group.as_str(), kind.plural.as_str(), door.name()) {
        ("", "pods", "") => pod::update(old, object, causes),
        ("", "pods", "ephemeralcontainers") => pod::ephemeral(old, object, causes),
        ("certificates.k8s.io", "certificatesigningrequests", _) => certificate::conditions(object, causes),
        (_, _, "finalize" | "approval" | "resize") => {}
        ("", "resourcequotas", _) => {
            limits::quota(object, causes);
            limits::quota_update(old, object, causes);
        }
        ("", "configmaps", _) => {
            frozen(old, object, &["data", "binaryData"], causes);
            config(object, causes);
        }
        ("", "secrets", _) => {
            immutable(old, object, "type", causes);
            frozen(old, object, &["data"], causes);
            secret(object, causes);
        }
        ("", "services", _) => network::service_update(old, object, causes),
        ("", "persistentvolumeclaims", _) => claim_update(old, object, causes),
        ("apps", "statefulsets", _) => {
            create(kind, object, causes);
            workload::stateful_set_update(old, object, causes);
        }
        ("apps", "deployments" | "replicasets" | "daemonsets", _) => {
            create(kind, object, causes);
            workload::selector_update(old, object, causes);
        }
        ("batch", "jobs", _) => {
            // A Job that was taken once has a sound selector; its uid never changes.
            create(kind, object, causes);
            workload::job_update(old, object, causes);
        }
        ("scheduling.k8s.io", "priorityclasses", _) => {
            if old["value"] != object["value"] {
                causes.push(Cause::forbidden("value", "may not be changed in an update."));
            }
            immutable(old, object, "preemptionPolicy", causes);
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings", _) => {
            if old["roleRef"] != object["roleRef"] {
                causes.push(Cause::invalid("roleRef", &object["roleRef"], "cannot change roleRef"));
            }
            create(kind, object, causes);
        }
        ("storage.k8s.io", "storageclasses", _) => {
            for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                if old[field] != object[field] {
                    causes.push(Cause::forbidden(field, "updates to parameters are forbidden."));
                }
            }
        }
        _ => create(kind, object, causes),
    }
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn in_range(number: i64, low: i64, high: i64, path: &str, causes: &mut Vec<Cause>) {
    if let Some(detail) = names::text::in_range(number, low, high) {
        causes.push(Cause::invalid(path, &number.into(), &detail));
    }
}

fn at_least_zero(object: &Value, field: &str, path: &str, causes: &mut Vec<Cause>) {
    if let Some(number) = object[field].as_i64().filter(|number| *number < 0) {
        causes.push(Cause::invalid(
            format!("{path}.{field}"),
            &number.into(),
            "must be greater than or equal to 0",
        ));
    }
}

/// A word that is given must be one of these.
fn one_of(object: &Value, field: &str, known: &[&str], path: &str, causes: &mut Vec<Cause>) {
    if let Some(word) = object[field].as_str()
        && !known.contains(&word)
    {
        causes.push(Cause::not_supported(format!("{path}.{field}"), &word.into(), known));
    }
}

/// A port by number or name.
fn port_number(port: &Value, path: &str, causes: &mut Vec<Cause>) {
    match port {
        Value::String(name) => {
            causes
                .extend(names::text::port_name(name).iter().map(|detail| Cause::invalid(path, port, detail)));
        }
        number => in_range(number.as_i64().unwrap_or(0), 1, 65535, path, causes),
    }
}

/// A count or a percentage.
fn int_or_percent(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::String(text) => {
            if let Some(detail) = names::text::percent(text) {
                causes.push(Cause::invalid(path, value, &detail));
            }
        }
        number => {
            if number.as_i64().is_some_and(|number| number < 0) {
                causes.push(Cause::invalid(path, number, "must be greater than or equal to 0"));
            }
        }
    }
}

fn immutable(old: &Value, new: &Value, field: &str, causes: &mut Vec<Cause>) {
    if old[field] != new[field] {
        causes.push(Cause::invalid(field, &new[field], "field is immutable"));
    }
}

/// Objects that called themselves immutable.
fn frozen(old: &Value, new: &Value, fields: &[&str], causes: &mut Vec<Cause>) {
    const TEXT: &str = "field is immutable when `immutable` is set";
    if old["immutable"] != true {
        return;
    }
    if new["immutable"] != true {
        causes.push(Cause::forbidden("immutable", TEXT));
    }
    for field in fields {
        // The values may be secret: they are not repeated.
        if old[*field] != new[*field] {
            causes.push(Cause::forbidden(*field, TEXT));
        }
    }
}

fn keys(map: &Value, field: &str, causes: &mut Vec<Cause>) -> usize {
    let mut size = 0;
    for (key, value) in map.as_object().into_iter().flatten() {
        for detail in names::config_key(key) {
            causes.push(Cause::invalid(format!("{field}[{key}]"), &key.clone().into(), &detail));
        }
        size += value.as_str().unwrap_or_default().len();
    }
    size
}

fn config(object: &Value, causes: &mut Vec<Cause>) {
    let mut size = keys(&object["data"], "data", causes);
    for (key, _) in object["data"].as_object().into_iter().flatten() {
        if object["binaryData"].get(key).is_some() {
            causes.push(Cause::invalid(
                format!("data[{key}]"),
                &key.clone().into(),
                "duplicate of key present in binaryData",
            ));
        }
    }
    size += keys(&object["binaryData"], "binaryData", causes) / 4 * 3;
    if size > DATA_BYTES_MAX {
        causes.push(Cause::too_long("[]", DATA_BYTES_MAX));
    }
}

fn secret(object: &Value, causes: &mut Vec<Cause>) {
    let size = keys(&object["data"], "data", causes) / 4 * 3;
    if size > DATA_BYTES_MAX {
        causes.push(Cause::too_long("data", DATA_BYTES_MAX));
    }
    let required: &[&str] = match text(object, "type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in required {
        if object["data"].get(*key).is_none() {
            causes.push(Cause::required(format!("data[{key}]"), ""));
        }
    }
}

fn claim(spec: &Value, causes: &mut Vec<Cause>) {
    const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let modes = list(&spec["accessModes"]);
    if modes.is_empty() {
        causes.push(Cause::required("spec.accessModes", "at least 1 access mode is required"));
    }
    for mode in modes {
        if !mode.as_str().is_some_and(|mode| MODES.contains(&mode)) {
            causes.push(Cause::not_supported("spec.accessModes", mode, MODES));
        }
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        causes.push(Cause::forbidden(
            "spec.accessModes",
            "may not use ReadWriteOncePod with other access modes",
        ));
    }
    match &spec["resources"]["requests"]["storage"] {
        Value::Null => causes.push(Cause::required("spec.resources[storage]", "")),
        size => {
            let positive = size.as_str().and_then(Quantity::parse).is_some_and(|size| size.nano() > 0);
            if !positive {
                causes.push(Cause::invalid("spec.resources[storage]", size, "must be greater than zero"));
            }
        }
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty()
        && let Some(detail) = names::subdomain(class)
    {
        causes.push(Cause::invalid("spec.storageClassName", &class.into(), &detail));
    }
    one_of(spec, "volumeMode", &["Block", "Filesystem"], "spec", causes);
}

fn claim_update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    claim(&new["spec"], causes);
    let (before, mut after) = (&old["spec"], new["spec"].clone());
    let size = |spec: &Value| spec["resources"]["requests"]["storage"].as_str().and_then(Quantity::parse);
    let bound = old["status"]["phase"] == "Bound";
    if bound && let (Some(old_size), Some(new_size)) = (size(before), size(&after)) {
        if new_size.nano() < old_size.nano() {
            causes.push(Cause::forbidden(
                "spec.resources.requests.storage",
                "field can not be less than status.capacity",
            ));
        }
        after["resources"]["requests"]["storage"] = before["resources"]["requests"]["storage"].clone();
    }
    if text(before, "volumeName").is_empty() {
        // Binding sets the name once.
        crate::write::copy_or_remove(before, &mut after, "volumeName");
    }
    if before["storageClassName"].is_null() {
        crate::write::copy_or_remove(before, &mut after, "storageClassName");
    }
    if after != *before {
        causes.push(Cause::forbidden("spec", "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"));
    }
}

fn budget(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        causes.push(Cause::invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if !spec[field].is_null() {
            int_or_percent(&spec[field], &format!("spec.{field}"), causes);
        }
    }
}

fn autoscaler(spec: &Value, causes: &mut Vec<Cause>) {
    const METRICS: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
    let (min, max) = (spec["minReplicas"].as_i64().unwrap_or(1), spec["maxReplicas"].as_i64().unwrap_or(0));
    if min < 1 {
        causes.push(Cause::invalid("spec.minReplicas", &min.into(), "must be greater than or equal to 1"));
    }
    if max < 1 {
        causes.push(Cause::required("spec.maxReplicas", "must be set and greater than 0"));
    }
    if max < min {
        causes.push(Cause::invalid(
            "spec.maxReplicas",
            &max.into(),
            "must be greater than or equal to `minReplicas`",
        ));
    }
    let target = &spec["scaleTargetRef"];
    for field in ["kind", "name"] {
        if text(target, field).is_empty() {
            causes.push(Cause::required(format!("spec.scaleTargetRef.{field}"), ""));
        }
    }
    if text(target, "apiVersion").is_empty() {
        causes.push(Cause::invalid(
            "spec.scaleTargetRef.apiVersion",
            &"".into(),
            "apiVersion must specify API group",
        ));
    }
    if let Some(target) = spec["targetCPUUtilizationPercentage"].as_i64().filter(|target| *target < 1) {
        let field = "spec.targetCPUUtilizationPercentage";
        causes.push(Cause::invalid(field, &target.into(), "must be greater than 0"));
    }
    for (at, metric) in list(&spec["metrics"]).iter().enumerate() {
        let path = format!("spec.metrics[{at}]");
        one_of(metric, "type", METRICS, &path, causes);
        if metric["type"].is_string() {
            // Upstream reports it again where it looks for the member of that name.
            one_of(metric, "type", METRICS, &path, causes);
        }
    }
}
