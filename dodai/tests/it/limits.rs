//! Limits of the system that are reached: open files. Whoever asks too much waits, nobody else notices, and it passes.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use crate::support::{WAIT_MAX, eventually, have, text};

/// Open files of the server under test, soft and hard.
const FILES_MAX: usize = 64;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn out_of_file_descriptors_a_server_waits_and_then_goes_on() {
    let kubectl = Command::new("kubectl").args(["version", "--client"]).output();
    if !have("kubectl", kubectl.is_ok_and(|output| output.status.success())) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let script = format!("ulimit -n {FILES_MAX}; exec \"$@\"");
    let mut server = Command::new("sh");
    server.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_dodai"), "--data"]).arg(folder.path().join("data"));
    server.args(["apiserver", "--listen", "127.0.0.1:0", "--kubeconfig-out"]).arg(&kubeconfig);
    server.env("XDG_CONFIG_HOME", folder.path().join("config")).stdout(Stdio::null()).stderr(Stdio::piped());
    server.env("DODAI_LOG", "warn");
    let mut server = Killed(server.spawn().unwrap());
    let (tell, log) = mpsc::channel();
    let lines = BufReader::new(server.0.stderr.take().unwrap()).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(tell.send(line))));
    let heard = |part: &str| loop {
        let line = log.recv_timeout(WAIT_MAX).unwrap_or_else(|_| panic!("never heard `{part}`"));
        if line.contains(part) {
            break line;
        }
    };
    let address = heard("serving the Kubernetes API on").rsplit("https://").next().unwrap().trim().to_owned();
    let kubectl = |args: &[&str]| {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&kubeconfig).args(args).env("HOME", folder.path());
        command
    };
    eventually("it answers", || kubectl(&["get", "ns"]).output().unwrap().status.success().then_some(()));

    // One who is served already: a watch, from before until after.
    let watch =
        kubectl(&["get", "configmaps", "-n", "default", "-w", "-o", "name"]).stdout(Stdio::piped()).spawn();
    let mut watch = Killed(watch.unwrap());
    let mut seen = BufReader::new(watch.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let create = |name: &str| kubectl(&["create", "configmap", name]).output().unwrap();
    // Two objects, so that the watch is known to be past its list.
    assert!(create("before").status.success());
    assert!(seen.any(|line| line == "configmap/before"));

    let flood: Vec<TcpStream> = (0..2 * FILES_MAX)
        .map(|_| TcpStream::connect(&address).expect("the kernel's queue takes it"))
        .collect();
    heard("a connection cannot be accepted");
    assert_eq!(server.0.try_wait().unwrap(), None, "the server goes on");
    drop(flood);

    // Those who come later are served again, what they write is kept, and the watch was not cut.
    let output = eventually("it accepts again", || {
        let output = create("after");
        let there = text(&output.stderr).contains("already exists");
        (output.status.success() || there).then_some(output)
    });
    drop(output);
    assert!(seen.any(|line| line == "configmap/after"), "the watch from before is alive");
}
