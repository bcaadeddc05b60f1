//! The supervisor and the process runtime on real processes.

use std::time::Duration;

use base64::Engine;
use dodai_node::runtime::{ContainerState, ExecRequest, FileEntry, Mount, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::*;

#[tokio::test]
async fn exit_codes_signals_and_start_errors_are_told_apart() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    let cases: &[(&str, &str, i32, Option<i32>, &str)] = &[
        ("exit 0", "exit 0", 0, None, "Completed"),
        ("exit 7", "exit 7", 7, None, "Error"),
        ("a signal", "kill -9 $$", 137, Some(9), "Error"),
        ("a missing command", "exec /nonexistent", 127, None, "Error"),
    ];
    for (attempt, (what, script, code, signal, reason)) in cases.iter().enumerate() {
        pod.start(bed.sh("c", attempt as u32, script)).await.unwrap();
        let record = exited(&pod, "c").await;
        assert_eq!(
            (record.exit_code, record.signal, record.reason.as_str()),
            (*code, *signal, *reason),
            "{what}"
        );
        assert_eq!(record.attempt, attempt as u32);
    }
    let mut start = bed.sh("d", 0, "");
    start.command = vec!["no-such-program".into()];
    pod.start(start).await.unwrap();
    let record = exited(&pod, "d").await;
    assert_eq!((record.exit_code, record.reason.as_str()), (128, "StartError"));
    assert_eq!(record.message, "command `no-such-program` not found in PATH `/usr/local/bin:/usr/bin:/bin`");
    let mut start = bed.sh("e", 0, "");
    start.working_dir = "/nowhere".into();
    pod.start(start).await.unwrap();
    let record = exited(&pod, "e").await;
    assert_eq!(record.message, "cannot start in `/nowhere`: No such file or directory (os error 2)");
    pod.remove().await.unwrap();
    assert!(!bed.data().join("pods/u1").exists());
}

#[tokio::test]
async fn a_run_is_never_started_twice() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    pod.start(bed.sh("c", 0, "exit 3")).await.unwrap();
    exited(&pod, "c").await;
    let error = pod.start(bed.sh("c", 0, "exit 0")).await.unwrap_err();
    assert_eq!(error.to_string(), "the supervisor refused: run 0 of `c` was started before");
    assert_eq!(exited(&pod, "c").await.exit_code, 3);
}

#[tokio::test]
async fn the_end_of_the_log_is_the_message_of_a_failure() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    pod.start(bed.sh("c", 0, "for i in $(seq 1 30); do echo line $i; done; printf 'no newline' >&2; exit 1"))
        .await
        .unwrap();
    let record = exited(&pod, "c").await;
    let lines: Vec<&str> = record.message.lines().collect();
    assert_eq!(lines.len(), 20);
    assert_eq!((lines[0], lines[19]), ("line 12", "no newline"));
    let log = bed.log("c");
    let last: Vec<&str> = log.lines().last().unwrap().splitn(4, ' ').collect();
    assert!(last[0].parse::<jiff::Timestamp>().is_ok(), "{last:?}");
    assert_eq!(last[1..], ["stderr", "F", "no newline"]);
    let mut start = bed.sh("c", 1, "echo from the file >/dev/termination-log; echo noise; exit 1");
    start.termination_message_path = Some("/dev/termination-log".into());
    pod.start(start).await.unwrap();
    until(
        &pod,
        "the second run is over",
        |state| matches!(&state.containers["c"].state, ContainerState::Exited(record) if record.attempt == 1),
    )
    .await;
    assert_eq!(exited(&pod, "c").await.message, "from the file\n");
    assert_eq!(pod.state().borrow().containers["c"].previous.as_ref().unwrap().exit_code, 1);
}

#[tokio::test]
async fn a_long_line_is_split_and_a_large_log_rotated() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    let script =
        "head -c 40000 /dev/zero | tr '\\0' x; echo; yes 'some text that fills the log' | head -c 40000000";
    pod.start(bed.sh("c", 0, script)).await.unwrap();
    assert_eq!(exited(&pod, "c").await.exit_code, 0);
    let path = bed.log_path("c");
    for part in ["c.log", "c.log.1", "c.log.2"] {
        let size = path.with_file_name(part).metadata().unwrap().len();
        assert!(size <= 10 * 1024 * 1024, "{part} has {size} bytes");
    }
    assert!(!path.with_file_name("c.log.3").exists());
    pod.start(bed.sh("d", 0, "head -c 40000 /dev/zero | tr '\\0' x; echo end")).await.unwrap();
    exited(&pod, "d").await;
    let log = bed.log("d");
    let marks: Vec<(&str, usize)> = log
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.splitn(4, ' ').collect();
            (fields[2], fields[3].len())
        })
        .collect();
    assert_eq!(marks, [("P", 16384), ("P", 16384), ("F", 40003 - 2 * 16384)]);
}

