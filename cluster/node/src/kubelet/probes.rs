//! Runs the probes of one run of a container, and watches whether it listens on its `PORT`.
//!
//! The startup probe comes before the others. A container with a declared port and no readiness probe is ready once
//! it listens: a forwarder that follows ready endpoints then never meets a closed port.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container as Spec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::plan::Health;
use crate::error::chain;
use crate::runtime::{ExecRequest, PodHandle};

/// Bytes of a probe's answer that are read.
const ANSWER_BYTES_MAX: usize = 10 * 1024;
/// Pause between two looks at the sockets of a process that does not listen on its port yet, and later on.
const LOOK_FIRST: Duration = Duration::from_millis(250);
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Looks that must find it elsewhere before that is said: some open a side port first.
const ELSEWHERE_LOOKS: u32 = 3;
/// Output of a probe's command that is kept.
const OUTPUT_BYTES_MAX: usize = 256;

/// What is probed.
pub(crate) struct Target {
    pub(crate) handle: Arc<dyn PodHandle>,
    pub(crate) spec: Spec,
    pub(crate) attempt: u32,
    /// The Pod's `PORT`, if this container is the one that is to listen on it.
    pub(crate) port: Option<u16>,
}

/// Where findings go, with the container's name.
pub(crate) type Findings = mpsc::Sender<(String, Health)>;

struct Reporter {
    container: String,
    health: Mutex<(Health, Option<String>)>,
    findings: Findings,
}

impl Reporter {
    /// Changes what is known and tells it if that makes a difference.
    async fn update(&self, change: impl FnOnce(&mut Health, &mut Option<String>)) {
        let told = {
            let mut state = self.health.lock().unwrap_or_else(PoisonError::into_inner);
            let before = effective(&state.0, &state.1);
            let (health, elsewhere) = &mut *state;
            change(health, elsewhere);
            let after = effective(&state.0, &state.1);
            (before != after).then_some(after)
        };
        if let Some(health) = told {
            let _ = self.findings.send((self.container.clone(), health)).await;
        }
    }

    fn is_ready(&self) -> bool {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).0.ready
    }
}

fn effective(health: &Health, elsewhere: &Option<String>) -> Health {
    match elsewhere {
        Some(message) if !health.ready => {
            Health { reason: Some("ListensElsewhere"), message: Some(message.clone()), ..health.clone() }
        }
        _ => health.clone(),
    }
}

/// Probes until the container is given up, or this is dropped.
pub(crate) async fn run(target: Target, findings: Findings) {
    let health = Health { attempt: target.attempt, ..Health::default() };
    let container = target.spec.name.clone();
    let reporter = Reporter { container, health: Mutex::new((health, None)), findings };
    let watch_port = watch_port(&target, &reporter);
    let probes = async {
        if let Some(probe) = &target.spec.startup_probe
            && !start_up(&target, probe, &reporter).await
        {
            return;
        }
        let has_readiness = target.spec.readiness_probe.is_some();
        let ready = !has_readiness && target.port.is_none();
        reporter
            .update(|health, _| {
                health.started = true;
                health.ready |= ready;
                if !health.ready && health.reason.is_none() {
                    (health.reason, health.message) = not_listening(&target, has_readiness);
                } else if health.ready {
                    (health.reason, health.message) = (None, None);
                }
            })
            .await;
        tokio::join!(readiness(&target, &reporter), liveness(&target, &reporter));
    };
    tokio::join!(watch_port, probes);
}

fn not_listening(target: &Target, has_readiness: bool) -> (Option<&'static str>, Option<String>) {
    match target.port {
        Some(port) if !has_readiness => {
            (Some("ContainersNotReady"), Some(format!("does not listen on PORT {port} yet")))
        }
        _ => (None, None),
    }
}

