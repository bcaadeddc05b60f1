//! The node as one thing: kubelet and forwarder, started and ended together.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::forwarder::{self, Drains, Limits};
use crate::images::{Collected, ImageRef, ImageStore};
use crate::interpreters::{self, Interpreter};
use crate::kubelet::build::BuildSettings;
use crate::kubelet::{self, Parts, Shared};
use crate::kubelet_api::{self, KubeletService};
use crate::runtime::Runtime;
use crate::runtime::process::ProcessRuntime;

/// Asks whoever knows for the images that must not be collected: those that a kept Release names. `None` if that
/// cannot be said now; then nothing is collected.
pub type PinnedImages = Arc<dyn Fn() -> BoxFuture<'static, Option<BTreeSet<ImageRef>>> + Send + Sync>;

/// What a node is started with.
#[derive(Clone)]
pub struct NodeConfig {
    /// dodai's data folder.
    pub data: PathBuf,
    /// Program and first arguments of a Pod's supervisor; the Pod's folder follows.
    pub supervisor_exe: Vec<OsString>,
    /// How long Pods go on when dodai is away; `None` is for ever.
    pub orphan_grace: Option<Duration>,
    /// `PATH` in which interpreters are looked for.
    pub path: String,
    /// Home folder of the person who runs dodai.
    pub home: Option<PathBuf>,
    /// What builds get.
    pub build_settings: BuildSettings,
    /// Images that must stay.
    pub pinned: PinnedImages,
    /// Bounds of the forwarder.
    pub limits: Limits,
    /// Address at which Pods reach the API server over HTTPS: `KUBERNETES_SERVICE_HOST` and `_PORT`.
    pub api: Option<SocketAddr>,
}

impl NodeConfig {
    /// For the program that runs now, with the environment of its process. Nothing is pinned, so nothing is
    /// collected until `pinned` is set.
    pub fn new(data: PathBuf) -> NodeConfig {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        // Variables that are not text cannot be package settings.
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        NodeConfig {
            data,
            supervisor_exe: vec!["/proc/self/exe".into(), SUPERVISOR_ARGUMENT.into()],
            orphan_grace: Some(Duration::from_secs(30)),
            path: std::env::var("PATH").unwrap_or_default(),
            build_settings: BuildSettings::collect(env, home.as_deref()),
            home,
            pinned: Arc::new(|| futures::future::ready(None).boxed()),
            limits: Limits::default(),
            api: None,
        }
    }
}

/// First argument by which the program knows that it is to be a supervisor: see [`crate::supervisor_main`].
pub const SUPERVISOR_ARGUMENT: &str = "__pod-supervisor";

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// Kubelet and forwarder.
    parts: Vec<JoinHandle<()>>,
}

/// A node that is dropped stops at once and tells nobody, as if it was killed: Pods go on under their supervisors.
impl Drop for Node {
    fn drop(&mut self) {
        for part in &self.parts {
            part.abort();
        }
    }
}

impl Node {
    /// Starts a node with the process runtime on the cluster of `client`. Pods that ran are adopted.
    pub async fn start(config: NodeConfig, client: Client) -> Result<Node> {
        std::fs::create_dir_all(&config.data).map_err(Error::file("make", &config.data))?;
        let data = std::fs::canonicalize(&config.data).map_err(Error::file("find", &config.data))?;
        let runtime = Arc::new(ProcessRuntime::new(&data, config.supervisor_exe.clone())?);
        Node::start_with(NodeConfig { data, ..config }, client, runtime).await
    }

    /// Starts a node with another runtime.
    pub async fn start_with(config: NodeConfig, client: Client, runtime: Arc<dyn Runtime>) -> Result<Node> {
        let found = interpreters::detect(&config.path, config.home.as_deref(), &config.data).await;
        let drains = Drains::default();
        let shared = Shared::new(Parts {
            client: client.clone(),
            runtime,
            images: ImageStore::open(&config.data)?,
            interpreters: found,
            build_settings: config.build_settings,
            data: config.data.clone(),
            orphan_grace: config.orphan_grace,
            drains: drains.clone(),
            api: config.api,
        })?;
        kubelet::register(&shared).await?;
        let (stop, stopped) = watch::channel(false);
        Ok(Node {
            parts: vec![
                tokio::spawn(kubelet::run(Arc::clone(&shared), config.pinned, stopped.clone())),
                tokio::spawn(forwarder::run(client, drains, config.limits, stopped)),
            ],
            shared,
            stop,
        })
    }

    /// The kubelet's HTTP API, for the API server.
    pub fn kubelet_service(&self) -> KubeletService {
        kubelet_api::service(Arc::clone(&self.shared))
    }

    /// Language runtimes of this machine.
    pub fn interpreters(&self) -> &[Interpreter] {
        &self.shared.interpreters
    }

    /// The image store.
    pub fn images(&self) -> &ImageStore {
        &self.shared.images
    }

    /// Collects images now: none that is `pinned` or in use.
    pub fn collect_images(&self, pinned: &BTreeSet<ImageRef>) -> Result<Collected> {
        self.shared.collect_images(pinned)
    }

    /// Ends every Pod by its grace, waits for those that must run to their end, and stops forwarding. The API must
    /// answer until this returns.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        for part in std::mem::take(&mut self.parts) {
            if let Err(error) = part.await {
                tracing::warn!(%error, "a part of the node ended badly");
            }
        }
    }
}

/// Returns when the node ends.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // The node was dropped, and whoever waits here with it.
        std::future::pending().await
    }
}
