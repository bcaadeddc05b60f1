//! The Service `kubernetes` in the namespace `default`, through which clients inside a cluster expect to find the API, with its Endpoints
//! and EndpointSlice. Written when the HTTPS listener is there, and again only where something changed.
//!
//! The cluster address is the first of the Service network, as upstream's server chooses it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::server::Server;
use crate::status::ApiError;
use crate::store::{Change, Key, Object, View};
use crate::write::now;

const NAME: &str = "kubernetes";
/// The first address of the Service network.
const CLUSTER_ADDRESS: &str = "10.96.0.1";

/// Brings the three objects in line with where the API listens.
pub(crate) async fn publish(server: &Server, address: SocketAddr) -> Result<(), ApiError> {
    let ip = address.ip().to_string();
    let port = json!({ "name": "https", "protocol": "TCP", "port": address.port() });
    let service = json!({
        "metadata": { "labels": { "component": "apiserver", "provider": "kubernetes" } },
        "spec": {
            "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": address.port() }],
            "clusterIP": CLUSTER_ADDRESS, "clusterIPs": [CLUSTER_ADDRESS], "type": "ClusterIP", "sessionAffinity": "None",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
        },
        "status": { "loadBalancer": {} },
    });
    let endpoints = json!({
        "metadata": { "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{ "addresses": [{ "ip": ip }], "ports": [port] }],
    });
    let slice = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": NAME }, "generation": 1 },
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{ "addresses": [ip], "conditions": { "ready": true } }],
        "ports": [port],
    });
    for (resource, object) in [
        ("core/services", service),
        ("core/endpoints", endpoints),
        ("discovery.k8s.io/endpointslices", slice),
    ] {
        put(server, &Key::new(&resource.into(), "default", NAME), object).await?;
    }
    Ok(())
}

/// Writes `object` unless it stands there already, whatever else others have added to its metadata.
async fn put(server: &Server, key: &Key, object: Value) -> Result<(), ApiError> {
    let decide = |current: Option<&Arc<Object>>, _: &View<'_>| {
        let mut wanted = current.map_or_else(
            || json!({ "metadata": { "name": NAME, "namespace": "default", "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": now() } }),
            |current| current.value(),
        );
        let before = wanted.clone();
        for (member, value) in object.as_object().into_iter().flatten() {
            match member.as_str() {
                "metadata" => {
                    for (field, value) in value.as_object().into_iter().flatten() {
                        wanted["metadata"][field] = value.clone();
                    }
                }
                _ => wanted[member] = value.clone(),
            }
        }
        Ok::<_, ApiError>(if wanted == before { Change::Nothing } else { Change::Put(wanted) })
    };
    server.store.write(key, decide).await.map(|_| ())
}
