//! Built-in admission and the tasks that go with it.

use dodai_apiserver::{ApiServer, Config, Pki};
use serde_json::{Value, json};

use super::basics::server;
use super::rbac::{admin, until};

const DEFAULT: &str = "/api/v1/namespaces/default";

fn pod(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "x" }] } })
}

async fn create(server: &ApiServer, path: &str, body: Value) -> Value {
    let answer = admin(server, "POST", path, Some(body)).await;
    assert_eq!(answer.code, 201, "{}", answer.body);
    answer.body
}

#[tokio::test]
async fn a_quota_counts_what_comes_and_goes() {
    let server = server().await;
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "count/leases.coordination.k8s.io": "1", "pods": "5" } } });
    create(&server, &format!("{DEFAULT}/resourcequotas"), quota).await;
    let path = format!("{DEFAULT}/resourcequotas/q");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let used = |wanted: &'static str| {
        move |quota: &Value| quota["status"]["used"]["count/leases.coordination.k8s.io"] == wanted
    };
    until(&server, &path, used("0")).await;
    let lease = |name: &str| json!({ "metadata": { "name": name }, "spec": {} });
    create(&server, leases, lease("a")).await;
    let refused = admin(&server, "POST", leases, Some(lease("b"))).await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.body["message"],
        "leases.coordination.k8s.io \"b\" is forbidden: exceeded quota: q, requested: count/leases.coordination.k8s.io=1, \
         used: count/leases.coordination.k8s.io=1, limited: count/leases.coordination.k8s.io=1"
    );
    admin(&server, "DELETE", &format!("{leases}/a"), None).await;
    until(&server, &path, used("0")).await;
    create(&server, leases, lease("b")).await;
    // A name that is taken gives back what it was charged.
    create(&server, &format!("{DEFAULT}/pods"), pod("p")).await;
    assert_eq!(admin(&server, "POST", &format!("{DEFAULT}/pods"), Some(pod("p"))).await.code, 409);
    until(&server, &path, |quota| quota["status"]["used"]["pods"] == "1").await;
}

#[tokio::test]
async fn a_limit_range_fills_in_and_says_so() {
    let server = server().await;
    let range = json!({ "metadata": { "name": "l" }, "spec": { "limits": [
        { "type": "Container", "default": { "cpu": "500m", "memory": "64Mi" }, "defaultRequest": { "cpu": "100m" } },
    ] } });
    create(&server, &format!("{DEFAULT}/limitranges"), range).await;
    let pod = create(&server, &format!("{DEFAULT}/pods"), pod("p")).await;
    let resources = &pod["spec"]["containers"][0]["resources"];
    assert_eq!(
        *resources,
        json!({ "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "cpu": "500m", "memory": "64Mi" } })
    );
    assert_eq!(
        pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c"
    );
    assert_eq!(pod["status"]["qosClass"], "Burstable");
}

#[tokio::test]
async fn every_namespace_gets_an_account_and_the_ca_and_pods_a_token() {
    let server = ApiServer::open(Config { service_account_tokens: true, ..Config::default() }).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = server.serve(listener, &pki).await.unwrap();
    create(&server, "/api/v1/namespaces", json!({ "metadata": { "name": "new" } })).await;
    // At once: the Pod waits for the account.
    let made = create(&server, "/api/v1/namespaces/new/pods", pod("p")).await;
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    let map = "/api/v1/namespaces/new/configmaps/kube-root-ca.crt";
    let ca = |map: &Value| map["data"]["ca.crt"].as_str().is_some_and(|text| text.contains("BEGIN CERT"));
    let found = until(&server, map, ca).await;
    // What is taken away comes back.
    admin(&server, "DELETE", map, None).await;
    until(&server, map, |map| ca(map) && map["metadata"]["uid"] != found["metadata"]["uid"]).await;
    admin(&server, "DELETE", "/api/v1/namespaces/new/serviceaccounts/default", None).await;
    until(&server, "/api/v1/namespaces/new/serviceaccounts/default", |account| {
        account["kind"] == "ServiceAccount"
    })
    .await;
    let mut robot = pod("q");
    robot["spec"]["serviceAccountName"] = "robot".into();
    let refused = admin(&server, "POST", "/api/v1/namespaces/new/pods", Some(robot)).await;
    assert_eq!(
        refused.body["message"],
        "pods \"q\" is forbidden: error looking up service account new/robot: serviceaccount \"robot\" not found"
    );
    // A namespace with all that can be deleted.
    admin(&server, "DELETE", "/api/v1/namespaces/new/pods/p", None).await;
    admin(&server, "DELETE", "/api/v1/namespaces/new", None).await;
    until(&server, "/api/v1/namespaces/new", |namespace| namespace["code"] == 404).await;
    serving.stop().await;
}

#[tokio::test]
async fn a_pod_below_the_baseline_is_told_why() {
    let server = server().await;
    let labels = json!({ "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30" });
    create(&server, "/api/v1/namespaces", json!({ "metadata": { "name": "safe", "labels": labels } })).await;
    let cases = [
        (json!({ "hostNetwork": true }), json!({}), "host namespaces (hostNetwork=true)"),
        (
            json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] }),
            json!({}),
            "hostPath volumes (volume \"v\")",
        ),
        (
            json!({}),
            json!({ "ports": [{ "containerPort": 80, "hostPort": 81 }] }),
            "hostPort (container \"c\" uses hostPort 81)",
        ),
        (
            json!({}),
            json!({ "securityContext": { "privileged": true } }),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            json!({}),
            json!({ "securityContext": { "capabilities": { "add": ["SYS_ADMIN", "CHOWN"] } } }),
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            json!({ "securityContext": { "seccompProfile": { "type": "Unconfined" } } }),
            json!({}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            json!({ "securityContext": { "sysctls": [{ "name": "kernel.msgmax", "value": "1" }] } }),
            json!({}),
            "forbidden sysctls (kernel.msgmax)",
        ),
    ];
    for (spec, container, wanted) in cases {
        let mut pod = pod("p");
        for (from, to) in [(&spec, "/spec"), (&container, "/spec/containers/0")] {
            for (key, value) in from.as_object().unwrap() {
                pod.pointer_mut(to).unwrap()[key] = value.clone();
            }
        }
        let answer = admin(&server, "POST", "/api/v1/namespaces/safe/pods", Some(pod)).await;
        let text = format!("pods \"p\" is forbidden: violates PodSecurity \"baseline:v1.30\": {wanted}");
        assert_eq!(answer.body["message"], text);
    }
    create(&server, "/api/v1/namespaces/safe/pods", pod("fine")).await;
    let odd =
        json!({ "metadata": { "name": "odd", "labels": { "pod-security.kubernetes.io/warn": "most" } } });
    let refused = admin(&server, "POST", "/api/v1/namespaces", Some(odd)).await;
    assert_eq!(
        refused.body["message"],
        "Namespace \"odd\" is invalid: metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"most\": must be \
         one of privileged, baseline, restricted"
    );
}

