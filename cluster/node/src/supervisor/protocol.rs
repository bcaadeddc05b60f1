//! What is said over a supervisor's socket, and what it reads from its folder. One JSON object a line.
//!
//! The first line of a connection decides what it is: `hello` makes it the control connection (a newer one replaces
//! an older one), `exec` hands it to a helper process that runs one command in a container, `attach` makes it carry the
//! streams of a container: after the answer, frames of a byte for what it is (`frame`), four for the length, and the
//! bytes. Both ends are the same
//! binary in different ages after an upgrade, so fields may be added, never renamed.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest line that a client may send. A start carries the environment and all files of ConfigMaps and Secrets.
pub(crate) const REQUEST_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Longest line that a supervisor sends.
pub(crate) const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// Longest text kept as termination message, as in Kubernetes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4096;

/// What a supervisor knows of its Pod before anyone connects; `pod.json` in its folder. No environment, no secrets.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct PodConfig {
    /// `metadata.uid` of the Pod.
    pub uid: String,
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod, which is also its host name.
    pub name: String,
    /// How long the supervisor goes on with no dodai connected before it ends its Pod; `None` is for ever.
    pub absent_grace_ms: Option<u64>,
    /// Time between SIGTERM and SIGKILL when the supervisor ends its Pod by itself.
    pub termination_grace_ms: u64,
    /// Never ended by dodai's absence: runs to its end, is recorded, then the supervisor leaves.
    pub run_to_completion: bool,
    /// Loopback TCP port given to this Pod as `PORT`.
    pub port: Option<u16>,
}

/// Everything needed to start one container once.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
pub struct ContainerStart {
    /// Name of the container within the Pod.
    pub name: String,
    /// Number of this run, from 0; never reused, so that a start is never done twice.
    pub attempt: u32,
    /// Program and arguments. The program is looked up in the `PATH` of `env`.
    pub command: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Directory to start in; must exist inside.
    pub working_dir: String,
    /// User to become; only root can.
    pub run_as_user: Option<u32>,
    /// Group to become; only root can.
    pub run_as_group: Option<u32>,
    /// What is in the root beside the system's folders, in this order.
    pub mounts: Vec<Mount>,
    /// Log file; `.1`, `.2` are its older parts.
    pub log_path: PathBuf,
    /// File inside the container that may hold the termination message.
    pub termination_message_path: Option<String>,
    /// Use the end of the log as termination message if the file is empty and the container failed.
    pub message_from_log: bool,
    /// Keeps stdin open for whoever attaches; without it stdin is empty.
    #[serde(default)]
    pub stdin: bool,
    /// Closes stdin for good when the first who attached to it has gone.
    #[serde(default)]
    pub stdin_once: bool,
    /// Runs the command on a terminal of its own.
    #[serde(default)]
    pub tty: bool,
}

/// One mount of a container.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Mount {
    /// A file or folder of the host.
    Bind { source: PathBuf, target: String, read_only: bool },
    /// Files that exist in memory only (ConfigMap, Secret, projected).
    Files {
        /// Volume's name, by which the files can be replaced later.
        volume: String,
        target: String,
        /// Only this file or folder of the volume, never updated.
        sub_path: Option<String>,
        files: Vec<FileEntry>,
    },
    /// An empty folder in memory.
    Memory { target: String, size_bytes: Option<u64> },
}

impl Mount {
    pub(crate) fn target(&self) -> &str {
        match self {
            Mount::Bind { target, .. } | Mount::Files { target, .. } | Mount::Memory { target, .. } => target,
        }
    }
}

/// One file of a [`Mount::Files`]. Its `Debug` shows no content.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative path, no `..`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content in base64.
    pub data: String,
}

impl std::fmt::Debug for FileEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileEntry({} {:o})", self.path, self.mode)
    }
}

