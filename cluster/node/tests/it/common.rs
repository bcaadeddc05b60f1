//! A data folder, a runtime on it, and shorthands.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dodai_node::runtime::process::ProcessRuntime;
use dodai_node::runtime::{
    Container, ContainerStart, ContainerState, ExecRequest, ExitRecord, PodConfig, PodHandle, PodState,
    Runtime,
};
use tokio::io::AsyncReadExt;

/// Longest wait for anything; only a failure takes so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn supervisor_exe() -> Vec<OsString> {
    vec![env!("CARGO_BIN_EXE_dodai-node-supervisor").into()]
}

pub struct Bed {
    pub folder: tempfile::TempDir,
}

impl Bed {
    pub fn new() -> Bed {
        Bed { folder: tempfile::tempdir().unwrap() }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn runtime(&self) -> ProcessRuntime {
        ProcessRuntime::new(&self.data(), supervisor_exe()).unwrap()
    }

    pub async fn open(&self, config: &PodConfig) -> Arc<dyn PodHandle> {
        self.runtime().open(config.clone()).await.unwrap()
    }

    pub fn log_path(&self, container: &str) -> PathBuf {
        self.data().join("logs/default/p").join(format!("{container}.log"))
    }

    /// A container that runs a shell script.
    pub fn sh(&self, name: &str, attempt: u32, script: &str) -> ContainerStart {
        ContainerStart {
            name: name.to_string(),
            attempt,
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()), ("HOME".into(), "/tmp".into())],
            working_dir: "/".to_string(),
            log_path: self.log_path(name),
            message_from_log: true,
            ..ContainerStart::default()
        }
    }

    pub fn log(&self, container: &str) -> String {
        std::fs::read_to_string(self.log_path(container)).unwrap_or_default()
    }
}

/// Kills what a failed test left behind: nothing outlives its data folder.
impl Drop for Bed {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.data().join("pods")).into_iter().flatten().flatten() {
            if let Some(pid) = lock_holder(&entry.path()) {
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }
}

/// The supervisor of a Pod's folder, by its lock.
pub fn lock_holder(pod_dir: &Path) -> Option<i32> {
    use std::os::fd::AsRawFd;
    let file = std::fs::OpenOptions::new().write(true).open(pod_dir.join("lock")).ok()?;
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) };
    (lock.l_type != libc::F_UNLCK as libc::c_short).then_some(lock.l_pid)
}

pub fn config(uid: &str) -> PodConfig {
    PodConfig {
        uid: uid.to_string(),
        namespace: "default".to_string(),
        name: "p".to_string(),
        absent_grace_ms: Some(30_000),
        termination_grace_ms: 2_000,
        run_to_completion: false,
        port: None,
    }
}

pub async fn until(pod: &Arc<dyn PodHandle>, what: &str, test: impl Fn(&PodState) -> bool) -> Arc<PodState> {
    let mut state = pod.state();
    let found = tokio::time::timeout(PATIENCE, state.wait_for(|state| test(state))).await;
    match found {
        Ok(state) => state.unwrap().clone(),
        Err(_) => panic!("waited in vain until {what}; state is {:?}", pod.state().borrow()),
    }
}

pub async fn until_true(what: &str, test: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !test() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}

pub async fn running(pod: &Arc<dyn PodHandle>, name: &str) -> i32 {
    let is_running =
        |c: &Container| matches!(c.state, ContainerState::Running { .. } | ContainerState::Exited(_));
    let state = until(pod, "it runs", |state| state.containers.get(name).is_some_and(is_running)).await;
    match &state.containers[name].state {
        ContainerState::Running { pid, .. } => *pid,
        other => panic!("{name} does not run: {other:?}"),
    }
}

pub async fn exited(pod: &Arc<dyn PodHandle>, name: &str) -> ExitRecord {
    let has_exited = |c: &Container| matches!(c.state, ContainerState::Exited(_));
    let state = until(pod, "it exits", |state| state.containers.get(name).is_some_and(has_exited)).await;
    match &state.containers[name].state {
        ContainerState::Exited(record) => record.clone(),
        _ => unreachable!(),
    }
}

/// Runs a script in a running container: exit code, output, error output.
pub async fn exec(pod: &Arc<dyn PodHandle>, container: &str, script: &str) -> (i32, String, String) {
    let request = ExecRequest {
        container: container.to_string(),
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        ..ExecRequest::default()
    };
    let mut session = pod.exec(request).await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    session.stdout.read_to_string(&mut out).await.unwrap();
    session.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
    (session.exit.await.unwrap(), out, err)
}

pub fn is_alive(pid: i32) -> bool {
    // A zombie that nobody reaped yet is dead.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
