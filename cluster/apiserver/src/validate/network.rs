//! Services, Ingresses, NetworkPolicies.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::{in_range, list, one_of, port_number, text};
use crate::names;
use crate::status::Cause;

pub(super) fn service(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let ty = text(spec, "type");
    let external = ty == "ExternalName";
    let headless = spec["clusterIP"] == "None";
    let ports = list(&spec["ports"]);
    if ports.is_empty() && !headless && !external {
        causes.push(Cause::required("spec.ports", ""));
    }
    match ty {
        "NodePort" | "LoadBalancer" if headless => {
            let detail = format!("may not be set to 'None' for {ty} services");
            causes.push(Cause::invalid("spec.clusterIPs[0]", &"None".into(), &detail));
        }
        "ExternalName" => match text(spec, "externalName") {
            "" => causes.push(Cause::required("spec.externalName", "")),
            name => {
                if let Some(detail) = names::subdomain(name.trim_end_matches('.')) {
                    causes.push(Cause::invalid("spec.externalName", &name.into(), &detail));
                }
            }
        },
        _ => {}
    }
    let mut seen = HashSet::new();
    let mut pairs = HashSet::new();
    for (at, port) in ports.iter().enumerate() {
        let here = format!("spec.ports[{at}]");
        service_port(port, &here, ports.len() > 1, &mut seen, causes);
        let pair = (port["port"].clone().to_string(), text(port, "protocol").to_owned());
        if !pairs.insert(pair) {
            let shown = serde_json::json!({ "port": port["port"], "protocol": port["protocol"] });
            causes.push(Cause::duplicate(here, &shown));
        }
    }
    super::labels(&spec["selector"], "spec.selector", causes);
    one_of(spec, "sessionAffinity", &["ClientIP", "None"], "spec", causes);
    if !external && !headless {
        for (at, address) in list(&spec["clusterIPs"]).iter().enumerate() {
            if address.as_str().is_some_and(|address| address.parse::<IpAddr>().is_err()) {
                let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                causes.push(Cause::invalid(format!("spec.clusterIPs[{at}]"), address, detail));
            }
        }
    }
    one_of(spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], "spec", causes);
    let policy = text(spec, "externalTrafficPolicy");
    if !policy.is_empty() {
        if !matches!(ty, "NodePort" | "LoadBalancer") && list(&spec["externalIPs"]).is_empty() {
            let detail = "may only be set for externally-accessible services";
            causes.push(Cause::invalid("spec.externalTrafficPolicy", &policy.into(), detail));
        } else {
            one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], "spec", causes);
        }
    }
}

fn service_port<'a>(
    port: &'a Value,
    path: &str,
    several: bool,
    seen: &mut HashSet<&'a str>,
    causes: &mut Vec<Cause>,
) {
    let name = text(port, "name");
    if name.is_empty() {
        if several {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
    } else {
        for detail in names::label(name) {
            causes.push(Cause::invalid(format!("{path}.name"), &name.into(), &detail));
        }
        if !seen.insert(name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &name.into()));
        }
    }
    in_range(port["port"].as_i64().unwrap_or(0), 1, 65535, &format!("{path}.port"), causes);
    match text(port, "protocol") {
        "" => causes.push(Cause::required(format!("{path}.protocol"), "")),
        _ => one_of(port, "protocol", &["SCTP", "TCP", "UDP"], path, causes),
    }
    match &port["targetPort"] {
        Value::String(name) => {
            for detail in names::text::port_name(name) {
                causes.push(Cause::invalid(format!("{path}.targetPort"), &port["targetPort"], &detail));
            }
        }
        number => port_number(number, &format!("{path}.targetPort"), causes),
    }
}

/// Addresses and names in the status of a Service or Ingress.
pub(super) fn load_balancer(object: &Value, causes: &mut Vec<Cause>) {
    for (at, ingress) in list(&object["status"]["loadBalancer"]["ingress"]).iter().enumerate() {
        let path = format!("status.loadBalancer.ingress[{at}]");
        let (ip, host) = (text(ingress, "ip"), text(ingress, "hostname"));
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.push(Cause::invalid(format!("{path}.ip"), &ip.into(), detail));
        }
        if !host.is_empty() {
            if let Some(detail) = names::subdomain(host) {
                causes.push(Cause::invalid(format!("{path}.hostname"), &host.into(), &detail));
            }
            if host.parse::<IpAddr>().is_ok() {
                let detail = "must be a DNS name, not an IP address";
                causes.push(Cause::invalid(format!("{path}.hostname"), &host.into(), detail));
            }
        }
    }
}

/// Before addresses are given: what must be right for that.
pub(crate) fn service_addresses_are_sound(object: &Value) -> bool {
    let spec = &object["spec"];
    matches!(text(spec, "type"), "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName")
}

pub(super) fn service_update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let (before, after) = (&old["spec"], &new["spec"]);
    if before["type"] != "ExternalName"
        && after["type"] != "ExternalName"
        && !before["clusterIP"].is_null()
        && before["clusterIP"] != after["clusterIP"]
    {
        causes.push(Cause::invalid("spec.clusterIPs[0]", &after["clusterIPs"], "may not change once set"));
    }
    service(new, causes);
}

