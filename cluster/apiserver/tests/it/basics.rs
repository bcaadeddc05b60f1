//! The API as a kube client sees it.

use dodai_apiserver::{ApiServer, Config, User};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::WatchEvent;
use serde_json::json;

pub(crate) async fn server() -> ApiServer {
    ApiServer::open(Config::default()).await.expect("a server in memory opens")
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "k": value } })).unwrap()
}

#[tokio::test]
async fn an_object_is_created_read_changed_and_deleted() {
    let client = server().await.client(User::admin("test"));
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let made = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    assert!(made.metadata.uid.is_some());
    let again = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap_err();
    assert!(again.to_string().contains("already exists"), "{again}");
    let mut changed = maps.get("a").await.unwrap();
    changed.data.as_mut().unwrap().insert("k".into(), "2".into());
    let stale = changed.clone();
    let updated = maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(updated.metadata.resource_version, made.metadata.resource_version);
    let refused = maps.replace("a", &PostParams::default(), &stale).await.unwrap_err();
    assert!(refused.to_string().contains("the object has been modified"), "{refused}");
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_watch_sees_the_changes_after_a_list_in_order() {
    let client = server().await.client(User::admin("test"));
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let list = maps.list(&ListParams::default()).await.unwrap();
    let version = list.metadata.resource_version.unwrap();
    let mut events = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({ "data": { "k": "2" } }))).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(match events.next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => format!("added {}", map.data.unwrap()["k"]),
            WatchEvent::Modified(map) => format!("modified {}", map.data.unwrap()["k"]),
            WatchEvent::Deleted(map) => format!("deleted {}", map.data.unwrap()["k"]),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["added 1", "modified 2", "deleted 2"]);
}

#[tokio::test]
async fn an_apply_creates_and_a_second_one_changes_nothing() {
    let client = server().await.client(User::admin("test"));
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let wanted = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "registry.example/app:1" }] },
            },
        },
    });
    let params = PatchParams::apply("test");
    let first = deployments.patch("web", &params, &Patch::Apply(&wanted)).await.unwrap();
    assert_eq!(first.spec.as_ref().unwrap().replicas, Some(1), "defaults are set");
    let second = deployments.patch("web", &params, &Patch::Apply(&wanted)).await.unwrap();
    assert_eq!(first.metadata.resource_version, second.metadata.resource_version);
    let mut other = wanted.clone();
    other["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.example/app:2");
    let conflict =
        deployments.patch("web", &PatchParams::apply("other"), &Patch::Apply(&other)).await.unwrap_err();
    assert!(conflict.to_string().contains("conflict with \"test\""), "{conflict}");
}

/// Every reference of a document.
fn references(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            found.extend(map.get("$ref").and_then(|reference| reference.as_str()).map(str::to_owned));
            map.values().for_each(|value| references(value, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_of_the_published_schemas_leads_somewhere() {
    let server = server().await;
    let cases = [
        ("/openapi/v2", "#/definitions/", "/definitions"),
        ("/openapi/v3/api/v1", "#/components/schemas/", "/components/schemas"),
        ("/openapi/v3/apis/apps/v1", "#/components/schemas/", "/components/schemas"),
    ];
    for (path, prefix, place) in cases {
        let document = super::rbac::admin(&server, "GET", path, None).await.body;
        let mut found = std::collections::BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{path}");
        for reference in found {
            let name = reference.strip_prefix(prefix).unwrap_or_else(|| panic!("{path}: {reference}"));
            assert!(!document.pointer(place).unwrap()[name].is_null(), "{path}: {reference}");
        }
    }
}
