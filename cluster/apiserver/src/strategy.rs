//! What differs between kinds on writes: a table of facts and a few functions.

use serde_json::{Value, json};

use crate::crd;
use crate::kinds::Kind;
use crate::status::Cause;
use crate::subresource::Door;
use crate::validate;
use crate::write::copy_or_remove;

/// Kinds whose objects count the changes of their spec.
const WITH_GENERATION: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "replicationcontrollers"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
    ("policy", "poddisruptionbudgets"),
    ("networking.k8s.io", "ingresses"),
    ("networking.k8s.io", "networkpolicies"),
    ("networking.k8s.io", "ingressclasses"),
    ("discovery.k8s.io", "endpointslices"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("resource.k8s.io", "resourceslices"),
];

/// Kinds that must be updated with a resourceVersion.
const CONDITIONAL_UPDATE: &[(&str, &str)] = &[
    ("coordination.k8s.io", "leases"),
    ("policy", "poddisruptionbudgets"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "volumeattachments"),
    ("node.k8s.io", "runtimeclasses"),
];

/// Kinds that a PUT creates.
const CREATED_BY_UPDATE: &[(&str, &str)] = &[
    ("coordination.k8s.io", "leases"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("", "endpoints"),
    ("", "services"),
    ("", "limitranges"),
    ("node.k8s.io", "runtimeclasses"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
];

fn listed(kind: &Kind, list: &[(&str, &str)]) -> bool {
    !kind.is_custom() && list.contains(&(kind.group.as_str(), kind.plural.as_str()))
}

pub(crate) fn has_generation(kind: &Kind) -> bool {
    kind.is_custom()
        || listed(kind, WITH_GENERATION)
        || kind.group == "admissionregistration.k8s.io"
        || kind.group == "flowcontrol.apiserver.k8s.io"
}

/// Whether an update without a resourceVersion is taken.
pub(crate) fn unconditional_update(kind: &Kind) -> bool {
    !(kind.is_custom() || listed(kind, CONDITIONAL_UPDATE) || kind.group == "admissionregistration.k8s.io")
}

pub(crate) fn creates_on_update(kind: &Kind) -> bool {
    listed(kind, CREATED_BY_UPDATE)
}

/// Whether anything has changed that the generation counts.
pub(crate) fn spec_changed(kind: &Kind, old: &Value, new: &Value) -> bool {
    let counts = |name: &str| match name {
        "metadata" | "apiVersion" | "kind" => false,
        "status" => !kind.has_status(),
        _ => true,
    };
    let differ = || {
        let members = |object: &'_ Value| {
            object.as_object().into_iter().flatten().filter(|(name, _)| counts(name)).count()
        };
        let known = |name: &str, value: &Value| new.get(name).is_some_and(|other| other == value);
        let mut of_old = old.as_object().into_iter().flatten().filter(|(name, _)| counts(name));
        members(old) != members(new) || !of_old.all(|(name, value)| known(name, value))
    };
    let labels = kind.is("discovery.k8s.io", "endpointslices")
        && old["metadata"]["labels"] != new["metadata"]["labels"];
    !kind.is("scheduling.k8s.io", "priorityclasses") && (labels || differ())
}

/// Whether an object under deletion stays until `/finalize` is called.
pub(crate) fn waits_for_finalize(kind: &Kind, object: &Value) -> bool {
    kind.is("", "namespaces") && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// Fields nobody comes to own through a door, since it resets them.
pub(crate) fn reset_fields(kind: &Kind, door: &Door) -> Option<dodai_merge::fields::Set> {
    let paths: &[&str] = match door {
        Door::Main if kind.has_status() => &["status"],
        Door::Status if kind.is("apps", "deployments") => &["spec", "metadata.labels"],
        Door::Status if kind.is("", "pods") => {
            &["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"]
        }
        Door::Status if kind.is_custom() => &["spec", "metadata"],
        Door::Status => &["spec"],
        _ => return None,
    };
    Some(crate::fieldset::of(paths))
}

/// Sets the defaults of a built-in kind; whether it has any.
pub(crate) fn defaults(kind: &Kind, object: &mut Value) -> bool {
    crate::defaults::set_defaults(kind, object)
}

/// What the server decides when an object is created.
pub(crate) fn prepare_create(kind: &Kind, object: &mut Value) {
    let keeps_status = matches!(
        (kind.group.as_str(), kind.plural.as_str()),
        ("", "nodes") | ("storage.k8s.io", "volumeattachments") | ("", "persistentvolumes")
    );
    if kind.has_status() && !keeps_status {
        object.as_object_mut().map(|map| map.remove("status"));
    }
    dropped(kind, None, object);
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => {
            object["status"] = json!({ "phase": "Pending", "qosClass": crate::pod::qos_class(object) });
            crate::pod::scheduling_gates(object);
        }
        ("", "namespaces") => {
            object["status"] = json!({ "phase": "Active" });
            let finalizers = &mut object["spec"]["finalizers"];
            let has = finalizers.as_array().is_some_and(|list| list.iter().any(|name| name == "kubernetes"));
            if !has {
                let mut list = finalizers.as_array().cloned().unwrap_or_default();
                list.push("kubernetes".into());
                *finalizers = list.into();
            }
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        ("", "limitranges") if object["metadata"]["name"].as_str().unwrap_or_default().is_empty() => {
            object["metadata"]["name"] = uuid::Uuid::new_v4().to_string().into();
        }
        ("", "persistentvolumeclaims") => object["status"] = json!({ "phase": "Pending" }),
        ("", "persistentvolumes") => {
            object["status"] = json!({ "phase": "Pending", "lastPhaseTransitionTime": crate::write::now() });
        }
        ("batch", "jobs") => {
            crate::pod::job_selector(object);
            if object["metadata"]["labels"].as_object().is_none_or(|labels| labels.is_empty()) {
                object["metadata"]["labels"] = object["spec"]["template"]["metadata"]["labels"].clone();
            }
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            let storage = object["spec"]["versions"].as_array().into_iter().flatten();
            let storage = storage.into_iter().find(|version| version["storage"] == true);
            let stored: Vec<Value> = storage.map(|version| version["name"].clone()).into_iter().collect();
            object["status"] = json!({ "storedVersions": stored });
        }
        ("certificates.k8s.io", "certificatesigningrequests") => object["status"] = json!({}),
        _ => {}
    }
}

/// Takes away fields of features that are off, unless the old object has them.
fn dropped(kind: &Kind, old: Option<&Value>, object: &mut Value) {
    let unset = |pointer: &str| old.is_none_or(|old| old.pointer(pointer).is_none_or(Value::is_null));
    let spec = |path: &str| if unset(&format!("/spec/{path}")) { Some(path.to_owned()) } else { None };
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("coordination.k8s.io", "leases") => {
            for field in ["strategy", "preferredHolder"].into_iter().filter_map(spec) {
                object["spec"].as_object_mut().map(|spec| spec.remove(&field));
            }
        }
        ("discovery.k8s.io", "endpointslices") if old.is_none() => {
            for endpoint in object["endpoints"].as_array_mut().into_iter().flatten() {
                endpoint.as_object_mut().map(|endpoint| endpoint.remove("deprecatedTopology"));
            }
        }
        ("", "serviceaccounts") => {
            // Of a Secret that may be used only the name counts.
            for secret in object["secrets"].as_array_mut().into_iter().flatten() {
                let name = secret["name"].as_str().unwrap_or_default();
                *secret = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
            }
        }
        ("", "persistentvolumeclaims") => {
            data_sources(old.map(|old| &old["spec"]), &mut object["spec"]);
        }
        ("", "pods") => {
            for part in ["nodeAllocatableResourceClaimStatuses"] {
                if unset(&format!("/status/{part}")) {
                    object["status"].as_object_mut().map(|status| status.remove(part));
                }
            }
            dropped_of_pods(old.map(|old| &old["spec"]), &mut object["spec"]);
        }
        ("apps", plural) => {
            if plural == "statefulsets" && unset("/spec/updateStrategy/rollingUpdate/maxUnavailable") {
                let rolling = object.pointer_mut("/spec/updateStrategy/rollingUpdate");
                rolling.and_then(Value::as_object_mut).map(|rolling| rolling.remove("maxUnavailable"));
            }
            let before = old.map(|old| &old["spec"]["template"]["spec"]);
            dropped_of_pods(before, &mut object["spec"]["template"]["spec"]);
        }
        ("batch", "jobs") => {
            let before = old.map(|old| &old["spec"]["template"]["spec"]);
            dropped_of_pods(before, &mut object["spec"]["template"]["spec"]);
        }
        ("batch", "cronjobs") => {
            let inner = "/spec/jobTemplate/spec/template/spec";
            let before = old.and_then(|old| old.pointer(inner));
            if let Some(spec) = object.pointer_mut(inner) {
                dropped_of_pods(before, spec);
            }
        }
        _ => {}
    }
}

/// The two ways to name what a claim is filled from say the same.
fn data_sources(old: Option<&Value>, spec: &mut Value) {
    const OLD_WAY: &str = "dataSource";
    const NEW_WAY: &str = "dataSourceRef";
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let used = |field: &str| old.is_some_and(|old| !old[field].is_null());
    if !text(&spec[NEW_WAY], "namespace").is_empty() && !used(NEW_WAY) {
        spec.as_object_mut().map(|spec| spec.remove(NEW_WAY));
    }
    let (group, kind) = (text(&spec[OLD_WAY], "apiGroup"), text(&spec[OLD_WAY], "kind"));
    let known = group.is_empty() && kind == "PersistentVolumeClaim"
        || group == "snapshot.storage.k8s.io" && kind == "VolumeSnapshot";
    if !used(OLD_WAY) && !used(NEW_WAY) && spec[NEW_WAY].is_null() && !known {
        spec.as_object_mut().map(|spec| spec.remove(OLD_WAY));
    }
    if spec[OLD_WAY].is_object() && spec[NEW_WAY].is_null() {
        spec[NEW_WAY] = spec[OLD_WAY].clone();
    } else if spec[NEW_WAY].is_object()
        && spec[OLD_WAY].is_null()
        && text(&spec[NEW_WAY], "namespace").is_empty()
    {
        let mut source = spec[NEW_WAY].clone();
        source.as_object_mut().map(|source| source.remove("namespace"));
        spec[OLD_WAY] = source;
    }
}

fn dropped_of_pods(old: Option<&Value>, spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    if old.is_none_or(|old| old["schedulingGroup"].is_null()) {
        spec.as_object_mut().map(|spec| spec.remove("schedulingGroup"));
    }
    let signals = |spec: &Value| {
        ["containers", "initContainers"].iter().any(|list| {
            let containers = spec[*list].as_array().into_iter().flatten();
            containers.into_iter().any(|container| !container["lifecycle"]["stopSignal"].is_null())
        })
    };
    if old.is_some_and(signals) {
        return;
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut) {
                lifecycle.remove("stopSignal");
            }
        }
    }
}

