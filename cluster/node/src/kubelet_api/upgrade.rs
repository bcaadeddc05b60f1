//! Turns a request into a connection: a WebSocket (RFC 6455) with one of the protocols that are known, or SPDY/3.1 as
//! older clients and many programs in Go ask for it.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::{Body, Refusal};

/// Bytes of a message from a client.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Where SPDY clients name the protocols that they speak.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// A WebSocket on the server's side.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a request asked for.
pub(super) enum Asked {
    /// A WebSocket with this protocol.
    WebSocket(&'static str),
    /// SPDY with the one protocol that is known for it.
    Spdy,
}

/// Protocols of one kind of request, in the order of preference.
pub(super) struct Known {
    pub(super) websocket: &'static [&'static str],
    pub(super) spdy: &'static [&'static str],
}

/// The answer 101 and the connection to come, if the request asks for one that is known.
pub(super) fn negotiate(
    request: &mut Request<Body>,
    known: &Known,
) -> Result<(Response<Body>, OnUpgrade, Asked), Refusal> {
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    let headers = request.headers();
    let upgrades = words(headers, &header::UPGRADE);
    let wants = |name: &str| upgrades.iter().any(|word| word.eq_ignore_ascii_case(name));
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let asked = if wants("websocket") {
        let key =
            headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("no WebSocket key".to_string()))?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        let protocol = choose(&words(headers, &header::SEC_WEBSOCKET_PROTOCOL), known.websocket)?;
        answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        answer.insert(
            header::SEC_WEBSOCKET_ACCEPT,
            accept.map_err(|_| bad("a bad WebSocket key".to_string()))?,
        );
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        Asked::WebSocket(protocol)
    } else if wants("spdy/3.1") {
        let protocol = choose(&words(headers, &STREAM_PROTOCOL), known.spdy)?;
        answer.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        answer.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
        Asked::Spdy
    } else {
        return Err(
            bad("unable to upgrade: the request asks for neither WebSocket nor SPDY/3.1".to_string()),
        );
    };
    Ok((response, hyper::upgrade::on(request), asked))
}

fn words(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split(',')).map(|word| word.trim().to_string());
    words.filter(|word| !word.is_empty()).collect()
}

fn choose(offered: &[String], known: &'static [&'static str]) -> Result<&'static str, Refusal> {
    let found = known.iter().find(|known| offered.iter().any(|name| name == *known));
    found.copied().ok_or_else(|| {
        let message = format!("unable to upgrade: none of {offered:?} is known, but {known:?}");
        (StatusCode::FORBIDDEN, message)
    })
}

/// The WebSocket over an upgraded connection.
pub(super) async fn websocket(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}
