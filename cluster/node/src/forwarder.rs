//! Answers Services on their node ports: listens on loopback, follows ready endpoints, and lets a Pod drain before it
//! is stopped. HTTP is understood where the Service says `appProtocol: http`, so that a request, not a connection, is
//! what goes to a Pod; everything else is passed through as TCP.

mod http;
mod table;
mod tcp;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::error::chain;
pub use table::Drains;
use table::{Backend, Endpoint};

/// Client connections at a time, over all Services.
const CONNECTIONS_MAX: usize = 4096;
/// Pause before a port that is taken by another program is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(3);
/// How long connections may go on when dodai ends.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// Label by which an EndpointSlice names its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// How long requests may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a ready endpoint; after that a request is answered with 503.
    pub hold_max: Duration,
    /// For an endpoint to take a connection.
    pub connect_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { hold_max: Duration::from_secs(30), connect_max: Duration::from_secs(3) }
    }
}

/// One port of one Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Route {
    namespace: String,
    service: String,
    /// Name of the Service's port, empty if it has none.
    port_name: String,
    node_port: u16,
    http: bool,
}

struct Forwarder {
    client: Client,
    drains: Drains,
    limits: Limits,
    connections: Arc<Semaphore>,
    routes: HashMap<Route, (Arc<Backend>, AbortHandle)>,
    listeners: JoinSet<()>,
    stop: watch::Receiver<bool>,
}

/// Forwards until `stop` says otherwise.
pub async fn run(client: Client, drains: Drains, limits: Limits, stop: watch::Receiver<bool>) {
    let (services, service_writer) = reflector::store::<Service>();
    let (slices, slice_writer) = reflector::store::<EndpointSlice>();
    let config = watcher::Config::default;
    let service_events =
        watcher(Api::<Service>::all(client.clone()), config()).default_backoff().reflect(service_writer);
    let slice_events =
        watcher(Api::<EndpointSlice>::all(client.clone()), config()).default_backoff().reflect(slice_writer);
    let mut events = stream::select(
        service_events.map(|event| event.map(drop)).boxed(),
        slice_events.map(|event| event.map(drop)).boxed(),
    );
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stop_wait = stop.clone();
    let mut forwarder = Forwarder {
        client,
        drains,
        limits,
        connections: Arc::clone(&connections),
        routes: HashMap::new(),
        listeners: JoinSet::new(),
        stop,
    };
    let mut failed = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(())) => {
                    failed = false;
                    forwarder.update(&services.state(), &slices.state());
                }
                Some(Err(error)) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(error = %chain(&error), "cannot watch Services");
                    }
                }
                None => break,
            },
            Some(_) = forwarder.listeners.join_next(), if !forwarder.listeners.is_empty() => {}
            () = crate::node::told_to_stop(&mut stop_wait) => break,
        }
    }
    forwarder.listeners.abort_all();
    // Every connection holds a permit until it ends; each was told to end after its request.
    let all = connections.acquire_many(CONNECTIONS_MAX as u32);
    let _ = tokio::time::timeout(SHUTDOWN_MAX, all).await;
}

impl Forwarder {
    /// Makes listeners and endpoints what the objects say.
    fn update(&mut self, services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) {
        let mut wanted: BTreeMap<u16, Route> = BTreeMap::new();
        for route in services.iter().flat_map(|service| routes(service)) {
            // Two Services with one port: the API server forbids it, the first one keeps it.
            wanted.entry(route.node_port).or_insert(route);
        }
        self.routes.retain(|route, (_, listener)| {
            let keep = wanted.get(&route.node_port) == Some(route);
            if !keep {
                listener.abort();
            }
            keep
        });
        for route in wanted.into_values() {
            let endpoints = endpoints(&route, slices);
            match self.routes.get(&route) {
                Some((backend, _)) => backend.set(endpoints),
                None => self.listen(route, endpoints),
            }
        }
    }

    fn listen(&mut self, route: Route, endpoints: Vec<Endpoint>) {
        let name = format!("{}/{}", route.namespace, route.service);
        let backend = Arc::new(Backend::new(name, self.drains.clone(), self.limits));
        backend.set(endpoints);
        let task = serve(
            self.client.clone(),
            route.clone(),
            Arc::clone(&backend),
            Arc::clone(&self.connections),
            self.stop.clone(),
        );
        let listener = self.listeners.spawn(task);
        self.routes.insert(route, (backend, listener));
    }
}

