//! The fault layer: a `kube::Client` whose requests may fail as they do in life.
//!
//! A [`Director`] says what goes wrong with which request; this file does it. Only what a correct server and an ordinary
//! network can do: an event is never left out of a watch that lives, a quorum read is never stale, a deletion is never
//! answered with a conflict.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body as ClientBody;
use serde_json::json;
use tower::ServiceExt;

use super::call::Call;
use crate::reply::{Body, BoxError, full};

/// How long a client waits for an answer that was lost.
pub const LOST_WAIT: Duration = Duration::from_secs(10);

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused with this status code, 429 or 5xx; the server did nothing.
    Refused(u16),
    /// The connection breaks before the request arrives.
    Reset,
    /// The request is lost; the client gives up after [`LOST_WAIT`].
    Lost,
    /// The server does it, the answer is lost; the client gives up after [`LOST_WAIT`].
    DoneThenLost,
    /// An update or patch is answered with a conflict; the server did nothing.
    Conflict,
    /// The server does it, the answer comes late: what was read is old by then.
    Late(Duration),
    /// A watch or the next page of a list begins too far in the past (410).
    Expired,
    /// A list at `resourceVersion=0` is answered from a cache that stands at this revision.
    Stale(u64),
    /// The program ends before the request goes out: its client is dead.
    CrashBefore,
    /// The server does it, and the program ends before the answer comes.
    CrashAfter,
}

impl Fault {
    /// Whether a correct server or network can do this to the request.
    pub fn fits(self, call: &Call) -> bool {
        match self {
            Fault::Conflict => matches!(call.verb(), "update" | "patch" | "apply"),
            Fault::Expired => call.is_watch() || call.query.contains("continue="),
            Fault::Stale(_) => call.verb() == "list" && call.has("resourceVersion", "0"),
            Fault::Late(_) => !call.is_watch(),
            // What was read and got lost was not read.
            Fault::DoneThenLost | Fault::CrashAfter => call.is_write(),
            _ => true,
        }
    }
}

/// What goes wrong with a watch when it has something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// This event and all after it come so much later, in order.
    Late(Duration),
    /// The watch ends before the event.
    Ends,
    /// The connection breaks before the event.
    Breaks,
}

/// Decides what goes wrong.
pub trait Director: Send + Sync + 'static {
    /// Before a request goes out; the answer may wait. A fault that does not fit is left out.
    fn before<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Option<Fault>>;

    /// After the server has answered, or the request was lost (`None`).
    fn after(&self, call: &Call, status: Option<StatusCode>) {
        let _ = (call, status);
    }

    /// Before a watch tells something; the answer may wait.
    fn event<'a>(&'a self, watch: &'a Call) -> BoxFuture<'a, Option<WatchFault>>;

    /// Whether watches go without bookmarks, which a server owes nobody: fewer things happen while all is quiet.
    fn without_bookmarks(&self) -> bool {
        false
    }

    /// The program that asks has ended by [`Fault::CrashBefore`] or [`Fault::CrashAfter`].
    fn crashed(&self) {}
}

/// A client that reaches `client`'s server through the fault layer. `client` may be one of a real cluster.
pub fn layered(client: kube::Client, director: Arc<dyn Director>) -> kube::Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<ClientBody>| {
        let client = client.clone();
        async move {
            let response = client.send(request).await.map_err(|error| Box::new(error) as BoxError)?;
            Ok::<_, BoxError>(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        }
    });
    layered_service(service, &namespace, 0, director)
}

/// As [`layered`], over any service.
pub(crate) fn layered_service<S>(
    service: S,
    namespace: &str,
    instance: usize,
    director: Arc<dyn Director>,
) -> kube::Client
where
    S: tower::Service<Request<ClientBody>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    let numbers = Arc::new(AtomicU64::new(0));
    let service = tower::service_fn(move |request| {
        let number = numbers.fetch_add(1, Ordering::SeqCst);
        perform(service.clone(), director.clone(), number, instance, request)
    });
    kube::Client::new(service, namespace)
}

