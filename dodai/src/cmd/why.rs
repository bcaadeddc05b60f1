//! `dodai why APP`: walks from an App that is not well to the cause.
//!
//! It knows no engine: it follows owner references and reads conditions, container states and the last lines of logs that
//! objects carry, so that a kind it has never seen is explained as well.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use crate::cli::{Format, Global, Why};
use crate::failure::{Context, Failure, NOT_READY, Result};
use crate::target;

/// One object on the way from the symptom to the cause.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    kind: String,
    name: String,
    reason: String,
    message: String,
    log: Vec<String>,
    depth: usize,
}

pub(crate) async fn run(global: &Global, args: &Why) -> Result<()> {
    let target = target::find(global, None).await?;
    let app = super::app(&target.client, &global.namespace, &args.app).await?;
    let graph = Graph::read(&target.client, &global.namespace).await?;
    let mut findings = Vec::new();
    graph.walk(&app.uid().unwrap_or_default(), 0, &mut findings);
    match args.output {
        Format::Json => {
            println!("{}", serde_json::to_string_pretty(&findings).context("cannot print the findings")?)
        }
        Format::Table => print(&args.app, &findings),
    }
    if findings.is_empty() { Ok(()) } else { Err(Failure::silent(NOT_READY)) }
}

fn print(app: &str, findings: &[Finding]) {
    let Some(first) = findings.first() else {
        println!("{app} is well");
        return;
    };
    println!("{app} is not Ready: {}", text(first));
    let deepest = findings.iter().map(|finding| finding.depth).max().unwrap_or(0);
    let start = findings.iter().position(|finding| finding.depth == deepest && deepest > 0);
    for (index, finding) in findings.iter().enumerate().skip(1) {
        let mark = if Some(index) == start { "   <- start here" } else { "" };
        let indent = "  ".repeat(finding.depth);
        println!("{indent}{} {}   {}{mark}", finding.kind, finding.name, text(finding));
        for line in &finding.log {
            println!("{indent}  | {line}");
        }
    }
    println!("try   dodai logs {app}   ·   dodai status {app}");
}

fn text(finding: &Finding) -> String {
    match (finding.reason.is_empty(), finding.message.is_empty()) {
        (false, false) => format!("{}: {}", finding.reason, finding.message),
        (false, true) => finding.reason.clone(),
        (true, _) => finding.message.clone(),
    }
}

/// Everything in a namespace, and who owns what.
struct Graph {
    objects: BTreeMap<String, DynamicObject>,
    children: BTreeMap<String, Vec<String>>,
}

impl Graph {
    async fn read(client: &Client, namespace: &str) -> Result<Graph> {
        let discovery =
            Discovery::new(client.clone()).run().await.context("cannot ask the API what it serves")?;
        let mut graph = Graph { objects: BTreeMap::new(), children: BTreeMap::new() };
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                let is_read =
                    capabilities.scope == Scope::Namespaced && capabilities.supports_operation(verbs::LIST);
                if !is_read
                    || matches!(
                        resource.kind.as_str(),
                        "Event" | "Secret" | "ConfigMap" | "EndpointSlice" | "Endpoints"
                    )
                {
                    continue;
                }
                let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
                // A kind that may not be listed is not explained; the others still are.
                let Ok(list) = api.list(&ListParams::default()).await else { continue };
                for mut object in list {
                    object.types.get_or_insert_with(|| kube::core::TypeMeta {
                        api_version: resource.api_version.clone(),
                        kind: resource.kind.clone(),
                    });
                    graph.add(object);
                }
            }
        }
        Ok(graph)
    }

    fn add(&mut self, object: DynamicObject) {
        let uid = object.uid().unwrap_or_default();
        for owner in object.owner_references() {
            self.children.entry(owner.uid.clone()).or_default().push(uid.clone());
        }
        self.objects.insert(uid, object);
    }

    /// Adds what is wrong with the object and with what it owns. Of several Releases only the newest counts.
    fn walk(&self, uid: &str, depth: usize, findings: &mut Vec<Finding>) {
        const DEPTH_MAX: usize = 16;
        let Some(object) = self.objects.get(uid) else { return };
        let Some(finding) = trouble(object, depth) else { return };
        findings.push(finding);
        if depth >= DEPTH_MAX {
            return;
        }
        let mut children: Vec<&DynamicObject> =
            self.children.get(uid).into_iter().flatten().filter_map(|uid| self.objects.get(uid)).collect();
        // Times have whole seconds: of two in the same second `shop-v10` is newer than `shop-v9`.
        children.sort_by_key(|child| {
            let name = child.name_any();
            std::cmp::Reverse((child.metadata.creation_timestamp.clone(), name.len(), name))
        });
        let mut settled_kinds = Vec::new();
        for child in children {
            let kind = kind(child);
            // Owners keep a history of children such as Releases and ReplicaSets: an old one is no cause.
            if settled_kinds.contains(&kind) && matches!(kind.as_str(), "Release" | "ReplicaSet" | "Job") {
                continue;
            }
            settled_kinds.push(kind);
            self.walk(&child.uid().unwrap_or_default(), depth + 1, findings);
        }
    }
}

