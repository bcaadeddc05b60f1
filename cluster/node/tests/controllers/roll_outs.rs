//! Deployments and ReplicaSets in a simulated world.

use dodai_node::controllers::deployment::DeploymentController;
use dodai_node::controllers::replica_set::ReplicaSetController;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::world::{Id, Outcome, World, for_seeds, id};

const KINDS: [&str; 3] = ["Deployment", "ReplicaSet", "Pod"];
const STEPS: usize = 250;
const ROUNDS_MAX: usize = 400;

struct Limits {
    replicas: i64,
    surge: i64,
    unavailable: i64,
}

fn deployment(limits: &Limits, min_ready_s: i64, strategy: &str) -> Value {
    let mut strategy_value = json!({"type": strategy});
    if strategy == "RollingUpdate" {
        strategy_value["rollingUpdate"] =
            json!({"maxSurge": limits.surge, "maxUnavailable": limits.unavailable});
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "ns", "name": "web"},
        "spec": {
            "replicas": limits.replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy_value,
            "minReadySeconds": min_ready_s, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:0"}]}}
        }
    })
}

fn the_deployment() -> Id {
    ("Deployment".into(), "ns".into(), "web".into())
}

fn is_active(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &Value) -> bool {
    is_active(pod) && pod["status"]["conditions"][0]["status"] == "True"
}

fn counts(world: &World) -> (i64, i64) {
    let pods = world.of_kind("Pod");
    let count = |of: fn(&Value) -> bool| pods.iter().filter(|pod| of(pod)).count() as i64;
    (count(is_active), count(is_ready))
}

/// One step of some controller, on caches that are behind, possibly killed.
fn controllers_step(world: &mut World) {
    let kind = world.pick(&KINDS).unwrap();
    world.catch_up(kind, false);
    let kill = world.one_in(6).then(|| world.random.usize(0..4));
    let outcome = if world.random.bool() {
        let Some(key) = world.pick(&world.cached("Deployment")) else { return };
        world.pass::<DeploymentController>(&key, kill)
    } else {
        let Some(key) = world.pick(&world.cached("ReplicaSet")) else { return };
        world.pass::<ReplicaSetController>(&key, kill)
    };
    if outcome == Outcome::Killed && world.random.bool() {
        // A new process lists everything anew.
        world.catch_up_all(&KINDS);
    }
}

/// The Node at work on some Pod. `steady`: what is ready stays ready.
fn node_step(world: &mut World, steady: bool) {
    let pods = world.of_kind("Pod");
    let Some(pod) = world.pick(&pods) else { return };
    let id = id(&pod);
    if !pod["spec"]["nodeName"].is_string() {
        return world.change(&id, |pod| pod["spec"]["nodeName"] = "dodai".into());
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return world.let_go(&id);
    }
    if is_ready(&pod) {
        if !steady && world.one_in(3) {
            let phase = if world.one_in(4) { "Failed" } else { "Running" };
            world.set_phase(&id, phase, false);
        }
    } else if is_active(&pod) {
        let ready = world.random.bool();
        world.set_phase(&id, "Running", ready);
    }
}

fn change_template(world: &mut World) {
    let image = format!("i:{}", world.random.u32(0..3));
    world.tell(format!("template {image}"));
    world.change(&the_deployment(), |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
    });
}