async fn perform<S>(
    service: S,
    director: Arc<dyn Director>,
    number: u64,
    instance: usize,
    request: Request<ClientBody>,
) -> Result<Response<Body>, BoxError>
where
    S: tower::Service<Request<ClientBody>, Response = Response<Body>> + Send,
    S::Error: Into<BoxError>,
{
    let (mut parts, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let call = Call::new(number, instance, &parts, body.clone());
    let fault = director.before(&call).await.filter(|fault| fault.fits(&call));
    match fault {
        Some(Fault::Refused(code)) => return Ok(answered(&*director, &call, refusal(code))),
        Some(Fault::Conflict) => return Ok(answered(&*director, &call, conflict())),
        Some(Fault::Expired) => return Ok(answered(&*director, &call, expired())),
        Some(Fault::Reset) => return Err(lost(&*director, &call, "connection reset by peer")),
        Some(Fault::Lost) => {
            tokio::time::sleep(LOST_WAIT).await;
            return Err(lost(&*director, &call, "deadline has elapsed"));
        }
        Some(Fault::CrashBefore) => {
            director.crashed();
            return std::future::pending().await;
        }
        Some(Fault::Stale(revision)) => {
            if let Ok(uri) = of_the_past(revision, &call).parse() {
                parts.uri = uri;
            }
        }
        _ => {}
    }
    if call.is_watch() && director.without_bookmarks() {
        let plain: Vec<&str> =
            call.query.split('&').filter(|part| *part != "allowWatchBookmarks=true").collect();
        if let Ok(uri) = format!("{}?{}", call.path, plain.join("&")).parse() {
            parts.uri = uri;
        }
    }
    let sent = service.oneshot(Request::from_parts(parts, ClientBody::from(body))).await;
    let response = sent.map_err(Into::into)?;
    director.after(&call, Some(response.status()));
    match fault {
        Some(Fault::DoneThenLost) => {
            tokio::time::sleep(LOST_WAIT).await;
            Err("deadline has elapsed".into())
        }
        Some(Fault::CrashAfter) => {
            director.crashed();
            std::future::pending().await
        }
        Some(Fault::Late(wait)) => {
            // Whole before it waits, as it would be on the wire.
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            tokio::time::sleep(wait).await;
            Ok(Response::from_parts(head, full(body)))
        }
        _ if call.is_watch() && response.status().is_success() => {
            Ok(response.map(|body| watched(body, call, director)))
        }
        _ => Ok(response),
    }
}

fn answered(director: &dyn Director, call: &Call, response: Response<Body>) -> Response<Body> {
    director.after(call, Some(response.status()));
    response
}

fn lost(director: &dyn Director, call: &Call, why: &'static str) -> BoxError {
    director.after(call, None);
    why.into()
}

/// The path and query of the same list at an exact revision.
fn of_the_past(revision: u64, call: &Call) -> String {
    let query: Vec<&str> =
        call.query.split('&').filter(|part| !part.starts_with("resourceVersion")).collect();
    format!("{}?{}&resourceVersion={revision}&resourceVersionMatch=Exact", call.path, query.join("&"))
}

/// A watch whose events the director sees first.
fn watched(body: Body, call: Call, director: Arc<dyn Director>) -> Body {
    struct Watched {
        body: Body,
        call: Call,
        director: Arc<dyn Director>,
    }
    let state = Watched { body, call, director };
    let frames = stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        let frame = match state.body.frame().await? {
            Ok(frame) => frame,
            Err(error) => return Some((Err(error), None)),
        };
        match state.director.event(&state.call).await {
            None => {}
            Some(WatchFault::Late(wait)) => tokio::time::sleep(wait).await,
            Some(WatchFault::Ends) => return None,
            Some(WatchFault::Breaks) => {
                return Some((Err("connection reset by peer".into()), None));
            }
        }
        Some((Ok::<Frame<Bytes>, BoxError>(frame), Some(state)))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code,
    });
    let mut response = Response::new(full(body.to_string().into()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn refusal(code: u16) -> Response<Body> {
    match code {
        429 => {
            let mut response = status(429, "TooManyRequests", "too many requests, please try again later");
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            response
        }
        500 => {
            status(500, "InternalError", "an error on the server has prevented the request from succeeding")
        }
        code => status(code, "ServiceUnavailable", "the server is currently unable to handle the request"),
    }
}

fn conflict() -> Response<Body> {
    status(
        409,
        "Conflict",
        "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again",
    )
}

fn expired() -> Response<Body> {
    status(410, "Expired", "The provided continue parameter or resource version is too old")
}
