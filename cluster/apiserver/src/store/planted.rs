//! Mistakes that the crash and fault tests of the store must find, one for each check. They are only compiled with the
//! feature `planted-bugs`, which this crate's own tests switch on, and do nothing until a test plants one.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A group counts as durable without a sync.
    GroupIsNotSynced,
    /// Readers see a group before its sync.
    PublishesBeforeSync,
    /// A sync that failed is tried again, and believed.
    RetriesFailedSync,
    /// What a failed append left stays in the log.
    KeepsFailedAppend,
    /// The snapshot gets its name before it is durable.
    SnapshotIsNotSynced,
    /// The snapshot's name is not made durable before the log goes.
    SnapshotNameIsNotSynced,
    /// The new log's name is not made durable before it is written to.
    LogNameIsNotSynced,
    /// Recovery writes behind what it read, though the last sync of it may have failed.
    RecoveryTrustsTail,
    /// Recovery writes behind a torn group.
    RecoveryKeepsTornGroup,
    /// The log is not sealed when it is idle, nor at its end.
    NoSeal,
    /// A flipped bit in the last group is taken for a torn write.
    FlippedBitIsTorn,
    /// Nobody looks whether a snapshot belongs to the log.
    BaseIsIgnored,
    /// Secrets are written as they are.
    SecretsStayPlain,
    /// A sealed value opens under any name.
    SealsAreUnbound,
}

#[cfg(feature = "planted-bugs")]
mod here {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a mistake for what runs on this thread, or takes it away.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) use here::is;
#[cfg(feature = "planted-bugs")]
pub use here::plant;

/// Nothing is planted in what people run.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
