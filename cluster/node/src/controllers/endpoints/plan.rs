//! Decides for a Service: its Endpoints, a subset for each set of ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use dodai_kit::Plan;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::controllers::endpoint_slice::{hostname, ports};
use crate::controllers::pods;

/// Label: who keeps the Endpoints.
pub(super) const LABEL_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// Upstream's name for its controller.
pub(super) const MANAGED_BY: &str = "endpoint-controller";
/// Label of the Endpoints of a Service without address.
const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
/// Annotation: there are more addresses than are listed.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses of one object, as upstream cuts them.
const ADDRESSES_MAX: usize = 1000;

/// Everything that `plan` may look at.
pub struct World {
    /// The Service.
    pub service: Arc<Service>,
    /// The Pods that it selects, ordered by name.
    pub pods: Vec<Arc<Pod>>,
    /// The Endpoints of the Service's name.
    pub current: Option<Arc<Endpoints>>,
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    let service = world.service.as_ref();
    let Some(spec) = &service.spec else { return plan };
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    let has_selector = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    if service.metadata.deletion_timestamp.is_some() || is_external || !has_selector {
        return plan;
    }
    let (subsets, is_cut) = subsets(world, spec);
    let mut labels = service.labels().clone();
    labels.remove(LABEL_HEADLESS);
    labels.insert(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert(LABEL_HEADLESS.to_owned(), String::new());
    }
    let mut wanted = match &world.current {
        Some(current) => current.as_ref().clone(),
        None => Endpoints {
            metadata: ObjectMeta {
                name: Some(service.name_any()),
                namespace: service.namespace(),
                ..ObjectMeta::default()
            },
            subsets: None,
        },
    };
    wanted.metadata.labels = Some(labels);
    wanted.subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    match is_cut {
        true => drop(wanted.annotations_mut().insert(OVER_CAPACITY.to_owned(), "truncated".to_owned())),
        false => drop(wanted.metadata.annotations.as_mut().and_then(|notes| notes.remove(OVER_CAPACITY))),
    }
    match &world.current {
        None => plan.create(&wanted),
        Some(current) if is_same(current, &wanted) => {}
        Some(_) => plan.replace(&wanted),
    }
    plan
}

fn is_same(current: &Endpoints, wanted: &Endpoints) -> bool {
    let note = |endpoints: &Endpoints| endpoints.annotations().get(OVER_CAPACITY).cloned();
    current.subsets == wanted.subsets && current.labels() == wanted.labels() && note(current) == note(wanted)
}

/// Whether the Endpoints name the Pod.
pub(super) fn names_pod(endpoints: &Endpoints, pod: &Pod) -> bool {
    let addresses = endpoints.subsets.iter().flatten().flat_map(|subset| {
        subset.addresses.iter().flatten().chain(subset.not_ready_addresses.iter().flatten())
    });
    let mut targets = addresses.filter_map(|address| address.target_ref.as_ref());
    targets.any(|target| target.uid.is_some() && target.uid == pod.metadata.uid)
}

/// Addresses by their ports, and whether some were left out.
fn subsets(world: &World, spec: &ServiceSpec) -> (Vec<EndpointSubset>, bool) {
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    let has_ports = spec.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let (mut listed, mut is_cut) = (0, false);
    for pod in &world.pods {
        let address =
            pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty());
        let (Some(ip), true) = (address, pods::is_active(pod)) else { continue };
        let ports: Vec<EndpointPort> = ports(spec, pod)
            .into_iter()
            .map(|port| EndpointPort {
                name: port.name.filter(|name| !name.is_empty()),
                port: port.port.unwrap_or(0),
                protocol: port.protocol,
                app_protocol: port.app_protocol,
            })
            .collect();
        if ports.is_empty() && has_ports {
            continue;
        }
        if listed == ADDRESSES_MAX {
            is_cut = true;
            break;
        }
        listed += 1;
        let key = serde_json::to_string(&ports).expect("ports serialise to JSON");
        let subset = groups.entry(key).or_default();
        subset.ports = Some(ports).filter(|ports| !ports.is_empty());
        let is_ready = spec.publish_not_ready_addresses == Some(true) || pods::is_ready(pod);
        let list = if is_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address_of(world, pod, ip));
    }
    (groups.into_values().collect(), is_cut)
}

fn address_of(world: &World, pod: &Pod, ip: String) -> EndpointAddress {
    EndpointAddress {
        ip,
        hostname: hostname(&world.service, pod),
        node_name: pods::node(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
    }
}
