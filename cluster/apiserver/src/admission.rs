//! What depends on other objects: namespaces that must exist, the defaults that a cluster gives to Pods.
//!
//! Leaves out: quota, limit ranges, webhooks, policies. They are refused nowhere, since nothing here serves them as
//! active; the README names them as a known difference.

use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::server::Server;
use crate::status::{ApiError, Cause};
use crate::store::{Key, View};
use crate::write::Request;

/// 404 when the namespace of a new object does not exist.
pub(crate) fn namespace_exists(
    server: &Server,
    kind: &Kind,
    namespace: &str,
    name: &str,
) -> Result<(), ApiError> {
    let key = Key::new(&server.namespaces, "", namespace);
    match server.store.get_head(&key) {
        None => Err(ApiError::not_found("namespaces", "", namespace)),
        Some(found) if found.deleting => Err(terminating(kind, namespace, name)),
        Some(_) => Ok(()),
    }
}

/// The same, inside the write: no object can slip into a namespace that is on its way out.
pub(crate) fn namespace_open(view: &View<'_>, kind: &Kind, key: &Key) -> Result<(), ApiError> {
    if !kind.namespaced {
        return Ok(());
    }
    let namespace =
        Key { resource: "core/namespaces".into(), namespace: "".into(), name: key.namespace.clone() };
    match view.get(&namespace) {
        None => Err(ApiError::not_found("namespaces", "", &key.namespace)),
        Some(found) if found.deleting => Err(terminating(kind, &key.namespace, &key.name)),
        Some(_) => Ok(()),
    }
}

fn terminating(kind: &Kind, namespace: &str, name: &str) -> ApiError {
    let text =
        format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut error = ApiError::forbidden(&kind.plural, &kind.group, name, &text);
    error.details.get_or_insert_default().causes = vec![Cause {
        reason: "NamespaceTerminating",
        field: "metadata.namespace".into(),
        message: format!("namespace {namespace} is being terminated"),
    }];
    error
}

/// No new objects of a definition that is on its way out.
pub(crate) fn custom_open(server: &Server, kind: &Kind, key: &Key) -> Result<(), ApiError> {
    if !kind.is_custom() {
        return Ok(());
    }
    let text = "create not allowed while custom resource definition is terminating";
    let registry = server.registry();
    match registry.get(&kind.group, &kind.version, &kind.plural).and_then(|kind| kind.custom.as_ref()) {
        Some(custom) if !custom.terminating => Ok(()),
        _ => Err(ApiError::forbidden(&kind.plural, &kind.group, &key.name, text)),
    }
}

/// Changes a new object as upstream's default plugins do.
pub(crate) fn mutate(request: &Request<'_>, object: &mut Value) -> Result<(), ApiError> {
    match (request.kind.group.as_str(), request.kind.plural.as_str()) {
        ("", "pods") => pod(request, object),
        ("", "persistentvolumeclaims") => claim(request, object),
        ("certificates.k8s.io", "certificatesigningrequests") => {
            let spec = &mut object["spec"];
            spec["username"] = request.user.name.as_str().into();
            spec["groups"] = request.user.groups.clone().into();
            if !request.user.uid.is_empty() {
                spec["uid"] = request.user.uid.as_str().into();
            }
            Ok(())
        }
        ("", "persistentvolumes") => {
            protect(object, "kubernetes.io/pv-protection");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn pod(request: &Request<'_>, object: &mut Value) -> Result<(), ApiError> {
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return Ok(());
    }
    if spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        spec["serviceAccountName"] = "default".into();
    }
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    priority(request, object)?;
    tolerations(&mut object["spec"]);
    Ok(())
}

/// Pods tolerate a node that is not ready for five minutes, also after a change.
pub(crate) fn tolerations(spec: &mut Value) {
    let mut list = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = list.iter().any(|toleration| {
            let key = toleration["key"].as_str().unwrap_or_default();
            let effect = toleration["effect"].as_str().unwrap_or_default();
            (key == taint || key.is_empty()) && matches!(effect, "NoExecute" | "")
        });
        if !tolerated {
            list.push(json!({ "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }));
        }
    }
    spec["tolerations"] = list.into();
}

fn priority(request: &Request<'_>, object: &mut Value) -> Result<(), ApiError> {
    let spec = &mut object["spec"];
    let name = spec["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let (value, policy) = match name.as_str() {
        "" => (0, "PreemptLowerPriority".to_owned()),
        "system-cluster-critical" => (2_000_000_000, "PreemptLowerPriority".to_owned()),
        "system-node-critical" => (2_000_001_000, "PreemptLowerPriority".to_owned()),
        other => {
            let resource = "scheduling.k8s.io/priorityclasses".into();
            let Some(class) = request.server.store.get_head(&Key::new(&resource, "", other)) else {
                let text = format!("no PriorityClass with name {other} was found");
                return Err(ApiError::forbidden("pods", "", &crate::write::name_of(object), &text));
            };
            let class = class.value();
            let policy = class["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority").to_owned();
            (class["value"].as_i64().unwrap_or(0), policy)
        }
    };
    spec["priority"] = value.into();
    if spec["preemptionPolicy"].is_null() {
        spec["preemptionPolicy"] = policy.into();
    }
    Ok(())
}

fn claim(request: &Request<'_>, object: &mut Value) -> Result<(), ApiError> {
    protect(object, "kubernetes.io/pvc-protection");
    if !object["spec"]["storageClassName"].is_null() {
        return Ok(());
    }
    let resource = "storage.k8s.io/storageclasses".into();
    for class in request.server.store.list(&resource, "").objects {
        let value = class.value();
        let default = &value["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"];
        if default == "true" {
            object["spec"]["storageClassName"] = (*class.name).into();
        }
    }
    Ok(())
}

fn protect(object: &mut Value, finalizer: &str) {
    let finalizers = &mut object["metadata"]["finalizers"];
    let mut list = finalizers.as_array().cloned().unwrap_or_default();
    if !list.iter().any(|known| known == finalizer) {
        list.push(finalizer.into());
        *finalizers = list.into();
    }
}
