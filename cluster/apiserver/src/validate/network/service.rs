//! Services.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::status::Cause;
use crate::validate::at::At;
use crate::validate::{labels, port_number, text};

const IP_ADDRESS_MAX: usize = 2;
const AFFINITY_SECONDS_MAX: i64 = 86_400;
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";

fn is_headless(spec: &Value) -> bool {
    spec["clusterIPs"].as_array().is_some_and(|addresses| addresses.len() == 1 && addresses[0] == "None")
}

/// Before addresses are given: what must be right for that.
pub(crate) fn service_addresses_are_sound(object: &Value) -> bool {
    let spec = &object["spec"];
    matches!(text(spec, "type"), "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName")
}

/// The addresses of the spec of a Service, and what goes with them.
pub(crate) fn service_addresses(spec: &Value, causes: &mut Vec<Cause>) {
    addresses(&At::new(spec, "spec"), causes);
}

/// A new Service, or a changed one.
pub(in crate::validate) fn service(object: &Value, causes: &mut Vec<Cause>) {
    let spec = At::new(&object["spec"], "spec");
    let ty = spec.text("type");
    let (external, headless) = (ty == "ExternalName", is_headless(spec.value));
    let ports = spec.items("ports");
    if ports.is_empty() && !headless && !external {
        spec.get("ports").required("", causes);
    }
    match ty {
        "NodePort" | "LoadBalancer" if headless => {
            let detail = format!("may not be set to 'None' for {ty} services");
            causes.push(Cause::invalid("spec.clusterIPs[0]", &"None".into(), &detail));
        }
        "ExternalName" => external_name(&spec, causes),
        _ => {}
    }
    let mut seen = HashSet::new();
    for port in &ports {
        service_port(port, ports.len() > 1, &mut seen, causes);
    }
    labels(&spec.value["selector"], "spec.selector", causes);
    affinity(&spec, causes);
    if !external {
        addresses(&spec, causes);
    }
    for ip in spec.items("externalIPs") {
        ip.ip(causes);
        endpoint_ip(&ip, causes);
    }
    spec.get("type").one_of_required(&["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], causes);
    twice(&ports, ty, causes);
    load_balancer(object, &spec, causes);
    traffic(&spec, causes);
}

fn external_name(spec: &At<'_>, causes: &mut Vec<Cause>) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if spec.value[field].as_array().map_or(spec.has(field), |list| !list.is_empty()) {
            spec.get(field).forbidden("may not be set for ExternalName services", causes);
        }
    }
    let name = spec.get("externalName");
    match name.own_text().strip_suffix('.').unwrap_or(name.own_text()) {
        "" => name.required("", causes),
        bare => {
            if let Some(detail) = crate::names::subdomain(bare) {
                name.invalid_as(bare, &detail, causes);
            }
        }
    }
}

fn service_port<'a>(port: &At<'a>, several: bool, seen: &mut HashSet<&'a str>, causes: &mut Vec<Cause>) {
    let name = port.text("name");
    if !name.is_empty() {
        port.get("name").label(causes);
        if !seen.insert(name) {
            port.get("name").duplicate(causes);
        }
    } else if several {
        port.get("name").required("", causes);
    }
    port.get("port").in_range(1, 65535, causes);
    port.get("protocol").one_of_required(&["SCTP", "TCP", "UDP"], causes);
    port_number(&port.value["targetPort"], &port.get("targetPort").path, causes);
    if port.has("appProtocol") {
        port.get("appProtocol").qualified(causes);
    }
}

fn affinity(spec: &At<'_>, causes: &mut Vec<Cause>) {
    spec.get("sessionAffinity").one_of_required(&["ClientIP", "None"], causes);
    let config = spec.get("sessionAffinityConfig");
    match spec.text("sessionAffinity") {
        "ClientIP" => {
            let detail = "when session affinity type is ClientIP";
            let client = config.get("clientIP");
            let seconds = client.get("timeoutSeconds");
            if !config.is_set() {
                config.required(detail, causes);
            } else if !client.is_set() {
                client.required(detail, causes);
            } else if !seconds.is_set() {
                seconds.required(detail, causes);
            } else if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds.value.as_i64().unwrap_or(0)) {
                let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                seconds.invalid(&detail, causes);
            }
        }
        "None" if config.is_set() => {
            config.forbidden("must not be set when session affinity is None", causes);
        }
        _ => {}
    }
}

