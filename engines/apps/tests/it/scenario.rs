//! The engine under simulation: what runs, what people do, what must hold after every write and in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use dodai_api::{App, Release};
use dodai_apiserver::testing::{
    Call, Change, Instance, Scenario, Sim, Step, World, deletes_by_uid, describe, generation_goes_on,
};
use dodai_apps::planted::{self, Bug};
use dodai_kit::{Clock, Context};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::cluster::{self, APPS, BROKEN_IMAGE, DEPLOYMENTS, JOBS, RELEASES, Ran, attempt, text};

/// Stands in the Secret that the App names, and nowhere else.
const MARKER: &str = "correct-horse-battery-staple";

/// Steps that a run may leave out.
const LESS_MAX: u32 = 8;

/// Made once for all runs: deriving the schemas is a good part of what setting one up costs.
static DEFINITIONS: LazyLock<[CustomResourceDefinition; 2]> = LazyLock::new(|| [App::crd(), Release::crd()]);

/// The scenario; one value is one run.
#[derive(Default)]
pub(crate) struct Apps {
    bug: Option<Bug>,
    ran: Ran,
    seen: Mutex<Seen>,
}

/// What invariants remember.
#[derive(Default)]
struct Seen {
    /// How often a Job of this name was made for this Release (uid).
    jobs: BTreeMap<(String, String), u32>,
    /// Changes of the spec and of the Secret so far, per App (uid).
    wishes: BTreeMap<String, i64>,
    secret_changes: i64,
}

impl Apps {
    pub(crate) fn with(bug: Bug) -> Apps {
        Apps { bug: Some(bug), ..Apps::default() }
    }
}

impl Scenario for Apps {
    fn set_up(&self, sim: &Sim) -> BoxFuture<'static, Result<(), String>> {
        planted::plant(self.bug);
        let sim = sim.clone();
        async move { set_up(&sim).await.map_err(|error| error.to_string()) }.boxed()
    }

    fn start(&self, sim: &Sim, client: kube::Client) -> Instance {
        let clock = sim.clock();
        let context = Context::new(client, Clock::told(move || clock.now()));
        dodai_apps::engine().run_until_dropped(&context)
    }

    fn surroundings(&self, sim: &Sim) -> Instance {
        Box::pin(cluster::play(sim.clone(), self.ran.clone()))
    }

    /// Without faults the whole script; else a few of its steps, so that a run is short and there are many.
    fn script(&self, sim: &Sim) -> Vec<Step> {
        let mut steps = vec![
            Step::new("create the App", |sim| edit(sim, 0)),
            Step::new("change it", |sim| edit(sim, 1)),
            Step::new("change it to what fails", |sim| edit(sim, 3)),
            Step::new("ask again", retry),
            Step::new("change the Secret", change_secret),
            Step::new("change a Deployment by hand", meddle),
            Step::new("delete the App", delete),
            Step::new("create it under the same name", |sim| edit(sim, 4)),
            Step::new("change it back", |sim| edit(sim, 0)),
        ];
        // The first stays, without an App nothing happens; and the last, in the end there is one.
        sim.leave_out(&mut steps, sim.pick(LESS_MAX), 1, 1);
        steps
    }

    fn call(&self, call: &Call) -> Result<(), String> {
        if call.verb().starts_with("delete") && call.named().resource == "persistentvolumeclaims" {
            return Err(format!("{call}: data is deleted"));
        }
        deletes_by_uid(call)
    }

    fn always(&self, change: &Change<'_>) -> Result<(), String> {
        generation_goes_on(change)?;
        let (before, after) = (change.before.at(change.id), change.after.at(change.id));
        match change.id.resource.as_str() {
            "pods" => self.one_command_at_a_time(change.after)?,
            "persistentvolumeclaims" if after.is_none() => {
                return Err(format!("{}: data is gone", change.id));
            }
            "secrets" => self.seen.lock().unwrap().secret_changes += i64::from(change.id.name == "db"),
            _ => {}
        }
        match (change.id.resource.as_str(), before, after) {
            ("pods", Some(before), Some(after)) => command_is_not_killed(change.after, before, after),
            (APPS, _, Some(app)) => self.app(change.after, app),
            (RELEASES, before, Some(release)) => self.release(change.after, before, release),
            (JOBS, None, Some(job)) => self.job_is_made_once(change.after, job),
            (JOBS, Some(job), None) => success_is_written_down(change.after, job),
            (DEPLOYMENTS, before, Some(after)) => only_what_rolls_out(change.after, before, after),
            _ => Ok(()),
        }
    }

    fn finally(&self, world: &World) -> Result<(), String> {
        let Some(app) = world.get(APPS, "default", "shop") else { return Err("there is no App".to_owned()) };
        let missing = serves(world, app);
        missing.map_err(|what| format!("{what}{}", describe(world, &[APPS, RELEASES, DEPLOYMENTS, JOBS])))
    }

    fn secrets(&self) -> Vec<String> {
        vec![MARKER.to_owned()]
    }
}

