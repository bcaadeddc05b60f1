//! The kubelet: follows the Pods that are bound to this node, gives each a worker, and keeps what is shared by them.

pub(crate) mod build;
mod containers;
mod env;
mod events;
pub(crate) mod lookup;
mod node_object;
mod plan;
mod ports;
mod probes;
mod restart;
mod status;
mod tokens;
mod volumes;
mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dodai_api::names::NODE_NAME;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::error::{Result, chain};
use crate::forwarder::Drains;
use crate::images::{ImageRef, ImageStore, Policy};
use crate::interpreters::Interpreter;
use crate::runtime::{PodHandle, Runtime};
use build::BuildSettings;
use lookup::Lookup;
use ports::Ports;

/// Pods that are worked on at a time; more wait for their turn.
const PODS_MAX: usize = 1000;
/// Pause between two collections of images.
const COLLECT_EVERY: Duration = Duration::from_secs(3600);

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) images: ImageStore,
    pub(crate) interpreters: Vec<Interpreter>,
    pub(crate) build_settings: BuildSettings,
    pub(crate) data: PathBuf,
    pub(crate) orphan_grace: Option<Duration>,
    pub(crate) lookup: Box<dyn Lookup>,
    pub(crate) drains: Drains,
    /// Where Pods reach the API server.
    pub(crate) api: Option<SocketAddr>,
    ports: Ports,
    /// Pods that are here, for logs and exec: by namespace and name.
    pods: Mutex<HashMap<(String, String), Here>>,
    builds: Semaphore,
}

/// A Pod that is here.
#[derive(Clone)]
pub(crate) struct Here {
    pub(crate) pod: Arc<Pod>,
    pub(crate) handle: Arc<dyn PodHandle>,
}

/// What the manager wants of a worker.
#[derive(Clone)]
struct Order {
    pod: Arc<Pod>,
    /// The object is gone: end and remove at once.
    gone: bool,
    /// dodai is ending.
    stopping: bool,
}

/// Parts that a kubelet is made of.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) images: ImageStore,
    pub(crate) interpreters: Vec<Interpreter>,
    pub(crate) build_settings: BuildSettings,
    pub(crate) data: PathBuf,
    pub(crate) orphan_grace: Option<Duration>,
    pub(crate) drains: Drains,
    pub(crate) api: Option<SocketAddr>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Result<Arc<Shared>> {
        let ports = Ports::default();
        for port in parts.runtime.ports()? {
            ports.keep(port);
        }
        Ok(Arc::new(Shared {
            lookup: Box::new(lookup::ApiLookup::new(parts.client.clone())),
            client: parts.client,
            runtime: parts.runtime,
            images: parts.images,
            interpreters: parts.interpreters,
            build_settings: parts.build_settings,
            data: parts.data,
            orphan_grace: parts.orphan_grace,
            drains: parts.drains,
            api: parts.api,
            ports,
            pods: Mutex::default(),
            builds: Semaphore::new(2),
        }))
    }

    /// A Pod by namespace and name.
    pub(crate) fn here(&self, namespace: &str, name: &str) -> Option<Here> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.get(&(namespace.to_string(), name.to_string())).cloned()
    }

    fn arrive(&self, here: Here) {
        let key = key(&here.pod);
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).insert(key, here);
    }

    fn leave(&self, pod: &Pod) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if pods.get(&key(pod)).is_some_and(|here| here.pod.metadata.uid == pod.metadata.uid) {
            pods.remove(&key(pod));
        }
    }

    /// Images that a Pod which is here names.
    fn images_in_use(&self) -> BTreeSet<ImageRef> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let specs = pods.values().filter_map(|here| here.pod.spec.as_ref());
        let containers =
            specs.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        containers.filter_map(|container| ImageRef::parse(container.image.as_deref()?).ok()).collect()
    }

    /// Removes images that nobody needs: not a Pod that is here, not whoever gave `pinned`.
    pub(crate) fn collect_images(&self, pinned: &BTreeSet<ImageRef>) -> Result<crate::images::Collected> {
        let keep: BTreeSet<ImageRef> = self.images_in_use().union(pinned).cloned().collect();
        self.images.collect(&keep, &Policy::default(), std::time::SystemTime::now())
    }
}

