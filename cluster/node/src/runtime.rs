//! The seam between the kubelet and what runs containers. A runtime starts, watches and ends; it decides nothing.
//!
//! Nothing outside a runtime may assume that Pods share an address, or that a container is a process of this machine.

pub mod fake;
pub mod process;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::error::Result;
pub use crate::supervisor::protocol::{
    AttachRequest, Container, ContainerStart, ContainerState, ExecRequest, ExitRecord, FileEntry, Mount,
    PodConfig,
};

/// Runs Pods.
pub trait Runtime: Send + Sync + 'static {
    /// Pods that are here, running or not, whoever started them.
    fn known(&self) -> Result<Vec<PodConfig>>;
    /// Makes room for a Pod, or finds the one that is here. What was kept of a known Pod (its port) wins over `config`.
    fn open(&self, config: PodConfig) -> BoxFuture<'_, Result<Arc<dyn PodHandle>>>;
    /// Loopback TCP ports given to Pods that are here.
    fn ports(&self) -> Result<Vec<u16>> {
        Ok(self.known()?.into_iter().filter_map(|config| config.port).collect())
    }
}

/// One Pod in a runtime.
pub trait PodHandle: Send + Sync + 'static {
    /// What the runtime keeps about the Pod.
    fn config(&self) -> &PodConfig;
    /// Address at which the Pod's ports can be reached from this machine.
    fn address(&self) -> IpAddr;
    /// The Pod's containers, now and whenever they change.
    fn state(&self) -> watch::Receiver<Arc<PodState>>;
    /// Starts a container. Done when the runtime has it; its state says how it goes on.
    fn start(&self, start: ContainerStart) -> BoxFuture<'_, Result<()>>;
    /// SIGTERM now, SIGKILL after `grace`.
    fn stop<'a>(&'a self, container: &'a str, grace: Duration) -> BoxFuture<'a, Result<()>>;
    /// Replaces the files of a volume in a running container.
    fn update_files<'a>(
        &'a self,
        container: &'a str,
        volume: &'a str,
        files: Vec<FileEntry>,
    ) -> BoxFuture<'a, Result<()>>;
    /// Runs a command in a running container.
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<ExecSession>>;
    /// Joins the streams of what a running container runs. Ends with it, with code 0 whatever its own is.
    fn attach(&self, request: AttachRequest) -> BoxFuture<'_, Result<ExecSession>>;
    /// TCP addresses at which the container's processes listen.
    fn listening<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<Vec<SocketAddr>>>;
    /// Folder on this machine for what belongs to the Pod alone and goes with it.
    fn folder(&self) -> &std::path::Path;
    /// Nothing will be started any more: gives up what only running containers need. Logs and outcomes stay.
    fn rest(&self) -> BoxFuture<'_, ()>;
    /// Ends what still runs at once and forgets the Pod with all its files.
    fn remove(&self) -> BoxFuture<'_, Result<()>>;
}

/// What runs in a Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodState {
    /// By name; only those that were started at least once.
    pub containers: BTreeMap<String, Container>,
}

impl PodState {
    /// Whether a container has a process, or may have one.
    pub fn is_running(&self) -> bool {
        self.containers.values().any(|container| !matches!(container.state, ContainerState::Exited(_)))
    }
}

/// A command that runs in a container. Dropping it kills the command.
pub struct ExecSession {
    /// Where its input goes, if it was asked for.
    pub stdin: Option<Pin<Box<dyn AsyncWrite + Send + Sync>>>,
    /// Its output, with a terminal also its error output.
    pub stdout: Pin<Box<dyn AsyncRead + Send + Sync>>,
    /// Its error output, without a terminal.
    pub stderr: Option<Pin<Box<dyn AsyncRead + Send + Sync>>>,
    /// Sets columns and rows of the terminal.
    pub resize: Option<Box<dyn Fn(u16, u16) + Send + Sync>>,
    /// Its end.
    pub exit: BoxFuture<'static, Result<i32>>,
}
