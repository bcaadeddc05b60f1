//! Both controllers, two instances at once without a lease of their own, with stale caches (each kind stale by itself) and
//! crashes after any write, while people edit, retry, delete and recreate the App, and Jobs and Pods succeed and fail.
//!
//! Always: one release command at a time, terminating ones included; each Job is made once; a command that succeeded never
//! runs again; Deployments only ever run what an `Active`, `RollingOut` or `RollingBack` Release asks for.
//! Finally: with faults off and good code, the App serves what its spec asks for, and nothing more is written.

use std::sync::Arc;

use dodai_apps::app::AppController;
use dodai_apps::release::ReleaseController;
use dodai_kit::{Controller, Kind, View};
use serde_json::{Value, json};

use super::world::{World, text};

/// Runs of the simulation in an ordinary test run; `DODAI_SIM_RUNS` asks for more, `DODAI_SIM_SEED` for one.
const RUNS: u64 = 20;
const STEPS: usize = 200;

#[test]
fn whatever_happens_a_command_runs_once_and_the_app_arrives() {
    let runs = std::env::var("DODAI_SIM_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(RUNS);
    let seeds = match std::env::var("DODAI_SIM_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..runs,
    };
    let (mut commands, mut releases) = (0, 0);
    for seed in seeds {
        fastrand::seed(seed);
        let mut sim = Sim::new();
        for step in 0..STEPS {
            sim.step();
            if let Err(broken) = sim.always() {
                panic!("seed {seed}, step {step}: {broken} (DODAI_SIM_SEED={seed} runs it again)");
            }
        }
        if let Err(broken) = sim.finally() {
            panic!("seed {seed}, at the end: {broken} (DODAI_SIM_SEED={seed} runs it again)");
        }
        commands += sim.succeeded.len();
        releases += sim.world.created.iter().filter(|(kind, ..)| kind == "Release").count();
    }
    println!("apps: {runs} runs, {releases} releases, {commands} release commands succeeded");
    assert!(
        commands > 0 && releases > commands,
        "the simulation must reach releases with and without a success"
    );
}

struct Sim {
    world: World,
    /// Owner App's uid and identity of each command that succeeded.
    succeeded: Vec<(String, String)>,
    version: u32,
    faults: bool,
}

impl Sim {
    fn new() -> Sim {
        let mut sim = Sim { world: World::default(), succeeded: Vec::new(), version: 0, faults: true };
        sim.world.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "dodai",
            "annotations": {"node.dodai.dev/interpreters": "[]"}}}));
        sim.create_app();
        sim
    }

    fn create_app(&mut self) {
        let spec = self.spec();
        self.world.create(json!({"apiVersion": "dodai.dev/v1alpha1", "kind": "App", "metadata": {"name": "shop"}, "spec": spec}));
    }

    /// A few versions that come again, so that identities repeat; some without build or command.
    fn spec(&mut self) -> Value {
        self.version = fastrand::u32(0..6);
        let source =
            json!({"digest": format!("sha256:{:064}", self.version / 2), "build": {"command": ["make"]}});
        let mut spec = json!({"processes": {"web": {"command": ["serve"], "replicas": fastrand::u32(1..3)}},
            "env": [{"name": "V", "value": (self.version / 3).to_string()}],
            "volumes": [{"name": "data", "mountPath": "/data"}]});
        match fastrand::bool() {
            true => spec["source"] = source,
            false => spec["image"] = format!("shop:{}", self.version).into(),
        }
        if self.version != 5 {
            spec["release"] = json!({"command": ["migrate"]});
        }
        if fastrand::u8(0..4) == 0 {
            spec["processes"]["worker"] = json!({"command": ["work"]});
        }
        spec
    }

    fn step(&mut self) {
        self.world.seconds += fastrand::i64(0..3);
        match fastrand::u8(0..100) {
            0..35 => self.reconcile_releases(),
            35..50 => self.reconcile::<AppController>("App", "shop"),
            50..65 => self.jobs(),
            65..78 => self.pods(),
            78..92 => self.deployments(),
            92..96 => {
                let spec = self.spec();
                self.world.edit("App", "shop", |app| app["spec"] = spec);
            }
            96..98 => self.retry(),
            98 => match fastrand::bool() {
                true => self.world.delete("App", "shop"),
                false => self.create_app(),
            },
            _ => self.world.collect(),
        }
    }

    fn reconcile_releases(&mut self) {
        let names: Vec<String> =
            self.world.all("Release").iter().map(|release| text(&release["metadata"]["name"])).collect();
        if let Some(name) = fastrand::choice(names) {
            self.reconcile::<ReleaseController>("Release", &name);
        }
    }

    /// One pass, perhaps with a stale view, perhaps killed after some writes.
    fn reconcile<C: Controller>(&mut self, kind: &str, name: &str) {
        let objects = self.world.view(self.faults && fastrand::u8(0..3) == 0);
        let Some(seen) = objects
            .values
            .iter()
            .find(|value| value["kind"] == kind && value["metadata"]["name"] == name)
            .cloned()
        else {
            return;
        };
        let object: Arc<C::Kind> = Arc::new(typed(&seen));
        let plan = C::plan(&C::observe(&View::of_objects(objects), &object));
        let most = if self.faults && fastrand::u8(0..5) == 0 { fastrand::usize(0..3) } else { usize::MAX };
        self.world.execute(&seen, &plan, most);
    }

    fn retry(&mut self) {
        for release in self.world.all("Release") {
            let asked = release["status"]["attempt"].as_u64().unwrap_or(1).to_string();
            self.world.edit("Release", &text(&release["metadata"]["name"]), |release| {
                release["metadata"]["annotations"]["dodai.dev/retry"] = asked.into();
            });
        }
    }

    /// The Job controller: one Pod each, and the Pod's end is the Job's.
    fn jobs(&mut self) {
        let Some(job) = fastrand::choice(self.world.all("Job")) else { return };
        let name = text(&job["metadata"]["name"]);
        let pod_name = format!("{name}-0");
        match self.world.get("Pod", &pod_name).map(|pod| text(&pod["status"]["phase"])).as_deref() {
            None if job["status"]["conditions"].is_null() => {
                let started = !job["status"]["started"].is_null();
                if started {
                    // The Pod vanished: nobody knows whether it succeeded.
                    return self.end_job(&name, "Failed");
                }
                self.world.edit("Job", &name, |job| job["status"]["started"] = true.into());
                self.world.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod_name,
                    "labels": job["spec"]["template"]["metadata"]["labels"],
                    "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name,
                        "uid": job["metadata"]["uid"], "controller": true}]},
                    "spec": job["spec"]["template"]["spec"], "status": {"phase": "Running"}}));
            }
            Some("Succeeded") => self.end_job(&name, "Complete"),
            Some("Failed") => self.end_job(&name, "Failed"),
            _ => {}
        }
    }

    fn end_job(&mut self, name: &str, condition: &str) {
        let now = self.world.now().to_string();
        self.world.edit("Job", name, |job| {
            if job["status"]["conditions"].is_null() {
                job["status"]["conditions"] =
                    json!([{"type": condition, "status": "True", "lastTransitionTime": now}]);
            }
        });
    }

    /// Pods of Jobs end; terminating ones go.
    fn pods(&mut self) {
        let Some(pod) = fastrand::choice(self.world.all("Pod")) else { return };
        let name = text(&pod["metadata"]["name"]);
        if pod["status"]["phase"] != "Running" {
            return;
        }
        let succeeds = !self.faults || fastrand::u8(0..4) > 0;
        if succeeds && pod["metadata"]["labels"]["dodai.dev/role"] == "release" {
            self.record_success(&pod);
        }
        let now = self.world.now().to_string();
        let code = i32::from(!succeeds);
        self.world.edit("Pod", &name, |pod| {
            pod["status"] = json!({"phase": if succeeds { "Succeeded" } else { "Failed" }, "containerStatuses": [{
                "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "reason": "Error", "message": "last line\n", "finishedAt": now}}}]});
        });
        if pod["metadata"]["deletionTimestamp"].is_string() {
            self.world.delete("Pod", &name);
        }
    }

    fn record_success(&mut self, pod: &Value) {
        let release = text(&pod["metadata"]["labels"]["dodai.dev/release"]);
        let job = text(&pod["metadata"]["ownerReferences"][0]["name"]);
        let Some(release) = self.world.get("Release", &release) else { return };
        // A Pod of a Release that is gone may have another's name.
        if self
            .world
            .get("Job", &job)
            .is_none_or(|job| job["metadata"]["ownerReferences"][0]["uid"] != release["metadata"]["uid"])
        {
            return;
        }
        let app = text(&release["metadata"]["ownerReferences"][0]["uid"]);
        self.succeeded.push((app, text(&release["spec"]["commandIdentity"])));
    }

    /// The Deployment controller: observes, then all Pods are new, or one of them fails.
    fn deployments(&mut self) {
        let Some(deployment) = fastrand::choice(self.world.all("Deployment")) else { return };
        let name = text(&deployment["metadata"]["name"]);
        let replicas = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
        let fails = self.faults && fastrand::u8(0..6) == 0;
        let generation = deployment["metadata"]["generation"].clone();
        self.world.edit("Deployment", &name, |deployment| {
            deployment["status"] = json!({"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                "availableReplicas": if fails { 0 } else { replicas }});
            if fails {
                deployment["status"]["conditions"] = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
            }
        });
    }

    fn always(&self) -> Result<(), String> {
        let live = self.world.all("Pod").into_iter().filter(|pod| {
            pod["metadata"]["labels"]["dodai.dev/role"] == "release" && pod["status"]["phase"] == "Running"
        });
        let live: Vec<String> = live.map(|pod| text(&pod["metadata"]["name"])).collect();
        if live.len() > 1 {
            return Err(format!("two release commands at once: {live:?}"));
        }
        let mut jobs: Vec<_> = self.world.created.iter().filter(|(kind, ..)| kind == "Job").collect();
        jobs.sort();
        if let Some(twice) = jobs.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("the Job {:?} was made twice", twice[0]));
        }
        let mut succeeded = self.succeeded.clone();
        succeeded.sort();
        if let Some(twice) = succeeded.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("a command that succeeded ran again: {:?}", twice[0]));
        }
        Ok(())
    }

    /// Faults off: the newest spec must come to serve, then nothing more may be written.
    fn finally(&mut self) -> Result<(), String> {
        const PASSES_MAX: usize = 400;
        self.faults = false;
        self.create_app();
        // A failed release waits for a person.
        for _ in 0..PASSES_MAX {
            self.world.collect();
            let before = self.world.objects.clone();
            self.reconcile::<AppController>("App", "shop");
            let names: Vec<String> =
                self.world.all("Release").iter().map(|release| text(&release["metadata"]["name"])).collect();
            for name in names {
                self.reconcile::<ReleaseController>("Release", &name);
            }
            if before == self.world.objects {
                if self.is_served() {
                    return Ok(());
                }
                self.retry_failed();
            }
            for _ in 0..20 {
                self.jobs();
                self.pods();
            }
            for _ in 0..4 {
                self.settle_deployments();
            }
        }
        let app = self.world.get("App", "shop").map(|app| app["status"].to_string());
        let releases: Vec<String> = self
            .world
            .all("Release")
            .iter()
            .map(|release| format!("{} {}", release["metadata"]["name"], release["status"]))
            .collect();
        let pods = self.world.all("Pod");
        Err(format!(
            "the App does not arrive: {app:?}\n{}\nlease {:?}\npods {pods:?}",
            releases.join("\n"),
            self.world.get("Lease", "shop-release")
        ))
    }

    /// As [`Sim::deployments`], for all that are not where they should be.
    fn settle_deployments(&mut self) {
        for deployment in self.world.all("Deployment") {
            let replicas = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
            let status = json!({"observedGeneration": deployment["metadata"]["generation"], "replicas": replicas,
                "updatedReplicas": replicas, "availableReplicas": replicas});
            if deployment["status"] != status {
                self.world.edit("Deployment", &text(&deployment["metadata"]["name"]), |deployment| {
                    deployment["status"] = status
                });
            }
        }
    }

    fn retry_failed(&mut self) {
        let Some(newest) =
            self.world.all("Release").into_iter().max_by_key(|release| release["spec"]["number"].as_i64())
        else {
            return;
        };
        if newest["status"]["phase"] == "Failed" {
            let asked = newest["status"]["attempt"].as_u64().unwrap_or(1).to_string();
            self.world.edit("Release", &text(&newest["metadata"]["name"]), |release| {
                release["metadata"]["annotations"]["dodai.dev/retry"] = asked.into();
            });
        }
    }

    fn is_served(&self) -> bool {
        self.world.get("App", "shop").is_some_and(|app| app["status"]["phase"] == "Running")
    }
}

fn typed<K: Kind>(value: &Value) -> K {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{}: {error}: {value}", K::kind(&())))
}
