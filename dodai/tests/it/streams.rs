//! Streams with a real kubectl: exec, attach, cp, run and port-forward; over WebSockets as it does by itself, and over
//! SPDY as older ones and programs in Go do. A second kubectl can be named by `DODAI_TESTS_KUBECTL`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::mini::Mini;
use crate::support::{Project, WAIT_MAX, eventually, have, namespaces, text};

/// Variables by which kubectl is told to use SPDY alone.
const ONLY_SPDY: [(&str, &str); 2] =
    [("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false"), ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")];

/// One way to call kubectl.
struct Kubectl<'a> {
    project: &'a Project,
    program: String,
    only_spdy: bool,
}

impl Kubectl<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(self.project.data().join("kubeconfig")).args(args);
        self.prepare(&mut command);
        command
    }

    /// The same on a terminal of its own.
    fn on_terminal(&self, args: &[&str]) -> Command {
        let kubeconfig = self.project.data().join("kubeconfig").display().to_string();
        let mut line = vec![self.program.clone(), "--kubeconfig".to_string(), kubeconfig];
        line.extend(args.iter().map(|arg| format!("'{arg}'")));
        let mut command = Command::new("script");
        command.args(["-qec", &line.join(" "), "/dev/null"]);
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.env("HOME", self.project.path()).current_dir(self.project.path());
        if self.only_spdy {
            command.envs(ONLY_SPDY);
        }
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.command(args).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "kubectl {args:?}: {}", told(&output));
        text(&output.stdout)
    }
}