pub(super) fn ingress(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let rules = list(&spec["rules"]);
    if rules.is_empty() && spec["defaultBackend"].is_null() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        causes.push(Cause::invalid_text("spec", "null", detail));
    }
    if spec["defaultBackend"].is_object() {
        backend(&spec["defaultBackend"], "spec.defaultBackend", causes);
    }
    for (at, rule) in rules.iter().enumerate() {
        let here = format!("spec.rules[{at}]");
        host(text(rule, "host"), &format!("{here}.host"), causes);
        let paths = list(&rule["http"]["paths"]);
        if rule["http"].is_object() && paths.is_empty() {
            causes.push(Cause::required(format!("{here}.http.paths"), ""));
        }
        for (at, path) in paths.iter().enumerate() {
            ingress_path(path, &format!("{here}.http.paths[{at}]"), causes);
        }
    }
    for (at, tls) in list(&spec["tls"]).iter().enumerate() {
        for (n, name) in list(&tls["hosts"]).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            if let Some(detail) = host_error(name) {
                causes.push(Cause::invalid(format!("spec.tls[{at}].hosts[{n}]"), &name.into(), &detail));
            }
        }
    }
    let class = text(spec, "ingressClassName");
    if !class.is_empty()
        && let Some(detail) = names::subdomain(class)
    {
        causes.push(Cause::invalid("spec.ingressClassName", &class.into(), &detail));
    }
}

fn host_error(name: &str) -> Option<String> {
    let wrong = if name.contains('*') { names::wildcard(name) } else { names::subdomain_errors(name) };
    wrong.into_iter().next()
}

fn host(name: &str, path: &str, causes: &mut Vec<Cause>) {
    if name.is_empty() {
        return;
    }
    if name.parse::<IpAddr>().is_ok() {
        causes.push(Cause::invalid(path, &name.into(), "must be a DNS name, not an IP address"));
        return;
    }
    if let Some(detail) = host_error(name) {
        causes.push(Cause::invalid(path, &name.into(), &detail));
    }
}

fn ingress_path(object: &Value, path: &str, causes: &mut Vec<Cause>) {
    let found = text(object, "path");
    match object["pathType"].as_str() {
        None => causes.push(Cause::required(format!("{path}.pathType"), "pathType must be specified")),
        Some("Exact" | "Prefix") => {
            if !found.starts_with('/') {
                causes.push(Cause::invalid(
                    format!("{path}.path"),
                    &found.into(),
                    "must be an absolute path",
                ));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if found.contains(bad) {
                    let detail = format!("must not contain '{bad}'");
                    causes.push(Cause::invalid(format!("{path}.path"), &found.into(), &detail));
                }
            }
            for bad in ["/..", "/."] {
                if found.ends_with(bad) {
                    let detail = format!("cannot end with '{bad}'");
                    causes.push(Cause::invalid(format!("{path}.path"), &found.into(), &detail));
                }
            }
        }
        Some("ImplementationSpecific") => {
            if !found.is_empty() && !found.starts_with('/') {
                causes.push(Cause::invalid(
                    format!("{path}.path"),
                    &found.into(),
                    "must be an absolute path",
                ));
            }
        }
        Some(_) => one_of(object, "pathType", &["Exact", "ImplementationSpecific", "Prefix"], path, causes),
    }
    backend(&object["backend"], &format!("{path}.backend"), causes);
}

fn backend(backend: &Value, path: &str, causes: &mut Vec<Cause>) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_object(), resource.is_object()) {
        (true, true) => {
            causes.push(Cause::invalid(path, &"".into(), "cannot set both resource and service backends"))
        }
        (false, false) => {
            causes.push(Cause::invalid(path, &"".into(), "resource or service backend is required"))
        }
        (false, true) => {}
        (true, false) => {
            let name = text(service, "name");
            if name.is_empty() {
                causes.push(Cause::required(format!("{path}.service.name"), ""));
            } else {
                for detail in names::label_1035(name) {
                    causes.push(Cause::invalid(format!("{path}.service.name"), &name.into(), &detail));
                }
            }
            let (port, number) =
                (text(&service["port"], "name"), service["port"]["number"].as_i64().unwrap_or(0));
            match (port.is_empty(), number != 0) {
                (false, true) => {
                    causes.push(Cause::invalid(path, &"".into(), "cannot set both port name & port number"))
                }
                (true, false) => causes.push(Cause::required(path, "port name or number is required")),
                (true, true) => in_range(number, 1, 65535, &format!("{path}.service.port.number"), causes),
                (false, false) => {
                    for detail in names::text::port_name(port) {
                        causes.push(Cause::invalid(
                            format!("{path}.service.port.name"),
                            &port.into(),
                            &detail,
                        ));
                    }
                }
            }
        }
    }
}

pub(super) fn network_policy(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (at, rule) in list(&spec[direction]).iter().enumerate() {
            let here = format!("spec.{direction}[{at}]");
            for (n, port) in list(&rule["ports"]).iter().enumerate() {
                let path = format!("{here}.ports[{n}]");
                one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &path, causes);
                if !port["port"].is_null() {
                    port_number(&port["port"], &format!("{path}.port"), causes);
                }
            }
            for (n, peer) in list(&rule[peers]).iter().enumerate() {
                let path = format!("{here}.{peers}[{n}]");
                if peer.as_object().is_none_or(|peer| peer.is_empty()) {
                    causes.push(Cause::required(path.clone(), "must specify a peer"));
                }
                let cidr = &peer["ipBlock"]["cidr"];
                if let Some(text) = cidr.as_str()
                    && !is_cidr(text)
                {
                    let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                    causes.push(Cause::invalid(format!("{path}.ipBlock.cidr"), cidr, detail));
                }
            }
        }
    }
    for (at, ty) in list(&spec["policyTypes"]).iter().enumerate() {
        if !matches!(ty.as_str(), Some("Ingress" | "Egress")) {
            causes.push(Cause::not_supported(format!("spec.policyTypes[{at}]"), ty, &["Ingress", "Egress"]));
        }
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Ok(bits)) => bits <= 128,
        _ => false,
    }
}
