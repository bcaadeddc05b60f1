//! The admission policy on the in-process API server: who is no reader cannot mount or reference.

use dodai_secrets::file::change;
use dodai_secrets::policy;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::live::Cluster;
use super::support::{person, sealing};

fn pod(name: &str, account: &str, spec: &Value) -> Pod {
    let mut pod = json!({"metadata": {"name": name}, "spec": {
        "serviceAccountName": account,
        "containers": [{"name": "main", "image": "x"}],
    }});
    for (field, value) in spec.as_object().unwrap() {
        match field.as_str() {
            "env" | "envFrom" => pod["spec"]["containers"][0][field] = value.clone(),
            _ => pod["spec"][field] = value.clone(),
        }
    }
    serde_json::from_value(pod).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pods_of_readers_reach_the_secret() {
    let alice = person();
    let recipients = [alice.recipient.clone()];
    let cluster = Cluster::start(alice.keyring.clone()).await;
    for object in policy::objects() {
        let kind = object["kind"].as_str().unwrap();
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind));
        let resource = ApiResource { plural: resource.plural.replace("policys", "policies"), ..resource };
        let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
        api.patch(policy::NAME, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "default");
    for name in ["web", "other", "default"] {
        let account = ServiceAccount {
            metadata: kube::api::ObjectMeta { name: Some(name.into()), ..Default::default() },
            ..Default::default()
        };
        // `default` may be there already.
        let _ = accounts.create(&PostParams::default(), &account).await;
    }
    let file = change::create("default", "payments");
    let file = change::set(&file, None, "A", b"x", false, &sealing(&alice.keyring, &recipients)).unwrap();
    cluster.apply(&file.replace("spec:", "spec:\n  readers: [{serviceAccount: web}]")).await;
    let open = file.replace("name: payments", "name: open");
    cluster.apply(&open).await;

    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "default");
    let ways = [
        json!({"volumes": [{"name": "v", "secret": {"secretName": "payments"}}]}),
        json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "payments"}}]}}]}),
        json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "payments", "key": "A"}}}]}),
        json!({"envFrom": [{"secretRef": {"name": "payments"}}]}),
        json!({"imagePullSecrets": [{"name": "payments"}]}),
        json!({"initContainers": [{"name": "i", "image": "x", "envFrom": [{"secretRef": {"name": "payments"}}]}]}),
    ];
    // A policy comes into force a moment after it was made.
    let began = std::time::Instant::now();
    loop {
        let tried = pods
            .create(&PostParams { dry_run: true, ..Default::default() }, &pod("probe", "other", &ways[0]))
            .await;
        if tried.is_err() {
            break;
        }
        assert!(began.elapsed() < super::live::PATIENCE, "the policy is not in force");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for (number, way) in ways.iter().enumerate() {
        for account in ["other", "default"] {
            let error =
                pods.create(&PostParams::default(), &pod(&format!("{account}-{number}"), account, way)).await;
            let error = error.expect_err("a Pod of no reader").to_string();
            assert!(error.contains("is not a reader of Secret payments"), "{error}");
        }
        let made = pods.create(&PostParams::default(), &pod(&format!("web-{number}"), "web", way)).await;
        assert_eq!(made.unwrap().name_any(), format!("web-{number}"));
    }
    // What names no readers restricts nothing; nor does a Pod that names no Secret meet a limit.
    let free = json!({"envFrom": [{"secretRef": {"name": "open"}}]});
    pods.create(&PostParams::default(), &pod("free", "other", &free)).await.unwrap();
    pods.create(&PostParams::default(), &pod("none", "other", &json!({}))).await.unwrap();
}
