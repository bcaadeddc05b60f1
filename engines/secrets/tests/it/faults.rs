//! The engine on the API server itself, with every fault of the simulation and of KMS, two instances at once.

use std::sync::Arc;

use dodai_apiserver::testing::{Scenario, Suite, assert_repeats, find_planted};
use dodai_secrets::planted::Bug;

use super::scenario::{Secrets, prepare};

dodai_apiserver::seeded_getrandom!();

/// Seeds of an ordinary test run; `DODAI_SIM_RUNS` asks for more, `DODAI_SIM_SEED` for one.
const SEEDS: u64 = 200;
/// Of the sweep over all faults at all points, each so-manieth run is done in an ordinary test run.
const SWEEP_EVERY: usize = 199;
/// Seeds within which a planted mistake must show.
const PLANTED_SEEDS: u64 = 60;
/// Seeds of the proof that runs can be had again.
const PROOF_SEEDS: u64 = 3;

#[test]
fn a_run_of_the_engine_is_the_same_each_time() {
    prepare();
    assert_repeats(|| Arc::new(Secrets::default()), 0..PROOF_SEEDS);
}

#[test]
fn whatever_fails_secrets_hold_what_their_object_says() {
    prepare();
    let summary = Suite::new("secrets", Secrets::default).seeds(SEEDS).every(SWEEP_EVERY).check();
    // One seed alone, as `DODAI_SIM_SEED` asks for, may meet no fault.
    assert!(summary.runs < 10 || summary.faults > 0 && summary.states > summary.runs);
}

/// `DODAI_SIM_RUNS=20000 cargo test --release -p dodai-secrets --test it whole_sweep -- --ignored --nocapture`
#[test]
#[ignore = "long: every fault at every point, and DODAI_SIM_RUNS seeds"]
fn the_whole_sweep_and_a_long_run() {
    prepare();
    Suite::new("secrets", Secrets::default).seeds(20_000).check();
}

/// A mistake, the first seed to try, and what the invariant that it breaks says.
const PLANTED: &[(Bug, u64, &[&str])] = &[
    (Bug::ReadyUnwritten, 0, &["there was no Secret yet"]),
    (Bug::TakesForeign, 0, &["somebody's Secret payments"]),
    (Bug::OldValuesStay, 3, &["which is no version that its object has had"]),
    (Bug::WritesHalf, 1, &["which is no version that its object has had"]),
    (Bug::FailureDeletes, 1, &["the Secret payments went"]),
    (Bug::WritesUnconfirmed, 7, &["the Secret went back"]),
    (Bug::ReadersStay, 8, &["objects for its readers"]),
    (Bug::StatusTellsValue, 0, &["tells the secret"]),
    (Bug::StatusTellsOldGeneration, 0, &["observedGeneration went from"]),
    (Bug::StatusIsNeverTheSame, 0, &["does not come to rest"]),
    (Bug::ForgetsKms, 130, &["it says"]),
];

#[test]
fn every_planted_mistake_is_found_by_the_invariant_that_it_breaks() {
    prepare();
    let search = PLANTED.iter().map(|(bug, from, says)| {
        let make = || Arc::new(Secrets::with(*bug)) as Arc<dyn Scenario>;
        find_planted(&format!("{bug:?}"), make, *from..from + PLANTED_SEEDS, says)
    });
    let wrong: Vec<String> = search.filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
