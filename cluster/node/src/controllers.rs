//! The workload controllers: what kube-controller-manager and kube-scheduler do for a real cluster, on one Node.
//!
//! Each is `observe` -> `plan` -> `execute` of `dodai_kit`; `plan` is pure and total. What makes them safe against a cache
//! that lags behind and against being killed after any action:
//!
//! - Children have names that follow from what is known ([`names`]), so that making one twice is `AlreadyExists`.
//! - Counts of what is made come from a confirmed parent (`Plan::confirm`), so that a stale parent ends as a conflict.
//! - A choice among several objects (which Pods go, which ReplicaSet shrinks) confirms all that it was made among.
//! - A Job counts a Pod in two writes, status first, finalizer second, so that no outcome is lost or counted twice.
//!
//! Deliberately absent: autoscaling; garbage collection of what has lost its owner, which the API server does.

pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod endpoint_slice;
pub mod endpoints;
mod history;
pub mod job;
pub mod names;
pub mod orphan_pod;
pub mod planted;
pub mod pod_gc;
pub mod pods;
pub mod replica_set;
pub mod replication_controller;
pub mod scheduler;
pub mod selector;
pub mod stateful_set;
pub mod volume;

use dodai_kit::Engine;

/// The field manager of everything that these controllers write.
pub const MANAGER: &str = "dodai-workloads";

/// The engine with its controllers.
pub fn engine() -> Engine {
    Engine::new("workloads")
        .with::<deployment::DeploymentController>()
        .with::<replica_set::ReplicaSetController>()
        .with::<replication_controller::ReplicationControllerController>()
        .with::<stateful_set::StatefulSetController>()
        .with::<daemon_set::DaemonSetController>()
        .with::<job::JobController>()
        .with::<cron_job::CronJobController>()
        .with::<pod_gc::PodGcController>()
        .with::<orphan_pod::OrphanPodController>()
        .with::<endpoint_slice::EndpointSliceController>()
        .with::<endpoints::EndpointsController>()
        .with::<endpoints::LostEndpointsController>()
        .with::<endpoints::EndpointsMirrorController>()
        .with::<scheduler::SchedulerController>()
        .with::<disruption::DisruptionController>()
        .with::<volume::ClaimController>()
        .with::<volume::VolumeController>()
        .with::<volume::StorageClassController>()
}
