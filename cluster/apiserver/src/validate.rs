//! Checks of built-in kinds, with upstream's texts.

pub(crate) use network::{service_addresses, service_addresses_are_sound};
pub(crate) use status::status;

mod at;
mod autoscaling;
mod certificate;
mod claim;
mod cron;
mod job;
mod limits;
mod network;
mod pod;
mod rbac;
mod selector;
mod small;
mod status;
mod workload;

use serde_json::Value;

use self::at::At;
use crate::kinds::Kind;
use crate::names;
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
    generate_name(kind, meta, causes);
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else {
        for detail in check_name(kind, name) {
            causes.push(Cause::invalid("metadata.name", &name.into(), &detail));
        }
    }
    common(meta, causes);
    finalizers(kind, meta, causes);
}

fn generate_name(kind: &Kind, meta: &Value, causes: &mut Vec<Cause>) {
    let generate = text(meta, "generateName");
    if generate.is_empty() {
        return;
    }
    // The base may end with a dash, as it is followed by more.
    let base = format!("{}x", generate.trim_end_matches('-'));
    for detail in check_name(kind, &base) {
        causes.push(Cause::invalid("metadata.generateName", &generate.into(), &detail.replace("254", "253")));
    }
}

/// Rules for `metadata` of a changed object.
pub(crate) fn metadata_update(kind: &Kind, old: &Value, object: &Value, causes: &mut Vec<Cause>) {
    let meta = &object["metadata"];
    common(meta, causes);
    let whole = |(group, plurals): &(&str, &[&str])| kind.group == *group && plurals.contains(&&*kind.plural);
    if !kind.is_custom() && CHECKED_AS_NEW.iter().any(whole) {
        generate_name(kind, meta, causes);
    }
    finalizers(kind, meta, causes);
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
    annotations(&meta["annotations"], "metadata.annotations", causes);
    for owner in list(&meta["ownerReferences"]) {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let detail =
                    if field == "apiVersion" { "version must not be empty" } else { "must not be empty" };
                // The position is not told.
                causes.push(Cause::invalid(format!("metadata.ownerReferences.{field}"), &"".into(), detail));
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
}

/// Names of finalizers that need no domain.
const FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];

/// Rules for finalizers; kinds outside the common rules check less.
fn finalizers(kind: &Kind, meta: &Value, causes: &mut Vec<Cause>) {
    let list = At::new(&meta["finalizers"], "metadata.finalizers");
    for finalizer in list.elements() {
        finalizer.moved(&list.path).qualified(causes);
    }
    if kind.is_custom()
        || kind.is("coordination.k8s.io", "leases")
        || kind.is("policy", "poddisruptionbudgets")
    {
        return;
    }
    for finalizer in list.elements() {
        let name = finalizer.own_text();
        if !name.contains('/') && !FINALIZERS.contains(&name) {
            finalizer.invalid("name is neither a standard finalizer name nor is it fully qualified", causes);
        }
    }
}

