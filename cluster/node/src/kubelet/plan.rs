//! Decides what a Pod needs next. No clock, no client, no runtime: everything it may look at is in [`World`].

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec};

use crate::runtime::{Container, ContainerState, ExitRecord, PodState};

/// First pause before a container that ended is started again, seconds.
const BACK_OFF_FIRST_S: i64 = 10;
/// Longest such pause, seconds.
const BACK_OFF_MAX_S: i64 = 300;
/// A run that lasted so long is not held against the next one, seconds.
const BACK_OFF_RESET_S: i64 = 600;

/// All that is known of a Pod.
pub(crate) struct World<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) state: &'a PodState,
    /// Containers that could not be started for now.
    pub(crate) waiting: &'a BTreeMap<String, Waiting>,
    pub(crate) back_off: &'a BTreeMap<String, BackOff>,
    pub(crate) health: &'a BTreeMap<String, Health>,
    pub(crate) address: IpAddr,
    pub(crate) started_at: Timestamp,
    /// The image that the Pod is to make is there already: nothing has to run.
    pub(crate) already_built: bool,
    /// The Pod ran, but what it made could not be kept.
    pub(crate) commit_failure: Option<&'a str>,
    /// dodai is ending, and ended this Pod for that.
    pub(crate) interrupted: bool,
    pub(crate) now: Timestamp,
}

/// Why a container is not started, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) again_at: Timestamp,
}

/// How long a container that ends again and again has to wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BackOff {
    /// The run after which this was computed.
    pub(crate) attempt: u32,
    /// Seconds, 0 for the first restart.
    pub(crate) pause_s: i64,
}

/// What the probes of a run found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) attempt: u32,
    pub(crate) started: bool,
    pub(crate) ready: bool,
    /// A startup or liveness probe gave up on it.
    pub(crate) dead: bool,
    /// One word and a sentence on why it is not ready.
    pub(crate) reason: Option<&'static str>,
    pub(crate) message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start run `attempt`; `pause_s` is what [`BackOff`] becomes.
    Start { container: String, attempt: u32, pause_s: i64 },
    /// End it because of what [`Health`] says.
    Kill { container: String, message: String },
    /// The Pod's time is over: end all of it.
    KillAll,
}

/// What is to be done, and what the Pod is now.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake_at: Option<Timestamp>,
    pub(crate) phase: &'static str,
    pub(crate) init_done: bool,
    /// Nothing will be started any more.
    pub(crate) over: bool,
    pub(crate) reason: Option<&'static str>,
    pub(crate) message: Option<String>,
    /// Containers in a pause: until when, and how long it is in seconds.
    pub(crate) pauses: BTreeMap<String, (Timestamp, i64)>,
}

/// What one container needs.
enum Step {
    Start { attempt: u32, pause_s: i64 },
    Pause { until: Timestamp, pause_s: i64 },
    Wait(Timestamp),
    Running,
    Done(bool),
}

pub(crate) fn decide(world: &World<'_>) -> Decision {
    let mut decision = Decision { phase: "Pending", ..Decision::default() };
    let Some(spec) = &world.pod.spec else { return decision };
    if world.already_built {
        return Decision { phase: "Succeeded", init_done: true, over: true, ..decision };
    }
    if is_final(world.pod) {
        return keep_final(world, decision);
    }
    if let Some(deadline) = spec.active_deadline_seconds {
        let until = world.started_at + SignedDuration::from_secs(deadline);
        if world.now >= until {
            return past_deadline(world, decision);
        }
        wake(&mut decision, until);
    }
    if !init_containers(world, spec, &mut decision) {
        return decision;
    }
    decision.init_done = true;
    containers(world, spec, &mut decision);
    decision
}

