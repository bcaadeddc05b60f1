//! Every resource type that dodai reads or writes.
//!
//! Upstream kinds of the Kubernetes API itself come from `k8s-openapi`; this crate holds the kinds of our own group,
//! `dodai.dev/v1alpha1`, those of upstream projects that an engine stands in for, and the names (labels, annotations, image references) by which crates that do not know each
//! other meet in objects. One kind, one file: `src/<group>/<kind>.rs`. CRDs are generated from these types.
//!
//! Deliberately absent: any IO, any async code, any client.

pub mod bitnami;
pub mod crds;
pub mod dodai;
pub mod duration;
pub mod names;

pub use bitnami::sealed_secret::SealedSecret;
pub use dodai::app::{App, AppPhase, AppSpec, AppStatus};
pub use dodai::encrypted_secret::{EncryptedSecret, EncryptedSecretSpec, EncryptedSecretStatus};
pub use dodai::release::{Release, ReleasePhase, ReleaseSpec, ReleaseStatus};
pub use dodai::sops_secret::{SopsSecret, SopsSecretSpec, SopsSecretStatus};
