//! HTTP for KMS and for where credentials come from: HTTPS with the system's roots, small answers, a time limit.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::OnceCell;

/// Largest answer, bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

type Inner = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The client, made when it is first used.
#[derive(Default)]
pub(super) struct Http(OnceCell<Inner>);

/// Status and body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: zeroize::Zeroizing<Vec<u8>>,
}

impl Http {
    /// Sends a request. The error says what failed, and nothing of the request.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Option<Duration>,
    ) -> Result<Answer, String> {
        let client = self.0.get_or_try_init(|| async { connect() }).await?;
        let host = request.uri().host().unwrap_or_default().to_owned();
        let exchange = async {
            let answer = client.request(request).await.map_err(|error| dodai_kit::chain(&error))?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes();
            Ok::<_, String>(Answer { status, body: zeroize::Zeroizing::new(body.to_vec()) })
        };
        match tokio::time::timeout(timeout.unwrap_or(TIMEOUT), exchange).await {
            Ok(result) => result.map_err(|error| format!("`{host}`: {error}")),
            Err(_) => Err(format!("`{host}` does not answer")),
        }
    }
}

fn connect() -> Result<Inner, String> {
    let provider = rustls::crypto::ring::default_provider();
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)
        .map_err(|error| format!("no certificates of authorities on this machine: {error}"))?
        // Plain HTTP for the endpoints on this machine (instance, container) and those that the environment names.
        .https_or_http()
        .enable_http1()
        .build();
    // Connections are not kept: calls are rare, and a command makes each on a runtime of its own.
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}
