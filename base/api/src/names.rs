//! Labels, annotations and image references that one crate writes and another reads.
//!
//! They are the seams between `engines/apps`, `cluster/node` and the command line, which do not know each other; each
//! constant says who writes it and who reads it.

/// The group of our own kinds.
pub const GROUP: &str = "dodai.dev";

/// Label: the App that an object belongs to. Written by `apps` on everything it makes.
pub const LABEL_APP: &str = "dodai.dev/app";
/// Label: the process of the App (`web`, `worker`), on Deployments, their Pods and Services.
pub const LABEL_PROCESS: &str = "dodai.dev/process";
/// Label: what the Pod does for its App: `process`, `release` (the release command), `build`, `run` (a one-off).
pub const LABEL_ROLE: &str = "dodai.dev/role";
/// Label: the Release that an object was made for, on Jobs and their Pods.
pub const LABEL_RELEASE: &str = "dodai.dev/release";
/// Label: hash of all that the Pods of a process are made from, so that a new number of replicas restarts nothing.
pub const LABEL_CONFIG: &str = "dodai.dev/config";

/// Annotation on a Release: how often a person asked to try again. Written by `dodai retry`, read by `apps`.
pub const ANNOTATION_RETRY: &str = "dodai.dev/retry";
/// Annotation on an App: where its manifest came from, for people. Written by the command line.
pub const ANNOTATION_CAUSE: &str = "dodai.dev/cause";

/// Annotation on a Secret: changes when one of its values does, and says nothing about them. Written by `secrets`, read by
/// `apps`, which makes a new Release then.
pub const ANNOTATION_REVISION: &str = "dodai.dev/revision";

/// Annotation on a Pod: the TCP port that its process was given as `PORT`. Written by the node, read by the
/// endpoint controller and the command line.
pub const ANNOTATION_PORT: &str = "node.dodai.dev/port";
/// Annotation on a Pod that runs a source: the image that its tree becomes when the container exits with 0.
pub const ANNOTATION_COMMIT_IMAGE: &str = "node.dodai.dev/commit-image";
/// Annotation on a Pod: `"true"` for a command that neither the absence nor the shutdown of dodai may end.
pub const ANNOTATION_RUN_TO_COMPLETION: &str = "node.dodai.dev/run-to-completion";
/// Annotation on the Node: JSON list of `{name, version, prefix}` of the interpreters that Pods can use.
pub const ANNOTATION_INTERPRETERS: &str = "node.dodai.dev/interpreters";

/// Prefix of the image reference of a packed source folder; a `sha256` in hex follows.
pub const SOURCE_IMAGE_PREFIX: &str = "dodai.local/source@sha256:";
/// Prefix of the image reference of a build in the node's store; a `sha256` in hex follows.
pub const BUILD_IMAGE_PREFIX: &str = "dodai.local/build@sha256:";

/// The name of the one Node of the embedded cluster.
pub const NODE_NAME: &str = "dodai";
