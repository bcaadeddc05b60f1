//! `dodai secret`: what goes wrong while editing, what a hook sees, the way out, and how secrets stand in a cluster.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;

use crate::secrets::{editor, file, git, git_ok, repository, secret, text, with_input};
use crate::support::{Project, eventually, have, namespaces};

/// Folders of `dodai secret edit` that belong to this process.
fn desk(pid: u32) -> PathBuf {
    PathBuf::from(format!("/dev/shm/dodai-edit-{pid}"))
}

#[test]
fn a_signal_while_editing_ends_the_editor_and_leaves_no_plaintext() {
    let (project, _) = repository(&[("TOKEN", "marker")]);
    let before = file(&project, "secrets.yaml");
    let ready = project.config.path().join("ready");
    let wait = format!("echo changed >> \"$1\"; touch '{}'; exec sleep 600", ready.display());
    let editor = editor(&project, &wait);
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGHUP] {
        let _ = std::fs::remove_file(&ready);
        let mut command = project.command(&["secret", "edit", "secrets.yaml"]);
        command
            .env("EDITOR", format!("sh {}", editor.display()))
            .env_remove("VISUAL")
            .env_remove("XDG_RUNTIME_DIR");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        eventually("the editor runs", || ready.exists().then_some(()));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(desk(child.id()).exists(), "it edits elsewhere");
        if signal == nix::sys::signal::Signal::SIGHUP {
            // A terminal that closes tells everybody in it; this one is not alone in its group, so each by itself.
            nix::sys::signal::kill(pid, signal).unwrap();
        }
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let id = child.id();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.signal().is_none() && !output.status.success(), "{:?}", output.status);
        assert!(text(&output.stderr).contains("nothing changed"), "{}", text(&output.stderr));
        assert!(!desk(id).exists(), "plaintext is left");
        assert_eq!(file(&project, "secrets.yaml"), before);
    }
}

#[test]
fn a_new_file_begins_in_the_editor() {
    let (project, _) = repository(&[]);
    let script = editor(&project, "sed -i 's/# KEY: value/TOKEN: marker/' \"$1\"");
    let run = |name: &str, editor: &std::path::Path| {
        let mut command = project.command(&["secret", "edit", name, "-n", "shop"]);
        command.env("EDITOR", format!("sh {}", editor.display())).env_remove("VISUAL").output().unwrap()
    };
    let output = run("fresh.yaml", &script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let made = file(&project, "fresh.yaml");
    assert!(
        made.contains("name: fresh") && made.contains("namespace: shop") && !made.contains("marker"),
        "{made}"
    );
    assert_eq!(secret(&project, &["show", "fresh.yaml", "TOKEN"], ""), "marker");
    // Left as it was: no file.
    let output = run("none.yaml", &editor(&project, "true"));
    assert!(output.status.success() && !project.path().join("none.yaml").exists());
}

#[test]
fn a_hook_sees_what_is_committed_and_not_what_lies_there() {
    let (project, _) = repository(&[("TOKEN", "marker")]);
    let plain =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: default}\nstringData: {A: marker}\n";
    project.write("plain.yaml", plain);
    git_ok(&project, &["add", "plain.yaml"]);
    // Mended in the folder, and not for the commit.
    secret(&project, &["encrypt", "plain.yaml"], "");
    assert!(with_input(&project, &["lint"], "").status.success());
    let output = git(&project, &["commit", "-qm", "plaintext"]);
    assert!(
        !output.status.success() && text(&output.stderr).contains("PlaintextSecret"),
        "{}",
        text(&output.stderr)
    );
    git_ok(&project, &["add", "plain.yaml"]);
    git_ok(&project, &["commit", "-qm", "encrypted"]);
    // The other way round: what is not committed does not matter, nor does a folder that is not all of it.
    project.write("plain.yaml", plain);
    project.write("README.md", "x");
    git_ok(&project, &["add", "README.md"]);
    git_ok(&project, &["commit", "-qm", "text"]);
    let output = with_input(&project, &["lint", "--staged"], "");
    assert!(output.status.success(), "{}", text(&output.stdout));
}

#[test]
fn files_of_any_name_are_merged_by_key_after_git_setup() {
    let (project, _) = repository(&[]);
    let with_blank = "apps/my shop.yaml";
    std::fs::create_dir(project.path().join("apps")).unwrap();
    for name in ["config.yaml", with_blank] {
        secret(&project, &["set", name, "A", "--name", "shop"], name);
    }
    let output = with_input(&project, &["lint", "-o", "json"], "");
    assert!(output.status.success(), "a warning is no error");
    assert_eq!(text(&output.stdout).matches("MergedByLines").count(), 2, "{}", text(&output.stdout));
    secret(&project, &["git-setup"], "");
    let output = with_input(&project, &["lint", "-o", "json"], "");
    assert_eq!(text(&output.stdout).trim(), "[]");
    git_ok(&project, &["add", "."]);
    git_ok(&project, &["commit", "-qm", "both"]);
    git_ok(&project, &["checkout", "-qb", "other"]);
    for (branch, key) in [("other", "B"), ("main", "C")] {
        git_ok(&project, &["checkout", "-q", branch]);
        for name in ["config.yaml", with_blank] {
            secret(&project, &["set", name, key], "marker-two");
        }
        git_ok(&project, &["commit", "-qam", key]);
    }
    git_ok(&project, &["merge", "-q", "other", "-m", "merged"]);
    for name in ["config.yaml", with_blank] {
        for key in ["B", "C"] {
            assert_eq!(secret(&project, &["show", name, key], ""), "marker-two");
        }
    }
    // What is no YAML, and cannot be ours, is shown as it is.
    project.write("chart-secret.yaml", "a: {{ .Values.x }}\nb: [\n");
    git_ok(&project, &["add", "."]);
    git_ok(&project, &["commit", "-qm", "template"]);
    project.write("chart-secret.yaml", "a: {{ .Values.y }}\nb: [\n");
    assert!(git_ok(&project, &["diff"]).contains("+a: {{ .Values.y }}"));
}

