//! RBAC, identity and tokens through the in-process service.

use std::path::Path;

use dodai_apiserver::{ApiServer, Body, Config, KeyPlace, Storage, User};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::basics::server;

pub(crate) struct Answer {
    pub code: u16,
    pub body: Value,
    pub warnings: Vec<String>,
}

/// Sends one request as a user; `headers` are added.
pub(crate) async fn send(
    server: &ApiServer,
    user: &User,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("user-agent", "test/1");
    if body.is_some() && !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let text = body.map(|body| body.to_string()).unwrap_or_default();
    let request = request.body(Full::new(bytes::Bytes::from(text))).unwrap();
    let response: Response<Body> = server.service(user.clone()).oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|value| value.to_str().unwrap().to_owned()).collect();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_default(), warnings }
}

pub(crate) async fn admin(server: &ApiServer, method: &str, path: &str, body: Option<Value>) -> Answer {
    send(server, &User::admin("root"), method, path, &[], body).await
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

#[test]
fn the_bootstrap_roles_are_those_of_the_facts_file() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/reference/kube-facts.json"));
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: {} not found", path.display());
        return;
    };
    let facts: Value = serde_json::from_str(&text).unwrap();
    let mut ours: std::collections::BTreeMap<String, Vec<Value>> = Default::default();
    for line in include_str!("../../data/rbac.jsonl").lines() {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        let kind = entry.as_object_mut().unwrap().remove("kind").unwrap();
        let kind = kind.as_str().unwrap();
        let list = format!("{}{}s", kind[..1].to_lowercase(), &kind[1..]);
        ours.entry(list).or_default().push(entry);
    }
    for (list, entries) in facts["rbac"].as_object().unwrap() {
        assert_eq!(Value::Array(ours.remove(list).unwrap()), *entries, "{list}");
    }
    assert!(ours.is_empty());
}

#[tokio::test]
async fn aggregated_roles_follow_the_roles_they_select() {
    let server = server().await;
    let role = |labels: Value, rules: Value| json!({ "metadata": { "name": "extra", "labels": labels }, "rules": rules });
    let label = json!({ "rbac.authorization.k8s.io/aggregate-to-view": "true" });
    let rule = json!([{ "verbs": ["get"], "apiGroups": ["example.dev"], "resources": ["widgets"] }]);
    let made = admin(&server, "POST", &format!("{RBAC}/clusterroles"), Some(role(label, rule.clone()))).await;
    assert_eq!((made.code, made.warnings.len()), (201, 0), "{}", made.body);
    // edit selects view, and admin selects edit.
    for name in ["view", "edit", "admin"] {
        until(&server, &format!("{RBAC}/clusterroles/{name}"), |role| {
            let rules = role["rules"].as_array().cloned().unwrap_or_default();
            rules.len() > 1 && rules.contains(&rule[0])
        })
        .await;
    }
    admin(&server, "DELETE", &format!("{RBAC}/clusterroles/extra"), None).await;
    until(&server, &format!("{RBAC}/clusterroles/admin"), |role| {
        !role["rules"].as_array().unwrap().contains(&rule[0])
    })
    .await;
}

