//! The engine on the API server itself, with every fault of the simulation, two instances at once.

use std::sync::Arc;

use dodai_apiserver::testing::{Scenario, Suite, assert_repeats, find_planted};
use dodai_apps::planted::Bug;

use super::scenario::{Apps, shared};

dodai_apiserver::seeded_getrandom!();

/// Seeds of an ordinary test run; `DODAI_SIM_RUNS` asks for more, `DODAI_SIM_SEED` for one.
const SEEDS: u64 = 300;
/// Of the sweep over all faults at all points, each so-manieth run is done in an ordinary test run.
const SWEEP_EVERY: usize = 199;
/// Seeds within which a planted mistake must show.
const PLANTED_SEEDS: u64 = 40;
/// Seeds of the proof that runs can be had again.
const PROOF_SEEDS: u64 = 3;

fn suite() -> Suite {
    let tapes = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim");
    Suite::new("apps", Apps::default).tapes(tapes)
}

#[test]
fn a_run_of_the_engine_is_the_same_each_time() {
    let seeds =
        std::env::var("DODAI_SIM_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(PROOF_SEEDS);
    assert_repeats(shared, 0..seeds);
}

#[test]
fn whatever_fails_the_engine_keeps_its_promises_and_arrives() {
    let summary = suite().seeds(SEEDS).every(SWEEP_EVERY).check();
    // One seed alone, as `DODAI_SIM_SEED` asks for, may meet no fault.
    assert!(summary.runs < 10 || summary.faults > 0 && summary.states > summary.runs);
}

/// `cargo test -p dodai-apps --test it whole_sweep -- --ignored --nocapture`
#[test]
#[ignore = "hours: every fault at every point, and DODAI_SIM_RUNS seeds"]
fn the_whole_sweep_and_a_long_run() {
    suite().seeds(100_000).check();
}

/// A mistake, the first seed to try, and what the invariant that it breaks says.
const PLANTED: &[(Bug, u64, &[&str])] = &[
    (Bug::ReleaseDoesNotWait, 2, &["two release commands at once", "had succeeded ran again"]),
    (Bug::CommandForgetsEarlierSuccess, 3, &["had succeeded ran again"]),
    (Bug::StatusForgetsSuccess, 0, &["forgot that its command succeeded"]),
    (Bug::RollsOutTooEarly, 0, &["before its roll-out"]),
    (Bug::AppMakesUnconfirmed, 19, &["wishes"]),
    (Bug::AppForgetsItsReleases, 0, &["wishes", "says the same as"]),
    (Bug::StatusTellsOldGeneration, 0, &["observedGeneration went from"]),
    (Bug::ReadyTooEarly, 3, &["is ready with"]),
    (Bug::SurplusStays, 17, &["Deployments for"]),
    (Bug::NewerReleaseEndsCommand, 0, &["was ended, and"]),
    (Bug::JobGoesBeforeItsRecord, 0, &["before its success was written down", "made 2 times"]),
    (Bug::StatusTellsSecret, 0, &["tells the secret"]),
    (Bug::ClaimsAreDeleted, 3, &["data is deleted"]),
    (Bug::StatusIsNeverTheSame, 0, &["does not come to rest"]),
];

#[test]
fn every_planted_mistake_is_found_by_the_invariant_that_it_breaks() {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let halves: Vec<_> =
            PLANTED.chunks(PLANTED.len() / 2).map(|half| scope.spawn(|| find(half))).collect();
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is wrong with the search for these mistakes.
fn find(planted: &[(Bug, u64, &[&str])]) -> Vec<String> {
    let search = planted.iter().map(|(bug, from, says)| {
        let make = || Arc::new(Apps::with(*bug)) as Arc<dyn Scenario>;
        find_planted(&format!("{bug:?}"), make, *from..from + PLANTED_SEEDS, says)
    });
    search.filter_map(Result::err).collect()
}
