//! ValidatingAdmissionPolicy: what is matched, what expressions see, and what comes of their answers.

use dodai_apiserver::{ApiServer, User};
use serde_json::{Value, json};

use super::basics::server;
use super::rbac::{Answer, admin, send, until};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn rule(operations: &[&str], group: &str, resource: &str) -> Value {
    json!({ "operations": operations, "apiGroups": [group], "apiVersions": ["*"], "resources": [resource] })
}

async fn create(server: &ApiServer, path: &str, body: Value) -> Value {
    let made = admin(server, "POST", path, Some(body)).await;
    assert_eq!((made.code, made.warnings.len()), (201, 0), "{} {:?}", made.body, made.warnings);
    made.body
}

/// A policy with a binding of the same name; `spec` and `binding` are merged into the usual ones.
async fn policy(server: &ApiServer, name: &str, spec: Value, binding: Value) {
    let mut whole =
        json!({ "matchConstraints": { "resourceRules": [rule(&["CREATE", "UPDATE"], "", "configmaps")] } });
    let mut bound = json!({ "policyName": name, "validationActions": ["Deny"] });
    for (into, from) in [(&mut whole, spec), (&mut bound, binding)] {
        for (key, value) in from.as_object().unwrap() {
            into[key] = value.clone();
        }
    }
    let meta = json!({ "name": name });
    create(
        server,
        &format!("{GROUP}/validatingadmissionpolicies"),
        json!({ "metadata": meta, "spec": whole }),
    )
    .await;
    create(
        server,
        &format!("{GROUP}/validatingadmissionpolicybindings"),
        json!({ "metadata": meta, "spec": bound }),
    )
    .await;
}

fn map(name: &str, data: Value) -> Value {
    json!({ "metadata": { "name": name, "labels": { "app": name } }, "data": data })
}