fn kind(object: &DynamicObject) -> String {
    object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default()
}

/// What is wrong with an object, by what it says itself.
fn trouble(object: &DynamicObject, depth: usize) -> Option<Finding> {
    let status = &object.data["status"];
    let container = container_trouble(status);
    let condition = condition_trouble(status);
    let (reason, message) = container.clone().or(condition)?;
    let failure = &status["failure"];
    let log = lines(&failure["log"]).or_else(|| container.is_some().then(|| container_log(status)).flatten());
    Some(Finding {
        kind: kind(object).to_lowercase(),
        name: object.name_any(),
        reason,
        message,
        log: log.unwrap_or_default(),
        depth,
    })
}

/// A condition that should be true and is not, or the other way round.
fn condition_trouble(status: &Value) -> Option<(String, String)> {
    let conditions = status["conditions"].as_array()?;
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    let bad = conditions.iter().find(|condition| {
        let (type_, status) = (text(condition, "type"), text(condition, "status"));
        match type_.as_str() {
            "Stalled" | "Failed" | "ReplicaFailure" => status == "True",
            "Ready" | "Available" | "Progressing" | "PodScheduled" | "ContainersReady" => status == "False",
            _ => false,
        }
    })?;
    Some((text(bad, "reason"), text(bad, "message")))
}

fn containers(status: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| status[list].as_array().into_iter().flatten())
}

fn container_trouble(status: &Value) -> Option<(String, String)> {
    containers(status).find_map(|container| {
        let (waiting, ended) = (&container["state"]["waiting"], &container["state"]["terminated"]);
        let last = &container["lastState"]["terminated"];
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        if waiting.is_object()
            && waiting["reason"] != "ContainerCreating"
            && waiting["reason"] != "PodInitializing"
        {
            let code =
                last["exitCode"].as_i64().map(|code| format!(" (last exit code {code})")).unwrap_or_default();
            return Some((text(waiting, "reason"), format!("{}{code}", text(waiting, "message"))));
        }
        let code = ended["exitCode"].as_i64().filter(|code| *code != 0)?;
        Some((text(ended, "reason"), format!("exit code {code}")))
    })
}

fn container_log(status: &Value) -> Option<Vec<String>> {
    containers(status).find_map(|container| {
        let ended = [&container["state"]["terminated"], &container["lastState"]["terminated"]];
        let message = ended.into_iter().find_map(|ended| ended["message"].as_str())?;
        Some(message.lines().map(str::to_owned).collect())
    })
}

fn lines(log: &Value) -> Option<Vec<String>> {
    let lines: Vec<String> =
        log.as_array()?.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect();
    (!lines.is_empty()).then_some(lines)
}
