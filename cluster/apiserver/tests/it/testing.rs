//! The testing module, used as strangers use it: a plain `kube` controller under simulation, and `TestEnv`.

use std::sync::Arc;
use std::time::Duration;

use dodai_apiserver::testing::{
    Change, Choices, Fault, Faults, Instance, Outcome, Scenario, Sim, Step, Suite, TestEnv, World,
    deletes_by_uid, run_once, warm_up,
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{CustomResource, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

dodai_apiserver::seeded_getrandom!();

const SECRETS: &str = "secrets";
const MAPS: &str = "configmaps";

/// A controller in plain kube-rs style: each Secret labelled `copy` gets a ConfigMap of its name.
async fn copies(client: kube::Client, forgets_uid: bool) {
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let labelled = watcher::Config::default().labels("copy");
    Controller::new(secrets, labelled)
        .owns(maps, watcher::Config::default())
        .run(
            move |secret: Arc<Secret>, client: Arc<kube::Client>| async move {
                let maps: Api<ConfigMap> = Api::default_namespaced(client.as_ref().clone());
                let name = secret.name_any();
                let wanted: Value =
                    secret.annotations().get("text").map_or(json!({}), |text| json!({ "text": text }));
                if secret.annotations().contains_key("gone") {
                    let uid = maps.get_opt(&name).await?.and_then(|map| map.uid());
                    let Some(uid) = uid else { return Ok(Action::await_change()) };
                    let params = match forgets_uid {
                        true => DeleteParams::default(),
                        false => DeleteParams::default().preconditions(kube::api::Preconditions {
                            uid: Some(uid),
                            resource_version: None,
                        }),
                    };
                    maps.delete(&name, &params).await?;
                    return Ok(Action::await_change());
                }
                let owner = secret.controller_owner_ref(&()).expect("a stored object has name and uid");
                let map = json!({ "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "name": name, "ownerReferences": [owner] }, "data": wanted });
                let params = PatchParams::apply("copies").force();
                let covered = maps.get_opt(&name).await?.is_some_and(|map| {
                    json!(map.data.unwrap_or_default()) == wanted
                        && map.metadata.owner_references.unwrap_or_default() == [owner.clone()]
                });
                if !covered {
                    maps.patch(&name, &params, &Patch::Apply(map)).await?;
                }
                Ok::<_, kube::Error>(Action::await_change())
            },
            |_, _, _| Action::requeue(Duration::from_secs(1)),
            Arc::new(client),
        )
        .for_each(|_| async {})
        .await;
}

/// The controller, two of them at once.
#[derive(Default)]
struct Copies {
    forgets_uid: bool,
}

fn secret(name: &str, text: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": name, "labels": { "copy": "yes" }, "annotations": { "text": text } } })
}

async fn put(sim: Sim, object: Value) -> Result<(), String> {
    let secrets: Api<Secret> = Api::default_namespaced(sim.admin());
    let params = PatchParams::apply("person").force();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    secrets.patch(&name, &params, &Patch::Apply(object)).await.map(drop).map_err(|error| error.to_string())
}

impl Scenario for Copies {
    fn start(&self, _: &Sim, client: kube::Client) -> Instance {
        Box::pin(copies(client, self.forgets_uid))
    }

    fn script(&self, _: &Sim) -> Vec<Step> {
        let mut steps = vec![
            Step::new("make a", |sim| put(sim, secret("a", "1"))),
            Step::new("make b", |sim| put(sim, secret("b", "1"))),
            Step::new("change a", |sim| put(sim, secret("a", "2"))),
        ];
        steps.push(Step::new("delete a", |sim| async move {
            let secrets: Api<Secret> = Api::default_namespaced(sim.admin());
            secrets.delete("a", &DeleteParams::default()).await.map(drop).map_err(|error| error.to_string())
        }));
        steps.push(Step::new("make a again", |sim| put(sim, secret("a", "3"))));
        steps.push(Step::new("b is not wanted", |sim| {
            let mut object = secret("b", "1");
            object["metadata"]["annotations"]["gone"] = "yes".into();
            put(sim, object)
        }));
        steps
    }

    fn call(&self, call: &dodai_apiserver::testing::Call) -> Result<(), String> {
        deletes_by_uid(call)
    }

    fn always(&self, change: &Change<'_>) -> Result<(), String> {
        let maps = change.after.all(MAPS).count();
        if maps > 2 { Err(format!("{maps} ConfigMaps for two Secrets")) } else { Ok(()) }
    }

    fn finally(&self, world: &World) -> Result<(), String> {
        if world.get(MAPS, "default", "b").is_some() {
            return Err("the ConfigMap b is still there".to_owned());
        }
        let map = world.get(MAPS, "default", "a").ok_or("the ConfigMap a is not there")?;
        let uid = &world.get(SECRETS, "default", "a").ok_or("the Secret a is not there")?["metadata"]["uid"];
        if map["data"]["text"] != "3" || map["metadata"]["ownerReferences"][0]["uid"] != *uid {
            return Err(format!("the ConfigMap a is {}", map["data"]));
        }
        Ok(())
    }
}

fn run(seed: u64, trace: bool) -> Outcome {
    run_once(Arc::new(Copies::default()), seed, Choices::of_seed(seed), trace)
}

/// Seeds of the proof that runs can be had again; `DODAI_SIM_RUNS=50` is the whole proof.
const PROOF_SEEDS: u64 = 12;
/// Tells a child process to print the hashes and nothing else.
const CHILD: &str = "DODAI_SIM_HASHES";

#[test]
fn a_run_is_the_same_in_every_thread_and_in_another_process() {
    let seeds =
        std::env::var("DODAI_SIM_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(PROOF_SEEDS);
    let hashes = move || -> Vec<u64> { (0..seeds).map(|seed| run(seed, false).trace_hash).collect() };
    warm_up(Arc::new(Copies::default()));
    if std::env::var_os(CHILD).is_some() {
        return println!("hashes {:?}", hashes());
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "it::testing::a_run_is_the_same_in_every_thread_and_in_another_process",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let second = std::thread::spawn(hashes);
    let first = hashes();
    assert_eq!(first, second.join().unwrap(), "two threads of one process differ");
    let printed = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(printed.contains(&format!("hashes {first:?}")), "another process differs: {printed}\n{first:?}");
    let distinct: std::collections::BTreeSet<&u64> = first.iter().collect();
    assert_eq!(distinct.len(), first.len(), "each seed is a run of its own");
}

#[test]
fn a_controller_that_keeps_its_rules_passes_and_one_that_breaks_one_is_found() {
    let summary = Suite::new("copies", Copies::default).seeds(12).every(37).check();
    assert!(summary.faults > 0 && summary.swept > 0 && summary.states > 10);
    let broken = Suite::new("copies", || Copies { forgets_uid: true }).seeds(20).sweep(false);
    let failure = broken.run().unwrap_err();
    assert!(failure.message.contains("a delete without the uid"), "{failure}");
    assert!(failure.picks.1 <= failure.picks.0, "{failure}");
}

/// A kind of a stranger.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(group = "example.dev", version = "v1", kind = "Greeting", namespaced)]
struct GreetingSpec {
    text: String,
}

#[tokio::test(start_paused = true)]
async fn an_environment_has_definitions_users_a_clock_and_readable_waits() {
    let folder = tempfile::tempdir().unwrap();
    let definition = serde_json::to_string(&<Greeting as kube::CustomResourceExt>::crd()).unwrap();
    std::fs::create_dir(folder.path().join("crds")).unwrap();
    std::fs::write(folder.path().join("crds/a.json"), definition).unwrap();
    std::fs::write(folder.path().join("crds/b.yaml"), "kind: ConfigMap\napiVersion: v1\n").unwrap();
    let env = TestEnv::builder()
        .crds_from(folder.path())
        .namespace("shop")
        .paused_clock("2030-05-01T10:00:00Z")
        .start()
        .await
        .unwrap();
    env.apply("apiVersion: example.dev/v1\nkind: Greeting\nmetadata: {name: hi}\nspec: {text: hello}\n")
        .await
        .unwrap();
    let greetings: Api<Greeting> = Api::default_namespaced(env.client());
    let hi = greetings.get("hi").await.unwrap();
    assert_eq!(hi.creation_timestamp().unwrap().0.to_string(), "2030-05-01T10:00:00Z");
    env.advance(Duration::from_secs(90)).await;
    assert_eq!(env.clock().now().to_string(), "2030-05-01T10:01:30Z");
    // Rights.
    let alice: Api<Greeting> = Api::namespaced(env.client_as("alice", &["team"]), "shop");
    assert!(alice.list(&ListParams::default()).await.is_err());
    env.allow("alice", &["list"], &["greetings.example.dev"], "shop").await.unwrap();
    assert!(alice.list(&ListParams::default()).await.unwrap().items.is_empty());
    // Waits say what was missed.
    env.nothing_is_written_for(Duration::from_secs(600)).await.unwrap();
    let waiting = env.await_that("pigs fly", || async { false });
    let writing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        greetings.delete("hi", &DeleteParams::default()).await.unwrap();
    };
    let (unmet, ()) = tokio::join!(waiting, writing);
    let text = unmet.unwrap_err().to_string();
    assert!(text.contains("pigs fly") && text.contains("greetings.example.dev hi deleted"), "{text}");
}

#[tokio::test]
async fn tasks_can_be_switched_off_and_many_environments_live_beside_each_other() {
    let envs = futures::future::join_all((0..20).map(|_| TestEnv::start())).await;
    for (number, env) in envs.iter().enumerate() {
        let maps: Api<ConfigMap> = Api::default_namespaced(env.as_ref().unwrap().client());
        let map = serde_json::from_value(json!({ "metadata": { "name": format!("m{number}") } })).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
        assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    }
    let builder = TestEnv::builder().garbage_collection(false).namespace_lifecycle(false).namespace("shop");
    let env = builder.start().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(env.client());
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    env.nothing_is_written_for(Duration::from_millis(200)).await.unwrap();
    let phase = namespaces.get("shop").await.unwrap().status.unwrap().phase;
    assert_eq!(phase.as_deref(), Some("Terminating"));
}

#[tokio::test(start_paused = true)]
async fn faults_come_as_ordered_or_by_chance_and_end() {
    let env = TestEnv::start().await.unwrap();
    let faults = Faults::seeded(3);
    let maps: Api<ConfigMap> = Api::default_namespaced(env.client_with(&faults));
    let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
    // Done, although the client does not learn of it.
    faults.next(Fault::DoneThenLost, |call| call.verb() == "create");
    assert!(maps.create(&PostParams::default(), &map).await.is_err());
    let seen = maps.get("a").await.unwrap();
    faults.next(Fault::Conflict, |call| call.is_write());
    let refused = maps.replace("a", &PostParams::default(), &seen).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.is_conflict()), "{refused}");
    maps.replace("a", &PostParams::default(), &seen).await.unwrap();
    let faults = faults.errors(0.5);
    let mut failed = 0;
    for _ in 0..100 {
        failed += usize::from(maps.get("a").await.is_err());
    }
    assert!((20..80).contains(&failed), "{failed} of 100");
    faults.stop();
    maps.get("a").await.unwrap();
    // A watch that breaks at every second event still brings everything, through kube's watcher.
    let faults = faults.broken_watches(0.5).late_watches(0.3, Duration::from_secs(5));
    let mut stream = std::pin::pin!(kube::runtime::WatchStreamExt::default_backoff(watcher(
        maps.clone(),
        watcher::Config::default()
    )));
    let plain: Api<ConfigMap> = Api::default_namespaced(env.client());
    let writer = async {
        for number in 0..30 {
            let patch = Patch::Merge(json!({ "data": { "n": number.to_string() } }));
            plain.patch("a", &PatchParams::default(), &patch).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let reader = async {
        loop {
            if let Ok(watcher::Event::Apply(map) | watcher::Event::InitApply(map)) =
                stream.next().await.unwrap()
                && map.data.is_some_and(|data| data["n"] == "29")
            {
                return;
            }
        }
    };
    let both = futures::future::join(writer, reader);
    tokio::time::timeout(Duration::from_secs(3600), both).await.unwrap();
    assert!(faults.met() > 5);
}

#[tokio::test]
async fn a_kubeconfig_lets_other_programs_in() {
    let env = TestEnv::builder().moved_clock("2030-01-01T00:00:00Z").start().await.unwrap();
    let text = env.kubeconfig().await.unwrap();
    assert_eq!(text, env.kubeconfig().await.unwrap(), "one listener is enough");
    let url = text.lines().find_map(|line| line.trim().strip_prefix("server: https://")).unwrap();
    tokio::net::TcpStream::connect(url).await.unwrap();
    env.advance(Duration::from_secs(60)).await;
    assert_eq!(env.clock().now().to_string(), "2030-01-01T00:01:00Z");
}
