//! Engines that panic, end, hang or are killed: they are started again alone, and what they had to do gets done.

use std::sync::Arc;
use std::time::Duration;

use dodai_apiserver::{ApiServer, Config, User};
use dodai_kit::health::ControllerHealth;
use dodai_kit::plan::Object;
use dodai_kit::{Action, Clock, Context, Controller, Engine, Plan, Supervisor, View, Watches};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Secret, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// Copies each ConfigMap into an object of another kind; panics over those that say so.
macro_rules! copier {
    ($name:ident, $of:ty, $kind:literal) => {
        struct $name;

        impl Controller for $name {
            type Kind = ConfigMap;
            type World = Arc<ConfigMap>;
            const NAME: &'static str = $kind;
            const MANAGER: &'static str = concat!("dodai-", $kind);

            fn watches(watches: &mut Watches<'_, ConfigMap>) {
                watches.mapped::<$of>(|object, _| {
                    assert!(!object.name_any().starts_with("deaf"), "no key for {}", object.name_any());
                    Vec::new()
                });
            }

            fn observe(_: &View, object: &Arc<ConfigMap>) -> Arc<ConfigMap> {
                object.clone()
            }

            fn plan(object: &Arc<ConfigMap>) -> Plan {
                let fault = object.labels().get("fault").map(String::as_str);
                assert!(fault != Some($kind), "a fault of {}", $kind);
                let copy: $of = serde_json::from_value(json!({ "metadata": {
                    "name": object.name_any(), "namespace": "default", "labels": { "copy": $kind } } }))
                .expect("an object");
                Plan { actions: vec![Action::Apply(Object::new(&copy))], ..Plan::default() }
            }
        }
    };
}

copier!(ToSecret, Secret, "secrets");
copier!(ToAccount, ServiceAccount, "accounts");

fn engines() -> [Engine; 2] {
    [Engine::new("secrets").with::<ToSecret>(), Engine::new("accounts").with::<ToAccount>()]
}

async fn world() -> (Client, Supervisor) {
    let server = ApiServer::open(Config::default()).await.unwrap();
    let client = server.client(User::admin("test"));
    let mut supervisor =
        Supervisor::new(Context::new(server.client(User::admin("engines")), Clock::system()));
    engines().into_iter().for_each(|engine| supervisor.start(engine));
    (client, supervisor)
}

async fn add(client: &Client, name: &str, fault: Option<&str>) {
    let labels = fault.map(|fault| json!({ "fault": fault })).unwrap_or_default();
    let object = serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } })).unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &object).await.unwrap();
}

async fn copies<K>(client: &Client) -> usize
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), "default");
    api.list(&ListParams::default().labels("copy")).await.unwrap().items.len()
}

/// Looks again and again, at most for an hour of the (paused) clock.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let look = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(3600), look).await.is_ok(), "never: {what}");
}

fn of<'a>(all: &'a [ControllerHealth], engine: &str) -> &'a ControllerHealth {
    all.iter().find(|one| one.engine == engine).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_killed_under_load_catches_up_and_the_other_does_not_notice() {
    let (client, supervisor) = world().await;
    const OBJECTS: usize = 120;
    for n in 0..OBJECTS {
        add(&client, &format!("m{n}"), None).await;
        // At every moment of a pass: before it, in a write of it, between two.
        if n % 6 == 5 {
            for _ in 0..(n % 7) {
                tokio::task::yield_now().await;
            }
            assert!(supervisor.kill("secrets") <= 1);
        }
    }
    until("all are copied", || async {
        copies::<Secret>(&client).await == OBJECTS && copies::<ServiceAccount>(&client).await == OBJECTS
    })
    .await;
    let health = supervisor.health().controllers();
    let (killed, other) = (of(&health, "secrets"), of(&health, "accounts"));
    assert!(killed.restarts > 0 && killed.last_end.as_ref().unwrap().1 == "it was cut off", "{killed:?}");
    assert_eq!((other.restarts, other.running, &other.last_end), (0, true, &None));
    assert!(supervisor.stop(Duration::from_secs(10)).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_panics_is_set_aside_told_and_taken_up_when_it_changes() {
    let (client, supervisor) = world().await;
    add(&client, "bad", Some("secrets")).await;
    add(&client, "good", None).await;
    until("it is set aside", || async { supervisor.health().set_aside().len() == 1 }).await;
    let aside = supervisor.health().set_aside().remove(0);
    assert_eq!((aside.controller, aside.key.to_string().as_str()), ("secrets", "default/bad"));
    assert!(aside.message.contains("a fault of secrets"), "{}", aside.message);
    // The others: the same object in the other engine, another object in this one.
    until("the rest is copied", || async {
        copies::<Secret>(&client).await == 1 && copies::<ServiceAccount>(&client).await == 2
    })
    .await;
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let panics = || async {
        let list = events.list(&ListParams::default()).await.unwrap();
        list.iter().filter(|event| event.reason.as_deref() == Some("Panicked")).count()
    };
    assert_eq!(panics().await, dodai_kit::controller::PANICS_MAX as usize);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(panics().await, dodai_kit::controller::PANICS_MAX as usize, "it is left alone");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let mended = json!({ "metadata": { "labels": { "fault": null } } });
    maps.patch("bad", &PatchParams::default(), &Patch::Merge(&mended)).await.unwrap();
    until("it is copied too", || async { copies::<Secret>(&client).await == 2 }).await;
    assert!(supervisor.health().set_aside().is_empty());
    assert!(supervisor.health().controllers().iter().all(|one| one.restarts == 0), "no controller ended");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_keeps_ending_is_started_less_and_less_often() {
    let (client, supervisor) = world().await;
    let began = tokio::time::Instant::now();
    // A mapping that panics ends its controller: deaf would be worse.
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let restarts = || of(&supervisor.health().controllers(), "secrets").restarts;
    until("it runs", || async { !supervisor.health().controllers().is_empty() }).await;
    for n in 0.. {
        if began.elapsed() > Duration::from_secs(1800) {
            break;
        }
        let deaf = serde_json::from_value(json!({ "metadata": { "name": format!("deaf-{n}") } })).unwrap();
        secrets.create(&PostParams::default(), &deaf).await.unwrap();
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    // 1, 2, 4, ... 256, then 300 s apart.
    assert!((8..=15).contains(&restarts()), "{} restarts in half an hour", restarts());
    let health = supervisor.health().controllers();
    assert!(of(&health, "secrets").last_end.as_ref().unwrap().1.contains("no key for deaf-"), "{health:?}");
    assert_eq!(of(&health, "accounts").restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn stopping_cuts_off_what_hangs_and_says_which() {
    let server = ApiServer::open(Config::default()).await.unwrap();
    let client = server.client(User::admin("test"));
    add(&client, "m", None).await;
    // Reads are answered, writes never.
    let inner = server.service(User::admin("engines"));
    let hanging = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let inner = inner.clone();
        async move {
            if request.method() != http::Method::GET {
                std::future::pending::<()>().await;
            }
            tower::ServiceExt::oneshot(inner, request).await
        }
    });
    let context = Context::new(Client::new(hanging, "default"), Clock::system());
    let mut supervisor = Supervisor::new(context);
    engines().into_iter().for_each(|engine| supervisor.start(engine));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let began = tokio::time::Instant::now();
    let cut_off = supervisor.stop(Duration::from_secs(10)).await;
    assert_eq!(cut_off, ["accounts", "secrets"]);
    assert!(began.elapsed() >= Duration::from_secs(10) && began.elapsed() < Duration::from_secs(11));
}