async fn start_up(target: &Target, probe: &Probe, reporter: &Reporter) -> bool {
    sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let threshold = threshold(probe);
    let mut failures = 0;
    loop {
        match attempt(target, probe).await {
            Ok(()) => {
                reporter.update(|health, _| (health.reason, health.message) = (None, None)).await;
                return true;
            }
            Err(failure) => {
                failures += 1;
                let message = format!("{failure}, {failures} of {threshold} tries");
                reporter
                    .update(|health, _| {
                        health.dead = failures >= threshold;
                        (health.reason, health.message) = (Some("StartupProbeFailed"), Some(message));
                    })
                    .await;
            }
        }
        if failures >= threshold {
            return false;
        }
        sleep(seconds(probe.period_seconds, 10)).await;
    }
}

async fn readiness(target: &Target, reporter: &Reporter) {
    let Some(probe) = &target.spec.readiness_probe else { return };
    sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let (threshold, wanted) = (threshold(probe), probe.success_threshold.unwrap_or(1).max(1));
    let (mut failures, mut successes) = (0, 0);
    loop {
        match attempt(target, probe).await {
            Ok(()) => {
                (failures, successes) = (0, successes + 1);
                if successes >= wanted {
                    reporter
                        .update(|health, _| {
                            health.ready = true;
                            (health.reason, health.message) = (None, None);
                        })
                        .await;
                }
            }
            Err(failure) => {
                (failures, successes) = ((failures + 1).min(threshold), 0);
                let message = format!("{failure}, {failures} of {threshold} tries");
                reporter
                    .update(|health, _| {
                        health.ready &= failures < threshold;
                        if !health.ready {
                            (health.reason, health.message) = (Some("ReadinessProbeFailed"), Some(message));
                        }
                    })
                    .await;
            }
        }
        sleep(seconds(probe.period_seconds, 10)).await;
    }
}

async fn liveness(target: &Target, reporter: &Reporter) {
    let Some(probe) = &target.spec.liveness_probe else { return };
    sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let threshold = threshold(probe);
    let mut failures = 0;
    while failures < threshold {
        match attempt(target, probe).await {
            Ok(()) => failures = 0,
            Err(failure) => {
                failures += 1;
                if failures >= threshold {
                    let message = format!("{failure}, {failures} of {threshold} tries");
                    reporter
                        .update(|health, _| {
                            health.dead = true;
                            (health.reason, health.message) = (Some("LivenessProbeFailed"), Some(message));
                        })
                        .await;
                }
            }
        }
        sleep(seconds(probe.period_seconds, 10)).await;
    }
}

/// Looks at the sockets of the container until it listens on its port or a probe found it ready.
async fn watch_port(target: &Target, reporter: &Reporter) {
    let Some(port) = target.port else { return };
    let has_readiness = target.spec.readiness_probe.is_some();
    let mut pause = LOOK_FIRST;
    let mut elsewhere = 0;
    while !reporter.is_ready() {
        // A failure to look (the container just ended) is no finding.
        let found = target.handle.listening(&target.spec.name).await.unwrap_or_default();
        if found.iter().any(|address| address.port() == port) {
            reporter
                .update(|health, message| {
                    *message = None;
                    if !has_readiness {
                        health.ready = true;
                        (health.reason, health.message) = (None, None);
                    }
                })
                .await;
            return;
        }
        elsewhere = if found.is_empty() { 0 } else { elsewhere + 1 };
        if elsewhere >= ELSEWHERE_LOOKS {
            let shown: Vec<String> = found.iter().take(4).map(SocketAddr::to_string).collect();
            let text = format!("listens on {}, not on PORT {port}", shown.join(", "));
            reporter.update(|_, message| *message = Some(text)).await;
        }
        sleep(pause).await;
        if elsewhere == 0 || elsewhere >= ELSEWHERE_LOOKS {
            pause = (pause * 5 / 4).min(LOOK_MAX);
        }
    }
}

fn threshold(probe: &Probe) -> i32 {
    probe.failure_threshold.unwrap_or(3).max(1)
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}

