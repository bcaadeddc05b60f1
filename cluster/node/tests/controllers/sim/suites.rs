//! The runs: proof that they can be had again, sweep and seeds of each scenario, the planted mistakes.

use dodai_apiserver::testing::Suite;

use super::garbage::Garbage;
use super::jobs::Jobs;
use super::roll_outs::RollOuts;

dodai_apiserver::seeded_getrandom!();

#[test]
fn whatever_fails_a_job_counts_each_outcome_once() {
    Suite::new("jobs", Jobs::default).seeds(800).sweep(false).check();
}

#[test]
fn whatever_fails_a_roll_out_keeps_its_bounds() {
    Suite::new("roll-outs", RollOuts::default).seeds(400).sweep(false).check();
}

#[test]
fn whatever_fails_garbage_goes_and_nothing_else() {
    Suite::new("garbage", Garbage::default).seeds(400).sweep(false).check();
}
