//! The rest of kubectl's verbs against `dodai apiserver`, which has no node: apply of both kinds, diff, edit, patches, explain, the
//! forms of get, watching and waiting, labels, access, tokens, describe of every kind that is served.
//!
//! A second kubectl can be named by `DODAI_TESTS_KUBECTL`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::{eventually, have, text};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'example.com/web:1', ports: [{containerPort: 80}]}]}
";

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              size: {type: integer, description: How large it is.}
              colour: {type: string, enum: [red, green]}
            x-kubernetes-validations: [{rule: 'self.size < 10', message: too large}]
";

/// The API server as a child, and one kubectl.
struct Server {
    child: Child,
    folder: tempfile::TempDir,
    kubectl: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(kubectl: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let child = Command::new(env!("CARGO_BIN_EXE_dodai"))
            .args([
                "apiserver",
                "--in-memory",
                "--controllers",
                "--listen",
                "127.0.0.1:0",
                "--kubeconfig-out",
            ])
            .arg(&kubeconfig)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server { child, folder, kubectl: kubectl.to_owned() };
        eventually("the API answers", || server.run(&["get", "namespaces"]).status.success().then_some(()));
        server
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.folder.path().join("kubeconfig")).args(args);
        command.env("HOME", self.folder.path()).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{} {args:?}: {out}{err}", self.kubectl);
        out
    }

    /// Fails, and tells this.
    fn fails(&self, args: &[&str], with: &str) {
        let output = self.run(args);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success() && told.contains(with), "{args:?} should fail with {with}: {told}");
    }

    fn says(&self, args: &[&str], what: &str) {
        let told = self.ok(args);
        assert!(told.contains(what), "{args:?} should say {what}: {told}");
    }

    fn file(&self, name: &str, content: &str) {
        std::fs::write(self.folder.path().join(name), content).unwrap();
    }
}

/// The machine's own, and the one that is named.
fn kubectls() -> Vec<String> {
    let mut all = vec!["kubectl".to_owned()];
    all.extend(std::env::var("DODAI_TESTS_KUBECTL").ok().filter(|name| Path::new(name).is_file()));
    all
}

fn found() -> bool {
    let run = Command::new("kubectl").args(["version", "--client"]).stdout(Stdio::null()).status();
    have("kubectl", run.is_ok_and(|status| status.success()))
}

#[test]
fn kubectl_applies_compares_edits_and_patches() {
    if !found() {
        return;
    }
    for kubectl in kubectls() {
        let server = Server::start(&kubectl);
        server.file("web.yaml", DEPLOYMENT);
        server.says(&["apply", "-f", "web.yaml"], "deployment.apps/web created");
        server.says(&["apply", "-f", "web.yaml"], "unchanged");
        server.says(&["apply", "--server-side", "-f", "web.yaml"], "serverside-applied");
        server.file("web.yaml", &DEPLOYMENT.replace("web:1", "web:2"));
        // Another manager may not take a field over unless it insists.
        let other = ["apply", "--server-side", "--field-manager=other", "-f", "web.yaml"];
        server.fails(&other, "conflict");
        server.ok(&[&other[..], &["--force-conflicts"]].concat());
        server.file("web.yaml", &DEPLOYMENT.replace("web:1", "web:3"));
        let difference = server.run(&["diff", "-f", "web.yaml"]);
        assert_eq!(difference.status.code(), Some(1), "{}", text(&difference.stderr));
        assert!(text(&difference.stdout).contains("+      - image: example.com/web:3"));
        server.says(&["apply", "-f", "web.yaml"], "configured");
        assert!(server.run(&["diff", "-f", "web.yaml"]).status.success());

        let edited =
            server.command(&["edit", "deployment", "web"]).env("EDITOR", "sed -i s/web:3/web:4/").output();
        assert!(text(&edited.unwrap().stdout).contains("edited"));
        server.ok(&[
            "patch",
            "deployment",
            "web",
            "--type=merge",
            "-p",
            r#"{"metadata":{"annotations":{"a":"1"}}}"#,
        ]);
        let replace = r#"[{"op":"replace","path":"/spec/replicas","value":4}]"#;
        server.ok(&["patch", "deployment", "web", "--type=json", "-p", replace]);
        let env = r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"b"}]}]}}}}"#;
        server.ok(&["patch", "deployment", "web", "-p", env]);
        let shown = "jsonpath={.spec.replicas} {.metadata.annotations.a} {.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env[0].value}";
        assert_eq!(server.ok(&["get", "deployment", "web", "-o", shown]), "4 1 example.com/web:4 b");
        server.ok(&["scale", "deployment", "web", "--replicas=1"]);
        server.ok(&["label", "deployment", "web", "tier=front"]);
        server.ok(&["annotate", "deployment", "web", "note=x"]);
        server.ok(&["set", "image", "deployment/web", "web=example.com/web:9"]);
        server.ok(&["wait", "--for=jsonpath={.status.updatedReplicas}=1", "deployment/web", "--timeout=60s"]);
        // A member that does not exist is told before anything is written.
        server.file("bad.yaml", &DEPLOYMENT.replace("replicas:", "replicsa:"));
        server.fails(&["apply", "-f", "bad.yaml"], "unknown field \"spec.replicsa\"");
    }
}

