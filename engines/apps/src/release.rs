//! `Release`: moves one Release along, holding the App's Lease while it does.

pub mod objects;
mod plan;
mod pods;

use std::sync::Arc;

use dodai_api::names::LABEL_APP;
use dodai_api::{App, Release, ReleasePhase};
use dodai_kit::plan::controller_of;
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Key, Plan, View, Watches};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::ResourceExt;

pub use plan::World;

/// The controller of Releases.
pub struct ReleaseController;

impl Controller for ReleaseController {
    type Kind = Release;
    type World = World;
    const NAME: &'static str = "release";
    const MANAGER: &'static str = crate::MANAGER;

    fn watches(watches: &mut Watches<'_, Release>) {
        watches.read::<App>();
        // Whatever happens to something of an App concerns each of its Releases: one waits for the other.
        watches.mapped::<Release>(of_app);
        watches.mapped::<Job>(of_app);
        watches.mapped::<Pod>(of_app);
        watches.mapped::<Deployment>(of_app);
        watches.mapped::<Service>(of_app);
        watches.mapped::<PersistentVolumeClaim>(of_app);
        watches.mapped::<Lease>(of_app);
    }

    fn observe(view: &View, release: &Arc<Release>) -> World {
        let namespace = release.namespace().unwrap_or_default();
        let owner = controller_of(release.as_ref()).map(|owner| owner.uid.clone()).unwrap_or_default();
        let app = view
            .get::<App>(&namespace, &release.spec.app)
            .filter(|app| app.uid().as_deref() == Some(&*owner));
        let is_of_app = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get(LABEL_APP).is_some_and(|app| *app == release.spec.app)
        };
        let mut siblings = view.list::<Release>(Some(&namespace));
        siblings.retain(|other| is_controlled_by(other.as_ref(), &owner) && other.uid() != release.uid());
        siblings.sort_by_key(|other| other.spec.number);
        let mut pods = view.list::<Pod>(Some(&namespace));
        pods.retain(|pod| is_of_app(pod.labels()));
        let mut jobs = view.list::<Job>(Some(&namespace));
        jobs.retain(|job| is_controlled_by(job.as_ref(), &release.uid().unwrap_or_default()));
        let mut deployments = view.list::<Deployment>(Some(&namespace));
        deployments.retain(|deployment| is_controlled_by(deployment.as_ref(), &owner));
        let mut services = view.list::<Service>(Some(&namespace));
        services.retain(|service| is_controlled_by(service.as_ref(), &owner));
        let mut claims = view.list::<PersistentVolumeClaim>(Some(&namespace));
        claims.retain(|claim| is_of_app(claim.labels()));
        World {
            now: view.now(),
            lease: view.get::<Lease>(&namespace, &objects::lease_name(&release.spec.app)),
            release: release.clone(),
            app,
            siblings,
            jobs,
            pods,
            deployments,
            services,
            claims,
        }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}

/// The Releases of the App that an object's label names, without those that are superseded: nothing moves them any more.
fn of_app<K: kube::Resource>(object: &K, view: &View) -> Vec<Key> {
    let (Some(namespace), Some(app)) =
        (&object.meta().namespace, object.meta().labels.as_ref().and_then(|labels| labels.get(LABEL_APP)))
    else {
        return Vec::new();
    };
    let releases = view.list::<Release>(Some(namespace));
    releases
        .iter()
        .filter(|release| release.spec.app == *app && release.phase() != ReleasePhase::Superseded)
        .map(|release| Key::of(release.as_ref()))
        .collect()
}
