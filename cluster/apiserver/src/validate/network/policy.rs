//! NetworkPolicies.

use std::net::IpAddr;

use serde_json::Value;

use crate::names::text::port_name;
use crate::status::Cause;
use crate::validate::at::At;
use crate::validate::in_range;
use crate::validate::selector::label_selector;

/// A new or changed NetworkPolicy.
pub(in crate::validate) fn network_policy(object: &Value, causes: &mut Vec<Cause>) {
    let spec = At::new(&object["spec"], "spec");
    label_selector(&spec.get("podSelector"), causes);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.items(direction) {
            for port in rule.items("ports") {
                policy_port(&port, causes);
            }
            for peer in rule.items(peers) {
                policy_peer(&peer, causes);
            }
        }
    }
    let types = spec.get("policyTypes");
    if types.elements().len() > 2 {
        return types.invalid("may not specify more than two policyTypes", causes);
    }
    for ty in types.elements() {
        ty.one_of(&["Ingress", "Egress"], causes);
    }
}

fn policy_port(port: &At<'_>, causes: &mut Vec<Cause>) {
    port.get("protocol").one_of_if_set(&["TCP", "UDP", "SCTP"], causes);
    let (first, last) = (port.get("port"), port.get("endPort"));
    let end = last.value.as_i64();
    match first.value {
        Value::Null => {
            if end.is_some() {
                last.invalid("may not be specified when `port` is not specified", causes);
            }
        }
        Value::String(name) => {
            if end.is_some() {
                last.invalid("may not be specified when `port` is non-numeric", causes);
            }
            first.all(port_name(name), causes);
        }
        number => {
            let number = number.as_i64().unwrap_or(0);
            in_range(number, 1, 65535, &first.path, causes);
            if let Some(end) = end {
                if end < number {
                    last.invalid_as(number, "must be greater than or equal to `port`", causes);
                }
                in_range(end, 1, 65535, &last.path, causes);
            }
        }
    }
}

fn policy_peer(peer: &At<'_>, causes: &mut Vec<Cause>) {
    let block = peer.get("ipBlock");
    let mut peers = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if peer.has(field) {
            peers += 1;
            label_selector(&peer.get(field), causes);
        }
    }
    if block.is_set() {
        peers += 1;
        ip_block(&block, causes);
    }
    if peers == 0 {
        peer.required("must specify a peer", causes);
    } else if peers > 1 && block.is_set() {
        peer.forbidden("may not specify both ipBlock and another peer", causes);
    }
}

fn ip_block(block: &At<'_>, causes: &mut Vec<Cause>) {
    let range = block.get("cidr");
    if range.own_text().is_empty() {
        return range.required("", causes);
    }
    let Some((network, bits)) = cidr(range.own_text(), &range.path, causes) else { return };
    for except in block.items("except") {
        let Some((inner, inner_bits)) = cidr(except.own_text(), &except.path, causes) else { continue };
        if bits >= inner_bits || masked(inner, bits) != masked(network, bits) {
            except.invalid("must be a strict subset of `cidr`", causes);
        }
    }
}

fn masked(address: IpAddr, bits: u8) -> (bool, u128) {
    let (number, width) = match address {
        IpAddr::V4(four) => (u128::from(u32::from(four)), 32),
        IpAddr::V6(six) => (u128::from(six), 128),
    };
    let hidden = u32::from(width - bits.min(width));
    (address.is_ipv4(), number.checked_shr(hidden).unwrap_or(0))
}

/// Reads an address range.
pub(super) fn cidr(text: &str, path: &str, causes: &mut Vec<Cause>) -> Option<(IpAddr, u8)> {
    let read = || {
        let (address, bits) = text.split_once('/')?;
        let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
        let most = if address.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some((address, bits))
    };
    let found = read();
    if found.is_none() {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        causes.push(Cause::invalid(path, &text.into(), detail));
    }
    found
}
