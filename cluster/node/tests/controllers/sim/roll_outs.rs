//! Deployments and their ReplicaSets under simulation: what people do with one, what must hold after every write and in the
//! end.
//!
//! The bounds of a roll-out are those of the spec, and an instance cannot know everything at once. So this is the rule:
//! - `most`, `least` are the bounds of the specs of the last [`WINDOW`]: what is on its way may rest on an older one.
//! - A Pod that is made has room in its ReplicaSet, or is `late`: it had room when its instance last read the ReplicaSet, and
//!   somebody was faster since. Late Pods are counted by nobody's bound, and must be right by the first rule.
//! - A ready Pod is deleted by a controller only while enough stay ready. Each Pod that stopped being ready in the last
//!   [`WINDOW`] without a controller asking for it (it failed, a person deleted it) may be missing from that; and so may each
//!   that was taken over in that time, alone or with its ReplicaSet: nobody relied on it. Nor is it counted by `most`.
//!   And each that came to serve after its ReplicaSet's size had been decided from the Pods that were there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use dodai_apiserver::testing::{
    Call, Change, Instance, Scenario, Sim, Step, World, deletes_by_uid, describe, generation_goes_on,
};
use dodai_node::controllers::planted::{self, Bug};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::collecting;
use super::kubelet::{
    self, BROKEN_IMAGE, PODS, Wanted, by_uid, controller_uid, expect, image, is_marked, is_over, is_ready,
    name, text, uid,
};
use super::sets::{SETS, Sets};

const DEPLOYMENTS: &str = "deployments.apps";
/// How long what is on its way may rest on what was: a pause, and answers that come late.
pub(super) const WINDOW: Duration = Duration::from_secs(300);
/// Steps that a run may leave out.
const LESS_MAX: u32 = 12;
/// `revisionHistoryLimit`.
const HISTORY: usize = 1;

/// The scenario; one value is one run.
#[derive(Default)]
pub(crate) struct RollOuts {
    bug: Option<Bug>,
    wanted: Wanted,
    seen: Mutex<Seen>,
}

/// What invariants remember.
#[derive(Default)]
struct Seen {
    sets: Sets,
    /// By uid of the Deployment.
    deployments: BTreeMap<String, Record>,
    /// Uids of Pods whose deletion a controller asked for.
    asked: BTreeSet<String>,
    /// When Pods were taken over, alone or with their ReplicaSet, by uid.
    taken: BTreeMap<String, Instant>,
}

#[derive(Default)]
struct Record {
    /// The bounds so far, and when they ended to hold.
    bounds: Vec<(Bounds, Option<Instant>)>,
    /// When Pods stopped being ready by themselves.
    losses: Vec<Instant>,
    /// Ready Pods: of which ReplicaSet, and since when.
    ready: BTreeMap<String, (String, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    most: i64,
    least: i64,
}

impl Bounds {
    fn of(deployment: &Value) -> Bounds {
        let spec = &deployment["spec"];
        let number = |value: &Value| value.as_i64().unwrap_or(0);
        let replicas = number(&spec["replicas"]);
        let rolling = &spec["strategy"]["rollingUpdate"];
        match recreates(deployment) {
            true => Bounds { most: replicas, least: 0 },
            false => Bounds {
                most: replicas + number(&rolling["maxSurge"]),
                least: replicas - number(&rolling["maxUnavailable"]),
            },
        }
    }
}

fn recreates(deployment: &Value) -> bool {
    deployment["spec"]["strategy"]["type"] == "Recreate"
}

impl Record {
    fn within(since: Instant) -> bool {
        since.elapsed() <= WINDOW
    }

    fn bounds(&self) -> impl Iterator<Item = &Bounds> {
        let recent = self.bounds.iter().filter(|(_, until)| until.is_none_or(Record::within));
        recent.map(|(bounds, _)| bounds)
    }

    fn most(&self) -> i64 {
        self.bounds().map(|bounds| bounds.most).max().unwrap_or(0)
    }

    fn least(&self) -> i64 {
        let losses = self.losses.iter().filter(|at| Record::within(**at)).count() as i64;
        self.bounds().map(|bounds| bounds.least).min().unwrap_or(0) - losses
    }
}

impl RollOuts {
    pub(crate) fn with(bug: Bug) -> RollOuts {
        RollOuts { bug: Some(bug), ..RollOuts::default() }
    }
}

impl Scenario for RollOuts {
    fn set_up(&self, _: &Sim) -> BoxFuture<'static, Result<(), String>> {
        planted::plant(self.bug);
        collecting::begin();
        async { Ok(()) }.boxed()
    }

    fn start(&self, sim: &Sim, client: kube::Client) -> Instance {
        kubelet::run(sim, client, &["deployment", "replicaset"])
    }

