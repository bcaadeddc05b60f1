//! The runs: proof that they can be had again, seeds of each scenario, the planted mistakes.

use std::sync::Arc;

use dodai_apiserver::testing::{Scenario, Suite, assert_repeats, find_planted};
use dodai_node::controllers::planted::Bug;

use super::garbage::{Garbage, Wrong};
use super::jobs::Jobs;
use super::roll_outs::RollOuts;

dodai_apiserver::seeded_getrandom!();

/// Seeds of an ordinary test run; `DODAI_SIM_RUNS` asks for more, `DODAI_SIM_SEED` for one.
const SEEDS: u64 = 80;
/// Of the sweep over all faults at all points, each so-manieth run is done in an ordinary test run.
const SWEEP_EVERY: usize = 2503;
/// Seeds within which a planted mistake must show.
const PLANTED_SEEDS: u64 = 80;

fn jobs() -> Suite {
    Suite::new("jobs", Jobs::default)
}

fn roll_outs() -> Suite {
    Suite::new("roll-outs", RollOuts::default)
}

fn garbage() -> Suite {
    Suite::new("garbage", Garbage::default)
}

#[test]
fn a_run_of_the_controllers_is_the_same_each_time() {
    let seeds = std::env::var("DODAI_SIM_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let make: [fn() -> Arc<dyn Scenario>; 3] =
        [|| Arc::new(Jobs::default()), || Arc::new(RollOuts::default()), || Arc::new(Garbage::default())];
    for make in make {
        assert_repeats(make, 0..seeds);
    }
}

#[test]
fn whatever_fails_a_job_counts_each_outcome_once() {
    jobs().seeds(SEEDS).every(SWEEP_EVERY).check();
}

#[test]
fn whatever_fails_a_roll_out_keeps_its_bounds() {
    roll_outs().seeds(SEEDS).every(SWEEP_EVERY).check();
}

#[test]
fn whatever_fails_garbage_goes_and_nothing_else() {
    garbage().seeds(SEEDS).every(SWEEP_EVERY).check();
}

/// `cargo test -p dodai-node --test controllers whole_sweep -- --ignored --nocapture`
#[test]
#[ignore = "hours: every fault at every point, and DODAI_SIM_RUNS seeds of each scenario"]
fn the_whole_sweep_and_a_long_run() {
    for suite in [jobs(), roll_outs(), garbage()] {
        suite.seeds(100_000).check();
    }
}

/// What is planted.
#[derive(Clone, Copy, Debug)]
enum Mistake {
    Jobbing(Bug),
    Rolling(Bug),
    Collecting(Wrong),
}

use Mistake::{Collecting, Jobbing, Rolling};

impl Mistake {
    fn scenario(self) -> Arc<dyn Scenario> {
        match self {
            Jobbing(bug) => Arc::new(Jobs::with(bug)),
            Rolling(bug) => Arc::new(RollOuts::with(bug)),
            Collecting(wrong) => Arc::new(Garbage::with(wrong)),
        }
    }
}

/// A mistake, the first seed to try, and what the invariant that it breaks says.
const PLANTED: &[(Mistake, u64, &[&str])] = &[
    (
        Jobbing(Bug::JobMakesUnconfirmed),
        42,
        &["was made although", "more than were asked for", "succeeded twice", "failures are counted of"],
    ),
    (Jobbing(Bug::JobLetsGoUncounted), 0, &["what it did is not counted"]),
    (Jobbing(Bug::JobCountsTwice), 0, &["successes are counted of"]),
    (Jobbing(Bug::JobBelievesItsCache), 34, &["failures are counted of", "failed more than"]),
    (Jobbing(Bug::JobForgetsSuccesses), 0, &["successes are lost"]),
    (Jobbing(Bug::JobForgetsSuspension), 9, &["although it is suspended"]),
    (Jobbing(Bug::JobGoesOnAfterItsEnd), 2, &["although it is over"]),
    (Jobbing(Bug::JobForgetsBackoffLimit), 2, &["have failed"]),
    (Jobbing(Bug::JobForgetsIndexLimit), 240, &["failed more than"]),
    (Jobbing(Bug::JobForgetsBusyIndexes), 0, &["has one or needs none", "succeeded twice"]),
    (Jobbing(Bug::JobHoldsItsPods), 0, &["it has no end", "there is no Job"]),
    (Jobbing(Bug::OrphanPodBelievesItsCache), 135, &["what it did is not counted"]),
    (Rolling(Bug::ReplicaSetMakesUnconfirmed), 3, &["was made without room"]),
    (Rolling(Bug::RollOutForgetsAvailable), 6, &["are not enough"]),
    (Rolling(Bug::RollOutForgetsSurge), 1, &["are too many"]),
    (Rolling(Bug::RecreateDoesNotWait), 0, &["is made while"]),
    (Rolling(Bug::DeploymentTellsOldGeneration), 0, &["observedGeneration went from"]),
    (Rolling(Bug::DeploymentKeepsHistory), 1, &["ReplicaSets"]),
    (Rolling(Bug::DeploymentIsNeverTheSame), 0, &["does not come to rest"]),
    (Rolling(Bug::ReplicaSetTakesOthers), 0, &["was taken from its owner"]),
    (Collecting(Wrong::Early), 2, &["was collected, and"]),
    (Collecting(Wrong::SetsFree), 0, &["lost its owner"]),
    (Collecting(Wrong::Holds), 0, &["stays, and its owners are gone", "does not go"]),
    (Collecting(Wrong::Unblocks), 0, &["went before its dependent"]),
];

#[test]
fn every_mistake_that_is_planted_under_simulation_is_found() {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let halves: Vec<_> =
            PLANTED.chunks(PLANTED.len().div_ceil(2)).map(|half| scope.spawn(|| find(half))).collect();
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is wrong with the search for these mistakes.
fn find(planted: &[(Mistake, u64, &[&str])]) -> Vec<String> {
    let search = planted.iter().map(|(mistake, from, says)| {
        find_planted(&format!("{mistake:?}"), || mistake.scenario(), *from..from + PLANTED_SEEDS, says)
    });
    search.filter_map(Result::err).collect()
}