fn addresses(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let (first, all) = (spec.text("clusterIP"), spec.get("clusterIPs"));
    let given = all.elements();
    match (first.is_empty(), given.first()) {
        (false, None) => all.required("", causes),
        (false, Some(address)) if address.own_text() != first => {
            all.invalid("first value must match `clusterIP`", causes);
        }
        (true, Some(_)) => all.invalid("must be empty when `clusterIP` is not specified", causes),
        _ => {}
    }
    let mut seen = HashSet::new();
    for family in spec.items("ipFamilies") {
        family.one_of(&["IPv4", "IPv6"], causes);
        if !seen.insert(family.own_text()) {
            family.duplicate(causes);
        }
    }
    spec.get("ipFamilyPolicy").one_of_if_set(&["PreferDualStack", "RequireDualStack", "SingleStack"], causes);
    let before = causes.len();
    for (at, address) in given.iter().enumerate() {
        if at == 0 && address.own_text() == "None" {
            if given.len() > 1 {
                all.invalid("'None' must be the first and only value", causes);
            }
            continue;
        }
        address.ip(causes);
    }
    let sound = causes.len() == before;
    if given.len() > IP_ADDRESS_MAX {
        all.invalid("may only hold up to 2 values", causes);
    }
    let parsed: Vec<Option<IpAddr>> = given.iter().map(|address| address.own_text().parse().ok()).collect();
    if sound && given.len() > 1 {
        let four = parsed.iter().flatten().filter(|address| address.is_ipv4()).count();
        if four == 0 || four == given.len() {
            all.invalid("may specify no more than one IP for each IP family", causes);
        }
    }
    if !sound || is_headless(spec.value) {
        return;
    }
    for ((address, parsed), (at, family)) in
        given.iter().zip(&parsed).zip(spec.items("ipFamilies").iter().enumerate())
    {
        let Some(parsed) = parsed else { continue };
        let fits = match family.own_text() {
            "IPv4" => parsed.is_ipv4(),
            "IPv6" => parsed.is_ipv6(),
            _ => true,
        };
        if !fits {
            let detail =
                format!("expected an {} value as indicated by `ipFamilies[{at}]`", family.own_text());
            address.invalid(&detail, causes);
        }
    }
}