/// Reads a path until the answer is as wanted.
pub(crate) async fn until(server: &ApiServer, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..500 {
        last = admin(server, "GET", path, None).await.body;
        if wanted(&last) {
            return last;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{path} never became as wanted: {last}");
}

#[tokio::test]
async fn a_role_that_is_missing_is_named_in_the_denial() {
    let server = server().await;
    let binding = json!({
        "metadata": { "name": "b" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gone" },
        "subjects": [{ "kind": "User", "name": "eve" }],
    });
    let made =
        admin(&server, "POST", &format!("{RBAC}/namespaces/default/rolebindings"), Some(binding)).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let eve = User::new("eve", &["system:authenticated"]);
    let denied = send(&server, &eve, "GET", "/api/v1/namespaces/default/pods", &[], None).await;
    assert_eq!(denied.code, 403);
    assert_eq!(
        denied.body["message"],
        "pods is forbidden: User \"eve\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\": \
         RBAC: role.rbac.authorization.k8s.io \"gone\" not found"
    );
}

#[tokio::test]
async fn only_who_may_impersonate_can() {
    let server = server().await;
    let eve = User::new("eve", &["system:authenticated"]);
    let path = "/api/v1/namespaces/default/pods";
    let denied = send(&server, &eve, "GET", path, &[("impersonate-user", "root")], None).await;
    assert_eq!(denied.code, 403);
    assert_eq!(
        denied.body["message"],
        "users \"root\" is forbidden: User \"eve\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    let masters = [("impersonate-user", "x"), ("impersonate-group", "system:masters")];
    assert_eq!(send(&server, &eve, "GET", path, &masters, None).await.code, 403);
    assert_eq!(send(&server, &User::admin("root"), "GET", path, &masters, None).await.code, 200);
}

#[tokio::test]
async fn a_token_ends_with_its_account_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = || Config {
        storage: Storage::Disk(folder.path().join("state")),
        keys: Some(KeyPlace::Folder(folder.path().join("keys"))),
        ..Config::default()
    };
    let server = ApiServer::open(config()).await.unwrap();
    let account = json!({ "metadata": { "name": "robot" } });
    admin(&server, "POST", "/api/v1/namespaces/default/serviceaccounts", Some(account)).await;
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    let token = admin(&server, "POST", path, Some(json!({ "spec": {} }))).await.body;
    let review = |server: ApiServer| {
        let body = json!({ "spec": { "token": token["status"]["token"] } });
        async move { admin(&server, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", Some(body)).await.body }
    };
    assert_eq!(
        review(server.clone()).await["status"]["user"]["username"],
        "system:serviceaccount:default:robot"
    );
    server.shutdown().await.unwrap();
    let mode = {
        use std::os::unix::fs::PermissionsExt;
        folder.path().join("state/service-account.key").metadata().unwrap().permissions().mode()
    };
    assert_eq!(mode & 0o777, 0o600);
    let server = ApiServer::open(config()).await.unwrap();
    assert_eq!(review(server.clone()).await["status"]["authenticated"], true);
    admin(&server, "DELETE", "/api/v1/namespaces/default/serviceaccounts/robot", None).await;
    let status = review(server.clone()).await["status"].clone();
    assert_eq!(status["error"], "[invalid bearer token, service account token has been invalidated]");
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_bootstrap_role_gets_back_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let config = || Config {
        storage: Storage::Disk(folder.path().join("state")),
        keys: Some(KeyPlace::Folder(folder.path().join("keys"))),
        ..Config::default()
    };
    let server = ApiServer::open(config()).await.unwrap();
    let path = format!("{RBAC}/clusterroles/system:basic-user");
    let mut role = admin(&server, "GET", &path, None).await.body;
    let whole = role["rules"].clone();
    role["rules"] = json!([{ "verbs": ["get"], "apiGroups": [""], "resources": ["x"] }]);
    assert_eq!(admin(&server, "PUT", &path, Some(role)).await.code, 200);
    admin(&server, "DELETE", &format!("{RBAC}/clusterrolebindings/system:discovery"), None).await;
    server.shutdown().await.unwrap();
    let server = ApiServer::open(config()).await.unwrap();
    let rules = admin(&server, "GET", &path, None).await.body["rules"].clone();
    assert_eq!(rules.as_array().unwrap().len(), 1 + whole.as_array().unwrap().len());
    let back = format!("{RBAC}/clusterrolebindings/system:discovery");
    assert_eq!(admin(&server, "GET", &back, None).await.code, 200);
    server.shutdown().await.unwrap();
    // Without tasks, two more starts find nothing to do.
    let mut revisions = Vec::new();
    for _ in 0..2 {
        let server = ApiServer::open(Config { controllers: false, ..config() }).await.unwrap();
        let list = admin(&server, "GET", "/api/v1/namespaces", None).await.body;
        revisions.push(list["metadata"]["resourceVersion"].clone());
        server.shutdown().await.unwrap();
    }
    assert_eq!(revisions[0], revisions[1]);
}

#[tokio::test]
async fn a_token_secret_is_good_until_it_goes() {
    let server = server().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({
        "metadata": { "name": "s", "annotations": { "kubernetes.io/service-account.name": "robot" } },
        "type": "kubernetes.io/service-account-token",
    });
    let made = admin(&server, "POST", secrets, Some(secret)).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let account = json!({ "metadata": { "name": "robot" } });
    admin(&server, "POST", "/api/v1/namespaces/default/serviceaccounts", Some(account)).await;
    let filled = until(&server, &format!("{secrets}/s"), |secret| secret["data"]["token"].is_string()).await;
    use base64::Engine;
    let token =
        base64::engine::general_purpose::STANDARD.decode(filled["data"]["token"].as_str().unwrap()).unwrap();
    let review = json!({ "spec": { "token": String::from_utf8(token).unwrap() } });
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = admin(&server, "POST", reviews, Some(review.clone())).await.body;
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:robot", "{answer}");
    admin(&server, "DELETE", "/api/v1/namespaces/default/serviceaccounts/robot", None).await;
    until(&server, &format!("{secrets}/s"), |secret| secret["code"] == 404).await;
    let answer = admin(&server, "POST", reviews, Some(review)).await.body;
    assert_eq!(
        answer["status"]["error"],
        "[invalid bearer token, service account token has been invalidated]"
    );
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_none() {
    let server = server().await;
    let account = json!({ "metadata": { "name": "robot" } });
    admin(&server, "POST", "/api/v1/namespaces/default/serviceaccounts", Some(account)).await;
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    let token = admin(&server, "POST", path, Some(json!({}))).await.body;
    let token = token["status"]["token"].as_str().unwrap().to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    use base64::Engine;
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let none = base64.encode(r#"{"alg":"none"}"#);
    let master = base64.encode(r#"{"aud":["https://kubernetes.default.svc"],"exp":99999999999,"sub":"system:serviceaccount:kube-system:admin"}"#);
    let cases = [
        "a.b".to_owned(),
        "..".into(),
        ".".repeat(100_000),
        "é.é.é".into(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{master}.{}", parts[0], parts[2]),
        format!("{none}.{master}."),
        format!("{none}.{}.{}", parts[1], parts[2]),
        token[..token.len() - 4].to_owned(),
    ];
    for case in cases {
        let body = json!({ "spec": { "token": case } });
        let answer =
            admin(&server, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", Some(body)).await.body;
        assert_ne!(answer["status"]["authenticated"], true, "{case}");
    }
    let body = json!({ "spec": { "token": token } });
    let answer = admin(&server, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", Some(body)).await.body;
    assert_eq!(answer["status"]["authenticated"], true, "{answer}");
}

#[tokio::test]
async fn an_apply_or_update_that_would_create_needs_that_right() {
    let server = server().await;
    let role = json!({ "metadata": { "name": "r" }, "rules": [
        { "verbs": ["patch", "update"], "apiGroups": ["*"], "resources": ["configmaps", "leases"] },
    ] });
    admin(&server, "POST", &format!("{RBAC}/namespaces/default/roles"), Some(role)).await;
    let binding = json!({
        "metadata": { "name": "b" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r" },
        "subjects": [{ "kind": "User", "name": "eve" }],
    });
    admin(&server, "POST", &format!("{RBAC}/namespaces/default/rolebindings"), Some(binding)).await;
    let eve = User::new("eve", &["system:authenticated"]);
    let map =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" }, "data": { "a": "b" } });
    let path = "/api/v1/namespaces/default/configmaps/m?fieldManager=test";
    let apply = [("content-type", "application/apply-patch+yaml")];
    let denied = send(&server, &eve, "PATCH", path, &apply, Some(map.clone())).await;
    assert_eq!(denied.code, 403);
    assert_eq!(
        denied.body["message"],
        "configmaps \"m\" is forbidden: User \"eve\" cannot create resource \"configmaps\" in API group \"\" in the \
         namespace \"default\""
    );
    let lease = json!({ "metadata": { "name": "l" }, "spec": {} });
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    assert_eq!(send(&server, &eve, "PUT", leases, &[], Some(lease)).await.code, 403);
    admin(&server, "POST", "/api/v1/namespaces/default/configmaps", Some(map.clone())).await;
    assert_eq!(send(&server, &eve, "PATCH", path, &apply, Some(map)).await.code, 200);
}

#[tokio::test]
async fn who_approves_a_certificate_must_be_allowed_to_for_its_signer() {
    let server = server().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    use base64::Engine;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let mut request = json!({ "metadata": { "name": "r" }, "spec": {
        "request": base64::engine::general_purpose::STANDARD.encode(pem), "signerName": "example.dev/s", "usages": ["client auth"],
    } });
    let made = admin(&server, "POST", requests, Some(request.clone())).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let rules = json!([{ "verbs": ["update"], "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"] }]);
    let role = json!({ "metadata": { "name": "approver" }, "rules": rules });
    admin(&server, "POST", &format!("{RBAC}/clusterroles"), Some(role)).await;
    let binding = json!({
        "metadata": { "name": "approver" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "approver" },
        "subjects": [{ "kind": "User", "name": "eve" }],
    });
    admin(&server, "POST", &format!("{RBAC}/clusterrolebindings"), Some(binding)).await;
    request["status"]["conditions"] =
        json!([{ "type": "Approved", "status": "True", "reason": "x", "message": "y" }]);
    let eve = User::new("eve", &["system:authenticated"]);
    let path = format!("{requests}/r/approval");
    let denied = send(&server, &eve, "PUT", &path, &[], Some(request.clone())).await;
    assert_eq!(
        denied.body["message"],
        "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests with \
         signerName \"example.dev/s\""
    );
    let path_of_role = format!("{RBAC}/clusterroles/approver");
    let mut role = admin(&server, "GET", &path_of_role, None).await.body;
    let signers = json!({ "verbs": ["approve"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.dev/*"] });
    role["rules"].as_array_mut().unwrap().push(signers);
    admin(&server, "PUT", &path_of_role, Some(role)).await;
    assert_eq!(send(&server, &eve, "PUT", &path, &[], Some(request)).await.code, 200);
}