#[test]
fn what_is_exported_is_a_secret_again() {
    let (project, _) = repository(&[("TOKEN", "marker")]);
    let plain = secret(&project, &["export", "--plaintext", "secrets.yaml"], "");
    assert!(plain.contains("kind: Secret") && plain.contains("TOKEN: bWFya2Vy"), "{plain}");
    let output = with_input(&project, &["export", "secrets.yaml"], "");
    assert_eq!(output.status.code(), Some(2));
    let data = crate::support::repository().join("engines/secrets/tests/data");
    let (certificate, key) = (data.join("sealing.crt"), data.join("sealing.key"));
    let certificate = certificate.to_str().unwrap();
    secret(&project, &["export", "secrets.yaml", "--sealing-cert", certificate, "--out", "sealed.yaml"], "");
    assert!(file(&project, "sealed.yaml").contains("kind: SealedSecret"));
    let import = ["import", "sealed.yaml", "--sealing-key", key.to_str().unwrap(), "--out", "back.yaml"];
    secret(&project, &import, "");
    assert_eq!(secret(&project, &["show", "back.yaml", "TOKEN"], ""), "marker");
    let output = with_input(&project, &["export", "secrets.yaml", "--sealing-cert", "dodai.yaml"], "");
    assert!(
        !output.status.success() && text(&output.stderr).contains("no certificate"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_cluster_tells_which_secrets_are_due_and_which_are_not_there() {
    if !have("namespaces", namespaces()) {
        return;
    }
    let (mut project, _) = repository(&[("TOKEN", "marker")]);
    let with_age = |project: &Project, age: &str| {
        let text = file(project, "secrets.yaml");
        let rest: String = text
            .lines()
            .filter(|line| !line.contains("rotateAfter"))
            .map(|line| format!("{line}\n"))
            .collect();
        project.write("secrets.yaml", &rest.replace("spec:\n", &format!("spec:\n  rotateAfter: {age}\n")));
    };
    with_age(&project, "90d");
    let stranger = tempfile::tempdir().unwrap();
    let theirs = stranger.path().join("their.txt");
    let recipient = secret(&project, &["keys", "generate", "--out", theirs.to_str().unwrap()], "");
    secret(&project, &["set", "other.yaml", "KEY", "--name", "other", "--recipient", recipient.trim()], "x");
    project.start(&[]);
    let status = |more: &[&str]| project.run(&[&["secret", "status"], more].concat());
    let list =
        || -> Option<Vec<serde_json::Value>> { serde_json::from_slice(&status(&["-o", "json"]).stdout).ok() };
    let by_name = |name: &str| list()?.into_iter().find(|one| one["name"] == name);
    eventually("both are looked at", || {
        (by_name("shop")?["ready"] == true && by_name("other")?["reason"] == "NoIdentity").then_some(())
    });
    assert_eq!(by_name("shop").unwrap()["due"], false);
    assert!(by_name("shop").unwrap()["rotationDue"].is_string());
    // Not all is well: 3.
    assert_eq!(status(&[]).status.code(), Some(3));
    assert_eq!(status(&["shop"]).status.code(), Some(0));
    let shown = text(&status(&[]).stdout);
    assert!(shown.contains("└ `KEY`: none of the"), "{shown}");
    let metrics = text(&status(&["--metrics"]).stdout);
    assert!(
        metrics.contains(
            "dodai_secrets_rotation_due{kind=\"EncryptedSecret\",namespace=\"default\",name=\"shop\"} 0"
        ),
        "{metrics}"
    );
    assert!(
        metrics
            .contains("dodai_secrets_ready{kind=\"EncryptedSecret\",namespace=\"default\",name=\"other\"} 0"),
        "{metrics}"
    );
    let hint = |project: &Project| text(&project.run(&["status"]).stderr);
    assert!(
        hint(&project).contains("hint: secret default/other is not ready (NoIdentity)"),
        "{}",
        hint(&project)
    );

    with_age(&project, "1s");
    project.run(&["apply", "."]);
    eventually("it is due", || (by_name("shop")?["due"] == true).then_some(()));
    // The clock says so at once, and the controller which value a moment later.
    let named = "hint: secret default/shop: `TOKEN` is older than `1s`";
    eventually("the hint names the value", || hint(&project).contains(named).then_some(()));
    let shown = text(&status(&["shop"]).stdout);
    assert!(shown.contains("now") && shown.contains("dodai secret set"), "{shown}");
    assert!(!(shown + &hint(&project)).contains("marker"));
}
