//! `App`: makes a Release for each new spec, keeps the history short, tells the App's state.

mod plan;
mod secrets;
mod validate;

use std::sync::Arc;

use dodai_api::names::{ANNOTATION_INTERPRETERS, LABEL_APP};
use dodai_api::{App, Release};
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Plan, View, Watches};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Secret, Service};
use kube::ResourceExt;

pub use plan::World;

/// The controller of Apps.
pub struct AppController;

impl Controller for AppController {
    type Kind = App;
    type World = World;
    const NAME: &'static str = "app";
    const MANAGER: &'static str = crate::MANAGER;

    fn watches(watches: &mut Watches<'_, App>) {
        watches.owned::<Release>();
        watches.labelled::<Deployment>(LABEL_APP);
        watches.labelled::<Service>(LABEL_APP);
        watches.mapped::<Secret>(|secret, view| {
            let namespace = secret.namespace().unwrap_or_default();
            let name = secret.name_any();
            let apps = view.list::<App>(Some(&namespace));
            let named = apps.iter().filter(|app| secrets::named(&app.spec).contains_key(&name));
            named.map(|app| dodai_kit::Key::of(app.as_ref())).collect()
        });
        // A Node that tells its interpreters for the first time frees Apps that wait for it.
        watches.mapped::<Node>(|_, view| {
            view.list::<App>(None).iter().map(|app| dodai_kit::Key::of(app.as_ref())).collect()
        });
    }

    fn observe(view: &View, app: &Arc<App>) -> World {
        let namespace = app.namespace().unwrap_or_default();
        let uid = app.uid().unwrap_or_default();
        let mut releases: Vec<Arc<Release>> = view.list::<Release>(Some(&namespace));
        releases.retain(|release| is_controlled_by(release.as_ref(), &uid));
        releases.sort_by_key(|release| release.spec.number);
        let mut deployments = view.list::<Deployment>(Some(&namespace));
        deployments.retain(|deployment| is_controlled_by(deployment.as_ref(), &uid));
        let mut services = view.list::<Service>(Some(&namespace));
        services.retain(|service| is_controlled_by(service.as_ref(), &uid));
        let interpreters = view
            .list::<Node>(None)
            .iter()
            .find_map(|node| node.annotations().get(ANNOTATION_INTERPRETERS).cloned());
        let secrets = secrets::revisions(&app.spec, |name| view.get::<Secret>(&namespace, name));
        let named = secrets::named(&app.spec);
        let named_secrets = named.keys().filter_map(|name| view.get::<Secret>(&namespace, name)).collect();
        World { app: app.clone(), releases, deployments, services, interpreters, secrets, named_secrets }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}