#[tokio::test]
async fn a_pod_outlives_dodai_and_is_adopted() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    pod.start(bed.sh("c", 0, "while ! [ -e /tmp/go ]; do sleep 0.01; done; exit 5")).await.unwrap();
    let pid = running(&pod, "c").await;
    drop(pod);
    let pod = bed.open(&config("u1")).await;
    assert_eq!(running(&pod, "c").await, pid);
    drop(pod);
    std::fs::write(bed.data().join("pods/u1/scratch/c/tmp/go"), "").unwrap();
    until_true("the exit is on disk", || bed.data().join("pods/u1/runs/c/0.exit").exists()).await;
    let pod = bed.open(&config("u1")).await;
    assert_eq!(exited(&pod, "c").await.exit_code, 5);
    assert_eq!(bed.runtime().known().unwrap(), [config("u1")]);
    pod.remove().await.unwrap();
}

#[tokio::test]
async fn without_dodai_a_pod_is_ended_after_the_grace() {
    let bed = Bed::new();
    let mut config = config("u1");
    config.absent_grace_ms = Some(200);
    let pod = bed.open(&config).await;
    pod.start(bed.sh("c", 0, "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.02; done"))
        .await
        .unwrap();
    let pid = running(&pod, "c").await;
    until_true("it has set its trap", || bed.log("c").contains("up")).await;
    let supervisor = lock_holder(&bed.data().join("pods/u1")).unwrap();
    drop(pod);
    until_true("the supervisor is gone", || lock_holder(&bed.data().join("pods/u1")).is_none()).await;
    until_true("its processes are gone", || !is_alive(pid) && !is_alive(supervisor)).await;
    let pod = bed.open(&config).await;
    assert_eq!(exited(&pod, "c").await.exit_code, 9);
    assert!(bed.log("c").contains("bye"));
    // The Pod can go on: a new run gets a new supervisor.
    pod.start(bed.sh("c", 1, "exit 0")).await.unwrap();
    until(&pod, "it runs again", |state| state.containers["c"].attempt == 1).await;
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_after_its_grace() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    pod.start(bed.sh("c", 0, "trap '' TERM; echo up; while :; do sleep 0.02; done")).await.unwrap();
    until_true("it has set its trap", || bed.log("c").contains("up")).await;
    pod.stop("c", Duration::from_millis(100)).await.unwrap();
    let record = exited(&pod, "c").await;
    assert_eq!((record.exit_code, record.signal), (137, Some(9)));
}

#[tokio::test]
async fn a_shell_that_dies_of_sigterm_does_not_take_its_children_down() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    let server = "trap 'sleep 0.3; echo finished; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    pod.start(bed.sh("c", 0, &format!("sh -c '{}' ; echo not reached", server.replace('\'', "'\\''"))))
        .await
        .unwrap();
    until_true("it has set its trap", || bed.log("c").contains("up")).await;
    pod.stop("c", Duration::from_secs(30)).await.unwrap();
    assert_eq!(exited(&pod, "c").await.signal, Some(15));
    assert!(bed.log("c").contains("finished"), "{}", bed.log("c"));
}

#[tokio::test]
async fn a_run_to_completion_is_not_ended_by_dodais_absence() {
    let bed = Bed::new();
    let mut config = config("u1");
    config.absent_grace_ms = Some(50);
    config.run_to_completion = true;
    let pod = bed.open(&config).await;
    pod.start(bed.sh("c", 0, "trap 'exit 9' TERM; sleep 0.6; echo done")).await.unwrap();
    running(&pod, "c").await;
    drop(pod);
    until_true("the supervisor is gone", || lock_holder(&bed.data().join("pods/u1")).is_none()).await;
    let pod = bed.open(&config).await;
    assert_eq!(exited(&pod, "c").await.exit_code, 0);
    assert!(bed.log("c").contains("done"));
}

#[tokio::test]
async fn killing_the_supervisor_ends_its_containers_and_leaves_an_unknown_outcome() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    pod.start(bed.sh("c", 0, "(setsid sleep 1000 &) ; sleep 1000")).await.unwrap();
    let pid = running(&pod, "c").await;
    let supervisor = lock_holder(&bed.data().join("pods/u1")).unwrap();
    unsafe { libc::kill(supervisor, libc::SIGKILL) };
    let record = exited(&pod, "c").await;
    assert_eq!((record.exit_code, record.reason.as_str()), (137, "OutcomeUnknown"));
    until_true("its processes are gone", || !is_alive(pid)).await;
    drop(pod);
    let again = exited(&bed.open(&config("u1")).await, "c").await;
    assert_eq!(again, record);
}

