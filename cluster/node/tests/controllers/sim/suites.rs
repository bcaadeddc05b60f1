//! The runs: proof that they can be had again, sweep and seeds of each scenario, the planted mistakes.

use dodai_apiserver::testing::Suite;

use super::jobs::Jobs;

dodai_apiserver::seeded_getrandom!();

#[test]
fn whatever_fails_a_job_counts_each_outcome_once() {
    Suite::new("jobs", Jobs::default).seeds(800).sweep(false).check();
}
