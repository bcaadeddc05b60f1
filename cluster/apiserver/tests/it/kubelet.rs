//! Logs and exec, handed on to the node.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use dodai_apiserver::{Body, Pki, User};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams, PostParams};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::util::BoxCloneSyncService;

use super::basics::server;

fn text(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

/// A node that answers logs with the request's path, and echoes what an exec sends.
async fn node(mut request: Request<Body>) -> Result<Response<Body>, Infallible> {
    if !request.uri().path().starts_with("/exec/") {
        return Ok(Response::new(text(request.uri().to_string())));
    }
    let path = request.uri().to_string();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        stream.write_all(path.as_bytes()).await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&word).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut response = Response::new(text(String::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    response.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    Ok(response)
}

fn pod(containers: &[&str]) -> Pod {
    let containers: Vec<_> = containers.iter().map(|name| json!({ "name": name, "image": "i" })).collect();
    serde_json::from_value(json!({
        "metadata": { "name": "p" }, "spec": { "nodeName": "dodai", "containers": containers },
    }))
    .unwrap()
}

#[tokio::test]
async fn logs_come_from_the_node_of_the_pod() {
    let server = server().await;
    let pods: Api<Pod> = Api::default_namespaced(server.client(User::admin("test")));
    pods.create(&PostParams::default(), &pod(&["c"])).await.unwrap();
    let params = LogParams { tail_lines: Some(3), ..LogParams::default() };
    let without = pods.logs("p", &params).await.unwrap_err();
    assert!(without.to_string().contains("no node is connected"), "{without}");
    server.set_kubelet(BoxCloneSyncService::new(tower::service_fn(node)));
    let log = pods.logs("p", &params).await.unwrap();
    assert_eq!(log, "/containerLogs/default/p/c?tailLines=3");
}

#[tokio::test]
async fn a_log_of_one_of_several_containers_must_be_asked_for_by_name() {
    let server = server().await;
    server.set_kubelet(BoxCloneSyncService::new(tower::service_fn(node)));
    let pods: Api<Pod> = Api::default_namespaced(server.client(User::admin("test")));
    pods.create(&PostParams::default(), &pod(&["a", "b"])).await.unwrap();
    let refused = pods.logs("p", &LogParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("choose one of: [a b]"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_over_https_is_upgraded_through_to_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let server = server().await;
    server.set_kubelet(BoxCloneSyncService::new(tower::service_fn(node)));
    let pods: Api<Pod> = Api::default_namespaced(server.client(User::admin("test")));
    pods.create(&PostParams::default(), &pod(&["c"])).await.unwrap();
    let pki = Pki::open(folder.path()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = server.serve(listener, &pki).await.unwrap();

    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(&read("admin.crt")).unwrap()],
            PrivateKeyDer::from_pem_slice(&read("admin.key")).unwrap(),
        )
        .unwrap();
    let stream = tokio::net::TcpStream::connect(serving.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request =
        Request::get("/api/v1/namespaces/default/pods/p/exec?command=ls&command=-l&stdin=true&stdout=true")
            .header("host", "localhost")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .body(Empty::<Bytes>::new())
            .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "/exec/default/p/c?command=ls&command=-l&input=1&output=1ping");
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_certificates_tell_who_asks_and_others_are_refused() {
    use dodai_apiserver::{ApiServer, Config};
    let config = Config {
        tokens: [("alice-token".to_owned(), User::new("alice", &["dev"]))].into(),
        ..Config::default()
    };
    let server = ApiServer::open(config).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(server.client(User::new("alice", &["dev"])));
    let refused = pods.get("p").await.unwrap_err();
    let expected = "pods \"p\" is forbidden: User \"alice\" cannot get resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert!(refused.to_string().contains(expected), "{refused}");
}
