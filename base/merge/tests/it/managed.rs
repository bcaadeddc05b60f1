//! `managedFields` as a server keeps them, on kinds that look like the real ones.

use dodai_merge::fields::{Path, Set};
use dodai_merge::managed::{self, Conflict, Error, Request, UPDATE_MANAGERS_MAX};
use dodai_merge::schema::Schema;
use dodai_merge::update::SameInAllVersions;
use serde_json::{Value, json};

use crate::openapi::schema;

/// A server that stores one object.
struct Server {
    schema: Schema,
    empty: Value,
    version: &'static str,
    live: Option<Value>,
    /// Seconds of the clock.
    now: u32,
}

impl Server {
    fn new(kind: &str, version: &'static str) -> Server {
        let schema = schema(kind);
        Server { empty: schema.skeleton(), schema, version, live: None, now: 0 }
    }

    fn with<T>(&self, manager: &str, subresource: &str, run: impl FnOnce(&Request) -> T) -> T {
        let spec: Set = [Path::fields(["spec"])].into_iter().collect();
        let status: Set = [Path::fields(["status"])].into_iter().collect();
        run(&Request {
            schema: &self.schema,
            api_version: self.version,
            subresource,
            manager,
            time: &format!("2026-01-31T10:00:{:02}Z", self.now),
            reset_fields: Some(if subresource == "status" { &spec } else { &status }),
            empty: Some(&self.empty),
            converter: &SameInAllVersions,
        })
    }

    fn apply(&mut self, manager: &str, config: Value, force: bool) -> Result<(), Error> {
        self.now += 1;
        let new =
            self.with(manager, "", |request| managed::apply(self.live.as_ref(), &config, force, request))?;
        self.live = Some(new);
        Ok(())
    }

    fn update(&mut self, manager: &str, subresource: &str, new: Value) {
        self.now += 1;
        let new =
            self.with(manager, subresource, |request| managed::update(self.live.as_ref(), new, request));
        self.live = Some(new);
    }

    /// Updates what a change makes of the live object.
    fn edit(&mut self, manager: &str, subresource: &str, change: impl FnOnce(&mut Value)) {
        let mut new = self.live.clone().unwrap();
        change(&mut new);
        self.update(manager, subresource, new);
    }

    fn live(&self) -> &Value {
        self.live.as_ref().unwrap()
    }

