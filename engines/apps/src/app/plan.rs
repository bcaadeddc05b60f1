//! Decides for an App: which Release there must be, and what to say about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use dodai_api::dodai::app::{AppPhase, AppStatus, Source};
use dodai_api::dodai::condition::Condition;
use dodai_api::dodai::release::ReleaseSpec;
use dodai_api::names::{ANNOTATION_CAUSE, BUILD_IMAGE_PREFIX, LABEL_APP, LABEL_PROCESS};
use dodai_api::{App, Release, ReleasePhase};
use dodai_kit::Plan;
use dodai_kit::plan::controller_reference;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::validate::validate;
use crate::identity;
use crate::planted::{self, Bug};
use crate::reason::Reason;

/// Finished Releases that are kept where the App does not say.
const HISTORY_LIMIT: u32 = 10;
/// The process whose Service is the App's URL.
const MAIN_PROCESS: &str = "web";

/// Everything that `plan` may look at.
pub struct World {
    /// The App.
    pub app: Arc<App>,
    /// Its Releases, ordered by number.
    pub releases: Vec<Arc<Release>>,
    /// Its Deployments.
    pub deployments: Vec<Arc<Deployment>>,
    /// Its Services.
    pub services: Vec<Arc<Service>>,
    /// What the Node says of its interpreters; `None` before it has.
    pub interpreters: Option<String>,
    /// What changes when a value of a Secret that the App names does; or the name of one that is not there.
    pub secrets: Result<BTreeMap<String, String>, String>,
    /// The Secrets that it names and that are there.
    pub named_secrets: Vec<Arc<Secret>>,
}

pub(super) fn plan(world: &World) -> Plan {
    if world.app.metadata.deletion_timestamp.is_some() {
        return Plan::none();
    }
    let mut plan = Plan::none();
    if let Err(error) = validate(&world.app.name_any(), &world.app.spec) {
        let stalled = (Reason::InvalidSpec, error.to_string());
        say(&mut plan, world, AppPhase::Invalid, Some(stalled));
        return plan;
    }
    let secrets = match &world.secrets {
        Ok(secrets) => secrets,
        Err(name) => {
            // What serves goes on: its processes have what they were given.
            let text = format!("Secret `{name}`, which the environment names, is not there");
            prune_history(&mut plan, world);
            say(&mut plan, world, phase(world), Some((Reason::WaitingForSecret, text)));
            return plan;
        }
    };
    let hash = identity::of_spec(&world.app.spec, secrets);
    let is_new = |newest: &Arc<Release>| newest.spec.hash != hash || planted::is(Bug::AppForgetsItsReleases);
    if world.releases.last().is_none_or(is_new) {
        match next_release(world, hash, secrets) {
            Some(release) => {
                // Of two instances one may still see the spec, or a Secret, of before: each would make what the other
                // has just replaced, again and again.
                if !planted::is(Bug::AppMakesUnconfirmed) {
                    plan.confirm(world.app.as_ref());
                    world.named_secrets.iter().for_each(|secret| plan.confirm(secret.as_ref()));
                }
                plan.create(&release);
            }
            None => {
                let text = "no Node has told which interpreters it has".to_owned();
                say(&mut plan, world, AppPhase::Pending, Some((Reason::WaitingForNode, text)));
                return plan;
            }
        }
    }
    prune_history(&mut plan, world);
    say(&mut plan, world, phase(world), None);
    plan
}

/// The Release that the spec asks for. `None` while the identity of its build cannot be known.
fn next_release(world: &World, hash: String, secrets: &BTreeMap<String, String>) -> Option<Release> {
    let (app, spec) = (&world.app, &world.app.spec);
    let number = world.releases.last().map_or(0, |newest| newest.spec.number) + 1;
    let image = match (&spec.image, &spec.source) {
        (Some(image), _) => image.clone(),
        (None, Some(source)) => build_image(source, world.interpreters.as_deref()?),
        (None, None) => return None,
    };
    let mut release = ReleaseSpec {
        app: app.name_any(),
        number,
        hash,
        source: spec.source.clone(),
        image,
        env: spec.env.clone(),
        release: spec.release.clone(),
        command_identity: None,
        processes: spec.processes.clone(),
        volumes: spec.volumes.clone(),
        secrets: secrets.clone(),
        cause: app.annotations().get(ANNOTATION_CAUSE).cloned(),
    };
    release.command_identity = identity::of_command(&release);
    Some(Release {
        metadata: ObjectMeta {
            name: Some(format!("{}-v{number}", app.name_any())),
            namespace: app.namespace(),
            labels: Some([(LABEL_APP.to_owned(), app.name_any())].into()),
            owner_references: Some(vec![controller_reference(app.as_ref())]),
            ..ObjectMeta::default()
        },
        spec: release,
        status: None,
    })
}

fn build_image(source: &Source, interpreters: &str) -> String {
    format!("{BUILD_IMAGE_PREFIX}{}", identity::of_build(source, interpreters))
}