async fn set_up(sim: &Sim) -> kube::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(sim.admin());
    for definition in &*DEFINITIONS {
        definitions.create(&PostParams::default(), definition).await?;
    }
    let nodes: Api<Node> = Api::all(sim.admin());
    let node =
        json!({ "metadata": { "name": "dodai", "annotations": { "node.dodai.dev/interpreters": "[]" } } });
    nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await?;
    let secrets: Api<Secret> = Api::default_namespaced(sim.admin());
    let secret = json!({ "metadata": { "name": "db" }, "stringData": { "password": MARKER } });
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await?;
    Ok(())
}

/// A few specs that come again, so that identities repeat; some without build or command.
fn spec(version: u32) -> Value {
    let source = json!({ "digest": format!("sha256:{:064}", 1), "build": { "command": ["make"] } });
    let mut spec = json!({
        "processes": { "web": { "command": ["serve"], "replicas": 1 + version / 4 } },
        "env": [
            { "name": "V", "value": (version / 5).to_string() },
            { "name": "PASSWORD", "valueFrom": { "secretKeyRef": { "name": "db", "key": "password" } } },
        ],
        "volumes": [{ "name": "data", "mountPath": "/data" }],
        "release": { "command": ["migrate"] },
    });
    match version {
        1 | 5 => spec["source"] = source,
        3 => spec["image"] = BROKEN_IMAGE.into(),
        // The same image: what succeeded for one is not run for the other.
        0 | 4 => spec["image"] = "shop:0".into(),
        _ => spec["image"] = format!("shop:{version}").into(),
    }
    if version == 1 {
        spec["processes"]["worker"] = json!({ "command": ["work"] });
    }
    if version == 2 {
        spec["release"] = Value::Null;
    }
    spec
}

async fn edit(sim: Sim, version: u32) -> Result<(), String> {
    let spec = spec((version + sim.pick(6)) % 6);
    let apps: Api<App> = Api::default_namespaced(sim.admin());
    let app = json!({ "apiVersion": "dodai.dev/v1alpha1", "kind": "App", "metadata": { "name": "shop" }, "spec": spec });
    let params = PatchParams::apply("person").force();
    apps.patch("shop", &params, &Patch::Apply(app)).await.map(drop).map_err(|error| error.to_string())
}

async fn retry(sim: Sim) -> Result<(), String> {
    let newest = sim
        .look(|world| world.all(RELEASES).max_by_key(|release| release["spec"]["number"].as_i64()).cloned());
    if let Some(newest) = newest {
        cluster::retry(&sim, &newest).await;
    }
    Ok(())
}

async fn change_secret(sim: Sim) -> Result<(), String> {
    let secrets: Api<Secret> = Api::default_namespaced(sim.admin());
    let patch = Patch::Merge(json!({ "stringData": { "password": format!("{MARKER}-new") } }));
    let patched = secrets.patch("db", &PatchParams::default(), &patch).await;
    patched.map(drop).map_err(|error| error.to_string())
}

/// Somebody scales, changes or deletes a Deployment.
async fn meddle(sim: Sim) -> Result<(), String> {
    let deployments: Api<Deployment> = Api::default_namespaced(sim.admin());
    let result = match sim.pick(3) {
        0 => {
            let patch = Patch::Merge(json!({ "spec": { "replicas": 7 } }));
            deployments.patch("shop-web", &PatchParams::default(), &patch).await.map(drop)
        }
        1 => {
            let containers = json!([{ "name": "web", "image": "somebody:else" }]);
            let patch =
                Patch::Strategic(json!({ "spec": { "template": { "spec": { "containers": containers } } } }));
            deployments.patch("shop-web", &PatchParams::default(), &patch).await.map(drop)
        }
        _ => deployments.delete("shop-web", &DeleteParams::default()).await.map(drop),
    };
    gone_is_fine(result)
}

async fn delete(sim: Sim) -> Result<(), String> {
    let apps: Api<App> = Api::default_namespaced(sim.admin());
    gone_is_fine(apps.delete("shop", &DeleteParams::background()).await.map(drop))
}

