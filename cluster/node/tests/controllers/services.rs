//! EndpointSlices and the scheduler in a simulated world.

use std::collections::BTreeSet;

use dodai_node::controllers::endpoint_slice::EndpointSliceController;
use dodai_node::controllers::scheduler::SchedulerController;
use serde_json::{Value, json};

use super::world::{Outcome, World, for_seeds, id};

fn pod(name: &str, port: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "ns", "name": name, "labels": {"app": "web"},
            "annotations": {"node.dodai.dev/port": port.to_string()}},
        "spec": {"nodeName": "dodai", "containers": [{"name": "c", "image": "i",
            "ports": [{"name": "http", "containerPort": 8000}]}]}
    })
}

#[test]
fn the_slices_of_a_service_come_to_name_every_pod_once_at_its_own_port() {
    const KINDS: [&str; 3] = ["Service", "Pod", "EndpointSlice"];
    for_seeds(|seed| {
        let mut world = World::new(seed);
        world.create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "ns", "name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
        }));
        let many = world.one_in(10);
        for number in 0..if many { 240 } else { 5 } {
            let port = if many { 20000 } else { 20000 + world.random.u32(0..3) };
            world.create(pod(&format!("web-{number}"), port));
        }
        for _ in 0..if many { 20 } else { 80 } {
            let pods = world.of_kind("Pod");
            match world.random.u32(0..8) {
                0 if !pods.is_empty() => {
                    let victim = world.pick(&pods).unwrap();
                    world.delete(&id(&victim));
                    if world.random.bool() {
                        world.let_go(&id(&victim));
                    }
                }
                1 => {
                    let (name, port) =
                        (format!("web-{}", world.random.u32(0..9)), world.random.u32(20000..20003));
                    world.create(pod(&name, port));
                }
                2 | 3 if !pods.is_empty() => {
                    let (one, ready) = (world.pick(&pods).unwrap(), world.random.bool());
                    world.set_phase(&id(&one), "Running", ready);
                }
                _ => {
                    let kind = world.pick(&KINDS).unwrap();
                    world.catch_up(kind, false);
                    let kill = world.one_in(4).then(|| world.random.usize(0..3));
                    if let Some(key) = world.pick(&world.cached("Service")) {
                        world.pass::<EndpointSliceController>(&key, kill);
                    }
                }
            }
        }
        for _ in 0..3 {
            world.catch_up_all(&KINDS);
            let key = world.cached("Service")[0].clone();
            world.pass::<EndpointSliceController>(&key, None);
        }
        world.catch_up_all(&KINDS);
        let key = world.cached("Service")[0].clone();
        let outcome = world.pass::<EndpointSliceController>(&key, None);
        world.check(outcome == Outcome::Quiet(None), "a second pass has nothing to do");
        let mut named = Vec::new();
        for slice in world.of_kind("EndpointSlice") {
            let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
            world.check(endpoints.len() <= 100, "a slice has at most 100 endpoints");
            for endpoint in endpoints {
                let target = &endpoint["targetRef"];
                let port = slice["ports"][0]["port"].to_string();
                let ready = endpoint["conditions"]["ready"].clone();
                named.push((target["uid"].to_string(), port, ready.to_string()));
            }
        }
        let wanted: BTreeSet<_> = world
            .of_kind("Pod")
            .iter()
            .filter(|pod| pod["status"]["podIP"].is_string())
            .map(|pod| {
                let metadata = &pod["metadata"];
                let port = metadata["annotations"]["node.dodai.dev/port"].as_str().unwrap().to_owned();
                let is_ready = pod["status"]["conditions"][0]["status"] == "True"
                    && metadata["deletionTimestamp"].is_null();
                (metadata["uid"].to_string(), port, is_ready.to_string())
            })
            .collect();
        world.check(named.len() == wanted.len(), "each pod is named once");
        world.check(named.into_iter().collect::<BTreeSet<_>>() == wanted, "each pod is named as it is");
    });
}

#[test]
fn pods_are_bound_oldest_first_until_the_node_is_full() {
    const KINDS: [&str; 2] = ["Node", "Pod"];
    for_seeds(|seed| {
        let mut world = World::new(seed);
        world.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "dodai"},
            "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "110"}}}));
        for number in 0..8 {
            let cpu = format!("{}m", world.random.u32(1..6) * 100);
            world.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "ns", "name": format!("p{number}")},
                "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}}));
            world.advance(1);
        }
        for _ in 0..100 {
            let kind = world.pick(&KINDS).unwrap();
            world.catch_up(kind, false);
            let kill = world.one_in(4).then_some(0);
            if let Some(key) = world.pick(&world.cached("Pod")) {
                world.pass::<SchedulerController>(&key, kill);
            }
            let bound: u64 = world
                .of_kind("Pod")
                .iter()
                .filter(|pod| pod["spec"]["nodeName"].is_string())
                .map(cpu_m)
                .sum();
            world.check(bound <= 1000, &format!("{bound}m of 1000m"));
        }
        for _ in 0..3 {
            world.catch_up_all(&KINDS);
            for key in world.cached("Pod") {
                world.catch_up_all(&KINDS);
                world.pass::<SchedulerController>(&key, None);
            }
        }
        let mut left = 1000;
        for pod in world.of_kind("Pod") {
            let is_bound = pod["spec"]["nodeName"].is_string();
            world.check(is_bound == (cpu_m(&pod) <= left), "first come, first served");
            if is_bound {
                left -= cpu_m(&pod);
            } else {
                let condition = &pod["status"]["conditions"][0];
                world.check(condition["reason"] == "Unschedulable", "it says that it cannot be bound");
                world
                    .check(condition["message"] == "0/1 nodes are available: 1 Insufficient cpu.", "and why");
            }
        }
    });
}

fn cpu_m(pod: &Value) -> u64 {
    let text = pod["spec"]["containers"][0]["resources"]["requests"]["cpu"].as_str().unwrap();
    text.strip_suffix('m').unwrap().parse().unwrap()
}