fn message(answer: &Answer) -> &str {
    answer.body["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn expressions_see_request_namespace_variables_and_who_may_what() {
    let server = server().await;
    let spec = json!({
        "variables": [
            { "name": "size", "expression": "object.data.size" },
            { "name": "big", "expression": "int(variables.size) > 10" },
            { "name": "unused", "expression": "object.nowhere.at.all" },
        ],
        "validations": [
            { "expression": "!has(object.data.size) || !variables.big", "messageExpression": "variables.size + ' is big in ' + namespaceObject.metadata.name" },
            { "expression": "request.operation == 'CREATE' || object.data == oldObject.data", "message": "data stays", "reason": "Forbidden" },
            { "expression": "request.userInfo.username != 'eve' || authorizer.requestResource.check('delete').allowed()", "message": "eve may not" },
            { "expression": "!request.dryRun || request.options.dryRun == ['All']" },
        ],
    });
    policy(&server, "p", spec, json!({})).await;
    let made =
        admin(&server, "POST", &format!("{MAPS}?dryRun=All"), Some(map("a", json!({ "k": "1" })))).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let big = admin(&server, "POST", MAPS, Some(map("a", json!({ "size": "11" })))).await;
    assert_eq!(
        (big.code, message(&big)),
        (
            422,
            "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: 11 is big in default"
        )
    );
    // A variable that cannot be computed fails the expression that reads it.
    let odd = admin(&server, "POST", MAPS, Some(map("a", json!({ "size": "x" })))).await;
    assert!(message(&odd).contains("composited variable \"big\" fails to evaluate"), "{}", odd.body);
    assert_eq!(admin(&server, "POST", MAPS, Some(map("a", json!({ "k": "1" })))).await.code, 201);
    let merge = [("content-type", "application/merge-patch+json")];
    let change = json!({ "data": { "k": "2" } });
    let path = format!("{MAPS}/a");
    let changed = send(&server, &User::admin("root"), "PATCH", &path, &merge, Some(change)).await;
    assert_eq!((changed.code, &changed.body["reason"]), (403, &json!("Forbidden")), "{}", changed.body);
    let rules = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"] }]);
    create(
        &server,
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        json!({ "metadata": { "name": "maker" }, "rules": rules }),
    )
    .await;
    let subject = json!({ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "eve" });
    let role = json!({ "kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "maker" });
    let binding = json!({ "metadata": { "name": "eve" }, "subjects": [subject], "roleRef": role });
    create(&server, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    let eve = User::new("eve", &[]);
    let refused = send(&server, &eve, "POST", MAPS, &[], Some(map("b", json!({ "k": "1" })))).await;
    assert!(message(&refused).ends_with("eve may not"), "{}", refused.body);
}

#[tokio::test]
async fn parameters_are_found_by_name_by_selector_or_not_at_all() {
    let server = server().await;
    let spec = json!({
        "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
        "matchConstraints": { "resourceRules": [rule(&["CREATE"], "", "secrets")] },
        "validations": [{ "expression": "params == null || object.metadata.name.startsWith(params.data.prefix)", "messageExpression": "'needs ' + params.data.prefix" }],
    });
    let reference = json!({ "name": "limits", "parameterNotFoundAction": "Deny" });
    policy(&server, "p", spec, json!({ "paramRef": reference })).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = |name: &str| json!({ "metadata": { "name": name } });
    let refused = admin(&server, "POST", secrets, Some(secret("a"))).await;
    assert!(
        message(&refused).ends_with("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"),
        "{}",
        refused.body
    );
    create(&server, MAPS, map("limits", json!({ "prefix": "team-" }))).await;
    let refused = admin(&server, "POST", secrets, Some(secret("a"))).await;
    assert!(message(&refused).ends_with("denied request: needs team-"), "{}", refused.body);
    create(&server, secrets, secret("team-a")).await;
    // A change of the binding counts at once.
    let path = format!("{GROUP}/validatingadmissionpolicybindings/p");
    let mut binding = admin(&server, "GET", &path, None).await.body;
    binding["spec"]["paramRef"] =
        json!({ "selector": { "matchLabels": { "app": "other" } }, "parameterNotFoundAction": "Allow" });
    assert_eq!(admin(&server, "PUT", &path, Some(binding)).await.code, 200);
    create(&server, secrets, secret("b")).await;
    create(&server, MAPS, map("other", json!({ "prefix": "x" }))).await;
    let refused = admin(&server, "POST", secrets, Some(secret("c"))).await;
    assert!(message(&refused).ends_with("needs x"), "{}", refused.body);
    // Without the binding the policy is nothing.
    assert_eq!(admin(&server, "DELETE", &path, None).await.code, 200);
    create(&server, secrets, secret("c")).await;
}

#[tokio::test]
async fn warnings_conditions_and_failures_have_their_say() {
    let server = server().await;
    let warn = json!({ "validations": [{ "expression": "object.metadata.name != 'a'" }] });
    policy(&server, "warns", warn, json!({ "validationActions": ["Warn", "Audit"] })).await;
    let conditional = json!({
        "matchConditions": [{ "name": "only-b", "expression": "object.metadata.name == 'b'" }],
        "validations": [{ "expression": "object.spec.missing", "message": "never" }],
        "failurePolicy": "Fail",
    });
    let refused = admin(
        &server,
        "POST",
        &format!("{GROUP}/validatingadmissionpolicies"),
        Some(json!({
            "metadata": { "name": "x" }, "spec": { "validations": [{ "expression": "object.nope +" }] },
        })),
    )
    .await;
    assert_eq!(refused.code, 422);
    let text = message(&refused);
    assert!(text.contains("spec.matchConstraints: Required value"), "{text}");
    assert!(text.contains("spec.validations[0].expression: Invalid value: \"object.nope +\": compilation failed: ERROR: <input>:1:14: Syntax error"), "{text}");
    let answer = admin(
        &server,
        "POST",
        &format!("{GROUP}/validatingadmissionpolicies"),
        Some(json!({ "metadata": { "name": "c" }, "spec": conditional })),
    )
    .await;
    assert!(message(&answer).contains("must evaluate to bool but got dyn"), "{}", answer.body);
    let conditional = json!({
        "matchConditions": [{ "name": "only-b", "expression": "object.metadata.name == 'b'" }],
        "validations": [{ "expression": "object.spec.missing == 1", "message": "never" }],
    });
    policy(&server, "conditional", conditional, json!({})).await;
    let warned = admin(&server, "POST", MAPS, Some(map("a", json!({})))).await;
    assert_eq!(warned.code, 201, "{}", warned.body);
    assert_eq!(
        warned.warnings,
        [
            "299 - \"Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns': failed expression: object.metadata.name != 'a'\""
        ]
    );
    let failed = admin(&server, "POST", MAPS, Some(map("b", json!({})))).await;
    assert_eq!(
        message(&failed),
        "configmaps \"b\" is forbidden: ValidatingAdmissionPolicy 'conditional' with binding 'conditional' denied request: expression 'object.spec.missing == 1' resulted in error: no such key: spec"
    );
    let path = format!("{GROUP}/validatingadmissionpolicies/conditional");
    let merge = [("content-type", "application/merge-patch+json")];
    let ignore = json!({ "spec": { "failurePolicy": "Ignore" } });
    let changed = send(&server, &User::admin("root"), "PATCH", &path, &merge, Some(ignore)).await;
    assert_eq!(changed.code, 200, "{}", changed.body);
    create(&server, MAPS, map("b", json!({}))).await;
}

#[tokio::test]
async fn deletions_scales_and_other_versions_are_covered() {
    let server = server().await;
    let spec = json!({
        "matchConstraints": { "resourceRules": [rule(&["DELETE"], "", "configmaps"), rule(&["UPDATE"], "apps", "deployments/scale")],
            "objectSelector": { "matchLabels": { "app": "kept" } } },
        "validations": [{ "expression": "false", "message": "it stays" }],
    });
    policy(&server, "keep", spec, json!({})).await;
    create(&server, MAPS, map("kept", json!({}))).await;
    create(&server, MAPS, map("other", json!({}))).await;
    assert_eq!(admin(&server, "DELETE", &format!("{MAPS}/other"), None).await.code, 200);
    for path in [format!("{MAPS}/kept"), MAPS.to_owned()] {
        let refused = admin(&server, "DELETE", &path, None).await;
        assert_eq!(refused.code, 422, "{}", refused.body);
        assert!(message(&refused).ends_with("it stays"));
    }
    // Rules speak of one version, requests of another.
    let schema =
        json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    let version = |name: &str, storage: bool| json!({ "name": name, "served": true, "storage": storage, "schema": schema });
    create(&server, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json!({
        "metadata": { "name": "widgets.x.dev" }, "spec": { "group": "x.dev", "scope": "Cluster",
            "names": { "plural": "widgets", "kind": "Widget" }, "versions": [version("v1", true), version("v2", false)] },
    })).await;
    for (name, policy_kind, refused) in [("exact", "Exact", 201), ("equal", "Equivalent", 422)] {
        let mut rule = rule(&["CREATE"], "x.dev", "widgets");
        rule["apiVersions"] = json!(["v1"]);
        let spec = json!({
            "matchConstraints": { "matchPolicy": policy_kind, "resourceRules": [rule] },
            "validations": [{ "expression": "object.apiVersion == 'x.dev/v1' && request.requestKind.version == 'v2' && object.metadata.name != 'a'" }],
        });
        policy(&server, name, spec, json!({})).await;
        let made = admin(
            &server,
            "POST",
            "/apis/x.dev/v2/widgets",
            Some(json!({ "apiVersion": "x.dev/v2", "kind": "Widget", "metadata": { "name": "a" } })),
        )
        .await;
        assert_eq!(made.code, refused, "{}", made.body);
        admin(&server, "DELETE", "/apis/x.dev/v2/widgets/a", None).await;
        until(&server, "/apis/x.dev/v2/widgets/a", |widget| widget["code"] == 404).await;
    }
}

/// A mutating policy with a binding of the same name.
async fn mutating(server: &ApiServer, name: &str, mutation: Value, more: Value) {
    let mut spec = json!({
        "matchConstraints": { "resourceRules": [rule(&["CREATE", "UPDATE"], "", "configmaps"), rule(&["CREATE", "UPDATE"], "apps", "deployments")] },
        "reinvocationPolicy": "Never", "mutations": [mutation],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let meta = json!({ "name": name });
    let bound = json!({ "metadata": meta, "spec": { "policyName": name } });
    create(server, &format!("{GROUP}/mutatingadmissionpolicies"), json!({ "metadata": meta, "spec": spec }))
        .await;
    create(server, &format!("{GROUP}/mutatingadmissionpolicybindings"), bound).await;
}

fn json_patch(expression: &str) -> Value {
    json!({ "patchType": "JSONPatch", "jsonPatch": { "expression": expression } })
}

fn apply(expression: &str) -> Value {
    json!({ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": expression } })
}

#[tokio::test]
async fn policies_change_objects_by_patches_and_by_configurations() {
    let server = server().await;
    mutating(
        &server,
        "a-patch",
        json_patch("has(object.data) && !('added' in object.data) ? [JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('a/b'), value: 'x'}, JSONPatch{op: 'add', path: '/data/added', value: variables.who}] : []"),
        json!({ "variables": [{ "name": "who", "expression": "request.userInfo.username" }] }),
    )
    .await;
    let made = admin(&server, "POST", MAPS, Some(map("m", json!({ "k": "1" })))).await;
    assert_eq!((made.code, &made.body["data"]), (422, &Value::Null), "a key with a slash: {}", made.body);
    let path = format!("{GROUP}/mutatingadmissionpolicies/a-patch");
    let mut policy = admin(&server, "GET", &path, None).await.body;
    policy["spec"]["mutations"][0] = json_patch(
        "[JSONPatch{op: 'test', path: '/data/k', value: '1'}, JSONPatch{op: 'add', path: '/data/added', value: variables.who}]",
    );
    assert_eq!(admin(&server, "PUT", &path, Some(policy)).await.code, 200);
    let made = admin(&server, "POST", MAPS, Some(map("m", json!({ "k": "1" })))).await;
    assert_eq!(made.body["data"], json!({ "k": "1", "added": "root" }));
    // A test that fails changes nothing.
    let made = admin(&server, "POST", MAPS, Some(map("n", json!({ "k": "2" })))).await;
    assert_eq!(made.body["data"], json!({ "k": "2" }));
    mutating(
        &server,
        "b-sidecar",
        apply("Object{metadata: Object.metadata{labels: {'seen': 'yes'}}, spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'side', image: 'side:1'}]}}}}"),
        json!({ "matchConditions": [{ "name": "d", "expression": "request.kind.kind == 'Deployment'" }] }),
    )
    .await;
    let deployment = json!({ "metadata": { "name": "d" }, "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": {
        "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "main", "image": "i" }] } } } });
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let made = admin(&server, "POST", deployments, Some(deployment)).await;
    let containers = made.body["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let names: Vec<&str> = containers.iter().map(|container| container["name"].as_str().unwrap()).collect();
    assert_eq!((names, &made.body["metadata"]["labels"]["seen"]), (vec!["main", "side"], &json!("yes")));
    assert_eq!(
        containers[1]["terminationMessagePath"], "/dev/termination-log",
        "what is added gets its defaults"
    );
}

#[tokio::test]
async fn what_a_mutating_policy_cannot_do_is_refused_with_its_name() {
    let server = server().await;
    let cases = [
        (apply("{'a': 1}"), "must evaluate to Object but got map(string, int)"),
        (apply("Object{spec: Wrong{}}"), "undeclared reference to 'Wrong'"),
        (
            json_patch("[JSONPatch{op: 1, path: '/'}]"),
            "expected type of field 'op' is 'string' but provided type is 'int'",
        ),
        (json_patch("[JSONPatch{nope: 'x'}]"), "undefined field 'nope'"),
    ];
    for (mutation, wanted) in cases {
        let spec = json!({ "matchConstraints": { "resourceRules": [rule(&["CREATE"], "", "configmaps")] }, "reinvocationPolicy": "Never", "mutations": [mutation] });
        let refused = admin(
            &server,
            "POST",
            &format!("{GROUP}/mutatingadmissionpolicies"),
            Some(json!({ "metadata": { "name": "x" }, "spec": spec })),
        )
        .await;
        assert_eq!(refused.code, 422);
        assert!(message(&refused).contains(wanted), "{}, wanted {wanted}", refused.body);
    }
    let cases = [
        (
            apply("Object{spec: Object.status{a: 1}}"),
            "type mismatch: unexpected type name \"Object.status\", expected \"Object.spec\", which matches field name path from root Object type",
        ),
        (
            apply("Object{nowhere: 1}"),
            "error applying patch: failed to convert patch object to typed object: .nowhere: field not declared in schema",
        ),
        (
            apply(
                "Object{metadata: Object.metadata{finalizers: ['a/b'], ownerReferences: [Object.metadata.ownerReferences{uid: '1'}]}, immutable: object.data.nope}",
            ),
            "resulted in error: no such key: nope",
        ),
        (
            json_patch("[JSONPatch{op: 'remove', path: '/nope'}]"),
            "JSON Patch: remove operation does not apply: doc is missing path: /nope",
        ),
    ];
    for (mutation, wanted) in cases {
        mutating(&server, "x", mutation, json!({})).await;
        let refused = admin(&server, "POST", MAPS, Some(map("m", json!({ "k": "1" })))).await;
        assert_eq!((refused.code, &refused.body["reason"]), (403, &json!("Invalid")), "{}", refused.body);
        let text = message(&refused);
        assert!(
            text.starts_with("policy 'x' with binding 'x' denied request: ") && text.contains(wanted),
            "{text}, wanted {wanted}"
        );
        for plural in ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"] {
            assert_eq!(admin(&server, "DELETE", &format!("{GROUP}/{plural}/x"), None).await.code, 200);
        }
    }
}