fn gone_is_fine(result: kube::Result<()>) -> Result<(), String> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map_err(|error| error.to_string()),
    }
}

fn has_role(object: &Value, role: &str) -> bool {
    object["metadata"]["labels"]["dodai.dev/role"] == role
}

fn owner(object: &Value) -> &Value {
    &object["metadata"]["ownerReferences"][0]["uid"]
}

fn phase(release: &Value) -> &str {
    release["status"]["phase"].as_str().unwrap_or("Pending")
}

impl Apps {
    /// One release command of an App, terminating ones included.
    fn one_command_at_a_time(&self, world: &World) -> Result<(), String> {
        let runs = |pod: &&Value| {
            has_role(pod, "release")
                && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        };
        let names: Vec<String> =
            world.all("pods").filter(runs).map(|pod| text(&pod["metadata"]["name"])).collect();
        match names.len() {
            0 | 1 => Ok(()),
            _ => Err(format!("two release commands at once: {}", names.join(", "))),
        }
    }

    /// A Job is the record of what it ran: none is made twice.
    fn job_is_made_once(&self, world: &World, job: &Value) -> Result<(), String> {
        // What a late request makes for a Release that has gone is collected again, and never gets a Pod.
        if !world.all(RELEASES).any(|release| release["metadata"]["uid"] == *owner(job)) {
            return Ok(());
        }
        let key = (text(&job["metadata"]["name"]), text(owner(job)));
        let mut seen = self.seen.lock().unwrap();
        let made = seen.jobs.entry(key.clone()).or_insert(0);
        *made += 1;
        if *made > 1 { Err(format!("the Job {} was made {made} times", key.0)) } else { Ok(()) }
    }