/// Deletes the oldest finished Releases beyond the limit; never the one that serves, nor the newest.
fn prune_history(plan: &mut Plan, world: &World) {
    let limit =
        world.app.spec.release.as_ref().and_then(|step| step.history_limit).unwrap_or(HISTORY_LIMIT) as usize;
    let newest = world.releases.last().map(|release| release.spec.number);
    let finished: Vec<_> = world
        .releases
        .iter()
        .filter(|release| matches!(release.phase(), ReleasePhase::Superseded | ReleasePhase::Failed))
        .filter(|release| {
            Some(release.spec.number) != newest && release.metadata.deletion_timestamp.is_none()
        })
        .collect();
    for release in finished.iter().take(finished.len().saturating_sub(limit)) {
        plan.delete(release.as_ref());
    }
}

fn current(world: &World) -> Option<&Arc<Release>> {
    world.releases.iter().rev().find(|release| release.phase() == ReleasePhase::Active)
}

fn phase(world: &World) -> AppPhase {
    let hash = world.secrets.as_ref().ok().map(|secrets| identity::of_spec(&world.app.spec, secrets));
    let newest_is_of_spec =
        world.releases.last().is_some_and(|newest| Some(&newest.spec.hash) == hash.as_ref());
    match world.releases.last().map(|newest| newest.phase()) {
        Some(ReleasePhase::Active) if newest_is_of_spec => AppPhase::Running,
        Some(ReleasePhase::Failed) if newest_is_of_spec => AppPhase::Failed,
        Some(_) => AppPhase::Releasing,
        None => AppPhase::Pending,
    }
}

/// Fills status and conditions. `blocked` is what keeps the spec from being carried out at all.
fn say(plan: &mut Plan, world: &World, phase: AppPhase, blocked: Option<(Reason, String)>) {
    let current = current(world);
    let target = world.releases.last();
    plan.set_status(&AppStatus {
        observed_generation: match phase {
            AppPhase::Releasing if planted::is(Bug::StatusTellsOldGeneration) => Some(1),
            _ => world.app.metadata.generation,
        },
        current_release: current.map(|release| release.name_any()),
        target_release: target.map(|release| release.name_any()),
        phase: Some(phase),
        url: url(world),
        conditions: Vec::new(),
    });
    let (reason, message) = match blocked {
        Some((reason, message)) => (String::from(reason), message),
        None => target
            .map_or_else(|| (String::from(Reason::WaitingForRelease), String::new()), |target| story(target)),
    };
    let port_in_use = port_in_use(world);
    let (reason, message) = match &port_in_use {
        Some(problem) if phase == AppPhase::Running => (String::from(Reason::PortInUse), problem.clone()),
        _ => (reason, message),
    };
    let message = match planted::is(Bug::StatusTellsSecret) {
        true => secret_values(world),
        false => message,
    };
    let available = current.is_some() && world.deployments.iter().all(|deployment| is_available(deployment));
    let runs = phase == AppPhase::Running || planted::is(Bug::ReadyTooEarly);
    let ready = runs && available && port_in_use.is_none();
    let stalled = matches!(phase, AppPhase::Invalid | AppPhase::Failed);
    let generation = world.app.metadata.generation;
    let condition = |type_: &str, status: bool, reason: &str, message: &str| Condition {
        observed_generation: generation,
        ..Condition::new(type_, status, reason, message)
    };
    let unavailable = if available { "ProcessesAvailable" } else { "ProcessesUnavailable" };
    plan.conditions = vec![
        condition(
            "Ready",
            ready,
            if phase == AppPhase::Running && !available && port_in_use.is_none() {
                unavailable
            } else {
                &reason
            },
            &message,
        ),
        condition("Reconciling", !ready && !stalled, &reason, &message),
        condition("Stalled", stalled, &reason, if stalled { &message } else { "" }),
        condition("Available", available, unavailable, ""),
    ];
}

/// What must never be told: only a planted mistake asks for it.
fn secret_values(world: &World) -> String {
    let data = world.named_secrets.iter().filter_map(|secret| secret.data.as_ref());
    let values =
        data.flat_map(|data| data.values()).map(|value| String::from_utf8_lossy(&value.0).into_owned());
    values.collect()
}

/// Reason and message of the newest Release's own `Ready` condition, with its name in front.
fn story(release: &Release) -> (String, String) {
    let conditions = release.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match dodai_api::dodai::condition::find(conditions, "Ready") {
        Some(ready) => (ready.reason.clone(), format!("{}: {}", release.name_any(), ready.message)),
        None => (String::from(Reason::WaitingForRelease), format!("{}: just created", release.name_any())),
    }
}

fn is_available(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0) >= wanted
}

/// What the forwarder says of a Service whose port another program has.
fn port_in_use(world: &World) -> Option<String> {
    world.services.iter().find_map(|service| {
        let conditions = service.status.as_ref()?.conditions.as_ref()?;
        let taken = conditions
            .iter()
            .find(|condition| condition.type_ == "PortInUse" && condition.status == "True")?;
        Some(format!("service {}: {}", service.name_any(), taken.message))
    })
}

/// Where the main process answers: the node port of its Service on loopback.
fn url(world: &World) -> Option<String> {
    let service = world
        .services
        .iter()
        .find(|service| service.labels().get(LABEL_PROCESS).is_some_and(|process| process == MAIN_PROCESS))?;
    let port = service.spec.as_ref()?.ports.as_ref()?.first()?.node_port?;
    Some(format!("http://127.0.0.1:{port}"))
}
