//! Ingresses.

use serde_json::Value;

use crate::names;
use crate::names::text::port_name;
use crate::status::Cause;
use crate::validate::at::At;

/// A new or changed Ingress.
pub(in crate::validate) fn ingress(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let spec = At::new(&object["spec"], "spec");
    let rules = spec.items("rules");
    if rules.is_empty() && !spec.has("defaultBackend") {
        let detail = "either `defaultBackend` or `rules` must be specified";
        causes.push(Cause::invalid_text("spec", "null", detail));
    }
    if spec.has("defaultBackend") {
        backend(&spec.get("defaultBackend"), causes);
    }
    for rule in &rules {
        host(&rule.get("host"), causes);
        let http = rule.get("http");
        if !http.is_set() {
            continue;
        }
        let paths = http.items("paths");
        if paths.is_empty() {
            http.get("paths").required("", causes);
        }
        for path in paths {
            ingress_path(&path, causes);
        }
    }
    for tls in spec.items("tls") {
        for name in tls.items("hosts") {
            name.all(host_error(name.own_text()), causes);
        }
        let secret = tls.get("secretName");
        if !secret.own_text().is_empty() {
            secret.subdomain(causes);
        }
    }
    if spec.has("ingressClassName") {
        spec.get("ingressClassName").subdomain(causes);
    }
    let annotation = &object["metadata"]["annotations"][CLASS];
    if old.is_none()
        && annotation.is_string()
        && spec.has("ingressClassName")
        && *annotation != spec.value["ingressClassName"]
    {
        let detail = "must match `ingressClassName` when both are specified";
        causes.push(Cause::invalid(format!("annotations.{CLASS}"), annotation, detail));
    }
}

fn host_error(name: &str) -> Option<String> {
    if name.contains('*') { names::wildcard(name).into_iter().next() } else { names::subdomain(name) }
}

fn host(host: &At<'_>, causes: &mut Vec<Cause>) {
    let name = host.own_text();
    if name.is_empty() {
        return;
    }
    if names::is_ip(name) {
        host.invalid("must be a DNS name, not an IP address", causes);
    }
    host.all(host_error(name), causes);
}

fn ingress_path(path: &At<'_>, causes: &mut Vec<Cause>) {
    let (ty, place) = (path.get("pathType"), path.get("path"));
    let found = place.own_text();
    if !ty.is_set() {
        return ty.required("pathType must be specified", causes);
    }
    match ty.own_text() {
        "Exact" | "Prefix" => {
            if !found.starts_with('/') {
                place.all(["must be an absolute path".to_owned()], causes);
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|bad| found.contains(**bad)) {
                place.invalid(&format!("must not contain '{bad}'"), causes);
            }
            for bad in ["/..", "/."].iter().filter(|bad| found.ends_with(**bad)) {
                place.invalid(&format!("cannot end with '{bad}'"), causes);
            }
        }
        "ImplementationSpecific" => {
            if !found.is_empty() && !found.starts_with('/') {
                place.invalid("must be an absolute path", causes);
            }
        }
        _ => ty.unsupported(&["Exact", "ImplementationSpecific", "Prefix"], causes),
    }
    backend(&path.get("backend"), causes);
}

fn backend(backend: &At<'_>, causes: &mut Vec<Cause>) {
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => backend.invalid_as("", "cannot set both resource and service backends", causes),
        (false, false) => backend.invalid_as("", "resource or service backend is required", causes),
        (false, true) => reference(&resource, causes),
        (true, false) => service_backend(backend, &service, causes),
    }
}

fn reference(resource: &At<'_>, causes: &mut Vec<Cause>) {
    if resource.has("apiGroup") {
        resource.get("apiGroup").subdomain(causes);
    }
    for field in ["kind", "name"] {
        match resource.text(field) {
            "" => resource.get(field).required("", causes),
            text => resource.get(field).all(names::path_segment(text), causes),
        }
    }
}

fn service_backend(backend: &At<'_>, service: &At<'_>, causes: &mut Vec<Cause>) {
    let name = service.get("name");
    match name.own_text() {
        "" => name.required("", causes),
        text => name.all(names::label(text), causes),
    }
    let (port, number) = (service.get("port").get("name"), service.get("port").get("number"));
    match (port.own_text(), number.value.as_i64().unwrap_or(0)) {
        ("", 0) => backend.required("port name or number is required", causes),
        ("", _) => number.in_range(1, 65535, causes),
        (text, 0) => port.all(port_name(text), causes),
        _ => backend.invalid_as("", "cannot set both port name & port number", causes),
    }
}

/// The status of an Ingress.
pub(in crate::validate) fn ingress_status(object: &Value, causes: &mut Vec<Cause>) {
    for ingress in At::new(&object["status"], "status").get("loadBalancer").items("ingress") {
        if !ingress.text("ip").is_empty() {
            ingress.get("ip").ip(causes);
        }
        super::status_host(&ingress, causes);
    }
}
