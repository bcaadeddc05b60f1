//! logs, exec, attach and port-forward: handed on to the node after authorization.

use std::convert::Infallible;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use serde_json::Value;
use tower::ServiceExt;

use crate::reply::{Body, Reply};
use crate::request::{Query, encode};
use crate::server::{KubeletService, Server};
use crate::status::{ApiError, quote};
use crate::store::Key;

/// Sends a request to the node that runs the Pod.
pub(crate) async fn forward(
    server: &Arc<Server>,
    key: &Key,
    subresource: &str,
    query: &Query,
    request: Request<Body>,
) -> Result<Reply, ApiError> {
    let Some(pod) = server.store.get(key) else {
        return Err(ApiError::not_found("pods", "", &key.name));
    };
    let pod = pod.value();
    let container = match subresource {
        "portforward" => String::new(),
        _ => container(&pod, &key.name, query.get("container"))?,
    };
    if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        if subresource == "log" {
            // Nothing has run yet, so the log is empty.
            return Ok(Reply::nothing());
        }
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", key.name)));
    }
    let kubelet = server.kubelet.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let Some(kubelet) = kubelet else {
        return Err(ApiError::unavailable(format!(
            "no node is connected to this server, so `{subresource}` of pod {} cannot be answered",
            quote(&key.name)
        )));
    };
    let place = format!("{}/{}", encode(&key.namespace), encode(&key.name));
    let (path, query) = match subresource {
        "log" => (
            format!("/containerLogs/{place}/{}", encode(&container)),
            query.encode(|name| name != "container"),
        ),
        "portforward" => (format!("/portForward/{place}"), query.encode(|_| true)),
        other => (format!("/{other}/{place}/{}", encode(&container)), exec_query(query)),
    };
    let target = if query.is_empty() { path } else { format!("{path}?{query}") };
    let uri: Uri = target.parse().map_err(ApiError::internal)?;
    // The extensions stay: they carry the upgrade of the connection.
    let (mut head, body) = request.into_parts();
    head.uri = uri;
    let request = Request::from_parts(head, body);
    match call(kubelet, request).await {
        Ok(response) => Ok(Reply { response }),
        Err(never) => match never {},
    }
}

/// The options of a connection as an object, which admission looks at.
pub(crate) fn options(subresource: &str, query: &Query) -> Value {
    let kind = match subresource {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        _ => "PodPortForwardOptions",
    };
    let mut options = serde_json::json!({ "kind": kind, "apiVersion": "v1" });
    for name in ["stdin", "stdout", "stderr", "tty"] {
        if query.flag(name) {
            options[name] = true.into();
        }
    }
    if !query.get("container").is_empty() {
        options["container"] = query.get("container").into();
    }
    let command: Vec<&str> = query.all("command").collect();
    if !command.is_empty() {
        options["command"] = command.into();
    }
    options
}

/// Not async, so that the compiler need not look into the service.
fn call(
    kubelet: KubeletService,
    request: Request<Body>,
) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    Box::pin(kubelet.oneshot(request))
}

/// The kubelet's names for the streams.
fn exec_query(query: &Query) -> String {
    let mut pairs: Vec<String> =
        query.all("command").map(|word| format!("command={}", encode(word))).collect();
    for (theirs, ours) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.flag(theirs) {
            pairs.push(format!("{ours}=1"));
        }
    }
    pairs.join("&")
}

/// The container that is meant: the one named, or the only one.
fn container(pod: &Value, name: &str, asked: &str) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.map(|container| crate::crd::text(&container["name"])).collect()
    };
    let (main, init, ephemeral) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if !asked.is_empty() {
        if [&main, &init, &ephemeral].iter().any(|list| list.iter().any(|known| known == asked)) {
            return Ok(asked.to_owned());
        }
        return Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}")));
    }
    if let Some(default) = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str()
        && main.iter().any(|known| known == default)
    {
        return Ok(default.to_owned());
    }
    match &*main {
        [] => Err(ApiError::bad_request(format!("a container name must be specified for pod {name}"))),
        [only] if init.is_empty() && ephemeral.is_empty() => Ok(only.clone()),
        many => {
            let mut text = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            );
            if !init.is_empty() {
                text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            if !ephemeral.is_empty() {
                text.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
            }
            Err(ApiError::bad_request(text))
        }
    }
}
