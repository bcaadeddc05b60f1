//! `App`: one resource that says how a web application is built, migrated and run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, Probe, ResourceRequirements};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;

/// What a person writes: the sources or the image, the processes, and the command that runs before each roll-out.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "dodai.dev",
    version = "v1alpha1",
    kind = "App",
    namespaced,
    status = "AppStatus",
    category = "dodai",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Release","type":"string","jsonPath":".status.currentRelease"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AppSpec {
    /// A folder of sources, packed by content, and how to build it. Exactly one of `source` and `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// A ready image. Exactly one of `source` and `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Environment of every process, of the release command and of one-off commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// What runs once for a release, after the build and before the roll-out: the migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStep>,
    /// The long-running processes, by name. `web` without `ports` gets a port named `http`.
    #[schemars(length(min = 1))]
    pub processes: BTreeMap<String, Process>,
    /// Folders that outlive releases, mounted into every process and the release command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

/// A packed source folder. In a file a person writes `folder: .`; `dodai up` and `dodai apply` pack it and send its
/// `digest` instead, so that an App never names a path of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// `sha256:` and 64 hex digits: the content of the folder.
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// How the folder becomes an image; without it the folder runs as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
}

/// The command that turns the sources in `/app` into what runs, with the network and a package cache at hand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// Program and arguments, run in `/app`.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// Environment of the build alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
}

/// What happens between build and roll-out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStep {
    /// Program and arguments. Runs once per image, command and environment; a success is never repeated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// How long the command may take, such as `90s`, `10m`, `1h`. Default `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// How the new processes replace the old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// How many finished Releases are kept. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub history_limit: Option<u32>,
}

/// How the new processes replace the old ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// Processes above the wanted number while rolling out. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<u32>,
    /// Processes below the wanted number while rolling out. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
    /// How long a roll-out may stand still, such as `10m`. Default `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline: Option<String>,
}

/// One long-running process of the App.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Program and arguments, run in `/app`. A process with a port must listen on `127.0.0.1:$PORT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// How many run at once. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<u32>,
    /// Ports that a Service answers. The first one's real number is given to the process as `PORT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Environment of this process alone; wins over the App's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// When a process may receive requests. Default with a port: a TCP connection succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// When a process must be restarted. Default: only when it exits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// CPU and memory, as in a Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Seconds between SIGTERM and SIGKILL. Default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub termination_grace_period_seconds: Option<i64>,
}

/// A port of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// A short name; `http` is spoken as HTTP by the forwarder, others as TCP.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$"))]
    pub name: String,
    /// The port inside a container; with the process runtime `PORT` says the real one.
    #[schemars(range(min = 1, max = 65535))]
    pub container_port: i32,
}

/// A folder that outlives releases: a PersistentVolumeClaim named `<app>-<name>`, which is never deleted with the App.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// A short name, a DNS label.
    pub name: String,
    /// Absolute path in the processes.
    #[schemars(regex(pattern = r"^/."))]
    pub mount_path: String,
    /// Size to ask for, such as `1Gi`. Default `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

/// What dodai says about the App.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The Release that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_release: Option<String>,
    /// The Release that the spec asks for; differs from `currentRelease` while it is on its way, or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_release: Option<String>,
    /// One word for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<AppPhase>,
    /// Where the `web` process answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `Ready`, `Reconciling`, `Stalled`, `Available`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One word for people; what is decided looks at Releases, never at this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AppPhase {
    /// Nothing serves yet.
    Pending,
    /// A Release is being built, migrated or rolled out.
    Releasing,
    /// The Release that the spec asks for serves.
    Running,
    /// The newest Release failed; if there was an earlier one, it serves.
    Failed,
    /// The spec cannot be carried out.
    Invalid,
}
