//! Writes a Pod's status from what is known and decided, in the words of Kubernetes.

use jiff::{Timestamp, Unit};
use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState as State, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::plan::{Decision, Health, World};
use crate::runtime::{Container, ContainerState, ExitRecord};

/// Conditions that only the node writes; those of others are kept as they are.
const OWN_CONDITIONS: &[&str] = &["PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"];

/// The patch that brings the Pod's status to what it is, `None` if it is that already.
pub(crate) fn patch(world: &World<'_>, decision: &Decision) -> Option<Value> {
    let status = status(world, decision);
    let mut wanted = serde_json::to_value(&status).ok()?;
    // What went away has to be named in a merge patch.
    for field in ["reason", "message"] {
        if wanted.get(field).is_none() {
            wanted[field] = Value::Null;
        }
    }
    let current = serde_json::to_value(world.pod.status.clone().unwrap_or_default()).ok()?;
    let differs =
        wanted.as_object()?.iter().any(|(name, value)| current.get(name).unwrap_or(&Value::Null) != value);
    differs.then(|| json!({"metadata": {"uid": world.pod.metadata.uid}, "status": wanted}))
}

pub(crate) fn status(world: &World<'_>, decision: &Decision) -> PodStatus {
    let spec = world.pod.spec.clone().unwrap_or_default();
    let old = world.pod.status.clone().unwrap_or_default();
    if old.phase.as_deref().is_some_and(|phase| matches!(phase, "Succeeded" | "Failed")) {
        return old; // Final. What was known at the end stays.
    }
    let statuses = |specs: &[Spec]| {
        let all = specs.iter().map(|spec| container_status(world, decision, spec)).collect::<Vec<_>>();
        (!all.is_empty()).then_some(all)
    };
    let containers = statuses(&spec.containers).unwrap_or_default();
    let address = world.address.to_string();
    let conditions = conditions(world, decision, &containers, old.conditions.as_deref().unwrap_or_default());
    PodStatus {
        phase: Some(decision.phase.to_string()),
        reason: decision.reason.map(str::to_string),
        message: decision.message.clone(),
        conditions: Some(conditions),
        host_ip: Some(address.clone()),
        host_ips: Some(vec![HostIP { ip: address.clone() }]),
        pod_ip: Some(address.clone()),
        pod_ips: Some(vec![PodIP { ip: address }]),
        start_time: Some(old.start_time.unwrap_or_else(|| time(world.started_at))),
        init_container_statuses: statuses(spec.init_containers.as_deref().unwrap_or_default()),
        container_statuses: Some(containers),
        ..PodStatus::default()
    }
}

fn container_status(world: &World<'_>, decision: &Decision, spec: &Spec) -> ContainerStatus {
    let record = world.state.containers.get(&spec.name);
    let is_init = world.pod.spec.iter().flat_map(|pod| pod.init_containers.iter().flatten());
    let is_init = is_init.into_iter().any(|init| init.name == spec.name);
    let health = health(world, record);
    let running = matches!(record.map(|record| &record.state), Some(ContainerState::Running { .. }));
    let ended_well =
        matches!(record.map(|r| &r.state), Some(ContainerState::Exited(ended)) if ended.exit_code == 0);
    let (state, last) = states(world, decision, spec, record);
    ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        image_id: if record.is_some() { spec.image.clone().unwrap_or_default() } else { String::new() },
        container_id: record.map(|record| {
            let uid = world.pod.metadata.uid.as_deref().unwrap_or_default();
            format!("process://{uid}/{}/{}", spec.name, record.attempt)
        }),
        ready: if is_init { ended_well } else { running && health.is_some_and(|health| health.ready) },
        started: Some(running && (is_init || health.is_some_and(|health| health.started))),
        restart_count: record.map_or(0, |record| i32::try_from(record.attempt).unwrap_or(i32::MAX)),
        state: Some(state),
        last_state: Some(last.unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

fn health<'a>(world: &World<'a>, record: Option<&Container>) -> Option<&'a Health> {
    let record = record?;
    world.health.get(&record.name).filter(|health| health.attempt == record.attempt)
}

