//! Addresses and node ports of Services: given once, kept until the Service is gone.
//!
//! What is taken is read from the stored Services; reservations cover writes that are on their way.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::server::Server;
use crate::status::Cause;

/// The network of Service addresses, 10.96.0.0/16.
const NETWORK: u32 = u32::from_be_bytes([10, 96, 0, 0]);
const NETWORK_BITS: u32 = 16;
/// Ports that Services may listen on.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30000..=32767;
/// Random tries before all are tried in order.
const TRIES_MAX: usize = 64;

/// Reservations that are not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    taken: Mutex<HashSet<String>>,
}

/// Gives reservations back when it is dropped: what was stored is found in the store then.
#[derive(Debug, Default)]
pub(crate) struct Release {
    reserved: Option<Arc<Reserved>>,
    items: Vec<String>,
}

impl Release {
    /// The write happened, so the store holds what was reserved.
    pub(crate) fn keep(self) {
        drop(self);
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(reserved) = &self.reserved {
            let mut taken = reserved.taken.lock().unwrap_or_else(PoisonError::into_inner);
            for item in &self.items {
                taken.remove(item);
            }
        }
    }
}

struct Allocator<'a> {
    taken: std::sync::MutexGuard<'a, HashSet<String>>,
    stored: HashSet<String>,
    given: Vec<String>,
}

impl Allocator<'_> {
    fn is_taken(&self, item: &str) -> bool {
        self.stored.contains(item) || self.taken.contains(item)
    }

    fn take(&mut self, item: String) {
        self.taken.insert(item.clone());
        self.given.push(item);
    }

    fn address(&mut self) -> Option<String> {
        let last = (1u32 << (32 - NETWORK_BITS)) - 2;
        for attempt in 0..TRIES_MAX as u32 + last {
            // The first addresses are left to those who ask for one.
            let at = if attempt < TRIES_MAX as u32 {
                fastrand::u32(256..=last)
            } else {
                attempt - TRIES_MAX as u32 + 2
            };
            let address = Ipv4Addr::from(NETWORK + at).to_string();
            if !self.is_taken(&address) {
                self.take(address.clone());
                return Some(address);
            }
        }
        None
    }

    fn port(&mut self, protocol: &str) -> Option<i64> {
        for attempt in 0..TRIES_MAX as i64 + 2768 {
            let port = if attempt < TRIES_MAX as i64 {
                fastrand::i64(NODE_PORTS)
            } else {
                NODE_PORTS.start() + attempt - TRIES_MAX as i64
            };
            let item = format!("{protocol}/{port}");
            if NODE_PORTS.contains(&port) && !self.is_taken(&item) {
                self.take(item);
                return Some(port);
            }
        }
        None
    }
}

