//! The plan alone, over many made-up lives of Pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use super::*;

/// A Pod, what runs of it, and a clock.
struct Life {
    pod: Pod,
    state: PodState,
    back_off: BTreeMap<String, BackOff>,
    started: Vec<(String, u32, Timestamp)>,
    began: Timestamp,
    now: Timestamp,
}

impl Life {
    fn new(policy: &str, init: usize, containers: usize) -> Life {
        let list = |kind: &str, count: usize| {
            (0..count).map(|number| json!({"name": format!("{kind}{number}")})).collect::<Vec<_>>()
        };
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "default", "uid": "u"},
            "spec": {"restartPolicy": policy, "initContainers": list("i", init), "containers": list("c", containers)},
        }))
        .unwrap();
        let began: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Life {
            pod,
            state: PodState::default(),
            back_off: BTreeMap::new(),
            started: Vec::new(),
            began,
            now: began,
        }
    }

    fn decide(&self) -> Decision {
        let (waiting, health) = (BTreeMap::new(), BTreeMap::new());
        decide(&World {
            pod: &self.pod,
            state: &self.state,
            waiting: &waiting,
            back_off: &self.back_off,
            health: &health,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            started_at: self.began,
            already_built: false,
            commit_failure: None,
            interrupted: false,
            now: self.now,
        })
    }

    /// Does what the plan says, until it says nothing more.
    fn act(&mut self) -> Decision {
        loop {
            let decision = self.decide();
            if decision.actions.is_empty() {
                return decision;
            }
            for action in &decision.actions {
                let Action::Start { container, attempt, pause_s } = action else { panic!("{action:?}") };
                self.started.push((container.clone(), *attempt, self.now));
                self.back_off.insert(container.clone(), BackOff { attempt: *attempt, pause_s: *pause_s });
                let state = ContainerState::Running { pid: 1, started_at: self.now };
                let container =
                    Container { name: container.clone(), attempt: *attempt, state, previous: None };
                self.state.containers.insert(container.name.clone(), container);
            }
        }
    }

    fn running(&self) -> Vec<String> {
        let running = |container: &&Container| matches!(container.state, ContainerState::Running { .. });
        self.state.containers.values().filter(running).map(|container| container.name.clone()).collect()
    }

    fn end(&mut self, name: &str, exit_code: i32) {
        let container = self.state.containers.get_mut(name).unwrap();
        let ContainerState::Running { started_at, .. } = container.state else {
            panic!("{name} does not run")
        };
        container.state = ContainerState::Exited(ExitRecord {
            attempt: container.attempt,
            exit_code,
            signal: None,
            reason: if exit_code == 0 { "Completed" } else { "Error" }.to_string(),
            message: String::new(),
            started_at,
            finished_at: self.now,
        });
    }
}

#[test]
fn pauses_double_up_to_five_minutes_and_a_long_run_ends_them() {
    let mut life = Life::new("Always", 0, 1);
    let mut pauses = Vec::new();
    for lasts_s in [1, 1, 1, 1, 1, 1, 1, 1, 601, 1, 1] {
        life.act();
        life.now += SignedDuration::from_secs(lasts_s);
        life.end("c0", 1);
        let decision = life.decide();
        let pause_s = decision.pauses.get("c0").map_or(0, |(_, pause_s)| *pause_s);
        pauses.push(pause_s);
        life.now += SignedDuration::from_secs(pause_s);
    }
    assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300, 0, 10, 20]);
}

#[test]
fn whatever_happens_the_rules_of_the_restart_policy_hold() {
    let seed =
        std::env::var("DODAI_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x0072_6573_7461_7274);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2000 {
        let policy = ["Always", "OnFailure", "Never"][random.usize(0..3)];
        let (init, containers) = (random.usize(0..3), random.usize(1..3));
        let mut life = Life::new(policy, init, containers);
        let mut ends: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for _ in 0..12 {
            let decision = life.act();
            let running = life.running();
            let init_running = running.iter().filter(|name| name.starts_with('i')).count();
            assert!(init_running <= 1 && (init_running == 0 || running.len() == 1), "seed {seed}");
            if decision.over {
                assert!(
                    running.is_empty() && policy != "Always" || ends.keys().any(|name| name.starts_with('i'))
                );
                let failed = ends.values().any(|codes| codes.last() != Some(&0));
                assert_eq!(
                    decision.phase,
                    if failed { "Failed" } else { "Succeeded" },
                    "seed {seed}: {ends:?}"
                );
                break;
            }
            life.now += SignedDuration::from_secs(random.i64(0..700));
            if let Some(name) = running.get(random.usize(0..running.len().max(1))) {
                let code = i32::from(random.bool());
                life.end(name, code);
                ends.entry(name.clone()).or_default().push(code);
            }
        }
        for (name, codes) in &ends {
            let runs = life.started.iter().filter(|(started, ..)| started == name).count();
            let expected: Vec<u32> = (0..runs as u32).collect();
            let attempts: Vec<u32> = life
                .started
                .iter()
                .filter(|(started, ..)| started == name)
                .map(|(_, attempt, _)| *attempt)
                .collect();
            assert_eq!(attempts, expected, "no run is left out or done twice, seed {seed}");
            let may_repeat = |code: &i32| match policy {
                "Never" => false,
                "OnFailure" => *code != 0,
                _ => *code != 0 || !name.starts_with('i'),
            };
            assert!(codes[..codes.len() - 1].iter().all(may_repeat), "seed {seed}: {policy} {ends:?}");
        }
    }
}
