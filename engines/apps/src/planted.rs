//! Mistakes that the simulation must find, one for each invariant that it holds up. They are only compiled with the
//! feature `planted-bugs`, which this crate's own tests switch on, and do nothing until a test plants one.

dodai_kit::planted_bugs! {
    /// A Release does not ask whether another is on its way, nor whether a command still runs.
    ReleaseDoesNotWait,
    /// A success of the same command for another Release is not looked for.
    CommandForgetsEarlierSuccess,
    /// A change of phase forgets that the command had succeeded.
    StatusForgetsSuccess,
    /// Processes roll out before the command has run.
    RollsOutTooEarly,
    /// The App does not ask whether what it sees of itself is still so.
    AppMakesUnconfirmed,
    /// A Release is made for each pass, whether the newest says the same or not.
    AppForgetsItsReleases,
    /// The App's status tells the generation of before.
    StatusTellsOldGeneration,
    /// The App is ready while its newest Release is on its way.
    ReadyTooEarly,
    /// Deployments of processes that are no longer wanted stay.
    SurplusStays,
    /// A newer Release ends the command of the one before.
    NewerReleaseEndsCommand,
    /// The Job of a command goes when it has succeeded, whether that is written down or not.
    JobGoesBeforeItsRecord,
    /// The message of the App tells the value of a Secret.
    StatusTellsSecret,
    /// Claims go when a Release is superseded.
    ClaimsAreDeleted,
    /// The message of a Release that serves tells the time.
    StatusIsNeverTheSame,
}
