//! Garbage collection under simulation: owners that go in each of the three ways, dependents with two owners, chains, and
//! owners made anew under the same name, beside ReplicaSets and Jobs whose controllers make dependents all the while.

use std::sync::Mutex;
use std::time::Duration;

use dodai_apiserver::testing::{
    Call, Change, Instance, Scenario, Sim, Step, World, deletes_by_uid, describe, generation_goes_on,
};
use dodai_node::controllers::planted;
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::collecting;
use super::kubelet::{self, JOBS, PODS, Wanted, expect, is_marked, name, uid};
use super::roll_outs::some_way;
use super::sets::{SETS, Sets};

const MAPS: &str = "configmaps";
/// Steps that a run may leave out.
const LESS_MAX: u32 = 9;

/// A mistake of a collector beside the real one, for the proof that it would be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It collects what has lost one of its owners.
    Early,
    /// It takes the references to owners that live.
    SetsFree,
    /// It holds what should go.
    Holds,
    /// It lets owners go before their dependents.
    Unblocks,
}

/// The scenario; one value is one run.
#[derive(Default)]
pub(crate) struct Garbage {
    wrong: Option<Wrong>,
    wanted: Wanted,
    sets: Mutex<Sets>,
}

impl Garbage {
    pub(crate) fn with(wrong: Wrong) -> Garbage {
        Garbage { wrong: Some(wrong), ..Garbage::default() }
    }
}

impl Scenario for Garbage {
    fn set_up(&self, _: &Sim) -> BoxFuture<'static, Result<(), String>> {
        planted::plant(None);
        collecting::begin();
        async { Ok(()) }.boxed()
    }

    fn start(&self, sim: &Sim, client: kube::Client) -> Instance {
        kubelet::run(sim, client, &["replicaset", "job", "job-orphan-pod"])
    }

    fn surroundings(&self, sim: &Sim) -> Instance {
        let (sim, wanted, wrong) = (sim.clone(), self.wanted.clone(), self.wrong);
        Box::pin(async move {
            let play = kubelet::play(sim.clone(), wanted);
            futures::future::join(play, collect_wrongly(sim, wrong)).await;
        })
    }

    /// Without faults the whole script; else a few of its steps, so that a run is short and there are many.
    fn script(&self, sim: &Sim) -> Vec<Step> {
        let make = |what: fn(&World) -> Vec<Value>| {
            let wanted = self.wanted.clone();
            move |sim: Sim| make(sim, wanted.clone(), what)
        };
        let mut steps = vec![
            Step::new("make owners", make(|_| vec![map("a", &[]), map("b", &[])])),
            Step::new("make dependents", make(dependents)),
            Step::new("make a ReplicaSet and a Job", make(workloads)),
            Step::new("give a Pod a second owner", second_owner),
            Step::new("delete an owner", delete_owner),
            Step::new("make it again", make(|_| vec![map("a", &[])])),
            Step::new("make dependents of the new one", make(later_dependents)),
            Step::new("delete the ReplicaSet", |sim| delete(sim, SETS)),
            Step::new("delete the Job", |sim| delete(sim, JOBS)),
            Step::new("make them again", make(workloads)),
            Step::new("delete another owner", delete_owner),
            Step::new("give another Pod a second owner", second_owner),
            Step::new("delete the ReplicaSet again", |sim| delete(sim, SETS)),
            Step::new("delete a third owner", delete_owner),
        ];
        // The first two stay: without them nothing happens.
        sim.leave_out(&mut steps, sim.pick(LESS_MAX), 2, 0);
        steps
    }

    fn call(&self, call: &Call) -> Result<(), String> {
        deletes_by_uid(call)?;
        collecting::call(call);
        self.sets.lock().unwrap().call(call);
        Ok(())
    }

    fn always(&self, change: &Change<'_>) -> Result<(), String> {
        generation_goes_on(change)?;
        collecting::always(change)?;
        let mut sets = self.sets.lock().unwrap();
        let made =
            match (change.id.resource.as_str(), change.before.at(change.id), change.after.at(change.id)) {
                (PODS, None, Some(pod)) => sets.made(pod),
                _ => Ok(()),
            };
        sets.look(change.after);
        made
    }

    fn finally(&self, world: &World) -> Result<(), String> {
        collecting::finally(world)?;
        let resources = [MAPS, PODS, SETS, JOBS];
        let held = resources.iter().flat_map(|resource| world.all(resource)).find(|object| is_marked(object));
        match held {
            Some(held) => Err(format!("{} does not go{}", name(held), describe(world, &[PODS]))),
            None => Ok(()),
        }
    }
}

fn map(name: &str, owners: &[Option<Value>]) -> Value {
    let owners: Vec<&Value> = owners.iter().flatten().collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "ownerReferences": owners },
    })
}

/// A reference to an object as it is now, if it is there.
fn owner(world: &World, resource: &str, named: &str, blocks: bool) -> Option<Value> {
    let found = world.get(resource, "default", named)?;
    let (version, kind) = kubelet::kind(resource);
    Some(json!({
        "apiVersion": version, "kind": kind, "name": named, "uid": uid(found),
        "blockOwnerDeletion": blocks,
    }))
}