fn states(
    world: &World<'_>,
    decision: &Decision,
    spec: &Spec,
    record: Option<&Container>,
) -> (State, Option<State>) {
    let waits = |reason: &str, message: Option<String>| State {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_string()), message }),
        ..State::default()
    };
    let waiting =
        world.waiting.get(&spec.name).map(|waiting| waits(&waiting.reason, Some(waiting.message.clone())));
    let Some(record) = record else {
        if world.already_built {
            return (terminated_without_running(world), None);
        }
        let reason = if decision.init_done || spec_is_init(world.pod, &spec.name) {
            "ContainerCreating"
        } else {
            "PodInitializing"
        };
        return (waiting.unwrap_or_else(|| waits(reason, None)), None);
    };
    let previous = record.previous.as_ref().map(|ended| terminated(world, ended));
    match &record.state {
        ContainerState::Starting { .. } => (waits("ContainerCreating", None), previous),
        ContainerState::Running { started_at, .. } => {
            let running = ContainerStateRunning { started_at: Some(time(*started_at)) };
            (State { running: Some(running), ..State::default() }, previous)
        }
        ContainerState::Exited(ended) => {
            let ended = terminated(world, ended);
            let pause = decision.pauses.get(&spec.name).map(|(_, pause_s)| {
                let name = world.pod.metadata.name.as_deref().unwrap_or_default();
                let message =
                    format!("back-off {pause_s}s restarting failed container={} pod={name}", spec.name);
                waits("CrashLoopBackOff", Some(message))
            });
            match waiting.or(pause) {
                Some(waiting) => (waiting, Some(ended)),
                None => (ended, previous),
            }
        }
    }
}

fn spec_is_init(pod: &Pod, name: &str) -> bool {
    pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).any(|init| init.name == name)
}

fn terminated(world: &World<'_>, ended: &ExitRecord) -> State {
    let uid = world.pod.metadata.uid.as_deref().unwrap_or_default();
    State {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("process://{uid}/{}", ended.attempt)),
            exit_code: ended.exit_code,
            signal: ended.signal,
            reason: Some(ended.reason.clone()),
            message: Some(ended.message.clone()).filter(|message| !message.is_empty()),
            started_at: Some(time(ended.started_at)),
            finished_at: Some(time(ended.finished_at)),
        }),
        ..State::default()
    }
}

fn terminated_without_running(world: &World<'_>) -> State {
    State {
        terminated: Some(ContainerStateTerminated {
            exit_code: 0,
            reason: Some("Completed".to_string()),
            message: Some("the image was in the store already".to_string()),
            started_at: Some(time(world.started_at)),
            finished_at: Some(time(world.started_at)),
            ..ContainerStateTerminated::default()
        }),
        ..State::default()
    }
}

fn conditions(
    world: &World<'_>,
    decision: &Decision,
    containers: &[ContainerStatus],
    old: &[PodCondition],
) -> Vec<PodCondition> {
    let unready: Vec<&str> = containers
        .iter()
        .filter(|container| !container.ready)
        .map(|container| container.name.as_str())
        .collect();
    let not_ready = if decision.phase == "Succeeded" {
        Some(("PodCompleted", String::new()))
    } else if decision.phase == "Failed" {
        Some(("PodFailed", String::new()))
    } else {
        why_not_ready(world, &unready)
    };
    let init_missing = (!decision.init_done)
        .then(|| ("ContainersNotInitialized", "init containers have not completed".to_string()));
    let started = world.state.containers.is_empty() && !world.already_built;
    let sandbox = started.then(|| ("WaitingForStart", String::new()));
    let mut all: Vec<PodCondition> =
        old.iter().filter(|condition| !OWN_CONDITIONS.contains(&condition.type_.as_str())).cloned().collect();
    let wanted = [sandbox, init_missing, not_ready.clone(), not_ready];
    for (kind, problem) in OWN_CONDITIONS.iter().zip(wanted) {
        all.push(condition(world.now, kind, problem, old));
    }
    all
}

fn why_not_ready(world: &World<'_>, unready: &[&str]) -> Option<(&'static str, String)> {
    let name = unready.first()?;
    let health = health(world, world.state.containers.get(*name));
    let told = health.and_then(|health| Some((health.reason?, health.message.clone()?)));
    let plain = || ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")));
    Some(told.unwrap_or_else(plain))
}

fn condition(
    now: Timestamp,
    kind: &str,
    problem: Option<(&'static str, String)>,
    old: &[PodCondition],
) -> PodCondition {
    let status = if problem.is_none() { "True" } else { "False" };
    let (reason, message) = match problem {
        Some((reason, message)) => {
            (Some(reason.to_string()), Some(message).filter(|message| !message.is_empty()))
        }
        None => (None, None),
    };
    let before = old.iter().find(|condition| condition.type_ == kind);
    // Listening elsewhere is a state of its own, so its time says since when that is so.
    let is_elsewhere = |reason: Option<&str>| reason == Some("ListensElsewhere");
    let since = before
        .filter(|before| before.status == status)
        .filter(|before| is_elsewhere(before.reason.as_deref()) == is_elsewhere(reason.as_deref()))
        .and_then(|before| before.last_transition_time.clone());
    PodCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason,
        message,
        last_transition_time: Some(since.unwrap_or_else(|| time(now))),
        ..PodCondition::default()
    }
}

/// Kubernetes keeps whole seconds.
pub(crate) fn time(at: Timestamp) -> Time {
    let whole = at.round(jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc));
    Time(whole.unwrap_or(at))
}
