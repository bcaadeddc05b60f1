//! Exec and followed logs as the API server passes them on.

use std::time::Duration;

use dodai_node::KubeletService;
use futures::{SinkExt, StreamExt};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tower::ServiceExt;

use crate::common::PATIENCE;
use crate::kubelet::Cluster;

/// Serves the in-process service on a socket, for a client that needs one.
async fn listen(service: KubeletService) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            let serve = service_fn(move |request: Request<Incoming>| {
                let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                service.clone().oneshot(request)
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), serve)
                    .with_upgrades(),
            );
        }
    });
    address
}

struct Exec {
    socket: tokio_tungstenite::WebSocketStream<TcpStream>,
    protocol: String,
}

impl Exec {
    async fn new(address: std::net::SocketAddr, query: &str, protocols: &str) -> Exec {
        Exec::at(address, &format!("exec/default/web/c?{query}"), protocols).await
    }

    async fn at(address: std::net::SocketAddr, path: &str, protocols: &str) -> Exec {
        let request = Request::get(format!("ws://{address}/{path}"))
            .header("host", "node")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", protocols)
            .body(())
            .unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let protocol = response.headers()["sec-websocket-protocol"].to_str().unwrap().to_string();
        Exec { socket, protocol }
    }

    async fn send(&mut self, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        self.socket.send(Message::binary(message)).await.unwrap();
    }

    /// Takes everything until the end: stdout, stderr, status.
    async fn finish(mut self) -> (String, String, Value) {
        let (mut out, mut err, mut status) = (Vec::new(), Vec::new(), Value::Null);
        let all = async {
            while let Some(Ok(message)) = self.socket.next().await {
                let Message::Binary(data) = message else { continue };
                match data[0] {
                    1 => out.extend_from_slice(&data[1..]),
                    2 => err.extend_from_slice(&data[1..]),
                    3 => status = serde_json::from_slice(&data[1..]).unwrap(),
                    other => panic!("channel {other}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("the command ends");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out), text(err), status)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_speaks_both_protocols_with_streams_a_terminal_and_an_exit_code() {
    let cluster = Cluster::new().await;
    cluster.create(&cluster.pod("web", "sleep 1000")).await;
    let runs = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
    cluster.until("web", "it runs", runs).await;
    let address = listen(cluster.node.as_ref().unwrap().kubelet_service()).await;
    let both = "v5.channel.k8s.io, v4.channel.k8s.io";

    let exec = Exec::new(
        address,
        "command=sh&command=-c&command=echo+out%3B+echo+err+%3E%262%3B+exit+7&output=1&error=1",
        both,
    );
    let exec = exec.await;
    assert_eq!(exec.protocol, "v5.channel.k8s.io");
    let (out, err, status) = exec.finish().await;
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    assert_eq!(
        (&status["reason"], &status["details"]["causes"][0]["message"]),
        (&json!("NonZeroExitCode"), &json!("7"))
    );

    let mut exec = Exec::new(address, "command=cat&input=1&output=1", both).await;
    exec.send(0, b"through ").await;
    exec.send(0, &vec![b'x'; 200_000]).await;
    exec.send(255, &[0]).await;
    let (out, _, status) = exec.finish().await;
    assert_eq!((out.len(), &status["status"]), (200_008, &json!("Success")));

    let query = "command=sh&command=-c&command=read+x%3B+stty+size%3B+echo+%24x&input=1&output=1&tty=1";
    let mut exec = Exec::new(address, query, "v4.channel.k8s.io").await;
    assert_eq!(exec.protocol, "v4.channel.k8s.io");
    exec.send(4, br#"{"Width":120,"Height":40}"#).await;
    exec.send(0, b"typed\n").await;
    let (out, _, status) = exec.finish().await;
    assert!(out.contains("40 120") && out.contains("typed"), "{out}");
    assert_eq!(status["status"], "Success");

    let (_, _, status) = Exec::new(address, "command=nonesuch&output=1", both).await.finish().await;
    assert!(status["message"].as_str().unwrap().contains("command `nonesuch` not found"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followed_log_comes_as_it_is_written_and_ends_with_the_container() {
    let cluster = Cluster::new().await;
    let script = "for i in $(seq 1 200); do echo line $i; done; while ! [ -e /tmp/go ]; do sleep 0.01; done; \
                  yes 'a line of the large part that makes the log rotate' | head -n 250000; echo end";
    cluster.create(&cluster.pod("web", script)).await;
    let runs = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
    let pod = cluster.until("web", "it runs", runs).await;
    let body = http_body_util::Empty::<bytes::Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get("/containerLogs/default/web/c?follow=1").body(body).unwrap();
    let response = cluster.node.as_ref().unwrap().kubelet_service().oneshot(request).await.unwrap();
    let mut body = response.into_body();
    let mut text = Vec::new();
    let mut gone = false;
    let all = async {
        while let Some(frame) = body.frame().await {
            text.extend_from_slice(&frame.unwrap().into_data().unwrap());
            if !gone && text.ends_with(b"line 200\n") {
                gone = true;
                let uid = pod["metadata"]["uid"].as_str().unwrap();
                std::fs::write(cluster.data().join("pods").join(uid).join("scratch/c/tmp/go"), "").unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE.max(Duration::from_secs(60)), all).await.expect("the log ends");
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("line 1\nline 2\n"));
    assert!(text.ends_with("rotate\nend\n"), "...{}", &text[text.len().saturating_sub(200)..]);
    assert_eq!(text.lines().count(), 200 + 250_000 + 1);
}

/// As kube-rs does it: two channels for a port, each of which begins with its number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_is_forwarded_over_channels_to_what_the_pod_listens_on_and_nothing_else() {
    let cluster = Cluster::new().await;
    let script = "cd /tmp && echo hello > index.html && exec python3 -m http.server --bind 127.0.0.1 $PORT";
    let mut pod = cluster.pod("web", script);
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    cluster.create(&pod).await;
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    cluster.until("web", "it is ready", is_ready).await;
    let address = listen(cluster.node.as_ref().unwrap().kubelet_service()).await;
    let foreign = address.port();
    let path = format!("portForward/default/web?ports=80,{foreign}");
    let mut forward = Exec::at(address, &path, "v4.channel.k8s.io").await;
    forward.send(0, b"GET /index.html HTTP/1.0\r\n\r\n").await;
    let mut channels = [const { Vec::new() }; 4];
    let all = async {
        while let Some(Ok(message)) = forward.socket.next().await {
            let Message::Binary(data) = message else { continue };
            channels[usize::from(data[0])].extend_from_slice(&data[1..]);
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("it ends when both ports have ended");
    assert!(channels[0].starts_with(&80u16.to_le_bytes()) && channels[0].ends_with(b"hello\n"));
    assert_eq!(channels[1], 80u16.to_le_bytes());
    assert_eq!(channels[2], foreign.to_le_bytes());
    let refused = String::from_utf8_lossy(&channels[3][2..]).into_owned();
    assert!(refused.contains("nothing in it listens on that port"), "{refused}");
}
