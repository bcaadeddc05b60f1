//! Garbage collection and namespaces.

use std::time::Duration;

use dodai_apiserver::User;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;

use super::basics::server;

/// Waits until a condition holds; ten seconds are generous.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    for _ in 0..1000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

async fn owner_and_dependent(client: &Client, blocks: bool) -> Api<ConfigMap> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let owner: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "owner" } })).unwrap();
    let owner = maps.create(&PostParams::default(), &owner).await.unwrap();
    let mut reference = owner.owner_ref(&()).unwrap();
    reference.block_owner_deletion = Some(blocks);
    let mut dependent: ConfigMap =
        serde_json::from_value(json!({ "metadata": { "name": "dependent" } })).unwrap();
    dependent.metadata.owner_references = Some(vec![reference]);
    maps.create(&PostParams::default(), &dependent).await.unwrap();
    maps
}

fn policy(policy: PropagationPolicy) -> DeleteParams {
    DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() }
}

/// An owner that is deleted in the foreground and waits for its dependent, which is marked and held by a finalizer.
async fn owner_that_waits() -> Api<ConfigMap> {
    let client = server().await.client(User::admin("test"));
    let maps = owner_and_dependent(&client, true).await;
    let hold = json!({ "metadata": { "finalizers": ["example.com/hold"] } });
    maps.patch("dependent", &PatchParams::default(), &Patch::Merge(hold)).await.unwrap();
    maps.delete("owner", &policy(PropagationPolicy::Foreground)).await.unwrap();
    eventually("the dependent is marked", || async {
        maps.get("dependent").await.unwrap().metadata.deletion_timestamp.is_some()
    })
    .await;
    maps
}

#[tokio::test]
async fn in_the_background_the_owner_goes_first_and_its_dependents_follow() {
    let client = server().await.client(User::admin("test"));
    let maps = owner_and_dependent(&client, false).await;
    maps.delete("owner", &policy(PropagationPolicy::Background)).await.unwrap();
    assert!(maps.get_opt("owner").await.unwrap().is_none());
    eventually("the dependent is gone", || async { maps.get_opt("dependent").await.unwrap().is_none() })
        .await;
}

#[tokio::test]
async fn in_the_foreground_the_owner_waits_for_a_dependent_with_a_finalizer() {
    let maps = owner_that_waits().await;
    assert!(maps.get_opt("owner").await.unwrap().is_some(), "the owner waits");
    let free = json!({ "metadata": { "finalizers": null } });
    maps.patch("dependent", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    eventually("the owner is gone", || async { maps.get_opt("owner").await.unwrap().is_none() }).await;
}

#[tokio::test]
async fn in_the_foreground_the_owner_does_not_wait_for_a_dependent_that_another_keeps() {
    let client = server().await.client(User::admin("test"));
    let maps = owner_and_dependent(&client, true).await;
    let other: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "other" } })).unwrap();
    let other = maps.create(&PostParams::default(), &other).await.unwrap();
    let mut dependent = maps.get("dependent").await.unwrap();
    dependent.owner_references_mut().push(other.owner_ref(&()).unwrap());
    maps.replace("dependent", &PostParams::default(), &dependent).await.unwrap();
    maps.delete("owner", &policy(PropagationPolicy::Foreground)).await.unwrap();
    eventually("the owner is gone", || async { maps.get_opt("owner").await.unwrap().is_none() }).await;
    let kept = maps.get("dependent").await.unwrap();
    let owners: Vec<&str> = kept.owner_references().iter().map(|owner| &*owner.name).collect();
    assert_eq!((owners, &kept.metadata.deletion_timestamp), (vec!["other"], &None));
}

#[tokio::test]
async fn in_the_foreground_the_owner_does_not_wait_for_a_dependent_that_somebody_takes_from_it() {
    let maps = owner_that_waits().await;
    let taken = json!({ "metadata": { "ownerReferences": null } });
    maps.patch("dependent", &PatchParams::default(), &Patch::Merge(taken)).await.unwrap();
    eventually("the owner is gone", || async { maps.get_opt("owner").await.unwrap().is_none() }).await;
}

#[tokio::test]
async fn an_orphan_keeps_living_without_its_reference() {
    let client = server().await.client(User::admin("test"));
    let maps = owner_and_dependent(&client, false).await;
    maps.delete("owner", &policy(PropagationPolicy::Orphan)).await.unwrap();
    eventually("the owner is gone", || async { maps.get_opt("owner").await.unwrap().is_none() }).await;
    assert!(maps.get("dependent").await.unwrap().owner_references().is_empty());
}

#[tokio::test]
async fn a_dependent_of_an_owner_that_never_was_is_collected() {
    let client = server().await.client(User::admin("test"));
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let lost: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "lost", "ownerReferences": [
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000001" },
    ] } }))
    .unwrap();
    maps.create(&PostParams::default(), &lost).await.unwrap();
    eventually("the dependent is gone", || async { maps.get_opt("lost").await.unwrap().is_none() }).await;
}

#[tokio::test]
async fn a_namespace_takes_its_content_with_it_and_waits_for_finalizers() {
    let client = server().await.client(User::admin("test"));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": "shop" } })).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, "shop");
    for (name, finalizers) in [("plain", json!(null)), ("held", json!(["example.com/hold"]))] {
        let map = json!({ "metadata": { "name": name, "finalizers": finalizers } });
        let map: ConfigMap = serde_json::from_value(map).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("the plain map is gone", || async { maps.get_opt("plain").await.unwrap().is_none() }).await;
    eventually("the namespace says what it waits for", || async {
        let namespace = namespaces.get("shop").await.unwrap();
        let conditions = namespace.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|found| found.type_ == "NamespaceFinalizersRemaining" && found.status == "True")
    })
    .await;
    let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "late" } })).unwrap();
    let late = maps.create(&PostParams::default(), &map).await.unwrap_err();
    assert!(late.to_string().contains("because it is being terminated"), "{late}");
    let free = json!({ "metadata": { "finalizers": null } });
    maps.patch("held", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    eventually("the namespace is gone", || async { namespaces.get_opt("shop").await.unwrap().is_none() })
        .await;
}
