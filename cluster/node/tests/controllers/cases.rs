//! Every folder below `plan/` is a case: objects, and the plan that they lead to.

use std::path::PathBuf;

use dodai_kit::Controller;
use dodai_node::controllers::{
    cron_job, daemon_set, deployment, disruption, endpoint_slice, endpoints, job, orphan_pod, pod_gc,
    replica_set, replication_controller, scheduler, stateful_set, volume,
};

fn run<C: Controller>(folder: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/controllers/plan").join(folder);
    assert!(dodai_kit::cases::run::<C>(&folder) > 0, "no cases in {}", folder.display());
}

#[test]
fn deployments_are_planned_as_written() {
    run::<deployment::DeploymentController>("deployment");
}

#[test]
fn replica_sets_are_planned_as_written() {
    run::<replica_set::ReplicaSetController>("replica_set");
}

#[test]
fn jobs_are_planned_as_written() {
    run::<job::JobController>("job");
}

#[test]
fn orphaned_pods_are_planned_as_written() {
    run::<orphan_pod::OrphanPodController>("orphan_pod");
}

#[test]
fn services_are_planned_as_written() {
    run::<endpoint_slice::EndpointSliceController>("endpoint_slice");
}

#[test]
fn pods_are_scheduled_as_written() {
    run::<scheduler::SchedulerController>("scheduler");
}

#[test]
fn claims_are_planned_as_written() {
    run::<volume::ClaimController>("claim");
}

#[test]
fn stateful_sets_are_planned_as_written() {
    run::<stateful_set::StatefulSetController>("stateful_set");
}

#[test]
fn daemon_sets_are_planned_as_written() {
    run::<daemon_set::DaemonSetController>("daemon_set");
}

#[test]
fn cron_jobs_are_planned_as_written() {
    run::<cron_job::CronJobController>("cron_job");
}

#[test]
fn disruption_budgets_are_planned_as_written() {
    run::<disruption::DisruptionController>("disruption");
}

#[test]
fn replication_controllers_are_planned_as_written() {
    run::<replication_controller::ReplicationControllerController>("replication_controller");
}

#[test]
fn endpoints_are_planned_as_written() {
    run::<endpoints::EndpointsController>("endpoints");
    run::<endpoints::EndpointsMirrorController>("endpoints_mirror");
}

#[test]
fn pods_of_lost_nodes_are_planned_as_written() {
    run::<pod_gc::PodGcController>("pod_gc");
}
