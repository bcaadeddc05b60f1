//! Decides for a Service: its EndpointSlices, one for each address family, set of ports and hundred of Pods.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dodai_api::names::ANNOTATION_PORT;
use dodai_kit::Plan;
use dodai_kit::plan::controller_reference;
use k8s_openapi::api::core::v1::{ContainerPort, ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::controllers::{names, pods};

/// Label: the Service of a slice.
pub(crate) const LABEL_SERVICE: &str = "kubernetes.io/service-name";
/// Label: who keeps a slice. Slices of others are left alone.
pub(crate) const LABEL_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Upstream's name for its controller, by which tools know the slices that follow from Pods.
const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
/// Label of a slice of a Service without address.
const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
/// Endpoints of one slice, upstream's default.
pub(super) const ENDPOINTS_MAX: usize = 100;

/// Everything that `plan` may look at.
pub struct World {
    /// The Service.
    pub service: Arc<Service>,
    /// The Pods that it selects, ordered by name.
    pub pods: Vec<Arc<Pod>>,
    /// The slices that it controls.
    pub slices: Vec<Arc<EndpointSlice>>,
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    let Some(spec) = &world.service.spec else { return plan };
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    let has_selector = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    if world.service.metadata.deletion_timestamp.is_some() || is_external || !has_selector {
        return plan;
    }
    let mut wanted = Vec::new();
    for family in families(spec) {
        wanted.extend(slices(world, spec, family));
    }
    for slice in &wanted {
        let current = world.slices.iter().find(|current| current.name_any() == slice.name_any());
        if !current.is_some_and(|current| is_same(current, slice)) {
            plan.apply(slice);
        }
    }
    // Deleted last: until its successor is there, an endpoint that moves is better named by both.
    for slice in &world.slices {
        let is_ours = slice.labels().get(LABEL_MANAGED_BY).is_some_and(|manager| manager == MANAGED_BY);
        let is_wanted = wanted.iter().any(|wanted| wanted.name_any() == slice.name_any());
        if is_ours && !is_wanted && slice.metadata.deletion_timestamp.is_none() {
            plan.delete(slice.as_ref());
        }
    }
    plan
}

/// Whether the slice names the Pod.
pub(super) fn names_pod(slice: &EndpointSlice, pod: &Pod) -> bool {
    let targets = slice.endpoints.iter().flatten().filter_map(|endpoint| endpoint.target_ref.as_ref());
    targets.into_iter().any(|target| target.uid.is_some() && target.uid == pod.metadata.uid)
}

fn families(spec: &ServiceSpec) -> Vec<&str> {
    match &spec.ip_families {
        Some(families) if !families.is_empty() => families.iter().map(String::as_str).collect(),
        _ => vec!["IPv4"],
    }
}

fn slices(world: &World, spec: &ServiceSpec, family: &str) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for pod in &world.pods {
        if pods::is_terminal(pod) {
            continue;
        }
        let addresses = addresses(pod, family);
        if addresses.is_empty() {
            continue;
        }
        let ports = ports(spec, pod);
        let key = serde_json::to_string(&ports).expect("ports serialise to JSON");
        groups
            .entry(key)
            .or_insert_with(|| (ports, Vec::new()))
            .1
            .push(endpoint(world, spec, pod, addresses));
    }
    if groups.is_empty() {
        // An empty one says that the Service was looked at.
        groups.insert(String::new(), (Vec::new(), Vec::new()));
    }
    let mut slices = Vec::new();
    for (key, (ports, endpoints)) in groups {
        let mut chunks: Vec<Vec<Endpoint>> =
            endpoints.chunks(ENDPOINTS_MAX).map(<[Endpoint]>::to_vec).collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        for (number, endpoints) in chunks.into_iter().enumerate() {
            slices.push(slice(world, spec, family, &key, number, ports.clone(), endpoints));
        }
    }
    slices
}

/// The addresses of the Pod in this family.
fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut addresses: Vec<String> = listed.filter(|ip| is_of(ip, family)).map(str::to_owned).collect();
    if addresses.is_empty() {
        addresses.extend(status.pod_ip.clone().filter(|ip| is_of(ip, family)));
    }
    addresses
}

fn is_of(address: &str, family: &str) -> bool {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    }
}

fn endpoint(world: &World, spec: &ServiceSpec, pod: &Pod, addresses: Vec<String>) -> Endpoint {
    let always = spec.publish_not_ready_addresses == Some(true);
    let (serving, terminating) = (always || pods::is_ready(pod), pods::is_deleted(pod));
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(always || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(&world.service, pod),
        node_name: pods::node(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

/// The Pod's own name under the Service, if it asks to have one there.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is_of_service = spec.subdomain.as_deref() == Some(&*service.name_any());
    spec.hostname.clone().filter(|_| is_of_service)
}

/// The Service's ports as this Pod has them; a port by a name that the Pod does not declare is left out.
pub(crate) fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    let real = pod.annotations().get(ANNOTATION_PORT).and_then(|text| text.parse::<u16>().ok());
    let declared: Vec<&ContainerPort> = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .flat_map(|container| container.ports.iter().flatten())
        .collect();
    let mut ports = Vec::new();
    for (number, port) in spec.ports.iter().flatten().enumerate() {
        let Some(target) = target(port, &declared) else { continue };
        let is_first = match declared.first() {
            Some(first) => first.container_port == target,
            // It declares none: what it listens on is what the Service's first port is about.
            None => number == 0,
        };
        let real = real.filter(|_| is_first);
        ports.push(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            port: Some(real.map_or(target, i32::from)),
            app_protocol: port.app_protocol.clone(),
        });
    }
    ports
}

fn target(port: &ServicePort, declared: &[&ContainerPort]) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let is_it = |port: &&&ContainerPort| {
                port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
            };
            declared.iter().find(is_it).map(|port| port.container_port)
        }
    }
}

fn slice(
    world: &World,
    spec: &ServiceSpec,
    family: &str,
    key: &str,
    number: usize,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let service = world.service.as_ref();
    let seed = format!("{}/{family}/{key}", service.uid().unwrap_or_default());
    let mut labels = service.labels().clone();
    labels.remove(LABEL_HEADLESS);
    labels.insert(LABEL_SERVICE.to_owned(), service.name_any());
    labels.insert(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert(LABEL_HEADLESS.to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", service.name_any(), names::suffix(&seed, number as u64))),
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints).filter(|endpoints| !endpoints.is_empty()),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

/// Whether the slice says exactly what is wanted: a label or an endpoint too many counts.
pub(crate) fn is_same(current: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    current.labels() == wanted.labels()
        && current.address_type == wanted.address_type
        && current.endpoints.as_deref().unwrap_or_default() == wanted.endpoints.as_deref().unwrap_or_default()
        && current.ports.as_deref().unwrap_or_default() == wanted.ports.as_deref().unwrap_or_default()
}
