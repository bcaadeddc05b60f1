//! The command line: every verb in a pipe, `-o json` where something is listed, exit codes.

use std::process::Stdio;

use serde_json::Value;

use crate::mini::Mini;
use crate::support::{Project, eventually, have, text};

#[test]
fn every_verb_explains_itself() {
    let project = Project::new();
    let help = project.ok(&["--help"]);
    for verb in [
        "up",
        "down",
        "apply",
        "status",
        "why",
        "logs",
        "exec",
        "run",
        "retry",
        "kubeconfig",
        "doctor",
        "apiserver",
    ] {
        assert!(help.contains(&format!("  {verb}")), "{verb} in:\n{help}");
        assert!(project.ok(&[verb, "--help"]).contains("Usage: dodai"));
    }
    assert_eq!(project.run(&["nonsense"]).status.code(), Some(2));
}

#[test]
fn without_a_running_dodai_verbs_say_what_to_do() {
    let project = Project::new();
    for args in [&["status"][..], &["why", "shop"], &["logs", "shop"], &["kubeconfig"], &["retry", "shop"]] {
        let output = project.run(args);
        let printed = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {printed}");
        assert!(
            printed.contains("error: no running dodai found")
                && printed.contains("hint: start one with `dodai up DIR`"),
            "{printed}"
        );
    }
    assert_eq!(project.run(&["exec", "shop", "--", "true"]).status.code(), Some(125));
}

#[test]
fn verbs_work_in_the_background_and_in_a_pipe() {
    if !have("namespaces", crate::support::namespaces()) {
        return;
    }
    let project = Project::new();
    Mini::default().write(&project);
    let printed = project.ok(&["up", "-d"]);
    assert!(printed.contains("runs in the background") && printed.contains("http://127.0.0.1:"), "{printed}");

    let status = project.ok(&["status"]);
    assert!(
        status.starts_with("APP") && status.contains("Running") && status.contains("2 of 2 available"),
        "{status}"
    );
    let json: Value = serde_json::from_str(&project.ok(&["status", "-o", "json"])).unwrap();
    assert_eq!(json[0]["ready"], true);
    assert_eq!(
        serde_json::from_str::<Value>(&project.ok(&["why", "shop", "-o", "json"])).unwrap(),
        serde_json::json!([])
    );
    assert!(project.ok(&["why", "shop"]).contains("shop is well"));
    let doctor: Value = serde_json::from_str(&project.ok(&["doctor", "-o", "json"])).unwrap();
    assert!(doctor.as_array().unwrap().iter().all(|check| check["ok"] == true), "{doctor}");

    let logs = project.ok(&["logs", "shop"]);
    assert!(
        logs.lines().all(|line| line.starts_with("web.1    | ") || line.starts_with("web.2    | ")),
        "{logs}"
    );
    for process in ["web.1    | starting one", "web.2    | starting one"] {
        assert!(logs.lines().any(|line| line == process), "{logs}");
    }
    assert!(project.ok(&["logs", "shop/release"]).contains("migrating"));
    assert!(project.ok(&["logs", "shop/build"]).contains("building"));
    assert!(project.ok(&["kubeconfig"]).contains("certificate-authority-data"));

    // exec and run pass input, output and the exit code.
    let mut child = project.command(&["exec", "shop/web", "--", "sh", "-c", "cat; echo problem >&2; exit 7"]);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stdout), text(&output.stderr)),
        (Some(7), "through".into(), "problem\n".into())
    );
    let output =
        project.run(&["run", "shop", "--", "sh", "-c", "cat /app/version.py; touch /app/x || exit 9"]);
    assert_eq!(output.status.code(), Some(9), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("TEXT = \"one\""));
    eventually("the Pod of the one-off command is gone", || {
        let pods = project.status()["pods"].clone();
        pods.as_array().unwrap().iter().all(|pod| pod["role"] != "run").then_some(())
    });
    let missing = project.run(&["status", "shopp"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("did you mean `shop`?"), "{}", text(&missing.stderr));

    // What is gone from the folder is told, deleted only when asked.
    project.write("extra.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\n");
    project.ok(&["apply", "."]);
    std::fs::remove_file(project.path().join("extra.yaml")).unwrap();
    let told = project.run(&["apply", "."]);
    assert!(
        text(&told.stderr).contains("ConfigMap `extra` is no longer in the folder: kept"),
        "{}",
        text(&told.stderr)
    );
    let told = project.run(&["apply", ".", "--prune"]);
    assert!(
        text(&told.stderr).contains("ConfigMap `extra` is no longer in the folder: deleted"),
        "{}",
        text(&told.stderr)
    );

    project.ok(&["down"]);
    project.assert_nothing_is_left();
    let refused = project.run(&["down", "--delete"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    project.ok(&["down", "--delete", "-y"]);
    assert!(!project.data().exists());
}
