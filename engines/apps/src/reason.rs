//! The one-word reasons of this engine, the same in condition, event and manual.

/// Why an App or a Release is in the state it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The spec cannot be carried out.
    InvalidSpec,
    /// No Node has told its interpreters yet, so that the identity of a build is unknown.
    WaitingForNode,
    /// A Secret that the environment names is not there.
    WaitingForSecret,
    /// Another Release of the App is on its way.
    WaitingForRelease,
    /// A release command of the App still runs or terminates.
    WaitingForCommand,
    /// The App's Lease is being taken.
    WaitingForLease,
    /// The sources become an image.
    Building,
    /// The release command runs.
    Migrating,
    /// New processes start.
    RollingOut,
    /// The last good Release is put back.
    RollingBack,
    /// The Release serves.
    Serving,
    /// A newer Release took its place.
    Superseded,
    /// Another program has the port at which a Service of the App should answer.
    PortInUse,
    /// The build command failed.
    BuildFailed,
    /// The release command failed.
    MigrationFailed,
    /// A process of the new Release ended before it was available.
    ProcessExited,
    /// A process listens, but not on its `PORT`.
    ListensElsewhere,
    /// A container could not be started at all.
    CannotStart,
    /// The roll-out stood still for too long.
    ProgressDeadlineExceeded,
}

impl From<Reason> for String {
    fn from(reason: Reason) -> String {
        format!("{reason:?}")
    }
}
