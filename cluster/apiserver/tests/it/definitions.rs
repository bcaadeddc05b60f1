//! Custom resources.

use dodai_apiserver::{ApiServer, Config, KeyPlace, Storage, User};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::basics::server;
use super::collection::eventually;
use super::rbac::{Answer, admin, send};

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

#[tokio::test]
async fn rules_hold_after_a_restart_and_bind_updates_as_they_should() {
    let folder = tempfile::tempdir().unwrap();
    let config = || Config {
        storage: Storage::Disk(folder.path().to_owned()),
        keys: Some(KeyPlace::Folder(folder.path().join("keys"))),
        ..Config::default()
    };
    let server = ApiServer::open(config()).await.unwrap();
    let schema = json!({ "type": "object", "properties": {
        "spec": {
            "type": "object", "properties": {
                "size": { "type": "integer" }, "mode": { "type": "string", "maxLength": 10 },
                "parts": { "type": "array", "maxItems": 10, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": { "type": "object", "required": ["name"], "properties": { "name": { "type": "string" }, "n": { "type": "integer" } },
                        "x-kubernetes-validations": [{ "rule": "self.n >= oldSelf.n", "message": "n grows", "fieldPath": ".n", "reason": "FieldValueForbidden" }] } },
            },
            "x-kubernetes-validations": [
                { "rule": "self.size < 10", "messageExpression": "self.mode + ' is too big'" },
                { "rule": "!oldSelf.hasValue() || self.mode == oldSelf.value().mode", "optionalOldSelf": true, "message": "mode stays" },
            ],
        },
        "status": { "type": "object", "properties": { "seen": { "type": "integer" } } },
    }, "x-kubernetes-validations": [{ "rule": "!has(self.status) || !has(self.status.seen) || self.status.seen <= self.spec.size", "message": "too much seen" }] });
    let mut definition = serde_json::to_value(definition()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema;
    let made =
        admin(&server, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", Some(definition))
            .await;
    assert_eq!(made.code, 201, "{}", made.body);
    server.shutdown().await.unwrap();
    let server = ApiServer::open(config()).await.unwrap();
    let all = "/apis/example.com/v1/namespaces/default/widgets";
    let widget = |spec: Value| json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "a" }, "spec": spec });
    let text = |answer: &Answer| answer.body["message"].as_str().unwrap_or_default().to_owned();
    let refused = admin(&server, "POST", all, Some(widget(json!({ "size": 11, "mode": "x" })))).await;
    assert_eq!(text(&refused), "Widget.example.com \"a\" is invalid: spec: Invalid value: x is too big");
    let parts = json!([{ "name": "one", "n": 1 }, { "name": "two", "n": 2 }]);
    let made =
        admin(&server, "POST", all, Some(widget(json!({ "size": 5, "mode": "x", "parts": parts })))).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let path = format!("{all}/a");
    let merge = [("content-type", "application/merge-patch+json")];
    let change = async |path: &str, body: Value| {
        send(&server, &User::admin("root"), "PATCH", path, &merge, Some(body)).await
    };
    // Elements are found by their keys, wherever they stand.
    let parts = json!([{ "name": "two", "n": 1 }, { "name": "one", "n": 3 }]);
    let refused = change(&path, json!({ "spec": { "parts": parts } })).await;
    assert_eq!(text(&refused), "Widget.example.com \"a\" is invalid: spec.parts[0].n: Forbidden: n grows");
    let refused = change(&path, json!({ "spec": { "mode": "y" } })).await;
    assert_eq!(text(&refused), "Widget.example.com \"a\" is invalid: spec: Invalid value: mode stays");
    let refused = change(&format!("{path}/status"), json!({ "status": { "seen": 6 } })).await;
    assert_eq!(text(&refused), "Widget.example.com \"a\" is invalid: <nil>: Invalid value: too much seen");
    let refused = change(&format!("{path}/status"), json!({ "status": { "seen": "x" } })).await;
    assert!(
        text(&refused).contains("some validation rules were not checked because the object was invalid"),
        "{}",
        refused.body
    );
    assert_eq!(change(&format!("{path}/status"), json!({ "status": { "seen": 5 } })).await.code, 200);
}