    fn surroundings(&self, sim: &Sim) -> Instance {
        Box::pin(kubelet::play(sim.clone(), self.wanted.clone()))
    }

    /// Without faults the whole script; else a few of its steps, so that a run is short and there are many.
    fn script(&self, sim: &Sim) -> Vec<Step> {
        let with = |act: fn(Sim, Wanted) -> BoxFuture<'static, Result<(), String>>| {
            let wanted = self.wanted.clone();
            move |sim: Sim| act(sim, wanted.clone())
        };
        let mut steps = vec![
            Step::new("create the Deployment", with(|sim, wanted| create(sim, wanted).boxed())),
            Step::new("roll out", roll_out),
            Step::new("a Pod stops being ready", |sim| break_pod(sim, "Running")),
            Step::new("scale", scale),
            Step::new("roll out what is broken", |sim| set_image(sim, BROKEN_IMAGE.to_owned())),
            Step::new("scale in the middle of it", scale),
            Step::new("roll back", |sim| set_image(sim, "i:0".to_owned())),
            Step::new("pause", |sim| patch(sim, json!({ "paused": true }))),
            Step::new("roll out what is paused", roll_out),
            Step::new("resume", |sim| patch(sim, json!({ "paused": false }))),
            Step::new("a Pod fails", |sim| break_pod(sim, "Failed")),
            Step::new("delete a Pod", delete_pod),
            Step::new("change the labels of a Pod", relabel_pod),
            Step::new("delete a ReplicaSet", delete_set),
            Step::new("delete the Deployment", delete),
            Step::new("create it under the same name", with(|sim, wanted| create(sim, wanted).boxed())),
            Step::new("see that it runs", with(|sim, wanted| see_that_it_runs(sim, wanted).boxed())),
        ];
        let less = sim.pick(LESS_MAX);
        sim.leave_out(&mut steps, less + u32::from(less > 0) * 3, 1, 1);
        steps
    }

    fn call(&self, call: &Call) -> Result<(), String> {
        deletes_by_uid(call)?;
        collecting::call(call);
        let mut seen = self.seen.lock().unwrap();
        seen.sets.call(call);
        if call.verb() == "delete" {
            seen.asked.insert(text(&call.json()["preconditions"]["uid"]).to_owned());
        }
        Ok(())
    }

    fn always(&self, change: &Change<'_>) -> Result<(), String> {
        generation_goes_on(change)?;
        collecting::always(change)?;
        let mut seen = self.seen.lock().unwrap();
        let result = seen.always(change);
        seen.sets.look(change.after);
        result.map_err(|what| format!("{what}{}", describe(change.after, &[DEPLOYMENTS, SETS])))
    }

    fn finally(&self, world: &World) -> Result<(), String> {
        finally(world).map_err(|what| format!("{what}{}", describe(world, &[DEPLOYMENTS, SETS, PODS])))
    }
}

async fn create(sim: Sim, wanted: Wanted) -> Result<(), String> {
    let (surge, unavailable) = [(1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 2)][sim.pick(6) as usize];
    let strategy = match sim.pick(4) {
        1 => json!({ "type": "Recreate" }),
        _ => {
            json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
        }
    };
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "strategy": strategy,
            "revisionHistoryLimit": HISTORY,
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": format!("i:{}", sim.pick(2)) }] },
            },
        },
    });
    kubelet::make(&sim, &wanted, deployment).await;
    Ok(())
}

async fn see_that_it_runs(sim: Sim, wanted: Wanted) -> Result<(), String> {
    let there = sim.look(|world| world.get(DEPLOYMENTS, "default", "web").cloned());
    let Some(there) = there.filter(|there| !is_marked(there)) else { return create(sim, wanted).await };
    patch(sim.clone(), json!({ "paused": false })).await?;
    if image(&json!({ "spec": there["spec"]["template"]["spec"] })) == BROKEN_IMAGE {
        set_image(sim, "i:3".to_owned()).await?;
    }
    Ok(())
}

async fn patch(sim: Sim, spec: Value) -> Result<(), String> {
    let deployments: Api<Deployment> = Api::default_namespaced(sim.admin());
    let patch = Patch::Strategic(json!({ "spec": spec }));
    expect(&sim, deployments.patch("web", &PatchParams::default(), &patch).await);
    Ok(())
}

async fn set_image(sim: Sim, image: String) -> Result<(), String> {
    let containers = json!([{ "name": "c", "image": image }]);
    patch(sim, json!({ "template": { "spec": { "containers": containers } } })).await
}

async fn roll_out(sim: Sim) -> Result<(), String> {
    let image = format!("i:{}", 1 + sim.pick(3));
    set_image(sim, image).await
}