/// What an update through a door cannot change comes from the old object.
pub(crate) fn prepare_update(kind: &Kind, door: &Door, old: &Value, object: &mut Value) {
    dropped(kind, Some(old), object);
    match door {
        Door::Main => main_update(kind, old, object),
        // A Scale is an update like any other, under another name.
        Door::Part(name) if name == "scale" => main_update(kind, old, object),
        Door::Status => {
            let status = object["status"].take();
            let meta = object["metadata"].take();
            let mut kept = old.clone();
            if status.is_null() {
                kept.as_object_mut().map(|map| map.remove("status"));
            } else {
                kept["status"] = status;
            }
            if kind.is_custom() {
                copy_or_remove(&meta, &mut kept["metadata"], "managedFields");
                copy_or_remove(&meta, &mut kept["metadata"], "resourceVersion");
            } else {
                kept["metadata"] = meta;
                if kind.group == "apps" || kind.is("", "pods") || kind.is("networking.k8s.io", "ingresses") {
                    if kind.is("apps", "deployments") {
                        copy_or_remove(&old["metadata"], &mut kept["metadata"], "labels");
                    }
                    copy_or_remove(&old["metadata"], &mut kept["metadata"], "ownerReferences");
                }
            }
            if kind.is("", "pods") {
                kept["status"]["qosClass"] = crate::pod::qos_class(&kept).into();
            }
            *object = kept;
        }
        Door::Part(name) => {
            let mut kept = old.clone();
            let meta = object["metadata"].take();
            if name == "finalize" {
                kept["metadata"] = meta;
            } else {
                copy_or_remove(&meta, &mut kept["metadata"], "managedFields");
                copy_or_remove(&meta, &mut kept["metadata"], "resourceVersion");
            }
            match name.as_str() {
                "finalize" => copy_or_remove(&object["spec"].clone(), &mut kept["spec"], "finalizers"),
                "ephemeralcontainers" => {
                    copy_or_remove(&object["spec"].clone(), &mut kept["spec"], "ephemeralContainers");
                }
                "approval" => copy_or_remove(&object["status"].clone(), &mut kept["status"], "conditions"),
                "resize" => crate::pod::take_resources(object, &mut kept),
                _ => {}
            }
            *object = kept;
        }
    }
}

