//! What else goes on in the simulated cluster: Jobs get their Pod, Pods run and end, Deployments become available.
//!
//! It acts through a client without faults, one thing at a time, in an order and at times that are picked. Things go wrong as
//! they do in life while faults are on (a command fails, a roll-out stands still); afterwards all goes well, and a
//! person asks again for what has failed. Left out: Pods of Deployments.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dodai_apiserver::testing::{Sim, World};
use dodai_kit::execute::rfc3339;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

pub(crate) const JOBS: &str = "jobs.batch";
pub(crate) const DEPLOYMENTS: &str = "deployments.apps";
pub(crate) const APPS: &str = "apps.dodai.dev";
pub(crate) const RELEASES: &str = "releases.dodai.dev";

/// Commands that succeeded: uid of the App and identity of the command.
pub(crate) type Ran = Arc<Mutex<Vec<(String, String)>>>;

/// The image whose command fails at its first attempt.
pub(crate) const BROKEN_IMAGE: &str = "shop:broken";
/// Longest time until something that is due happens.
const DUE_MAX: Duration = Duration::from_secs(3);

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// One thing that is due.
#[derive(Clone, Debug)]
enum Due {
    /// A Job gets its Pod.
    Start(Value),
    /// What ran in a Pod ends.
    End(Value),
    /// A terminating Pod goes.
    Go(Value),
    /// The end of its Pod is the Job's.
    Finish(Value, bool),
    /// A Deployment follows its spec.
    Follow(Value),
    /// A person asks for a failed Release again.
    Retry(Value),
}

