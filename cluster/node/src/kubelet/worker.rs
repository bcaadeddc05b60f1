//! One Pod: looks at it, decides by `plan`, does it, writes its status, and waits for the next thing to happen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dodai_api::names::{ANNOTATION_COMMIT_IMAGE, ANNOTATION_PORT, ANNOTATION_RUN_TO_COMPLETION};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::events::Events;
use super::plan::{Action, BackOff, Decision, Health, Waiting, World, decide};
use super::{Here, Order, Shared, containers, probes, status, uid, volumes};
use crate::error::{Error, Result, chain};
use crate::images::ImageRef;
use crate::runtime::{ContainerState, PodConfig, PodHandle, PodState};

/// Pauses before something that failed is tried again.
const AGAIN_FIRST: Duration = Duration::from_millis(500);
const AGAIN_MAX: Duration = Duration::from_secs(20);
/// Longest pause before a container that could not be started is tried again: what it lacks may be there by then.
const START_AGAIN_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks at the ConfigMaps and Secrets of a running Pod's volumes.
const FILES_EVERY: Duration = Duration::from_secs(30);
/// Grace of a Pod that says nothing, seconds.
const GRACE_DEFAULT_S: i64 = 30;
/// Grace of a Pod whose object is gone already.
const GONE_GRACE: Duration = Duration::from_secs(2);
/// How long after SIGKILL processes may take to be gone.
const HANGS_MAX: Duration = Duration::from_secs(30);
/// Findings of probes on their way to the worker.
const FINDINGS_MAX: usize = 64;
/// Starts that may fail for reasons of this machine before that is called an error of the container.
const HICCUPS_MAX: u32 = 3;

struct Worker {
    shared: Arc<Shared>,
    orders: watch::Receiver<Order>,
    handle: Arc<dyn PodHandle>,
    state: watch::Receiver<Arc<PodState>>,
    waiting: BTreeMap<String, Waiting>,
    failures: BTreeMap<String, u32>,
    back_off: BTreeMap<String, BackOff>,
    health: BTreeMap<String, Health>,
    probes: BTreeMap<String, (u32, Prober)>,
    findings: (probes::Findings, mpsc::Receiver<(String, Health)>),
    killed: BTreeMap<String, u32>,
    started_at: Timestamp,
    already_built: bool,
    committed: bool,
    commit_failure: Option<String>,
    interrupted: bool,
    rested: bool,
    files_seen: BTreeMap<String, u64>,
    files_at: Instant,
    status_at: Option<Instant>,
    events: Events,
}

/// The task that probes one run of a container; it ends with this.
struct Prober(AbortHandle);