async fn scale(sim: Sim) -> Result<(), String> {
    let replicas = [4, 1, 2, 5, 0][sim.pick(5) as usize];
    patch(sim, json!({ "replicas": replicas })).await
}

fn any(sim: &Sim, resource: &str) -> Option<Value> {
    let all: Vec<Value> = sim.look(|world| world.all(resource).cloned().collect());
    (!all.is_empty()).then(|| all[sim.pick(all.len() as u32) as usize].clone())
}

/// A Pod that runs is not ready any more, or ends.
async fn break_pod(sim: Sim, phase: &str) -> Result<(), String> {
    let Some(pod) = any(&sim, PODS).filter(|pod| is_ready(pod) && !is_marked(pod)) else { return Ok(()) };
    let pods: Api<Pod> = Api::default_namespaced(sim.admin());
    kubelet::tell(&sim, &pods, &pod, phase, false, 1).await;
    Ok(())
}

async fn delete_pod(sim: Sim) -> Result<(), String> {
    let Some(pod) = any(&sim, PODS) else { return Ok(()) };
    collecting::delete(&sim, PODS, &pod, DeleteParams::default()).await;
    Ok(())
}

/// Its ReplicaSet loses it; or gets it back, if it had lost it.
async fn relabel_pod(sim: Sim) -> Result<(), String> {
    let Some(pod) = any(&sim, PODS) else { return Ok(()) };
    let pods: Api<Pod> = Api::default_namespaced(sim.admin());
    let label = if pod["metadata"]["labels"]["app"] == "web" { "elsewhere" } else { "web" };
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "app": label } } }));
    expect(&sim, pods.patch(name(&pod), &PatchParams::default(), &patch).await);
    Ok(())
}

/// One of the three ways to delete something.
pub(super) fn some_way(sim: &Sim) -> DeleteParams {
    match sim.pick(3) {
        0 => DeleteParams::background(),
        1 => DeleteParams::orphan(),
        _ => DeleteParams::foreground(),
    }
}

async fn delete_set(sim: Sim) -> Result<(), String> {
    let Some(set) = any(&sim, SETS) else { return Ok(()) };
    collecting::delete(&sim, SETS, &set, some_way(&sim)).await;
    Ok(())
}

async fn delete(sim: Sim) -> Result<(), String> {
    if let Some(deployment) = sim.look(|world| world.get(DEPLOYMENTS, "default", "web").cloned()) {
        collecting::delete(&sim, DEPLOYMENTS, &deployment, some_way(&sim)).await;
    }
    Ok(())
}

/// The Deployment that a Pod is of.
fn deployment_of<'a>(world: &'a World, pod: &Value) -> Option<&'a Value> {
    let set = by_uid(world, SETS, controller_uid(pod))?;
    by_uid(world, DEPLOYMENTS, controller_uid(set))
}

/// Pods of a Deployment that have not ended.
fn pods_of<'a>(world: &'a World, deployment: &Value) -> Vec<&'a Value> {
    let uid = uid(deployment);
    let of = |pod: &&Value| {
        !is_over(pod) && deployment_of(world, pod).is_some_and(|found| self::uid(found) == uid)
    };
    world.all(PODS).filter(of).collect()
}

/// Whether it happened to this one not long ago.
fn is_recent(times: &BTreeMap<String, Instant>, uid: &str) -> bool {
    times.get(uid).is_some_and(|at| Record::within(*at))
}

impl Seen {
    fn always(&mut self, change: &Change<'_>) -> Result<(), String> {
        let world = change.after;
        let (before, after) = (change.before.at(change.id), world.at(change.id));
        if let (DEPLOYMENTS, Some(deployment)) = (change.id.resource.as_str(), after) {
            self.remember(deployment);
        }
        if let (PODS | SETS, Some(before), Some(after)) = (change.id.resource.as_str(), before, after) {
            let (old, new) = (controller_uid(before), controller_uid(after));
            if uid(before) == uid(after) && !old.is_empty() && !new.is_empty() && old != new {
                return Err(format!("{} was taken from its owner by another", name(after)));
            }
            if old.is_empty() && !new.is_empty() {
                let pods = world.all(PODS).filter(|pod| controller_uid(pod) == uid(after));
                self.taken.extend(pods.chain([after]).map(|taken| (uid(taken).to_owned(), Instant::now())));
            }
        }
        if let (PODS, None, Some(pod)) = (change.id.resource.as_str(), before, after) {
            self.sets.made(pod)?;
            self.pod_is_made(world, pod)?;
        }
        match change.id.resource.as_str() {
            PODS | SETS | DEPLOYMENTS => self.enough_are_ready(world),
            _ => Ok(()),
        }
    }

