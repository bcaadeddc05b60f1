//! `Release`: one immutable version of an App, and how far it came.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::EnvVar;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::app::{Process, ReleaseStep, Source, Volume};
use super::condition::Condition;

/// Everything the Release runs with. Written once by `apps`, never changed.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "dodai.dev",
    version = "v1alpha1",
    kind = "Release",
    namespaced,
    status = "ReleaseStatus",
    category = "dodai",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"App","type":"string","jsonPath":".spec.app"}"#,
    printcolumn = r#"{"name":"Number","type":"integer","jsonPath":".spec.number"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.failure.reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseSpec {
    /// The App's name.
    pub app: String,
    /// 1 for the first Release of an App; the Release is named `<app>-v<number>`.
    pub number: i64,
    /// Hash of the App's spec that this was made from.
    pub hash: String,
    /// The sources, if the image has to be built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The image that runs, by digest where it comes from sources.
    pub image: String,
    /// Copied from the App.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Copied from the App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStep>,
    /// Hash of image, release command and environment: a success of one identity is never repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_identity: Option<String>,
    /// Copied from the App.
    pub processes: BTreeMap<String, Process>,
    /// The Secrets that the environment names, each with what changes when one of its values does. Never a value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Copied from the App.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Why there is this Release: the file, commit or person, as the App's annotation says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// How far the Release came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the state machine stands. Absent means `Pending`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ReleasePhase>,
    /// Which try this is; 1 at first, one more for each `dodai retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When each phase was entered, RFC 3339 with fractions of a second.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entered: BTreeMap<String, String>,
    /// The durable record of the release command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// Why it failed; kept for people, the phase decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The record of a release command that ended, or was not needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// `spec.commandIdentity` of the command that ran.
    pub identity: String,
    /// `Succeeded`, `Failed`, or `Skipped` because the same identity succeeded before.
    pub outcome: String,
    /// The Job that ran it, or the Release whose success counts.
    pub by: String,
}

/// Why a Release failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// One CamelCase word.
    pub reason: String,
    /// What was tried and what came of it.
    pub message: String,
    /// The last lines of the log of what failed, at most twenty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// The Pod whose log has more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

/// The states of section (b) of the design that exist so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ReleasePhase {
    /// Waits for its turn: one Release of an App is on its way at a time.
    Pending,
    /// The sources are turned into an image.
    Building,
    /// The release command runs.
    Migrating,
    /// New processes start, old ones serve until the new ones are available.
    RollingOut,
    /// New processes failed; the processes of the last good Release are put back.
    RollingBack,
    /// Serves.
    Active,
    /// A newer Release serves, or was asked for before this one started.
    Superseded,
    /// Did not get there; see `failure`.
    Failed,
}

impl ReleasePhase {
    /// Whether the Release is done with its way (it may still serve).
    pub fn is_settled(self) -> bool {
        matches!(self, ReleasePhase::Active | ReleasePhase::Superseded | ReleasePhase::Failed)
    }
}

impl std::fmt::Display for ReleasePhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Release {
    /// The phase, `Pending` where no status was written yet.
    pub fn phase(&self) -> ReleasePhase {
        self.status.as_ref().and_then(|status| status.phase).unwrap_or(ReleasePhase::Pending)
    }
}
