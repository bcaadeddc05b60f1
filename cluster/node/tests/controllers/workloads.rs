//! StatefulSets, DaemonSets and CronJobs in a simulated world: order, one Pod a Node, one Job a time.

use std::collections::BTreeMap;

use dodai_node::controllers::cron_job::CronJobController;
use dodai_node::controllers::daemon_set::DaemonSetController;
use dodai_node::controllers::stateful_set::StatefulSetController;
use serde_json::{Value, json};

use super::world::{Id, Outcome, World, for_seeds, id};

const STEPS: usize = 160;
const ROUNDS_MAX: usize = 400;
const STATEFUL: [&str; 4] = ["StatefulSet", "ControllerRevision", "Pod", "PersistentVolumeClaim"];
const DAEMON: [&str; 4] = ["DaemonSet", "ControllerRevision", "Pod", "Node"];

fn is_active(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &Value) -> bool {
    is_active(pod)
        && pod["status"]["phase"] == "Running"
        && pod["status"]["conditions"][0]["status"] == "True"
}

/// Binds a Pod: to the Node that it asks for, or to the one that there is.
fn bind(world: &mut World, id: &Id) {
    world.change(id, |pod| {
        let required =
            &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let wanted = required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].as_str();
        pod["spec"]["nodeName"] = wanted.unwrap_or("dodai").into();
    });
}

/// The Node at work on some Pod. `steady`: what is ready stays ready.
fn node_step(world: &mut World, steady: bool) {
    let pods = world.of_kind("Pod");
    let Some(pod) = world.pick(&pods) else { return };
    let id = id(&pod);
    if !pod["spec"]["nodeName"].is_string() {
        return bind(world, &id);
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return world.let_go(&id);
    }
    if is_ready(&pod) {
        if !steady && world.one_in(4) {
            let phase = if world.one_in(3) { "Failed" } else { "Running" };
            world.set_phase(&id, phase, false);
        }
    } else if is_active(&pod) {
        let ready = world.random.bool();
        world.set_phase(&id, "Running", ready);
    }
}

fn change_template(world: &mut World, id: &Id) {
    let image = format!("i:{}", world.random.u32(0..3));
    world.tell(format!("template {image}"));
    world.change(id, |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = image.into());
}

/// Everybody does what they should, with fresh caches, until nothing moves any more.
fn settle(world: &mut World, kinds: &[&str], pass: fn(&mut World, &dodai_kit::Key) -> Outcome) {
    for _ in 0..ROUNDS_MAX {
        let mut quiet = true;
        let mut next: Option<std::time::Duration> = None;
        for pod in world.of_kind("Pod") {
            let id = id(&pod);
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                world.let_go(&id);
                quiet = false;
            } else if !pod["spec"]["nodeName"].is_string() {
                bind(world, &id);
                quiet = false;
            } else if is_active(&pod) && !is_ready(&pod) {
                world.set_phase(&id, "Running", true);
                quiet = false;
            }
        }
        world.collect_garbage();
        world.catch_up_all(kinds);
        for key in world.cached(kinds[0]) {
            world.catch_up_all(kinds);
            match pass(world, &key) {
                Outcome::Quiet(after) => next = [next, after].into_iter().flatten().min(),
                Outcome::Gone => {}
                Outcome::Wrote => quiet = false,
                other => world.check(false, &format!("{key} with fresh caches: {other:?}")),
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

fn step<C: dodai_kit::Controller>(world: &mut World, kinds: &[&str]) {
    let kind = world.pick(kinds).unwrap();
    world.catch_up(kind, false);
    let kill = world.one_in(6).then(|| world.random.usize(0..5));
    let Some(key) = world.pick(&world.cached(kinds[0])) else { return };
    if world.pass::<C>(&key, kill) == Outcome::Killed && world.random.bool() {
        world.catch_up_all(kinds);
    }
}

fn person_deletes(world: &mut World) {
    let pods = world.of_kind("Pod");
    if let Some(victim) = world.pick(&pods) {
        world.delete(&id(&victim));
    }
}

fn the_set() -> Id {
    ("StatefulSet".into(), "ns".into(), "db".into())
}

fn ordinal(pod: &Value) -> i64 {
    pod["metadata"]["name"].as_str().unwrap().rsplit('-').next().unwrap().parse().unwrap()
}

fn stateful_set(world: &mut World) -> (Value, i64) {
    let replicas = world.random.i64(1..5);
    let policy = if world.one_in(3) { "Parallel" } else { "OrderedReady" };
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"namespace": "ns", "name": "db"},
        "spec": {
            "replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "podManagementPolicy": policy, "minReadySeconds": world.random.i64(0..2) * 10,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "revisionHistoryLimit": 1,
            "template": {"metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": "i:0"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]
        }
    });
    (set, replicas)
}

