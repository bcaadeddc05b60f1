//! A real kubectl against the running platform.

use std::process::{Command, Output};

use crate::mini::Mini;
use crate::support::{Project, eventually, have, text};

/// Oldest kubectl that is promised to work: 1.32.
const MINOR_MIN: u32 = 32;

fn version() -> Option<u32> {
    let output = Command::new("kubectl").args(["version", "--client", "-o", "json"]).output().ok()?;
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let minor = version["clientVersion"]["minor"].as_str()?;
    minor.trim_end_matches('+').parse().ok()
}

fn kubectl(project: &Project, args: &[&str]) -> Output {
    let kubeconfig = project.data().join("kubeconfig");
    Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args)
        .env("HOME", project.path())
        .output()
        .unwrap()
}

fn ok(project: &Project, args: &[&str]) -> String {
    let output = kubectl(project, args);
    assert!(output.status.success(), "kubectl {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn kubectl_gets_describes_reads_logs_applies_and_deletes() {
    let found = version().is_some_and(|minor| minor >= MINOR_MIN);
    if !have("kubectl", found) || !have("namespaces", crate::support::namespaces()) {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    let url = project.up(&["--no-logs"]);

    let all = ok(&project, &["get", "apps,releases,deployments,pods", "-A"]);
    for wanted in [
        "app.dodai.dev/shop",
        "release.dodai.dev/shop-v1",
        "deployment.apps/shop-web",
        "pod/shop-web-",
        &url,
        "2/2",
        "Active",
    ] {
        assert!(all.contains(wanted), "{wanted} in:\n{all}");
    }
    let described = ok(&project, &["describe", "app", "shop"]);
    let current = described.lines().find(|line| line.trim().starts_with("Current Release:"));
    assert!(
        current.is_some_and(|line| line.ends_with(" shop-v1")) && described.contains("Serving"),
        "{described}"
    );
    let pods = ok(&project, &["get", "pods", "-l", "dodai.dev/process=web", "-o", "name"]);
    let pod = pods.lines().next().unwrap();
    assert!(
        ok(&project, &["describe", pod]).contains("PORT")
            || ok(&project, &["describe", pod]).contains("node.dodai.dev/port")
    );
    assert!(ok(&project, &["logs", pod]).contains("starting one"));
    assert!(ok(&project, &["get", "nodes"]).contains("Ready"));
    assert!(ok(&project, &["exec", pod, "--", "cat", "/app/version.py"]).contains("TEXT = \"one\""));

    // Client-side apply, twice, and a Deployment that nobody of ours made.
    project
        .write("extra.yml.txt", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndata: {a: one}\n");
    let file = project.path().join("extra.yml.txt").display().to_string();
    assert!(ok(&project, &["apply", "-f", &file]).contains("created"));
    project
        .write("extra.yml.txt", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndata: {b: two}\n");
    assert!(ok(&project, &["apply", "-f", &file]).contains("configured"));
    assert_eq!(ok(&project, &["get", "cm", "extra", "-o", "jsonpath={.data}"]), r#"{"b":"two"}"#);
    assert!(
        ok(&project, &["apply", "--server-side", "--force-conflicts", "-f", &file])
            .contains("serverside-applied")
    );
    project.write(
        "extra.yml.txt",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndata: {b: two}\ndat: {}\n",
    );
    let refused = kubectl(&project, &["apply", "-f", &file]);
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("unknown field \"dat\""),
        "{}",
        text(&refused.stderr)
    );
    assert!(ok(&project, &["delete", "cm", "extra"]).contains("deleted"));

    // Scaling by hand is put back: the App decides.
    ok(&project, &["scale", "deployment", "shop-web", "--replicas=1"]);
    eventually("the App's number of replicas is put back", || {
        (ok(&project, &["get", "deployment", "shop-web", "-o", "jsonpath={.spec.replicas}"]) == "2")
            .then_some(())
    });

    // Deleting the App ends its Pods, and keeps its volume.
    ok(&project, &["delete", "app", "shop"]);
    eventually("the App's objects are collected", || {
        let left = ok(
            &project,
            &["get", "releases,deployments,pods,services,jobs", "-l", "dodai.dev/app=shop", "-o", "name"],
        );
        left.trim().is_empty().then_some(())
    });
    assert!(ok(&project, &["get", "pvc"]).contains("shop-data"));
    assert!(project.data().join("volumes/default/shop-data/rows").exists());
}
