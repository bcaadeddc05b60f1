//! Forwards HTTP/1 request by request, each on a fresh connection to a Pod: a kept one could be closed by the Pod at
//! the very moment a request is sent, and then nobody knows whether it was done.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::table::{Backend, InFlight};
use crate::error::chain;

/// How long a client may take for the head of a request, and a kept connection may be idle.
const HEAD_MAX: Duration = Duration::from_secs(75);
/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Fields of the head of a request.
const HEADERS_MAX: usize = 256;

/// Fields that are about one connection only.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Fields that only a proxy may set; what a client sends of them is a claim.
const FORWARDED: &[&str] = &[
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
];

type Answer = Response<Either<Counted, Full<Bytes>>>;

/// Serves one client connection until it ends; after `stop` it ends with the request that it has.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    backend: Arc<Backend>,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let backend = Arc::clone(&backend);
        async move { Ok::<_, Infallible>(forward(request, peer, &backend).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = crate::node::told_to_stop(&mut stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn forward(mut request: Request<Incoming>, peer: SocketAddr, backend: &Backend) -> Answer {
    if request.method() == Method::CONNECT {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not supported");
    }
    let (stream, in_flight) = match backend.connect().await {
        Ok(connected) => connected,
        Err(reason) => return plain(StatusCode::SERVICE_UNAVAILABLE, &reason),
    };
    let upgrade = upgrade_wanted(request.headers());
    let client_side = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    if let Err(reason) = prepare(&mut request, peer, upgrade) {
        return plain(StatusCode::BAD_REQUEST, reason);
    }
    match exchange(request, stream).await {
        Ok(answer) => finish(answer, client_side, in_flight),
        Err(error) => {
            let reason = format!("{} did not answer: {}", backend.name, chain(&error));
            plain(StatusCode::BAD_GATEWAY, &reason)
        }
    }
}

/// The value of `Upgrade`, if the client asks for one and the connection is named for it.
fn upgrade_wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named =
        named.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| named).cloned()
}

fn prepare(
    request: &mut Request<Incoming>,
    peer: SocketAddr,
    upgrade: Option<HeaderValue>,
) -> Result<(), &'static str> {
    let host = match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(header::HOST).cloned(),
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = if request.uri().path() == "*" {
        Uri::from_static("*")
    } else {
        path.parse().map_err(|_| "bad path")?
    };
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    remove_hop_by_hop(headers);
    for name in FORWARDED {
        headers.remove(*name);
    }
    headers.remove(header::EXPECT); // Answered here, when the body is first read.
    let address = HeaderValue::from_str(&peer.ip().to_string()).map_err(|_| "bad peer")?;
    headers.insert("x-forwarded-for", address);
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host.clone());
        headers.insert(header::HOST, host);
    }
    match upgrade {
        Some(upgrade) => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, upgrade);
        }
        None => {
            // The connection is for this request alone, and the Pod may know it.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    Ok(())
}

/// Removes what is about one connection: the known fields and those that `Connection` names.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
}

async fn exchange(request: Request<Incoming>, stream: TcpStream) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .handshake::<_, Incoming>(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await
}

fn finish(
    mut answer: Response<Incoming>,
    client_side: Option<hyper::upgrade::OnUpgrade>,
    in_flight: InFlight,
) -> Answer {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client_side) = client_side else {
            return plain(StatusCode::BAD_GATEWAY, "the Pod changed the protocol without being asked");
        };
        let pod_side = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            if let (Ok(client), Ok(pod)) = tokio::join!(client_side, pod_side) {
                let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
                let _ = tokio::io::copy_bidirectional(&mut client, &mut pod).await;
            }
            drop(in_flight);
        });
        return answer.map(|_| Either::Right(Full::default()));
    }
    remove_hop_by_hop(answer.headers_mut());
    *answer.version_mut() = Version::HTTP_11;
    answer.map(|body| Either::Left(Counted { body, _in_flight: in_flight }))
}

fn plain(status: StatusCode, reason: &str) -> Answer {
    let mut answer = Response::new(Either::Right(Full::from(format!("{reason}\n"))));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// The body of an answer; its request is in flight until the last byte is taken.
struct Counted {
    body: Incoming,
    _in_flight: InFlight,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_connection_are_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Mine"), ("x-mine", "1"), ("te", "trailers"), ("accept", "*/*")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(upgrade_wanted(&headers), None);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