/// `STEPS` of everybody at random, looked at after each.
pub(crate) fn run_stateful(seed: u64, steady: bool) {
    let mut world = World::new(seed);
    let (set, mut replicas) = stateful_set(&mut world);
    let ordered = set["spec"]["podManagementPolicy"] == "OrderedReady";
    world.create(set);
    let settle = |world: &mut World| {
        settle(world, &STATEFUL, |world, key| world.pass::<StatefulSetController>(key, None));
    };
    settle(&mut world);
    let mut made = world.created.len();
    let mut deleted = world.deleted.len();
    for _ in 0..STEPS {
        let ready_before = world.of_kind("Pod").iter().filter(|pod| is_ready(pod)).count() as i64;
        match world.random.u32(0..24) {
            0 => change_template(&mut world, &the_set()),
            1 if !steady => {
                replicas = world.random.i64(0..6);
                world.change(&the_set(), |set| set["spec"]["replicas"] = replicas.into());
            }
            2 if !steady => person_deletes(&mut world),
            3 => world.collect_garbage(),
            4..=11 => node_step(&mut world, steady),
            _ => step::<StatefulSetController>(&mut world, &STATEFUL),
        }
        if world.one_in(3) {
            let by_s = world.random.i64(1..20);
            world.advance(by_s);
        }
        let pods = world.of_kind("Pod");
        for pod in world.created[made..].iter().filter(|value| value["kind"] == "Pod") {
            // In order, each Pod is made when all before it are ready.
            let before = pods.iter().filter(|other| ordinal(other) < ordinal(pod) && is_ready(other)).count();
            let in_order = !ordered || before as i64 == ordinal(pod);
            world.check(in_order, &format!("{} was made before its time", pod["metadata"]["name"]));
        }
        made = world.created.len();
        if ordered {
            world.check(world.deleted.len() <= deleted + 1, "two pods were deleted at a time");
        }
        deleted = world.deleted.len();
        if steady {
            let ready = pods.iter().filter(|pod| is_ready(pod)).count() as i64;
            world.check(ready >= replicas - 1 || ready >= ready_before, "a roll-out took two pods at a time");
        }
    }
    settle(&mut world);
    check_stateful(&world, replicas);
}

fn check_stateful(world: &World, replicas: i64) {
    let set = &world.objects[&the_set()];
    let mut pods = world.of_kind("Pod");
    pods.sort_by_key(ordinal);
    let ordinals: Vec<i64> = pods.iter().map(ordinal).collect();
    world.check(ordinals == (0..replicas).collect::<Vec<_>>(), &format!("{ordinals:?} of {replicas}"));
    let image = &set["spec"]["template"]["spec"]["containers"][0]["image"];
    let is_right = |pod: &Value| {
        is_ready(pod)
            && pod["spec"]["containers"][0]["image"] == *image
            && pod["metadata"]["labels"]["controller-revision-hash"] == set["status"]["updateRevision"]
    };
    world.check(pods.iter().all(is_right), "all pods are ready and of the template");
    for name in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "currentReplicas"] {
        let number = set["status"][name].as_i64().unwrap_or(0);
        world.check(number == replicas, &format!("status.{name} is {number}"));
    }
    world.check(
        set["status"]["currentRevision"] == set["status"]["updateRevision"],
        "the roll-out is through",
    );
    world.check(world.of_kind("ControllerRevision").len() <= 2, "history is short");
    // A volume once claimed stays, whatever became of its Pod.
    let claims = world.created.iter().filter(|value| value["kind"] == "PersistentVolumeClaim").count();
    world.check(world.of_kind("PersistentVolumeClaim").len() == claims, "a claim went");
}

#[test]
fn a_stateful_set_rolls_out_one_pod_at_a_time_in_its_order() {
    for_seeds(|seed| run_stateful(seed, true));
}

#[test]
fn whatever_happens_a_stateful_set_comes_to_rest_with_what_is_asked_for() {
    for_seeds(|seed| run_stateful(seed, false));
}

fn the_agent() -> Id {
    ("DaemonSet".into(), "ns".into(), "agent".into())
}

fn add_node(world: &mut World, number: u32) {
    world.create(
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{number}")}, "spec": {}}),
    );
}

fn node_of(pod: &Value) -> String {
    let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].as_str().unwrap().to_owned()
}