impl Drop for Prober {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Works on a Pod until it is gone, or dodai ends.
pub(super) async fn run(shared: Arc<Shared>, mut orders: watch::Receiver<Order>) {
    let mut pause = AGAIN_FIRST;
    loop {
        let order = orders.borrow_and_update().clone();
        match open(&shared, &order.pod).await {
            Ok(handle) => {
                let mut worker = Worker::new(shared, orders, handle);
                worker.work().await;
                return;
            }
            Err(error) => {
                tracing::warn!(pod = %name(&order.pod), error = %chain(&error), "cannot open a Pod");
                if order.gone || order.stopping {
                    return;
                }
                let _ = timeout(pause, orders.changed()).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
        }
    }
}

/// Ends and removes a Pod whose object is not there.
pub(super) async fn end_orphan(shared: &Shared, config: PodConfig) {
    let name = format!("{}/{}", config.namespace, config.name);
    let port = config.port;
    let ended = async {
        let handle = shared.runtime.open(config).await?;
        stop_all(handle.as_ref(), GONE_GRACE).await;
        handle.remove().await
    };
    match ended.await {
        Ok(()) => tracing::info!(pod = %name, "a Pod without an object was ended"),
        Err(error) => {
            tracing::warn!(pod = %name, error = %chain(&error), "cannot end a Pod without an object")
        }
    }
    if let Some(port) = port {
        shared.ports.free(port);
    }
}

async fn open(shared: &Shared, pod: &Pod) -> Result<Arc<dyn PodHandle>> {
    let told = annotation(pod, ANNOTATION_PORT).and_then(|port| port.parse::<u16>().ok());
    let known = shared.runtime.known()?.into_iter().find(|config| config.uid == uid(pod));
    let port = match known.and_then(|config| config.port).or(told) {
        Some(port) => {
            shared.ports.keep(port);
            port
        }
        None => shared.ports.take()?,
    };
    let grace_s = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let config = PodConfig {
        uid: uid(pod),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        absent_grace_ms: shared.orphan_grace.map(|grace| grace.as_millis() as u64),
        termination_grace_ms: grace_s.unwrap_or(GRACE_DEFAULT_S).max(0) as u64 * 1000,
        run_to_completion: runs_to_completion(pod),
        port: Some(port),
    };
    shared.runtime.open(config).await
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn runs_to_completion(pod: &Pod) -> bool {
    annotation(pod, ANNOTATION_RUN_TO_COMPLETION) == Some("true")
}

fn name(pod: &Pod) -> String {
    let (namespace, name) = super::key(pod);
    format!("{namespace}/{name}")
}

async fn stop_all(handle: &dyn PodHandle, grace: Duration) {
    let mut state = handle.state();
    let names: Vec<String> = running(&state.borrow_and_update());
    for name in names {
        if let Err(error) = handle.stop(&name, grace).await {
            tracing::warn!(container = name, error = %chain(&error), "cannot stop a container");
        }
    }
    // SIGKILL ends everything but a process that hangs in the kernel; nobody waits for that one for ever.
    if timeout(grace + HANGS_MAX, state.wait_for(|state| !state.is_running())).await.is_err() {
        tracing::warn!(pod = handle.config().name, "its processes do not end");
    }
}

fn running(state: &PodState) -> Vec<String> {
    let is_running = |state: &ContainerState| !matches!(state, ContainerState::Exited(_));
    state
        .containers
        .values()
        .filter(|container| is_running(&container.state))
        .map(|c| c.name.clone())
        .collect()
}

impl Worker {
    fn new(shared: Arc<Shared>, orders: watch::Receiver<Order>, handle: Arc<dyn PodHandle>) -> Worker {
        let state = handle.state();
        let pod = Arc::clone(&orders.borrow().pod);
        let start_time = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        let is_final = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let built = annotation(&pod, ANNOTATION_COMMIT_IMAGE).and_then(|image| ImageRef::parse(image).ok());
        let already_built = matches!(&built, Some(ImageRef::Build(hex)) if shared.images.has(hex))
            && state.borrow().containers.is_empty()
            && !matches!(is_final, Some("Succeeded" | "Failed"));
        Worker {
            shared,
            orders,
            handle,
            state,
            waiting: BTreeMap::new(),
            failures: BTreeMap::new(),
            back_off: BTreeMap::new(),
            health: BTreeMap::new(),
            probes: BTreeMap::new(),
            findings: mpsc::channel(FINDINGS_MAX),
            killed: BTreeMap::new(),
            started_at: start_time.unwrap_or_else(Timestamp::now),
            already_built,
            committed: false,
            commit_failure: None,
            interrupted: false,
            rested: false,
            files_seen: BTreeMap::new(),
            files_at: Instant::now() + FILES_EVERY,
            status_at: None,
            events: Events::default(),
        }
    }

    async fn work(&mut self) {
        let mut annotated = false;
        loop {
            let order = self.orders.borrow_and_update().clone();
            self.state.borrow_and_update();
            self.shared.arrive(Here { pod: Arc::clone(&order.pod), handle: Arc::clone(&self.handle) });
            if order.gone {
                return self.end_gone(&order.pod).await;
            }
            if order.pod.metadata.deletion_timestamp.is_some() {
                return self.terminate().await;
            }
            if !annotated {
                annotated = self.annotate(&order.pod).await;
                if !annotated {
                    self.pause(AGAIN_FIRST).await;
                    continue;
                }
            }
            if order.stopping && !runs_to_completion(&order.pod) && !self.interrupted {
                self.interrupted = true;
                self.interrupt(&order.pod).await;
                continue;
            }
            let decision = self.step(&order.pod).await;
            if order.stopping && (decision.over || !self.handle.state().borrow().is_running()) {
                // Nothing runs: its supervisor need not wait for a dodai that may not come back.
                self.handle.rest().await;
                return;
            }
            self.wait(&decision).await;
        }
    }

    /// Decides and does. The status is written when everything that is to be known before it is done.
    async fn step(&mut self, pod: &Pod) -> Decision {
        let mut decision = self.decide(pod);
        let mut rounds = 0;
        while !decision.actions.is_empty() && rounds < 4 {
            self.write_status(pod, &decision).await;
            for action in std::mem::take(&mut decision.actions) {
                self.act(pod, action).await;
            }
            self.state.borrow_and_update();
            decision = self.decide(pod);
            rounds += 1;
            if decision.actions.iter().all(|action| matches!(action, Action::KillAll | Action::Kill { .. })) {
                break;
            }
        }
        if decision.over && decision.phase == "Succeeded" && !self.already_built && !self.committed {
            self.commit(pod).await;
            decision = self.decide(pod);
        }
        self.follow_probes(pod);
        self.write_status(pod, &decision).await;
        if decision.over && !self.rested && !self.handle.state().borrow().is_running() {
            self.rested = true;
            self.handle.rest().await;
        }
        if Instant::now() >= self.files_at {
            self.files_at = Instant::now() + FILES_EVERY;
            if !decision.over {
                self.refresh_files(pod).await;
            }
        }
        decision
    }

    fn decide(&self, pod: &Pod) -> Decision {
        let state = self.state.borrow().clone();
        decide(&self.world(pod, &state))
    }

    fn world<'a>(&'a self, pod: &'a Pod, state: &'a PodState) -> World<'a> {
        World {
            pod,
            state,
            waiting: &self.waiting,
            back_off: &self.back_off,
            health: &self.health,
            address: self.handle.address(),
            started_at: self.started_at,
            already_built: self.already_built,
            commit_failure: self.commit_failure.as_deref(),
            interrupted: self.interrupted,
            now: Timestamp::now(),
        }
    }

    async fn write_status(&mut self, pod: &Pod, decision: &Decision) {
        let state = self.state.borrow().clone();
        // The newest object, so that conditions of others are not undone.
        let newest = Arc::clone(&self.orders.borrow().pod);
        let pod = if newest.metadata.uid == pod.metadata.uid { newest.as_ref() } else { pod };
        let Some(patch) = status::patch(&self.world(pod, &state), decision) else {
            self.status_at = None;
            return;
        };
        let (namespace, name) = super::key(pod);
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &namespace);
        match api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(written) => {
                self.status_at = None;
                self.seen(written);
            }
            Err(kube::Error::Api(status)) if status.code == 404 => self.status_at = None,
            Err(error) => {
                tracing::debug!(pod = %name, error = %chain(&error), "cannot write a Pod's status");
                self.status_at = Some(Instant::now() + AGAIN_FIRST);
            }
        }
    }

    /// What was written comes back by the watch; until then it is taken from the answer, so that nothing is written
    /// twice. The order itself stays as it is: only the manager gives orders.
    fn seen(&mut self, written: Pod) {
        self.shared.arrive(Here { pod: Arc::new(written), handle: Arc::clone(&self.handle) });
    }

    /// Says which port the Pod was given, before anything is started in it.
    async fn annotate(&mut self, pod: &Pod) -> bool {
        let Some(port) = self.handle.config().port.map(|port| port.to_string()) else { return true };
        if annotation(pod, ANNOTATION_PORT) == Some(port.as_str()) {
            return true;
        }
        let (namespace, name) = super::key(pod);
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &namespace);
        let patch = json!({"metadata": {"uid": uid(pod), "annotations": {ANNOTATION_PORT: port}}});
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(pod = %name, error = %chain(&error), "cannot annotate a Pod");
                false
            }
        }
    }

    async fn act(&mut self, pod: &Pod, action: Action) {
        match action {
            Action::Start { container, attempt, pause_s } => {
                self.start(pod, &container, attempt, pause_s).await
            }
            Action::Kill { container, message } => {
                let attempt =
                    self.state.borrow().containers.get(&container).map_or(0, |container| container.attempt);
                if self.killed.insert(container.clone(), attempt) == Some(attempt) {
                    return;
                }
                self.tell(pod, "Warning", "Unhealthy", &message).await;
                self.tell(
                    pod,
                    "Normal",
                    "Killing",
                    &format!("Container {container} failed its probe, will be restarted"),
                )
                .await;
                let grace = Duration::from_millis(self.handle.config().termination_grace_ms);
                let _ = self.handle.stop(&container, grace).await;
            }
            Action::KillAll => {
                let grace = Duration::from_millis(self.handle.config().termination_grace_ms);
                stop_all(self.handle.as_ref(), grace).await;
            }
        }
    }

    async fn start(&mut self, pod: &Pod, container: &str, attempt: u32, pause_s: i64) {
        let Some(spec) = find(pod, container).cloned() else { return };
        let is_build = annotation(pod, ANNOTATION_COMMIT_IMAGE).is_some();
        let shared = Arc::clone(&self.shared);
        let unpacking = if is_build { shared.builds.acquire().await.ok() } else { None };
        let started = async {
            let start = containers::assemble(&shared, pod, &spec, self.handle.as_ref(), attempt).await?;
            self.handle.start(start).await
        };
        let started = started.await;
        drop(unpacking);
        match started {
            Ok(()) => {
                self.waiting.remove(container);
                self.failures.remove(container);
                self.back_off.insert(container.to_string(), BackOff { attempt, pause_s });
                self.tell(pod, "Normal", "Started", &format!("Started container {container}")).await;
            }
            Err(error) => self.cannot_start(pod, container, &error).await,
        }
    }

    async fn cannot_start(&mut self, pod: &Pod, container: &str, error: &Error) {
        let failures = self.failures.entry(container.to_string()).or_default();
        *failures += 1;
        let pause = AGAIN_FIRST.saturating_mul(1 << (*failures).min(10)).min(START_AGAIN_MAX);
        let message = chain(error);
        let reason = match error {
            Error::Image { reason, .. } | Error::Config { reason, .. } => *reason,
            Error::Archive { .. } => "ErrImagePull",
            // Its supervisor is about to leave, as it was alone for too long; the next one will take it.
            Error::Refused { .. } => "ContainerCreating",
            _ if *failures <= HICCUPS_MAX => "ContainerCreating",
            _ => "CreateContainerError",
        };
        let again_at = Timestamp::now() + pause;
        self.waiting.insert(
            container.to_string(),
            Waiting { reason: reason.to_string(), message: message.clone(), again_at },
        );
        self.tell(pod, "Warning", "Failed", &format!("Error: {message}")).await;
    }

    /// Turns the tree that the Pod left into an image, before anyone learns that it succeeded.
    async fn commit(&mut self, pod: &Pod) {
        let Some(image) = annotation(pod, ANNOTATION_COMMIT_IMAGE) else { return };
        if matches!(
            pod.status.as_ref().and_then(|status| status.phase.as_deref()),
            Some("Succeeded" | "Failed")
        ) {
            return;
        }
        let source = pod.spec.as_ref().and_then(|spec| spec.containers.first());
        let result = match (ImageRef::parse(image), source) {
            (Ok(ImageRef::Build(hex)), Some(source)) => {
                let tree = containers::tree_folder(self.handle.as_ref(), &source.name).join("app");
                let (images, interpreters) = (self.shared.images.clone(), self.shared.interpreters.clone());
                tokio::task::spawn_blocking(move || images.commit(&tree, &hex, &interpreters)).await
            }
            (Ok(_), _) => Ok(Err(Error::Config {
                reason: "CommitFailed",
                message: format!("`{image}` is no name for a built image"),
            })),
            (Err(error), _) => Ok(Err(error)),
        };
        match result {
            Ok(Ok(())) => self.committed = true,
            Ok(Err(error)) => {
                self.commit_failure = Some(format!("the image cannot be kept: {}", chain(&error)))
            }
            Err(error) => self.commit_failure = Some(format!("the image cannot be kept: {error}")),
        }
    }

    async fn tell(&mut self, pod: &Pod, kind: &str, reason: &str, message: &str) {
        self.events.tell(&self.shared.client, pod, kind, reason, message).await;
    }

    /// Every running container has its probes, and no other.
    fn follow_probes(&mut self, pod: &Pod) {
        let state = self.state.borrow().clone();
        let Some(spec) = &pod.spec else { return };
        let with_port =
            spec.containers.iter().find(|container| container.ports.as_ref().is_some_and(|p| !p.is_empty()));
        let with_port = with_port.map(|container| container.name.clone());
        for container in &spec.containers {
            let running = state.containers.get(&container.name).and_then(|found| {
                matches!(found.state, ContainerState::Running { .. }).then_some(found.attempt)
            });
            let probed = self.probes.get(&container.name).map(|(attempt, _)| *attempt);
            if running == probed {
                continue;
            }
            if self.probes.remove(&container.name).is_some() {
                self.health.remove(&container.name);
            }
            if let Some(attempt) = running {
                let port = self.handle.config().port.filter(|_| with_port.as_ref() == Some(&container.name));
                let target = probes::Target {
                    handle: Arc::clone(&self.handle),
                    spec: container.clone(),
                    attempt,
                    port,
                };
                let task = tokio::spawn(probes::run(target, self.findings.0.clone()));
                self.probes.insert(container.name.clone(), (attempt, Prober(task.abort_handle())));
            }
        }
    }

    /// Gives running containers what changed in ConfigMaps and Secrets since they were started.
    async fn refresh_files(&mut self, pod: &Pod) {
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
        for volume in volumes {
            // A source that went away changes nothing for what runs.
            let Ok(Some(files)) = volumes::files(pod, &volume, self.shared.lookup.as_ref()).await else {
                continue;
            };
            let mut hash = std::hash::DefaultHasher::new();
            for file in &files {
                std::hash::Hash::hash(&(&file.path, file.mode, &file.data), &mut hash);
            }
            let hash = std::hash::Hasher::finish(&hash);
            let before = self.files_seen.insert(volume.name.clone(), hash);
            if before == Some(hash) {
                continue;
            }
            let names = running(&self.state.borrow().clone());
            for container in names {
                let _ = self.handle.update_files(&container, &volume.name, files.clone()).await;
            }
        }
    }

    async fn wait(&mut self, decision: &Decision) {
        let now = Instant::now();
        let wake = decision.wake_at.map(|at| {
            let left = at.duration_since(Timestamp::now()).as_millis().max(0) as u64;
            now + Duration::from_millis(left + 1)
        });
        let files = (!decision.over && self.has_files()).then_some(self.files_at);
        let at = [wake, files, self.status_at].into_iter().flatten().min();
        let timer = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let told = tokio::select! {
            _ = self.orders.changed() => None,
            _ = self.state.changed() => None,
            finding = self.findings.1.recv() => finding,
            () = timer => None,
        };
        if let Some((container, health)) = told {
            self.take_finding(container, health).await;
        }
    }

    async fn take_finding(&mut self, container: String, health: Health) {
        let current = self.probes.get(&container).is_some_and(|(attempt, _)| *attempt == health.attempt);
        if !current {
            return;
        }
        let is_failure = matches!(health.reason, Some("ReadinessProbeFailed" | "ListensElsewhere"));
        let message = health.message.clone().filter(|_| is_failure && !health.ready);
        self.health.insert(container, health);
        if let Some(message) = message {
            let pod = Arc::clone(&self.orders.borrow().pod);
            self.tell(&pod, "Warning", "Unhealthy", &message).await;
        }
    }

    fn has_files(&self) -> bool {
        let order = self.orders.borrow();
        let volumes = order.pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        volumes.iter().any(|volume| {
            volume.config_map.is_some()
                || volume.secret.is_some()
                || volume.projected.is_some()
                || volume.downward_api.is_some()
        })
    }

    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            _ = self.orders.changed() => {}
        }
    }

    fn stop_probes(&mut self) {
        self.probes.clear();
    }

    /// dodai ends: so does this Pod, by its grace.
    async fn interrupt(&mut self, pod: &Pod) {
        self.stop_probes();
        let grace = Duration::from_millis(self.handle.config().termination_grace_ms);
        self.shared.drains.drain(&uid(pod), grace).await;
        stop_all(self.handle.as_ref(), grace).await;
    }

    /// The object is gone without the usual way: nothing to report to, nothing to wait for.
    async fn end_gone(&mut self, pod: &Pod) {
        self.stop_probes();
        stop_all(self.handle.as_ref(), GONE_GRACE).await;
        self.remove(pod).await;
    }

    async fn remove(&mut self, pod: &Pod) {
        self.shared.drains.forget(&uid(pod));
        self.shared.leave(pod);
        let mut pause = AGAIN_FIRST;
        while let Err(error) = self.handle.remove().await {
            tracing::warn!(pod = %name(pod), error = %chain(&error), "cannot remove a Pod's folder");
            if pause >= AGAIN_MAX {
                break; // The next start of dodai finds it again.
            }
            sleep(pause).await;
            pause *= 2;
        }
        if let Some(port) = self.handle.config().port {
            self.shared.ports.free(port);
        }
        let (namespace, name) = super::key(pod);
        if self.shared.here(&namespace, &name).is_none() {
            let _ = std::fs::remove_dir_all(self.shared.data.join("logs").join(namespace).join(name));
        }
    }

    /// The way of a Pod that was deleted: no new requests, wait for those in flight, SIGTERM, SIGKILL, and only then
    /// does the object go.
    async fn terminate(&mut self) {
        self.stop_probes();
        let pod = Arc::clone(&self.orders.borrow_and_update().pod);
        let (handle, drains) = (Arc::clone(&self.handle), self.shared.drains.clone());
        if self.handle.state().borrow().is_running() {
            self.tell(&pod, "Normal", "Killing", "Stopping the Pod's containers").await;
        }
        let uid = uid(&pod);
        let stop = async {
            let began = Instant::now();
            let grace = grace_left(&pod);
            drains.drain(&uid, grace).await;
            pre_stop(&pod, handle.as_ref(), grace.saturating_sub(began.elapsed())).await;
            stop_all(handle.as_ref(), grace.saturating_sub(began.elapsed())).await;
        };
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                changed = self.orders.changed() => {
                    let order = self.orders.borrow_and_update().clone();
                    let left = if order.gone || changed.is_err() { GONE_GRACE } else { grace_left(&order.pod) };
                    if left <= GONE_GRACE {
                        stop_all(handle.as_ref(), left).await;
                        break;
                    }
                }
            }
        }
        let pod = Arc::clone(&self.orders.borrow().pod);
        if !self.orders.borrow().gone {
            self.report_end(&pod).await;
            self.delete_object(&pod).await;
        }
        self.remove(&pod).await;
    }

    async fn report_end(&mut self, pod: &Pod) {
        self.state.borrow_and_update();
        let state = self.state.borrow().clone();
        let failed = state.containers.values().any(
            |container| matches!(&container.state, ContainerState::Exited(ended) if ended.exit_code != 0),
        );
        let phase = if failed || state.containers.is_empty() { "Failed" } else { "Succeeded" };
        let decision = Decision { phase, init_done: true, over: true, ..Decision::default() };
        self.write_status(pod, &decision).await;
    }

    async fn delete_object(&mut self, pod: &Pod) {
        let (namespace, name) = super::key(pod);
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &namespace);
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let mut pause = AGAIN_FIRST;
        loop {
            match api.delete(&name, &params).await {
                Ok(_) => return,
                // Gone, or another Pod of the same name.
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return,
                Err(error) => {
                    tracing::debug!(pod = %name, error = %chain(&error), "cannot delete a Pod that ended");
                    let order = self.orders.borrow().clone();
                    if order.gone || order.stopping {
                        return;
                    }
                    self.pause(pause).await;
                    pause = (pause * 2).min(AGAIN_MAX);
                }
            }
        }
    }
}