    fn app(&self, world: &World, app: &Value) -> Result<(), String> {
        let generation = app["metadata"]["generation"].as_i64().unwrap_or(1);
        let mut seen = self.seen.lock().unwrap();
        let wishes = generation + seen.secret_changes;
        seen.wishes.insert(text(&app["metadata"]["uid"]), wishes);
        let conditions = app["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready =
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let (current, target) = (&app["status"]["currentRelease"], &app["status"]["targetRelease"]);
        if is_ready && (current != target || !current.is_string()) {
            return Err(format!("the App is ready with {current}, but its target is {target}"));
        }
        let _ = world;
        Ok(())
    }

    fn release(&self, world: &World, before: Option<&Value>, release: &Value) -> Result<(), String> {
        let name = text(&release["metadata"]["name"]);
        let before = before.filter(|before| before["metadata"]["uid"] == release["metadata"]["uid"]);
        if let Some(before) = before {
            if before["spec"] != release["spec"] {
                return Err(format!("the spec of {name} changed"));
            }
            let done = |release: &Value| {
                let migration = &release["status"]["migration"];
                (migration["outcome"] == "Succeeded" || migration["outcome"] == "Skipped")
                    .then(|| migration["identity"].clone())
            };
            if done(before).is_some() && done(release) != done(before) {
                return Err(format!("{name} forgot that its command succeeded"));
            }
            return Ok(());
        }
        // Made anew: one for each wish, and never two for the same.
        let seen = self.seen.lock().unwrap();
        let number = release["spec"]["number"].as_i64().unwrap_or(0);
        let wishes = seen.wishes.get(&text(owner(release))).copied().unwrap_or(i64::MAX);
        if number > wishes.max(1).saturating_add(seen.secret_changes) {
            return Err(format!("{name} was made for {wishes} wishes"));
        }
        let twin = world.all(RELEASES).find(|other| {
            owner(other) == owner(release)
                && other["spec"]["number"].as_i64() == Some(number - 1)
                && other["spec"]["hash"] == release["spec"]["hash"]
        });
        match twin {
            Some(twin) => Err(format!("{name} says the same as {}", twin["metadata"]["name"])),
            None => Ok(()),
        }
    }
}

/// A command that runs is not ended for a newer Release.
fn command_is_not_killed(world: &World, before: &Value, after: &Value) -> Result<(), String> {
    let marked = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
    let is_over = matches!(before["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !has_role(after, "release") || marked(before) || !marked(after) || is_over {
        return Ok(());
    }
    let job = world.get(JOBS, "default", &text(&after["metadata"]["ownerReferences"][0]["name"]));
    let Some(job) = job.filter(|job| job["metadata"]["uid"] == *owner(after)) else { return Ok(()) };
    let release = world.all(RELEASES).find(|release| release["metadata"]["uid"] == *owner(job));
    match release {
        Some(release) => Err(format!(
            "{} was ended, and {} wants it",
            after["metadata"]["name"], release["metadata"]["name"]
        )),
        None => Ok(()),
    }
}

/// A success is in the Release's status before its Job goes.
fn success_is_written_down(world: &World, job: &Value) -> Result<(), String> {
    let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is_complete = conditions.iter().any(|condition| condition["type"] == "Complete");
    if !is_complete || !has_role(job, "release") {
        return Ok(());
    }
    let release = world.all(RELEASES).find(|release| release["metadata"]["uid"] == *owner(job));
    match release {
        Some(release) if release["status"]["migration"]["outcome"] != "Succeeded" => {
            Err(format!("{} went before its success was written down", job["metadata"]["name"]))
        }
        _ => Ok(()),
    }
}

/// Until its roll-out nothing of a Release is seen in a Deployment.
fn only_what_rolls_out(world: &World, before: Option<&Value>, after: &Value) -> Result<(), String> {
    let image = |deployment: &Value| text(&deployment["spec"]["template"]["spec"]["containers"][0]["image"]);
    let config =
        |deployment: &Value| text(&deployment["spec"]["template"]["metadata"]["labels"]["dodai.dev/config"]);
    if before.is_some_and(|before| config(before) == config(after)) {
        return Ok(());
    }
    // Some Release of this image has begun its roll-out at some time.
    let begun = |release: &&Value| {
        owner(release) == owner(after)
            && text(&release["spec"]["image"]) == image(after)
            && (release["status"]["entered"]["RollingOut"].is_string() || attempt(release) > 1)
    };
    if world.all(RELEASES).any(|release| begun(&release)) {
        return Ok(());
    }
    // What a stale reader makes for an App that has gone is collected again.
    let lives = world.all(APPS).any(|app| app["metadata"]["uid"] == *owner(after));
    if !lives {
        return Ok(());
    }
    Err(format!("{} got {} before its roll-out", after["metadata"]["name"], image(after)))
}

/// What is still missing until the App serves what its spec says.
fn serves(world: &World, app: &Value) -> Result<(), String> {
    let status = &app["status"];
    if status["phase"] != "Running" || status["observedGeneration"] != app["metadata"]["generation"] {
        return Err("the App does not run".to_owned());
    }
    let ready = status["conditions"].as_array().into_iter().flatten().find(|found| found["type"] == "Ready");
    if ready.is_none_or(|ready| ready["status"] != "True") {
        return Err("the App is not ready".to_owned());
    }
    let release = world.get(RELEASES, "default", &text(&status["currentRelease"]));
    let Some(release) = release else { return Err("the Release that serves is not there".to_owned()) };
    let image = &app["spec"]["image"];
    if release["spec"]["env"] != app["spec"]["env"] || image.is_string() && release["spec"]["image"] != *image
    {
        return Err("another spec is served".to_owned());
    }
    let active: Vec<&Value> = world.all(RELEASES).filter(|release| phase(release) == "Active").collect();
    if active.len() != 1 {
        return Err(format!("{} Releases are active", active.len()));
    }
    let processes: Vec<&String> = app["spec"]["processes"].as_object().unwrap().keys().collect();
    let deployments: Vec<&Value> = world.all(DEPLOYMENTS).collect();
    if deployments.len() != processes.len() {
        return Err(format!("{} Deployments for {} processes", deployments.len(), processes.len()));
    }
    for (process, deployment) in processes.into_iter().zip(deployments) {
        let containers = &deployment["spec"]["template"]["spec"]["containers"];
        let replicas = app["spec"]["processes"][process]["replicas"].as_i64().unwrap_or(1);
        if containers[0]["image"] != release["spec"]["image"]
            || deployment["spec"]["replicas"] != replicas
            || deployment["status"]["availableReplicas"] != replicas
        {
            return Err(format!("the Deployment of `{process}` is not what the App says"));
        }
    }
    let strangers = world
        .all(JOBS)
        .filter(|job| !world.all(RELEASES).any(|release| release["metadata"]["uid"] == *owner(job)));
    match strangers.count() {
        0 => Ok(()),
        n => Err(format!("{n} Jobs of nobody are left")),
    }
}

/// The scenario without a planted mistake.
pub(crate) fn shared() -> Arc<dyn Scenario> {
    Arc::new(Apps::default())
}
