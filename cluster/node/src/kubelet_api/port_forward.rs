//! `/portForward/...`: connections to the ports of a Pod. Three ways to carry them: SPDY/3.1; the same inside a
//! WebSocket, as kubectl does since 1.31; and a WebSocket with two channels for each port, as kube-rs does.
//!
//! All Pods share this machine's loopback address with everything else on it, so only what the Pod itself listens on
//! can be reached. The first port that the Pod declares stands for its `PORT`, as in Services.

mod channels;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::upgrade::{self, Asked, Known, Socket};
use super::{Body, Query, Refusal};
use crate::kubelet::Here;
use crate::spdy;

/// SPDY, as it names itself in a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const KNOWN: Known =
    Known { websocket: &[TUNNEL, "v5.channel.k8s.io", "v4.channel.k8s.io"], spdy: &["portforward.k8s.io"] };
/// Bytes taken from a Pod at once.
const PIECE_BYTES: usize = 32 * 1024;
/// Halves of connections that wait for the other one.
const WAITING_MAX: usize = 64;
/// How long a Pod may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

pub(super) fn serve(
    mut request: Request<Body>,
    here: Here,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let (response, upgrade, asked) = upgrade::negotiate(&mut request, &KNOWN)?;
    let ports = match asked {
        Asked::WebSocket(protocol) if protocol != TUNNEL => channels::ports(query)?,
        _ => Vec::new(),
    };
    let here = Arc::new(here);
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "a connection was not upgraded"),
        };
        match asked {
            Asked::WebSocket(TUNNEL) => {
                let socket = upgrade::websocket(upgraded).await;
                over_spdy(tunnel(socket), here).await;
            }
            Asked::WebSocket(_) => channels::run(upgrade::websocket(upgraded).await, ports, here).await,
            Asked::Spdy => {
                let (read, write) = tokio::io::split(TokioIo::new(upgraded));
                over_spdy(spdy::Connection::new(read, write), here).await;
            }
        }
    });
    Ok(response)
}

/// SPDY whose bytes are the payloads of binary messages.
fn tunnel(socket: Socket) -> spdy::Connection {
    let (sink, messages) = socket.split();
    let bytes = messages.filter_map(|message| async {
        match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(Message::Close(_)) => Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        }
    });
    let sink = sink
        .sink_map_err(io::Error::other)
        .with(|bytes: Bytes| async move { Ok::<_, io::Error>(Message::Binary(bytes)) });
    let sink = SinkWriter::new(CopyToBytes::new(Box::pin(sink)));
    spdy::Connection::new(StreamReader::new(Box::pin(bytes)), sink)
}

/// Pairs the streams for data and errors by their request, and connects each pair.
async fn over_spdy(mut connection: spdy::Connection, here: Arc<Here>) {
    let mut waiting: Vec<spdy::Stream> = Vec::new();
    let mut running = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = connection.next() => stream,
            Some(_) = running.join_next(), if !running.is_empty() => continue,
        };
        // Dropping the set ends what still runs.
        let Some(stream) = stream else { return };
        waiting.retain(|other| !other.gone.is_cancelled());
        let is_known = matches!(stream.header("streamtype"), "error" | "data");
        let taken = match is_known && waiting.len() < WAITING_MAX {
            true => stream.output.accept().await,
            false => {
                drop(stream.output.reset().await);
                continue;
            }
        };
        if taken.is_err() {
            return;
        }
        let id = |stream: &spdy::Stream| {
            (stream.header("requestid").to_string(), stream.header("port").to_string())
        };
        let other = waiting.iter().position(|other| {
            id(other) == id(&stream) && other.header("streamtype") != stream.header("streamtype")
        });
        let Some(other) = other else {
            waiting.push(stream);
            continue;
        };
        let other = waiting.swap_remove(other);
        let (data, error) =
            if stream.header("streamtype") == "data" { (stream, other) } else { (other, stream) };
        running.spawn(pair(data, error, Arc::clone(&here)));
    }
}

async fn pair(data: spdy::Stream, error: spdy::Stream, here: Arc<Here>) {
    let spdy::Stream { mut input, output, gone, .. } = data;
    let port = error.header("port").parse().ok().filter(|port| *port != 0);
    let connected = match port {
        Some(port) => connect(&here, port).await,
        None => Err(format!("`{}` is no port", error.header("port"))),
    };
    let socket = match connected {
        Ok(socket) => socket,
        Err(message) => {
            let _ = error.output.send(message.as_bytes()).await;
            let _ = error.output.finish().await;
            let _ = output.finish().await;
            return;
        }
    };
    let (mut from_pod, mut to_pod) = socket.into_split();
    let up = async {
        while let Some(bytes) = input.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to_pod.shutdown().await;
        // The Pod's side goes on; only its end, or the client's, ends the connection.
        std::future::pending::<()>().await;
    };
    let down = async {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(size @ 1..) = from_pod.read(&mut buffer).await {
            if output.send(&buffer[..size]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = down => {}
        () = up => {}
        () = gone.cancelled() => return,
    }
    let _ = output.finish().await;
    let _ = error.output.finish().await;
}

/// Connects to what the Pod listens on under this number; why not, as the client is told.
async fn connect(here: &Here, port: u16) -> Result<TcpStream, String> {
    let fail = |why: &str| {
        let meta = &here.pod.metadata;
        let pod = meta.name.as_deref().unwrap_or_default();
        format!("error forwarding port {port} to pod {pod}: {why}")
    };
    let address = find(here, port).await.ok_or_else(|| fail("nothing in it listens on that port"))?;
    match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| fail(&error.to_string())),
        Err(_) => Err(fail("it did not accept the connection in time")),
    }
}

async fn find(here: &Here, port: u16) -> Option<SocketAddr> {
    let spec = here.pod.spec.as_ref()?;
    let mut declared = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let own = here.handle.config().port;
    let first = declared.next().map(|declared| declared.container_port);
    let real = match (first, own) {
        (Some(first), Some(own)) if first == i32::from(port) => own,
        _ => port,
    };
    for container in &spec.containers {
        let listening = here.handle.listening(&container.name).await.unwrap_or_default();
        if let Some(found) = listening.into_iter().find(|address| address.port() == real) {
            let ip = match found.ip() {
                ip if !ip.is_unspecified() => ip,
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            return Some(SocketAddr::new(ip, real));
        }
    }
    None
}

/// A close with a code, which clients want.
fn normal_close() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Default::default() }))
}