/// From dodai to a supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub(crate) enum Request {
    /// Makes this the control connection; answered by [`Event::State`].
    Hello,
    /// Starts a container. Refused if the attempt was ever started.
    Start { start: Box<ContainerStart> },
    /// Sends a signal to the container's processes.
    Signal { container: String, signal: i32 },
    /// SIGTERM now, SIGKILL after `grace_ms`.
    Stop { container: String, grace_ms: u64 },
    /// Replaces the files of a volume in a running container.
    Files { container: String, volume: String, files: Vec<FileEntry> },
    /// The Pod is over: leave. Containers that still run are killed.
    Shutdown,
    /// Runs a command in a running container; only as first line of a connection.
    Exec { exec: ExecRequest },
    /// Joins the streams of a running container; only as first line of a connection.
    Attach { attach: AttachRequest },
}

/// A command to run inside a running container.
#[derive(Debug, Clone, Serialize, Deserialize, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Name of the container.
    pub container: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Connect stdin; without it stdin is empty.
    pub stdin: bool,
}

/// Wants the streams of what a container runs.
#[derive(Debug, Clone, Serialize, Deserialize, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// Name of the container.
    pub container: String,
    /// Write to its stdin too.
    pub stdin: bool,
}

/// What the frames of an attached connection carry.
pub(crate) mod frame {
    /// For the command; empty: no more comes.
    pub(crate) const STDIN: u8 = 0;
    pub(crate) const STDOUT: u8 = 1;
    pub(crate) const STDERR: u8 = 2;
    /// Columns and rows of the terminal, two bytes each, the higher first.
    pub(crate) const RESIZE: u8 = 4;
    /// Bytes of one frame.
    pub(crate) const BYTES_MAX: usize = 64 * 1024;

    /// A frame.
    pub(crate) fn encode(kind: u8, bytes: &[u8]) -> Vec<u8> {
        [&[kind], &(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
    }

    /// The first frame in `bytes`: its kind, where its content begins and ends. `Err` if it can be none.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(u8, std::ops::Range<usize>)>, ()> {
        let Some(([kind, a, b, c, d], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        match length {
            _ if length > BYTES_MAX => Err(()),
            _ if length > rest.len() => Ok(None),
            _ => Ok(Some((*kind, 5..5 + length))),
        }
    }
}

/// From a supervisor to dodai.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub(crate) enum Event {
    /// Answer to hello: all that is known.
    State { pid: i32, containers: Vec<Container> },
    /// One container changed.
    Container { container: Container },
    /// A request could not be done.
    Refused { message: String },
    /// Answer to exec; the file descriptors come with the first byte of this line: stdin (if asked for), stdout,
    /// stderr, or the one terminal.
    ExecStarted,
    /// Answer to attach; frames follow.
    Attached { tty: bool },
    /// The command of an exec ended.
    ExecExited { code: i32, signal: Option<i32>, message: Option<String> },
}

/// A container as its supervisor sees it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Container {
    /// Name within the Pod.
    pub name: String,
    /// Number of the newest run.
    pub attempt: u32,
    /// What that run does.
    pub state: ContainerState,
    /// How the run before ended, if it is still known.
    pub previous: Option<ExitRecord>,
}

/// What a run of a container does.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ContainerState {
    /// Its root is being assembled.
    Starting { started_at: Timestamp },
    /// Its process runs. `pid` is the first process of its PID namespace, as the host numbers it.
    Running { pid: i32, started_at: Timestamp },
    /// It ended; this is on disk.
    Exited(ExitRecord),
}

/// How one run of a container ended.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct ExitRecord {
    /// Number of the run.
    pub attempt: u32,
    /// Exit code, 128 + n for signal n.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `StartError` or `OutcomeUnknown`.
    pub reason: String,
    /// Termination message: from its file, or the end of the log, or what went wrong while starting.
    pub message: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// From the first process of a container to its supervisor, over a pipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "camelCase")]
pub(crate) enum InitReport {
    Running,
    Failed { step: String },
    Exited { code: i32, signal: Option<i32>, message: String },
}
