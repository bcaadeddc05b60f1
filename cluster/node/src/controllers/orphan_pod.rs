//! Pods whose Job has gone: the finalizer that kept them until they were counted is taken away, so that they can go too.
//!
//! Only from a Pod that is being deleted, and only when the API server says that its Job is gone: a Job that is merely not
//! seen may be ahead of the cache of Jobs, and what its Pod did would be lost.

mod gone;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dodai_kit::plan::controller_of;
use dodai_kit::{Context, Controller, Key, Plan, View, Watches};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::sync::watch;

pub use gone::Gone;

use super::job::FINALIZER;
use super::planted::{self, Bug};

/// When to look whether the API server has answered.
const ANSWERED_AFTER: Duration = Duration::from_millis(250);

/// The controller of Pods that lost their Job.
pub struct OrphanPodController;

/// Everything that `plan` may look at.
pub struct World {
    /// The Pod.
    pub pod: Arc<Pod>,
    /// Where its Job is.
    pub job: Whereabouts,
}

/// Where the Job of a Pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// It is there, or the Pod is no Job's to count.
    Seen,
    /// It is not seen, which may change.
    NotSeen,
    /// It is gone for good, or was taken from the Pod.
    Gone,
}

/// Runs the controller until `stop` says `true`.
pub fn run(context: Context, stop: watch::Receiver<bool>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let (gone, asked) = Gone::new();
    let gone = Arc::new(gone);
    let outside = context.outside.clone().with(gone.clone());
    let client = context.client.clone();
    let controller = dodai_kit::run::<OrphanPodController>(Context { outside, ..context }, stop);
    Box::pin(async move {
        tokio::select! {
            biased;
            () = controller => {}
            // It ends only with those who ask.
            () = gone.answer(client, asked) => {}
        }
    })
}

impl Controller for OrphanPodController {
    type Kind = Pod;
    type World = World;
    const NAME: &'static str = "job-orphan-pod";
    const MANAGER: &'static str = super::MANAGER;

    fn watches(watches: &mut Watches<'_, Pod>) {
        // A Job that goes frees its Pods.
        watches.mapped::<Job>(|job, view| {
            let mut pods = view.list::<Pod>(job.namespace().as_deref());
            let uid = job.uid();
            pods.retain(|pod| controller_of(pod.as_ref()).map(|owner| &owner.uid) == uid.as_ref());
            pods.iter().map(|pod| Key::of(pod.as_ref())).collect()
        });
    }

    fn observe(view: &View, pod: &Arc<Pod>) -> World {
        let namespace = pod.namespace().unwrap_or_default();
        let job = match controller_of(pod.as_ref()).filter(|owner| owner.kind == "Job") {
            _ if !is_to_go(pod) => Whereabouts::Seen,
            None => Whereabouts::Gone,
            Some(owner) => {
                let found = view.get::<Job>(&namespace, &owner.name);
                let is_seen = found.is_some_and(|job| job.metadata.uid.as_ref() == Some(&owner.uid));
                // In a plan case there is nobody to ask, and what is not seen is gone.
                let gone = view.outside::<Gone>();
                let is_gone =
                    || gone.is_none_or(|gone| gone.is(Key::new(&namespace, &owner.name), &owner.uid));
                match is_seen {
                    true => Whereabouts::Seen,
                    false if planted::is(Bug::OrphanPodBelievesItsCache) || is_gone() => Whereabouts::Gone,
                    false => Whereabouts::NotSeen,
                }
            }
        };
        World { pod: pod.clone(), job }
    }

    fn plan(world: &World) -> Plan {
        let mut plan = Plan::none();
        if !is_to_go(&world.pod) {
            return plan;
        }
        match world.job {
            Whereabouts::Seen => {}
            Whereabouts::NotSeen => plan.again_in(ANSWERED_AFTER),
            Whereabouts::Gone => plan.replace(&super::job::untracked(&world.pod)),
        }
        plan
    }
}

/// Whether it is being deleted, and held until it is counted.
fn is_to_go(pod: &Pod) -> bool {
    let is_held = pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    is_held && pod.metadata.deletion_timestamp.is_some()
}
