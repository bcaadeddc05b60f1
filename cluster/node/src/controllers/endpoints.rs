//! `Endpoints`, the older list of a Service's Pods, kept for those who still read it; and the other way round: slices
//! for Endpoints that a person keeps for a Service without selector.

mod mirror;
mod plan;

use std::sync::Arc;

use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::ResourceExt;

use super::endpoint_slice::selects;

pub use mirror::{EndpointsMirrorController, World as MirrorWorld};
pub use plan::World;

/// The controller that keeps the Endpoints of Services with a selector.
pub struct EndpointsController;

impl Controller for EndpointsController {
    type Kind = Service;
    type World = World;
    const NAME: &'static str = "endpoints";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, Service>) {
        watches.mapped::<Endpoints>(|endpoints, _| vec![Key::of(endpoints)]);
        watches.mapped::<Pod>(|pod, view| {
            let namespace = pod.namespace();
            let mut services = view.list::<Service>(namespace.as_deref());
            // One that does not select it any more still names it.
            services.retain(|service| {
                let named =
                    || view.get::<Endpoints>(&namespace.clone().unwrap_or_default(), &service.name_any());
                selects(service, pod) || named().is_some_and(|endpoints| plan::names_pod(&endpoints, pod))
            });
            services.iter().map(|service| Key::of(service.as_ref())).collect()
        });
    }

    fn observe(view: &View, service: &Arc<Service>) -> World {
        let namespace = service.namespace();
        let mut pods = view.list::<Pod>(namespace.as_deref());
        pods.retain(|pod| selects(service, pod));
        let current = view.get::<Endpoints>(&namespace.unwrap_or_default(), &service.name_any());
        World { service: service.clone(), pods, current }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}

/// The controller that deletes Endpoints of ours whose Service has gone.
pub struct LostEndpointsController;

/// Everything that its `plan` may look at.
pub struct LostWorld {
    /// The Endpoints.
    pub endpoints: Arc<Endpoints>,
    /// Whether their Service is there.
    pub has_service: bool,
}

impl Controller for LostEndpointsController {
    type Kind = Endpoints;
    type World = LostWorld;
    const NAME: &'static str = "endpoints-lost";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, Endpoints>) {
        watches.mapped::<Service>(|service, _| vec![Key::of(service)]);
    }

    fn observe(view: &View, endpoints: &Arc<Endpoints>) -> LostWorld {
        let namespace = endpoints.namespace().unwrap_or_default();
        let service = view.get::<Service>(&namespace, &endpoints.name_any());
        LostWorld { endpoints: endpoints.clone(), has_service: service.is_some() }
    }

    fn plan(world: &LostWorld) -> Plan {
        let mut plan = Plan::none();
        let is_ours = world.endpoints.labels().get(plan::LABEL_MANAGED_BY).map(String::as_str);
        if !world.has_service && is_ours == Some(plan::MANAGED_BY) {
            plan.delete(world.endpoints.as_ref());
        }
        plan
    }
}
