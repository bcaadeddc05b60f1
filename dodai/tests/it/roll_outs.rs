//! kubectl's verbs for workloads, on real Pods: rollout, scale, delete with its cascades, cordon and drain.

use std::process::{Command, Output, Stdio};

use crate::mini::Mini;
use crate::support::{Project, eventually, have, namespaces, text};

struct Kubectl<'a>(&'a Project);

impl Kubectl<'_> {
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.0.data().join("kubeconfig")).args(args);
        command.env("HOME", self.0.path()).current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "kubectl {args:?}: {out}{err}");
        out
    }

    fn apply(&self, manifest: &str) {
        self.0.write("manifest.txt", manifest);
        self.ok(&["apply", "-f", "manifest.txt"]);
    }

    fn path(&self, object: &str, path: &str) -> String {
        self.ok(&["get", object, "-o", &format!("jsonpath={{{path}}}")])
    }

    /// Names of the Pods with a label, that are not on their way out.
    fn pods(&self, app: &str) -> Vec<String> {
        let template =
            r#"{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}"#;
        let label = format!("app={app}");
        let all = self.ok(&["get", "pods", "-l", &label, "-o", &format!("go-template={template}")]);
        all.split_whitespace().map(str::to_owned).collect()
    }

    fn rolled_out(&self, object: &str) {
        self.ok(&["rollout", "status", object, "--timeout=120s"]);
    }
}

fn workload(kind: &str, image: &str, spec: &str) -> String {
    let name = kind.to_lowercase();
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "{kind}", "metadata": {{"name": "{name}"}}, "spec": {{{spec}
        "selector": {{"matchLabels": {{"app": "{name}"}}}}, "template": {{"metadata": {{"labels": {{"app": "{name}"}}}},
        "spec": {{"terminationGracePeriodSeconds": 1, "containers": [{{"name": "c", "image": "{image}",
        "command": ["sleep", "100000"], "env": [{{"name": "V", "value": "1"}}]}}]}}}}}}}}"#
    )
}

