//! The way to a webhook: where it is, TLS, one HTTP request with a bounded answer in bounded time.
//!
//! Leaves out connections that are kept: each call makes its own.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::crd::text;
use crate::server::Server;
use crate::status::quote;
use crate::store::Key;

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 3 << 20;
/// Bytes of an answer that are repeated in an error.
const SHOWN_BYTES_MAX: usize = 512;
/// Where the certificates of the machine are, if the webhook names none.
const MACHINE_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// `clientConfig`.
#[derive(Debug)]
pub(super) struct Target {
    place: Place,
    /// PEM; empty for the roots of the machine.
    roots: Vec<u8>,
    tls: OnceLock<Result<Arc<rustls::ClientConfig>, String>>,
}

#[derive(Debug)]
enum Place {
    Url(String),
    Service { namespace: String, name: String, port: u16, path: String },
    Nowhere,
}

/// What is connected to, and what for.
struct Route {
    /// Name or address, and port.
    address: (String, u16),
    /// The name the certificate must have.
    name: String,
    /// `host:port` as the request names it.
    authority: String,
    path: String,
}

impl Target {
    pub(super) fn read(config: &Value) -> Target {
        let service = &config["service"];
        let place = match (config["url"].as_str(), service.is_object()) {
            (Some(url), _) => Place::Url(url.to_owned()),
            (None, true) => Place::Service {
                namespace: text(&service["namespace"]),
                name: text(&service["name"]),
                port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
                path: text(&service["path"]),
            },
            (None, false) => Place::Nowhere,
        };
        let bundle = base64::engine::general_purpose::STANDARD.decode(text(&config["caBundle"]));
        Target { place, roots: bundle.unwrap_or_default(), tls: OnceLock::new() }
    }

    /// Sends a review and gives the body of the answer; the error has upstream's form.
    pub(super) async fn post(
        &self,
        server: &Server,
        body: &[u8],
        timeout: Duration,
    ) -> Result<Bytes, String> {
        let seconds = timeout.as_secs();
        let (url, route) = self.route(server, seconds)?;
        let failed = |reason: String| format!("failed to call webhook: Post {}: {reason}", quote(&url));
        let route = route.map_err(failed)?;
        let tls = self.tls.get_or_init(|| client_config(&self.roots)).clone().map_err(failed)?;
        let sent = tokio::time::timeout(timeout, send(&route, tls, body, seconds));
        match sent.await {
            Err(_) => Err(failed("context deadline exceeded".into())),
            Ok(Err(Trouble::Connection(reason))) => Err(failed(reason)),
            Ok(Err(Trouble::Answer(reason))) => Err(format!("failed to call webhook: {reason}")),
            Ok(Ok(bytes)) => Ok(bytes),
        }
    }

    /// The URL as errors name it, and where it leads.
    #[allow(clippy::type_complexity)]
    fn route(&self, server: &Server, seconds: u64) -> Result<(String, Result<Route, String>), String> {
        match &self.place {
            Place::Nowhere => {
                Err("could not get REST client: webhook configuration must have either service or URL".into())
            }
            Place::Url(url) => {
                let uri: Uri = url
                    .parse()
                    .map_err(|error| format!("could not get REST client: Unparsable URL: {error}"))?;
                let host = uri.host().unwrap_or_default().to_owned();
                let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let authority = uri.authority().map(|authority| authority.to_string()).unwrap_or_default();
                let path = if uri.path().is_empty() { "/" } else { uri.path() }.to_owned();
                let shown = format!("https://{authority}{path}?timeout={seconds}s");
                let port = uri.port_u16().unwrap_or(443);
                Ok((shown, Ok(Route { address: (bare.clone(), port), name: bare, authority, path })))
            }
            Place::Service { namespace, name, port, path } => {
                let host = format!("{name}.{namespace}.svc");
                let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
                let shown = format!("https://{host}:{port}{path}?timeout={seconds}s");
                let route = resolve(server, namespace, name, *port).map(|address| Route {
                    address,
                    authority: format!("{host}:{port}"),
                    name: host,
                    path,
                });
                Ok((shown, route))
            }
        }
    }
}

