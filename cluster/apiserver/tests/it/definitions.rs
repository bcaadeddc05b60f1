//! Custom resources.

use dodai_apiserver::{ApiServer, User};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::basics::server;
use super::collection::eventually;

fn definition() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"] },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": { "type": "object", "required": ["size"], "properties": {
                        "size": { "type": "integer", "minimum": 1 },
                        "color": { "type": "string", "default": "red" },
                    } },
                    "status": { "type": "object", "properties": { "ready": { "type": "boolean" } } },
                } } },
            }],
        },
    }))
    .unwrap()
}

fn widget(spec: Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "a" }, "spec": spec,
    }))
    .unwrap()
}

async fn widgets(server: &ApiServer) -> (Api<CustomResourceDefinition>, Api<DynamicObject>) {
    let client = server.client(User::admin("test"));
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    (definitions, Api::default_namespaced_with(client, &resource))
}

#[tokio::test]
async fn a_definition_is_servable_when_its_creation_returns() {
    let server = server().await;
    let (_, widgets) = widgets(&server).await;
    assert!(widgets.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_checked() {
    let server = server().await;
    let (_, widgets) = widgets(&server).await;
    let refused = widgets.create(&PostParams::default(), &widget(json!({ "size": 0 }))).await.unwrap_err();
    let text = "spec.size in body should be greater than or equal to 1";
    assert!(refused.to_string().contains(text), "{refused}");
    let made =
        widgets.create(&PostParams::default(), &widget(json!({ "size": 2, "nope": 1 }))).await.unwrap();
    assert_eq!(made.data["spec"], json!({ "size": 2, "color": "red" }));
}

#[tokio::test]
async fn status_has_its_own_door() {
    let server = server().await;
    let (_, widgets) = widgets(&server).await;
    widgets.create(&PostParams::default(), &widget(json!({ "size": 2 }))).await.unwrap();
    let both = json!({ "spec": { "size": 3 }, "status": { "ready": true } });
    let main = widgets.patch("a", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!((main.data["spec"]["size"].clone(), main.data.get("status")), (json!(3), None));
    assert_eq!(main.metadata.generation, Some(2));
    let both = json!({ "spec": { "size": 4 }, "status": { "ready": true } });
    let status = widgets.patch_status("a", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!(
        (status.data["spec"]["size"].clone(), status.data["status"]["ready"].clone()),
        (json!(3), json!(true))
    );
    assert_eq!(status.metadata.generation, Some(2));
}

#[tokio::test]
async fn deleting_a_definition_takes_its_objects_and_its_endpoint() {
    let server = server().await;
    let (definitions, widgets) = widgets(&server).await;
    widgets.create(&PostParams::default(), &widget(json!({ "size": 2 }))).await.unwrap();
    definitions.delete("widgets.example.com", &DeleteParams::default()).await.unwrap();
    eventually("the definition is gone", || async {
        definitions.get_opt("widgets.example.com").await.unwrap().is_none()
    })
    .await;
    assert!(widgets.list(&ListParams::default()).await.is_err());
    // A definition that comes again starts empty.
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    assert!(widgets.list(&ListParams::default()).await.unwrap().items.is_empty());
}