/// Acts until it is dropped.
pub(crate) async fn play(sim: Sim, ran: Ran) {
    let mut changes = sim.changes();
    loop {
        let due = sim.look(|world| due(world, sim.is_healed()));
        if due.is_empty() {
            changes.next().await;
            continue;
        }
        let nth = sim.pick(due.len() as u32) as usize;
        sim.sleep_picked(DUE_MAX).await;
        act(&sim, &ran, &due[nth]).await;
        // What was written is told by the watch of the simulation.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn due(world: &World, healed: bool) -> Vec<Due> {
    let mut due = Vec::new();
    for job in world.all(JOBS) {
        let is_over = job["status"]["conditions"].as_array().is_some_and(|list| !list.is_empty());
        if is_over || job["metadata"]["deletionTimestamp"].is_string() {
            continue;
        }
        let pod = world.get("pods", "default", &pod_of(job));
        // One of an earlier Job of this name: it goes first.
        if pod.is_some_and(|pod| pod["metadata"]["ownerReferences"][0]["uid"] != job["metadata"]["uid"]) {
            continue;
        }
        match pod.map(|pod| text(&pod["status"]["phase"])).as_deref() {
            None if job["status"]["startTime"].is_string() => due.push(Due::Finish(job.clone(), false)),
            None => due.push(Due::Start(job.clone())),
            Some("Succeeded") => due.push(Due::Finish(job.clone(), true)),
            Some("Failed") => due.push(Due::Finish(job.clone(), false)),
            Some(_) => {}
        }
    }
    for pod in world.all("pods") {
        let is_over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        match pod["metadata"]["deletionTimestamp"].is_string() {
            _ if !is_over => due.push(Due::End(pod.clone())),
            true => due.push(Due::Go(pod.clone())),
            false => {}
        }
    }
    for deployment in world.all(DEPLOYMENTS) {
        let status = &deployment["status"];
        let is_behind = status["observedGeneration"] != deployment["metadata"]["generation"];
        let is_short = status["availableReplicas"].as_i64().unwrap_or(0) != replicas(deployment);
        if is_behind || healed && is_short {
            due.push(Due::Follow(deployment.clone()));
        }
    }
    if healed {
        let newest = world.all(RELEASES).max_by_key(|release| release["spec"]["number"].as_i64());
        due.extend(newest.filter(|newest| is_to_be_retried(newest)).cloned().map(Due::Retry));
    }
    due
}

fn pod_of(job: &Value) -> String {
    format!("{}-0", text(&job["metadata"]["name"]))
}

fn replicas(deployment: &Value) -> i64 {
    deployment["spec"]["replicas"].as_i64().unwrap_or(1)
}

pub(crate) fn attempt(release: &Value) -> u64 {
    release["status"]["attempt"].as_u64().unwrap_or(1)
}

fn is_to_be_retried(release: &Value) -> bool {
    let asked = release["metadata"]["annotations"]["dodai.dev/retry"].as_str();
    release["status"]["phase"] == "Failed" && asked != Some(&*attempt(release).to_string())
}

async fn act(sim: &Sim, ran: &Ran, due: &Due) {
    match due {
        Due::Start(job) => start(sim, job).await,
        Due::End(pod) => end(sim, ran, pod).await,
        Due::Go(pod) => {
            let pods: Api<Pod> = Api::default_namespaced(sim.admin());
            let now = DeleteParams { grace_period_seconds: Some(0), ..of_uid(pod) };
            // Whatever is answered, it is gone or another is there.
            let _ = pods.delete(&text(&pod["metadata"]["name"]), &now).await;
        }
        Due::Finish(job, succeeded) => finish(sim, job, *succeeded).await,
        Due::Follow(deployment) => follow(sim, deployment).await,
        Due::Retry(release) => retry(sim, release).await,
    }
}

fn of_uid(object: &Value) -> DeleteParams {
    let uid = Some(text(&object["metadata"]["uid"]));
    let preconditions = Some(kube::api::Preconditions { uid, resource_version: None });
    DeleteParams { preconditions, ..DeleteParams::default() }
}

/// A patch that holds for this state of this object only.
fn guarded(object: &Value, status: Value) -> Patch<Value> {
    let meta = &object["metadata"];
    Patch::Merge(json!({
        "metadata": { "uid": meta["uid"], "resourceVersion": meta["resourceVersion"] }, "status": status,
    }))
}

async fn start(sim: &Sim, job: &Value) {
    let name = text(&job["metadata"]["name"]);
    let jobs: Api<Job> = Api::default_namespaced(sim.admin());
    let started = guarded(job, json!({ "startTime": now(sim), "active": 1 }));
    if jobs.patch_status(&name, &PatchParams::default(), &started).await.is_err() {
        return;
    }
    let template = &job["spec"]["template"];
    let pod = json!({
        "metadata": {
            "name": pod_of(job), "labels": template["metadata"]["labels"],
            "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job", "name": name,
                "uid": job["metadata"]["uid"], "controller": true }],
        },
        "spec": template["spec"],
    });
    let pod: Pod = serde_json::from_value(pod).expect("the template of a Job is one of a Pod");
    let pods: Api<Pod> = Api::default_namespaced(sim.admin());
    // The Pod of an earlier Job of this name may still be there: then this one has none, and fails.
    let _ = pods.create(&PostParams::default(), &pod).await;
}

async fn end(sim: &Sim, ran: &Ran, pod: &Value) {
    let is_broken = text(&pod["spec"]["containers"][0]["image"]) == BROKEN_IMAGE
        && pod["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-release-0"));
    let succeeds = !is_broken && sim.pick(5) != 1;
    let status = json!({ "phase": if succeeds { "Succeeded" } else { "Failed" }, "containerStatuses": [{
        "name": pod["spec"]["containers"][0]["name"], "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": i32::from(!succeeds), "reason": "Error", "message": "last line\n", "finishedAt": now(sim) } },
    }] });
    let pods: Api<Pod> = Api::default_namespaced(sim.admin());
    let name = text(&pod["metadata"]["name"]);
    let written = pods.patch_status(&name, &PatchParams::default(), &guarded(pod, status)).await;
    if written.is_ok() && succeeds && pod["metadata"]["labels"]["dodai.dev/role"] == "release" {
        note_success(sim, ran, pod);
    }
}

