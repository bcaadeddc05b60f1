//! Plays requests on a server in a namespace of their own, and compares what two servers said.

use std::collections::HashMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kinds::{definition, preparation};
use crate::normal::Normal;
use crate::op::{Op, Verb};
use crate::server::{Answer, Request, Server};

/// An answer, ready to be compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub status: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    pub body: Value,
}

/// One server in the middle of a run.
pub struct Player {
    server: Server,
    namespace: String,
    normal: Normal,
    versions: HashMap<String, String>,
}

fn post(path: String, body: Value) -> Request {
    Request { method: "POST", path, content_type: "application/json", body: Some(body), watch: false }
}

/// Installs what all runs need: the definition of the custom kind.
pub async fn prepare(server: &Server) -> anyhow::Result<()> {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let answer = server.send(&post(path.to_owned(), definition())).await?;
    anyhow::ensure!(matches!(answer.status, 201 | 409), "the definition is refused: {}", answer.body);
    for _ in 0..200 {
        let answer = server.get("/apis/differential.dodai.dev/v1/namespaces/default/widgets").await?;
        if answer["kind"] == "WidgetList" {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("the custom kind is not served after 10 s")
}

impl Player {
    /// Makes the namespace of a run.
    pub async fn start(server: &Server, namespace: &str) -> anyhow::Result<Player> {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let made = server.send(&post("/api/v1/namespaces".to_owned(), body)).await?;
        anyhow::ensure!(made.status == 201, "cannot create the namespace: {}", made.body);
        for (plural, object) in preparation() {
            let path = format!("/api/v1/namespaces/{namespace}/{plural}");
            let made = server.send(&post(path, object)).await?;
            anyhow::ensure!(made.status == 201, "cannot prepare the namespace: {}", made.body);
        }
        let list = server.get(&format!("/api/v1/namespaces/{namespace}/configmaps")).await?;
        let start = list["metadata"]["resourceVersion"].as_str().context("a list has a resourceVersion")?;
        let versions = HashMap::from([("start".to_owned(), start.to_owned())]);
        Ok(Player {
            server: server.clone(),
            namespace: namespace.to_owned(),
            normal: Normal::default(),
            versions,
        })
    }

    /// Identities are numbered from the start again.
    pub fn forget(&mut self) {
        self.normal = Normal::default();
    }

    pub async fn play(&mut self, op: &Op) -> anyhow::Result<Told> {
        let key = format!("{}/{}", op.kind().plural, op.name);
        let fill = |hole: &str| {
            let found = match hole {
                "start" => self.versions.get("start"),
                _ => self.versions.get(&key),
            };
            Value::String(found.cloned().unwrap_or_else(|| "1".to_owned()))
        };
        let request = op.request(&self.namespace, &fill);
        let answer = self.server.send(&request).await?;
        if let Some(version) = answer.body["metadata"]["resourceVersion"].as_str()
            && !matches!(op.verb, Verb::List | Verb::DeleteCollection)
        {
            self.versions.insert(key, version.to_owned());
        }
        Ok(self.told(op, answer))
    }

    fn told(&mut self, op: &Op, answer: Answer) -> Told {
        // Names of namespaces are our own; they are the same on both servers.
        let mut body = self.normal.answer(&answer.body);
        if op.verb == Verb::List && op.query.iter().any(|(key, _)| key == "limit") {
            // How many are left is told from an estimate.
            if let Some(metadata) = body["metadata"].as_object_mut() {
                metadata.remove("remainingItemCount");
            }
        }
        let text = body.to_string().replace(&self.namespace, "$ns");
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let warnings = answer.warnings.iter().map(|text| text.replace(&self.namespace, "$ns")).collect();
        Told { status: answer.status, warnings, body }
    }
}

/// Where two answers differ, first difference first: path, what the real server said, what ours said.
pub fn differences(real: &Told, ours: &Told) -> Vec<(String, Value, Value)> {
    let mut found = Vec::new();
    if real.status != ours.status {
        found.push(("status".to_owned(), json!(real.status), json!(ours.status)));
    }
    if real.warnings != ours.warnings {
        found.push(("warnings".to_owned(), json!(real.warnings), json!(ours.warnings)));
    }
    compare("", &real.body, &ours.body, &mut found);
    found
}

fn compare(path: &str, real: &Value, ours: &Value, found: &mut Vec<(String, Value, Value)>) {
    match (real, ours) {
        (Value::Object(left), Value::Object(right)) => {
            for (key, value) in left {
                let other = right.get(key).unwrap_or(&Value::Null);
                if other.is_null() && right.get(key).is_none() {
                    found.push((format!("{path}/{key}"), value.clone(), json!("(absent)")));
                } else {
                    compare(&format!("{path}/{key}"), value, other, found);
                }
            }
            for (key, value) in right.iter().filter(|(key, _)| !left.contains_key(*key)) {
                found.push((format!("{path}/{key}"), json!("(absent)"), value.clone()));
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (position, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}/{position}"), left, right, found);
            }
        }
        _ if real == ours => {}
        _ => found.push((path.to_owned(), real.clone(), ours.clone())),
    }
}

/// What makes two differences the same finding: the verb, the kind, and where; not the values.
pub fn signature(op: &Op, found: &[(String, Value, Value)]) -> String {
    let Some((path, real, ours)) = found.first() else { return "equal".to_owned() };
    let path: Vec<&str> =
        path.split('/').map(|part| if part.parse::<usize>().is_ok() { "*" } else { part }).collect();
    let path = path.join("/");
    let detail = if path == "status" { format!(" {real}->{ours}") } else { String::new() };
    format!("{:?} {} {}{path}{detail}", op.verb, op.kind().kind, op.subresource)
}