/// Everybody does what they should, with fresh caches, until nothing moves any more.
fn settle(world: &mut World) {
    for _ in 0..ROUNDS_MAX {
        let mut quiet = true;
        let mut next: Option<std::time::Duration> = None;
        for pod in world.of_kind("Pod") {
            let id = id(&pod);
            if !pod["spec"]["nodeName"].is_string() {
                world.change(&id, |pod| pod["spec"]["nodeName"] = "dodai".into());
                quiet = false;
            } else if !pod["metadata"]["deletionTimestamp"].is_null() {
                world.let_go(&id);
                quiet = false;
            } else if is_active(&pod) && !is_ready(&pod) {
                world.set_phase(&id, "Running", true);
                quiet = false;
            }
        }
        world.collect_garbage();
        for kind in ["Deployment", "ReplicaSet"] {
            world.catch_up_all(&KINDS);
            for key in world.cached(kind) {
                world.catch_up_all(&KINDS);
                let outcome = match kind {
                    "Deployment" => world.pass::<DeploymentController>(&key, None),
                    _ => world.pass::<ReplicaSetController>(&key, None),
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

fn check_settled(world: &World, replicas: i64) {
    let deployment = &world.objects[&the_deployment()];
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    let pods: Vec<Pod> = world
        .pods()
        .into_iter()
        .filter(|pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Running"))
        .collect();
    world.check(pods.len() as i64 == replicas, "there are as many pods as asked for");
    let right =
        pods.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == image.as_str());
    world.check(right, "all pods are of the template");
    let status = &deployment["status"];
    let number = |name: &str| status[name].as_i64().unwrap_or(0);
    for name in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        world.check(number(name) == replicas, &format!("status.{name} is {}", number(name)));
    }
    world.check(number("unavailableReplicas") == 0, "none is unavailable");
    world.check(
        status["observedGeneration"] == deployment["metadata"]["generation"],
        "the generation was observed",
    );
    let condition = |type_: &str| {
        let conditions = status["conditions"].as_array().unwrap().iter();
        conditions.clone().find(|condition| condition["type"] == type_).cloned().unwrap_or_default()
    };
    world.check(condition("Available")["status"] == "True", "it is available");
    world.check(condition("Progressing")["reason"] == "NewReplicaSetAvailable", "it has progressed");
    world.check(world.of_kind("ReplicaSet").len() <= 3, "history is short");
}

fn limits(world: &mut World) -> Limits {
    let replicas = world.random.i64(1..6);
    let surge = world.random.i64(0..4);
    let unavailable = world.random.i64(i64::from(surge == 0)..4).min(replicas);
    Limits { replicas, surge, unavailable }
}

#[test]
fn a_roll_out_keeps_enough_pods_available_and_never_has_too_many() {
    for_seeds(run_roll_out);
}

pub(crate) fn run_roll_out(seed: u64) {
    let mut world = World::new(seed);
    let limits = limits(&mut world);
    world.create(deployment(&limits, 0, "RollingUpdate"));
    settle(&mut world);
    for _ in 0..STEPS {
        let before = counts(&world).1;
        match world.random.u32(0..20) {
            0 => change_template(&mut world),
            1..=8 => node_step(&mut world, true),
            _ => controllers_step(&mut world),
        }
        if world.one_in(4) {
            world.advance(1);
        }
        let (active, ready) = counts(&world);
        world.check(active <= limits.replicas + limits.surge, &format!("{active} pods are too many"));
        let enough = limits.replicas - limits.unavailable;
        world.check(ready >= enough || ready >= before, &format!("{ready} pods are not enough"));
    }
    settle(&mut world);
    check_settled(&world, limits.replicas);
}

#[test]
fn whatever_happens_a_deployment_comes_to_rest_with_what_is_asked_for() {
    for_seeds(|seed| {
        let mut world = World::new(seed);
        let mut limits = limits(&mut world);
        let strategy = if world.one_in(3) { "Recreate" } else { "RollingUpdate" };
        let min_ready_s = world.random.i64(0..2) * 10;
        world.create(deployment(&limits, min_ready_s, strategy));
        for _ in 0..STEPS {
            match world.random.u32(0..24) {
                0 => change_template(&mut world),
                1 => {
                    limits.replicas = world.random.i64(0..7);
                    let replicas = limits.replicas;
                    world.change(&the_deployment(), |deployment| {
                        deployment["spec"]["replicas"] = replicas.into()
                    });
                }
                2 => {
                    let paused = world.random.bool();
                    world
                        .change(&the_deployment(), |deployment| deployment["spec"]["paused"] = paused.into());
                }
                3 => {
                    // A person deletes something.
                    let all = [world.of_kind("Pod"), world.of_kind("ReplicaSet")].concat();
                    if let Some(victim) = world.pick(&all) {
                        world.delete(&id(&victim));
                    }
                }
                4 => world.collect_garbage(),
                5..=11 => node_step(&mut world, false),
                _ => controllers_step(&mut world),
            }
            if world.one_in(3) {
                let by_s = world.random.i64(1..20);
                world.advance(by_s);
            }
        }
        world.change(&the_deployment(), |deployment| deployment["spec"]["paused"] = false.into());
        settle(&mut world);
        check_settled(&world, limits.replicas);
    });
}

#[test]
fn recreate_never_runs_two_templates_at_a_time() {
    for_seeds(run_recreate);
}

pub(crate) fn run_recreate(seed: u64) {
    let mut world = World::new(seed);
    let limits = limits(&mut world);
    world.create(deployment(&limits, 0, "Recreate"));
    settle(&mut world);
    for _ in 0..STEPS {
        match world.random.u32(0..20) {
            0 => change_template(&mut world),
            1..=8 => node_step(&mut world, true),
            _ => controllers_step(&mut world),
        }
        let images: std::collections::BTreeSet<String> = world
            .of_kind("Pod")
            .iter()
            .map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned())
            .collect();
        world.check(images.len() <= 1, &format!("{images:?} at a time"));
    }
    settle(&mut world);
    check_settled(&world, limits.replicas);
}

#[test]
fn a_replica_set_never_has_more_pods_than_asked_for() {
    for_seeds(run_replica_set);
}

pub(crate) fn run_replica_set(seed: u64) {
    let mut world = World::new(seed);
    let replicas = world.random.i64(1..6);
    world.create(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"namespace": "ns", "name": "set"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template":
            {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}
    }));
    for _ in 0..STEPS {
        match world.random.u32(0..10) {
            0 => {
                let pods = world.of_kind("Pod");
                if let Some(victim) = world.pick(&pods) {
                    world.delete(&id(&victim));
                }
            }
            1..=3 => node_step(&mut world, false),
            _ => {
                let kind = world.pick(&["ReplicaSet", "Pod"]).unwrap();
                world.catch_up(kind, false);
                let kill = world.one_in(4).then(|| world.random.usize(0..4));
                if let Some(key) = world.pick(&world.cached("ReplicaSet")) {
                    world.pass::<ReplicaSetController>(&key, kill);
                }
            }
        }
        let active = counts(&world).0;
        world.check(active <= replicas, &format!("{active} pods of {replicas}"));
    }
}
