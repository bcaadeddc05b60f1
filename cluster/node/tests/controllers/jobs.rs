//! Jobs in a simulated world: no success is lost or counted twice, and no Pod is run that was not asked for.

use std::collections::{BTreeMap, BTreeSet};

use dodai_node::controllers::job::{FINALIZER, JobController};
use dodai_node::controllers::orphan_pod::OrphanPodController;
use serde_json::{Value, json};

use super::world::{Id, Outcome, World, for_seeds, id};

const KINDS: [&str; 2] = ["Job", "Pod"];
const STEPS: usize = 220;
const ROUNDS_MAX: usize = 200;

struct Given {
    completions: i64,
    parallelism: i64,
    backoff_limit: i64,
    indexed: bool,
    /// `backoffLimitPerIndex`.
    per_index: Option<i64>,
    /// With a policy by which exit code 9 is no failure.
    ignores: bool,
}

/// The exit code that counts for nothing, where there is a policy.
const IGNORED: i64 = 9;

fn job(given: &Given) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "ns", "name": "work"},
        "spec": {
            "completions": given.completions, "parallelism": given.parallelism, "backoffLimit": given.backoff_limit,
            "completionMode": if given.indexed { "Indexed" } else { "NonIndexed" },
            "template": {"metadata": {"labels": {"job-name": "work"}}, "spec": {"restartPolicy": "Never",
                "containers": [{"name": "c", "image": "i"}]}}
        }
    });
    if let Some(limit) = given.per_index {
        job["spec"]["backoffLimitPerIndex"] = limit.into();
        job["spec"]["backoffLimit"] = i32::MAX.into();
    }
    if given.ignores {
        job["spec"]["podFailurePolicy"] = json!({"rules": [
            {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [IGNORED]}}]});
    }
    job
}

fn the_job() -> Id {
    ("Job".into(), "ns".into(), "work".into())
}

/// What really happened, seen from outside.
#[derive(Default)]
struct Truth {
    /// Pods by uid, once they succeeded or failed: phase and index.
    ended: BTreeMap<String, (String, Option<String>)>,
    vanished: usize,
    /// Pods that were deleted because they were not wanted, and failed then.
    unwanted: BTreeSet<String>,
}

impl Truth {
    fn look(&mut self, world: &World) {
        for pod in world.of_kind("Pod") {
            let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            if !pod["metadata"]["annotations"]["node.dodai.dev/job-unwanted"].is_null()
                && !pod["metadata"]["deletionTimestamp"].is_null()
            {
                self.unwanted.insert(uid.clone());
            }
            if !may_run(&pod) && !matches!(phase, "Succeeded" | "Failed") {
                // Deleted before any Node had it: it failed without ever having said so.
                self.ended.entry(uid).or_insert(("Failed".to_owned(), None));
            } else if matches!(phase, "Succeeded" | "Failed") {
                let code = &pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
                let phase = if *code == IGNORED { "Ignored" } else { phase };
                let index = pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"].as_str();
                self.ended.entry(uid).or_insert((phase.to_owned(), index.map(str::to_owned)));
            }
        }
    }

    fn succeeded(&self) -> usize {
        self.ended.values().filter(|(phase, _)| phase == "Succeeded").count()
    }

    fn failed(&self) -> usize {
        let failed =
            self.ended.iter().filter(|(uid, (phase, _))| phase == "Failed" && !self.unwanted.contains(*uid));
        failed.count() + self.vanished
    }
}