#[tokio::test]
async fn a_rule_is_checked_before_it_is_taken() {
    let server = server().await;
    let cases = [
        (
            json!({ "rule": "" }),
            "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Required value: rule is not specified",
        ),
        (json!({ "rule": "self.size >" }), "compilation failed: ERROR: <input>:1:12: Syntax error"),
        (json!({ "rule": "self.size" }), "cel expression must evaluate to a bool"),
        (json!({ "rule": "self.nope" }), "undefined field 'nope'"),
        (
            json!({ "rule": "true", "message": "a\nb" }),
            "x-kubernetes-validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
        ),
        (json!({ "rule": "true", "messageExpression": "1" }), "messageExpression must evaluate to a string"),
        (
            json!({ "rule": "true", "fieldPath": ".nope" }),
            "x-kubernetes-validations[0].fieldPath: Invalid value: \".nope\": must be a valid path",
        ),
        (
            json!({ "rule": "true", "reason": "Why" }),
            "Unsupported value: \"Why\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
        ),
        (
            json!({ "rule": "true", "optionalOldSelf": true }),
            "x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
    ];
    for (rule, wanted) in cases {
        let mut definition = serde_json::to_value(definition()).unwrap();
        let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["x-kubernetes-validations"] = json!([rule]);
        let refused = admin(
            &server,
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            Some(definition),
        )
        .await;
        let text = refused.body["message"].as_str().unwrap_or_default();
        assert!(refused.code == 422 && text.contains(wanted), "{text}, wanted {wanted}");
    }
    // What cannot be told apart has no old state.
    let mut definition = serde_json::to_value(definition()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["list"] = json!({
        "type": "array", "maxItems": 3, "items": { "type": "integer", "x-kubernetes-validations": [{ "rule": "self == oldSelf" }] },
    });
    let refused =
        admin(&server, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", Some(definition))
            .await;
    let text = refused.body["message"].as_str().unwrap_or_default();
    assert!(
        text.contains("oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[spec].properties[list]"),
        "{text}"
    );
}

#[tokio::test]
async fn schemas_of_definitions_are_structural_and_whole() {
    let server = server().await;
    let root = |spec: Value| json!({ "type": "object", "properties": { "spec": spec } });
    let object = |properties: Value| root(json!({ "type": "object", "properties": properties }));
    let base = "spec.validation.openAPIV3Schema";
    let cases = [
        (
            json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            format!("{base}.additionalProperties: Forbidden: must not be used at the root"),
        ),
        (
            json!({ "type": "object", "properties": { "metadata": { "type": "object", "required": ["name"] } } }),
            format!(
                "{base}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
            ),
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "string" } }, "anyOf": [{ "properties": { "b": { "minLength": 1 } } }] }),
            format!(
                "{base}.properties[b]: Required value: because it is defined in {base}.anyOf[0].properties[b]"
            ),
        ),
        (
            object(json!({ "a": { "type": "set" } })),
            format!(
                "{base}.properties[spec].properties[a].type: Unsupported value: \"set\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""
            ),
        ),
        (
            object(
                json!({ "a": { "x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true } }),
            ),
            format!(
                "{base}.properties[spec].properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true"
            ),
        ),
        (
            object(json!({ "a": { "type": "string", "x-kubernetes-map-type": "atomic" } })),
            format!(
                "{base}.properties[spec].properties[a].type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified"
            ),
        ),
        (
            object(
                json!({ "a": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": { "type": "object", "required": ["k"], "properties": { "k": { "type": "string", "nullable": true } } } } }),
            ),
            format!(
                "{base}.properties[spec].properties[a].items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            ),
        ),
        (
            root(
                json!({ "type": "object", "default": { "b": 1 }, "properties": { "a": { "type": "string" } } }),
            ),
            format!(
                "{base}.properties[spec].default: Invalid value: {{\"b\":1}}: must not have unknown fields"
            ),
        ),
        (
            object(
                json!({ "a": { "type": "integer", "default": 3, "x-kubernetes-validations": [{ "rule": "self > 5" }] } }),
            ),
            format!("{base}.properties[spec].properties[a].default: Invalid value: 3: failed rule: self > 5"),
        ),
        (
            object(json!({ "a": { "type": "string", "x-kubernetes-preserve-unknown-fields": false } })),
            format!(
                "{base}.properties[spec].properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"
            ),
        ),
        (
            json!({ "type": "object", "minProperties": 1, "properties": { "spec": { "type": "object" } } }),
            "fields are allowed at the root of the schema if the status subresource is enabled".to_owned(),
        ),
    ];
    for (schema, wanted) in cases {
        let mut definition = serde_json::to_value(definition()).unwrap();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema.clone();
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let answer = admin(&server, "POST", path, Some(definition)).await;
        let text = answer.body["message"].as_str().unwrap_or_default();
        assert!(answer.code == 422 && text.contains(&wanted), "{schema}: {}", answer.body);
    }
    let mut definition = serde_json::to_value(definition()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        object(json!({ "small": { "type": "integer", "format": "int32" }, "big": { "type": "integer" } }));
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = admin(&server, "POST", path, Some(definition)).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let widget = |spec: Value| json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "a" }, "spec": spec });
    let all = "/apis/example.com/v1/namespaces/default/widgets";
    for (spec, wanted) in [
        (
            json!({ "small": 3_000_000_000_i64 }),
            "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.small",
        ),
        (json!({ "big": u64::MAX }), "spec.big in body must be of type integer: \"number\""),
    ] {
        let refused = admin(&server, "POST", all, Some(widget(spec))).await;
        let text = refused.body["message"].as_str().unwrap_or_default();
        assert!(refused.code == 422 && text.contains(wanted), "{}", refused.body);
    }
    let made =
        admin(&server, "POST", all, Some(widget(json!({ "small": 2_147_483_647, "big": i64::MAX })))).await;
    assert_eq!(made.code, 201, "{}", made.body);
}

#[tokio::test]
async fn unknown_formats_and_sets_of_objects_are_warned_about() {
    let server = server().await;
    let mut definition = serde_json::to_value(definition()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({ "type": "object", "properties": { "spec": {
        "type": "object", "properties": {
            "a": { "type": "string", "format": "nonsense" },
            "b": { "type": "string", "format": "date-time" },
            "c": { "type": "integer", "format": "int16" },
            "d": { "type": "array", "x-kubernetes-list-type": "set",
                "items": { "type": "object", "x-kubernetes-map-type": "atomic", "properties": { "e": { "type": "string" } } } },
        },
    } } });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = admin(&server, "POST", path, Some(definition)).await;
    assert_eq!(made.code, 201, "{}", made.body);
    for wanted in [
        "unrecognized format \\\"nonsense\\\"",
        "unrecognized format \\\"int16\\\"",
        "x-kubernetes-list-type: set for items of type \\\"object\\\" is not supported by server-side apply",
    ] {
        assert!(made.warnings.iter().any(|warning| warning.contains(wanted)), "{:?}", made.warnings);
    }
    assert_eq!(made.warnings.len(), 3, "{:?}", made.warnings);
}
