//! Reads from Pods what a person wants to know: why a process cannot start, how a command ended, its last lines.

use dodai_api::dodai::release::Failure;
use dodai_api::names::{LABEL_CONFIG, LABEL_PROCESS, LABEL_ROLE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

use crate::reason::Reason;

/// Lines of a log that a failure keeps.
const LOG_LINES_MAX: usize = 20;
/// How long a process may listen elsewhere than on its `PORT` before the Release fails, seconds: some open a side port first.
pub(super) const ELSEWHERE_S: i64 = 15;

/// Waiting reasons of a container that no amount of waiting mends.
const CANNOT_START: [&str; 4] =
    ["InvalidImageName", "ErrImageNeverPull", "CreateContainerError", "RunContainerError"];

/// Whether the Pod has a container that runs or may run.
pub(super) fn is_live(pod: &Pod) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed")
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether the Pod does this for its App.
pub(super) fn has_role(pod: &Pod, role: &str) -> bool {
    pod.labels().get(LABEL_ROLE).is_some_and(|label| label == role)
}

/// Whether the Pod runs this process in exactly this configuration.
pub(super) fn runs(pod: &Pod, process: &str, config: &str) -> bool {
    pod.labels().get(LABEL_PROCESS).is_some_and(|label| label == process)
        && pod.labels().get(LABEL_CONFIG).is_some_and(|label| label == config)
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    init.iter().chain(status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default())
}

/// The failure of a command that ran in one of these Pods (the newest counts).
pub(super) fn command_failure(reason: Reason, what: &str, command: &[String], pods: &[&Pod]) -> Failure {
    let newest = pods.iter().max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let ended = newest
        .and_then(|pod| containers(pod).find_map(|container| container.state.as_ref()?.terminated.as_ref()));
    let how = match ended {
        Some(ended) => describe(ended),
        None => match newest.and_then(|pod| pod.status.as_ref()?.message.clone()) {
            Some(message) => message,
            None => "how it ended is not known".to_owned(),
        },
    };
    Failure {
        reason: reason.into(),
        message: format!("{what} `{}`: {how}", shell_words(command)),
        log: ended.map(log_lines).unwrap_or_default(),
        pod: newest.map(|pod| pod.name_any()),
    }
}

/// Whether what ran in these Pods was ended from outside, by a stop of the machine's dodai or an end that nobody saw, and not
/// by itself.
pub(super) fn was_interrupted(pods: &[&Pod]) -> bool {
    const SIGTERM_CODE: i32 = 143;
    pods.iter().any(|pod| {
        let stopped = pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("NodeShutdown");
        stopped
            || containers(pod).filter_map(|container| container.state.as_ref()?.terminated.as_ref()).any(
                |ended| ended.reason.as_deref() == Some("OutcomeUnknown") || ended.exit_code == SIGTERM_CODE,
            )
    })
}

/// Why a process of a roll-out that began at `since` will not become available, if that is known.
pub(super) fn process_failure(
    process: &str,
    pods: &[&Pod],
    since: Timestamp,
    now: Timestamp,
) -> Option<Failure> {
    pods.iter().find_map(|pod| {
        let failure = |reason: Reason, message: String, log: Vec<String>| Failure {
            reason: reason.into(),
            message,
            log,
            pod: Some(pod.name_any()),
        };
        if let Some(ended) = containers(pod).find_map(|container| ended_since(container, since)) {
            let message = format!("process `{process}` ended before it was available: {}", describe(ended));
            return Some(failure(Reason::ProcessExited, message, log_lines(ended)));
        }
        if let Some((reason, message)) = cannot_start(pod) {
            return Some(failure(
                Reason::CannotStart,
                format!("process `{process}`: {reason}: {message}"),
                Vec::new(),
            ));
        }
        let (message, elsewhere_since) = elsewhere(pod)?;
        (now.as_second() - elsewhere_since.as_second() >= ELSEWHERE_S)
            .then(|| failure(Reason::ListensElsewhere, format!("process `{process}` {message}"), Vec::new()))
    })
}

/// A container that is not ready yet says why, for `status` and `why`.
pub(super) fn waiting_for(pods: &[&Pod]) -> Option<String> {
    pods.iter().find_map(|pod| {
        let waiting = containers(pod).find_map(|container| container.state.as_ref()?.waiting.as_ref());
        if let Some(waiting) = waiting {
            let reason = waiting.reason.clone().unwrap_or_default();
            let message =
                waiting.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
            return Some(format!("pod {}: {reason}{message}", pod.name_any()));
        }
        let ready =
            pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")?;
        let message =
            ready.message.as_deref().filter(|message| ready.status != "True" && !message.is_empty())?;
        Some(format!("pod {}: {message}", pod.name_any()))
    })
}

/// Times in container states have whole seconds: what ended in the second of `since` counts.
fn ended_since(container: &ContainerStatus, since: Timestamp) -> Option<&ContainerStateTerminated> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let mut ended = states.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
    ended.find(|ended| ended.finished_at.as_ref().is_none_or(|time| time.0.as_second() >= since.as_second()))
}

fn cannot_start(pod: &Pod) -> Option<(String, String)> {
    let waiting = containers(pod).find_map(|container| container.state.as_ref()?.waiting.as_ref())?;
    let reason = waiting.reason.as_deref().filter(|reason| CANNOT_START.contains(reason))?;
    Some((reason.to_owned(), waiting.message.clone().unwrap_or_default()))
}

fn elsewhere(pod: &Pod) -> Option<(String, Timestamp)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready =
        conditions.iter().find(|condition| condition.reason.as_deref() == Some("ListensElsewhere"))?;
    let since = ready.last_transition_time.as_ref()?.0;
    Some((ready.message.clone().unwrap_or_default(), since))
}

fn describe(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref(), ended.signal) {
        (Some("OutcomeUnknown"), _) => {
            "its outcome is not known, since what watched it was killed".to_owned()
        }
        (Some("StartError"), _) => {
            format!("could not start: {}", ended.message.as_deref().unwrap_or("no reason given").trim())
        }
        (Some("DeadlineExceeded"), _) => "took longer than its timeout".to_owned(),
        (_, Some(signal)) if signal > 0 => format!("killed by signal {signal}"),
        _ => format!("exit code {}", ended.exit_code),
    }
}

fn log_lines(ended: &ContainerStateTerminated) -> Vec<String> {
    if ended.reason.as_deref() == Some("StartError") {
        return Vec::new();
    }
    let lines: Vec<&str> = ended.message.as_deref().unwrap_or_default().trim_end().lines().collect();
    let skip = lines.len().saturating_sub(LOG_LINES_MAX);
    lines.into_iter().skip(skip).map(str::to_owned).collect()
}

fn shell_words(command: &[String]) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 120;
    let text = command.join(" ").replace('\n', " ");
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
