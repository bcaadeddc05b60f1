//! What else goes on in the simulated cluster: Pods are bound, run, become ready, end and go.
//!
//! It acts through a client without faults, one thing at a time, in an order and at times that are picked, so that Nodes are
//! slow. Things go wrong as they do in life while faults are on; afterwards all goes well.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dodai_apiserver::testing::{Instance, Sim, World};
use dodai_kit::execute::rfc3339;
use dodai_kit::{Clock, Context};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

pub(crate) const PODS: &str = "pods";
pub(crate) const JOBS: &str = "jobs.batch";

/// The image that never becomes ready.
pub(crate) const BROKEN_IMAGE: &str = "i:broken";
/// Longest time until something that is due happens.
const DUE_MAX: Duration = Duration::from_secs(3);
/// One Pod in so many that runs to an end fails.
const FAILS_ONE_IN: u32 = 4;

/// Objects that people want to be there: made as soon as their name is free.
pub(crate) type Wanted = Arc<Mutex<Vec<Value>>>;

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

pub(crate) fn uid(object: &Value) -> &str {
    text(&object["metadata"]["uid"])
}

pub(crate) fn is_marked(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

pub(crate) fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().any(|found| found == finalizer)
}

/// The reference to its controller.
pub(crate) fn controller(object: &Value) -> Option<&Value> {
    object["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
}

/// The uid of its controller; empty without one.
pub(crate) fn controller_uid(object: &Value) -> &str {
    controller(object).map(|owner| text(&owner["uid"])).unwrap_or_default()
}

pub(crate) fn is_over(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

pub(crate) fn is_bound(pod: &Value) -> bool {
    pod["spec"]["nodeName"].is_string()
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let found = |found: &Value| found["type"] == "Ready" && found["status"] == "True";
    !is_over(pod) && conditions.is_some_and(|conditions| conditions.iter().any(found))
}

pub(crate) fn image(pod: &Value) -> &str {
    text(&pod["spec"]["containers"][0]["image"])
}

/// The object of this uid.
pub(crate) fn by_uid<'a>(world: &'a World, resource: &'a str, uid: &str) -> Option<&'a Value> {
    world.all(resource).find(|object| self::uid(object) == uid)
}

/// Runs some of the node's controllers as one process.
pub(crate) fn run(sim: &Sim, client: kube::Client, names: &[&str]) -> Instance {
    let clock = sim.clock();
    let context = Context::new(client, Clock::told(move || clock.now()));
    let mut engine = dodai_node::controllers::engine();
    engine.controllers.retain(|(name, _)| names.contains(name));
    assert_eq!(engine.controllers.len(), names.len(), "each name is one of a controller");
    engine.run_until_dropped(&context)
}

/// One thing that is due.
#[derive(Clone, Debug)]
enum Due {
    /// A Pod gets its Node.
    Bind(Value),
    /// What is in a Pod starts, or becomes ready again.
    Run(Value),
    /// What ran in a Pod ends.
    End(Value),
    /// A terminating Pod goes.
    Go(Value),
    /// A person tries again to make what is wanted.
    Make(Value),
}

/// Acts until it is dropped.
pub(crate) async fn play(sim: Sim, wanted: Wanted) {
    let mut changes = sim.changes();
    loop {
        let due = sim.look(|world| due(world, &wanted));
        if due.is_empty() {
            changes.next().await;
            continue;
        }
        let nth = sim.pick(due.len() as u32) as usize;
        sim.sleep_picked(DUE_MAX).await;
        act(&sim, &due[nth], &wanted).await;
        // What was written is told by the watch of the simulation.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn due(world: &World, wanted: &Wanted) -> Vec<Due> {
    let mut due = Vec::new();
    for pod in world.all(PODS) {
        let serves = pod["spec"]["restartPolicy"] != "Never";
        let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
        let next = match (is_bound(pod), is_marked(pod)) {
            (false, false) => Due::Bind(pod.clone()),
            // Nobody looks after it any more; its finalizers are others' business.
            (false, true) => continue,
            (true, true) if grace == Some(0) => continue,
            (true, true) if is_over(pod) => Due::Go(pod.clone()),
            (true, true) => Due::End(pod.clone()),
            (true, false) if is_over(pod) => continue,
            (true, false) if serves && is_settled(pod) => continue,
            (true, false) if !serves && pod["status"]["phase"] == "Running" => Due::End(pod.clone()),
            (true, false) => Due::Run(pod.clone()),
        };
        due.push(next);
    }
    let wanted = wanted.lock().unwrap();
    for object in
        wanted.iter().filter(|object| world.get(resource(object), "default", name(object)).is_none())
    {
        due.push(Due::Make(object.clone()));
    }
    due
}

/// Whether a Pod that serves has come as far as it can.
fn is_settled(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && (is_ready(pod) || image(pod) == BROKEN_IMAGE)
}

async fn act(sim: &Sim, due: &Due, wanted: &Wanted) {
    let pods: Api<Pod> = Api::default_namespaced(sim.admin());
    match due {
        Due::Bind(pod) => bind(sim, &pods, pod).await,
        Due::Run(pod) => {
            let is_ready = image(pod) != BROKEN_IMAGE;
            tell(sim, &pods, pod, "Running", is_ready, 0).await;
        }
        Due::End(pod) => {
            let (phase, code) = match sim.pick(FAILS_ONE_IN * 2) {
                1 => ("Failed", 1),
                2 => ("Failed", 9),
                _ => ("Succeeded", 0),
            };
            tell(sim, &pods, pod, phase, false, code).await;
        }
        Due::Go(pod) => {
            let now = DeleteParams { grace_period_seconds: Some(0), ..of_uid(pod) };
            // Whatever is answered, it is gone or another is there.
            let _ = pods.delete(name(pod), &now).await;
        }
        Due::Make(object) => make(sim, wanted, object.clone()).await,
    }
}

async fn bind(sim: &Sim, pods: &Api<Pod>, pod: &Value) {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name(pod), "uid": uid(pod) },
        "target": { "apiVersion": "v1", "kind": "Node", "name": "dodai" },
    });
    let params = PostParams::default();
    let bound: kube::Result<Value> = pods.create_subresource("binding", name(pod), &params, &binding).await;
    expect(sim, bound);
}

