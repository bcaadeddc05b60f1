//! Probes and lifecycle hooks.

use super::PodContext;
use crate::names;
use crate::status::Cause;
use crate::validate::at::At;

const LINUX_SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

pub(super) fn lifecycle(lifecycle: &At<'_>, pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    for hook in ["postStart", "preStop"] {
        if lifecycle.has(hook) {
            handler(&lifecycle.get(hook), &["exec", "httpGet", "tcpSocket", "sleep"], pod, causes);
        }
    }
    let signal = lifecycle.get("stopSignal");
    if !signal.is_set() {
        return;
    }
    match pod.os {
        None => signal.forbidden("may not be set for containers with empty `spec.os.name`", causes),
        Some("windows") => signal.one_of(&["SIGKILL", "SIGTERM"], causes),
        Some("linux") => signal.one_of(LINUX_SIGNALS, causes),
        Some(_) => {}
    }
}

/// Checks the probe with the name `kind`.
pub(super) fn probe(probe: &At<'_>, kind: &str, pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], pod, causes);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        probe.get(field).not_negative(causes);
    }
    let grace = probe.get("terminationGracePeriodSeconds");
    if grace.value.as_i64().is_some_and(|seconds| seconds <= 0) {
        grace.invalid("must be greater than 0", causes);
    }
    if kind == "readinessProbe" {
        if grace.is_set() {
            grace.invalid("must not be set for readinessProbes", causes);
        }
    } else if probe.int("successThreshold").unwrap_or(0) != 1 {
        probe.get("successThreshold").invalid("must be 1", causes);
    }
}

fn handler(handler: &At<'_>, kinds: &[&str], pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    let mut found = 0;
    for kind in kinds {
        let action = handler.get(kind);
        if !action.is_set() {
            continue;
        }
        found += 1;
        if found > 1 {
            action.forbidden("may not specify more than 1 handler type", causes);
            continue;
        }
        match *kind {
            "exec" if action.items("command").is_empty() => action.get("command").required("", causes),
            "httpGet" => http(&action, causes),
            "tcpSocket" | "grpc" => port(&action, causes),
            "sleep" => sleep(&action, pod, causes),
            _ => {}
        }
    }
    if found == 0 {
        handler.required("must specify a handler type", causes);
    }
}

fn port(action: &At<'_>, causes: &mut Vec<Cause>) {
    crate::validate::port_number(&action.value["port"], &action.get("port").path, causes);
}

fn http(action: &At<'_>, causes: &mut Vec<Cause>) {
    action.get("path").not_empty(causes);
    port(action, causes);
    action.get("scheme").one_of(&["HTTP", "HTTPS"], causes);
    for header in action.items("httpHeaders") {
        let name = header.get("name").moved(&action.get("httpHeaders").path);
        name.all(names::text::header(name.own_text()), causes);
    }
}

fn sleep(action: &At<'_>, pod: &PodContext<'_>, causes: &mut Vec<Cause>) {
    let seconds = action.int("seconds").unwrap_or(0);
    if let Some(grace) = pod.grace_seconds
        && !(0..=grace).contains(&seconds)
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        action.invalid_as(seconds, &detail, causes);
    }
}
