//! The engine on the in-process API server, and a marker that must be found nowhere but in the Secret.

use std::sync::Arc;
use std::time::Duration;

use dodai_api::EncryptedSecret;
use dodai_apiserver::{ApiServer, Config, User};
use dodai_kit::{Clock, Context};
use dodai_secrets::file::{change, keys};
use dodai_secrets::seal::Keyring;
use k8s_openapi::api::core::v1::{Event, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::{file_with, person, sealing};

/// How long a condition may take to come true before the test fails; nothing waits this long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) client: Client,
    stop: watch::Sender<bool>,
    _running: JoinSet<()>,
}

impl Cluster {
    pub(crate) async fn start(keyring: Keyring) -> Cluster {
        let server = ApiServer::open(Config::default()).await.unwrap();
        let client = server.client(User::admin("test"));
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in dodai_api::crds::all() {
            crds.patch(&crd.name_any(), &PatchParams::apply("test").force(), &Patch::Apply(&crd))
                .await
                .unwrap();
        }
        let mut context = Context::new(client.clone(), Clock::system());
        context.outside = context.outside.with(Arc::new(keyring));
        let stop = watch::channel(false).0;
        let mut running = JoinSet::new();
        for (_, run) in dodai_secrets::engine().controllers {
            running.spawn(run(context.clone(), stop.subscribe()));
        }
        Cluster { client, stop, _running: running }
    }

    pub(crate) async fn apply(&self, text: &str) {
        let value = dodai_yaml::from_str_json(text).unwrap();
        let api: Api<EncryptedSecret> = Api::namespaced(self.client.clone(), "default");
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&value)).await.unwrap();
    }

    /// Waits until the object of this name is as it should be.
    pub(crate) async fn until<K>(
        &self,
        name: &str,
        what: &str,
        fits: impl Fn(Option<&K>) -> bool,
    ) -> Option<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), "default");
        let waiting = async {
            loop {
                let found = api.get_opt(name).await.unwrap();
                if fits(found.as_ref()) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("not within {PATIENCE:?}: {what}"),
        }
    }

    async fn reason(&self, wanted: &str) -> EncryptedSecret {
        let fits = |object: Option<&EncryptedSecret>| {
            let status = object.and_then(|object| object.status.as_ref());
            let ready = status.and_then(|status| status.conditions.iter().find(|one| one.type_ == "Ready"));
            let generation = object.and_then(|object| object.metadata.generation);
            ready.is_some_and(|ready| ready.reason == wanted && ready.observed_generation == generation)
        };
        self.until::<EncryptedSecret>("payments", wanted, fits).await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn value_of(secret: &Secret, key: &str) -> Option<String> {
    let value = secret.data.as_ref()?.get(key)?;
    Some(String::from_utf8(value.0.clone()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_secret_becomes_a_secret_and_a_bad_one_leaves_it() {
    let alice = person();
    let recipients = [alice.recipient.clone()];
    let cluster = Cluster::start(alice.keyring.clone()).await;
    let in_default = |text: &str| text.replace("namespace: shop", "namespace: default");
    let by_alice = sealing(&alice.keyring, &recipients);
    let empty = in_default(&change::create("default", "payments"));
    let set = |text: &str, key: &str, value: &str| {
        change::set(text, None, key, value.as_bytes(), false, &by_alice).unwrap()
    };
    let good = set(&set(&empty, "A", "marker-one"), "B", "marker-two");
    let good = good.replace("spec:", "spec:\n  readers: [{serviceAccount: web}]");
    cluster.apply(&good).await;
    let is = |key: &'static str, value: &'static str| {
        move |secret: Option<&Secret>| {
            secret.and_then(|secret| value_of(secret, key)).as_deref() == Some(value)
        }
    };
    let first = cluster.until::<Secret>("payments", "the Secret", is("A", "marker-one")).await.unwrap();
    cluster.reason("Written").await;
    cluster.until::<Role>("payments-secret-readers", "the Role", |role| role.is_some()).await;
    cluster.until::<RoleBinding>("payments-secret-readers", "the binding", |binding| binding.is_some()).await;

    // A value under a foreign key: told, and the good Secret stays.
    let swapped = {
        let text = |key: &str| {
            good.lines().find(|line| line.trim().starts_with(key)).unwrap().trim()[3..].to_owned()
        };
        good.replace(&text("A: "), &text("B: "))
    };
    cluster.apply(&swapped).await;
    let bad = cluster.reason("ValueRefused").await;
    let status = bad.status.unwrap();
    assert_eq!(status.failures.len(), 1);
    assert_eq!((status.failures[0].key.as_str(), status.failures[0].reason.as_str()), ("A", "ValueRefused"));
    let kept = cluster.until::<Secret>("payments", "the Secret", |secret| secret.is_some()).await.unwrap();
    assert_eq!(kept.metadata.resource_version, first.metadata.resource_version);

    // Back, with one value fewer and one new; then all anew with another data key: no new revision.
    let without_b: String =
        good.lines().filter(|line| !line.trim().starts_with("B: ")).map(|line| format!("{line}\n")).collect();
    let next = set(&without_b, "C", "marker-three");
    cluster.apply(&next).await;
    let second = cluster.until::<Secret>("payments", "C", is("C", "marker-three")).await.unwrap();
    assert_eq!(value_of(&second, "B"), None);
    let revision = |secret: &Secret| secret.annotations()[dodai_api::names::ANNOTATION_REVISION].clone();
    assert_ne!(revision(&first), revision(&second));
    cluster.apply(&keys::rekey(&next, &by_alice).unwrap()).await;
    cluster.reason("Written").await;
    let third = cluster.until::<Secret>("payments", "C", is("C", "marker-three")).await.unwrap();
    assert_eq!(revision(&second), revision(&third));

    // Somebody who holds nothing of ours: the Secret stays too.
    let stranger = person();
    let for_others = in_default(&file_with(&stranger, &[("A", "marker-four")]));
    cluster.apply(&for_others).await;
    cluster.reason("NoIdentity").await;
    cluster.until::<Secret>("payments", "C", is("C", "marker-three")).await;

    // No marker in any event or in the EncryptedSecret with its status.
    let events: Api<Event> = Api::all(cluster.client.clone());
    let events = events.list(&ListParams::default()).await.unwrap();
    assert!(!events.items.is_empty());
    let told = serde_json::to_string(&events.items).unwrap();
    let objects: Api<EncryptedSecret> = Api::all(cluster.client.clone());
    let objects = serde_json::to_string(&objects.list(&ListParams::default()).await.unwrap().items).unwrap();
    for text in [told, objects] {
        assert!(!text.contains("marker"), "{text}");
    }
    let api: Api<EncryptedSecret> = Api::namespaced(cluster.client.clone(), "default");
    api.delete("payments", &Default::default()).await.unwrap();
    cluster.until::<Secret>("payments", "gone with its owner", |secret| secret.is_none()).await;
}