/// An address behind a Service, by the endpoints this server knows.
fn resolve(server: &Server, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String> {
    let key = Key::new(&server.services, namespace, name);
    let service = server.store.get(&key).ok_or_else(|| format!("service {} not found", quote(name)))?.value();
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        return Ok((text(&spec["externalName"]), port));
    }
    let mut ports = spec["ports"].as_array().into_iter().flatten();
    let wanted = ports.find(|known| known["port"].as_u64() == Some(u64::from(port)));
    let wanted = wanted.ok_or_else(|| format!("no service port {port} found for service {}", quote(name)))?;
    let port_name = text(&wanted["name"]);
    let slices = server.store.list(&"discovery.k8s.io/endpointslices".into(), namespace).objects;
    let mut found = Vec::new();
    let own = slices.iter().filter(|slice| {
        slice.labels.get("kubernetes.io/service-name").is_some_and(|service| service == name)
    });
    for slice in own {
        let slice = slice.value();
        let mut ports = slice["ports"].as_array().into_iter().flatten();
        let port = ports.find(|port| text(&port["name"]) == port_name).and_then(|port| port["port"].as_u64());
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"] != false {
                let addresses = endpoint["addresses"].as_array().into_iter().flatten();
                found.extend(addresses.map(|address| (text(address), port)));
            }
        }
    }
    if found.is_empty() {
        return Err(format!("no endpoints available for service {}", quote(name)));
    }
    Ok(found.swap_remove(fastrand::usize(..found.len())))
}

fn client_config(bundle: &[u8]) -> Result<Arc<rustls::ClientConfig>, String> {
    let mut pem = bundle.to_vec();
    if pem.is_empty() {
        let named = std::env::var("SSL_CERT_FILE").ok();
        let files = named.iter().map(String::as_str).chain(MACHINE_ROOTS);
        pem = files.map(Path::new).find_map(|file| std::fs::read(file).ok()).unwrap_or_default();
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if !bundle.is_empty() && roots.is_empty() {
        return Err("unable to load root certificates: unable to parse bytes as PEM block".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

enum Trouble {
    /// No answer came.
    Connection(String),
    /// The answer is not one that counts.
    Answer(String),
}

async fn send(
    route: &Route,
    tls: Arc<rustls::ClientConfig>,
    body: &[u8],
    seconds: u64,
) -> Result<Bytes, Trouble> {
    let connection = |text: String| Trouble::Connection(text);
    let (host, port) = &route.address;
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => error.to_string(),
        };
        connection(format!("dial tcp {host}:{port}: {what}"))
    })?;
    let name = ServerName::try_from(route.name.clone()).map_err(|error| connection(error.to_string()))?;
    let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await;
    let stream = stream.map_err(|error| connection(tls_trouble(&error, &route.name)))?;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| connection(error.to_string()))?;
    // Ends with the answer, or when the sender is dropped.
    let driver = tokio::spawn(driver);
    let request = Request::post(format!("{}?timeout={seconds}s", route.path))
        .header(header::HOST, &route.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::copy_from_slice(body)))
        .map_err(|error| connection(error.to_string()))?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(|error| connection(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| connection(error.to_string()))?.to_bytes();
        match status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED => Ok(body),
            status => Err(Trouble::Answer(status_trouble(status, &body))),
        }
    };
    let answered = answered.await;
    driver.abort();
    answered
}

fn tls_trouble(error: &std::io::Error, name: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            let text = match reason {
                rustls::CertificateError::UnknownIssuer | rustls::CertificateError::BadSignature => {
                    "x509: certificate signed by unknown authority".to_owned()
                }
                rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. } => {
                    "x509: certificate has expired or is not yet valid".to_owned()
                }
                rustls::CertificateError::NotValidForName
                | rustls::CertificateError::NotValidForNameContext { .. } => {
                    format!("x509: certificate is not valid for {name}")
                }
                other => format!("x509: {other}"),
            };
            format!("tls: failed to verify certificate: {text}")
        }
        Some(rustls::Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".into(),
        _ => error.to_string(),
    }
}

/// An answer that is no success, as a Go client words it.
fn status_trouble(status: StatusCode, body: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
    match status.as_u16() {
        404 => "the server could not find the requested resource".into(),
        400 => "the server rejected our request for an unknown reason".into(),
        code if code >= 500 => {
            format!(
                "an error on the server ({}) has prevented the request from succeeding",
                quote(shown.trim())
            )
        }
        code => {
            format!("the server responded with the status code {code} but did not return more information")
        }
    }
}
