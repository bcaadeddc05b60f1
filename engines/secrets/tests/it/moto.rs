//! A moto server (`pip install 'moto[server,kms]'`), started for a test; also for the attack tests inside the crate, so it uses
//! nothing of it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The region of its keys.
const REGION: &str = "eu-west-1";
/// Longest wait for it to listen; Python takes its time on a busy machine.
const START_MAX: Duration = Duration::from_secs(120);

/// A server, ended when dropped.
pub(crate) struct Moto {
    child: Child,
    pub(crate) endpoint: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Moto {
    /// `None` without moto (`pip install 'moto[server,kms]'`).
    pub(crate) async fn start() -> Option<Moto> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("python3")
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("skipped: moto not found");
            return None;
        };
        let mut moto = Moto { child, endpoint: format!("http://127.0.0.1:{port}") };
        let began = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if matches!(moto.child.try_wait(), Ok(Some(_))) {
                println!("skipped: moto does not run here");
                return None;
            }
            assert!(began.elapsed() < START_MAX, "moto does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(moto)
    }

    /// A call that the client under test does not have.
    pub(crate) async fn call(&self, action: &str, body: &Value) -> Value {
        let body = body.to_string();
        let host = self.endpoint.trim_start_matches("http://").to_owned();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-amz-json-1.1\r\nx-amz-target: TrentService.{action}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/kms/aws4_request, SignedHeaders=host, Signature=x\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(&host).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        serde_json::from_str(&body).unwrap_or_default()
    }

    /// A new key.
    pub(crate) async fn key(&self) -> String {
        let made = self.call("CreateKey", &json!({})).await;
        made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
    }
}
