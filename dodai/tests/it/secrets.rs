//! `dodai secret` as a person uses it: real git, a scripted editor, files on disk.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::mini::Mini;
use crate::support::{Project, eventually, have, namespaces};

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `dodai secret ARGS` with something on standard input.
pub(crate) fn with_input(project: &Project, args: &[&str], input: &str) -> Output {
    let mut child = project
        .command(&[&["secret"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn secret(project: &Project, args: &[&str], input: &str) -> String {
    let output = with_input(project, args, input);
    assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn git(project: &Project, args: &[&str]) -> Output {
    Command::new("git")
        .args(["-c", "user.name=Alice", "-c", "user.email=alice@example.com"])
        .args(args)
        .current_dir(project.path())
        .env("XDG_CONFIG_HOME", project.config.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap()
}

pub(crate) fn git_ok(project: &Project, args: &[&str]) -> String {
    let output = git(project, args);
    assert!(output.status.success(), "git {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A repository with an identity, rules, and one file with these values.
pub(crate) fn repository(values: &[(&str, &str)]) -> (Project, String) {
    let project = Project::new();
    let recipient = secret(&project, &["keys", "generate"], "").trim().to_owned();
    project.write(
        "dodai.yaml",
        &format!("secrets:\n  people: {{alice: {recipient}}}\n  rules:\n  - {{path: \"**\", recipients: [alice]}}\n"),
    );
    for (key, value) in values {
        secret(&project, &["set", "secrets.yaml", key, "--name", "shop"], value);
    }
    git_ok(&project, &["init", "-q", "-b", "main"]);
    secret(&project, &["git-setup"], "");
    git_ok(&project, &["add", "."]);
    git_ok(&project, &["commit", "-qm", "first"]);
    (project, recipient)
}

/// An editor that replaces one text by another, and notes whether the file was on disk or readable by others.
pub(crate) fn editor(project: &Project, script: &str) -> std::path::PathBuf {
    let file = project.config.path().join("editor.sh");
    std::fs::write(&file, format!("#!/bin/sh\nset -e\nstat -f -c %T \"$1\" > '{0}/place'\nstat -c %a \"$1\" > '{0}/mode'\n{script}\n", project.config.path().display())).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    file
}

fn edit(project: &Project, script: &str) -> Output {
    let editor = editor(project, script);
    project
        .command(&["secret", "edit", "secrets.yaml"])
        .env("EDITOR", format!("sh {}", editor.display()))
        .env_remove("VISUAL")
        .output()
        .unwrap()
}

pub(crate) fn file(project: &Project, name: &str) -> String {
    std::fs::read_to_string(project.path().join(name)).unwrap()
}

#[test]
fn a_value_goes_through_set_show_edit_and_lint() {
    let (project, _) = repository(&[("TOKEN", "marker-one\n"), ("OTHER", "marker-two")]);
    assert_eq!(secret(&project, &["show", "secrets.yaml", "TOKEN"], ""), "marker-one");
    let before = file(&project, "secrets.yaml");
    assert!(!before.contains("marker"));

    // Nothing changed: byte for byte, not even a new time of the file.
    let time = |project: &Project| {
        std::fs::metadata(project.path().join("secrets.yaml")).unwrap().modified().unwrap()
    };
    let was = time(&project);
    let output = edit(&project, "true");
    assert!(text(&output.stderr).contains("nothing changed"), "{}", text(&output.stderr));
    assert_eq!((file(&project, "secrets.yaml"), time(&project)), (before.clone(), was));
    let note = |name: &str| std::fs::read_to_string(project.config.path().join(name)).unwrap();
    assert_eq!((note("place").trim(), note("mode").trim()), ("tmpfs", "600"));

    let output = edit(&project, "sed -i 's/marker-two/marker-three/' \"$1\"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(secret(&project, &["show", "secrets.yaml", "OTHER"], ""), "marker-three");
    let lines = |text: &str, key: &str| text.lines().find(|line| line.contains(key)).unwrap().to_owned();
    let after = file(&project, "secrets.yaml");
    assert_eq!(lines(&before, "TOKEN:"), lines(&after, "TOKEN:"));
    assert!(!after.contains("marker"));

    // A mistake is shown in the editor, above the text as it was left; the second try mends it.
    let script = "if grep -q '^# dodai: error' \"$1\"; then sed -i '/broken/d' \"$1\"; else echo '  : broken [' >> \"$1\"; sed -i 's/marker-three/marker-four/' \"$1\"; fi";
    let output = edit(&project, script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("error in line"), "{}", text(&output.stderr));
    assert_eq!(secret(&project, &["show", "secrets.yaml", "OTHER"], ""), "marker-four");
    // An editor that fails changes nothing, and leaves nothing behind.
    let before = file(&project, "secrets.yaml");
    let output = edit(&project, "sed -i 's/marker/lost/' \"$1\"; exit 3");
    assert!(!output.status.success() && text(&output.stderr).contains("nothing changed"));
    assert_eq!(file(&project, "secrets.yaml"), before);
    let left = std::fs::read_dir("/dev/shm").unwrap().flatten().filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Of a process that has ended.
        name.strip_prefix("dodai-edit-").is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
    assert_eq!(left.count(), 0);

    let output = with_input(&project, &["lint"], "");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    project.write(
        "plain.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: default}\nstringData: {A: marker}\n",
    );
    let output = with_input(&project, &["lint", "-o", "json"], "");
    assert!(!output.status.success() && text(&output.stdout).contains("PlaintextSecret"));
    // The hook refuses the commit.
    git_ok(&project, &["add", "."]);
    let output = git(&project, &["commit", "-qm", "plaintext"]);
    // git sends what a hook prints to stderr.
    assert!(
        !output.status.success() && text(&output.stderr).contains("PlaintextSecret"),
        "{}",
        text(&output.stderr)
    );
    secret(&project, &["encrypt", "plain.yaml"], "");
    assert_eq!(secret(&project, &["show", "plain.yaml", "A"], ""), "marker");
    git_ok(&project, &["add", "."]);
    git_ok(&project, &["commit", "-qm", "encrypted"]);
}

#[test]
fn lint_tells_of_recipients_equal_values_and_overlays() {
    let (project, recipient) = repository(&[("A", "same"), ("B", "same"), ("C", "other")]);
    let findings = |project: &Project| {
        let output = with_input(project, &["lint", "-o", "json"], "");
        text(&output.stdout)
    };
    assert!(findings(&project).contains("EqualValues"));
    project.write("base/kustomization.yaml", "resources: [../secrets.yaml]\n");
    project
        .write("envs/prod/kustomization.yaml", "namespace: prod\nnamePrefix: my-\nresources: [../../base]\n");
    let found = findings(&project);
    assert!(found.contains("RenderedElsewhere") && found.contains("prod/my-shop"), "{found}");
    let rendered = file(&project, "secrets.yaml").replace("namespace: default", "namespace: elsewhere");
    let output = with_input(&project, &["lint", "secrets.yaml", "--rendered", "-"], &rendered);
    assert!(text(&output.stdout).contains("is rendered as `elsewhere/shop`"), "{}", text(&output.stdout));

    // Bob comes, and Alice's key is revoked.
    let bob = project.config.path().join("bob.txt");
    let bobs = secret(&project, &["keys", "generate", "--out", bob.to_str().unwrap()], "").trim().to_owned();
    project.write(
        "dodai.yaml",
        &format!(
            "secrets:\n  rules:\n  - {{path: \"**\", recipients: [{bobs}]}}\n  revoked: [{recipient}]\n"
        ),
    );
    let found = findings(&project);
    assert!(found.contains("RevokedRecipient") && found.contains("MissingRecipient"), "{found}");
    let output = with_input(&project, &["rekey", "secrets.yaml"], "");
    assert!(output.status.success() && text(&output.stderr).contains("what git remembers"));
    let output = with_input(&project, &["show", "secrets.yaml", "A"], "");
    assert!(
        !output.status.success() && text(&output.stderr).contains("can unwrap"),
        "{}",
        text(&output.stderr)
    );
    let identity = ["--identity", bob.to_str().unwrap()];
    assert_eq!(secret(&project, &[&["show", "secrets.yaml", "A"], &identity[..]].concat(), ""), "same");
    let who = secret(&project, &["keys", "who", "secrets.yaml"], "");
    assert!(who.contains(&bobs) && who.contains("(all)") && !who.contains(&recipient), "{who}");
}

#[test]
fn branches_merge_by_key_and_git_shows_no_plaintext() {
    let (project, recipient) = repository(&[("A", "marker-a"), ("B", "marker-b"), ("C", "marker-c")]);
    let commit = |message: &str| drop(git_ok(&project, &["commit", "-qam", message]));
    // Different keys, next to each other.
    git_ok(&project, &["checkout", "-qb", "left"]);
    secret(&project, &["set", "secrets.yaml", "B"], "marker-left");
    secret(&project, &["set", "secrets.yaml", "D"], "marker-d");
    commit("left");
    git_ok(&project, &["checkout", "-q", "main"]);
    secret(&project, &["set", "secrets.yaml", "A"], "marker-right");
    secret(&project, &["set", "secrets.yaml", "E"], "marker-e");
    commit("right");
    git_ok(&project, &["merge", "-q", "-m", "merged", "left"]);
    for (key, value) in
        [("A", "marker-right"), ("B", "marker-left"), ("C", "marker-c"), ("D", "marker-d"), ("E", "marker-e")]
    {
        assert_eq!(secret(&project, &["show", "secrets.yaml", key], ""), value);
    }

    // Two people who cannot read add one value each.
    let blind = |key: &str, value: &str| {
        let mut command = project.command(&["secret", "add", "secrets.yaml", key, "--recipient", &recipient]);
        let nobody = tempfile::tempdir().unwrap();
        command.env("XDG_CONFIG_HOME", nobody.path()).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    };
    git_ok(&project, &["checkout", "-qb", "blind"]);
    blind("F", "marker-f");
    commit("blind one");
    git_ok(&project, &["checkout", "-q", "main"]);
    blind("G", "marker-g");
    commit("blind two");
    git_ok(&project, &["merge", "-q", "-m", "merged", "blind"]);
    assert_eq!(secret(&project, &["show", "secrets.yaml", "F"], ""), "marker-f");
    assert_eq!(secret(&project, &["show", "secrets.yaml", "G"], ""), "marker-g");
    secret(&project, &["rekey", "secrets.yaml"], "");
    commit("rekey");
    assert_eq!(file(&project, "secrets.yaml").matches("- age:").count(), 1);

    // The same key on both sides conflicts, at its line alone.
    git_ok(&project, &["checkout", "-qb", "other"]);
    secret(&project, &["set", "secrets.yaml", "C"], "marker-one");
    commit("one");
    git_ok(&project, &["checkout", "-q", "main"]);
    secret(&project, &["set", "secrets.yaml", "C"], "marker-two");
    secret(&project, &["set", "secrets.yaml", "A"], "marker-three");
    commit("two");
    let output = git(&project, &["merge", "-q", "other"]);
    assert!(!output.status.success());
    let conflict = file(&project, "secrets.yaml");
    let inside: Vec<&str> = conflict
        .lines()
        .skip_while(|line| !line.starts_with("<<<<<<<"))
        .take_while(|line| !line.starts_with(">>>>>>>"))
        .filter(|line| line.contains(':'))
        .collect();
    assert_eq!(inside.len(), 2, "{conflict}");
    assert!(inside.iter().all(|line| line.trim().starts_with("C:")), "{conflict}");
    git_ok(&project, &["checkout", "--ours", "secrets.yaml"]);
    git_ok(&project, &["add", "."]);
    git_ok(&project, &["commit", "-qm", "resolved"]);

    // A diff shows which keys changed.
    secret(&project, &["set", "secrets.yaml", "B"], "marker-new");
    let diff = git_ok(&project, &["diff"]);
    let changed: Vec<&str> =
        diff.lines().filter(|line| line.starts_with("+ ") || line.starts_with("- ")).collect();
    assert_eq!(changed.len(), 2, "{diff}");
    assert!(changed.iter().all(|line| line.contains("B: (value ")), "{diff}");
    let all = git_ok(&project, &["log", "-p", "--all", "-m"]);
    assert!(!all.contains("marker"), "plaintext in a diff");
    let log = secret(&project, &["log", "secrets.yaml", "--key", "B"], "");
    assert!(log.contains("alice@example.com") && log.contains("changed") && log.contains("rekeyed"), "{log}");
    assert!(!log.contains("marker"));
}

#[test]
fn an_identity_that_others_can_read_is_refused() {
    let (project, _) = repository(&[("A", "x")]);
    let identity = project.config.path().join("dodai/identity.txt");
    let mode = |mode| {
        std::fs::set_permissions(&identity, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap()
    };
    mode(0o640);
    let output = with_input(&project, &["show", "secrets.yaml", "A"], "");
    assert!(!output.status.success() && text(&output.stderr).contains("can be read by others"));
    mode(0o600);
    // A real identity beside the files is refused too: it would open them to whoever has them.
    project.write("demo.txt", &std::fs::read_to_string(&identity).unwrap());
    let rules = file(&project, "dodai.yaml");
    project.write("dodai.yaml", &format!("{rules}  demoIdentity: demo.txt\n"));
    let output = with_input(&project, &["show", "secrets.yaml", "A"], "");
    assert!(!output.status.success() && text(&output.stderr).contains("protects nothing"));
}

/// Looks for the marker, as it is and in base64, in every file below a folder.
fn files_with(folder: &Path, marker: &str, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files_with(&path, marker, found);
        } else if let Ok(bytes) = std::fs::read(&path)
            && has_marker(&bytes, marker)
        {
            found.push(path.display().to_string());
        }
    }
}

/// `bWFya2Vy` is `marker` in base64, with which each value begins.
fn has_marker(bytes: &[u8], marker: &str) -> bool {
    [marker.as_bytes(), b"bWFya2Vy"]
        .iter()
        .any(|needle| bytes.windows(needle.len()).any(|window| window == *needle))
}

#[test]
fn a_value_is_found_in_no_file_log_event_or_status_of_a_whole_run() {
    const MARKER: &str = "marker-7c1x";
    if !have("namespaces", namespaces()) {
        return;
    }
    let (mut project, _) = repository(&[("KEY", "marker-7c1x-first"), ("OTHER", "marker-7c1x-other")]);
    Mini::default().write(&project);
    let app = file(&project, "app.yaml").replace(
        "  release:",
        "  - {name: KEY, valueFrom: {secretKeyRef: {name: shop, key: KEY}}}\n  release:",
    );
    project.write("app.yaml", &app);
    let mut told: Vec<String> = Vec::new();
    project.up(&["-vv"]);
    let made = "a key that seals the Secrets in";
    assert!(project.log().contains(made), "the first start says where the key is: {}", project.log());
    let release = |project: &Project, number: i64| {
        eventually("the release", || {
            let status = project.status();
            (status["target"]["number"] == number && status["ready"] == true).then_some(())
        });
    };
    release(&project, 1);
    assert_eq!(http_key(&project), "marker-7c1x-first", "the process has the value");

    // A new value makes a new Release.
    secret(&project, &["set", "secrets.yaml", "KEY"], "marker-7c1x-second");
    told.push(both(&project.run(&["-vv", "apply", "."])));
    release(&project, 2);
    assert_eq!(http_key(&project), "marker-7c1x-second");

    // Failures of each kind: a moved value, a value that was never sealed, an edit that does not seal, no identity.
    let good = file(&project, "secrets.yaml");
    let value =
        |key: &str| good.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap().trim().to_owned();
    project.write("secrets.yaml", &good.replace(&value("KEY:"), &value("OTHER:")));
    told.push(both(&project.run(&["-vv", "apply", "."])));
    told.push(both(&project.run(&["secret", "show", "secrets.yaml", "KEY"])));
    let plain = good.replace(&value("KEY:"), MARKER);
    std::fs::write(project.config.path().join("plain.yaml"), &plain).unwrap();
    let plain = project.config.path().join("plain.yaml");
    told.push(both(&project.run(&["-vv", "apply", plain.to_str().unwrap()])));
    std::fs::remove_file(plain).unwrap();
    project.write("secrets.yaml", &good);
    told.push(both(&edit(
        &project,
        "if grep -q 'dodai: error' \"$1\"; then exit 1; fi; echo '  broken: [' >> \"$1\"",
    )));
    for args in [
        &["status"][..],
        &["status", "-o", "json"],
        &["why", "shop"],
        &["secret", "lint"],
        &["secret", "who-can-read", "shop", "-o", "json"],
        &["secret", "log", "secrets.yaml"],
    ] {
        told.push(both(&project.run(args)));
    }
    assert!(told.iter().any(|text| text.contains("has it")), "who-can-read names no Pod: {told:?}");
    let kubeconfig = project.data().join("kubeconfig");
    let kubectl = |args: &[&str]| {
        let output = Command::new("kubectl").arg("--kubeconfig").arg(&kubeconfig).args(args).output();
        output.map(|output| both(&output)).unwrap_or_default()
    };
    told.push(kubectl(&[
        "get",
        "events,encryptedsecrets,apps,releases,pods,deployments,jobs",
        "-A",
        "-o",
        "yaml",
    ]));
    told.push(project.log());
    project.kill();
    project.up(&["-vv"]);
    release(&project, 2);
    assert!(!project.log().contains(made), "it is said once");
    told.push(project.log());
    project.stop();
    assert!(!has_marker(told.join("\n").as_bytes(), MARKER), "the marker was printed");
    let mut found = Vec::new();
    for folder in [project.path(), project.config.path(), Path::new("/dev/shm")] {
        files_with(folder, MARKER, &mut found);
    }
    assert!(found.is_empty(), "the marker is in {found:?}");
    // The search works, and looks into the store, which holds the Secret sealed.
    let log = std::fs::read(project.data().join("state/log")).unwrap();
    assert!(log.windows(12).any(|window| window == b"core/secrets"));
    std::fs::write(project.data().join("state/found"), MARKER).unwrap();
    files_with(project.path(), MARKER, &mut found);
    assert_eq!(found.len(), 1, "{found:?}");

    // Without the key everything but Secrets loads, and it is told which file is wanted.
    let keys = project.config.path().join("dodai/store-keys");
    let away = project.config.path().join("away");
    std::fs::rename(&keys, &away).unwrap();
    project.start(&[]);
    project.line("the applied files", |line| line.contains("up to date"));
    let log = project.log();
    assert!(log.contains("of the Secrets cannot be opened") && log.contains("default/shop"), "{log}");
    assert!(log.contains(&keys.display().to_string()), "{log}");
    assert!(kubectl(&["get", "secret", "shop"]).contains("it is sealed with the key"));
    assert!(kubectl(&["get", "apps"]).contains("shop"));
    project.stop();
    std::fs::remove_dir_all(&keys).ok();
    std::fs::rename(&away, &keys).unwrap();
    project.up(&[]);
    release(&project, 2);
    assert!(kubectl(&["get", "secret", "shop", "-o", "name"]).contains("secret/shop"));
    project.stop();
}

fn both(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// The variable `KEY` of a process that serves.
fn http_key(project: &Project) -> String {
    let output = project.run(&[
        "exec",
        "shop/web",
        "--",
        "python3",
        "-c",
        "import os; print(os.environ['KEY'], end='')",
    ]);
    text(&output.stdout)
}

#[test]
fn a_secret_that_cannot_be_opened_is_told_at_once_and_sops_files_work_as_they_are() {
    let fixtures = crate::support::repository().join("../shared/testdata/sops-fixtures");
    if !have("namespaces", namespaces()) || !have("sops-fixtures", fixtures.is_dir()) {
        return;
    }
    let (mut project, _) = repository(&[("KEY", "x")]);
    let copy =
        |from: &str, to: &str| project.write(to, &std::fs::read_to_string(fixtures.join(from)).unwrap());
    copy("upstream/sopssecret-02/encrypted.yaml", "db.yaml");
    let key = project.config.path().join("sops/age/keys.txt");
    std::fs::create_dir_all(key.parent().unwrap()).unwrap();
    std::fs::copy(fixtures.join("keys/age-sops-secrets-operator.txt"), key).unwrap();
    Mini::default().write(&project);
    let app = file(&project, "app.yaml");
    let with_key = |name: &str| {
        let from =
            format!("  - {{name: KEY, valueFrom: {{secretKeyRef: {{name: {name}, key: KEY}}}}}}\n  release:");
        app.replace("  release:", &from)
    };
    project.write("app.yaml", &with_key("shop"));
    project.up(&[]);
    let kubectl = |args: &[&str]| {
        let kubeconfig = project.data().join("kubeconfig");
        Command::new("kubectl").arg("--kubeconfig").arg(kubeconfig).args(args).output().unwrap()
    };
    if have("kubectl", Command::new("kubectl").arg("version").arg("--client").output().is_ok()) {
        let got = kubectl(&["get", "secret", "not-owned-secret-02", "-o", "jsonpath={.data.username}"]);
        assert_eq!(text(&got.stdout), "bXlVc2VybmFtZQ==", "{}", text(&got.stderr));
    }
    // An App that needs a Secret which cannot be opened fails now, and says which value and why.
    let stranger = tempfile::tempdir().unwrap();
    let theirs = stranger.path().join("their.txt");
    let recipient = secret(&project, &["keys", "generate", "--out", theirs.to_str().unwrap()], "");
    secret(&project, &["set", "other.yaml", "KEY", "--name", "other", "--recipient", recipient.trim()], "x");
    project.write("app.yaml", &with_key("other"));
    let output = project.run(&["apply", "."]);
    let told = text(&output.stderr);
    // 1: failed; waiting in vain would be 3.
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("other: `KEY`: none of the") && told.contains("can unwrap"), "{told}");
}