fn told(output: &Output) -> String {
    format!("{:?}\n{}{}", output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs it with this input to its end, for a bounded time.
fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let (done, ended) = std::sync::mpsc::channel();
    let pid = child.id();
    std::thread::spawn(move || done.send(child.wait_with_output().unwrap()));
    let output = ended.recv_timeout(WAIT_MAX).unwrap_or_else(|_| {
        // SAFETY: a signal to our own child, which its thread still waits for.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        panic!("it does not end: {command:?}")
    });
    writer.join().unwrap();
    output
}

/// A `kubectl port-forward` that runs, and the local port that it chose.
struct Forward {
    child: Child,
    port: u16,
    /// It writes a line for each connection, and ends if nobody reads them.
    _stdout: BufReader<ChildStdout>,
}

impl Forward {
    fn new(kubectl: &Kubectl<'_>, target: &str, port: &str) -> Forward {
        let mut command = kubectl.command(&["port-forward", target, &format!(":{port}")]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        // Forwarding from 127.0.0.1:40001 -> 20001
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
        let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{target}: {line:?}"));
        Forward { child, port, _stdout: stdout }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn kubectl_execs_attaches_copies_runs_and_forwards_over_websockets_and_spdy() {
    let tools = ["kubectl", "script"].iter().all(|tool| {
        have(tool, Command::new(tool).arg("--help").output().is_ok_and(|output| output.status.success()))
    });
    if !tools || !have("namespaces", namespaces()) {
        return;
    }
    let mut project = Project::new();
    Mini::default().write(&project);
    project.up(&["--no-logs"]);
    let mut programs = vec!["kubectl".to_string()];
    programs.extend(std::env::var("DODAI_TESTS_KUBECTL").ok());
    for program in programs {
        for only_spdy in [false, true] {
            let kubectl = Kubectl { project: &project, program: program.clone(), only_spdy };
            let pods = kubectl.ok(&["get", "pods", "-l", "dodai.dev/process=web", "-o", "name"]);
            let pod = pods.lines().next().unwrap().to_string();
            let path = "jsonpath={.spec.containers[0].image}";
            let image = kubectl.ok(&["get", &pod, "-o", path]);
            executes(&kubectl, &pod);
            copies(&kubectl, &pod);
            forwards(&kubectl, &pod);
            attaches(&kubectl, &image);
            runs(&kubectl, &image);
        }
    }
}

fn executes(kubectl: &Kubectl<'_>, pod: &str) {
    let script = "cat; echo err >&2; exit 7";
    let output = with_input(kubectl.command(&["exec", "-i", pod, "--", "sh", "-c", script]), b"to stdin");
    assert_eq!(output.status.code(), Some(7), "{}", told(&output));
    assert_eq!(text(&output.stdout), "to stdin");
    assert!(text(&output.stderr).contains("err\n"), "{}", told(&output));
    let lines = b"test -t 0 && echo ter''minal\necho size $(stty size)\nexit 3\n";
    let output = with_input(kubectl.on_terminal(&["exec", "-it", pod, "--", "sh"]), lines);
    assert!(text(&output.stdout).contains("terminal"), "{}", told(&output));
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
}

/// A megabyte there and back.
fn copies(kubectl: &Kubectl<'_>, pod: &str) {
    let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::create_dir_all(kubectl.project.path().join("out")).unwrap();
    std::fs::write(kubectl.project.path().join("out/there"), &bytes).unwrap();
    let name = pod.trim_start_matches("pod/");
    kubectl.ok(&["cp", "out/there", &format!("{name}:/tmp/there")]);
    kubectl.ok(&["cp", &format!("{name}:/tmp/there"), "out/back"]);
    assert!(std::fs::read(kubectl.project.path().join("out/back")).unwrap() == bytes, "not the same bytes");
}

fn forwards(kubectl: &Kubectl<'_>, pod: &str) {
    let declared = kubectl.ok(&["get", pod, "-o", "jsonpath={.spec.containers[0].ports[0].containerPort}"]);
    let service = kubectl.ok(&["get", "service", "shop-web", "-o", "jsonpath={.spec.ports[0].port}"]);
    let targets = [(pod, declared.as_str()), ("deploy/shop-web", &declared), ("svc/shop-web", &service)];
    for (target, port) in targets {
        let forward = Forward::new(kubectl, target, port);
        for _ in 0..5 {
            let answer = forward.get("/healthz");
            assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 "), "{target}: {answer:?}");
        }
    }
    // A port of this machine that is not the Pod's: the API server's, say.
    let config = kubectl.ok(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let foreign = config.rsplit(':').next().unwrap().trim_end_matches('/').to_string();
    assert_eq!(Forward::new(kubectl, pod, &foreign).get("/"), "");
}

fn attaches(kubectl: &Kubectl<'_>, image: &str) {
    let script = "while read line; do echo got $line; echo err $line >&2; test $line = end && exit 0; done";
    let spec = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"echo"}},"spec":{{"restartPolicy":"Never",
        "terminationGracePeriodSeconds":1,"containers":[{{"name":"c","image":"{image}","stdin":true,
        "command":["sh","-c","{script}"]}}]}}}}"#
    );
    assert!(with_input(kubectl.command(&["apply", "-f", "-"]), spec.as_bytes()).status.success());
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/echo"]);
    let output = with_input(kubectl.command(&["attach", "-i", "echo"]), b"one\nend\n");
    assert!(output.status.success(), "{}", told(&output));
    assert!(text(&output.stdout).contains("got one\ngot end\n"), "{}", told(&output));
    assert!(text(&output.stderr).contains("err one\n"), "{}", told(&output));
    eventually("the log has it too", || kubectl.ok(&["logs", "echo"]).contains("got end").then_some(()));
    kubectl.ok(&["delete", "pod", "echo", "--now"]);
}

fn runs(kubectl: &Kubectl<'_>, image: &str) {
    let run = ["run", "shell", "--rm", "--restart=Never", "--quiet", "--image", image];
    let args = [&run[..], &["-i", "--command", "--", "sh", "-c", "sleep 1; cat; exit 4"]].concat();
    let output = with_input(kubectl.command(&args), b"piped\n");
    assert!(text(&output.stdout).contains("piped\n"), "{}", told(&output));
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    let args = [&run[..], &["-it", "--command", "--", "sh"]].concat();
    let output = with_input(kubectl.on_terminal(&args), b"test -t 0 && echo ter''minal\nexit\n");
    assert!(text(&output.stdout).contains("terminal"), "{}", told(&output));
    assert_eq!(kubectl.ok(&["get", "pods", "-o", "name"]).matches("pod/shell").count(), 0);
}