/// Addresses that lead to this machine or to many cannot be an endpoint.
pub(in crate::validate) fn endpoint_ip(place: &At<'_>, causes: &mut Vec<Cause>) {
    let Ok(address) = place.own_text().parse::<IpAddr>() else { return };
    let mut wrong = |detail: &str| place.invalid(detail, causes);
    if address.is_unspecified() {
        wrong(&format!("may not be unspecified ({})", place.own_text()));
    }
    // Loopback addresses, which upstream refuses, are where the process runtime runs Pods.
    let local = match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.segments()[0] & 0xffc0 == 0xfe80,
    };
    if local {
        wrong("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    let local_multicast = match address {
        IpAddr::V4(four) => four.octets()[..3] == [224, 0, 0],
        IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
    };
    if local_multicast {
        wrong("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn twice(ports: &[At<'_>], ty: &str, causes: &mut Vec<Cause>) {
    let (mut nodes, mut pairs) = (HashSet::new(), HashSet::new());
    for port in ports {
        let node = port.int("nodePort").unwrap_or(0);
        if ty == "ClusterIP" && node != 0 {
            port.get("nodePort").forbidden("may not be used when `type` is 'ClusterIP'", causes);
        }
        if node != 0 && !nodes.insert((port.text("protocol"), node)) {
            port.get("nodePort").duplicate(causes);
        }
        if !pairs.insert((port.text("protocol"), port.int("port").unwrap_or(0))) {
            let shown = json!({ "Name": "", "Protocol": port.text("protocol"), "AppProtocol": null, "Port": port.value["port"], "TargetPort": 0, "NodePort": 0 });
            causes.push(Cause::duplicate(port.path.clone(), &shown));
        }
    }
}

fn load_balancer(object: &Value, spec: &At<'_>, causes: &mut Vec<Cause>) {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let balanced = spec.text("type") == "LoadBalancer";
    let ranges = spec.items("loadBalancerSourceRanges");
    let annotation = &object["metadata"]["annotations"][ANNOTATION];
    if !ranges.is_empty() {
        let shown = "spec.LoadBalancerSourceRanges";
        if !balanced {
            causes.push(Cause::forbidden(shown, ONLY_LOAD_BALANCER));
        }
        for (at, range) in ranges.iter().enumerate() {
            let text = range.own_text().trim();
            super::policy::cidr(text, &format!("{shown}[{at}]"), causes);
        }
    } else if let Some(text) = annotation.as_str() {
        let path = format!("metadata.annotations[{ANNOTATION}]");
        if !balanced {
            causes.push(Cause::forbidden(path.clone(), ONLY_LOAD_BALANCER));
        }
        for range in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
            super::policy::cidr(range.trim(), &path, causes);
        }
    }
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if allocate.is_set() && !balanced {
        allocate.forbidden(ONLY_LOAD_BALANCER, causes);
    }
    let class = spec.get("loadBalancerClass");
    if class.is_set() {
        if balanced {
            class.qualified(causes);
        } else {
            class.forbidden(ONLY_LOAD_BALANCER, causes);
        }
    }
}

fn needs_health_check(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

fn traffic(spec: &At<'_>, causes: &mut Vec<Cause>) {
    let ty = spec.text("type");
    let policy = spec.get("externalTrafficPolicy");
    let external = matches!(ty, "NodePort" | "LoadBalancer")
        || ty == "ClusterIP" && !spec.items("externalIPs").is_empty();
    if external {
        policy.one_of_required(&["Cluster", "Local"], causes);
    } else if !policy.own_text().is_empty() {
        policy.invalid("may only be set for externally-accessible services", causes);
    }
    let check = spec.get("healthCheckNodePort");
    let port = check.value.as_i64().unwrap_or(0);
    if needs_health_check(spec.value) {
        match port {
            0 => check.required("", causes),
            _ => check.in_range(1, 65535, causes),
        }
    } else if port != 0 {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        check.invalid(detail, causes);
    }
    let internal = spec.get("internalTrafficPolicy");
    if internal.is_set() {
        internal.one_of(&["Cluster", "Local"], causes);
    } else if matches!(ty, "NodePort" | "LoadBalancer" | "ClusterIP") {
        internal.required("", causes);
    }
    spec.get("trafficDistribution")
        .one_of_if_set(&["PreferClose", "PreferSameZone", "PreferSameNode"], causes);
}

pub(in crate::validate) fn service_update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let (before, after) = (&old["spec"], &new["spec"]);
    let place = At::new(after, "spec");
    let external = before["type"] == "ExternalName" || after["type"] == "ExternalName";
    let (was, is) = (is_headless(before), is_headless(after));
    let stays_headless = was && is;
    if !external && !stays_headless {
        kept(before, &place, "clusterIPs", "primary clusterIP can not be unset", causes);
    }
    if !external && !was && !is {
        kept(before, &place, "ipFamilies", "primary ipFamily can not be unset", causes);
    }
    if before["type"] == "LoadBalancer"
        && after["type"] == "LoadBalancer"
        && before["loadBalancerClass"] != after["loadBalancerClass"]
    {
        let class = place.get("loadBalancerClass");
        class.invalid("may not change once set", causes);
    }
    if needs_health_check(before)
        && needs_health_check(after)
        && before["healthCheckNodePort"] != after["healthCheckNodePort"]
    {
        place.get("healthCheckNodePort").forbidden("field is immutable", causes);
    }
    service(new, causes);
}

/// A list whose first element stays once it is set; a second may come and go with the policy.
fn kept(before: &Value, after: &At<'_>, field: &str, unset: &str, causes: &mut Vec<Cause>) {
    let old = before[field].as_array().map(Vec::as_slice).unwrap_or_default();
    let list = after.get(field);
    let new = list.elements();
    let first = list.moved(&format!("{}[0]", list.path));
    let changed = |at: usize| old.get(at).is_some_and(|old| new.get(at).is_some_and(|new| new.value != old));
    if old.len() == new.len() {
        for at in (0..old.len()).filter(|at| changed(*at)) {
            let at = if field == "clusterIPs" { at } else { 0 };
            list.moved(&format!("{}[{at}]", list.path)).invalid("may not change once set", causes);
        }
        return;
    }
    if old.len() > new.len() && after.items("clusterIPs").is_empty() {
        first.invalid(unset, causes);
    }
    if changed(0) {
        first.invalid("may not change once set", causes);
    }
    if old.len() > 1 && new.len() == 1 && after.text("ipFamilyPolicy") != "SingleStack" {
        let what = if field == "clusterIPs" { "clusterIP" } else { "ipFamily" };
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        after.get("ipFamilyPolicy").invalid(&detail, causes);
    }
}

/// The status of a Service.
pub(in crate::validate) fn service_status(object: &Value, causes: &mut Vec<Cause>) {
    let list = At::new(&object["status"], "status").get("loadBalancer").get("ingress");
    let ingresses = list.elements();
    if object["spec"]["type"] != "LoadBalancer" && !ingresses.is_empty() {
        return list.forbidden("may only be used when `spec.type` is 'LoadBalancer'", causes);
    }
    for ingress in ingresses {
        let (ip, mode) = (ingress.get("ip"), ingress.get("ipMode"));
        let given = !ip.own_text().is_empty();
        if given {
            ip.ip(causes);
        }
        match (mode.is_set(), given) {
            (false, true) => mode.required("must be specified when `ip` is set", causes),
            (true, false) => mode.forbidden("may not be specified when `ip` is not set", causes),
            _ => mode.one_of_if_set(&["Proxy", "VIP"], causes),
        }
        super::status_host(&ingress, causes);
    }
}
