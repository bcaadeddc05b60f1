//! The forwarder under load: Pods that come and go, requests that all succeed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dodai_apiserver::{ApiServer, Config, User};
use dodai_node::forwarder::{self, Drains, Limits};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::common::PATIENCE;

struct Bed {
    client: Client,
    drains: Drains,
    _stop: watch::Sender<bool>,
}

impl Bed {
    async fn new(hold_max: Duration) -> Bed {
        let server = ApiServer::open(Config::default()).await.unwrap();
        let client = server.client(User::admin("test"));
        let namespace = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        let _ = namespaces.create(&PostParams::default(), &namespace).await;
        let drains = Drains::default();
        let (stop, stopped) = watch::channel(false);
        let limits = Limits { hold_max, ..Limits::default() };
        tokio::spawn(forwarder::run(client.clone(), drains.clone(), limits, stopped));
        Bed { client, drains, _stop: stop }
    }

    /// A Service on a free port; the address at which it is to answer.
    async fn service(&self, name: &str, app_protocol: &str) -> SocketAddr {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"type": "NodePort", "selector": {"app": name},
                     "ports": [{"name": "http", "port": 80, "targetPort": 8000, "appProtocol": app_protocol}]},
        }))
        .unwrap();
        let services: Api<Service> = Api::namespaced(self.client.clone(), "default");
        let made = services.create(&PostParams::default(), &service).await.unwrap();
        let port = made.spec.unwrap().ports.unwrap()[0].node_port.unwrap();
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()))
    }

    async fn endpoints(&self, service: &str, pods: &[&PodServer]) {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), "default");
        for pod in pods {
            let name = format!("{service}-{}", pod.name);
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": pod.address.port(), "protocol": "TCP"}],
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true},
                    "targetRef": {"kind": "Pod", "namespace": "default", "name": pod.name, "uid": pod.name}}],
            });
            slices.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&slice)).await.unwrap();
        }
    }

    async fn remove(&self, service: &str, pod: &PodServer) {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), "default");
        slices.delete(&format!("{service}-{}", pod.name), &DeleteParams::default()).await.unwrap();
    }
}

/// An HTTP server that stands in for a Pod. When it is stopped it drops everything that it has, as a killed process.
struct PodServer {
    name: String,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: Arc<AtomicUsize>,
    cut_off: Arc<AtomicUsize>,
}

impl PodServer {
    async fn new(name: &str) -> PodServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, mut stopped) = watch::channel(false);
        let (served, cut_off) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&served), Arc::clone(&cut_off), name.to_string());
        tokio::spawn(async move {
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    _ = stopped.changed() => return,
                };
                let (counts, mut stopped) = (counts.clone(), stopped.clone());
                tokio::spawn(async move {
                    let busy = Arc::new(AtomicBool::new(false));
                    let seen = Arc::clone(&busy);
                    let (served, cut_off, name) = counts;
                    let service = service_fn(move |request| {
                        let (busy, served, name) = (Arc::clone(&busy), Arc::clone(&served), name.clone());
                        async move {
                            busy.store(true, Ordering::SeqCst);
                            let answer = answer(request, &name).await;
                            served.fetch_add(1, Ordering::SeqCst);
                            busy.store(false, Ordering::SeqCst);
                            Ok::<_, Infallible>(answer)
                        }
                    });
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    tokio::select! {
                        _ = serving => {}
                        _ = stopped.changed() => {
                            cut_off.fetch_add(usize::from(seen.load(Ordering::SeqCst)), Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        PodServer { name: name.to_string(), address, stop, served, cut_off }
    }
}

async fn answer(mut request: Request<Incoming>, name: &str) -> Response<Full<Bytes>> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut buffer = [0; 64];
            while let Ok(size @ 1..) = stream.read(&mut buffer).await {
                stream.write_all(&buffer[..size]).await.unwrap();
            }
        });
        let response =
            Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
        return response.body(Full::default()).unwrap();
    }
    if request.uri().path() == "/slow" {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let seen =
        ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-mine"].map(|name| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_string()
        });
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Response::new(Full::from(format!("{name} {} {}", seen.join(","), String::from_utf8_lossy(&body))))
}

/// One request on a connection of its own: status and body.
async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("an answer").unwrap();
    let status = text.split(' ').nth(1).unwrap_or("0").parse().unwrap();
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default())
}