    /// `[manager, operation, fields]` of each entry, in order.
    fn managers(&self) -> Value {
        let list = self.live()["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        list.iter().map(|entry| json!([entry["manager"], entry["operation"], entry["fieldsV1"]])).collect()
    }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

#[test]
fn an_apply_records_its_manager_with_time_and_without_names() {
    let mut server = Server::new("ConfigMap", "v1");
    server.apply("m1", config_map(json!({"k": "1"})), false).unwrap();
    let want = json!([{
        "manager": "m1", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-31T10:00:01Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:k": {}}}
    }]);
    assert_eq!(server.live()["metadata"]["managedFields"], want);
    assert_eq!(server.live()["data"], json!({"k": "1"}));
}

#[test]
fn applying_again_changes_nothing_not_even_the_time() {
    let mut server = Server::new("ConfigMap", "v1");
    server.apply("m1", config_map(json!({"k": "1"})), false).unwrap();
    let before = server.live().clone();
    server.apply("m1", config_map(json!({"k": "1"})), false).unwrap();
    server.edit("other", "", |_| {});
    assert_eq!(*server.live(), before);
}

#[test]
fn a_foreign_value_is_a_conflict_that_force_takes() {
    let mut server = Server::new("ConfigMap", "v1");
    server.apply("m1", config_map(json!({"k": "1", "l": "1"})), false).unwrap();
    let error = server.apply("m2", config_map(json!({"k": "2"})), false).unwrap_err();
    let cause = Conflict { message: "conflict with \"m1\"".into(), field: ".data.k".into() };
    let message = "Apply failed with 1 conflict: conflict with \"m1\": .data.k".to_owned();
    assert_eq!(error, Error::Conflicts { message, conflicts: vec![cause] });
    let error = server.apply("m2", config_map(json!({"k": "2", "l": "2"})), false).unwrap_err();
    let message = "Apply failed with 2 conflicts: conflicts with \"m1\":\n- .data.k\n- .data.l";
    assert_eq!(error.to_string(), message);

    server.apply("m2", config_map(json!({"k": "2"})), true).unwrap();
    assert_eq!(server.live()["data"], json!({"k": "2", "l": "1"}));
    let want = json!([
        ["m1", "Apply", {"f:data": {"f:l": {}}}],
        ["m2", "Apply", {"f:data": {"f:k": {}}}]
    ]);
    assert_eq!(server.managers(), want);
}

#[test]
fn a_conflict_with_an_update_names_its_version_and_subresource() {
    let mut server = Server::new("Deployment", "apps/v1");
    server.apply("m1", deployment(json!({"replicas": 1})), false).unwrap();
    server.edit("hpa", "scale", |live| live["spec"]["replicas"] = json!(5));
    let error = server.apply("m1", deployment(json!({"replicas": 2})), false).unwrap_err();
    let want = "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas";
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_dropped_field_goes_unless_somebody_else_applies_it() {
    let mut server = Server::new("ConfigMap", "v1");
    server.apply("m1", config_map(json!({"k": "1", "l": "1"})), false).unwrap();
    server.apply("m2", config_map(json!({"l": "1"})), false).unwrap();
    // The second one only joined: nothing changed, so it has no time.
    assert!(server.live()["metadata"]["managedFields"][0].get("time").is_none());
    server.apply("m1", config_map(json!({})), false).unwrap();
    assert_eq!(server.live()["data"], json!({"l": "1"}));
}

#[test]
fn a_creation_by_update_owns_what_it_sets_but_not_what_is_always_there() {
    let mut server = Server::new("Deployment", "apps/v1");
    let spec = json!({
        "replicas": 1,
        "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {}, "ports": [{"containerPort": 80, "protocol": "TCP"}]}
        ]}}
    });
    let mut object = deployment(spec);
    object["status"] = json!({});
    server.update("kubectl-create", "", object);
    let want = json!([["kubectl-create", "Update", {"f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:template": {
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                ".": {}, "f:image": {}, "f:name": {}, "f:resources": {},
                "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                    ".": {}, "f:containerPort": {}, "f:protocol": {}
                }}
            }}}
        }
    }}]]);
    assert_eq!(server.managers(), want);
}

#[test]
fn status_and_spec_are_owned_through_their_own_doors() {
    let mut server = Server::new("Deployment", "apps/v1");
    server.apply("m1", deployment(json!({"replicas": 1})), false).unwrap();
    server.live.as_mut().unwrap()["status"] = json!({});
    server.edit("controller", "status", |live| {
        live["status"]["conditions"] = json!([{"type": "Available", "status": "True"}]);
        // A client that also sends managedFields cannot change them through a subresource.
        live["metadata"]["managedFields"] = json!([]);
    });
    let want = json!([
        ["m1", "Apply", {"f:spec": {"f:replicas": {}}}],
        ["controller", "Update", {"f:status": {"f:conditions": {
            ".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}
        }}}]
    ]);
    assert_eq!(server.managers(), want);
    assert_eq!(server.live()["metadata"]["managedFields"][1]["subresource"], "status");
}

#[test]
fn an_update_takes_what_it_changes_and_joins_its_earlier_entry() {
    let mut server = Server::new("ConfigMap", "v1");
    server.apply("me", config_map(json!({"k": "1"})), false).unwrap();
    server.edit("me", "", |live| live["data"]["l"] = json!("1"));
    server.edit("me", "", |live| live["data"]["m"] = json!("1"));
    let want = json!([
        ["me", "Apply", {"f:data": {"f:k": {}}}],
        ["me", "Update", {"f:data": {"f:l": {}, "f:m": {}}}]
    ]);
    assert_eq!(server.managers(), want);
    server.edit("me", "", |live| {
        live["data"].as_object_mut().unwrap().remove("l");
    });
    assert_eq!(server.managers()[1], json!(["me", "Update", {"f:data": {"f:m": {}}}]));
}

