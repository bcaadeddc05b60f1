//! The kubelet on the in-process API server and the process runtime: Pods as a person or a controller makes them.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use dodai_apiserver::{ApiServer, Config, User};
use dodai_node::{Body, BuildSettings, Node, NodeConfig};
use http_body_util::{BodyExt, Empty};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tar::EntryType;
use tower::ServiceExt;

use crate::common::{PATIENCE, lock_holder, supervisor_exe, until_true};
use crate::images::add_source;

/// An API server, a node on it, and a source that holds nothing.
pub struct Cluster {
    pub folder: tempfile::TempDir,
    pub server: ApiServer,
    pub client: Client,
    pub node: Option<Node>,
    pub source: String,
    /// Where Pods find the API.
    pub api: Option<std::net::SocketAddr>,
}

impl Cluster {
    pub async fn new() -> Cluster {
        let mut cluster = Cluster::on(ApiServer::open(Config::default()).await.unwrap()).await;
        cluster.start().await;
        cluster
    }

    /// On this server, without a node yet.
    pub async fn on(server: ApiServer) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let client = server.client(User::admin("test"));
        let source = add_source(&folder.path().join("data"), &[(EntryType::Regular, "hello", "hello")]);
        let cluster = Cluster { folder, server, client, node: None, source, api: None };
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let default: Namespace = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        let _ = namespaces.create(&PostParams::default(), &default).await;
        cluster
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn config(&self) -> NodeConfig {
        let mut config = NodeConfig::new(self.data());
        config.supervisor_exe = supervisor_exe();
        config.api = self.api;
        config.path = "/usr/local/bin:/usr/bin:/bin".to_string();
        config.build_settings = BuildSettings::collect(
            [("PIP_INDEX_URL".to_string(), "http://index".to_string())].into_iter(),
            None,
        );
        config
    }