fn is_terminal(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Not ended, nor deleted before any Node had it.
fn may_run(pod: &Value) -> bool {
    !is_terminal(pod)
        && (pod["metadata"]["deletionTimestamp"].is_null() || pod["spec"]["nodeName"].is_string())
}

/// A Pod that fails says with which exit code.
fn fail(world: &mut World, id: &Id, code: i64) {
    world.set_phase(id, "Failed", false);
    world.change(id, |pod| {
        pod["status"]["containerStatuses"] = json!([{"name": "c", "image": "i", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]);
    });
}

fn node_step(world: &mut World, truth: &mut Truth, given: &Given) {
    let pods = world.of_kind("Pod");
    let Some(pod) = world.pick(&pods) else { return };
    let id = id(&pod);
    let is_deleted = !pod["metadata"]["deletionTimestamp"].is_null();
    if !pod["spec"]["nodeName"].is_string() {
        if !is_deleted {
            world.change(&id, |pod| pod["spec"]["nodeName"] = "dodai".into());
        }
    } else if is_terminal(&pod) {
        if is_deleted {
            world.let_go(&id);
        }
    } else if is_deleted {
        let phase = if world.random.bool() { "Succeeded" } else { "Failed" };
        world.set_phase(&id, phase, false);
    } else {
        match world.random.u32(0..6) {
            0 => {
                let code = if given.ignores && world.random.bool() { IGNORED } else { 1 };
                fail(world, &id, code);
            }
            1 | 2 => world.set_phase(&id, "Succeeded", false),
            _ => world.set_phase(&id, "Running", true),
        }
    }
    truth.look(world);
}

fn controllers_step(world: &mut World) {
    let kind = world.pick(&KINDS).unwrap();
    world.catch_up(kind, false);
    let kill = world.one_in(5).then(|| world.random.usize(0..4));
    let outcome = match world.random.u32(0..5) {
        0 => {
            let Some(key) = world.pick(&world.cached("Pod")) else { return };
            world.pass::<OrphanPodController>(&key, kill)
        }
        _ => {
            let Some(key) = world.pick(&world.cached("Job")) else { return };
            world.pass::<JobController>(&key, kill)
        }
    };
    if outcome == Outcome::Killed && world.random.bool() {
        world.catch_up_all(&KINDS);
    }
}

fn settle(world: &mut World, truth: &mut Truth) {
    for _ in 0..ROUNDS_MAX {
        let mut quiet = true;
        let mut next = None;
        for pod in world.of_kind("Pod") {
            let id = id(&pod);
            if pod["metadata"]["deletionTimestamp"].is_null() {
                if !pod["spec"]["nodeName"].is_string() {
                    world.change(&id, |pod| pod["spec"]["nodeName"] = "dodai".into());
                    quiet = false;
                } else if !is_terminal(&pod) {
                    world.set_phase(&id, "Succeeded", false);
                    quiet = false;
                }
            } else if is_terminal(&pod) {
                if pod["metadata"]["deletionGracePeriodSeconds"] != 0 {
                    quiet = false;
                }
                world.let_go(&id);
            } else if pod["spec"]["nodeName"].is_string() {
                world.set_phase(&id, "Failed", false);
                quiet = false;
            }
        }
        truth.look(world);
        for kind in KINDS {
            world.catch_up_all(&KINDS);
            for key in world.cached(kind) {
                world.catch_up_all(&KINDS);
                let outcome = match kind {
                    "Job" => world.pass::<JobController>(&key, None),
                    _ => world.pass::<OrphanPodController>(&key, None),
                };
                match outcome {
                    Outcome::Quiet(after) => next = [next, after].into_iter().flatten().min(),
                    Outcome::Gone => {}
                    Outcome::Wrote => quiet = false,
                    other => world.check(false, &format!("{kind} {key} with fresh caches: {other:?}")),
                }
            }
        }
        match (quiet, next) {
            (false, _) => {}
            (true, Some(next)) => world.advance(next.as_secs() as i64 + 1),
            (true, None) => return,
        }
    }
    world.check(false, "it never came to rest");
}

fn has(job: &Value, type_: &str) -> bool {
    let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == type_ && condition["status"] == "True")
}

fn check_always(world: &World, truth: &Truth, given: &Given) {
    world.check(truth.succeeded() as i64 <= given.completions, "more pods succeeded than were asked for");
    let running = world.of_kind("Pod").iter().filter(|pod| may_run(pod)).count() as i64;
    world.check(running <= given.parallelism, &format!("{running} pods at a time"));
    if let Some(limit) = given.per_index {
        let mut failures = BTreeMap::<&str, i64>::new();
        for (uid, (phase, index)) in &truth.ended {
            let index = index.as_deref().filter(|_| phase == "Failed" && !truth.unwanted.contains(uid));
            *failures.entry(index.unwrap_or_default()).or_default() += i64::from(index.is_some());
        }
        let most = failures.values().max().copied().unwrap_or(0);
        world.check(most <= limit + 1, &format!("an index failed {most} times"));
    }
    if given.indexed {
        let indexes: Vec<_> =
            truth.ended.values().filter(|(phase, _)| phase == "Succeeded").map(|(_, index)| index).collect();
        let distinct: BTreeSet<_> = indexes.iter().collect();
        world.check(indexes.len() == distinct.len(), "an index succeeded twice");
    }
    if let Some(job) = world.objects.get(&the_job()) {
        let counted = job["status"]["succeeded"].as_i64().unwrap_or(0);
        world.check(counted <= truth.succeeded() as i64, &format!("{counted} successes are counted"));
        let failed = job["status"]["failed"].as_i64().unwrap_or(0);
        world.check(failed <= truth.failed() as i64, &format!("{failed} failures are counted"));
    }
}

#[test]
fn whatever_happens_a_job_counts_each_outcome_once_and_ends() {
    for_seeds(run);
}

pub(crate) fn run(seed: u64) {
    {
        let mut world = World::new(seed);
        let completions = world.random.i64(1..5);
        let given = Given {
            completions,
            parallelism: world.random.i64(1..4),
            backoff_limit: world.random.i64(0..4),
            indexed: world.random.bool(),
            per_index: None,
            ignores: world.one_in(3),
        };
        let given = if given.indexed && world.random.bool() {
            let limit = world.random.i64(0..3);
            Given { per_index: Some(limit), backoff_limit: i64::from(i32::MAX), ..given }
        } else {
            given
        };
        let mut truth = Truth::default();
        let mut made = 0;
        world.create(job(&given));
        for _ in 0..STEPS {
            match world.random.u32(0..24) {
                0 => {
                    let suspend = world.random.bool();
                    world.change(&the_job(), |job| job["spec"]["suspend"] = suspend.into());
                }
                1 => person_deletes_a_pod(&mut world),
                2 => pod_vanishes(&mut world, &mut truth, &given),
                3..=9 => node_step(&mut world, &mut truth, &given),
                _ => controllers_step(&mut world),
            }
            truth.look(&world);
            let pods = world.created.iter().filter(|value| value["kind"] == "Pod").count();
            if pods > made {
                made = pods;
                let failed = truth.failed() as i64;
                let is_allowed = given.parallelism > 1 || failed <= given.backoff_limit;
                world.check(is_allowed, &format!("a pod was made after {failed} failures"));
            }
            check_always(&world, &truth, &given);
            if world.one_in(3) {
                let by_s = world.random.i64(1..30);
                world.advance(by_s);
            }
        }
        world.change(&the_job(), |job| job["spec"]["suspend"] = false.into());
        settle(&mut world, &mut truth);
        check_always(&world, &truth, &given);
        check_end(&world, &truth, &given);
    }
}

fn person_deletes_a_pod(world: &mut World) {
    let pods = world.of_kind("Pod");
    if let Some(pod) = world.pick(&pods) {
        world.delete(&id(&pod));
    }
}

/// Somebody takes the finalizer away, and the Pod with it, after the Job has written down that it runs.
fn pod_vanishes(world: &mut World, truth: &mut Truth, given: &Given) {
    let recorded =
        world.objects.get(&the_job()).is_some_and(|job| job["status"]["active"].as_i64().unwrap_or(0) > 0);
    let pods: Vec<Value> = world.of_kind("Pod").into_iter().filter(|pod| !is_terminal(pod)).collect();
    if given.parallelism != 1
        || given.per_index.is_some()
        || !recorded
        || pods.len() != 1
        || !pods[0]["metadata"]["deletionTimestamp"].is_null()
    {
        return;
    }
    // Of one that is marked nobody knows whether its deletion was begun.
    if pods[0]["metadata"]["annotations"]["node.dodai.dev/job-unwanted"].is_null() {
        truth.vanished += 1;
        world.tell("vanished".to_owned());
        world.remove(&id(&pods[0]));
    }
}

fn check_end(world: &World, truth: &Truth, given: &Given) {
    let job = &world.objects[&the_job()];
    let (complete, failed) = (has(job, "Complete"), has(job, "Failed"));
    world.check(complete != failed, "it has one end");
    world.check(
        has(job, "SuccessCriteriaMet") == complete && has(job, "FailureTarget") == failed,
        "the end was announced",
    );
    let number = |name: &str| job["status"][name].as_i64().unwrap_or(0);
    world.check(number("succeeded") == truth.succeeded() as i64, "each success is counted once");
    if complete {
        world.check(number("succeeded") == given.completions, "it is complete when all have succeeded");
    } else if given.per_index.is_some() {
        let indexes = job["status"]["failedIndexes"].as_str().unwrap_or_default();
        world.check(!indexes.is_empty(), "it failed with an index that had failed");
    } else {
        world.check(number("failed") > given.backoff_limit, "it failed when too many had failed");
    }
    world.check(number("active") == 0 && number("terminating") == 0, "nothing is left to do");
    let held = world.of_kind("Pod").iter().any(|pod| {
        pod["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(|name| name == FINALIZER))
    });
    world.check(!held, "no pod is held");
}

#[test]
fn the_pods_of_a_deleted_job_can_go() {
    for_seeds(|seed| {
        let mut world = World::new(seed);
        let indexed = world.random.bool();
        let (per_index, ignores) = (None, false);
        let given = Given { completions: 3, parallelism: 2, backoff_limit: 2, indexed, per_index, ignores };
        let mut truth = Truth::default();
        world.create(job(&given));
        for _ in 0..60 {
            if world.random.bool() {
                node_step(&mut world, &mut truth, &given)
            } else {
                controllers_step(&mut world)
            }
            world.advance(3);
        }
        world.delete(&the_job());
        for _ in 0..20 {
            controllers_step(&mut world);
            world.collect_garbage();
        }
        for _ in 0..20 {
            world.collect_garbage();
            settle(&mut world, &mut truth);
        }
        world.check(world.of_kind("Pod").is_empty(), "all pods have gone");
    });
}
