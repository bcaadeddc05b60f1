//! The API over HTTPS: TLS with our CA, HTTP/2 and HTTP/1.1, client certificates and bearer tokens.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::authenticate::{authenticate, certificate_user};
use crate::error::Error;
use crate::handle::handle;
use crate::pki::Pki;
use crate::reply::{Body, Reply};
use crate::server::Server;
use crate::user::User;

/// Time for a TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Time for the head of an HTTP/1 request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of the head of an HTTP/1 request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header fields of an HTTP/1 request.
const HEAD_FIELDS_MAX: usize = 100;
/// Streams of an HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Bytes of the header list of an HTTP/2 request.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// Resets by the peer that are not yet accepted.
const RESETS_MAX: usize = 100;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 4096;
/// Time that open connections get when the listener stops.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Travels with a request: turns true when its listener stops, so that watches end at once.
#[derive(Clone)]
pub(crate) struct Stopped(pub(crate) tokio::sync::watch::Receiver<bool>);

/// A running listener. Dropping it leaves the listener running.
pub struct Serving {
    address: SocketAddr,
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://127.0.0.1:6443`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Takes no more connections, and waits (at most two seconds) for those that are open.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the HTTPS listener did not end cleanly");
        }
    }
}

fn tls(pki: &Pki) -> Result<rustls::ServerConfig, Error> {
    let bad = |what: &str| Error::Pki { path: Default::default(), what: what.into() };
    let read = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).collect()
    };
    let mut roots = RootCertStore::empty();
    for certificate in read(&pki.ca) {
        roots.add(certificate).map_err(Error::Tls)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| bad(&error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_slice(pki.server_key.as_bytes()).map_err(|error| bad(&error.to_string()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(read(&pki.server_certificate), key)
        .map_err(Error::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Starts to serve on a listener.
pub(crate) async fn serve(server: Arc<Server>, listener: TcpListener, pki: &Pki) -> Result<Serving, Error> {
    let address = listener.local_addr().map_err(|source| Error::File { path: "listener".into(), source })?;
    let acceptor = TlsAcceptor::from(Arc::new(tls(pki)?));
    server.ca.send_replace(Some(pki.ca.as_str().into()));
    crate::published::publish(&server, address).await.map_err(Error::Bootstrap)?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(accept(server, listener, acceptor, stopped));
    Ok(Serving { address, stop, task })
}

async fn accept(
    server: Arc<Server>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) {
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            _ = stopped.changed() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: it passes.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (server, acceptor, stopped) = (server.clone(), acceptor.clone(), stopped.clone());
        connections.spawn(async move {
            let _slot = slot;
            connection(server, acceptor, stream, stopped).await;
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    stream: tokio::net::TcpStream,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) {
    // Small answers go at once.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = certificate.and_then(|certificate| certificate_user(certificate)).map(Arc::new);
    let ending = Stopped(stopped.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (server, user) = (server.clone(), user.clone());
        request.extensions_mut().insert(ending.clone());
        let request =
            request.map(|body| body.map_err(|error| Box::new(error) as crate::BoxError).boxed_unsync());
        async move { Ok::<_, Infallible>(respond(&server, user.as_deref(), request).await) }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
            return;
        }
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn respond(server: &Arc<Server>, certificate: Option<&User>, request: Request<Body>) -> Response<Body> {
    match authenticate(server, certificate, request.headers()) {
        Ok(user) => handle(server, &user, request).await,
        Err(error) => Reply::error(&error).response,
    }
}
