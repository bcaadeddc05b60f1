//! A web application of one file that needs nothing but Python's own library: builds in no time, without network. Its release
//! command writes a row each time it starts.

use crate::support::Project;

/// What the next version of the application does.
#[derive(Clone)]
pub(crate) struct Mini {
    pub(crate) text: &'static str,
    pub(crate) replicas: u32,
    /// Seconds that the release command takes.
    pub(crate) migrate_s: f32,
    /// Its exit code.
    pub(crate) migrate_code: u8,
    /// Seconds that the build takes.
    pub(crate) build_s: f32,
    /// What the web process does instead of serving: `exit`, `elsewhere`, or nothing.
    pub(crate) trouble: &'static str,
    /// Seconds before the web process listens.
    pub(crate) start_s: f32,
}

impl Default for Mini {
    fn default() -> Mini {
        Mini {
            text: "one",
            replicas: 2,
            migrate_s: 0.0,
            migrate_code: 0,
            build_s: 0.0,
            trouble: "",
            start_s: 0.0,
        }
    }
}

impl Mini {
    /// Writes the application into a project.
    pub(crate) fn write(&self, project: &Project) {
        let Mini { text, replicas, migrate_s, migrate_code, build_s, trouble, start_s } = self;
        project.write("version.py", &format!(
            "TEXT = {text:?}\nMIGRATE_S = {migrate_s}\nMIGRATE_CODE = {migrate_code}\nTROUBLE = {trouble:?}\nSTART_S = {start_s}\n"
        ));
        project.write("server.py", SERVER);
        project.write("release.py", RELEASE);
        let marker = project.path().display();
        project.write(
            "app.yaml",
            &format!(
                r#"apiVersion: dodai.dev/v1alpha1
kind: App
metadata: {{name: shop}}
spec:
  source:
    folder: .
    build:
      command: [sh, -ec, "echo building; sleep {build_s}; python3 -m compileall -q ."]
      env: [{{name: PROJECT, value: {marker}}}]
  env:
  - {{name: PROJECT, value: {marker}}}
  release: {{command: [python3, release.py], timeout: 5m}}
  processes:
    web:
      replicas: {replicas}
      command: [python3, -u, server.py]
      readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1}}
      terminationGracePeriodSeconds: 10
  volumes: [{{name: data, mountPath: /data}}]
"#
            ),
        );
    }
}

/// One row for each start of a release command so far: the Release's name.
pub(crate) fn rows(project: &Project) -> Vec<String> {
    let file = project.data().join("volumes/default/shop-data/rows");
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Each Release has started its command once.
pub(crate) fn assert_one_row_each(project: &Project, releases: usize) {
    let rows = rows(project);
    let mut once = rows.clone();
    once.sort();
    once.dedup();
    assert_eq!((rows.len(), once.len()), (releases, releases), "rows of release commands: {rows:?}");
}

const SERVER: &str = r#"
import http.server, os, signal, sys, threading, time
from version import TEXT, TROUBLE, START_S

print("starting", TEXT, flush=True)
if TROUBLE == "exit":
    for line in range(30):
        print("trouble line", line, flush=True)
    sys.exit(3)
time.sleep(START_S)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, code, text):
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.startswith("/slow"):
            time.sleep(2)
        if self.path == "/pid":
            return self.answer(200, f"{os.environ.get('HOSTNAME', '')} {started}")
        self.answer(200, TEXT)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with lock, open("/data/orders", "ab") as orders:
            orders.write(body + b"\n")
        self.answer(201, "stored " + TEXT)

    def log_message(self, format, *args):
        pass


started = time.time_ns()
lock = threading.Lock()
port = int(os.environ["PORT"])
server = http.server.ThreadingHTTPServer(("127.0.0.1", port + 7 if TROUBLE == "elsewhere" else port), Handler)
server.daemon_threads = True
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
"#;

const RELEASE: &str = r#"
import os, sys, time
from version import MIGRATE_S, MIGRATE_CODE

with open("/data/rows", "a") as rows:
    rows.write(os.environ["DODAI_RELEASE"] + "\n")
    rows.flush()
    os.fsync(rows.fileno())
print("migrating", flush=True)
time.sleep(MIGRATE_S)
if MIGRATE_CODE:
    print("no such table: orders", file=sys.stderr, flush=True)
with open("/data/ended", "a") as ended:
    ended.write(os.environ["DODAI_RELEASE"] + "\n")
sys.exit(MIGRATE_CODE)
"#;