#[tokio::test]
async fn what_has_no_effect_says_so() {
    let server = server().await;
    let cases = [(
        "/apis/apiregistration.k8s.io/v1/apiservices",
        json!({ "metadata": { "name": "v1.x.dev" }, "spec": {
                "group": "x.dev", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
                "service": { "name": "s", "namespace": "default" },
            } }),
        "this server stores APIService objects without effect: requests for its group are not handed on",
    )];
    for (path, body, wanted) in cases {
        let answer = admin(&server, "POST", path, Some(body)).await;
        assert_eq!(answer.code, 201, "{}", answer.body);
        assert_eq!(answer.warnings, [format!("299 - \"{wanted}\"")]);
    }
}

#[tokio::test]
async fn a_pod_takes_its_priority_from_its_class() {
    let server = server().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    create(&server, classes, json!({ "metadata": { "name": "usual" }, "value": 7, "globalDefault": true }))
        .await;
    let made = create(&server, &format!("{DEFAULT}/pods"), pod("p")).await;
    assert_eq!((&made["spec"]["priority"], &made["spec"]["priorityClassName"]), (&json!(7), &json!("usual")));
    let mut critical = pod("q");
    critical["spec"]["priorityClassName"] = "system-node-critical".into();
    critical["spec"]["priority"] = 1.into();
    let refused = admin(&server, "POST", &format!("{DEFAULT}/pods"), Some(critical)).await;
    assert_eq!(refused.code, 403);
    assert!(
        refused.body["message"]
            .as_str()
            .unwrap()
            .contains("computed 2000001000 from the given PriorityClass name")
    );
}

#[tokio::test]
async fn an_autoscaler_is_one_object_in_both_versions() {
    let server = server().await;
    let v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let body = json!({ "metadata": { "name": "h" }, "spec": {
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "d" },
        "maxReplicas": 4, "targetCPUUtilizationPercentage": 60,
    } });
    let made = create(&server, v1, body).await;
    assert_eq!((&made["spec"]["minReplicas"], &made["status"]["currentReplicas"]), (&json!(1), &json!(0)));
    let v2 = v1.replace("v1", "v2");
    let mut seen = admin(&server, "GET", &format!("{v2}/h"), None).await.body;
    assert_eq!(
        seen["spec"]["metrics"],
        json!([{ "type": "Resource", "resource": {
            "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 60 },
        } }])
    );
    let memory = json!({ "type": "Resource", "resource": {
        "name": "memory", "target": { "type": "AverageValue", "averageValue": "1Gi" },
    } });
    seen["spec"]["metrics"] = json!([memory]);
    assert_eq!(admin(&server, "PUT", &format!("{v2}/h"), Some(seen)).await.code, 200);
    // A change through v1 keeps what v1 cannot say.
    let mut old = admin(&server, "GET", &format!("{v1}/h"), None).await.body;
    old["spec"]["maxReplicas"] = 5.into();
    assert_eq!(admin(&server, "PUT", &format!("{v1}/h"), Some(old)).await.code, 200);
    let seen = admin(&server, "GET", &format!("{v2}/h"), None).await.body;
    assert_eq!((&seen["spec"]["metrics"], &seen["spec"]["maxReplicas"]), (&json!([memory]), &json!(5)));
    assert!(seen["metadata"]["annotations"].is_null(), "{seen}");
}
