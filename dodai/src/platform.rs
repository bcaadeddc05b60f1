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
use dodai_kit::{Clock, Supervisor};
use dodai_node::PinnedImages;
use dodai_node::images::ImageRef;
use dodai_node::{Node, NodeConfig};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use tokio::net::TcpListener;

use crate::components;
use crate::data::DataFolder;
use crate::engines;
use crate::failure::{Context, Failure, Result};
use crate::metrics;

/// File in the data folder that keeps the port of the API over restarts.
const PORT_FILE: &str = "api-port";
/// How long engines may take to end what they have begun; the rest waits for the next start.
pub(crate) const ENGINES_STOP_MAX: Duration = Duration::from_secs(10);

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
    engines: Supervisor,
}

impl Platform {
    /// Starts everything on a data folder.
    pub(crate) async fn start(data: &DataFolder, options: &Options) -> Result<Platform> {
        let server = open(&data.path, options.key_file.clone()).await?;
        let client = server.client(User::admin("dodai").with_agent("dodai"));
        install_crds(&client).await?;
        install_policies(&client).await?;
        let serving = serve(&server, data, options.listen).await?;

        let mut config = NodeConfig::new(data.path.clone());
        config.orphan_grace = options.orphan_grace;
        config.pinned = pinned(client.clone());
        config.api = Some(serving.address());
        let node =
            Node::start(config, server.client(User::admin("system:node:dodai").with_agent("dodai-node")))
                .await
                .context("cannot start the node")?;
        server.set_kubelet(node.kubelet_service());

        let engines = start_engines(&server, options.keyring.clone());
        Ok(Platform { client, server, serving, node, engines })
    }

    /// What people should know of how the API started, such as a lost key.
    pub(crate) fn notices(&self) -> &[String] {
        self.server.notices()
    }

    /// Stops what decides, then what runs (a release command runs to its end), then the API.
    pub(crate) async fn stop(self) -> Result<()> {
        let cut_off = self.engines.stop(ENGINES_STOP_MAX).await;
        if !cut_off.is_empty() {
            tracing::warn!(controllers = ?cut_off, "cut off after {ENGINES_STOP_MAX:?}; the next start takes up what they had begun");
        }
        self.node.shutdown().await;
        self.serving.stop().await;
        self.server.shutdown().await.context("cannot close the store")
    }
}

/// Lists the engines as components of the API, and adds their figures to its metrics.
pub(crate) fn tell(server: &ApiServer, context: &Controllers) {
    let health = context.health.clone();
    server.set_components(move || components::of(&health));
    let context = context.clone();
    server.set_metrics(move || metrics::render(&context));
}

/// Starts every engine beside the workload controllers, and lists them as components of the API.
fn start_engines(server: &ApiServer, keyring: dodai_secrets::seal::Keyring) -> Supervisor {
    let client = server.client(User::admin("dodai").with_agent("dodai-engines"));
    let mut context = Controllers::new(client, Clock::system());
    context.outside = context.outside.with(Arc::new(keyring));
    tell(server, &context);
    let mut running = Supervisor::new(context);
    let workloads = std::iter::once(dodai_node::controllers::engine());
    for engine in workloads.chain(engines::all()) {
        running.start(engine);
    }
    running
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

#[cfg(test)]
#[path = "platform/tests.rs"]
mod tests;
