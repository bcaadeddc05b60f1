//! One of the two servers: sends a request as it stands and gives back what came.

use anyhow::Context;
use http_body_util::BodyExt;
use kube::client::Body;
use kube::{Client, Config};
use serde_json::Value;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What a server said.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub warnings: Vec<String>,
    /// The body as JSON; for a watch an array of its events; a string where it is not JSON.
    pub body: Value,
}

#[derive(Clone)]
pub struct Server {
    client: Client,
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: &'static str,
    /// With the query.
    pub path: String,
    pub content_type: &'static str,
    pub body: Option<Value>,
    pub watch: bool,
}

impl Server {
    /// A server at `url`, known by a bearer token. Its certificate is not checked: both run on this machine for this test.
    pub fn new(url: &str, token: &str) -> anyhow::Result<Server> {
        let mut config = Config::new(url.parse().context("not a URL")?);
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(token.to_owned().into());
        Ok(Server { client: Client::try_from(config)? })
    }

    /// A server that a client exists for, for example in this process.
    pub fn over(client: Client) -> Server {
        Server { client }
    }

    pub async fn send(&self, request: &Request) -> anyhow::Result<Answer> {
        let mut built = http::Request::builder().method(request.method).uri(&request.path);
        if request.body.is_some() {
            built = built.header("content-type", request.content_type);
        }
        let body = match &request.body {
            Some(body) => Body::from(serde_json::to_vec(body)?),
            None => Body::empty(),
        };
        let response = self.client.send(built.body(body)?).await.context("no answer")?;
        let status = response.status().as_u16();
        let warnings = response
            .headers()
            .get_all("warning")
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        let limited = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let bytes =
            limited.collect().await.map_err(|error| anyhow::anyhow!("broken answer: {error}"))?.to_bytes();
        Ok(Answer { status, warnings, body: parse(&bytes, request.watch && status == 200) })
    }

    /// GET, and the body.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = Request {
            method: "GET",
            path: path.to_owned(),
            content_type: "application/json",
            body: None,
            watch: false,
        };
        Ok(self.send(&request).await?.body)
    }
}

fn parse(bytes: &[u8], watch: bool) -> Value {
    let text = || Value::String(String::from_utf8_lossy(bytes).into_owned());
    if watch {
        let events = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        return events.collect::<Result<Vec<Value>, _>>().map_or_else(|_| text(), Value::Array);
    }
    serde_json::from_slice(bytes).unwrap_or_else(|_| text())
}