#[test]
fn managed_fields_can_be_reset_and_nonsense_is_ignored() {
    let mut server = Server::new("ConfigMap", "v1");
    server.apply("m1", config_map(json!({"k": "1"})), false).unwrap();
    let before = server.managers();
    server.edit("x", "", |live| {
        live["metadata"]["managedFields"] =
            json!([{"manager": "x", "operation": "Frob", "apiVersion": "v1", "fieldsType": "FieldsV1"}]);
    });
    assert_eq!(server.managers(), before);
    server.edit("x", "", |live| live["metadata"]["managedFields"] = json!([{}]));
    assert!(server.live()["metadata"].get("managedFields").is_none());
    // What is not tracked stays so until somebody applies.
    server.edit("x", "", |live| live["data"]["l"] = json!("1"));
    assert!(server.live()["metadata"].get("managedFields").is_none());
    server.apply("m1", config_map(json!({"k": "1"})), false).unwrap();
    let want = json!([
        ["m1", "Apply", {"f:data": {"f:k": {}}}],
        ["before-first-apply", "Update", {"f:data": {".": {}, "f:k": {}, "f:l": {}}}]
    ]);
    assert_eq!(server.managers(), want);
}

#[test]
fn old_updates_are_gathered() {
    let mut server = Server::new("ConfigMap", "v1");
    server.update("u00", "", config_map(json!({"k0": "1"})));
    for index in 1..=UPDATE_MANAGERS_MAX {
        server.edit(&format!("u{index:02}"), "", |live| live["data"][format!("k{index}")] = json!("1"));
    }
    let managers = server.managers();
    assert_eq!(managers.as_array().unwrap().len(), UPDATE_MANAGERS_MAX);
    assert_eq!(
        managers[0],
        json!(["ancient-changes", "Update", {"f:data": {".": {}, "f:k0": {}, "f:k1": {}}}])
    );
    assert_eq!(managers[9][0], "u10");
    server.edit("u11", "", |live| live["data"]["k11"] = json!("1"));
    let managers = server.managers();
    assert_eq!(managers.as_array().unwrap().len(), UPDATE_MANAGERS_MAX);
    assert_eq!(managers[0][2], json!({"f:data": {".": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}}}));
}

#[test]
fn kubectl_takes_over_what_it_applied_on_the_clients_side() {
    let last = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"a\"},\"data\":{\"k\":\"1\",\"l\":\"1\"}}\n";
    let name = "kubectl.kubernetes.io/last-applied-configuration";
    let mut object = config_map(json!({"k": "1", "l": "1"}));
    object["metadata"]["annotations"] = json!({name: last});
    let mut server = Server::new("ConfigMap", "v1");
    server.update("kubectl-client-side-apply", "", object);
    // Another manager meets the conflict, and so does kubectl where the value was changed since.
    server.apply("other", config_map(json!({"k": "2"})), false).unwrap_err();
    server.edit("x", "", |live| live["data"]["l"] = json!("9"));
    server.apply("kubectl", config_map(json!({"l": "2"})), false).unwrap_err();

    server.apply("kubectl", config_map(json!({"k": "2"})), false).unwrap();
    assert_eq!(server.live()["data"], json!({"k": "2", "l": "9"}));
    let want = "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"2\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}\n";
    assert_eq!(server.live()["metadata"]["annotations"][name], want);
    assert_eq!(server.managers()[0], json!(["kubectl", "Apply", {"f:data": {"f:k": {}}}]));
}

#[test]
fn wrong_configurations_are_refused_with_upstreams_words() {
    let mut server = Server::new("Deployment", "apps/v1");
    let mut refuse = |config: Value| server.apply("m1", config, false).unwrap_err();
    let cases = [
        (
            json!({"apiVersion": "v2"}),
            "Incorrect version specified in apply patch. Specified patch version: v2, expected: apps/v1",
        ),
        (
            json!({"apiVersion": "apps/v1", "metadata": {"managedFields": []}}),
            "metadata.managedFields must be nil",
        ),
        (
            deployment(json!({"nope": 1})),
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.nope: field not declared in schema",
        ),
        (
            deployment(json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}})),
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
    ];
    for (config, want) in cases {
        assert_eq!(refuse(config).to_string(), want);
    }
}

#[test]
fn entries_are_sorted_by_operation_time_and_name() {
    let mut server = Server::new("ConfigMap", "v1");
    server.update("z", "", config_map(json!({"k": "1"})));
    server.edit("a", "", |live| live["data"]["l"] = json!("1"));
    server.apply("y", config_map(json!({"m": "1"})), false).unwrap();
    server.apply("b", config_map(json!({"n": "1"})), false).unwrap();
    let order: Vec<Value> =
        server.managers().as_array().unwrap().iter().map(|entry| entry[0].clone()).collect();
    assert_eq!(order, ["y", "b", "z", "a"]);
}