#[test]
fn kubectl_explains_lists_watches_and_describes() {
    if !found() {
        return;
    }
    for kubectl in kubectls() {
        let server = Server::start(&kubectl);
        server.file("widgets.yaml", DEFINITION);
        server.ok(&["apply", "-f", "widgets.yaml"]);
        server.ok(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=60s"]);
        eventually("the definition is explained", || {
            text(&server.run(&["explain", "widgets.spec", "--recursive"]).stdout)
                .contains("colour")
                .then_some(())
        });
        server.says(&["explain", "widgets.spec.size"], "How large it is.");
        server.says(&["explain", "deployment", "--recursive"], "terminationGracePeriodSeconds");
        server.says(&["explain", "deployment.spec"], "-required-");

        let mut watch =
            server.command(&["get", "widgets", "-w", "-o", "name"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        server.file(
            "one.yaml",
            "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: one}\nspec: {size: 3}\n",
        );
        server.ok(&["apply", "-f", "one.yaml"]);
        assert_eq!(lines.next().unwrap().unwrap(), "widget.example.com/one");
        let _ = watch.kill();
        let _ = watch.wait();
        server.file(
            "large.yaml",
            "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: large}\nspec: {size: 30}\n",
        );
        server.fails(&["apply", "-f", "large.yaml"], "too large");

        assert!(server.ok(&["get", "wd"]).lines().nth(1).is_some_and(|line| line.starts_with("one    3")));
        assert_eq!(
            server.ok(&["get", "wd", "-o", "custom-columns=N:.metadata.name,S:.spec.size"]),
            "N     S\none   3\n"
        );
        server.says(&["get", "wd", "one", "-o", "yaml"], "size: 3");
        server.says(&["get", "services", "-o", "wide"], "10.96.0.1");
        server.says(&["get", "componentstatuses"], "Healthy");
        server.says(&["api-resources"], "widgets");
        server.says(&["api-versions"], "example.com/v1");
        for kind in server.ok(&["api-resources", "--verbs=list", "-o", "name"]).lines() {
            server.ok(&["describe", kind, "--all-namespaces"]);
            let table = server.ok(&["get", kind, "--all-namespaces", "-o", "wide"]);
            assert!(!table.contains("<unknown>") || kind.starts_with("horizontal"), "{kind}: {table}");
        }
    }
}

#[test]
fn kubectl_asks_what_is_allowed_and_makes_tokens() {
    if !found() {
        return;
    }
    for kubectl in kubectls() {
        let server = Server::start(&kubectl);
        server.says(&["auth", "whoami"], "system:masters");
        server.says(&["auth", "can-i", "--list"], "[*]");
        server.ok(&["create", "serviceaccount", "robot"]);
        server.ok(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]);
        server.ok(&["create", "rolebinding", "robot", "--role=reader", "--serviceaccount=default:robot"]);
        let robot = "--as=system:serviceaccount:default:robot";
        eventually("the binding counts", || {
            server.run(&["auth", "can-i", "get", "pods", robot]).status.success().then_some(())
        });
        server.fails(&["auth", "can-i", "delete", "pods", robot], "no");
        let token = server.ok(&["create", "token", "robot", "--duration=1h"]);
        let token = format!("--token={}", token.trim());
        // Another user by the token alone: the certificate of the administrator stays out.
        let url = server.ok(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
        let bare =
            ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", &format!("--server={url}"), &token];
        let ask = |verb: &[&str]| {
            Command::new(&kubectl).args(bare).args(verb).env("HOME", server.folder.path()).output().unwrap()
        };
        assert!(ask(&["get", "pods"]).status.success());
        let refused = ask(&["get", "secrets"]);
        assert!(
            text(&refused.stderr).contains("cannot list resource \"secrets\""),
            "{}",
            text(&refused.stderr)
        );
    }
}