    pub async fn start(&mut self) {
        let node = Node::start(self.config(), self.server.client(User::admin("node"))).await.unwrap();
        self.node = Some(node);
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// A Pod with one container `c` that runs a script, bound to the node.
    pub fn pod(&self, name: &str, script: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": "dodai",
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "containers": [{
                    "name": "c",
                    "image": format!("dodai.local/source@sha256:{}", self.source),
                    "command": ["/bin/sh", "-c", script],
                }],
            },
        })
    }

    pub async fn create(&self, pod: &Value) -> Pod {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    pub async fn until(&self, name: &str, what: &str, test: impl Fn(&Value) -> bool) -> Value {
        let pods = self.pods();
        let mut last = Value::Null;
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                last = match pods.get_opt(name).await.unwrap() {
                    Some(pod) => serde_json::to_value(pod).unwrap(),
                    None => Value::Null,
                };
                if test(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let in_time = waited.await.is_ok();
        assert!(in_time, "{name}: waited in vain until {what}: {:#}", last["status"]);
        last
    }

    pub async fn until_phase(&self, name: &str, phase: &str) -> Value {
        self.until(name, phase, |pod| pod["status"]["phase"] == phase).await
    }

    pub async fn until_gone(&self, name: &str) {
        self.until(name, "it is gone", Value::is_null).await;
    }

    pub async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn logs(&self, path: &str) -> (u16, String) {
        let body: Body =
            Empty::<Bytes>::new().map_err(|never: std::convert::Infallible| match never {}).boxed_unsync();
        let request = http::Request::get(format!("/containerLogs/default/{path}")).body(body).unwrap();
        let service = self.node.as_ref().unwrap().kubelet_service();
        let response = service.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes =
            tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("the log ends");
        (status, String::from_utf8(bytes.unwrap().to_bytes().to_vec()).unwrap())
    }

    /// Ends the node as `kill -9` of dodai does: nothing is told to anyone.
    pub fn forget_node(&mut self) -> Node {
        self.node.take().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.data().join("pods")).into_iter().flatten().flatten() {
            if let Some(pid) = lock_holder(&entry.path()) {
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let all = pod["status"]["conditions"].as_array();
    all.and_then(|all| all.iter().find(|condition| condition["type"] == kind)).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_to_its_end_and_its_log_can_be_read() {
    let mut cluster = Cluster::new().await;
    let pod = cluster.pod("done", "cat hello; echo; echo two; echo three >&2; echo $PORT $HOME");
    cluster.create(&pod).await;
    let pod = cluster.until_phase("done", "Succeeded").await;
    let ended = &container(&pod)["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(0), &json!("Completed")));
    assert_eq!(condition(&pod, "Ready")["reason"], "PodCompleted");
    let port = pod["metadata"]["annotations"]["node.dodai.dev/port"].as_str().unwrap().to_string();
    let whole = format!("hello\ntwo\nthree\n{port} /tmp/home\n");
    // Two pipes have no order between them.
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
        lines.sort();
        lines
    };
    let (status, text) = cluster.logs("done/c").await;
    assert_eq!((status, sorted(&text)), (200, sorted(&whole)));
    assert_eq!(cluster.logs("done/c?tailLines=1").await.1.lines().count(), 1);
    assert_eq!(cluster.logs("done/c?limitBytes=3").await.1.len(), 3);
    let (_, stamped) = cluster.logs("done/c?timestamps=true&follow=true").await;
    assert!(stamped.lines().all(|line| line.split(' ').next().unwrap().parse::<jiff::Timestamp>().is_ok()));
    assert_eq!(cluster.logs("done/c?previous=true").await.0, 400);
    assert_eq!(cluster.logs("done/x").await.0, 404);
    assert_eq!(cluster.logs("none/c").await.0, 404);
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let folder = cluster.data().join("pods").join(uid);
    until_true("its supervisor is gone", || lock_holder(&folder).is_none()).await;
    cluster.delete("done").await;
    cluster.until_gone("done").await;
    until_true("its folder is gone", || !folder.exists()).await;
    cluster.forget_node().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_told_with_its_last_lines_and_restarts_back_off() {
    let cluster = Cluster::new().await;
    let mut pod = cluster.pod("crash", "echo run; exit 3");
    pod["spec"]["restartPolicy"] = json!("Always");
    cluster.create(&pod).await;
    let pod = cluster
        .until("crash", "it backs off", |pod| {
            container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(container(&pod)["restartCount"], 1, "the first restart is at once");
    let last = &container(&pod)["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["message"]), (&json!(3), &json!("run")));
    assert_eq!(
        container(&pod)["state"]["waiting"]["message"],
        "back-off 10s restarting failed container=c pod=crash"
    );
    assert_eq!(cluster.logs("crash/c").await.1, "run\n", "one run's lines only");
    assert_eq!(cluster.logs("crash/c?previous=1").await.1, "run\n");
    cluster.create(&cluster.pod("fails", "echo why; exit 4")).await;
    let pod = cluster.until_phase("fails", "Failed").await;
    assert_eq!(container(&pod)["state"]["terminated"]["message"], "why");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_why_and_starts_when_it_can() {
    let cluster = Cluster::new().await;
    let waits = |name: &str, reason: &'static str| {
        let name = name.to_string();
        let cluster = &cluster;
        async move {
            let pod = cluster
                .until(&name, reason, |pod| container(pod)["state"]["waiting"]["reason"] == reason)
                .await;
            container(&pod)["state"]["waiting"]["message"].as_str().unwrap().to_string()
        }
    };
    let mut pod = cluster.pod("oci", "true");
    pod["spec"]["containers"][0]["image"] = json!("nginx");
    cluster.create(&pod).await;
    assert!(waits("oci", "ErrImagePull").await.contains("cannot pull `nginx`"));
    let mut pod = cluster.pod("hook", "true");
    pod["spec"]["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["true"]}}});
    cluster.create(&pod).await;
    assert!(waits("hook", "CreateContainerConfigError").await.contains("postStart"));
    let mut pod = cluster
        .pod("env", "echo $FROM_KEY $ALL_B $EXPANDED $NODE; cat /etc/conf/a; cat /secret/deep/s; exit 0");
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "FROM_KEY", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "a"}}},
        {"name": "EXPANDED", "value": "$(FROM_KEY)-$(ALL_B)"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]);
    pod["spec"]["containers"][0]["envFrom"] = json!([{"prefix": "ALL_", "secretRef": {"name": "sec"}}]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "conf", "mountPath": "/etc/conf"}, {"name": "sec", "mountPath": "/secret"}]);
    pod["spec"]["volumes"] = json!([
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "sec", "projected": {"sources": [{"secret": {"name": "sec", "items": [{"key": "B", "path": "deep/s"}]}}]}},
    ]);
    cluster.create(&pod).await;
    assert_eq!(waits("env", "CreateContainerConfigError").await, "secret \"sec\" not found");
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), "default");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "default");
    let secret =
        serde_json::from_value(json!({"metadata": {"name": "sec"}, "stringData": {"B": "two"}})).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let map = serde_json::from_value(json!({"metadata": {"name": "conf"}, "data": {"a": "one"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let pod = cluster.until_phase("env", "Succeeded").await;
    assert_eq!(cluster.logs("env/c").await.1, "one two one-two dodai\nonetwo\n", "{pod:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_dodai_adopts_what_runs_and_ends_what_nobody_knows() {
    let mut cluster = Cluster::new().await;
    let mut pod = cluster.pod("stays", "echo pid $$; sleep 1000");
    pod["spec"]["restartPolicy"] = json!("Always");
    cluster.create(&pod).await;
    cluster.create(&cluster.pod("ends", "while ! [ -e /tmp/go ]; do sleep 0.01; done; exit 6")).await;
    cluster.create(&cluster.pod("orphan", "sleep 1000")).await;
    let before =
        cluster.until("stays", "it is ready", |pod| condition(pod, "Ready")["status"] == "True").await;
    let ends = cluster.until("ends", "it runs", |pod| container(pod)["state"]["running"].is_object()).await;
    let orphan =
        cluster.until("orphan", "it runs", |pod| container(pod)["state"]["running"].is_object()).await;
    let folder = |pod: &Value| cluster.data().join("pods").join(pod["metadata"]["uid"].as_str().unwrap());
    let (ends, orphan) = (folder(&ends), folder(&orphan));
    drop(cluster.forget_node());
    cluster.pods().delete("orphan", &DeleteParams::default().grace_period(0)).await.unwrap();
    std::fs::write(ends.join("scratch/c/tmp/go"), "").unwrap();
    cluster.start().await;
    let pod = cluster.until_phase("ends", "Failed").await;
    assert_eq!(container(&pod)["state"]["terminated"]["exitCode"], 6);
    until_true("the orphan is gone", || !orphan.exists()).await;
    let after =
        cluster.until("stays", "it is ready", |pod| condition(pod, "Ready")["status"] == "True").await;
    assert_eq!(after["status"]["containerStatuses"], before["status"]["containerStatuses"]);
    assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_pods_but_awaits_what_runs_to_completion() {
    let mut cluster = Cluster::new().await;
    let mut pod = cluster.pod("web", "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done");
    pod["spec"]["restartPolicy"] = json!("Always");
    cluster.create(&pod).await;
    let mut pod = cluster.pod("migrate", "trap 'exit 9' TERM; echo up; sleep 1; echo migrated");
    pod["metadata"]["annotations"] = json!({"node.dodai.dev/run-to-completion": "true"});
    cluster.create(&pod).await;
    cluster.create(&cluster.pod("build", "echo up; exec sleep 1000")).await;
    for name in ["web", "migrate", "build"] {
        cluster.until(name, "it runs", |pod| container(pod)["state"]["running"].is_object()).await;
        let log = cluster.data().join(format!("logs/default/{name}/c.log"));
        until_true("it is up", || std::fs::read_to_string(&log).unwrap_or_default().contains("up")).await;
    }
    cluster.forget_node().shutdown().await;
    let pod = cluster.until_phase("migrate", "Succeeded").await;
    assert_eq!(container(&pod)["state"]["terminated"]["exitCode"], 0);
    let pod = cluster.until_phase("build", "Failed").await;
    assert_eq!(pod["status"]["reason"], "NodeShutdown");
    let pod = cluster.until("web", "it ended", |pod| container(pod)["state"]["terminated"].is_object()).await;
    assert_eq!(pod["status"]["phase"], "Running");
    cluster.start().await;
    let pod =
        cluster.until("web", "it runs again", |pod| container(pod)["state"]["running"].is_object()).await;
    assert_eq!(container(&pod)["restartCount"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_leaves_an_image_that_other_pods_run_read_only() {
    let cluster = Cluster::new().await;
    let image = format!("dodai.local/build@sha256:{}", "c".repeat(64));
    let script = "echo index $PIP_INDEX_URL; touch $PIP_CACHE_DIR.x; mkdir -p .venv/bin; \
                  printf '#!/bin/sh\\necho tool ran' >.venv/bin/tool; chmod +x .venv/bin/tool; echo new >hello";
    for name in ["build-1", "build-2"] {
        let mut pod = cluster.pod(name, script);
        pod["metadata"]["annotations"] = json!({"node.dodai.dev/commit-image": image});
        cluster.create(&pod).await;
        cluster.until_phase(name, "Succeeded").await;
    }
    assert_eq!(cluster.logs("build-1/c").await.1, "index http://index\n");
    assert_eq!(cluster.logs("build-2/c").await.0, 400, "it was there already, nothing ran");
    assert!(cluster.data().join("cache/pip.x").exists());
    let mut pod = cluster.pod("use", "");
    pod["spec"]["containers"][0]["image"] = json!(image);
    pod["spec"]["containers"][0]["command"] = json!([
        "/bin/sh",
        "-c",
        "tool; cat hello; echo ${PIP_INDEX_URL-unset}; touch x 2>/dev/null || echo read-only"
    ]);
    cluster.create(&pod).await;
    cluster.until_phase("use", "Succeeded").await;
    assert_eq!(cluster.logs("use/c").await.1, "tool ran\nnew\nunset\nread-only\n");
    let mut pod = cluster.pod("fails", "exit 1");
    pod["metadata"]["annotations"] =
        json!({"node.dodai.dev/commit-image": format!("dodai.local/build@sha256:{}", "d".repeat(64))});
    cluster.create(&pod).await;
    cluster.until_phase("fails", "Failed").await;
    assert!(!cluster.node.as_ref().unwrap().images().has(&"d".repeat(64)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_gate_readiness_and_kill_what_is_dead() {
    let cluster = Cluster::new().await;
    let server = "import http.server,os\n\
        class H(http.server.BaseHTTPRequestHandler):\n\
        \x20def do_GET(self):\n\
        \x20 ok = os.path.exists('/tmp'+self.path)\n\
        \x20 self.send_response(200 if ok else 503);self.end_headers()\n\
        http.server.HTTPServer(('127.0.0.1',int(os.environ['WHERE'] or os.environ['PORT'])),H).serve_forever()";
    let mut pod = cluster.pod("web", "");
    let spec = &mut pod["spec"]["containers"][0];
    spec["command"] = json!(["/usr/bin/python3", "-c", server]);
    spec["env"] = json!([{"name": "WHERE", "value": ""}]);
    spec["ports"] = json!([{"name": "http", "containerPort": 8000}]);
    spec["readinessProbe"] =
        json!({"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 2});
    spec["livenessProbe"] = json!({"exec": {"command": ["sh", "-c", "! test -e /tmp/dead || { echo is dead; exit 1; }"]},
        "periodSeconds": 1, "failureThreshold": 1});
    pod["spec"]["restartPolicy"] = json!("Always");
    cluster.create(&pod).await;
    let pod = cluster
        .until("web", "its probe failed", |pod| {
            condition(pod, "Ready")["message"]
                .as_str()
                .is_some_and(|message| message.contains("2 of 2 tries"))
        })
        .await;
    let port = pod["metadata"]["annotations"]["node.dodai.dev/port"].as_str().unwrap();
    let want = format!("GET /ready -> 503 from 127.0.0.1:{port}, 2 of 2 tries");
    assert_eq!(condition(&pod, "Ready")["message"], want);
    let tmp =
        cluster.data().join("pods").join(pod["metadata"]["uid"].as_str().unwrap()).join("scratch/c/tmp");
    std::fs::write(tmp.join("ready"), "").unwrap();
    cluster.until("web", "it is ready", |pod| condition(pod, "Ready")["status"] == "True").await;
    std::fs::write(tmp.join("dead"), "").unwrap();
    let pod = cluster.until("web", "it is restarted", |pod| container(pod)["restartCount"] == 1).await;
    assert_eq!(container(&pod)["lastState"]["terminated"]["exitCode"], 143, "{pod:#}");
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), "default");
    let told = events.list(&Default::default()).await.unwrap();
    let told: Vec<String> = told.items.into_iter().filter_map(|event| event.message).collect();
    assert!(told.contains(&want), "{told:?}");
    assert!(told.iter().any(|message| message.contains("-> exit 1: is dead")), "{told:?}");

    let mut pod = cluster.pod("elsewhere", "");
    let spec = &mut pod["spec"]["containers"][0];
    spec["command"] = json!(["/usr/bin/python3", "-c", server]);
    spec["env"] = json!([{"name": "WHERE", "value": "19321"}]);
    spec["ports"] = json!([{"containerPort": 8000}]);
    cluster.create(&pod).await;
    let pod = cluster
        .until("elsewhere", "it is found", |pod| condition(pod, "Ready")["reason"] == "ListensElsewhere")
        .await;
    let port = pod["metadata"]["annotations"]["node.dodai.dev/port"].as_str().unwrap();
    assert_eq!(
        condition(&pod, "Ready")["message"],
        format!("listens on 127.0.0.1:19321, not on PORT {port}")
    );
    assert_eq!(condition(&pod, "Ready")["status"], "False");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_containers_run_in_order_before_the_others_and_a_deletion_is_graceful() {
    let cluster = Cluster::new().await;
    let mut pod = cluster.pod(
        "web",
        "trap 'sleep 0.2; echo bye; exit 0' TERM; cat /data/a /data/b; echo up; while :; do sleep 0.02; done",
    );
    let image = pod["spec"]["containers"][0]["image"].clone();
    let init = |name: &str, script: &str| {
        json!({"name": name, "image": image, "command": ["/bin/sh", "-c", script],
               "volumeMounts": [{"name": "data", "mountPath": "/data"}]})
    };
    pod["spec"]["initContainers"] =
        json!([init("one", "echo 1 >/data/a"), init("two", "cat /data/a >/data/b; echo 2 >>/data/b")]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["metadata"]["finalizers"] = json!(["example.com/look"]);
    cluster.create(&pod).await;
    cluster.until("web", "it is ready", |pod| condition(pod, "Ready")["status"] == "True").await;
    let log = cluster.data().join("logs/default/web/c.log");
    until_true("it is up", || std::fs::read_to_string(&log).unwrap_or_default().contains("up")).await;
    assert_eq!(cluster.logs("web/c").await.1, "1\n1\n2\nup\n");
    cluster.delete("web").await;
    let pod = cluster.until("web", "it ended", |pod| container(pod)["state"]["terminated"].is_object()).await;
    assert_eq!(container(&pod)["state"]["terminated"]["exitCode"], 0);
    assert!(std::fs::read_to_string(&log).unwrap().contains("bye"));
    let patch = json!({"metadata": {"finalizers": null}});
    cluster.pods().patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    cluster.until_gone("web").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubelet_works_with_any_runtime() {
    let mut cluster = Cluster::new().await;
    drop(cluster.forget_node());
    let folder = cluster.folder.path().join("fake");
    std::fs::create_dir(&folder).unwrap();
    let fake = dodai_node::runtime::fake::FakeRuntime::new(&folder);
    let client = cluster.server.client(User::admin("node"));
    let node = Node::start_with(cluster.config(), client, std::sync::Arc::new(fake.clone())).await.unwrap();
    let mut pod = cluster.pod("web", "never run");
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    cluster.create(&pod).await;
    let pod = cluster.until("web", "it is ready", |pod| condition(pod, "Ready")["status"] == "True").await;
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_string();
    let handle = fake.pod(&uid).unwrap();
    assert_eq!(handle.last_start("c").unwrap().command, ["/bin/sh", "-c", "never run"]);
    handle.finish("c", 1, "first");
    let pod = cluster.until("web", "it runs again", |pod| container(pod)["restartCount"] == 1).await;
    assert_eq!(container(&pod)["lastState"]["terminated"]["message"], "first");
    handle.finish("c", 0, "");
    cluster.until_phase("web", "Succeeded").await;
    assert_eq!(fake.starts(), [(uid.clone(), "c".to_string(), 0), (uid.clone(), "c".to_string(), 1)]);
    cluster.delete("web").await;
    cluster.until_gone("web").await;
    until_true("the runtime forgot it", || fake.pod(&uid).is_none()).await;
    node.shutdown().await;
}

/// What every client library does in a Pod: address from the environment, token, CA and namespace from the mount.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_a_pod_reaches_the_api_as_its_service_account() {
    let config = Config { service_account_tokens: true, ..Config::default() };
    let server = ApiServer::open(config).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = server.serve(listener, &dodai_apiserver::Pki::open(folder.path()).unwrap()).await.unwrap();
    let mut cluster = Cluster::on(server).await;
    cluster.api = Some(serving.address());
    cluster.start().await;
    let script = r#"
        cd /var/run/secrets/kubernetes.io/serviceaccount && test "$(stat -L -c %a token)" = 644 &&
        curl -s --cacert ca.crt -H "Authorization: Bearer $(cat token)" \
            "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/$(cat namespace)/pods" &&
        cat /data/limits && ls /where"#;
    let mut pod = cluster.pod("client", script);
    let container = &mut pod["spec"]["containers"][0];
    container["resources"] = json!({"limits": {"memory": "64Mi", "cpu": "1500m"}});
    container["env"] = json!([{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"},
        {"name": "empty", "mountPath": "/where/at", "subPathExpr": "of-$(NAME)"}]);
    pod["spec"]["volumes"] = json!([{"name": "empty", "emptyDir": {}}, {"name": "data", "downwardAPI": {"items": [
        {"path": "limits", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}}
    ]}}]);
    cluster.create(&pod).await;
    cluster.until_phase("client", "Succeeded").await;
    let (_, log) = cluster.logs("client/c").await;
    let refused =
        "pods is forbidden: User \\\"system:serviceaccount:default:default\\\" cannot list resource";
    assert!(log.contains(refused) && log.ends_with("64at\n"), "{log}");
}
