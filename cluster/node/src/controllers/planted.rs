//! Mistakes that the simulations must find, one for each invariant that they hold up. They are only compiled with the
//! feature `planted-bugs`, which this crate's own tests switch on, and do nothing until a test plants one.

dodai_kit::planted_bugs! {
    /// A Job makes Pods without asking whether it sees all that there are.
    JobMakesUnconfirmed,
    /// A Job lets a Pod go before what it did is written down.
    JobLetsGoUncounted,
    /// A Job writes a success as a number while its Pod is still there to be counted again.
    JobCountsTwice,
    /// A Job takes what its cache of Pods shows for what there is.
    JobBelievesItsCache,
    /// A Job forgets successes whose Pods have gone.
    JobForgetsSuccesses,
    /// A Job makes Pods while it is suspended.
    JobForgetsSuspension,
    /// A Job that fails makes more Pods.
    JobGoesOnAfterItsEnd,
    /// A Job tries again for ever.
    JobForgetsBackoffLimit,
    /// A Job tries an index again for ever.
    JobForgetsIndexLimit,
    /// A Job makes a Pod for an index that has one.
    JobForgetsBusyIndexes,
    /// A Job never lets go of a Pod.
    JobHoldsItsPods,
    /// A Pod is let go of when the cache does not show its Job.
    OrphanPodBelievesItsCache,
    /// A ReplicaSet makes Pods without asking whether it sees all that there are.
    ReplicaSetMakesUnconfirmed,
    /// A roll-out takes old Pods away whatever is available.
    RollOutForgetsAvailable,
    /// A roll-out grows as if the old Pods were not there.
    RollOutForgetsSurge,
    /// `Recreate` does not wait for the old Pods.
    RecreateDoesNotWait,
    /// A Deployment tells of a generation before the one that it looked at.
    DeploymentTellsOldGeneration,
    /// A Deployment keeps all its ReplicaSets.
    DeploymentKeepsHistory,
    /// The status of a Deployment tells the time.
    DeploymentIsNeverTheSame,
    /// A ReplicaSet takes the Pods of others.
    ReplicaSetTakesOthers,
    /// A StatefulSet makes and replaces its Pods in any order.
    StatefulSetForgetsOrder,
    /// A DaemonSet replaces all Pods at once.
    DaemonSetForgetsUnavailable,
    /// A DaemonSet makes Pods without asking whether it sees all that there are, under names of the moment.
    DaemonSetMakesUnconfirmed,
    /// A CronJob does not ask whether it sees the Job that runs.
    CronJobForgetsWhatRuns,
}