/// An update through the main door.
fn main_update(kind: &Kind, old: &Value, object: &mut Value) {
    if kind.has_status() {
        copy_or_remove(old, object, "status");
    }
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "namespaces") => {
            copy_or_remove(&old["spec"].clone(), &mut object["spec"], "finalizers");
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        ("", "pods") => crate::admission::tolerations(&mut object["spec"]),
        ("apiextensions.k8s.io", "customresourcedefinitions") => stored_versions(object),
        ("apps", "daemonsets") => template_generation(old, object),
        ("certificates.k8s.io", "certificatesigningrequests") => copy_or_remove(old, object, "spec"),
        _ => {}
    }
}

fn template_generation(old: &Value, object: &mut Value) {
    let field = crate::defaults::TEMPLATE_GENERATION;
    let before: i64 =
        old["metadata"]["annotations"][field].as_str().and_then(|text| text.parse().ok()).unwrap_or(1);
    let changed = old["spec"]["template"] != object["spec"]["template"];
    object["metadata"]["annotations"][field] = (before + i64::from(changed)).to_string().into();
}

fn stored_versions(object: &mut Value) {
    let versions = object["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let Some(storage) = versions.iter().find(|version| version["storage"] == true) else { return };
    let name = storage["name"].clone();
    if let Some(stored) = object["status"]["storedVersions"].as_array_mut()
        && !stored.contains(&name)
    {
        stored.push(name);
    }
}

/// Checks a new object of a built-in kind.
pub(crate) fn validate(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        crd::check::validate(object, causes);
        return;
    }
    if kind.group == "admissionregistration.k8s.io" {
        crate::admission::validate_configuration(kind, None, object, causes);
        return;
    }
    if !kind.is_custom() {
        validate::create(kind, object, causes);
    }
}

/// Checks an update of a built-in kind.
pub(crate) fn validate_update(
    kind: &Kind,
    door: &Door,
    old: &Value,
    object: &Value,
    causes: &mut Vec<Cause>,
) {
    if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        match door.is_main() {
            true => crd::check::validate_update(old, object, causes),
            false => crd::check::validate_status(object, causes),
        }
        return;
    }
    if kind.group == "admissionregistration.k8s.io" && door.is_main() {
        crate::admission::validate_configuration(kind, Some(old), object, causes);
        return;
    }
    if kind.is_custom() {
        return;
    }
    match door {
        Door::Status => validate::status(kind, old, object, causes),
        _ => validate::update(kind, door, old, object, causes),
    }
}