/// Tells how a Pod fares, if it still is as it was seen.
pub(crate) async fn tell(sim: &Sim, pods: &Api<Pod>, pod: &Value, phase: &str, is_ready: bool, code: i32) {
    let mut status = json!({ "phase": phase, "conditions": [{
        "type": "Ready", "status": if is_ready { "True" } else { "False" }, "lastTransitionTime": now(sim),
    }] });
    if phase != "Running" {
        status["containerStatuses"] = json!([{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": code, "finishedAt": now(sim) } },
        }]);
    }
    let meta = &pod["metadata"];
    let patch = Patch::Merge(json!({
        "metadata": { "uid": meta["uid"], "resourceVersion": meta["resourceVersion"] }, "status": status,
    }));
    expect(sim, pods.patch_status(name(pod), &PatchParams::default(), &patch).await);
}

/// Resource, `apiVersion` and kind of what people handle.
const KINDS: [(&str, &str, &str); 5] = [
    (PODS, "v1", "Pod"),
    ("configmaps", "v1", "ConfigMap"),
    (JOBS, "batch/v1", "Job"),
    ("replicasets.apps", "apps/v1", "ReplicaSet"),
    ("deployments.apps", "apps/v1", "Deployment"),
];

/// `pods`, `jobs.batch`, of an object with its kind. What is stored has none.
fn resource(object: &Value) -> &'static str {
    let found = KINDS.iter().find(|(_, _, kind)| object["kind"] == *kind);
    found.expect("people handle these kinds only").0
}

/// `apiVersion` and kind of a resource.
pub(crate) fn kind(resource: &str) -> (&'static str, &'static str) {
    let found = KINDS.iter().find(|(found, _, _)| *found == resource);
    found.map(|(_, version, kind)| (*version, *kind)).expect("people handle these kinds only")
}

pub(crate) fn api(sim: &Sim, resource: &str) -> Api<DynamicObject> {
    let (version, kind) = kind(resource);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::default_namespaced_with(sim.admin(), &resource)
}

/// Makes an object now, or as soon as its name is free.
pub(crate) async fn make(sim: &Sim, wanted: &Wanted, object: Value) {
    wanted.lock().unwrap().retain(|other| name(other) != name(&object) || other["kind"] != object["kind"]);
    let typed = serde_json::from_value(object.clone()).expect("it has a name and a kind");
    match api(sim, resource(&object)).create(&PostParams::default(), &typed).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            wanted.lock().unwrap().push(object)
        }
        made => expect(sim, made),
    }
}

pub(crate) fn of_uid(object: &Value) -> DeleteParams {
    let uid = Some(uid(object).to_owned());
    let preconditions = Some(kube::api::Preconditions { uid, resource_version: None });
    DeleteParams { preconditions, ..DeleteParams::default() }
}

/// The object may have changed or gone meanwhile; any other refusal is a mistake of the test.
pub(crate) fn expect<T>(sim: &Sim, result: kube::Result<T>) {
    if let Err(error) = result {
        let gone = matches!(&error, kube::Error::Api(status)
            if matches!(status.code, 404 | 409) || status.message.contains("metadata.uid"));
        if !gone {
            sim.fail(format!("the cluster of the test does something wrong: {error}"));
        }
    }
}

pub(crate) fn now(sim: &Sim) -> String {
    rfc3339(sim.clock().now())
}
