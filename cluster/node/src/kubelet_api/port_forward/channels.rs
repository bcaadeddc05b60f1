//! Port-forward over the channels of a WebSocket: for the port at place n of the request, channel 2n carries data and
//! 2n + 1 an error. Both begin with the number of the port, in two bytes, the lower first. One connection for a port.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::super::upgrade::Socket;
use super::super::{Query, Refusal};
use super::{PIECE_BYTES, connect, normal_close};
use crate::kubelet::Here;

/// Ports of one request: a channel is one byte.
const PORTS_MAX: usize = 64;
/// Messages that wait for a Pod to take them.
const PIECES_MAX: usize = 8;
/// In v5: the next byte names a channel that is closed.
const CLOSE: u8 = 255;

type Sink = Arc<Mutex<SplitSink<Socket, Message>>>;

/// The ports that a request names: `ports=80,81`, or several times.
pub(super) fn ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    let mut ports = Vec::new();
    for text in query.all("ports").iter().flat_map(|value| value.split(',')) {
        let port = text.parse().ok().filter(|port| *port != 0);
        ports.push(port.ok_or_else(|| bad(format!("`{text}` is no port")))?);
    }
    match ports.len() {
        0 => Err(bad("query parameter \"ports\" is required".to_string())),
        1..=PORTS_MAX => Ok(ports),
        _ => Err(bad(format!("more than {PORTS_MAX} ports"))),
    }
}

pub(super) async fn run(socket: Socket, ports: Vec<u16>, here: Arc<Here>) {
    let (sink, mut messages) = socket.split();
    let sink = Arc::new(Mutex::new(sink));
    let mut inputs = Vec::new();
    let mut running = JoinSet::new();
    for (place, port) in ports.into_iter().enumerate() {
        let (input, bytes) = mpsc::channel(PIECES_MAX);
        inputs.push(Some(input));
        running.spawn(forward(place as u8 * 2, port, bytes, Arc::clone(&sink), Arc::clone(&here)));
    }
    let from_client = async {
        while let Some(Ok(message)) = messages.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Close(_) => return,
                _ => continue,
            };
            let Some((&channel, bytes)) = data.split_first() else { continue };
            let place = |channel: u8| usize::from(channel / 2);
            match (channel, bytes) {
                (CLOSE, [closed]) if closed % 2 == 0 => {
                    drop(inputs.get_mut(place(*closed)).map(Option::take))
                }
                (channel, bytes) if channel % 2 == 0 && !bytes.is_empty() => {
                    if let Some(Some(input)) = inputs.get(place(channel)) {
                        let _ = input.send(data.slice(1..)).await;
                    }
                }
                _ => {}
            }
        }
    };
    let all = async { while running.join_next().await.is_some() {} };
    tokio::select! {
        () = from_client => return,
        () = all => {}
    }
    let mut sink = sink.lock().await;
    let _ = sink.send(normal_close()).await;
    let _ = sink.close().await;
}

async fn forward(channel: u8, port: u16, mut input: mpsc::Receiver<Bytes>, sink: Sink, here: Arc<Here>) {
    for channel in [channel, channel + 1] {
        if send(&sink, channel, &port.to_le_bytes()).await.is_err() {
            return;
        }
    }
    let socket = match connect(&here, port).await {
        Ok(socket) => socket,
        Err(message) => {
            let _ = send(&sink, channel + 1, message.as_bytes()).await;
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
    };
    let down = async {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(size @ 1..) = from_pod.read(&mut buffer).await {
            if send(&sink, channel, &buffer[..size]).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(up, down);
    // A client that sends no more may still read; a Pod that has closed is the end.
    tokio::select! {
        () = &mut down => return,
        () = &mut up => {}
    }
    down.await;
}

async fn send(sink: &Sink, channel: u8, bytes: &[u8]) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let message = [&[channel], bytes].concat();
    sink.lock().await.send(Message::Binary(Bytes::from(message))).await
}
