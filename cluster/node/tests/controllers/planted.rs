//! Each invariant of the simulations can fail: a mistake is planted for each, and must be found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dodai_node::controllers::planted::{Bug, plant};

use super::{jobs, roll_outs, workloads};

/// Seeds within which a mistake must show.
const SEEDS_MAX: u64 = 200;

/// A mistake, the simulation that finds it, and what that says of it.
type Case = (Bug, fn(u64), &'static [&'static str]);

const CASES: &[Case] = &[
    (
        Bug::JobMakesUnconfirmed,
        jobs::run,
        &["pods at a time", "more pods succeeded", "succeeded twice", "a pod was made after"],
    ),
    (Bug::JobLetsGoUncounted, jobs::run, &["each success is counted once", "failures are counted"]),
    (Bug::JobCountsTwice, jobs::run, &["successes are counted"]),
    (Bug::ReplicaSetMakesUnconfirmed, roll_outs::run_replica_set, &["pods of"]),
    (Bug::RollOutForgetsAvailable, roll_outs::run_roll_out, &["pods are not enough"]),
    (Bug::RollOutForgetsSurge, roll_outs::run_roll_out, &["pods are too many"]),
    (Bug::RecreateDoesNotWait, roll_outs::run_recreate, &["at a time"]),
    (
        Bug::StatefulSetForgetsOrder,
        |seed| workloads::run_stateful(seed, false),
        &["before its time", "at a time"],
    ),
    (Bug::DaemonSetForgetsUnavailable, |seed| workloads::run_daemon(seed, true), &["nodes are served"]),
    (Bug::DaemonSetMakesUnconfirmed, |seed| workloads::run_daemon(seed, false), &["pods on a node"]),
    (Bug::CronJobForgetsWhatRuns, workloads::run_cron_job, &["jobs at a time"]),
];

#[test]
fn every_planted_mistake_is_found_by_the_invariant_that_it_breaks() {
    let mut wrong = Vec::new();
    for (bug, run, says) in CASES {
        plant(Some(*bug));
        let found = (0..SEEDS_MAX).find_map(|seed| {
            let panic = catch_unwind(AssertUnwindSafe(|| run(seed))).err()?;
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            Some((seed, text.lines().next().unwrap_or_default().to_owned()))
        });
        plant(None);
        match found {
            Some((_, text)) if says.iter().any(|says| text.contains(says)) => {}
            Some((seed, text)) => wrong.push(format!("{bug:?} with seed {seed} is told as: {text}")),
            None => wrong.push(format!("{bug:?} is not found in {SEEDS_MAX} seeds")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
