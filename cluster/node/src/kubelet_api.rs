//! The part of the kubelet's HTTP API that the API server proxies to: logs, exec, attach, port-forward. An in-process service, never a
//! socket; whoever calls it has authorized the request.

mod exec;
mod logs;
mod port_forward;
mod remote_command;
mod upgrade;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::util::BoxCloneSyncService;

use crate::kubelet::{Here, Shared};
use crate::runtime::Container;

/// A body of any kind.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
/// The kubelet's HTTP API.
pub type KubeletService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Length of a query that is read.
const QUERY_BYTES_MAX: usize = 64 * 1024;

/// Status and text of an answer that is an error.
type Refusal = (StatusCode, String);

pub(crate) fn service(shared: Arc<Shared>) -> KubeletService {
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let shared = Arc::clone(&shared);
        async move { Ok(answer(&shared, request).await) }
    }))
}

async fn answer(shared: &Shared, request: Request<Body>) -> Response<Body> {
    match route(shared, request).await {
        Ok(response) => response,
        Err((status, message)) => text(status, message),
    }
}

async fn route(shared: &Shared, request: Request<Body>) -> Result<Response<Body>, Refusal> {
    let path = request.uri().path().to_string();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    match parts.as_slice() {
        ["containerLogs", namespace, pod, container] => {
            let (here, record) = find(shared, namespace, pod, container)?;
            logs::serve(shared, &here, container, record, &query)
        }
        ["exec", namespace, pod, container] => {
            let (here, _) = find(shared, namespace, pod, container)?;
            exec::exec(request, here, container, &query)
        }
        ["attach", namespace, pod, container] => {
            let (here, _) = find(shared, namespace, pod, container)?;
            exec::attach(request, here, container, &query)
        }
        ["portForward", namespace, pod] => {
            port_forward::serve(request, on_node(shared, namespace, pod)?, &query)
        }
        ["healthz"] => Ok(text(StatusCode::OK, "ok".to_string())),
        _ => Err((StatusCode::NOT_FOUND, "page not found".to_string())),
    }
}

/// The Pod, and its container if that was ever started.
fn find(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(Here, Option<Container>), Refusal> {
    let here = on_node(shared, namespace, pod)?;
    let spec = here.pod.spec.as_ref();
    let mut names =
        spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    if !names.any(|spec| spec.name == container) {
        return Err((StatusCode::NOT_FOUND, format!("container {container} is not valid for pod {pod}")));
    }
    let record = here.handle.state().borrow().containers.get(container).cloned();
    Ok((here, record))
}

fn on_node(shared: &Shared, namespace: &str, pod: &str) -> Result<Here, Refusal> {
    let here = shared.here(namespace, pod);
    here.ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod \"{pod}\" is not on this node yet")))
}

fn text(status: StatusCode, message: String) -> Response<Body> {
    let mut response = Response::new(body(Full::from(message)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn body(full: Full<Bytes>) -> Body {
    full.map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// The parameters of a request.
struct Query(HashMap<String, Vec<String>>);

impl Query {
    fn parse(text: &str) -> Result<Query, Refusal> {
        if text.len() > QUERY_BYTES_MAX {
            return Err((StatusCode::URI_TOO_LONG, "the query is too long".to_string()));
        }
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.entry(decode(name)).or_default().push(decode(value));
        }
        Ok(Query(values))
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|values| values.first()).map(String::as_str)
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.first(name), Some("1" | "true" | "True" | "TRUE" | "t"))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.first(name) else { return Ok(None) };
        let bad = |_| (StatusCode::BAD_REQUEST, format!("`{name}` is no number: `{value}`"));
        value.parse().map(Some).map_err(bad)
    }
}

fn decode(text: &str) -> String {
    let text = text.as_bytes();
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escaped = text
            .get(at + 1..at + 3)
            .filter(|_| text[at] == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                at += 3;
            }
            None => {
                bytes.push(if text[at] == b'+' { b' ' } else { text[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%20b%3D%25&tty=1&bad=%zz%4").unwrap();
        assert_eq!(query.all("command"), ["sh", "-c", "echo a b=%"]);
        assert!(query.flag("tty") && !query.flag("input"));
        assert_eq!(query.first("bad"), Some("%zz%4"));
        assert!(query.number("tty").unwrap() == Some(1) && query.number("bad").is_err());
    }
}
