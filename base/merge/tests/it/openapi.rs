//! Schemas read from OpenAPI, and skeletons.

use dodai_merge::schema::{Error, ListKind, MapKind, PatchStrategy, Scalar, Schema, TypeRef};
use serde_json::{Value, json};

/// A piece of the published schemas of the kinds that the tests write.
pub(crate) fn components() -> Value {
    json!({
        "Deployment": {"type": "object", "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"allOf": [{"$ref": "#/components/schemas/ObjectMeta"}], "default": {}},
            "spec": {"allOf": [{"$ref": "#/components/schemas/DeploymentSpec"}], "default": {}},
            "status": {"allOf": [{"$ref": "#/components/schemas/DeploymentStatus"}], "default": {}}
        }},
        "ConfigMap": {"type": "object", "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"allOf": [{"$ref": "#/components/schemas/ObjectMeta"}], "default": {}},
            "data": {"type": "object", "additionalProperties": {"type": "string", "default": ""}}
        }},
        "ObjectMeta": {"type": "object", "properties": {
            "name": {"type": "string"},
            "namespace": {"type": "string"},
            "uid": {"type": "string"},
            "resourceVersion": {"type": "string"},
            "generation": {"type": "integer", "format": "int64"},
            "creationTimestamp": {"type": "string", "format": "date-time"},
            "labels": {"type": "object", "additionalProperties": {"type": "string", "default": ""}},
            "annotations": {"type": "object", "additionalProperties": {"type": "string", "default": ""}},
            "finalizers": {
                "type": "array", "items": {"type": "string", "default": ""},
                "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"
            },
            "managedFields": {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "atomic"}
        }},
        "DeploymentSpec": {"type": "object", "required": ["selector", "template"], "properties": {
            "replicas": {"type": "integer", "format": "int32"},
            "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
                "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}}
            }},
            "template": {"allOf": [{"$ref": "#/components/schemas/PodTemplateSpec"}], "default": {}}
        }},
        "DeploymentStatus": {"type": "object", "properties": {
            "readyReplicas": {"type": "integer"},
            "conditions": {
                "type": "array", "items": {"type": "object", "properties": {
                    "type": {"type": "string"}, "status": {"type": "string"}
                }},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "type"
            }
        }},
        "PodTemplateSpec": {"type": "object", "properties": {
            "metadata": {"allOf": [{"$ref": "#/components/schemas/ObjectMeta"}], "default": {}},
            "spec": {"allOf": [{"$ref": "#/components/schemas/PodSpec"}], "default": {}}
        }},
        "PodSpec": {"type": "object", "required": ["containers"], "properties": {
            "containers": {
                "type": "array", "items": {"allOf": [{"$ref": "#/components/schemas/Container"}], "default": {}},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name"
            }
        }},
        "Container": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "default": ""},
            "image": {"type": "string"},
            "args": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"},
            "resources": {"type": "object", "default": {}, "properties": {
                "limits": {"type": "object", "additionalProperties": {"oneOf": [{"type": "string"}, {"type": "number"}]}}
            }},
            "ports": {
                "type": "array", "items": {"type": "object", "properties": {
                    "containerPort": {"type": "integer", "default": 0},
                    "protocol": {"type": "string", "default": "TCP"},
                    "name": {"type": "string"}
                }},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "containerPort"
            }
        }},
        "Tree": {"type": "object", "properties": {
            "value": {"x-kubernetes-int-or-string": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "opaque": {},
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}
        }}
    })
}

pub(crate) fn schema(kind: &str) -> Schema {
    let components = components();
    Schema::from_openapi(&components[kind], |name| components.get(name)).unwrap()
}

#[test]
fn extensions_become_kinds_of_lists_and_maps() {
    let schema = schema("Deployment");
    let spec = schema.named("DeploymentSpec").unwrap().map.as_ref().unwrap();
    let selector = match &spec.fields["selector"].ty.target {
        dodai_merge::schema::Target::Inline(ty) => ty.map.as_ref().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(selector.kind, MapKind::Atomic);
    let pod = schema.named("PodSpec").unwrap().map.as_ref().unwrap();
    let containers = &pod.fields["containers"];
    assert_eq!(containers.patch.strategy, PatchStrategy::Merge);
    assert_eq!(containers.patch.merge_key.as_deref(), Some("name"));
    assert_eq!(containers.ty, TypeRef::list(TypeRef::named("Container"), ListKind::Map(vec!["name".into()])));
    let meta = schema.named("ObjectMeta").unwrap().map.as_ref().unwrap();
    assert_eq!(meta.fields["finalizers"].ty, TypeRef::list(TypeRef::scalar(Scalar::String), ListKind::Set));
    assert_eq!(meta.fields["creationTimestamp"].ty, TypeRef::scalar(Scalar::Untyped));
}

#[test]
fn recursive_and_free_form_types_are_read() {
    let schema = schema("Tree");
    let tree = schema.named("Tree").unwrap().map.as_ref().unwrap();
    assert_eq!(tree.fields["value"].ty, TypeRef::scalar(Scalar::Untyped));
    assert_eq!(tree.fields["free"].ty, TypeRef::map(TypeRef::deduced()));
    assert_eq!(tree.fields["children"].ty, TypeRef::list(TypeRef::named("Tree"), ListKind::Atomic));
}

#[test]
fn a_skeleton_holds_what_is_always_there() {
    let want = json!({
        "metadata": {},
        "spec": {"selector": null, "template": {"metadata": {}, "spec": {"containers": null}}},
        "status": {}
    });
    assert_eq!(schema("Deployment").skeleton(), want);
}

#[test]
fn broken_schemas_are_refused() {
    let read = |schema: Value| Schema::from_openapi(&schema, |_| None).map(|_| ());
    assert_eq!(read(json!({"$ref": "#/x/Nope"})), Err(Error::UnknownReference("Nope".into())));
    assert_eq!(read(json!({"type": "array", "x-kubernetes-list-type": "map"})), Err(Error::NoKeys));
    let unknown = read(json!({"type": "object", "x-kubernetes-map-type": "frob"})).unwrap_err();
    assert_eq!(unknown.to_string(), "schema has x-kubernetes-map-type `frob`, which is not known");
}

#[test]
fn names_that_only_refer_to_themselves_are_refused() {
    let components = json!({"A": {"$ref": "#/B"}, "B": {"$ref": "#/A"}});
    let read = Schema::from_openapi(&components["A"], |name| components.get(name));
    assert_eq!(read.map(|_| ()), Err(Error::TooDeep));
}

#[test]
fn tidying_drops_what_go_leaves_out_and_keeps_structs() {
    let mut object = json!({
        "metadata": {"name": "d", "labels": {}, "annotations": {"a": null}, "finalizers": []},
        "spec": {
            "replicas": null, "selector": {},
            "template": {"spec": {"containers": [{"name": "c", "args": [], "image": null, "resources": {}}]}}
        },
        "status": {}
    });
    schema("Deployment").tidy(&mut object);
    let want = json!({
        "metadata": {"name": "d", "annotations": {"a": ""}},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "c", "resources": {}}]}}},
        "status": {}
    });
    assert_eq!(object, want);
    let mut free = json!({"free": {"a": null, "b": {}}, "any": {"c": []}, "opaque": {}});
    let before = free.clone();
    schema("Tree").tidy(&mut free);
    assert_eq!(free, before);
}