fn claims(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let mut items: Vec<String> = spec["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    for port in spec["ports"].as_array().into_iter().flatten() {
        if let Some(number) = port["nodePort"].as_i64().filter(|number| *number > 0) {
            items.push(format!("{}/{number}", port["protocol"].as_str().unwrap_or("TCP")));
        }
    }
    items
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Fills in addresses and ports of a Service.
pub(crate) fn service(
    server: &Server,
    old: Option<&Value>,
    object: &mut Value,
    dry_run: bool,
) -> Result<Release, Vec<Cause>> {
    // What is unsound is refused by the validation that follows, without an address.
    if !object["spec"].is_object() || !crate::validate::service_addresses_are_sound(object) {
        return Ok(Release::default());
    }
    let own: HashSet<String> = old.map(claims).unwrap_or_default().into_iter().collect();
    let taken = server.reserved.taken.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stored = HashSet::new();
    for found in server.store.list(&server.services, "").objects {
        stored.extend(claims(&found.value()));
    }
    stored.retain(|item| !own.contains(item));
    let mut allocator = Allocator { taken, stored, given: Vec::new() };
    let result = fill(old, &mut object["spec"], &mut allocator, &own);
    let given = std::mem::take(&mut allocator.given);
    if dry_run || result.is_err() {
        for item in &given {
            allocator.taken.remove(item);
        }
    }
    drop(allocator);
    result?;
    let reserved = if dry_run { None } else { Some(server.reserved.clone()) };
    Ok(Release { reserved, items: given })
}

fn fill(
    old: Option<&Value>,
    spec: &mut Value,
    allocator: &mut Allocator<'_>,
    own: &HashSet<String>,
) -> Result<(), Vec<Cause>> {
    let ty = text(spec, "type").to_owned();
    let before = old.map(|old| old["spec"].clone()).unwrap_or_default();
    if ty == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            spec.as_object_mut().map(|spec| spec.remove(field));
        }
    } else {
        addresses(&before, spec, allocator, own)?;
    }
    let health = ty == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local";
    if health && spec["healthCheckNodePort"].as_i64().unwrap_or(0) == 0 {
        match before["healthCheckNodePort"]
            .as_i64()
            .filter(|port| *port > 0)
            .or_else(|| allocator.port("TCP"))
        {
            Some(port) => spec["healthCheckNodePort"] = port.into(),
            None => {
                let text = "failed to allocate a nodePort: range is full";
                return Err(vec![Cause::invalid("spec.healthCheckNodePort", &0.into(), text)]);
            }
        }
    }
    let wants_ports =
        matches!(&*ty, "NodePort") || ty == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false;
    node_ports(&before, spec, allocator, own, wants_ports, &ty)
}

