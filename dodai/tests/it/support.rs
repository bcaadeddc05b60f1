//! The real binary as a child, and what several tests need of it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything; a machine under load is slow, a bug is slower.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(180);

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

/// Whether a tool is there. CI names the tools that must be, so that nothing is skipped unseen.
pub(crate) fn have(tool: &str, works: bool) -> bool {
    let required = std::env::var("DODAI_TESTS_REQUIRE").unwrap_or_default();
    assert!(
        works || !required.split(' ').any(|name| name == tool),
        "{tool} is required here and does not work"
    );
    if !works {
        println!("skipped: {tool} not found");
    }
    works
}

/// Polls until `what` gives something.
pub(crate) fn eventually<T>(name: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(began.elapsed() < WAIT_MAX, "not within {WAIT_MAX:?}: {name}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// A folder with a project, and the dodai that runs it.
pub(crate) struct Project {
    pub(crate) folder: TempDir,
    /// The configuration folder of the person who runs it: identities must not mix with the real ones.
    pub(crate) config: TempDir,
    running: Option<Running>,
}

struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Project {
    /// An empty project.
    pub(crate) fn new() -> Project {
        let temporary = |prefix| tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
        Project { folder: temporary("dodai-"), config: temporary("dodai-config-"), running: None }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join(".dodai")
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// `dodai ARGS` in the project's folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dodai"));
        command.args(args).current_dir(self.path()).env_remove("KUBECONFIG").env_remove("DODAI_DATA");
        command.env("XDG_CONFIG_HOME", self.config.path());
        for name in ["DODAI_AGE_IDENTITY", "DODAI_AGE_IDENTITY_FILE", "SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a verb that must succeed; gives its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "dodai {args:?}: {}\n{out}{err}{}", output.status, self.log());
        out
    }

    /// Starts `dodai up` in the foreground, with more arguments.
    pub(crate) fn start(&mut self, more: &[&str]) {
        let mut child = self
            .command(&[&["up", "."], more].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            });
        }
        self.running = Some(Running { child, lines });
    }

    /// Starts `dodai up` and waits for the URL of `shop`.
    pub(crate) fn up(&mut self, more: &[&str]) -> String {
        self.start(more);
        self.url()
    }

    /// The URL that `up` prints.
    pub(crate) fn url(&mut self) -> String {
        let line = self.line("the URL", |line| line.contains("http://127.0.0.1:"));
        line.split_whitespace().last().unwrap().to_owned()
    }

    /// Waits for a line of output.
    pub(crate) fn line(&mut self, name: &str, is_it: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let running = self.running.as_mut().expect("it was started");
            let ended = running.child.try_wait().unwrap();
            let found = running.lines.lock().unwrap().iter().find(|line| is_it(line)).cloned();
            if let Some(found) = found {
                return found;
            }
            assert!(ended.is_none(), "dodai ended ({ended:?}) without {name}:\n{}", self.log());
            assert!(began.elapsed() < WAIT_MAX, "not within {WAIT_MAX:?}: {name}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that the running `up` has printed.
    pub(crate) fn log(&self) -> String {
        self.running.as_ref().map(|running| running.lines.lock().unwrap().join("\n")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.running.as_ref().expect("it was started").child.id() as i32
    }

    /// `kill -9`, and nothing else.
    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().expect("it was started");
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// Ctrl-C, and waits for the end.
    pub(crate) fn stop(&mut self) -> i32 {
        let mut running = self.running.take().expect("it was started");
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(running.child.id() as i32, libc::SIGINT) };
        let began = Instant::now();
        loop {
            if let Some(status) = running.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            let printed = running.lines.lock().unwrap().join("\n");
            assert!(began.elapsed() < WAIT_MAX, "dodai does not stop:\n{printed}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `dodai status -o json` of the App `shop`.
    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["status", "-o", "json", "shop"]);
        let list: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
        list[0].clone()
    }

    /// A clean stop leaves no process; supervisors have been told to go, and need a moment.
    pub(crate) fn assert_nothing_is_left(&self) {
        eventually("no process is left", || self.processes().is_empty().then_some(()));
    }

    /// Host processes that belong to this project's data folder: supervisors and what runs in their Pods.
    pub(crate) fn processes(&self) -> Vec<String> {
        let data = self.data().canonicalize().unwrap_or_else(|_| self.data()).display().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.chars().all(|c| c.is_ascii_digit()) {
                continue;
            }
            let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
            let (line, environment) = (read("cmdline"), read("environ"));
            let is_supervisor = contains(&line, data.as_bytes()) && contains(&line, b"__pod-supervisor");
            let marker = format!("PROJECT={}", self.path().display());
            if is_supervisor || contains(&environment, marker.as_bytes()) {
                found.push(format!("{name} {}", text(&line).replace('\0', " ")));
            }
        }
        found
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if self.running.is_some() {
            if std::thread::panicking() {
                eprintln!("--- dodai's output\n{}", self.log());
                self.kill();
            } else {
                self.stop();
            }
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether this machine lets Pods run, as `dodai doctor` finds out.
pub(crate) fn namespaces() -> bool {
    Command::new(env!("CARGO_BIN_EXE_dodai"))
        .arg("doctor")
        .output()
        .is_ok_and(|output| output.status.success())
}