/// A phase that Pods never leave; after a restart of dodai it is all that is known.
fn is_final(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn keep_final(world: &World<'_>, decision: Decision) -> Decision {
    let succeeded = world.pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded");
    let actions = if world.state.is_running() { vec![Action::KillAll] } else { Vec::new() };
    let phase = if succeeded { "Succeeded" } else { "Failed" };
    Decision { phase, init_done: true, over: true, actions, ..decision }
}

fn past_deadline(world: &World<'_>, decision: Decision) -> Decision {
    let message = Some("Pod was active on the node longer than the specified deadline".to_string());
    if world.state.is_running() {
        return Decision { phase: "Running", init_done: true, actions: vec![Action::KillAll], ..decision };
    }
    Decision {
        phase: "Failed",
        init_done: true,
        over: true,
        reason: Some("DeadlineExceeded"),
        message,
        ..decision
    }
}

/// `true` when all are done and the Pod's own containers may start.
fn init_containers(world: &World<'_>, spec: &PodSpec, decision: &mut Decision) -> bool {
    for container in spec.init_containers.iter().flatten() {
        // As upstream: for init containers, Always means OnFailure.
        let policy = if policy(spec) == "Never" { "Never" } else { "OnFailure" };
        let step = step(world, container, policy);
        if matches!(step, Step::Done(true)) {
            continue;
        }
        if take(world, container, step, decision) == Some(false) {
            decision.phase = "Failed";
            decision.over = true;
        }
        return false;
    }
    true
}

fn containers(world: &World<'_>, spec: &PodSpec, decision: &mut Decision) {
    let policy = policy(spec);
    let mut ended = Vec::new();
    let mut started = false;
    for container in &spec.containers {
        started |= world.state.containers.contains_key(&container.name);
        ended.push(take(world, container, step(world, container, policy), decision));
    }
    if ended.iter().all(Option::is_some) && world.commit_failure.is_some() {
        decision.phase = "Failed";
        decision.over = true;
        decision.reason = Some("CommitFailed");
        decision.message = world.commit_failure.map(str::to_string);
    } else if ended.iter().all(Option::is_some) {
        let succeeded = ended.iter().all(|outcome| *outcome == Some(true));
        decision.phase = if succeeded { "Succeeded" } else { "Failed" };
        decision.over = true;
        if world.interrupted && !succeeded {
            decision.reason = Some("NodeShutdown");
            decision.message = Some("dodai was stopped while this Pod ran".to_string());
        }
    } else if started {
        decision.phase = "Running";
    }
}

/// Turns a step into actions; the outcome if the container will not run again.
fn take(world: &World<'_>, container: &Spec, step: Step, decision: &mut Decision) -> Option<bool> {
    let name = container.name.clone();
    match step {
        Step::Start { .. } if world.interrupted => {}
        Step::Start { attempt, pause_s } => {
            decision.actions.push(Action::Start { container: name, attempt, pause_s })
        }
        Step::Pause { until, pause_s } => {
            wake(decision, until);
            decision.pauses.insert(name, (until, pause_s));
        }
        Step::Wait(until) => wake(decision, until),
        Step::Running => {
            let attempt = world.state.containers.get(&name).map(|container| container.attempt);
            let health =
                world.health.get(&name).filter(|health| Some(health.attempt) == attempt && health.dead);
            if let Some(health) = health {
                let message = health.message.clone().unwrap_or_default();
                decision.actions.push(Action::Kill { container: name, message });
            }
        }
        Step::Done(succeeded) => return Some(succeeded),
    }
    None
}

fn step(world: &World<'_>, container: &Spec, policy: &str) -> Step {
    let record = world.state.containers.get(&container.name);
    let ended = match record.map(|record| &record.state) {
        Some(ContainerState::Starting { .. } | ContainerState::Running { .. }) => return Step::Running,
        Some(ContainerState::Exited(ended)) => Some(ended),
        None => None,
    };
    if let Some(ended) = ended
        && !restarts(policy, ended)
    {
        return Step::Done(ended.exit_code == 0);
    }
    if let Some(waiting) = world.waiting.get(&container.name)
        && world.now < waiting.again_at
    {
        return Step::Wait(waiting.again_at);
    }
    let (Some(record), Some(ended)) = (record, ended) else { return Step::Start { attempt: 0, pause_s: 0 } };
    let (until, pause_s) = pause(world, record, ended);
    if world.now < until {
        return Step::Pause { until, pause_s };
    }
    Step::Start { attempt: record.attempt + 1, pause_s }
}

fn restarts(policy: &str, ended: &ExitRecord) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => ended.exit_code != 0,
        _ => true,
    }
}

/// When the next run may begin, and the pause that leads to. The first restart is at once, then 10 s, doubled each time.
fn pause(world: &World<'_>, record: &Container, ended: &ExitRecord) -> (Timestamp, i64) {
    let lasted_s = ended.finished_at.duration_since(ended.started_at).as_secs();
    let before = world.back_off.get(&record.name).filter(|back_off| back_off.attempt == record.attempt);
    let pause_s = match before {
        Some(_) if lasted_s >= BACK_OFF_RESET_S => 0,
        Some(back_off) if record.attempt > 0 => {
            (back_off.pause_s * 2).clamp(BACK_OFF_FIRST_S, BACK_OFF_MAX_S)
        }
        _ => 0,
    };
    (ended.finished_at + SignedDuration::from_secs(pause_s), pause_s)
}

pub(crate) fn policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or("Always")
}

fn wake(decision: &mut Decision, at: Timestamp) {
    decision.wake_at = Some(decision.wake_at.map_or(at, |earlier| earlier.min(at)));
}
