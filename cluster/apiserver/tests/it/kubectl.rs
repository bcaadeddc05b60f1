//! A real kubectl over HTTPS.

use std::path::Path;
use std::process::Stdio;

use dodai_apiserver::Pki;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::basics::server;

async fn kubectl(config: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(config)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("HOME", config.parent().unwrap())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: registry.example/app:1
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80}]
";

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_shows_changes_and_deletes() {
    if !std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("kubectl").exists()))
    {
        println!("skipped: kubectl not found");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = server().await;
    let pki = Pki::open(&folder.path().join("pki")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = server.serve(listener, &pki).await.unwrap();
    let config = folder.path().join("kubeconfig");
    pki.write_kubeconfig(&config, &serving.url()).unwrap();
    let steps: &[(&[&str], &str, &str)] = &[
        (&["apply", "-f", "-"], MANIFEST, "deployment.apps/web created"),
        (&["apply", "-f", "-"], MANIFEST, "deployment.apps/web unchanged"),
        (&["get", "deployments,services"], "", "deployment.apps/web"),
        (&["describe", "deployment", "web"], "", "StrategyType:           RollingUpdate"),
        (
            &["patch", "deployment", "web", "-p", "{\"spec\":{\"replicas\":3}}"],
            "",
            "deployment.apps/web patched",
        ),
        (&["scale", "deployment", "web", "--replicas=4"], "", "deployment.apps/web scaled"),
        (&["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"], "", "4"),
        (&["explain", "deployment.spec.replicas"], "", "FIELD: replicas <integer>"),
        (&["create", "configmap", "settings", "--from-literal=a=b"], "", "configmap/settings created"),
        (
            &["apply", "-f", "-"],
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndat: {}\n",
            "unknown field \"dat\"",
        ),
        (&["delete", "-f", "-"], MANIFEST, "service \"web\" deleted"),
        (&["get", "deployments"], "", "No resources found"),
    ];
    for (arguments, input, expected) in steps {
        let (_, text) = kubectl(&config, arguments, input).await;
        assert!(text.contains(expected), "kubectl {arguments:?}: {text}");
    }
    // An open watch does not hold the listener up.
    let mut watch = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(&config)
        .args(["get", "services", "-w", "-o", "name"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env("HOME", folder.path())
        .spawn()
        .unwrap();
    let (_, text) = kubectl(&config, &["create", "service", "clusterip", "seen", "--tcp=80"], "").await;
    assert!(text.contains("service/seen created"), "{text}");
    let mut lines = tokio::io::BufReader::new(watch.stdout.take().unwrap()).lines();
    // The API's own Service is there before.
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("service/kubernetes"));
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("service/seen"));
    let start = std::time::Instant::now();
    serving.stop().await;
    println!("stopped in {:?}", start.elapsed());
    let _ = watch.kill().await;
    server.shutdown().await.unwrap();
}
