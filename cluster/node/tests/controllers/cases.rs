//! Every folder below `plan/` is a case: objects, and the plan that they lead to.

use std::path::PathBuf;

use dodai_kit::Controller;
use dodai_node::controllers::{deployment, endpoint_slice, job, orphan_pod, replica_set, scheduler, volume};

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
