//! What can be wrong with an App's spec.

/// Why an App cannot be carried out until its spec changes.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    /// Neither or both were given.
    #[error("exactly one of `spec.source` and `spec.image` is needed")]
    SourceOrImage,
    /// There is nothing to run.
    #[error("`spec.processes` is empty: name at least one process, such as `web`")]
    NoProcess,
    /// A name that Kubernetes objects cannot carry.
    #[error(
        "`{path}`: `{name}` is not a DNS label: lower case letters, digits and `-`, at most {max} characters"
    )]
    Name {
        /// Field path.
        path: &'static str,
        /// What was given.
        name: String,
        /// Longest that fits.
        max: usize,
    },
    /// Without a command there is nothing to start (images cannot be asked for theirs yet).
    #[error("`spec.processes.{0}.command` is missing")]
    NoCommand(String),
    /// A duration that cannot be read.
    #[error("`{path}`: `{value}` is not a duration such as `90s`, `10m` or `1h30m`")]
    Duration {
        /// Field path.
        path: &'static str,
        /// What was given.
        value: String,
    },
    /// Two volumes of the same name or at the same path.
    #[error("`spec.volumes`: `{0}` is there twice")]
    DuplicateVolume(String),
    /// Both would make a roll-out impossible.
    #[error("`spec.release.strategy`: `maxSurge` and `maxUnavailable` cannot both be 0")]
    NoRoomToRollOut,
}