fn find<'a>(pod: &'a Pod, container: &str) -> Option<&'a Spec> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.find(|spec| spec.name == container)
}

/// What is left of the time that the deletion gave.
fn grace_left(pod: &Pod) -> Duration {
    let grace_s = pod.metadata.deletion_grace_period_seconds.unwrap_or(GRACE_DEFAULT_S).max(0);
    let until = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    // The time stamp has whole seconds, so a second is given back.
    let left_ms = until.map_or(0, |until| until.duration_since(Timestamp::now()).as_millis() + 1000);
    Duration::from_millis(left_ms.clamp(0, i128::from(grace_s) * 1000) as u64)
}

/// Runs `lifecycle.preStop` of every container that has one.
async fn pre_stop(pod: &Pod, handle: &dyn PodHandle, grace: Duration) {
    let running = running(&handle.state().borrow().clone());
    let hooks = pod.spec.iter().flat_map(|spec| &spec.containers).filter(|spec| running.contains(&spec.name));
    let hooks = hooks.filter_map(|spec| Some((spec, spec.lifecycle.as_ref()?.pre_stop.as_ref()?))).map(
        async |(spec, hook)| {
            if let Some(pause) = &hook.sleep {
                sleep(Duration::from_secs(pause.seconds.max(0) as u64)).await;
            } else if let Some(exec) = &hook.exec {
                let request = crate::runtime::ExecRequest {
                    container: spec.name.clone(),
                    command: exec.command.clone().unwrap_or_default(),
                    ..Default::default()
                };
                if let Ok(session) = handle.exec(request).await {
                    let _ = session.exit.await;
                }
            } else {
                tracing::warn!(container = spec.name, "preStop of this kind is not supported");
            }
        },
    );
    let _ = timeout(grace, futures::future::join_all(hooks)).await;
}