#[tokio::test]
async fn a_container_sees_the_system_and_nothing_of_the_machine_beside() {
    let bed = Bed::new();
    let secret = bed.data().join("secret");
    let pod = bed.open(&config("u1")).await;
    std::fs::write(&secret, "x").unwrap();
    let image = bed.folder.path().join("image/app");
    std::fs::create_dir_all(image.join("deep/er")).unwrap();
    std::fs::write(image.join("main.txt"), "from the image").unwrap();
    let volume = bed.folder.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let before = listing(&image);
    let mut start = bed.sh("c", 0, "sleep 1000");
    let bind = |source: &std::path::Path, target: &str, read_only| Mount::Bind {
        source: source.to_path_buf(),
        target: target.to_string(),
        read_only,
    };
    start.mounts = vec![
        bind(&image, "/app", true),
        bind(&volume, "/app/deep/er/made", false),
        bind(&volume, "/data", false),
        bind(&volume, "/data-ro", true),
        Mount::Files {
            volume: "config".into(),
            target: "/etc/shop".into(),
            sub_path: None,
            files: vec![file("a.conf", "one", 0o600), file("sub/b.conf", "two", 0o644)],
        },
        Mount::Files {
            volume: "config".into(),
            target: "/opt/single.conf".into(),
            sub_path: Some("a.conf".into()),
            files: vec![file("a.conf", "one", 0o644)],
        },
        Mount::Memory { target: "/scratch".into(), size_bytes: Some(1 << 20) },
    ];
    start.working_dir = "/app".into();
    pod.start(start).await.unwrap();
    running(&pod, "c").await;
    let checks = [
        ("cat main.txt", "from the image"),
        ("touch new 2>/dev/null || echo read-only", "read-only"),
        ("touch deep/x 2>/dev/null || echo read-only", "read-only"),
        (
            "touch /x /usr/x /etc/x /data-ro/x 2>/dev/null || echo read-only; ls /x /usr/x /data-ro/x 2>/dev/null",
            "read-only",
        ),
        ("echo 1 >/data/one && cat /app/deep/er/made/one", "1"),
        ("cat /etc/shop/a.conf /etc/shop/sub/b.conf", "onetwo"),
        ("cat /opt/single.conf", "one"),
        ("touch /etc/shop/c 2>/dev/null || echo read-only", "read-only"),
        ("touch /scratch/x /tmp/x /dev/shm/x && echo ok", "ok"),
        ("ls /home /root /work /mnt /boot /srv /etc/shadow /etc/sudoers 2>/dev/null; echo end", "end"),
        ("ls -d /proc/[0-9]* | wc -l | xargs test 9 -gt && echo few", "few"),
        (
            "cat /proc/1/cmdline | tr '\\0' ' ' | grep -c sleep; cat /proc/2/cmdline | tr '\\0' ' '",
            "0\n/bin/sh -c sleep 1000",
        ),
        ("hostname", "p"),
        ("getent hosts p | cut -d' ' -f1", "127.0.0.1"),
        ("grep NoNewPrivs /proc/self/status | tr -d '\\t'", "NoNewPrivs:1"),
        ("echo x >/dev/null && head -c 4 /dev/urandom | wc -c", "4"),
        (
            "test -w /proc/sys/kernel/hostname || echo no; echo z >/proc/sysrq-trigger 2>/dev/null || echo no",
            "no\nno",
        ),
        (
            "mount -t tmpfs x /scratch 2>/dev/null || echo no; mknod /scratch/d b 1 1 2>/dev/null || echo no",
            "no\nno",
        ),
    ];
    for (script, want) in checks {
        let (_, out, err) = exec(&pod, "c", script).await;
        assert_eq!(out.trim(), want, "{script}: {err}");
    }
    let (_, out, _) = exec(&pod, "c", &format!("ls -d {} {}", bed.data().display(), secret.display())).await;
    assert_eq!(out, "");
    pod.update_files("c", "config", vec![file("a.conf", "three", 0o600)]).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        while exec(&pod, "c", "cat /etc/shop/a.conf; ls /etc/shop").await.1 != "threea.conf\n" {}
    })
    .await
    .expect("the files are replaced");
    pod.remove().await.unwrap();
    assert_eq!(listing(&image), before, "nothing was made in the image for a mount");
    assert_eq!(listing(&volume), ["one"]);
}

fn file(path: &str, text: &str, mode: u32) -> FileEntry {
    FileEntry { path: path.into(), mode, data: base64::engine::general_purpose::STANDARD.encode(text) }
}