/// Tries a probe once; the error says what was asked and what came back.
async fn attempt(target: &Target, probe: &Probe) -> Result<(), String> {
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let outcome = async {
        if let Some(http) = &probe.http_get {
            return http_get(target, http).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            let address = address(target, tcp.host.as_deref(), &tcp.port)?;
            return match TcpStream::connect(address).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("connect to {address} -> {}", error.kind())),
            };
        }
        if let Some(exec) = &probe.exec {
            return run_command(target, exec.command.as_deref().unwrap_or_default()).await;
        }
        Err("this kind of probe is not supported by the process runtime".to_string())
    };
    let what = || match (&probe.http_get, &probe.tcp_socket) {
        (Some(http), _) => format!("GET {}", http.path.as_deref().unwrap_or("/")),
        (_, Some(_)) => "connect".to_string(),
        _ => "command".to_string(),
    };
    match timeout(limit, outcome).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("{} -> no answer within {} s", what(), limit.as_secs())),
    }
}

async fn http_get(target: &Target, get: &k8s_openapi::api::core::v1::HTTPGetAction) -> Result<(), String> {
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    if get.scheme.as_deref().is_some_and(|scheme| scheme != "HTTP") {
        return Err(format!("GET {path} -> HTTPS probes are not supported by the process runtime"));
    }
    let address = address(target, get.host.as_deref(), &get.port)?;
    let failed = |error: &dyn std::fmt::Display| format!("GET {path} -> {error} from {address}");
    let stream = TcpStream::connect(address).await.map_err(|error| failed(&error.kind()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let mut request = http::Request::get(path)
        .header("user-agent", "kube-probe/1.36")
        .header("accept", "*/*")
        .header("connection", "close");
    let named = get.http_headers.iter().flatten().any(|header| header.name.eq_ignore_ascii_case("host"));
    if !named {
        request = request.header("host", address.to_string());
    }
    for header in get.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| failed(&chain(&error)))?;
        let status = answer.status().as_u16();
        // The answer is taken whole, or the server would see its connection reset; what is longer is cut off all the same.
        let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        match status {
            200..400 => Ok(()),
            status => Err(failed(&status)),
        }
    };
    tokio::select! {
        outcome = exchange => outcome,
        // The connection is driven here; it ends only after the exchange.
        error = async { let _ = connection.await; std::future::pending::<String>().await } => Err(error),
    }
}

async fn run_command(target: &Target, command: &[String]) -> Result<(), String> {
    let shown = command.join(" ");
    let request = ExecRequest {
        container: target.spec.name.clone(),
        command: command.to_vec(),
        tty: false,
        stdin: false,
    };
    let mut session = target.handle.exec(request).await.map_err(|error| format!("`{shown}` -> {error}"))?;
    let mut output = vec![0; OUTPUT_BYTES_MAX];
    let size = session.stdout.read(&mut output).await.unwrap_or(0);
    match session.exit.await {
        Ok(0) => Ok(()),
        Ok(code) => {
            let text = String::from_utf8_lossy(&output[..size]);
            let text = text.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
            Err(format!("`{shown}` -> exit {code}{text}"))
        }
        Err(error) => Err(format!("`{shown}` -> {error}")),
    }
}

/// The address of a probe. The port that the container declares first stands for the `PORT` that it was given.
fn address(target: &Target, host: Option<&str>, port: &IntOrString) -> Result<SocketAddr, String> {
    let ports = target.spec.ports.as_deref().unwrap_or_default();
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match ports.iter().find(|port| port.name.as_deref() == Some(name)) {
            Some(port) => port.container_port,
            None => name.parse().map_err(|_| format!("the container declares no port `{name}`"))?,
        },
    };
    let number = match (target.port, ports.first()) {
        (Some(given), Some(first)) if first.container_port == number => given,
        _ => u16::try_from(number).map_err(|_| format!("{number} is no port"))?,
    };
    let host: IpAddr = match host.filter(|host| !host.is_empty()) {
        None => target.handle.address(),
        Some("localhost") => target.handle.address(),
        Some(host) => host.parse().map_err(|_| format!("probe host `{host}` is no IP address"))?,
    };
    Ok(SocketAddr::new(host, number))
}
