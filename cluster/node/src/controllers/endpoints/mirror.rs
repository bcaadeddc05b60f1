//! EndpointSlices for Endpoints that somebody keeps by hand, so that those who read only slices see them.

use std::net::IpAddr;
use std::sync::Arc;

use dodai_kit::plan::controller_reference;
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::plan::{LABEL_MANAGED_BY, MANAGED_BY};
use crate::controllers::endpoint_slice::{LABEL_MANAGED_BY as SLICE_MANAGED_BY, LABEL_SERVICE, is_same};
use crate::controllers::names;

/// Upstream's name for its controller.
const MIRRORED_BY: &str = "endpointslicemirroring-controller.k8s.io";
/// Label: no slices are wanted for these Endpoints.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation: these Endpoints are a lock.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of one subset that are mirrored, as upstream cuts them.
const ADDRESSES_MAX: usize = 1000;

/// The controller that mirrors Endpoints.
pub struct EndpointsMirrorController;

/// Everything that `plan` may look at.
pub struct World {
    /// The Endpoints.
    pub endpoints: Arc<Endpoints>,
    /// Their Service.
    pub service: Option<Arc<Service>>,
    /// The slices that they control.
    pub slices: Vec<Arc<EndpointSlice>>,
}

impl Controller for EndpointsMirrorController {
    type Kind = Endpoints;
    type World = World;
    const NAME: &'static str = "endpointslicemirroring";
    const MANAGER: &'static str = crate::controllers::MANAGER;

    fn watches(watches: &mut Watches<'_, Endpoints>) {
        watches.owned::<EndpointSlice>();
        watches.mapped::<Service>(|service, _| vec![Key::of(service)]);
    }

    fn observe(view: &View, endpoints: &Arc<Endpoints>) -> World {
        let namespace = endpoints.namespace().unwrap_or_default();
        let uid = endpoints.uid().unwrap_or_default();
        let mut slices = view.list::<EndpointSlice>(Some(&namespace));
        slices.retain(|slice| is_controlled_by(slice.as_ref(), &uid));
        World {
            endpoints: endpoints.clone(),
            service: view.get::<Service>(&namespace, &endpoints.name_any()),
            slices,
        }
    }

    fn plan(world: &World) -> Plan {
        let mut plan = Plan::none();
        let wanted = wanted(world);
        for slice in &wanted {
            let current = world.slices.iter().find(|current| current.name_any() == slice.name_any());
            if !current.is_some_and(|current| is_same(current, slice)) {
                plan.apply(slice);
            }
        }
        for slice in &world.slices {
            let is_ours = slice.labels().get(SLICE_MANAGED_BY).is_some_and(|manager| manager == MIRRORED_BY);
            let is_wanted = wanted.iter().any(|wanted| wanted.name_any() == slice.name_any());
            if is_ours && !is_wanted && slice.metadata.deletion_timestamp.is_none() {
                plan.delete(slice.as_ref());
            }
        }
        plan
    }
}

fn wanted(world: &World) -> Vec<EndpointSlice> {
    let endpoints = world.endpoints.as_ref();
    let has_selector = |service: &Service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| !selector.is_empty())
    };
    let is_by_hand = world.service.as_ref().is_some_and(|service| !has_selector(service))
        && endpoints.labels().get(LABEL_MANAGED_BY).map(String::as_str) != Some(MANAGED_BY)
        && endpoints.labels().get(SKIP).map(String::as_str) != Some("true")
        && !endpoints.annotations().contains_key(LEADER)
        && endpoints.metadata.deletion_timestamp.is_none();
    if !is_by_hand {
        return Vec::new();
    }
    let subsets = endpoints.subsets.as_deref().unwrap_or_default();
    let families = ["IPv4", "IPv6"];
    let each = subsets.iter().enumerate().flat_map(|(number, subset)| {
        families.iter().filter_map(move |family| slice(endpoints, number, subset, family))
    });
    each.collect()
}

fn slice(
    endpoints: &Endpoints,
    number: usize,
    subset: &EndpointSubset,
    family: &str,
) -> Option<EndpointSlice> {
    let of_family = |address: &&EndpointAddress| match address.ip.parse::<IpAddr>() {
        Ok(ip) => ip.is_ipv4() == (family == "IPv4"),
        Err(_) => false,
    };
    let ready = subset.addresses.iter().flatten().filter(of_family).map(|address| endpoint(address, true));
    let not_ready = subset.not_ready_addresses.iter().flatten();
    let not_ready = not_ready.filter(of_family).map(|address| endpoint(address, false));
    let all: Vec<Endpoint> = ready.chain(not_ready).take(ADDRESSES_MAX).collect();
    if all.is_empty() {
        return None;
    }
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        port: Some(port.port),
        app_protocol: port.app_protocol.clone(),
    });
    let ports: Vec<EndpointPort> = ports.collect();
    let name = endpoints.name_any();
    let mut labels = endpoints.labels().clone();
    labels.insert(LABEL_SERVICE.to_owned(), name.clone());
    labels.insert(SLICE_MANAGED_BY.to_owned(), MIRRORED_BY.to_owned());
    let seed = format!("{}/{family}", endpoints.uid().unwrap_or_default());
    Some(EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", names::suffix(&seed, number as u64))),
            generate_name: Some(format!("{name}-")),
            namespace: endpoints.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(all),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    })
}

fn endpoint(address: &EndpointAddress, is_ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
