//! The controllers on the in-process API server. The test plays the kubelet: it writes the status of Pods.

use std::fmt::Debug;
use std::time::Duration;

use dodai_apiserver::{ApiServer, Config, User};
use dodai_kit::{Clock, Context};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a condition may take to come true before the test fails; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    client: Client,
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
}

impl Cluster {
    async fn start() -> Cluster {
        let server = ApiServer::open(Config::default()).await.unwrap();
        let client = server.client(User::admin("test"));
        let cluster =
            Cluster { client: client.clone(), stop: watch::channel(false).0, running: JoinSet::new() };
        let cluster = cluster.with_controllers();
        cluster
            .create::<Node>(
                json!({"metadata": {"name": "dodai", "labels": {"kubernetes.io/hostname": "dodai"}}}),
            )
            .await;
        let allocatable = json!({"status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}});
        let nodes: Api<Node> = Api::all(client);
        nodes.patch_status("dodai", &PatchParams::default(), &Patch::Merge(&allocatable)).await.unwrap();
        // Upstream taints a new Node until its kubelet says that it is ready.
        let untainted = json!({"spec": {"taints": null}});
        nodes.patch("dodai", &PatchParams::default(), &Patch::Merge(&untainted)).await.unwrap();
        cluster
    }

    fn with_controllers(mut self) -> Cluster {
        let context = Context::new(self.client.clone(), Clock::system());
        for (_, run) in dodai_node::controllers::engine().controllers {
            self.running.spawn(run(context.clone(), self.stop.subscribe()));
        }
        self
    }

    /// The process is killed: nothing of it is ended in order.
    async fn kill_controllers(&mut self) {
        self.running.shutdown().await;
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, value: Value) -> K
    where
        K: dodai_kit::Kind,
    {
        let resource = kube::core::ApiResource::erase::<K>(&());
        let mut value = value;
        value["apiVersion"] = resource.api_version.clone().into();
        value["kind"] = resource.kind.clone().into();
        let object: kube::api::DynamicObject = serde_json::from_value(value).unwrap();
        let api: Api<kube::api::DynamicObject> = match resource.kind.as_str() {
            "Node" | "PersistentVolume" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), "default", &resource),
        };
        let created = api.create(&PostParams::default(), &object).await.unwrap();
        serde_json::from_value(serde_json::to_value(&created).unwrap()).unwrap()
    }

    async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default()).await.unwrap().items
    }

    /// What the kubelet says of a Pod.
    async fn set_phase(&self, pod: &Pod, phase: &str, ready: bool) {
        let status = json!({"status": {"phase": phase, "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2020-01-01T00:00:00Z"}]}});
        let params = PatchParams::default();
        self.api::<Pod>().patch_status(&pod.name_any(), &params, &Patch::Strategic(&status)).await.unwrap();
    }

    /// One round of a kubelet that gets every bound Pod to `phase`, and lets go of those that are being deleted.
    async fn play(&self, phase: &str) {
        for pod in self.pods().await {
            let is_bound = pod.spec.as_ref().unwrap().node_name.is_some();
            let current = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            let has_ended = matches!(current.as_str(), "Succeeded" | "Failed");
            if pod.metadata.deletion_timestamp.is_some() {
                if !has_ended {
                    self.set_phase(&pod, "Failed", false).await;
                }
                let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                let _ = self.api::<Pod>().delete(&pod.name_any(), &at_once).await;
            } else if is_bound && current == "Pending" {
                self.set_phase(&pod, phase, phase == "Running").await;
            }
        }
    }

    /// Plays the kubelet until the condition holds.
    async fn until<T: Debug>(
        &self,
        phase: &str,
        what: &str,
        check: impl AsyncFn(&Cluster) -> Result<T, String>,
    ) -> T {
        let mut last = String::new();
        let wait = async {
            loop {
                self.play(phase).await;
                match check(self).await {
                    Ok(found) => return found,
                    Err(state) => last = state,
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        found.unwrap_or_else(|_| panic!("{what}; last seen: {last}"))
    }
}

/// Waits until the named object satisfies the test.
fn named<K>(name: &'static str, test: fn(&K) -> bool) -> impl AsyncFn(&Cluster) -> Result<K, String>
where
    K: dodai_kit::Kind + DeserializeOwned + Serialize,
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    async move |cluster: &Cluster| match cluster.api::<K>().get_opt(name).await.unwrap() {
        Some(object) if test(&object) => Ok(object),
        other => Err(serde_json::to_string(&other).unwrap()),
    }
}

fn deployment(image: &str) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
                {"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8000}],
                 "resources": {"requests": {"cpu": "100m"}}}]}}
        }
    })
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let replicas = deployment.spec.as_ref().unwrap().replicas;
    status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.available_replicas]
            .iter()
            .all(|count| *count == replicas)
        && status.conditions.iter().flatten().any(|condition| {
            condition.type_ == "Progressing" && condition.reason.as_deref() == Some("NewReplicaSetAvailable")
        })
}