async fn connected(address: SocketAddr) {
    tokio::time::timeout(PATIENCE, async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the forwarder listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_pods_are_replaced_under_load() {
    let bed = Bed::new(Duration::from_secs(30)).await;
    let address = bed.service("web", "http").await;
    connected(address).await;
    let mut current = PodServer::new("pod-0").await;
    bed.endpoints("web", &[&current]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut asked = 0;
                while !stop.load(Ordering::SeqCst) {
                    // Half of them on kept connections, some slow, some with a body.
                    if number % 2 == 0 {
                        let (status, body) = match number {
                            0 => ask(address, "GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await,
                            _ => ask(address, "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody").await,
                        };
                        assert_eq!(status, 200, "{body}");
                        asked += 1;
                        continue;
                    }
                    let stream = TcpStream::connect(address).await.unwrap();
                    let (mut sender, connection) =
                        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
                    tokio::spawn(connection);
                    for _ in 0..20 {
                        let path = if number == 1 { "/slow" } else { "/" };
                        let request = Request::post(path).header("host", "h").body(Full::from("kept")).unwrap();
                        let answer = sender.send_request(request).await.unwrap();
                        assert_eq!(answer.status(), 200);
                        assert!(answer.into_body().collect().await.unwrap().to_bytes().ends_with(b"kept"));
                        asked += 1;
                    }
                }
                asked
            })
        })
        .collect();
    for number in 1..=6 {
        let next = PodServer::new(&format!("pod-{number}")).await;
        // Every second time with a gap, in which requests are held.
        if number % 2 == 0 {
            bed.endpoints("web", &[&next]).await;
        }
        let served = current.served.load(Ordering::SeqCst);
        tokio::time::timeout(PATIENCE, async {
            while current.served.load(Ordering::SeqCst) < served + 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the Pod serves");
        bed.drains.drain(&current.name, PATIENCE).await;
        current.stop.send(true).unwrap();
        bed.remove("web", &current).await;
        bed.drains.forget(&current.name);
        if number % 2 == 1 {
            bed.endpoints("web", &[&next]).await;
        }
        assert_eq!(current.cut_off.load(Ordering::SeqCst), 0, "nothing was in flight when it was stopped");
        current = next;
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.await.expect("no request failed") > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_pod_is_passed_over_and_none_at_all_is_said() {
    let bed = Bed::new(Duration::from_millis(300)).await;
    let address = bed.service("web", "http").await;
    connected(address).await;
    let get = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let (status, body) = ask(address, get).await;
    assert_eq!((status, body.as_str()), (503, "no endpoint of default/web is ready\n"));
    let (dead, alive) = (PodServer::new("dead").await, PodServer::new("alive").await);
    bed.endpoints("web", &[&dead, &alive]).await;
    tokio::time::timeout(PATIENCE, async { while ask(address, get).await.0 != 200 {} }).await.unwrap();
    dead.stop.send(true).unwrap();
    for _ in 0..6 {
        let (status, body) = ask(address, get).await;
        assert_eq!(status, 200);
        assert!(body.starts_with("alive") || body.starts_with("dead"), "{body}");
    }
    alive.stop.send(true).unwrap();
    tokio::time::timeout(PATIENCE, async {
        loop {
            let (status, body) = ask(address, get).await;
            if status == 503 {
                assert!(body.contains("no endpoint of default/web accepts a connection"), "{body}");
                return;
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_upgrades_and_plain_tcp_pass_as_they_should() {
    let bed = Bed::new(Duration::from_secs(30)).await;
    let pod = PodServer::new("pod").await;
    let http = bed.service("web", "http").await;
    let tcp = bed.service("raw", "tcp").await;
    for service in ["web", "raw"] {
        bed.endpoints(service, &[&pod]).await;
    }
    connected(http).await;
    connected(tcp).await;
    let request = "GET / HTTP/1.1\r\nHost: shop.localhost\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
                   Connection: close, x-mine\r\nX-Mine: hop\r\n\r\n";
    let (status, body) = ask(http, request).await;
    assert_eq!((status, body.as_str()), (200, "pod 127.0.0.1,shop.localhost,http,-,- "));
    let (_, body) = ask(http, "GET http://other/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(body.contains("other"), "{body}");
    assert_eq!(ask(http, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n").await.0, 405);
    let (_, body) = ask(tcp, request).await;
    assert_eq!(body, "pod 6.6.6.6,-,-,6.6.6.6,hop ", "TCP is passed through as it is");
    let mut stream = TcpStream::connect(http).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .await
        .unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 256];
    while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
        let size = stream.read(&mut buffer).await.unwrap();
        assert!(size > 0);
        seen.extend_from_slice(&buffer[..size]);
    }
    assert!(seen.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&seen));
    stream.write_all(b"there and back").await.unwrap();
    let mut back = [0; 14];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"there and back");
    // An open upgrade is in flight.
    let short = Duration::from_millis(50);
    let drained = tokio::time::timeout(PATIENCE, bed.drains.drain("pod", short));
    drained.await.expect("a drain ends with its grace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_told_on_the_service() {
    let bed = Bed::new(Duration::from_secs(30)).await;
    // Node ports come from a range of their own, so one of it is taken first and asked for by number.
    let (port, _holder) = loop {
        let port = fastrand::u16(30_000..32_767);
        if let Ok(holder) = TcpListener::bind(("127.0.0.1", port)).await {
            break (port, holder);
        }
    };
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "nodePort": port}]},
    }))
    .unwrap();
    let services: Api<Service> = Api::namespaced(bed.client.clone(), "default");
    services.create(&PostParams::default(), &service).await.unwrap();
    let told = async {
        loop {
            let service = serde_json::to_value(services.get("web").await.unwrap()).unwrap();
            if service["status"]["conditions"][0]["type"] == "PortInUse" {
                return service["status"]["conditions"][0].clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let condition = tokio::time::timeout(PATIENCE, told).await.expect("the condition is set");
    assert_eq!(condition["status"], "True");
    assert!(condition["message"].as_str().unwrap().contains(&format!("cannot listen on 127.0.0.1:{port}")));
}
