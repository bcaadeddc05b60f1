//! What people get wrong, and what machines lack: a clear error each, and nothing lost.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;

use crate::mini::{Mini, rows};
use crate::support::{Project, have, text};

const APP: &str = "apiVersion: dodai.dev/v1alpha1\nkind: App\nmetadata: {name: shop}\nspec:\n  source: {folder: .}\n  processes:\n    web:\n      command: [serve]\n";

/// `up` ends with this code and these texts.
fn refused(project: &Project, code: i32, wanted: &[&str]) {
    let output = project.run(&["up", "."]);
    let printed = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{printed}");
    for wanted in wanted {
        assert!(printed.contains(wanted), "{wanted:?} in:\n{printed}");
    }
}

#[test]
fn mistakes_in_files_are_shown_at_their_line_before_anything_starts() {
    let cases: [(&str, String, &[&str]); 7] = [
        ("malformed", APP.replace("kind: App", "kind: App: App"), &["app.yaml:2:", "error: "]),
        ("tab", APP.replace("      command", "\tcommand"), &["app.yaml:8:"]),
        ("duplicate", APP.replace("kind: App\n", "kind: App\nkind: App\n"), &["app.yaml:3:1: error: "]),
        (
            "unknown",
            format!("{APP}      replica: 2\n"),
            &[
                "app.yaml:9:7: error: unknown field `replica` (spec.processes.web)",
                "9 |       replica: 2",
                "^^^^^^^ did you mean `replicas`?",
            ],
        ),
        (
            "type",
            format!("{APP}      replicas: two\n"),
            &["app.yaml:9:", "`spec.processes.web.replicas` must be a whole number, not a string"],
        ),
        (
            "folder",
            APP.replace("folder: .", "folder: nowhere"),
            &["app.yaml:5:", "the source folder `./nowhere` does not exist"],
        ),
        (
            "kind",
            "apiVersion: dodai.dev/v1alpha1\nmetadata: {name: shop}\n".to_owned(),
            &["app.yaml:1:1: error: missing field `kind`"],
        ),
    ];
    for (name, manifest, wanted) in cases {
        println!("{name}");
        let project = Project::new();
        project.write("app.yaml", &manifest);
        project.write("main.py", "");
        refused(&project, 2, wanted);
        assert_eq!(project.processes(), Vec::<String>::new());
    }
    let empty = Project::new();
    refused(&empty, 2, &["no manifest in `.`"]);
}

#[test]
fn what_the_server_refuses_is_shown_at_its_line() {
    if !have("namespaces", crate::support::namespaces()) {
        return;
    }
    let project = Project::new();
    project.write("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: Not_A_Name\n");
    refused(&project, 2, &["a.yaml:4:3: error: ", "metadata.name"]);
    let project = Project::new();
    project.write("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec:\n  port: []\n");
    refused(&project, 2, &["a.yaml:5:3: error: unknown field `spec.port`"]);
    let project = Project::new();
    project.write("a.yaml", "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: x}\n");
    refused(&project, 2, &["a.yaml:2:1: error: the API does not serve example.com/v1 `Thing`"]);
}

#[test]
fn a_build_that_fails_is_told_with_its_last_lines() {
    if !have("namespaces", crate::support::namespaces()) {
        return;
    }
    let mut project = Project::new();
    let build = "source: {folder: ., build: {command: [sh, -c, \"echo compiling; nosuchprogram --now\"]}}";
    project.write("app.yaml", &APP.replace("source: {folder: .}", build));
    project.write("main.py", "");
    project.start(&["--no-logs"]);
    project.line("the failure", |line| {
        line.contains("release 1 failed: build command") && line.contains("exit code 127")
    });
    project.line("its log", |line| line.contains("| ") && line.contains("nosuchprogram: not found"));
    // It stays up, and a mended project is built.
    Mini::default().write(&project);
    project.ok(&["apply", "."]);
    assert_eq!(rows(&project).len(), 1);
}

