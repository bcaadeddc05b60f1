//! The engine on the API server itself, with every fault of the simulation, two instances at once.

use dodai_apiserver::testing::{Choices, Suite, run_once};

use super::scenario::{Apps, shared};

dodai_apiserver::seeded_getrandom!();

/// Seeds of an ordinary test run.
const SEEDS: u64 = 20;

#[test]
fn a_run_is_the_same_each_time() {
    for seed in 0..5 {
        let run = |trace| run_once(shared(None), seed, Choices::of_seed(seed), trace);
        let (first, second) = (run(true), run(true));
        let differs = first.trace.iter().zip(&second.trace).position(|(left, right)| left != right);
        if let Some(at) = differs {
            panic!(
                "seed {seed}:\n{}\n{}",
                first.trace[at.saturating_sub(20)..=at].join("\n"),
                second.trace[at.saturating_sub(3)..=at + 2].join("\n")
            );
        }
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
    }
}

#[test]
fn dbg() {
    let seed = std::env::var("S").unwrap().parse().unwrap();
    let t = std::time::Instant::now();
    let o = run_once(shared(None), seed, Choices::of_seed(seed), std::env::var("T").is_ok());
    for l in &o.trace {
        println!("{l}");
    }
    println!("{:?} {} calls {:?} {} picks {}", o.failure, o.calls, t.elapsed(), o.tape.len(), o.faults);
    let t = std::time::Instant::now();
    let o = run_once(shared(None), seed, Choices::of_tape(vec![]), std::env::var("T").is_ok());
    for l in &o.trace {
        println!("Z{l}");
    }
    println!("Z{:?} {} calls {:?}", o.failure, o.calls, t.elapsed());
}

#[test]
fn whatever_fails_the_engine_keeps_its_promises_and_arrives() {
    let summary = Suite::new("apps", Apps::default).seeds(SEEDS).sweep(false).check();
    assert!(summary.faults > 0);
}