fn addresses(
    before: &Value,
    spec: &mut Value,
    allocator: &mut Allocator<'_>,
    own: &HashSet<String>,
) -> Result<(), Vec<Cause>> {
    together(before, spec);
    // Looked at before anything is given, and told alone.
    let mut causes = Vec::new();
    crate::validate::service_addresses(spec, &mut causes);
    if causes.is_empty() {
        families(spec, &mut causes);
    }
    if !causes.is_empty() {
        return Err(causes);
    }
    let asked = text(spec, "clusterIP").to_owned();
    match asked.as_str() {
        "None" => {}
        "" => match allocator.address() {
            Some(address) => spec["clusterIP"] = address.into(),
            None => {
                let cause = Cause::invalid(
                    "spec.clusterIPs",
                    &json!([]),
                    "failed to allocate an address: range is full",
                );
                return Err(vec![cause]);
            }
        },
        address if own.contains(address) => {}
        address => {
            let Ok(parsed) = address.parse::<Ipv4Addr>() else {
                // The validation that follows says so.
                return Ok(());
            };
            let inside = u32::from(parsed) >> (32 - NETWORK_BITS) == NETWORK >> (32 - NETWORK_BITS);
            let problem = match (inside, allocator.is_taken(address)) {
                (false, _) => Some(format!(
                    "failed to allocate IP {address}: the provided network does not match the current range"
                )),
                (true, true) => {
                    Some(format!("failed to allocate IP {address}: provided IP is already allocated"))
                }
                (true, false) => None,
            };
            if let Some(problem) = problem {
                return Err(vec![Cause::invalid("spec.clusterIPs", &json!([address]), &problem)]);
            }
            allocator.take(address.to_owned());
        }
    }
    let address = spec["clusterIP"].clone();
    spec["clusterIPs"] = json!([address]);
    if spec["ipFamilies"].as_array().is_none_or(Vec::is_empty) {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if spec["ipFamilyPolicy"].is_null() {
        let headless = address == "None" && spec["selector"].as_object().is_none_or(|map| map.is_empty());
        spec["ipFamilyPolicy"] = if headless { "RequireDualStack" } else { "SingleStack" }.into();
        if headless {
            spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
        }
    }
    Ok(())
}

/// This server gives addresses of one family.
fn families(spec: &Value, causes: &mut Vec<Cause>) {
    let given = spec["ipFamilies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let policy = &spec["ipFamilyPolicy"];
    let selects = spec["selector"].as_object().is_some_and(|selector| !selector.is_empty());
    if spec["clusterIP"] == "None" && !selects {
        return;
    }
    if given.len() > 1 && !matches!(policy.as_str(), Some("RequireDualStack" | "PreferDualStack")) {
        let text = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
        causes.push(Cause::invalid("spec.ipFamilyPolicy", policy, text));
    }
    for (at, family) in given.iter().enumerate().filter(|(_, family)| *family != "IPv4") {
        let text = "not configured on this cluster";
        causes.push(Cause::invalid(format!("spec.ipFamilies[{at}]"), family, text));
    }
    if policy == "RequireDualStack" {
        let text = "this cluster is not configured for dual-stack services";
        causes.push(Cause::invalid("spec.ipFamilyPolicy", policy, text));
    }
}

/// `clusterIP` and the first of `clusterIPs` say the same; who changes one and not the other means both.
fn together(before: &Value, spec: &mut Value) {
    let empty = |spec: &Value| spec["clusterIPs"].as_array().is_none_or(Vec::is_empty);
    if !before.is_object() || before["type"] == "ExternalName" {
        if !text(spec, "clusterIP").is_empty() && empty(spec) {
            spec["clusterIPs"] = json!([spec["clusterIP"]]);
        }
        return;
    }
    // An update that says nothing keeps the address.
    if text(spec, "clusterIP").is_empty() {
        spec["clusterIP"] = before["clusterIP"].clone();
    }
    if empty(spec) {
        spec["clusterIPs"] = before["clusterIPs"].clone();
    }
    let same_list = spec["clusterIPs"] == before["clusterIPs"];
    if spec["clusterIP"] != before["clusterIP"] && same_list {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
}

fn node_ports(
    before: &Value,
    spec: &mut Value,
    allocator: &mut Allocator<'_>,
    own: &HashSet<String>,
    wanted: bool,
    ty: &str,
) -> Result<(), Vec<Cause>> {
    let old_ports = before["ports"].as_array().cloned().unwrap_or_default();
    let mut causes = Vec::new();
    let mut by_number = std::collections::HashMap::new();
    for (at, port) in spec["ports"].as_array_mut().into_iter().flatten().enumerate() {
        let protocol = text(port, "protocol").to_owned();
        if !wanted && ty != "LoadBalancer" {
            let old = old_ports.iter().any(|old| old["nodePort"] == port["nodePort"]);
            // A Service that is no NodePort any more gives its ports back.
            if old {
                port.as_object_mut().map(|port| port.remove("nodePort"));
            }
            continue;
        }
        let asked = port["nodePort"].as_i64().unwrap_or(0);
        let field = format!("spec.ports[{at}].nodePort");
        if asked > 0 {
            let item = format!("{protocol}/{asked}");
            if own.contains(&item) {
                continue;
            }
            if !NODE_PORTS.contains(&asked) {
                let text = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                causes.push(Cause::invalid(field, &asked.into(), text));
            } else if allocator.is_taken(&item) {
                causes.push(Cause::invalid(field, &asked.into(), "provided port is already allocated"));
            } else {
                allocator.take(item);
            }
            continue;
        }
        if !wanted {
            continue;
        }
        let same = |old: &&Value| old["port"] == port["port"] && text(old, "protocol") == protocol;
        let kept =
            old_ports.iter().find(same).and_then(|old| old["nodePort"].as_i64()).filter(|port| *port > 0);
        // Ports of one number but different protocols share their node port.
        let shared = by_number.get(&port["port"].to_string()).copied();
        let shared = shared.filter(|number| !allocator.is_taken(&format!("{protocol}/{number}")));
        let given = match (kept, shared) {
            (Some(number), _) => Some(number),
            (None, Some(number)) => {
                allocator.take(format!("{protocol}/{number}"));
                Some(number)
            }
            (None, None) => allocator.port(&protocol),
        };
        match given {
            Some(number) => {
                by_number.insert(port["port"].to_string(), number);
                port["nodePort"] = number.into();
            }
            None => {
                causes.push(Cause::invalid(field, &0.into(), "failed to allocate a nodePort: range is full"))
            }
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}