fn key(pod: &Pod) -> (String, String) {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// Writes the Node, then works until `stop` says otherwise and every Pod is ended or, if it must run to its end, over.
pub(crate) async fn run(shared: Arc<Shared>, pinned: crate::PinnedImages, stop: watch::Receiver<bool>) {
    let mut helpers = JoinSet::new();
    helpers.spawn(node_object::heartbeat(shared.client.clone()));
    helpers.spawn(collect(Arc::clone(&shared), pinned));
    Manager { shared, workers: BTreeMap::new(), running: JoinSet::new(), stop }.run().await;
}

/// Makes the Node known, after taking back what is stored about its Pods and may no longer be so.
pub(crate) async fn register(shared: &Shared) -> Result<()> {
    restart::mark_unready(&shared.client, NODE_NAME).await?;
    node_object::register(shared).await
}

async fn collect(shared: Arc<Shared>, pinned: crate::PinnedImages) {
    loop {
        tokio::time::sleep(COLLECT_EVERY).await;
        // Whoever pins must answer: an empty answer because of a failure would remove what is needed.
        let Some(pinned) = pinned().await else { continue };
        let shared = Arc::clone(&shared);
        match tokio::task::spawn_blocking(move || shared.collect_images(&pinned)).await {
            Ok(Ok(collected)) if !collected.removed.is_empty() => {
                tracing::info!(
                    images = collected.removed.len(),
                    bytes = collected.size_bytes,
                    "images collected"
                );
            }
            Ok(Err(error)) => tracing::warn!(error = %chain(&error), "cannot collect images"),
            _ => {}
        }
    }
}

struct Manager {
    shared: Arc<Shared>,
    /// By uid.
    workers: BTreeMap<String, watch::Sender<Order>>,
    running: JoinSet<String>,
    stop: watch::Receiver<bool>,
}

impl Manager {
    async fn run(mut self) {
        let api: Api<Pod> = Api::all(self.shared.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={NODE_NAME}"));
        let mut events = watcher::watcher(api, config).default_backoff().boxed();
        let mut listed: Option<BTreeSet<String>> = None;
        let mut stop = self.stop.clone();
        let mut failed = false;
        loop {
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(event)) => {
                        failed = false;
                        self.take(event, &mut listed).await;
                    }
                    Ok(None) => return,
                    Err(error) => {
                        if !std::mem::replace(&mut failed, true) {
                            tracing::warn!(error = %chain(&error), "cannot watch Pods");
                        }
                    }
                },
                _ = self.running.join_next(), if !self.running.is_empty() => {}
                () = crate::node::told_to_stop(&mut stop) => break,
            }
        }
        self.stop_all(&mut events).await;
    }

    /// Tells every worker that dodai ends, and waits for them; deletions still arrive meanwhile.
    async fn stop_all(
        &mut self,
        events: &mut (impl futures::Stream<Item = watcher::Result<Event<Pod>>> + Unpin),
    ) {
        for worker in self.workers.values() {
            worker.send_modify(|order| order.stopping = true);
        }
        let mut listed = None;
        while !self.running.is_empty() {
            tokio::select! {
                _ = self.running.join_next() => {}
                Some(event) = events.next() => if let Ok(event @ (Event::Apply(_) | Event::Delete(_))) = event {
                    let is_known = |pod: &Pod| self.workers.contains_key(&uid(pod));
                    let known = matches!(&event, Event::Apply(pod) | Event::Delete(pod) if is_known(pod));
                    if known {
                        self.take(event, &mut listed).await;
                    }
                },
            }
        }
    }

    async fn take(&mut self, event: Event<Pod>, listed: &mut Option<BTreeSet<String>>) {
        match event {
            Event::Init => *listed = Some(BTreeSet::new()),
            Event::InitApply(pod) => {
                if let Some(listed) = listed {
                    listed.insert(uid(&pod));
                }
                self.pod(pod);
            }
            Event::InitDone => {
                if let Some(listed) = listed.take() {
                    self.end_unlisted(&listed).await;
                }
            }
            Event::Apply(pod) => self.pod(pod),
            Event::Delete(pod) => {
                if let Some(worker) = self.workers.remove(&uid(&pod)) {
                    worker.send_modify(|order| order.gone = true);
                }
            }
        }
    }

    fn pod(&mut self, pod: Pod) {
        let uid = uid(&pod);
        if let Some(worker) = self.workers.get(&uid) {
            worker.send_modify(|order| order.pod = Arc::new(pod));
            return;
        }
        if self.running.len() >= PODS_MAX {
            tracing::warn!(pods = PODS_MAX, "too many Pods; one is left out until its next change");
            return;
        }
        let (sender, orders) = watch::channel(Order { pod: Arc::new(pod), gone: false, stopping: false });
        self.workers.insert(uid.clone(), sender);
        let shared = Arc::clone(&self.shared);
        self.running.spawn(async move {
            worker::run(shared, orders).await;
            uid
        });
    }

    /// What is here and whose object is not: gone while nobody watched, or from before a restart.
    async fn end_unlisted(&mut self, listed: &BTreeSet<String>) {
        let gone: Vec<String> = self.workers.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in &gone {
            if let Some(worker) = self.workers.remove(uid) {
                worker.send_modify(|order| order.gone = true);
            }
        }
        let known = match self.shared.runtime.known() {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot list the Pods that are here");
                return;
            }
        };
        let gone: BTreeSet<String> = gone.into_iter().collect();
        for config in
            known.into_iter().filter(|config| !listed.contains(&config.uid) && !gone.contains(&config.uid))
        {
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let uid = config.uid.clone();
                worker::end_orphan(&shared, config).await;
                uid
            });
        }
    }
}

/// A time as Kubernetes writes it.
pub(crate) fn whole_seconds(at: jiff::Timestamp) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    status::time(at)
}
