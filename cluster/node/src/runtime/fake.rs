//! A runtime that starts nothing: for tests of whatever sits above a runtime. It records every start, and the test
//! says when a container ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    AttachRequest, Container, ContainerStart, ContainerState, ExecRequest, ExecSession, ExitRecord,
    FileEntry, PodConfig, PodHandle, PodState, Runtime,
};
use crate::error::{Error, Result};

/// A runtime for tests.
#[derive(Clone)]
pub struct FakeRuntime {
    folder: PathBuf,
    pods: Arc<Mutex<BTreeMap<String, Arc<FakePod>>>>,
}

/// One Pod of a [`FakeRuntime`].
pub struct FakePod {
    config: PodConfig,
    folder: PathBuf,
    state: watch::Sender<Arc<PodState>>,
    starts: Mutex<Vec<ContainerStart>>,
    /// A container that is stopped ends at once, unless the test wants to see the time between.
    ignores_stop: Mutex<bool>,
    pods: Arc<Mutex<BTreeMap<String, Arc<FakePod>>>>,
}

impl FakeRuntime {
    /// `folder` exists and is for the files of Pods.
    pub fn new(folder: &Path) -> FakeRuntime {
        FakeRuntime { folder: folder.to_path_buf(), pods: Arc::default() }
    }

    /// A Pod that was opened, by uid.
    pub fn pod(&self, uid: &str) -> Option<Arc<FakePod>> {
        lock(&self.pods).get(uid).cloned()
    }

    /// Every start of every Pod that is here: uid, container, attempt.
    pub fn starts(&self) -> Vec<(String, String, u32)> {
        let mut starts = Vec::new();
        for (uid, pod) in lock(&self.pods).iter() {
            starts.extend(
                lock(&pod.starts).iter().map(|start| (uid.clone(), start.name.clone(), start.attempt)),
            );
        }
        starts
    }
}

impl FakePod {
    /// Ends the newest run of a container.
    pub fn finish(&self, container: &str, exit_code: i32, message: &str) {
        self.state.send_modify(|state| {
            let Some(container) = Arc::make_mut(state).containers.get_mut(container) else { return };
            let (ContainerState::Running { started_at, .. } | ContainerState::Starting { started_at }) =
                container.state
            else {
                return;
            };
            container.state = ContainerState::Exited(ExitRecord {
                attempt: container.attempt,
                exit_code,
                signal: (exit_code > 128).then(|| exit_code - 128),
                reason: if exit_code == 0 { "Completed" } else { "Error" }.to_string(),
                message: message.to_string(),
                started_at,
                finished_at: Timestamp::now(),
            });
        });
    }

    /// What was given to the newest start of a container.
    pub fn last_start(&self, container: &str) -> Option<ContainerStart> {
        lock(&self.starts).iter().rev().find(|start| start.name == container).cloned()
    }

    /// From now on containers go on when they are stopped, until [`FakePod::finish`].
    pub fn ignore_stop(&self) {
        *lock(&self.ignores_stop) = true;
    }
}

impl Runtime for FakeRuntime {
    fn known(&self) -> Result<Vec<PodConfig>> {
        Ok(lock(&self.pods).values().map(|pod| pod.config.clone()).collect())
    }

    fn open(&self, config: PodConfig) -> BoxFuture<'_, Result<Arc<dyn PodHandle>>> {
        let mut pods = lock(&self.pods);
        let pod = pods.entry(config.uid.clone()).or_insert_with(|| {
            let folder = self.folder.join(&config.uid);
            let state = watch::Sender::new(Arc::default());
            let pods = Arc::clone(&self.pods);
            Arc::new(FakePod {
                config,
                folder,
                state,
                starts: Mutex::default(),
                ignores_stop: Mutex::default(),
                pods,
            })
        });
        ready(Ok(Arc::clone(pod) as Arc<dyn PodHandle>)).boxed()
    }
}

impl PodHandle for FakePod {
    fn config(&self) -> &PodConfig {
        &self.config
    }

    fn address(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }

    fn state(&self) -> watch::Receiver<Arc<PodState>> {
        self.state.subscribe()
    }

    fn start(&self, start: ContainerStart) -> BoxFuture<'_, Result<()>> {
        let (name, attempt) = (start.name.clone(), start.attempt);
        lock(&self.starts).push(start);
        self.state.send_modify(|state| {
            let state = Arc::make_mut(state);
            let previous = match state.containers.remove(&name).map(|container| container.state) {
                Some(ContainerState::Exited(record)) => Some(record),
                _ => None,
            };
            let running = ContainerState::Running { pid: 1, started_at: Timestamp::now() };
            state.containers.insert(name.clone(), Container { name, attempt, state: running, previous });
        });
        ready(Ok(())).boxed()
    }

    fn stop<'a>(&'a self, container: &'a str, _: Duration) -> BoxFuture<'a, Result<()>> {
        if !*lock(&self.ignores_stop) {
            self.finish(container, 143, "");
        }
        ready(Ok(())).boxed()
    }

    fn update_files<'a>(&'a self, _: &'a str, _: &'a str, _: Vec<FileEntry>) -> BoxFuture<'a, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn exec(&self, _: ExecRequest) -> BoxFuture<'_, Result<ExecSession>> {
        ready(Err(Error::Exec { message: "the fake runtime runs no commands".to_string() })).boxed()
    }

    fn attach(&self, _: AttachRequest) -> BoxFuture<'_, Result<ExecSession>> {
        ready(Err(Error::Exec { message: "the fake runtime has no streams".to_string() })).boxed()
    }

    fn listening<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<SocketAddr>>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn rest(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    fn remove(&self) -> BoxFuture<'_, Result<()>> {
        lock(&self.pods).remove(&self.config.uid);
        ready(Ok(())).boxed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