fn revision<K: kube::Resource>(object: &K) -> String {
    object.annotations().get("deployment.kubernetes.io/revision").cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_and_back_and_away() {
    let mut cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment("i:1")).await;
    let first =
        cluster.until("Running", "the first roll-out", named::<Deployment>("web", is_rolled_out)).await;
    assert_eq!(revision(&first), "1");

    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    let api = cluster.api::<Deployment>();
    let params = PatchParams::default();
    api.patch("web", &params, &Patch::Strategic(image("i:2"))).await.unwrap();
    // The process is killed in the middle of the roll-out, and another one carries on.
    cluster.play("Running").await;
    cluster.kill_controllers().await;
    cluster = cluster.with_controllers();
    let second =
        cluster.until("Running", "the second roll-out", named::<Deployment>("web", is_rolled_out)).await;
    assert_eq!(revision(&second), "2");
    let images: Vec<_> = cluster
        .pods()
        .await
        .iter()
        // One on its way out is counted by nobody any more.
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| pod.spec.clone().unwrap().containers[0].image.clone().unwrap())
        .collect();
    assert_eq!(images, ["i:2", "i:2", "i:2"]);

    api.patch("web", &params, &Patch::Strategic(image("i:1"))).await.unwrap();
    let back = cluster
        .until(
            "Running",
            "the way back",
            named::<Deployment>("web", |deployment| is_rolled_out(deployment) && revision(deployment) == "3"),
        )
        .await;
    assert_eq!(back.status.unwrap().unavailable_replicas, None);
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 2, "the old ReplicaSet was taken again");

    api.patch("web", &params, &Patch::Merge(json!({"spec": {"replicas": 1}}))).await.unwrap();
    cluster.until("Running", "fewer replicas", named::<Deployment>("web", is_rolled_out)).await;
    api.delete("web", &DeleteParams::background()).await.unwrap();
    cluster
        .until("Running", "everything goes", async |cluster: &Cluster| {
            let left = cluster.pods().await.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} pods")) }
        })
        .await;
    cluster.kill_controllers().await;
}

fn job(name: &str, completions: i32, backoff_limit: i32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"completions": completions, "parallelism": 2, "backoffLimit": backoff_limit,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})
}