fn routes(service: &Service) -> Vec<Route> {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let routes = ports.iter().filter_map(|port| {
        let tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        let node_port = u16::try_from(port.node_port?).ok().filter(|port| tcp && *port > 0)?;
        Some(Route {
            namespace: service.metadata.namespace.clone().unwrap_or_default(),
            service: service.metadata.name.clone().unwrap_or_default(),
            port_name: port.name.clone().unwrap_or_default(),
            node_port,
            http: port.app_protocol.as_deref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("http")),
        })
    });
    routes.collect()
}

fn endpoints(route: &Route, slices: &[Arc<EndpointSlice>]) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for slice in slices {
        let meta = &slice.metadata;
        let service = meta.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
        if meta.namespace.as_ref() != Some(&route.namespace) || service != Some(&route.service) {
            continue;
        }
        let ports = slice.ports.as_deref().unwrap_or_default();
        let port = ports.iter().find(|port| port.name.clone().unwrap_or_default() == route.port_name);
        let Some(port) = port.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            let address = endpoint.addresses.first().and_then(|address| address.parse().ok());
            if let (true, Some(address)) = (ready, address) {
                let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
                found.push(Endpoint {
                    address: std::net::SocketAddr::new(address, port),
                    uid: uid.unwrap_or_default(),
                });
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Listens on the port of a route, as soon as it is free.
async fn serve(
    client: Client,
    route: Route,
    backend: Arc<Backend>,
    connections: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
) {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, route.node_port)).await {
            Ok(listener) => break listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    let message = format!("cannot listen on 127.0.0.1:{}: {error}", route.node_port);
                    tell_port(&client, &route, Some(&message)).await;
                }
                tokio::time::sleep(BIND_AGAIN).await;
            }
        }
    };
    // Told by this process, or by one before it.
    if told || is_told(&client, &route).await {
        tell_port(&client, &route, None).await;
    }
    loop {
        // First a permit, then a connection: what is over the bound waits in the kernel's queue.
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely; those of others come back.
                tracing::warn!(%error, service = route.service, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (backend, stop) = (Arc::clone(&backend), stop.clone());
        if route.http {
            tokio::spawn(async move {
                http::serve(stream, peer, backend, stop).await;
                drop(permit);
            });
        } else {
            tokio::spawn(async move {
                tcp::serve(stream, backend, stop).await;
                drop(permit);
            });
        }
    }
}

/// Whether the Service still says that its port is in use.
async fn is_told(client: &Client, route: &Route) -> bool {
    let services: Api<Service> = Api::namespaced(client.clone(), &route.namespace);
    let service = services.get_opt(&route.service).await.ok().flatten();
    let conditions = service.and_then(|service| service.status?.conditions).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "PortInUse" && condition.status == "True")
}

/// Says on the Service that its port is taken by another program, or that it is no longer.
async fn tell_port(client: &Client, route: &Route, problem: Option<&str>) {
    let now = Timestamp::now();
    let time = crate::kubelet::whole_seconds(now);
    let condition = json!({
        "type": "PortInUse",
        "status": if problem.is_some() { "True" } else { "False" },
        "reason": if problem.is_some() { "PortInUse" } else { "Listening" },
        "message": problem.unwrap_or_default(),
        "lastTransitionTime": time,
    });
    let services: Api<Service> = Api::namespaced(client.clone(), &route.namespace);
    let patch = json!({"status": {"conditions": [condition]}});
    if let Err(error) =
        services.patch_status(&route.service, &PatchParams::default(), &Patch::Merge(&patch)).await
    {
        tracing::warn!(error = %chain(&error), service = route.service, "cannot say that its port is in use");
    }
    let Some(problem) = problem else { return };
    tracing::warn!(service = route.service, problem, "port in use");
    let event = json!({
        "metadata": {"name": format!("{}.{:016x}", route.service, fastrand::u64(..)), "namespace": route.namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Service", "name": route.service, "namespace": route.namespace},
        "type": "Warning", "reason": "PortInUse", "message": problem, "count": 1,
        "firstTimestamp": time, "lastTimestamp": time,
        "source": {"component": "forwarder"}, "reportingComponent": "forwarder", "reportingInstance": "dodai",
    });
    let events: Api<Event> = Api::namespaced(client.clone(), &route.namespace);
    if let Ok(event) = serde_json::from_value(event)
        && let Err(error) = events.create(&PostParams::default(), &event).await
    {
        tracing::debug!(error = %chain(&error), "cannot write an event");
    }
}