pub(crate) fn run_daemon(seed: u64, steady: bool) {
    let mut world = World::new(seed);
    let nodes = world.random.u32(1..5);
    for number in 0..nodes {
        add_node(&mut world, number);
    }
    let surge = if world.one_in(3) { 1 } else { 0 };
    let unavailable = if surge == 1 { 0 } else { world.random.i64(1..3) };
    world.create(json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": "ns", "name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}}, "revisionHistoryLimit": 1,
            "updateStrategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "template": {"metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "c", "image": "i:0"}]}}
        }
    }));
    let settle = |world: &mut World| {
        settle(world, &DAEMON, |world, key| world.pass::<DaemonSetController>(key, None));
    };
    settle(&mut world);
    for _ in 0..STEPS {
        let served = |world: &World| {
            let pods = world.of_kind("Pod");
            let nodes: std::collections::BTreeSet<String> =
                pods.iter().filter(|pod| is_ready(pod)).map(node_of).collect();
            nodes.len() as i64
        };
        let before = served(&world);
        match world.random.u32(0..24) {
            0 => change_template(&mut world, &the_agent()),
            1 if !steady => person_deletes(&mut world),
            2 if !steady => {
                let number = world.random.u32(0..6);
                add_node(&mut world, number);
            }
            3 => world.collect_garbage(),
            4..=11 => node_step(&mut world, steady),
            _ => step::<DaemonSetController>(&mut world, &DAEMON),
        }
        if world.one_in(3) {
            let by_s = world.random.i64(1..20);
            world.advance(by_s);
        }
        let mut on: BTreeMap<String, i64> = BTreeMap::new();
        for pod in world.of_kind("Pod").iter().filter(|pod| is_active(pod)) {
            *on.entry(node_of(pod)).or_default() += 1;
        }
        let most = on.values().max().copied().unwrap_or(0);
        world.check(most <= 1 + surge, &format!("{most} pods on a node"));
        if steady {
            let now = served(&world);
            let enough = i64::from(nodes) - unavailable;
            world.check(now >= enough || now >= before, &format!("{now} nodes are served"));
        }
    }
    settle(&mut world);
    let pods = world.of_kind("Pod");
    let nodes = world.of_kind("Node").len();
    let image = &world.objects[&the_agent()]["spec"]["template"]["spec"]["containers"][0]["image"];
    let right = |pod: &Value| is_ready(pod) && pod["spec"]["containers"][0]["image"] == *image;
    world.check(pods.len() == nodes && pods.iter().all(right), "every node has one pod of the template");
    let status = &world.objects[&the_agent()]["status"];
    for name in ["desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled"]
    {
        world.check(status[name] == nodes, &format!("status.{name} is {}", status[name]));
    }
}

#[test]
fn a_daemon_set_rolls_out_within_its_bounds() {
    for_seeds(|seed| run_daemon(seed, true));
}

#[test]
fn whatever_happens_every_node_comes_to_have_one_pod_of_a_daemon_set() {
    for_seeds(|seed| run_daemon(seed, false));
}

#[test]
fn a_cron_job_makes_one_job_for_a_time_and_none_beside_one_that_runs() {
    for_seeds(run_cron_job);
}

pub(crate) fn run_cron_job(seed: u64) {
    let mut world = World::new(seed);
    let policy = world.pick(&["Allow", "Forbid", "Replace"]).unwrap();
    world.create(json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"namespace": "ns", "name": "tick"},
        "spec": {"schedule": "*/2 * * * *", "concurrencyPolicy": policy, "successfulJobsHistoryLimit": 2,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}}}
    }));
    let kinds = ["CronJob", "Job"];
    let mut made = BTreeMap::<String, u32>::new();
    let mut seen = 0;
    for _ in 0..STEPS {
        match world.random.u32(0..10) {
            0 => world.advance(31),
            1 => {
                let jobs = world.of_kind("Job");
                if let Some(job) = world.pick(&jobs) {
                    let now = super::world::rfc3339(world.now);
                    world.change(&id(&job), |job| {
                        job["status"] = json!({"startTime": now, "completionTime": now,
                            "conditions": [{"type": "Complete", "status": "True"}]});
                    });
                }
            }
            _ => step::<CronJobController>(&mut world, &kinds),
        }
        for job in world.created[seen..].iter().filter(|value| value["kind"] == "Job") {
            *made.entry(job["metadata"]["name"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        seen = world.created.len();
        world.check(made.values().all(|times| *times == 1), "a time got two jobs");
        let jobs = world.of_kind("Job");
        let running = jobs.iter().filter(|job| job["status"]["conditions"].is_null()).count();
        world.check(policy == "Allow" || running <= 1, &format!("{running} jobs at a time"));
    }
    world.advance(150);
    world.catch_up_all(&kinds);
    let before = world.created.len();
    let key = dodai_kit::Key::new("ns", "tick");
    let outcome = world.pass::<CronJobController>(&key, None);
    let runs = world.of_kind("Job").iter().any(|job| job["status"]["conditions"].is_null());
    let waits = policy == "Forbid" && runs && matches!(outcome, Outcome::Quiet(_) | Outcome::Wrote);
    world.check(waits || world.created.len() > before, "a time that came got no job");
}