fn conditions(job: &Job) -> Vec<String> {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions
        .iter()
        .map(|condition| format!("{} {}", condition.type_, condition.reason.clone().unwrap_or_default()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_to_its_end_and_keeps_its_pods() {
    let cluster = Cluster::start().await;
    cluster.create::<Job>(job("work", 3, 0)).await;
    let done = cluster
        .until("Succeeded", "the job ends", named::<Job>("work", |job| conditions(job).len() == 2))
        .await;
    assert_eq!(conditions(&done), ["SuccessCriteriaMet CompletionsReached", "Complete CompletionsReached"]);
    let status = done.status.unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(3), None, None));
    assert!(status.completion_time.is_some() && status.start_time.is_some());
    let pods = cluster.pods().await;
    let names: Vec<_> = pods.iter().map(|pod| pod.name_any()).collect();
    assert_eq!(names, ["work-1", "work-2", "work-3"]);
    assert!(pods.iter().all(|pod| pod.finalizers().is_empty()), "no pod is held");
    assert_eq!(pods[0].metadata.generate_name.as_deref(), Some("work-"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_retries_fails_with_its_first_pod_and_makes_no_other() {
    let cluster = Cluster::start().await;
    cluster.create::<Job>(job("once", 1, 0)).await;
    let done = cluster
        .until("Failed", "the job fails", named::<Job>("once", |job| conditions(job).len() == 2))
        .await;
    assert_eq!(conditions(&done), ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]);
    assert_eq!(done.status.unwrap().failed, Some(1));
    assert_eq!(cluster.pods().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_names_its_pods_at_the_ports_that_the_node_gave_them() {
    let cluster = Cluster::start().await;
    cluster
        .create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}]}}))
        .await;
    cluster.create::<Deployment>(deployment("i:1")).await;
    cluster.until("Running", "the roll-out", named::<Deployment>("web", is_rolled_out)).await;
    for (number, pod) in cluster.pods().await.iter().enumerate() {
        let port =
            json!({"metadata": {"annotations": {"node.dodai.dev/port": format!("{}", 20001 + number / 2)}}});
        cluster
            .api::<Pod>()
            .patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(port))
            .await
            .unwrap();
    }
    let slices = cluster
        .until("Running", "two slices", async |cluster: &Cluster| {
            let params = ListParams::default().labels("kubernetes.io/service-name=web");
            let mut slices = cluster.api::<EndpointSlice>().list(&params).await.unwrap().items;
            slices.sort_by_key(|slice| slice.ports.as_ref().and_then(|ports| ports.first()?.port));
            let ports: Vec<_> = slices
                .iter()
                .map(|slice| slice.ports.as_ref().and_then(|ports| ports.first()?.port))
                .collect();
            let all = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()).count();
            if ports == [Some(20001), Some(20002)] && all == 3 {
                Ok(slices)
            } else {
                Err(format!("{ports:?}, {all}"))
            }
        })
        .await;
    let endpoint = &slices[0].endpoints.as_ref().unwrap()[0];
    let conditions = endpoint.conditions.as_ref().unwrap();
    assert_eq!(
        (conditions.ready, conditions.serving, conditions.terminating),
        (Some(true), Some(true), Some(false))
    );
    assert_eq!(endpoint.node_name.as_deref(), Some("dodai"));
    assert!(endpoint.target_ref.as_ref().unwrap().uid.is_some());
    assert_eq!(slices[0].ports.as_ref().unwrap()[0].app_protocol.as_deref(), Some("http"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_for_its_claim_and_for_room() {
    let cluster = Cluster::start().await;
    let pod = |name: &str, cpu: &str| {
        json!({"metadata": {"name": name}, "spec": {
        "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}})
    };
    cluster.create::<Pod>(pod("small", "1")).await;
    let waits = |pod: &Pod| {
        pod.status.as_ref().and_then(|status| status.conditions.as_ref()?.first()?.message.clone())
    };
    let small = cluster
        .until(
            "Running",
            "it waits",
            named::<Pod>("small", |pod| {
                pod.status.as_ref().is_some_and(|status| status.conditions.is_some())
            }),
        )
        .await;
    assert_eq!(waits(&small).as_deref(), Some("persistentvolumeclaim \"data\" not found"));
    cluster
        .create::<PersistentVolumeClaim>(json!({"metadata": {"name": "data"}, "spec":
        {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
        .await;
    cluster
        .until(
            "Running",
            "it runs",
            named::<Pod>("small", |pod| {
                pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
            }),
        )
        .await;
    let claim = cluster.api::<PersistentVolumeClaim>().get("data").await.unwrap();
    assert_eq!(claim.spec.as_ref().unwrap().storage_class_name.as_deref(), Some("local"));
    let volume: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let volume = volume.get(&claim.spec.unwrap().volume_name.unwrap()).await.unwrap();
    assert_eq!(volume.spec.unwrap().csi.unwrap().volume_handle, "default/data");

    cluster.create::<Pod>(pod("large", "3500m")).await;
    let large = cluster
        .until(
            "Running",
            "it waits for room",
            named::<Pod>("large", |pod| {
                pod.status.as_ref().is_some_and(|status| status.conditions.is_some())
            }),
        )
        .await;
    assert_eq!(waits(&large).as_deref(), Some("0/1 nodes are available: 1 Insufficient cpu."));
    cluster.api::<Pod>().delete("small", &DeleteParams::default()).await.unwrap();
    cluster
        .until(
            "Running",
            "it gets the room",
            named::<Pod>("large", |pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some("dodai")),
        )
        .await;
}

/// Serves on a socket with the controllers, for the player of recorded transcripts (`apireplay.py`), until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "serves until it is killed: DODAI_TOKENS is `admin token:user token`, DODAI_LISTEN an address"]
async fn serves_for_the_player_of_transcripts() {
    let tokens = std::env::var("DODAI_TOKENS").unwrap();
    let (admin, user) = tokens.split_once(':').unwrap();
    let tokens = [(admin.to_owned(), User::admin("admin")), (user.to_owned(), User::new("alice", &["dev"]))];
    let config = Config { tokens: tokens.into(), ..Config::default() };
    let server = ApiServer::open(config).await.unwrap();
    let listener = tokio::net::TcpListener::bind(std::env::var("DODAI_LISTEN").unwrap()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let serving = server.serve(listener, &dodai_apiserver::Pki::open(folder.path()).unwrap()).await.unwrap();
    let client = server.client(User::admin("test"));
    let cluster = Cluster { client, stop: watch::channel(false).0, running: JoinSet::new() };
    let _running = cluster.with_controllers();
    println!("serving {}", serving.url());
    std::future::pending::<()>().await;
}
