//! `/exec/...`: one command in a container, over a WebSocket with Kubernetes' channel protocol, v4 and v5: the first
//! byte of each message is its channel (0 stdin, 1 stdout, 2 stderr, 3 how it ended, 4 size of the terminal), and in
//! v5 255 closes a channel.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{Body, Query, Refusal};
use crate::kubelet::Here;
use crate::runtime::{ExecRequest, ExecSession};

/// Protocols in the order of our preference.
const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Bytes of output in one message.
const PIECE_BYTES: usize = 16 * 1024;
/// Bytes of a message from a client.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// How long output of what the command left behind is waited for.
const OUTPUT_AFTER_END_MAX: Duration = Duration::from_secs(2);
/// How long a client may take to take the last message.
const GOODBYE_MAX: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Sink = Arc<Mutex<SplitSink<Socket, Message>>>;

pub(super) fn serve(
    mut request: Request<Body>,
    here: Here,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let bad = |message: &str| (StatusCode::BAD_REQUEST, message.to_string());
    let asked = |name: &str, other: &str| query.flag(name) || query.flag(other);
    let exec = ExecRequest {
        container: container.to_string(),
        command: query.all("command"),
        tty: query.flag("tty"),
        stdin: asked("input", "stdin"),
    };
    if exec.command.is_empty() {
        return Err(bad("you must specify at least 1 command"));
    }
    let headers = request.headers();
    let is_websocket =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_websocket);
    let key = key.ok_or_else(|| bad("exec needs a WebSocket upgrade (kubectl 1.31 or newer)"))?.clone();
    let offered: Vec<String> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_string())
        .collect();
    let protocol = PROTOCOLS.iter().find(|known| offered.iter().any(|name| name == *known));
    let protocol =
        protocol.ok_or_else(|| bad("exec needs the protocol v5.channel.k8s.io or v4.channel.k8s.io"))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => run(upgraded, here, exec).await,
            Err(error) => tracing::debug!(%error, "an exec connection was not upgraded"),
        }
    });
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| bad("bad key"))?;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(response)
}

async fn run(upgraded: Upgraded, here: Here, exec: ExecRequest) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (sink, messages) = socket.split();
    let sink = Arc::new(Mutex::new(sink));
    // An empty message says that the connection stands, as upstream's kubelet does.
    if send(&sink, STDOUT, &[]).await.is_err() {
        return;
    }
    let status = match here.handle.exec(exec).await {
        Ok(session) => talk(session, &sink, messages).await,
        Err(error) => Some(internal_error(&error.to_string())),
    };
    // Without a status the client is gone.
    let Some(status) = status else { return };
    let goodbye = async {
        let _ = send(&sink, ERROR, status.to_string().as_bytes()).await;
        let mut sink = sink.lock().await;
        // kubectl takes a close without a code for an accident.
        let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        let _ = sink.send(Message::Close(Some(normal))).await;
        let _ = sink.close().await;
    };
    let _ = timeout(GOODBYE_MAX, goodbye).await;
}

/// Carries bytes until the command ends; its status, or `None` if the client went away first.
async fn talk(
    session: ExecSession,
    sink: &Sink,
    messages: impl futures::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
) -> Option<Value> {
    let ExecSession { stdin, stdout, stderr, resize, exit } = session;
    let output = async {
        tokio::join!(pump(stdout, STDOUT, sink), async {
            if let Some(stderr) = stderr {
                pump(stderr, STDERR, sink).await;
            }
        });
    };
    let ended = async {
        tokio::pin!(output);
        tokio::pin!(exit);
        let mut drained = false;
        let code = loop {
            tokio::select! {
                code = &mut exit => break code,
                _ = &mut output, if !drained => drained = true,
            }
        };
        if !drained {
            let _ = timeout(OUTPUT_AFTER_END_MAX, output).await;
        }
        match code {
            Ok(0) => json!({"metadata": {}, "status": "Success"}),
            Ok(code) => exit_status(code),
            Err(error) => internal_error(&error.to_string()),
        }
    };
    tokio::select! {
        status = ended => Some(status),
        () = take_input(messages, stdin, resize) => None,
    }
}

/// Returns when the client is gone.
async fn take_input(
    mut messages: impl futures::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
    mut stdin: Option<std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send + Sync>>>,
    resize: Option<Box<dyn Fn(u16, u16) + Send + Sync>>,
) {
    while let Some(Ok(message)) = messages.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Close(_) => return,
            _ => continue,
        };
        match data.split_first() {
            Some((&STDIN, bytes)) if !bytes.is_empty() => {
                if let Some(open) = &mut stdin
                    && open.write_all(bytes).await.is_err()
                {
                    stdin = None; // The command reads no more; its output still matters.
                }
            }
            Some((&CLOSE, [STDIN])) => stdin = None,
            Some((&RESIZE, bytes)) => {
                let size: Value = serde_json::from_slice(bytes).unwrap_or_default();
                let number = |name: &str| size[name].as_u64().and_then(|number| u16::try_from(number).ok());
                if let (Some(resize), Some(width), Some(height)) =
                    (&resize, number("Width"), number("Height"))
                {
                    resize(width, height);
                }
            }
            _ => {}
        }
    }
}

async fn pump(mut output: impl AsyncRead + Unpin, channel: u8, sink: &Sink) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(size @ 1..) = output.read(&mut buffer).await {
        if send(sink, channel, &buffer[..size]).await.is_err() {
            return;
        }
    }
}

async fn send(sink: &Sink, channel: u8, bytes: &[u8]) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    sink.lock().await.send(Message::Binary(Bytes::from(message))).await
}

fn exit_status(code: i32) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn internal_error(message: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}