#[test]
fn a_data_folder_in_use_is_refused() {
    if !have("namespaces", crate::support::namespaces()) {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    project.up(&["--no-logs"]);
    let wanted = format!("is in use by another dodai (process {})", project.pid());
    refused(&project, 1, &[&wanted, "hint: `dodai apply DIR`"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let project = Project::new();
    project.write("app.yaml", APP);
    project.write("main.py", "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = project.run(&["up", ".", "--listen", &address]);
    let printed = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains(&format!("cannot listen on `{address}`")) && printed.contains("in use"),
        "{printed}"
    );
    let output = project.run(&["up", ".", "--listen", "0.0.0.0:1234"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is not a loopback address"));
}

#[test]
fn an_app_whose_port_is_taken_says_so_and_serves_when_it_is_free() {
    if !have("namespaces", crate::support::namespaces()) {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    let url = project.up(&["--no-logs"]);
    assert_eq!(project.stop(), 0);
    let taken = TcpListener::bind(url.trim_start_matches("http://")).unwrap();
    project.start(&["--no-logs"]);
    project.line("the port", |line| line.contains("service shop-web: cannot listen on 127.0.0.1:"));
    assert_eq!(project.status()["reason"], "PortInUse");
    drop(taken);
    crate::support::eventually("it serves", || (project.status()["ready"] == true).then_some(()));
    assert_eq!(crate::http::Client::new(&url, false).get("/").unwrap().body, "one");
}

#[test]
fn a_machine_without_namespaces_is_told_what_to_do() {
    // A user namespace may be nested 32 deep or forbidden by a limit; here the limit is set for this child alone.
    let project = Project::new();
    project.write("app.yaml", APP);
    project.write("main.py", "");
    let mut command = project.command(&["up", "."]);
    // SAFETY: only system calls between fork and exec. Without the right to make namespaces, and with a filter that refuses
    // `unshare`, the child is as on a machine that forbids them.
    unsafe { command.pre_exec(forbid_namespaces) };
    let output = command.output().unwrap();
    let printed = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("error: cannot run Pods on this machine: ") && printed.contains("hint: "),
        "{printed}"
    );
}

/// A seccomp filter that answers `unshare` and `clone` with namespace flags with EPERM.
fn forbid_namespaces() -> std::io::Result<()> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JEQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RET: u16 = 0x06; // BPF_RET | BPF_K
    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
    const JSET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const FIRST_ARGUMENT: u32 = 16;
    let namespaces = (libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUSER) as u32;
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let mut filter = [
        statement(LOAD, 0),
        libc::sock_filter { code: JEQ, jt: 3, jf: 0, k: libc::SYS_unshare as u32 },
        libc::sock_filter { code: JEQ, jt: 0, jf: 3, k: libc::SYS_clone as u32 },
        statement(LOAD, FIRST_ARGUMENT),
        libc::sock_filter { code: JSET, jt: 0, jf: 1, k: namespaces },
        statement(RET, EPERM),
        statement(RET, ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: both calls read the program, which lives until they return.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    if set { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    // A file system of a few MiB of its own needs the right to mount.
    let is_root =
        std::process::Command::new("id").arg("-u").output().is_ok_and(|id| text(&id.stdout).trim() == "0");
    if !have("namespaces", crate::support::namespaces()) || !is_root {
        println!("skipped: mounting a small file system needs root");
        return;
    }
    let project = Project::new();
    Mini::default().write(&project);
    let script = format!(
        "set -e; mount -t tmpfs -o size=6m none {data}; head -c 5800000 /dev/zero > {data}/ballast; {dodai} up . --no-logs --timeout 5s & \
         pid=$!; for i in $(seq 100); do sleep 0.1; kill -0 $pid 2>/dev/null || break; done; kill -INT $pid 2>/dev/null || true; wait $pid || code=$?; \
         echo code=${{code:-0}}; rm -f {data}/ballast; {dodai} up . --no-logs -d || {dodai} retry shop; {dodai} status; {dodai} down",
        data = project.data().display(),
        dodai = env!("CARGO_BIN_EXE_dodai"),
    );
    std::fs::create_dir_all(project.data()).unwrap();
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .current_dir(project.path())
        .output()
        .unwrap();
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(printed.contains("No space left on device") || printed.contains("no space left"), "{printed}");
    assert!(printed.contains("Running"), "after there is space again it runs:\n{printed}");
}
