//! Every engine of this binary on one API server, on a paused clock, killed one after the other while all have work.

use std::collections::BTreeSet;
use std::time::Duration;

use dodai_api::App;
use dodai_apiserver::{ApiServer, Config, User};
use dodai_secrets::seal::Keyring;
use dodai_secrets::seal::keyring::parse_identities;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ComponentStatus, ConfigMap, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{install_crds, install_policies, start_engines};

/// Rounds of the load; in each every engine gets something to do.
const ROUNDS: usize = 3;

/// What each engine makes of what it is given, `n` at a time.
struct World {
    client: Client,
    sealed: serde_json::Value,
}

impl World {
    async fn create<K>(&self, object: serde_json::Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), "default");
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    /// Work for every engine.
    async fn work(&self, n: usize) {
        let containers = json!([{ "name": "c", "image": "example.com/x:1" }]);
        self.create::<Deployment>(json!({ "metadata": { "name": format!("d{n}") }, "spec": {
            "replicas": 0, "selector": { "matchLabels": { "n": n.to_string() } },
            "template": { "metadata": { "labels": { "n": n.to_string() } }, "spec": { "containers": containers } } } }))
            .await;
        self.create::<App>(json!({ "apiVersion": "dodai.dev/v1alpha1", "kind": "App",
            "metadata": { "name": format!("a{n}") },
            "spec": { "image": format!("dodai.local/build@sha256:{n:064x}"), "processes": { "web": { "command": ["true"] } } } }))
            .await;
        // Sealed for every name of its namespace, so that one file gives many objects.
        let mut sealed = self.sealed.clone();
        sealed["metadata"]["name"] = format!("s{n}").into();
        let api: Api<kube::api::DynamicObject> =
            Api::namespaced_with(self.client.clone(), "default", &resource("EncryptedSecret"));
        api.create(&PostParams::default(), &serde_json::from_value(sealed).unwrap()).await.unwrap();
    }

    async fn names<K>(&self, prefix: &str) -> BTreeSet<String>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), "default");
        let list = api.list(&ListParams::default()).await.unwrap();
        list.iter().map(ResourceExt::name_any).filter(|name| name.starts_with(prefix)).collect()
    }

    /// How far each engine has come: node, apps, secrets.
    async fn done(&self) -> [(&'static str, usize); 3] {
        let releases: Api<dodai_api::Release> = Api::namespaced(self.client.clone(), "default");
        let releases = releases.list(&ListParams::default()).await.unwrap().items.len();
        [
            ("workloads", self.names::<ReplicaSet>("d").await.len()),
            ("apps", releases),
            ("secrets", self.names::<Secret>("s").await.len()),
        ]
    }

    /// Waits, at most ten minutes of the paused clock.
    async fn until(&self, what: &str, wanted: impl Fn(&[(&'static str, usize); 3]) -> bool) {
        let look = async {
            while !wanted(&self.done().await) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(600), look).await.is_err() {
            panic!("never: {what}; {:?}", self.done().await);
        }
    }
}

fn resource(kind: &str) -> kube::core::ApiResource {
    kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("dodai.dev", "v1alpha1", kind))
}

fn example(name: &str) -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/shop").join(name);
    std::fs::read_to_string(file).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_engine_is_killed_in_turn_under_load_and_the_others_do_not_notice() {
    let server = ApiServer::open(Config::default()).await.unwrap();
    let client = server.client(User::admin("test"));
    install_crds(&client).await.unwrap();
    install_policies(&client).await.unwrap();
    let keyring = Keyring::of(parse_identities(&example("demo-identity.txt")).unwrap());
    let sealed = sealed_for_the_namespace(&keyring);
    let supervisor = start_engines(&server, keyring);
    let world = World { client: client.clone(), sealed };
    let mut given = 0;
    let mut kills = 0;
    for _ in 0..ROUNDS {
        for victim in ["workloads", "apps", "secrets"] {
            world.work(given).await;
            given += 1;
            tokio::time::sleep(Duration::from_millis(7 * (given as u64 % 5))).await;
            assert!(supervisor.kill(victim) > 0, "nothing of `{victim}` runs");
            kills += 1;
            world.work(given).await;
            given += 1;
            // While it is down, the others do what there is.
            world
                .until(&format!("the others work while `{victim}` is down"), |done| {
                    done.iter().all(|(engine, n)| *engine == victim || *n == given)
                })
                .await;
            world.until("it has caught up", |done| done.iter().all(|(_, n)| *n == given)).await;
            assert_eq!(unhealthy(&client).await, Vec::<String>::new());
        }
    }
    for one in supervisor.health().controllers() {
        let of_engine = supervisor.health().controllers().iter().filter(|o| o.engine == one.engine).count();
        assert!(of_engine > 0 && one.restarts == (kills / 3) as u64, "killed by others' end: {one:?}");
    }
    assert_eq!(world.names::<ConfigMap>("s").await.len(), 0);
    assert!(supervisor.stop(Duration::from_secs(10)).await.is_empty());
}

/// The engines that the API lists as not healthy.
async fn unhealthy(client: &Client) -> Vec<String> {
    let api: Api<ComponentStatus> = Api::all(client.clone());
    let list = api.list(&ListParams::default()).await.unwrap();
    let ours: Vec<&ComponentStatus> =
        list.items.iter().filter(|one| one.name_any().starts_with("dodai-")).collect();
    assert_eq!(ours.len(), 3, "{list:?}");
    let bad = ours.iter().filter(|one| one.conditions.iter().flatten().any(|c| c.status != "True"));
    bad.map(|one| format!("{one:?}")).collect()
}

fn sealed_for_the_namespace(keyring: &Keyring) -> serde_json::Value {
    use dodai_secrets::file::back::{Sealing, back};
    let recipients: Vec<_> =
        keyring.recipients().iter().map(|one| dodai_secrets::seal::Recipient::parse(one).unwrap()).collect();
    let plain = "apiVersion: dodai.dev/v1alpha1\nkind: EncryptedSecret\nmetadata: {name: s, namespace: default}\n\
                 spec:\n  scope: namespace\n  data:\n    KEY: some value\n";
    let sealing = Sealing { keyring, recipients: &recipients, now_s: 1 };
    let sealed = back(None, plain, &sealing).unwrap();
    dodai_yaml::from_str_json(&sealed).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_is_told_by_the_api_with_its_reason() {
    let server = ApiServer::open(Config::default()).await.unwrap();
    let client = server.client(User::admin("test"));
    install_crds(&client).await.unwrap();
    let supervisor = start_engines(&server, Keyring::default());
    // Only what has begun can be killed.
    while supervisor.kill("apps") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let lines = crate::components::troubles(&client).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("! engine apps: controller ") && lines[0].contains("was cut off"),
        "{lines:?}"
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(crate::components::troubles(&client).await, Vec::<String>::new());
    let api: Api<ComponentStatus> = Api::all(client.clone());
    let apps = api.get("dodai-apps").await.unwrap();
    let told = apps.conditions.unwrap()[0].message.clone().unwrap();
    assert!(told.contains("was started again 1 times"), "{told}");
    let params = PatchParams::default();
    let refused = api.patch("dodai-apps", &params, &Patch::Merge(&json!({}))).await;
    assert!(refused.is_err(), "the list is read-only");
}
