//! `dodai run APP -- COMMAND`: a one-off command in a Pod of its own, with the App's image, environment and volumes.
//!
//! The Pod holds nothing but a wait; the command runs in it through `exec`, so that its terminal, its input and its exit
//! code are the caller's. The Pod is deleted at the end, also after Ctrl-C.

use std::process::ExitCode;

use dodai_api::names::{LABEL_APP, LABEL_RELEASE, LABEL_ROLE};
use dodai_api::{Release, ReleasePhase};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};

use crate::cli::{Global, Run};
use crate::failure::{Context, Failure, INTERRUPTED, OWN_TROUBLE, Result};
use crate::{target, terminal};

/// Longest wait for the Pod to start.
const START_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// The Pod ends by itself after this time, seconds, should its `dodai run` be killed.
const LIFE_MAX_S: i64 = 24 * 3600;

pub(crate) async fn run(global: &Global, args: &Run) -> Result<ExitCode> {
    let trouble = |failure: Failure| Failure { code: OWN_TROUBLE, ..failure };
    let target = target::find(global, None).await.map_err(trouble)?;
    let release = serving(&target.client, &global.namespace, &args.app).await.map_err(trouble)?;
    let api: Api<Pod> = Api::namespaced(target.client, &global.namespace);
    let pod = api
        .create(&PostParams::default(), &pod(&release))
        .await
        .context("cannot create the Pod")
        .map_err(trouble)?;
    let name = pod.name_any();
    let work = async {
        wait_until_running(&api, &name).await?;
        terminal::exec(&api, &name, &args.command).await
    };
    let result = tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Ok(INTERRUPTED),
    };
    let gone = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
    if let Err(error) = api.delete(&name, &gone).await {
        tracing::warn!(pod = %name, %error, "the Pod of the command was not deleted");
    }
    Ok(ExitCode::from(result?))
}

/// The Release that serves, else the newest.
async fn serving(client: &Client, namespace: &str, name: &str) -> Result<Release> {
    let app = super::app(client, namespace, name).await?;
    let mut releases = super::releases(client, &app).await?;
    let active = releases.iter().rposition(|release| release.phase() == ReleasePhase::Active);
    match active.or(releases.len().checked_sub(1)) {
        Some(index) => Ok(releases.swap_remove(index)),
        None => Err(Failure::failed(format!("`{name}` has no release yet"))
            .hint(format!("`dodai why {name}` tells why"))),
    }
}

fn pod(release: &Release) -> Pod {
    let template = dodai_apps::release::objects::one_off_pod(release);
    let mut container = template.containers.into_iter().next().unwrap_or_default();
    container.name = "run".to_owned();
    container.command = Some(vec!["sleep".to_owned(), LIFE_MAX_S.to_string()]);
    let labels = [
        (LABEL_APP.to_owned(), release.spec.app.clone()),
        (LABEL_ROLE.to_owned(), "run".to_owned()),
        (LABEL_RELEASE.to_owned(), release.name_any()),
    ];
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-run-", release.spec.app)),
            namespace: release.namespace(),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![container],
            volumes: template.volumes,
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(LIFE_MAX_S),
            termination_grace_period_seconds: Some(1),
            ..PodSpec::default()
        }),
        status: None,
    }
}

async fn wait_until_running(api: &Api<Pod>, name: &str) -> Result<()> {
    let settled = |pod: Option<&Pod>| pod.is_none_or(|pod| is_running(pod) || is_over(pod));
    let waited = tokio::time::timeout(START_MAX, await_condition(api.clone(), name, settled)).await;
    let pod = api.get_opt(name).await.context(format!("cannot read pod `{name}`"))?;
    if waited.is_ok() && pod.as_ref().is_some_and(is_running) {
        return Ok(());
    }
    let why = pod.as_ref().map(crate::view::why_not_running).unwrap_or_else(|| "it was deleted".to_owned());
    Err(Failure::new(OWN_TROUBLE, format!("pod `{name}` did not start: {why}")))
}

/// Whether the container has a process: the phase says `Running` a moment earlier.
fn is_running(pod: &Pod) -> bool {
    let containers =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    containers.iter().any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}
