//! Default classes of claims and Ingresses, and finalizers that keep what is in use.

use std::cmp::Reverse;

use serde_json::Value;

use crate::write::Request;

/// The newest object of a resource that an annotation marks as the default.
fn default_of(request: &Request<'_>, resource: &str, annotation: &str) -> Option<String> {
    let marked = request.server.store.list(&resource.into(), "").objects.into_iter().filter_map(|object| {
        let meta = &object.value()["metadata"];
        let time = meta["creationTimestamp"].as_str().unwrap_or_default().to_owned();
        (meta["annotations"][annotation] == "true").then(|| (time, Reverse(object.name.to_string())))
    });
    marked.max().map(|(_, Reverse(name))| name)
}

/// A claim without a class gets the default one.
pub(super) fn claim(request: &Request<'_>, object: &mut Value) {
    protect(object, "kubernetes.io/pvc-protection");
    let legacy = "volume.beta.kubernetes.io/storage-class";
    if !object["spec"]["storageClassName"].is_null() || !object["metadata"]["annotations"][legacy].is_null() {
        return;
    }
    let annotation = "storageclass.kubernetes.io/is-default-class";
    if let Some(class) = default_of(request, "storage.k8s.io/storageclasses", annotation) {
        object["spec"]["storageClassName"] = class.into();
    }
}

/// An Ingress without a class gets the default one, if there is any.
pub(super) fn ingress_class(request: &Request<'_>, object: &mut Value) {
    let legacy = "kubernetes.io/ingress.class";
    if !object["spec"]["ingressClassName"].is_null() || !object["metadata"]["annotations"][legacy].is_null() {
        return;
    }
    let annotation = "ingressclass.kubernetes.io/is-default-class";
    if let Some(class) = default_of(request, "networking.k8s.io/ingressclasses", annotation) {
        object["spec"]["ingressClassName"] = class.into();
    }
}

pub(super) fn protect(object: &mut Value, finalizer: &str) {
    let finalizers = &mut object["metadata"]["finalizers"];
    let mut list = finalizers.as_array().cloned().unwrap_or_default();
    if !list.iter().any(|known| known == finalizer) {
        list.push(finalizer.into());
        *finalizers = list.into();
    }
}
