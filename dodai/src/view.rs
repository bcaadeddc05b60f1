//! What `status`, `why` and the progress of a release show, gathered once, printed as text or JSON.

use std::collections::BTreeMap;

use dodai_api::dodai::condition;
use dodai_api::names::{LABEL_APP, LABEL_PROCESS, LABEL_ROLE};
use dodai_api::{App, AppPhase, Release};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use crate::failure::{Context, Result};

/// An App and everything below it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppView {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) phase: Option<AppPhase>,
    /// Whether the `Ready` condition is true.
    pub(crate) ready: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// When `Ready` last changed, RFC 3339.
    pub(crate) since: Option<String>,
    pub(crate) url: Option<String>,
    /// The Release that the spec asks for.
    pub(crate) target: Option<ReleaseView>,
    /// The Release that serves, if it is another one.
    pub(crate) current: Option<ReleaseView>,
    pub(crate) processes: Vec<ProcessView>,
    pub(crate) pods: Vec<PodView>,
}

/// A Release.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReleaseView {
    pub(crate) name: String,
    pub(crate) number: i64,
    pub(crate) state: String,
    pub(crate) message: String,
    pub(crate) failure: Option<dodai_api::dodai::release::Failure>,
    pub(crate) migration: Option<String>,
    /// When the state was entered, RFC 3339.
    pub(crate) since: Option<String>,
}

/// A process of the App, over its old and new Pods.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessView {
    pub(crate) name: String,
    pub(crate) wanted: i32,
    pub(crate) available: i32,
    pub(crate) updated: i32,
}

/// A Pod of the App.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodView {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) process: Option<String>,
    pub(crate) phase: String,
    pub(crate) ready: bool,
    pub(crate) restarts: i32,
    /// What it waits for, or how it failed.
    pub(crate) waiting: Option<String>,
    pub(crate) created: Option<String>,
}

/// All Apps of a namespace, or of all namespaces for `None`.
pub(crate) async fn apps(
    client: &Client,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Result<Vec<AppView>> {
    let scope = Scope { client, namespace };
    let apps: Vec<App> = scope.list("apps").await?;
    let releases: Vec<Release> = scope.list("releases").await?;
    let deployments: Vec<Deployment> = scope.list("deployments").await?;
    let pods: Vec<Pod> = scope.list("pods").await?;
    let wanted = apps.iter().filter(|app| name.is_none_or(|name| app.name_any() == name));
    Ok(wanted.map(|app| app_view(app, &releases, &deployments, &pods)).collect())
}

struct Scope<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
}

impl Scope<'_> {
    async fn list<K>(&self, what: &str) -> Result<Vec<K>>
    where
        K: dodai_kit::Kind + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let api: Api<K> = match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        Ok(api.list(&ListParams::default()).await.context(format!("cannot list {what}"))?.items)
    }
}

/// The view of one App from everything in its namespace.
pub(crate) fn app_view(app: &App, releases: &[Release], deployments: &[Deployment], pods: &[Pod]) -> AppView {
    let (namespace, name) = (app.namespace().unwrap_or_default(), app.name_any());
    let status = app.status.clone().unwrap_or_default();
    let ready = condition::find(&status.conditions, "Ready");
    let of_app = |labels: &BTreeMap<String, String>, of: Option<String>| {
        of.as_deref() == Some(&*namespace) && labels.get(LABEL_APP).is_some_and(|app| *app == name)
    };
    let release = |wanted: &Option<String>| {
        let wanted = wanted.as_ref()?;
        let found = releases.iter().find(|release| {
            release.name_any() == *wanted && release.namespace().as_deref() == Some(&*namespace)
        })?;
        Some(release_view(found))
    };
    let processes =
        deployments.iter().filter(|deployment| of_app(deployment.labels(), deployment.namespace()));
    let mut pods: Vec<PodView> =
        pods.iter().filter(|pod| of_app(pod.labels(), pod.namespace())).map(pod_view).collect();
    pods.sort_by(|a, b| (&a.role, &a.created, &a.name).cmp(&(&b.role, &b.created, &b.name)));
    AppView {
        phase: status.phase,
        ready: ready.is_some_and(|ready| ready.is_true())
            && status.observed_generation == app.metadata.generation,
        reason: ready.map(|ready| ready.reason.clone()).unwrap_or_default(),
        message: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
        since: ready.and_then(|ready| ready.last_transition_time.clone()),
        url: status.url.clone(),
        target: release(&status.target_release),
        current: release(&status.current_release).filter(|_| status.current_release != status.target_release),
        processes: processes.map(process_view).collect(),
        pods,
        namespace,
        name,
    }
}

fn release_view(release: &Release) -> ReleaseView {
    let status = release.status.clone().unwrap_or_default();
    let ready = condition::find(&status.conditions, "Ready");
    let state = release.phase().to_string();
    ReleaseView {
        name: release.name_any(),
        number: release.spec.number,
        since: status.entered.get(&state).cloned(),
        state,
        message: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
        failure: status.failure,
        migration: status.migration.map(|migration| migration.outcome),
    }
}

fn process_view(deployment: &Deployment) -> ProcessView {
    let status = deployment.status.clone().unwrap_or_default();
    ProcessView {
        name: deployment.labels().get(LABEL_PROCESS).cloned().unwrap_or_default(),
        wanted: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        available: status.available_replicas.unwrap_or(0),
        updated: status.updated_replicas.unwrap_or(0),
    }
}

fn pod_view(pod: &Pod) -> PodView {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.clone().unwrap_or_default();
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let ready = condition.is_some_and(|condition| condition.status == "True");
    let phase = match &pod.metadata.deletion_timestamp {
        Some(_) => "Terminating".to_owned(),
        None => status.phase.clone().unwrap_or_else(|| "Pending".to_owned()),
    };
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let waiting = containers
        .iter()
        .find_map(waiting_text)
        .or_else(|| {
            condition.filter(|_| !ready && phase == "Running").and_then(|condition| condition.message.clone())
        })
        .or_else(|| unscheduled.and_then(|condition| condition.message.clone()))
        .or_else(|| status.message.clone());
    PodView {
        name: pod.name_any(),
        role: pod.labels().get(LABEL_ROLE).cloned().unwrap_or_default(),
        process: pod.labels().get(LABEL_PROCESS).cloned(),
        phase,
        ready,
        restarts: containers.iter().map(|container| container.restart_count).sum(),
        waiting: waiting.filter(|text| !text.is_empty()),
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()),
    }
}

fn waiting_text(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.clone().unwrap_or_default();
        let message = waiting.message.clone().unwrap_or_default();
        let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let last = last.map(|last| format!(" (last exit code {})", last.exit_code)).unwrap_or_default();
        return Some(if message.is_empty() {
            format!("{reason}{last}")
        } else {
            format!("{reason}: {message}{last}")
        });
    }
    let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
    Some(format!("{}, exit code {}", ended.reason.as_deref().unwrap_or("Error"), ended.exit_code))
}

/// Why a Pod does not run, in a few words.
pub(crate) fn why_not_running(pod: &Pod) -> String {
    let view = pod_view(pod);
    view.waiting.unwrap_or(view.phase)
}
