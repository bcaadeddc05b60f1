//! Everything that `up` starts in this process: the Kubernetes API on a store of ours, the node, the engines.
//!
//! Order matters: the API first, since all others are its clients; the node before the engines, so that what is stored
//! about Pods is true again before anyone decides by it. Stopping goes the other way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dodai_api::Release;
use dodai_apiserver::{ApiServer, Config, KeyPlace, Pki, Serving, Storage, User};
use dodai_kit::controller::Context as Controllers;
use dodai_kit::{Clock, Engine};
use dodai_node::PinnedImages;
use dodai_node::images::ImageRef;
use dodai_node::{Node, NodeConfig};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::data::DataFolder;
use crate::engines;
use crate::failure::{Context, Failure, Result};

/// File in the data folder that keeps the port of the API over restarts.
const PORT_FILE: &str = "api-port";
/// First and longest wait before a controller that ended is started again.
const RESTART_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// How to start.
pub(crate) struct Options {
    /// Where the API listens; port 0: where it listened last time, or a free one.
    pub(crate) listen: SocketAddr,
    /// How long Pods outlive this process when it is killed; `None`: for ever.
    pub(crate) orphan_grace: Option<Duration>,
    /// File with the key that seals Secrets on the disk; `None`: in the user's configuration folder.
    pub(crate) key_file: Option<PathBuf>,
    /// What opens encrypted secrets.
    pub(crate) keyring: dodai_secrets::seal::Keyring,
}

/// The running platform.
pub(crate) struct Platform {
    pub(crate) client: Client,
    server: ApiServer,
    serving: Serving,
    node: Node,
    controllers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Platform {
    /// Starts everything on a data folder.
    pub(crate) async fn start(data: &DataFolder, options: &Options) -> Result<Platform> {
        let server = open(&data.path, options.key_file.clone()).await?;
        let client = server.client(User::admin("dodai").with_agent("dodai"));
        install_crds(&client).await?;
        install_policies(&client).await?;
        let serving = serve(&server, data, options.listen).await?;

        let (stop, stopped) = watch::channel(false);
        let mut config = NodeConfig::new(data.path.clone());
        config.orphan_grace = options.orphan_grace;
        config.pinned = pinned(client.clone());
        config.api = Some(serving.address());
        let mut controllers = Controllers::new(
            server.client(User::admin("dodai").with_agent("dodai-engines")),
            Clock::system(),
        );
        controllers.outside = controllers.outside.with(Arc::new(options.keyring.clone()));
        let node =
            Node::start(config, server.client(User::admin("system:node:dodai").with_agent("dodai-node")))
                .await
                .context("cannot start the node")?;
        server.set_kubelet(node.kubelet_service());

        let mut running = JoinSet::new();
        let workloads = std::iter::once(dodai_node::controllers::engine());
        for engine in workloads.chain(engines::all()) {
            start(engine, &controllers, &stopped, &mut running);
        }
        Ok(Platform { client, server, serving, node, controllers: running, stop })
    }

    /// What people should know of how the API started, such as a lost key.
    pub(crate) fn notices(&self) -> &[String] {
        self.server.notices()
    }

    /// Stops what decides, then what runs (a release command runs to its end), then the API.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while self.controllers.join_next().await.is_some() {}
        self.node.shutdown().await;
        self.serving.stop().await;
        self.server.shutdown().await.context("cannot close the store")
    }
}

/// The images that kept Releases name; without an answer nothing is collected.
fn pinned(client: Client) -> PinnedImages {
    Arc::new(move || {
        let releases: Api<Release> = Api::all(client.clone());
        Box::pin(async move {
            let releases = releases.list(&ListParams::default()).await.ok()?;
            Some(releases.iter().filter_map(|release| ImageRef::parse(&release.spec.image).ok()).collect())
        })
    })
}

async fn open(data: &Path, key_file: Option<PathBuf>) -> Result<ApiServer> {
    let config = Config {
        storage: Storage::Disk(data.join("state")),
        keys: key_file.map(KeyPlace::File),
        service_account_tokens: true,
        ..Config::default()
    };
    ApiServer::open(config).await.map_err(|error| Failure::from_error("cannot open the embedded API", &error))
}

/// The CRDs of our own kinds, as this version has them.
async fn install_crds(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply("dodai").force();
    for crd in dodai_api::crds::all() {
        let name = crd.name_any();
        api.patch(&name, &params, &Patch::Apply(&crd))
            .await
            .context(format!("cannot install the CRD `{name}`"))?;
    }
    Ok(())
}

/// The admission policies of the engines.
async fn install_policies(client: &Client) -> Result<()> {
    let params = PatchParams::apply("dodai").force();
    for object in dodai_secrets::policy::objects() {
        let kind = object["kind"].as_str().unwrap_or_default();
        let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        let what = format!("cannot install the {kind} `{}`", dodai_secrets::policy::NAME);
        let (resource, _) = kube::discovery::pinned_kind(client, &gvk).await.context(&what)?;
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        api.patch(dodai_secrets::policy::NAME, &params, &Patch::Apply(&object)).await.context(&what)?;
    }
    Ok(())
}

/// HTTPS on loopback, and the kubeconfig for it.
async fn serve(server: &ApiServer, data: &DataFolder, listen: SocketAddr) -> Result<Serving> {
    let pki = Pki::open(&data.path.join("pki"))
        .map_err(|error| Failure::from_error("cannot make the certificates", &error))?;
    let listener = listener(data, listen).await?;
    let address = listener.local_addr().context("cannot listen")?;
    data.keep(PORT_FILE, &address.port().to_string())?;
    pki.write_kubeconfig(&data.path.join("kubeconfig"), &format!("https://{address}"))
        .map_err(|error| Failure::from_error("cannot write the kubeconfig", &error))?;
    server.serve(listener, &pki).await.map_err(|error| Failure::from_error("cannot serve the API", &error))
}

/// The port of last time if it is still free, so that kubeconfigs stay right.
async fn listener(data: &DataFolder, listen: SocketAddr) -> Result<TcpListener> {
    if !listen.ip().is_loopback() {
        return Err(Failure::invalid(format!("`--listen {listen}` is not a loopback address"))
            .hint("everything listens on loopback only; forward the port if others must reach it"));
    }
    if listen.port() == 0
        && let Some(port) = data.recall(PORT_FILE).and_then(|text| text.parse().ok())
        && let Ok(listener) = TcpListener::bind(SocketAddr::new(listen.ip(), port)).await
    {
        return Ok(listener);
    }
    TcpListener::bind(listen).await.map_err(|error| {
        Failure::from_error(format!("cannot listen on `{listen}`"), &error)
            .hint("`--listen 127.0.0.1:0` takes a free port")
    })
}

/// Runs each controller of an engine; one that ends or panics is started again alone.
fn start(engine: Engine, context: &Controllers, stop: &watch::Receiver<bool>, running: &mut JoinSet<()>) {
    for (name, run) in engine.controllers {
        let (engine, context, mut stop) = (engine.name, context.clone(), stop.clone());
        running.spawn(async move {
            let mut wait = RESTART_WAIT.0;
            loop {
                let ended = tokio::spawn(run(context.clone(), stop.clone())).await;
                if *stop.borrow() {
                    return;
                }
                tracing::error!(
                    engine,
                    controller = name,
                    ?ended,
                    ?wait,
                    "a controller ended and is started again"
                );
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(RESTART_WAIT.1),
                }
            }
        });
    }
}
