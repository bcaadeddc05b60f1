//! What shows that a simulation can be trusted: its runs can be had again, and it finds a mistake that is planted.

use std::ops::Range;
use std::sync::Arc;

use super::choices::Choices;
use super::scenario::Scenario;
use super::sim::{run_once, warm_up};

/// Lines of a trace that are shown before the first that differs.
const LINES_BEFORE: usize = 10;

/// Runs each seed twice.
///
/// # Panics
/// With the place where they part, if two runs of a seed differ.
pub fn assert_repeats(make: impl Fn() -> Arc<dyn Scenario>, seeds: Range<u64>) {
    warm_up(make());
    for seed in seeds {
        let run = |trace| run_once(make(), seed, Choices::of_seed(seed), trace);
        if run(false).trace_hash == run(false).trace_hash {
            continue;
        }
        let (first, second) = (run(true).trace, run(true).trace);
        let at = first.iter().zip(&second).position(|(left, right)| left != right).unwrap_or(0);
        let part =
            |trace: &[String]| trace[at.saturating_sub(LINES_BEFORE)..(at + 2).min(trace.len())].join("\n");
        panic!("two runs of seed {seed} differ:\n{}\n---\n{}", part(&first), part(&second));
    }
}

/// Looks for the first of these seeds whose run of a scenario with a planted mistake fails, and prints what it says.
///
/// # Errors
/// When none fails, or it fails as none of `says` tells.
pub fn find_planted(
    what: &str,
    make: impl Fn() -> Arc<dyn Scenario>,
    seeds: Range<u64>,
    says: &[&str],
) -> Result<(), String> {
    let found = seeds.clone().find_map(|seed| {
        let outcome = run_once(make(), seed, Choices::of_seed(seed), false);
        Some((seed, outcome.failure?))
    });
    match found {
        Some((seed, message)) if says.iter().any(|says| message.contains(says)) => {
            println!("{what}: seed {seed}: {}", message.lines().next().unwrap_or_default());
            Ok(())
        }
        Some((seed, message)) => Err(format!("{what} with seed {seed} is told as: {message}")),
        None => Err(format!("{what} is not found in {} seeds", seeds.end - seeds.start)),
    }
}