/// A command must not succeed again.
fn note_success(sim: &Sim, ran: &Ran, pod: &Value) {
    let success = sim.look(|world| {
        let job = world.get(JOBS, "default", &text(&pod["metadata"]["ownerReferences"][0]["name"]))?;
        let owner = &job["metadata"]["ownerReferences"][0];
        let release = world.get(RELEASES, "default", &text(&owner["name"]))?;
        let same = owner["uid"] == release["metadata"]["uid"]
            && job["metadata"]["uid"] == pod["metadata"]["ownerReferences"][0]["uid"];
        let app = text(&release["metadata"]["ownerReferences"][0]["uid"]);
        same.then(|| (app, text(&release["spec"]["commandIdentity"])))
    });
    // What ran for an App that is gone is nobody's any more.
    let Some(success) = success else { return };
    let mut ran = ran.lock().unwrap();
    if ran.contains(&success) {
        let name = &pod["metadata"]["name"];
        sim.fail(format!("a command that had succeeded ran again: {name}, identity {}", &success.1[..12]));
    }
    ran.push(success);
}

async fn finish(sim: &Sim, job: &Value, succeeded: bool) {
    let started = text(&job["status"]["startTime"]);
    // The clock may have been set back.
    let ended = started.max(now(sim));
    let condition = |type_: &str| json!({ "type": type_, "status": "True", "lastTransitionTime": ended });
    let status = match succeeded {
        true => json!({ "succeeded": 1, "active": 0, "completionTime": ended,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")] }),
        false => json!({ "failed": 1, "active": 0,
            "conditions": [condition("FailureTarget"), condition("Failed")] }),
    };
    let jobs: Api<Job> = Api::default_namespaced(sim.admin());
    let name = text(&job["metadata"]["name"]);
    expect(sim, jobs.patch_status(&name, &PatchParams::default(), &guarded(job, status)).await);
}

async fn follow(sim: &Sim, deployment: &Value) {
    let wanted = replicas(deployment);
    let stands = sim.pick(6) == 1;
    let available = if stands { 0 } else { wanted };
    let mut status = json!({ "observedGeneration": deployment["metadata"]["generation"], "replicas": wanted,
        "updatedReplicas": wanted, "readyReplicas": available, "availableReplicas": available, "conditions": null });
    if stands {
        status["conditions"] = json!([{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
            "lastTransitionTime": now(sim), "lastUpdateTime": now(sim) }]);
    }
    let deployments: Api<Deployment> = Api::default_namespaced(sim.admin());
    let name = text(&deployment["metadata"]["name"]);
    let patch = guarded(deployment, status);
    expect(sim, deployments.patch_status(&name, &PatchParams::default(), &patch).await);
}

pub(crate) async fn retry(sim: &Sim, release: &Value) {
    let releases: Api<dodai_api::Release> = Api::default_namespaced(sim.admin());
    let asked = attempt(release).to_string();
    let patch = Patch::Merge(json!({
        "metadata": { "uid": release["metadata"]["uid"], "annotations": { "dodai.dev/retry": asked } },
    }));
    let name = text(&release["metadata"]["name"]);
    expect(sim, releases.patch(&name, &PatchParams::default(), &patch).await);
}

/// The object may have changed or gone meanwhile; any other refusal is a mistake of this file.
fn expect<T>(sim: &Sim, result: kube::Result<T>) {
    if let Err(error) = result {
        let gone = matches!(&error, kube::Error::Api(status)
            if matches!(status.code, 404 | 409) || status.message.contains("metadata.uid"));
        if !gone {
            sim.fail(format!("the cluster of the test does something wrong: {error}"));
        }
    }
}

fn now(sim: &Sim) -> String {
    rfc3339(sim.clock().now())
}