fn dependents(world: &World) -> Vec<Value> {
    let of = |named: &str, blocks| owner(world, MAPS, named, blocks);
    vec![
        map("of-a", &[of("a", true)]),
        map("of-both", &[of("a", true), of("b", true)]),
        map("of-b", &[of("b", false)]),
    ]
}

/// A chain, and one whose owner has a name that is there and a uid that is not.
fn later_dependents(world: &World) -> Vec<Value> {
    let of = |named: &str, blocks| owner(world, MAPS, named, blocks);
    let mut of_nobody = of("a", false);
    if let Some(reference) = &mut of_nobody {
        reference["uid"] = "00000000-0000-4000-8000-000000000000".into();
    }
    vec![
        map("of-a-again", &[of("a", true)]),
        map("of-of-both", &[of("of-both", true)]),
        map("of-nobody", &[of_nobody]),
        map("of-both-again", &[of("a", false), of("b", false)]),
    ]
}

fn workloads(_: &World) -> Vec<Value> {
    let template = |name: &str, restart: &str| {
        let spec = json!({ "restartPolicy": restart, "containers": [{ "name": "c", "image": "i" }] });
        json!({ "metadata": { "labels": { "app": name } }, "spec": spec })
    };
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": "set" },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": { "app": "set" } }, "template": template("set", "Always"),
        },
    });
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "job" },
        "spec": { "completions": 2, "parallelism": 2, "template": template("job", "Never") },
    });
    vec![set, job]
}

async fn make(sim: Sim, wanted: Wanted, what: fn(&World) -> Vec<Value>) -> Result<(), String> {
    for object in sim.look(what) {
        // Of one that should have owners and has none to name, nothing is to be seen.
        if sim.look(|world| world.get(MAPS, "default", name(&object)).is_none()) {
            kubelet::make(&sim, &wanted, object).await;
        }
    }
    Ok(())
}

fn any(sim: &Sim, resource: &str, which: impl Fn(&Value) -> bool) -> Option<Value> {
    let all: Vec<Value> =
        sim.look(|world| world.all(resource).filter(|object| which(object)).cloned().collect());
    (!all.is_empty()).then(|| all[sim.pick(all.len() as u32) as usize].clone())
}

async fn second_owner(sim: Sim) -> Result<(), String> {
    let named = if sim.pick(2) == 0 { "b" } else { "a" };
    let second = sim.look(|world| owner(world, MAPS, named, false));
    let (Some(pod), Some(second)) = (any(&sim, PODS, |pod| !is_marked(pod)), second) else { return Ok(()) };
    let mut owners = pod["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    owners.push(second);
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(sim.admin());
    let meta = &pod["metadata"];
    let patch = json!({ "metadata": {
        "uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "ownerReferences": owners,
    } });
    expect(&sim, pods.patch(name(&pod), &PatchParams::default(), &Patch::Merge(patch)).await);
    Ok(())
}

async fn delete_owner(sim: Sim) -> Result<(), String> {
    let owners = ["a", "b", "of-both"];
    if let Some(map) = any(&sim, MAPS, |map| owners.contains(&name(map)) && !is_marked(map)) {
        collecting::delete(&sim, MAPS, &map, some_way(&sim)).await;
    }
    Ok(())
}

async fn delete(sim: Sim, resource: &str) -> Result<(), String> {
    if let Some(object) = any(&sim, resource, |object| !is_marked(object)) {
        let way = some_way(&sim);
        collecting::delete(&sim, resource, &object, way).await;
    }
    Ok(())
}

/// A collector that makes one mistake, again and again.
async fn collect_wrongly(sim: Sim, wrong: Option<Wrong>) {
    let Some(wrong) = wrong else { return };
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for resource in [MAPS, SETS] {
            let all: Vec<Value> = sim.look(|world| world.all(resource).cloned().collect());
            for object in &all {
                collect_one_wrongly(&sim, wrong, resource, object).await;
            }
        }
    }
}

async fn collect_one_wrongly(sim: &Sim, wrong: Wrong, resource: &str, object: &Value) {
    let api = kubelet::api(sim, resource);
    let is_owned = object["metadata"]["ownerReferences"].is_array();
    let change = match wrong {
        Wrong::Early => {
            let lost_one = sim.look(|world| world.get(MAPS, "default", "a").is_none());
            if lost_one && ["of-both", "of-both-again"].contains(&name(object)) {
                let _ = api.delete(name(object), &DeleteParams::background()).await;
            }
            return;
        }
        Wrong::SetsFree if is_owned => json!({ "ownerReferences": null }),
        Wrong::Holds if is_owned && !is_marked(object) => json!({ "finalizers": ["example.com/held"] }),
        Wrong::Unblocks if kubelet::has_finalizer(object, "foregroundDeletion") => {
            json!({ "finalizers": null })
        }
        _ => return,
    };
    // Whatever comes of it: the collector itself is at work, too.
    let patch = Patch::Merge(json!({ "metadata": change }));
    let _ = api.patch(name(object), &PatchParams::default(), &patch).await;
}