fn listing(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            names.extend(listing(&entry.path()).into_iter().map(|inner| format!("{name}/{inner}")));
        }
        names.push(name);
    }
    names.sort();
    names
}

#[tokio::test]
async fn impossible_mounts_are_told_with_their_path() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    let image = bed.folder.path().join("image");
    std::fs::create_dir(&image).unwrap();
    std::os::unix::fs::symlink("/etc", image.join("link")).unwrap();
    let bind = |source: &std::path::Path, target: &str| Mount::Bind {
        source: source.to_path_buf(),
        target: target.to_string(),
        read_only: true,
    };
    let cases = [
        (
            vec![bind(std::path::Path::new("/nonexistent"), "/x")],
            "cannot mount `/x`: `/nonexistent`: No such file",
        ),
        (vec![bind(&image, "/a/../x")], "cannot mount `/a/../x`: `/a/../x` has `..` in it"),
        (
            vec![bind(&image, "/usr/new")],
            "cannot mount `/usr/new`: `/usr` belongs to the system and is read-only",
        ),
        (vec![bind(&image, "/app"), bind(&image, "/app/link/x")], "`/app/link` is a symbolic link"),
        (vec![bind(&image, "/")], "the root itself cannot be replaced"),
    ];
    for (attempt, (mounts, want)) in cases.into_iter().enumerate() {
        let mut start = bed.sh("c", attempt as u32, "exit 0");
        start.mounts = mounts;
        pod.start(start).await.unwrap();
        let record = until(&pod, "it fails", |state| {
            matches!(&state.containers["c"].state, ContainerState::Exited(record) if record.attempt == attempt as u32)
        })
        .await;
        let ContainerState::Exited(record) = &record.containers["c"].state else { unreachable!() };
        assert_eq!(record.reason, "StartError");
        assert!(record.message.contains(want), "{} instead of {want}", record.message);
    }
}

#[tokio::test]
async fn exec_has_streams_a_terminal_and_an_end() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    let mut start = bed.sh("c", 0, "sleep 1000");
    start.env.push(("COLOR".into(), "blue".into()));
    pod.start(start).await.unwrap();
    running(&pod, "c").await;
    assert_eq!(exec(&pod, "c", "echo $COLOR; echo e >&2; exit 4").await, (4, "blue\n".into(), "e\n".into()));
    let request = |command: &[&str], tty, stdin| ExecRequest {
        container: "c".into(),
        command: command.iter().map(|part| part.to_string()).collect(),
        tty,
        stdin,
    };
    let mut session = pod.exec(request(&["cat"], false, true)).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through").await.unwrap();
    drop(stdin);
    let mut out = String::new();
    session.stdout.read_to_string(&mut out).await.unwrap();
    assert_eq!((out.as_str(), session.exit.await.unwrap()), ("through", 0));

    let mut session =
        pod.exec(request(&["sh", "-c", "read x; tty; stty size; echo got $x"], true, true)).await.unwrap();
    session.resize.as_ref().unwrap()(101, 33);
    session.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
    let mut out = String::new();
    session.stdout.read_to_string(&mut out).await.unwrap();
    assert!(out.contains("/dev/pts/") && out.contains("33 101") && out.contains("got word"), "{out}");
    assert_eq!(session.exit.await.unwrap(), 0);

    let error = pod.exec(request(&["nonesuch"], false, false)).await.err().unwrap();
    assert!(error.to_string().contains("command `nonesuch` not found"), "{error}");
    // A client that goes away takes its command along.
    let session = pod.exec(request(&["sleep", "4321"], false, false)).await.unwrap();
    drop(session);
    tokio::time::timeout(PATIENCE, async {
        while !exec(&pod, "c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 432[1]'")
            .await
            .1
            .starts_with('0')
        {}
    })
    .await
    .expect("the command is gone");
}

#[tokio::test]
async fn listening_sockets_are_found() {
    let bed = Bed::new();
    let pod = bed.open(&config("u1")).await;
    let script = "exec python3 -c 'import socket,time\ns=socket.socket();s.bind((\"127.0.0.1\",0));s.listen()\n\
                  print(s.getsockname()[1],flush=True);time.sleep(1000)'";
    let mut start = bed.sh("c", 0, script);
    start.env[0].1 = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin".into();
    pod.start(start).await.unwrap();
    until_true("it prints its port", || bed.log("c").contains("stdout F") || bed.log("c").contains("stderr"))
        .await;
    let log = bed.log("c");
    let port: u16 = log.split_whitespace().last().unwrap().parse().unwrap_or_else(|_| panic!("{log}"));
    let found = pod.listening("c").await.unwrap();
    assert_eq!(found, [format!("127.0.0.1:{port}").parse().unwrap()]);
}
