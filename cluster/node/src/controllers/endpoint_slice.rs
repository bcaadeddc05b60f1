//! `EndpointSlice`: which Pods serve a Service, at which ports.
//!
//! A Pod with the annotation `node.dodai.dev/port` really listens there: the number takes the place of its first declared
//! port. So Pods of one Service may have different ports, and get a slice for each set of ports.

mod plan;

use std::sync::Arc;

use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

use super::selector;

pub use plan::World;
pub(crate) use plan::{LABEL_MANAGED_BY, LABEL_SERVICE, hostname, is_same, ports};

/// The controller of EndpointSlices.
pub struct EndpointSliceController;

impl Controller for EndpointSliceController {
    type Kind = Service;
    type World = World;
    const NAME: &'static str = "endpointslice";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, Service>) {
        watches.owned::<EndpointSlice>();
        watches.mapped::<Pod>(|pod, view| {
            let namespace = pod.namespace();
            let mut services = view.list::<Service>(namespace.as_deref());
            services.retain(|service| selects(service, pod));
            let mut keys: Vec<Key> = services.iter().map(|service| Key::of(service.as_ref())).collect();
            // One that does not select it any more, but still names it.
            for slice in view.list::<EndpointSlice>(namespace.as_deref()) {
                if let Some(service) = slice.labels().get(plan::LABEL_SERVICE)
                    && plan::names_pod(&slice, pod)
                {
                    keys.push(Key::new(pod.namespace().unwrap_or_default(), service));
                }
            }
            keys.sort();
            keys.dedup();
            keys
        });
    }

    fn observe(view: &View, service: &Arc<Service>) -> World {
        let uid = service.uid().unwrap_or_default();
        let namespace = service.namespace();
        let mut slices = view.list::<EndpointSlice>(namespace.as_deref());
        slices.retain(|slice| is_controlled_by(slice.as_ref(), &uid));
        let mut pods = view.list::<Pod>(namespace.as_deref());
        pods.retain(|pod| selects(service, pod));
        World { service: service.clone(), pods, slices }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}

/// Whether the Service selects the Pod.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| selector::of_service(spec.selector.as_ref()));
    selector.is_some_and(|selector| selector::selects(&selector, pod.labels()))
}