#[test]
fn kubectl_rolls_out_and_back_scales_drains_and_deletes_workloads() {
    let found = Command::new("kubectl").arg("--help").output().is_ok_and(|output| output.status.success());
    if !have("kubectl", found) || !have("namespaces", namespaces()) {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    project.up(&["--no-logs"]);
    let kubectl = Kubectl(&project);
    let image = kubectl.ok(&[
        "get",
        "pods",
        "-l",
        "dodai.dev/process=web",
        "-o",
        "jsonpath={.items[0].spec.containers[0].image}",
    ]);
    for (kind, spec) in [
        ("Deployment", r#""replicas": 2,"#),
        ("StatefulSet", r#""replicas": 2, "serviceName": "statefulset","#),
        ("DaemonSet", ""),
    ] {
        kubectl.apply(&workload(kind, &image, spec));
        rolls_out_and_back(&kubectl, kind);
    }
    scales(&kubectl);
    drains(&kubectl);
    deletes(&kubectl);
}

fn rolls_out_and_back(kubectl: &Kubectl<'_>, kind: &str) {
    let app = kind.to_lowercase();
    let object = format!("{app}/{app}");
    let value = || kubectl.path(&object, ".spec.template.spec.containers[0].env[0].value");
    kubectl.rolled_out(&object);
    let first = kubectl.pods(&app);
    kubectl.ok(&["set", "env", &object, "V=2"]);
    kubectl.rolled_out(&object);
    let history = kubectl.ok(&["rollout", "history", &object]);
    let revisions: Vec<&str> = history.lines().filter(|line| line.starts_with(char::is_numeric)).collect();
    assert_eq!(revisions.len(), 2, "{history}");
    assert!(kubectl.ok(&["rollout", "history", &object, "--revision=1"]).contains("1"), "{history}");
    kubectl.ok(&["rollout", "undo", &object]);
    kubectl.rolled_out(&object);
    assert_eq!(value(), "1");
    kubectl.ok(&["rollout", "undo", &object, "--to-revision=2"]);
    kubectl.rolled_out(&object);
    assert_eq!(value(), "2");
    let before = kubectl.pods(&app);
    kubectl.ok(&["rollout", "restart", &object]);
    kubectl.rolled_out(&object);
    if kind == "StatefulSet" {
        assert_eq!(kubectl.pods(&app), ["statefulset-0", "statefulset-1"]);
    } else {
        assert!(kubectl.pods(&app).iter().all(|pod| !before.contains(pod) && !first.contains(pod)));
    }
    if kind == "Deployment" {
        kubectl.ok(&["rollout", "pause", &object]);
        kubectl.ok(&["set", "env", &object, "V=3"]);
        assert!(kubectl.ok(&["get", "rs", "-l", "app=deployment", "-o", "name"]).lines().count() >= 2);
        kubectl.ok(&["rollout", "resume", &object]);
        kubectl.rolled_out(&object);
        assert_eq!(value(), "3");
    }
}

fn scales(kubectl: &Kubectl<'_>) {
    for app in ["deployment", "statefulset"] {
        kubectl.ok(&["scale", &format!("{app}/{app}"), "--replicas=3"]);
        kubectl.rolled_out(&format!("{app}/{app}"));
        assert_eq!(kubectl.pods(app).len(), 3);
        kubectl.ok(&["scale", &format!("{app}/{app}"), "--replicas=1"]);
        eventually("there is one", || (kubectl.pods(app).len() == 1).then_some(()));
    }
    assert_eq!(kubectl.pods("statefulset"), ["statefulset-0"]);
}

/// A budget keeps a Pod; without it the Pod goes, and does not come back to a Node that takes none.
fn drains(kubectl: &Kubectl<'_>) {
    kubectl.apply(
        r#"{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "keep"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "deployment"}}}}"#,
    );
    eventually("the budget is counted", || {
        (kubectl.path("pdb/keep", ".status.currentHealthy") == "1").then_some(())
    });
    let drain = ["drain", "dodai", "--ignore-daemonsets", "--pod-selector=app=deployment", "--force"];
    let kept = kubectl.run(&[&drain[..], &["--timeout=3s"]].concat());
    let told = text(&kept.stderr);
    assert!(!kept.status.success() && told.contains("would violate the pod's disruption budget"), "{told}");
    let pod = kubectl.pods("deployment");
    kubectl.ok(&["delete", "pdb", "keep"]);
    kubectl.ok(&[&drain[..], &["--timeout=120s"]].concat());
    assert!(kubectl.path("node/dodai", ".spec.unschedulable") == "true");
    eventually("its successor waits", || {
        let pods = kubectl.pods("deployment");
        let phase = kubectl.path(&format!("pod/{}", pods.first()?), ".status.phase");
        (pods != pod && phase == "Pending").then_some(())
    });
    assert_eq!(kubectl.pods("daemonset").len(), 1, "a DaemonSet's Pod stays");
    kubectl.ok(&["uncordon", "dodai"]);
    kubectl.rolled_out("deployment/deployment");
}

fn deletes(kubectl: &Kubectl<'_>) {
    let set = kubectl.pods("statefulset");
    kubectl.ok(&["delete", "statefulset", "statefulset", "--cascade=orphan"]);
    assert_eq!(kubectl.pods("statefulset"), set, "orphans stay");
    kubectl.ok(&["delete", "pods", "-l", "app=statefulset", "--now"]);
    kubectl.ok(&["delete", "deployment", "deployment", "--cascade=foreground", "--timeout=120s"]);
    assert_eq!(kubectl.ok(&["get", "rs,pods", "-l", "app=deployment", "-o", "name"]), "");
    kubectl.ok(&["delete", "daemonset", "daemonset"]);
    eventually("all Pods have gone", || {
        kubectl
            .ok(&["get", "pods,controllerrevisions", "-l", "app=daemonset", "-o", "name"])
            .is_empty()
            .then_some(())
    });
}