/// Kinds whose update is checked as a creation is, with all of the metadata.
const CHECKED_AS_NEW: &[(&str, &[&str])] = &[
    ("", &["pods", "configmaps", "secrets", "persistentvolumeclaims", "serviceaccounts", "limitranges"]),
    ("batch", &["jobs"]),
    ("networking.k8s.io", &["ingresses"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("rbac.authorization.k8s.io", &["roles", "rolebindings", "clusterroles", "clusterrolebindings"]),
];

/// Rules for annotations at `path`.
fn annotations(map: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in map.as_object().into_iter().flatten() {
        for detail in names::qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid(path, &key.clone().into(), &detail));
        }
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_BYTES_MAX {
        causes.push(Cause::too_long(path, ANNOTATIONS_BYTES_MAX));
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
        ("", "services") | ("apps", "statefulsets") => names::label(name),
        ("rbac.authorization.k8s.io" | "policy", _) => names::path_segment(name),
        _ => names::subdomain(name).into_iter().collect(),
    }
}

/// Checks a new object.
pub(crate) fn create(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod::create(object, causes),
        ("", "configmaps") => config(object, causes),
        ("", "secrets") => secret(object, causes),
        ("", "services") => network::service(object, causes),
        ("", "resourcequotas") => limits::quota(object, causes),
        ("", "limitranges") => limits::range(object, causes),
        ("certificates.k8s.io", "certificatesigningrequests") => certificate::request(object, causes),
        ("", "persistentvolumeclaims") => claim::spec(&At::new(&object["spec"], "spec"), causes),
        ("apps", "deployments") => workload::deployment(object, causes),
        ("apps", "replicasets") => workload::replica_set(object, causes),
        ("apps", "daemonsets") => workload::daemon_set(object, causes),
        ("apps", "statefulsets") => workload::stateful_set(None, object, causes),
        ("batch", "jobs") => job::job(object, causes),
        ("batch", "cronjobs") => cron::cron_job(None, object, causes),
        ("networking.k8s.io", "ingresses") => network::ingress(None, object, causes),
        ("networking.k8s.io", "ipaddresses") => {
            let name = &object["metadata"]["name"];
            let wrong = names::net::ip(name.as_str().unwrap_or_default());
            causes.extend(wrong.iter().map(|detail| Cause::invalid("metadata.name", name, detail)));
        }
        ("networking.k8s.io", "servicecidrs") => {
            for (at, network) in list(&object["spec"]["cidrs"]).iter().enumerate() {
                for detail in names::net::cidr(network.as_str().unwrap_or_default()) {
                    causes.push(Cause::invalid(format!("spec.cidrs[{at}]"), network, &detail));
                }
            }
        }
        ("networking.k8s.io", "networkpolicies") => network::network_policy(object, causes),
        ("policy", "poddisruptionbudgets") => small::budget(object, causes),
        ("autoscaling", "horizontalpodautoscalers") => autoscaling::autoscaler(object, causes),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            rbac::role(object, kind.namespaced, causes);
        }
        ("rbac.authorization.k8s.io", _) => rbac::binding(object, kind.namespaced, causes),
        ("coordination.k8s.io", "leases") => small::lease(object, causes),
        ("discovery.k8s.io", "endpointslices") => small::endpoint_slice(None, object, causes),
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
        ("", "persistentvolumeclaims", _) => claim::update(old, object, causes),
        ("apps", "statefulsets", _) => workload::stateful_set_update(old, object, causes),
        ("apps", "deployments" | "replicasets" | "daemonsets", _) => {
            create(kind, object, causes);
            workload::selector_update(old, object, causes);
        }
        ("batch", "jobs", _) => job::job_update(old, object, causes),
        ("batch", "cronjobs", _) => cron::cron_job(Some(old), object, causes),
        ("networking.k8s.io", "ingresses", _) => network::ingress(Some(old), object, causes),
        ("discovery.k8s.io", "endpointslices", _) => {
            small::endpoint_slice(Some(old), object, causes);
        }
        ("scheduling.k8s.io", "priorityclasses", _) => {
            if old["value"] != object["value"] {
                causes.push(Cause::forbidden("value", "may not be changed in an update."));
            }
            immutable(old, object, "preemptionPolicy", causes);
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings", _) => {
            if old["roleRef"] != object["roleRef"] {
                let members = [("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")];
                let members = members.map(|(name, field)| (name, field, Value::String(String::new())));
                let shown = at::internal(&object["roleRef"], &members);
                causes.push(Cause::invalid("roleRef", &shown, "cannot change roleRef"));
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
    let data = |key: &str| object["data"].get(key);
    let required: &[&str] = match text(object, "type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/basic-auth" if data("username").is_none() && data("password").is_none() => {
            &["username", "password"]
        }
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            if text(&object["metadata"]["annotations"], ACCOUNT).is_empty() {
                causes.push(Cause::required(format!("metadata.annotations[{ACCOUNT}]"), ""));
            }
            &[]
        }
        _ => &[],
    };
    for key in required {
        if object["data"].get(*key).is_none() {
            causes.push(Cause::required(format!("data[{key}]"), ""));
        }
    }
}

/// A path that begins with a domain: `acme.io/foo`.
fn domain_prefixed_path(place: &At<'_>, causes: &mut Vec<Cause>) {
    let text = place.own_text();
    if text.is_empty() {
        return place.required("", causes);
    }
    let Some((domain, path)) =
        text.split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty())
    else {
        return place.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")", causes);
    };
    if let Some(detail) = names::subdomain(domain) {
        place.invalid_as(domain, &detail, causes);
    }
    let fine = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-.~%!$&'()*+,;=:".contains(&b));
    if !fine {
        let detail =
            "Invalid path (e.g. 'my/path', regex used for validation is '[A-Za-z0-9/\\-._~%!$&\'()*+,;=:]+')";
        place.invalid_as(path, detail, causes);
    }
}
