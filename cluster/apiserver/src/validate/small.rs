//! Kinds with few rules: Leases, EndpointSlices, PodDisruptionBudgets.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::at::At;
use super::network::endpoint_ip;
use super::{selector, workload};
use crate::names;
use crate::status::Cause;

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_MAX: usize = 16;
const HINTS_MAX: usize = 8;

pub(super) fn lease(object: &Value, causes: &mut Vec<Cause>) {
    let spec = At::new(&object["spec"], "spec");
    let seconds = spec.get("leaseDurationSeconds");
    if seconds.value.as_i64().is_some_and(|seconds| seconds <= 0) {
        seconds.invalid("must be greater than 0", causes);
    }
    spec.get("leaseTransitions").not_negative(causes);
    let strategy = spec.get("strategy");
    if strategy.is_set() {
        // The name of the field is said twice.
        let place = strategy.moved("spec.strategy.strategy");
        if strategy.own_text().contains('/') {
            place.qualified(causes);
        } else {
            place.one_of(&["OldestEmulationVersion"], causes);
        }
    }
    if !spec.text("preferredHolder").is_empty() && strategy.own_text().is_empty() {
        spec.get("preferredHolder").forbidden("may only be specified if `strategy` is defined", causes);
    }
}

pub(super) fn budget(object: &Value, causes: &mut Vec<Cause>) {
    let spec = At::new(&object["spec"], "spec");
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        let shown = json!({
            "MinAvailable": spec.value["minAvailable"], "Selector": spec.value["selector"],
            "MaxUnavailable": spec.value["maxUnavailable"],
            "UnhealthyPodEvictionPolicy": spec.value["unhealthyPodEvictionPolicy"],
        });
        spec.invalid_as(shown, "minAvailable and maxUnavailable cannot be both set", causes);
    }
    for field in ["minAvailable", "maxUnavailable"] {
        let place = spec.get(field);
        if place.is_set() {
            super::int_or_percent(place.value, &place.path, causes);
            workload::at_most_all(&place, causes);
        }
    }
    selector::label_selector(&spec.get("selector"), causes);
    spec.get("unhealthyPodEvictionPolicy").one_of_if_set(&["AlwaysAllow", "IfHealthyBudget"], causes);
}

/// An EndpointSlice; `old` when it is changed.
pub(super) fn endpoint_slice(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let root = At::new(object, "");
    let ty = root.get("addressType");
    ty.one_of_required(&["FQDN", "IPv4", "IPv6"], causes);
    slice_ports(&root.get("ports"), causes);
    if old.is_none_or(|old| old["endpoints"] != object["endpoints"]) {
        endpoints(&root.get("endpoints"), ty.own_text(), causes);
    }
    if old.is_some_and(|old| old["addressType"] != object["addressType"]) {
        ty.all(["field is immutable".to_owned()], causes);
    }
}

fn slice_ports(list: &At<'_>, causes: &mut Vec<Cause>) {
    let ports = list.elements();
    if ports.len() > PORTS_MAX {
        causes.push(Cause::too_many(list.path.clone(), ports.len(), PORTS_MAX));
        return;
    }
    let mut seen = HashSet::new();
    for port in ports {
        let name = port.get("name");
        if !name.own_text().is_empty() {
            name.label(causes);
        }
        if !seen.insert(name.own_text()) {
            name.duplicate(causes);
        }
        let protocol = port.get("protocol");
        if protocol.is_set() {
            protocol.one_of(&["SCTP", "TCP", "UDP"], causes);
        } else {
            protocol.required("", causes);
        }
        if port.has("appProtocol") {
            port.get("appProtocol").qualified(causes);
        }
    }
}

fn endpoints(list: &At<'_>, ty: &str, causes: &mut Vec<Cause>) {
    let endpoints = list.elements();
    if endpoints.len() > ENDPOINTS_MAX {
        causes.push(Cause::too_many(list.path.clone(), endpoints.len(), ENDPOINTS_MAX));
        return;
    }
    for endpoint in endpoints {
        let addresses = endpoint.get("addresses");
        let count = addresses.elements().len();
        if count == 0 {
            addresses.required("must contain at least 1 address", causes);
        } else if count > ADDRESSES_MAX {
            causes.push(Cause::too_many(addresses.path.clone(), count, ADDRESSES_MAX));
        }
        for address in addresses.elements() {
            check_address(&address, &addresses, ty, causes);
        }
        if endpoint.has("nodeName") {
            endpoint.get("nodeName").subdomain(causes);
        }
        let topology = endpoint.get("deprecatedTopology");
        let labels = topology.entries().len();
        if labels > TOPOLOGY_MAX {
            causes.push(Cause::too_many(topology.path.clone(), labels, TOPOLOGY_MAX));
        }
        super::labels(topology.value, &topology.path, causes);
        if endpoint.has("hostname") {
            endpoint.get("hostname").label(causes);
        }
        hints(&endpoint.get("hints"), causes);
    }
}

fn check_address(address: &At<'_>, list: &At<'_>, ty: &str, causes: &mut Vec<Cause>) {
    let text = address.own_text();
    let parsed = text.parse::<std::net::IpAddr>();
    match (ty, parsed) {
        ("IPv4" | "IPv6", Err(_)) => address.ip(causes),
        ("IPv4" | "IPv6", Ok(parsed)) => {
            if ty == "IPv6" && parsed.to_string() != text {
                let detail = format!("must be in canonical form (\"{parsed}\")");
                return address.invalid(&detail, causes);
            }
            if parsed.is_ipv4() != (ty == "IPv4") {
                address.moved(&list.path).invalid(&format!("must be an {ty} address"), causes);
            }
            endpoint_ip(address, causes);
        }
        ("FQDN", _) => {
            if text.is_empty() {
                return address.required("", causes);
            }
            let bare = text.strip_suffix('.').unwrap_or(text);
            if let Some(detail) = names::subdomain(bare) {
                address.invalid_as(bare, &detail, causes);
            } else if !bare.contains('.') {
                let detail = "should be a domain with at least two segments separated by dots";
                address.invalid_as(bare, detail, causes);
            } else if bare.split('.').any(|label| label.len() > 63) {
                let long = bare.split('.').find(|label| label.len() > 63).unwrap_or_default();
                address.invalid_as(long, "must be no more than 63 characters", causes);
            }
        }
        _ => {}
    }
}

fn hints(hints: &At<'_>, causes: &mut Vec<Cause>) {
    for field in ["forZones", "forNodes"] {
        let list = hints.get(field);
        let all = list.elements();
        if all.len() > HINTS_MAX {
            causes.push(Cause::too_many(list.path.clone(), all.len(), HINTS_MAX));
            return;
        }
        let mut seen = HashSet::new();
        for hint in all {
            let name = hint.get("name");
            if !seen.insert(name.own_text()) {
                name.duplicate(causes);
            }
            if field == "forZones" {
                name.all(names::label_value(name.own_text()), causes);
            } else {
                name.subdomain(causes);
            }
        }
    }
}
