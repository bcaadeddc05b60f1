//! `EncryptedSecret`: values that live in git, each sealed by itself, and become a Kubernetes Secret of the same name.
//!
//! How a value is sealed is in `docs/concepts/encrypted-secrets.md`; this file only says where what stands.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;

/// Values sealed one by one under a data key, and the data keys, each wrapped for everyone who may read.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "dodai.dev",
    version = "v1alpha1",
    kind = "EncryptedSecret",
    namespaced,
    status = "EncryptedSecretStatus",
    category = "dodai",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Values","type":"integer","jsonPath":".status.values"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct EncryptedSecretSpec {
    /// What the values are bound to, so that they open nowhere else. Default `strict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Labels, annotations and type of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<SecretTemplate>,
    /// ServiceAccounts of the namespace that may read the Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<Reader>,
    /// Age at which a value is due for a new one, such as `90d` or `2160h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_after: Option<String>,
    /// The data keys, each wrapped for its recipients. One, or several after blind adds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<WrappedKey>,
    /// `v1:<key id>:<base64>` by the key it has in the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
}

/// What the values of an object are bound to, besides their key, the Secret's type and the data key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// Namespace and name.
    #[default]
    Strict,
    /// The namespace: any name in it.
    Namespace,
    /// Nothing more: any namespace and name.
    Cluster,
}

impl Scope {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Strict => "strict",
            Scope::Namespace => "namespace",
            Scope::Cluster => "cluster",
        }
    }
}

/// What the Secret has besides its values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTemplate {
    /// Labels and annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// The Secret's type. Default `Opaque`. Bound to the values.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}

/// Labels and annotations of the Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Who may read the Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reader {
    /// Name of a ServiceAccount in the same namespace.
    pub service_account: String,
}

/// A data key, wrapped for each of its recipients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WrappedKey {
    /// Commits to the data key: computed from it.
    pub id: String,
    /// When the data key was made, RFC 3339.
    pub created: String,
    /// Who can unwrap it.
    pub recipients: Vec<WrappedRecipient>,
    /// Base64. Only a holder of the data key can make it: nobody else adds or drops a recipient.
    pub mac: String,
}

/// The data key for one recipient: exactly one of `age` and `kms` names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WrappedRecipient {
    /// An age recipient, `age1...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<String>,
    /// An AWS KMS key, by its ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms: Option<String>,
    /// Base64 of an age file, or of what KMS answered.
    pub wrapped: String,
}

/// What dodai says about the EncryptedSecret. Never a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptedSecretStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many values the Secret got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<i64>,
    /// The values that could not be opened, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ValueFailure>,
    /// When the first value is due for a new one, RFC 3339, if `rotateAfter` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_due: Option<String>,
    /// `Ready`, `Reconciling`, `Stalled`, `RotationDue`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A value that could not be opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueFailure {
    /// Its key.
    pub key: String,
    /// One CamelCase word.
    pub reason: String,
    /// What a person needs to know.
    pub message: String,
}
