//! Mistakes that the simulation must find, one for each invariant that it holds up. They are only compiled with the
//! feature `planted-bugs`, which this crate's own tests switch on, and do nothing until a test plants one.

dodai_kit::planted_bugs! {
    /// The Secret is told to be there, and nothing is written.
    ReadyUnwritten,
    /// A Secret of somebody else is taken over.
    TakesForeign,
    /// A value that is no longer asked for stays in the Secret.
    OldValuesStay,
    /// What opens is written, though another value does not.
    WritesHalf,
    /// A Secret that somebody spoilt goes when a value does not open.
    FailureDeletes,
    /// The Secret is written without asking whether the object is still what was seen.
    WritesUnconfirmed,
    /// The last reader keeps the Role.
    ReadersStay,
    /// The message tells a value.
    StatusTellsValue,
    /// The status tells the first generation.
    StatusTellsOldGeneration,
    /// The message tells the minute.
    StatusIsNeverTheSame,
    /// What KMS refused for now is not tried again.
    ForgetsKms,
}