    fn remember(&mut self, deployment: &Value) {
        let bounds = &mut self.deployments.entry(uid(deployment).to_owned()).or_default().bounds;
        let now = Bounds::of(deployment);
        match bounds.last_mut() {
            Some((last, _)) if *last == now => return,
            Some((_, until)) => *until = Some(Instant::now()),
            None => {}
        }
        bounds.push((now, None));
    }

    /// Never more than the surge allows, and with `Recreate` only one template at a time.
    fn pod_is_made(&self, world: &World, pod: &Value) -> Result<(), String> {
        let Some(deployment) = deployment_of(world, pod).filter(|_| !self.sets.is_late(pod)) else {
            return Ok(());
        };
        let Some(record) = self.deployments.get(uid(deployment)) else { return Ok(()) };
        let pods = pods_of(world, deployment).into_iter().filter(|pod| {
            self.sets.is_made(pod) && !self.sets.is_late(pod) && !is_recent(&self.taken, uid(pod))
        });
        let pods: Vec<&Value> = pods.collect();
        let active = pods.iter().filter(|pod| !is_marked(pod)).count() as i64;
        if active > record.most() {
            return Err(format!("{active} Pods are too many: {} may be", record.most()));
        }
        let other = pods.iter().find(|other| image(other) != image(pod));
        match other.filter(|_| recreates(deployment)) {
            Some(other) => Err(format!("{} is made while {} is there", image(pod), image(other))),
            None => Ok(()),
        }
    }

    fn enough_are_ready(&mut self, world: &World) -> Result<(), String> {
        for deployment in world.all(DEPLOYMENTS).filter(|deployment| !is_marked(deployment)) {
            let pods = pods_of(world, deployment).into_iter().filter(|pod| is_ready(pod) && !is_marked(pod));
            let record = self.deployments.entry(uid(deployment).to_owned()).or_default();
            let mut before = std::mem::take(&mut record.ready);
            for pod in pods {
                let since = before.remove(uid(pod));
                let since = since.unwrap_or_else(|| (controller_uid(pod).to_owned(), Instant::now()));
                record.ready.insert(uid(pod).to_owned(), since);
            }
            let mut deleted = false;
            for (lost, (set, since)) in &before {
                let is_news = self.sets.is_news(set, *since);
                let pod = by_uid(world, PODS, lost);
                if self.asked.contains(lost)
                    && pod.is_none_or(is_marked)
                    && !is_news
                    && !is_recent(&self.taken, lost)
                {
                    deleted = true;
                } else {
                    record.losses.push(Instant::now());
                }
            }
            let (ready, least) = (record.ready.len() as i64, record.least());
            if deleted && ready < least {
                return Err(format!("a ready Pod was deleted, and {ready} are not enough: {least} must be"));
            }
        }
        Ok(())
    }
}

/// What is still missing until the Deployment is what its spec says.
fn finally(world: &World) -> Result<(), String> {
    let there = world.get(DEPLOYMENTS, "default", "web").filter(|deployment| !is_marked(deployment));
    let Some(deployment) = there else { return Err("there is no Deployment".to_owned()) };
    let replicas = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let template = json!({ "spec": deployment["spec"]["template"]["spec"] });
    let pods = pods_of(world, deployment);
    let right = pods.iter().filter(|pod| image(pod) == image(&template) && is_ready(pod) && !is_marked(pod));
    if right.count() as i64 != replicas || pods.len() as i64 != replicas {
        return Err(format!("{} Pods, and {replicas} of the template are asked for", pods.len()));
    }
    let status = &deployment["status"];
    for count in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        if status[count].as_i64().unwrap_or(0) != replicas {
            return Err(format!("status.{count} is {}", status[count]));
        }
    }
    let condition = |type_: &str, field: &str, wanted: &str| {
        let all = status["conditions"].as_array();
        all.is_some_and(|all| all.iter().any(|found| found["type"] == type_ && found[field] == wanted))
    };
    if status["observedGeneration"] != deployment["metadata"]["generation"]
        || !condition("Available", "status", "True")
        || !condition("Progressing", "reason", "NewReplicaSetAvailable")
    {
        return Err("the status is not that of a roll-out that has ended".to_owned());
    }
    let sets: Vec<&Value> = world.all(SETS).collect();
    if sets.len() > 1 + HISTORY || sets.iter().any(|set| controller_uid(set) != uid(deployment)) {
        return Err(format!("{} ReplicaSets", sets.len()));
    }
    if let Some(marked) = world.all(PODS).chain(sets).find(|object| is_marked(object)) {
        return Err(format!("{} does not go", name(marked)));
    }
    collecting::finally(world)
}
