//! Random kustomizations: every field, nested bases, components, odd YAML.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// A text that begins with this is written into the YAML as it is.
pub(crate) const RAW: char = '\u{1}';

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Text(String),
    Documents(Vec<Value>),
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) root: String,
    pub(crate) files: BTreeMap<String, Content>,
}

const NAMES: [&str; 6] = ["web", "db", "cache", "my-app", "worker", "x"];
const NAMESPACES: [&str; 3] = ["shop", "default", "ops"];
const KEYS: [&str; 7] = ["app", "tier", "app.kubernetes.io/name", "team", "a10", "a2", "Zone"];
const KINDS: [(&str, &str); 22] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("v1", "Namespace"),
    ("v1", "PersistentVolumeClaim"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("example.com/v1", "Widget"),
    ("v1", "Pod"),
];

struct Maker {
    rng: Rng,
    files: BTreeMap<String, Content>,
    /// Objects that the kustomization which is being made can see.
    objects: Vec<Seen>,
    /// Objects of finished folders.
    done: BTreeMap<String, Vec<Seen>>,
}

/// API version, kind, name, namespace.
type Seen = (String, String, String, Option<String>);

pub(crate) fn case(seed: u64) -> Case {
    let mut maker = Maker {
        rng: Rng::with_seed(seed),
        files: BTreeMap::new(),
        objects: Vec::new(),
        done: BTreeMap::new(),
    };
    let mut below = Vec::new();
    let n_bases = maker.rng.usize(0..=2);
    for i in 0..n_bases {
        let folder = format!("base{i}");
        let inner = if maker.chance(30) { below.pop() } else { None };
        maker.kustomization(&folder, inner.into_iter().collect(), false);
        below.push(folder);
    }
    if maker.chance(25) {
        maker.kustomization("part", Vec::new(), true);
        below.push("part".to_owned());
    }
    maker.kustomization("app", below, false);
    Case { root: "app".to_owned(), files: maker.files }
}

fn raw(text: &str) -> Value {
    Value::from(format!("{RAW}{text}"))
}

impl Maker {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.rng.usize(0..list.len())]
    }

    fn name(&mut self) -> String {
        self.pick(&NAMES).to_owned()
    }

    /// A scalar that readers may take in different ways.
    fn odd(&mut self) -> Value {
        const ODD: [&str; 44] = [
            "yes",
            "on",
            "NO",
            "y",
            "~",
            "null",
            "Null",
            "014",
            "0o14",
            "0x1F",
            "1_000",
            "1e3",
            "1.10",
            "1.0",
            "-0",
            ".5",
            "1e400",
            "2001-01-01",
            "2001-01-01T10:00:00Z",
            "2001-1-1 1:2:3",
            "12:30:45",
            "+1",
            "0b11",
            "true",
            "False",
            "123456789012345678901234567890",
            "1234567.5",
            "0.00001",
            "\"quoted: yes\"",
            "'it''s'",
            "\"tab\\there\"",
            "\"\\u00e9\"",
            "\"😀\"",
            "!!str 12",
            "!!int \"7\"",
            "!!float 3",
            "plain text with spaces",
            "a#b",
            "\"#x\"",
            "\"- x\"",
            "'{a}'",
            "\"trailing \"",
            "[]",
            "{}",
        ];
        let text = self.pick(&ODD);
        raw(text)
    }

    fn text(&mut self) -> Value {
        match self.rng.u32(0..14) {
            0 => Value::from(
                "a long text with many words that goes on and on until the line has to be folded somewhere behind its eightieth column, twice if need be, and more",
            ),
            1 => Value::from("line one\nline two\n"),
            2 => Value::from("$(VAR) and $(OTHER)"),
            3 => Value::from(""),
            4 => Value::from("first\nlast"),
            5 => Value::from(" leading"),
            6 => Value::from("a: b"),
            _ => {
                let name = self.name();
                Value::from(name)
            }
        }
    }

    fn value(&mut self) -> Value {
        match self.rng.u32(0..10) {
            0..=2 => self.odd(),
            3 => Value::from(self.rng.i32(-3..100)),
            4 => Value::Bool(self.rng.bool()),
            5 => Value::Null,
            _ => self.text(),
        }
    }

    fn string_map(&mut self) -> Value {
        let mut map = Map::new();
        for _ in 0..self.rng.usize(0..3) {
            let key = self.pick(&KEYS);
            let value = if self.chance(10) { Value::from("true") } else { self.text() };
            map.insert(key.to_owned(), value);
        }
        Value::Object(map)
    }

    fn labels(&mut self) -> Value {
        let mut map = Map::new();
        for _ in 0..self.rng.usize(1..3) {
            let key = self.pick(&KEYS);
            let value = if self.chance(10) { Value::from("12") } else { Value::from(self.name()) };
            map.insert(key.to_owned(), value);
        }
        Value::Object(map)
    }

    fn container(&mut self) -> Value {
        let name = self.pick(&["main", "side", "init"]);
        let image =
            self.pick(&["nginx", "nginx:1.7", "registry:5000/team/app:v1", "busybox@sha256:abc", "app"]);
        let mut container = json!({"name": name, "image": image});
        if self.chance(40) {
            let (a, b) = (self.value(), self.name());
            container["env"] = json!([{"name": "A", "value": a}, {"name": "B", "valueFrom": {"configMapKeyRef": {"name": b, "key": "k"}}}]);
        }
        if self.chance(30) {
            let port = self.rng.u16(80..84);
            container["ports"] = json!([{"containerPort": port, "protocol": "TCP"}, {"containerPort": 90}]);
        }
        if self.chance(30) {
            let name = self.name();
            container["envFrom"] = json!([{"configMapRef": {"name": name}}, {"secretRef": {"name": "db"}}]);
        }
        if self.chance(30) {
            let args = [self.value(), self.text()];
            container["args"] = json!(args);
        }
        if self.chance(20) {
            container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        }
        container
    }

    fn pod_spec(&mut self) -> Value {
        let mut containers = vec![self.container()];
        if self.chance(30) {
            let mut other = self.container();
            other["name"] = Value::from("other");
            containers.push(other);
        }
        let mut spec = json!({"containers": containers});
        if self.chance(30) {
            let (a, b) = (self.name(), self.name());
            spec["volumes"] =
                json!([{"name": "v", "configMap": {"name": a}}, {"name": "s", "secret": {"secretName": b}}]);
        }
        if self.chance(30) {
            spec["serviceAccountName"] = Value::from(self.name());
        }
        if self.chance(10) {
            spec["initContainers"] = json!([self.container()]);
        }
        if self.chance(10) {
            spec["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
        }
        spec
    }

    fn template(&mut self) -> Value {
        let labels = self.labels();
        json!({"metadata": {"labels": labels}, "spec": self.pod_spec()})
    }

    fn spec(&mut self, kind: &str, object: &mut Value) {
        let (a, b) = (self.name(), self.name());
        match kind {
            "Deployment" | "StatefulSet" | "DaemonSet" => {
                object["spec"] =
                    json!({"selector": {"matchLabels": {"app": a}}, "template": self.template()});
                if kind != "DaemonSet" && self.chance(70) {
                    object["spec"]["replicas"] = json!(self.rng.u8(0..5));
                }
                if kind == "StatefulSet" {
                    object["spec"]["serviceName"] = Value::from(b);
                    object["spec"]["volumeClaimTemplates"] =
                        json!([{"metadata": {"name": "d"}, "spec": {"storageClassName": "fast"}}]);
                }
            }
            "Job" => object["spec"] = json!({"template": self.template()}),
            "CronJob" => {
                object["spec"] =
                    json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": self.template()}}})
            }
            "Pod" => object["spec"] = self.pod_spec(),
            "Service" => {
                object["spec"] = json!({"selector": {"app": a}, "ports": [{"port": 80, "targetPort": "http", "name": "http"}, {"port": 443}]})
            }
            "ConfigMap" => {
                let (x, y) = (self.value(), self.text());
                object["data"] = json!({"k": x, "config.yaml": "a:\n  b: 1\nlist:\n- x\n", "j": "{\"a\": {\"b\": 1}}", "t": y});
            }
            "Secret" => object["stringData"] = json!({"password": self.text()}),
            "Ingress" => {
                object["spec"] = json!({"rules": [{"host": "a.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": a, "port": {"number": 80}}}}]}}], "tls": [{"secretName": b}]})
            }
            "NetworkPolicy" => {
                object["spec"] = json!({"podSelector": {"matchLabels": {"app": a}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": b}}}]}]})
            }
            "HorizontalPodAutoscaler" => {
                object["spec"] = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": a}, "minReplicas": 1})
            }
            "PodDisruptionBudget" => {
                object["spec"] = json!({"selector": {"matchLabels": {"app": a}}, "minAvailable": 1})
            }
            "Role" | "ClusterRole" => {
                object["rules"] = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [a, b], "verbs": ["get"]}])
            }
            "RoleBinding" | "ClusterRoleBinding" => {
                let role = self.pick(&["Role", "ClusterRole"]);
                let mut subject = json!({"kind": "ServiceAccount", "name": b});
                if self.chance(50) {
                    subject["namespace"] = Value::from(self.pick(&NAMESPACES));
                }
                object["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": a});
                object["subjects"] = json!([subject, {"kind": "ServiceAccount", "name": "default"}]);
            }
            "Widget" => {
                let (x, y) = (self.value(), self.value());
                object["spec"] = json!({"size": x, "list": [{"name": "one", "v": y}, {"name": "two"}], "nested": {"a": {"b": a}}, "containers": [{"name": "c", "image": "nginx"}]});
            }
            "CustomResourceDefinition" => {
                object["spec"] =
                    json!({"group": "example.com", "names": {"kind": "Widget", "plural": "widgets"}})
            }
            _ => {}
        }
    }

    fn object(&mut self) -> Value {
        let (mut api_version, mut kind) = self.pick(&KINDS);
        let mut name = self.name();
        // Rarely twice the same.
        for _ in 0..4 {
            let is_there =
                self.objects.iter().any(|(_, other, its_name, _)| other == kind && *its_name == name);
            if is_there && !self.chance(3) {
                (api_version, kind) = self.pick(&KINDS);
                name = self.name();
            }
        }
        let mut metadata = json!({"name": name});
        let namespace = self.chance(35).then(|| self.pick(&NAMESPACES).to_owned());
        if let Some(namespace) = &namespace {
            metadata["namespace"] = Value::from(namespace.as_str());
        }
        if self.chance(30) {
            metadata["labels"] = self.labels();
        }
        if self.chance(25) {
            metadata["annotations"] = self.string_map();
        }
        if self.chance(3) {
            metadata["annotations"] = json!({"config.kubernetes.io/local-config": "true"});
        }
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
        self.spec(kind, &mut object);
        self.objects.push((api_version.to_owned(), kind.to_owned(), name, namespace));
        object
    }

    fn existing(&mut self) -> Seen {
        if self.objects.is_empty() || self.chance(1) {
            return ("apps/v1".into(), "Deployment".into(), self.name(), None);
        }
        let at = self.rng.usize(0..self.objects.len());
        self.objects[at].clone()
    }

    fn target(&mut self) -> Value {
        let (_, kind, name, namespace) = self.existing();
        let mut target = Map::new();
        if self.chance(70) {
            target.insert("kind".into(), Value::from(kind));
        }
        if self.chance(60) {
            let name = if self.chance(30) { ".*".to_owned() } else { name };
            target.insert("name".into(), Value::from(name));
        }
        if let Some(namespace) = namespace.filter(|_| self.rng.u32(0..100) < 20) {
            target.insert("namespace".into(), Value::from(namespace));
        }
        if self.chance(8) {
            let selector =
                self.pick(&["app=web", "app", "!app", "tier in (web,db)", "app!=x", "app=web,tier=db"]);
            target.insert("labelSelector".into(), Value::from(selector));
        }
        if self.chance(5) {
            target.insert("group".into(), Value::from("apps"));
        }
        Value::Object(target)
    }

    fn merge_patch(&mut self) -> Value {
        let (api_version, kind, name, namespace) = self.existing();
        let mut metadata = json!({"name": name});
        if let Some(namespace) = namespace {
            metadata["namespace"] = Value::from(namespace);
        }
        if self.chance(20) {
            let value = if self.chance(30) { Value::Null } else { Value::from("patched") };
            let key = self.pick(&KEYS);
            metadata["labels"] = json!({key: value});
        }
        if self.chance(15) {
            metadata["annotations"] = self.string_map();
        }
        let mut patch = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
        if self.chance(8) {
            patch["$patch"] = Value::from(self.pick(&["delete", "replace", "merge"]));
            return patch;
        }
        match kind.as_str() {
            "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => {
                let mut container = self.container();
                if self.chance(15) {
                    container["$patch"] = Value::from(self.pick(&["delete", "replace"]));
                }
                let mut spec = json!({"template": {"spec": {"containers": [container]}}});
                if self.chance(30) {
                    spec["replicas"] = self.value();
                }
                if self.chance(15) {
                    spec["template"]["spec"]["volumes"] =
                        json!([{"name": "v", "emptyDir": {}}, {"name": "new"}]);
                }
                if self.chance(8) {
                    spec["template"]["spec"]["containers"]
                        .as_array_mut()
                        .expect("it is a list")
                        .push(json!({"$patch": "replace"}));
                }
                if self.chance(8) {
                    spec["template"]["metadata"] = Value::Null;
                }
                if self.chance(8) {
                    spec["template"]["spec"]["tolerations"] = json!([{"key": "b"}]);
                }
                patch["spec"] = spec;
            }
            "Service" => {
                patch["spec"] =
                    json!({"ports": [{"port": 80, "name": "new"}, {"port": 8080}], "type": "NodePort"})
            }
            "ConfigMap" => {
                let value = self.value();
                let key = self.pick(&["k", "t", "new"]);
                patch["data"] = json!({key: value});
            }
            "Widget" => {
                let value = self.value();
                patch["spec"] = json!({"size": value, "list": [{"name": "two", "v": 1}], "nested": {"a": Value::Null, "c": 1}});
            }
            _ => {}
        }
        patch
    }

    fn json_patch(&mut self, kind: &str) -> Value {
        let mut operations = Vec::new();
        let paths: &[&str] = match kind {
            "Deployment" | "StatefulSet" | "DaemonSet" => &[
                "/spec/replicas",
                "/spec/template/spec/containers/0/image",
                "/spec/template/spec/containers/-",
                "/spec/template/spec/containers/-1/name",
                "/spec/template/spec/containers/0",
            ],
            "ConfigMap" => &["/data/k", "/data/new", "/data/config.yaml", "/data"],
            "Service" => &["/spec/ports/0/port", "/spec/ports/-", "/spec/selector/app", "/spec/ports/5"],
            "Widget" => &["/spec/size", "/spec/list/0/v", "/spec/list/-1", "/spec/nested/a~1b"],
            _ => &[
                "/metadata/annotations/new",
                "/metadata/annotations",
                "/metadata/labels",
                "/metadata/name",
                "/spec",
            ],
        };
        for _ in 0..self.rng.usize(1..3) {
            let path = if self.chance(20) { "/metadata/annotations/new" } else { self.pick(paths) };
            let value = self.value();
            let op = self.pick(&[
                "add", "add", "add", "add", "replace", "replace", "replace", "remove", "copy", "move",
            ]);
            let mut operation = json!({"op": op, "path": path});
            if matches!(op, "copy" | "move") {
                operation["from"] = Value::from("/metadata/name");
            } else if op != "remove" {
                operation["value"] = value;
            }
            operations.push(operation);
        }
        Value::Array(operations)
    }

    fn patch_entry(&mut self, folder: &str, i: usize) -> Value {
        let is_json = self.chance(40);
        let seen = self.existing();
        let content = if is_json { self.json_patch(&seen.1) } else { self.merge_patch() };
        let mut entry = Map::new();
        if self.chance(50) {
            let file = format!("patch-{i}.yaml");
            let mut documents = vec![content];
            if !is_json && self.chance(5) {
                documents.push(self.merge_patch());
            }
            self.files.insert(format!("{folder}/{file}"), Content::Documents(documents));
            entry.insert("path".into(), Value::from(file));
        } else {
            entry.insert("patch".into(), Value::from(dodai_yaml::to_string(&without_raw(&content))));
        }
        if is_json && self.chance(80) {
            entry.insert("target".into(), json!({"kind": seen.1, "name": seen.2}));
        } else if is_json || self.chance(30) {
            entry.insert("target".into(), self.target());
        }
        if self.chance(10) {
            entry.insert(
                "options".into(),
                json!({"allowNameChange": self.rng.bool(), "allowKindChange": self.rng.bool()}),
            );
        }
        Value::Object(entry)
    }

    fn generator(&mut self, folder: &str, i: usize, secret: bool) -> Value {
        let mut args = json!({"name": self.name()});
        if self.chance(60) {
            let value = self.text();
            let value = value.as_str().unwrap_or_default().to_owned();
            args["literals"] = json!([format!("k={value}"), "q=\"quoted\"", "n=12"]);
        }
        if self.chance(30) {
            let file = format!("data-{i}.txt");
            let text = self.pick(&[
                "some text\n",
                "no end",
                "tab\there\n",
                "<html>&amp;\n",
                "",
                "é😀\n",
                "a\r\nb\r\n",
                "trailing \nspace\n",
            ]);
            self.files.insert(format!("{folder}/{file}"), Content::Text(text.to_owned()));
            args["files"] = if self.chance(50) { json!([file]) } else { json!([format!("renamed={file}")]) };
        }
        if self.chance(30) {
            let file = format!("env-{i}.env");
            self.files.insert(
                format!("{folder}/{file}"),
                Content::Text("# comment\nA=1\n  B=two words \nC\nD=x=y\n\n".to_owned()),
            );
            args["envs"] = json!([file]);
        }
        let is_there = |(_, kind, name, _): &Seen| {
            kind == if secret { "Secret" } else { "ConfigMap" } && args["name"] == name.as_str()
        };
        if let Some((.., namespace)) = self.objects.iter().find(|seen| is_there(seen)).cloned() {
            args["behavior"] = Value::from(self.pick(&["merge", "merge", "replace"]));
            if let Some(namespace) = namespace {
                args["namespace"] = Value::from(namespace);
            }
        } else if self.chance(3) {
            args["behavior"] = Value::from(self.pick(&["create", "merge", "replace"]));
        }
        if self.chance(5) {
            args["namespace"] = Value::from(self.pick(&NAMESPACES));
        }
        if secret && self.chance(20) {
            args["type"] = Value::from("kubernetes.io/tls");
        }
        if self.chance(30) {
            args["options"] = json!({"disableNameSuffixHash": self.rng.bool(), "labels": self.labels(), "immutable": self.rng.bool()});
        }
        self.objects.push((
            "v1".into(),
            if secret { "Secret" } else { "ConfigMap" }.into(),
            args["name"].as_str().unwrap_or("").to_owned(),
            None,
        ));
        args
    }

    fn replacement(&mut self) -> Value {
        let (_, kind, name, _) = self.existing();
        let path = self.pick(&[
            "metadata.name",
            "metadata.labels.app",
            "spec.replicas",
            "data.k",
            "metadata.namespace",
            "spec.template.spec.containers.0.image",
            "spec.size",
            "spec.template.spec.containers.[name=main].image",
        ]);
        let mut source = json!({"kind": kind, "name": name, "fieldPath": path});
        if self.chance(25) {
            source["options"] =
                json!({"delimiter": self.pick(&[":", "-", "/"]), "index": self.rng.i32(-1..2)});
        }
        let mut targets = Vec::new();
        for _ in 0..self.rng.usize(1..3) {
            let (_, kind, name, _) = self.existing();
            let paths: &[&str] = match kind.as_str() {
                "Deployment" | "StatefulSet" => &[
                    "spec.replicas",
                    "spec.template.spec.containers.*.image",
                    "spec.template.spec.containers.[name=main].env.[name=A].value",
                    "spec.template.spec.containers.0.image",
                    "spec.selector.matchLabels.app",
                ],
                "ConfigMap" => &[
                    "data.k",
                    "data.new",
                    "data.config\\.yaml.a.b",
                    "data.j.a.b",
                    "data.config\\.yaml.list.0",
                    "data.t",
                ],
                "Widget" => &["spec.nested.a.b", "spec.list.[name=one].v", "spec.list.*.v", "spec.size"],
                _ => &["metadata.labels.copied", "metadata.annotations.copied", "metadata.name"],
            };
            let path = self.pick(paths);
            let select = if self.chance(80) { json!({"kind": kind, "name": name}) } else { self.target() };
            let mut target = json!({"select": select, "fieldPaths": [path]});
            if self.chance(80) {
                target["options"] = json!({"create": true});
            } else if self.chance(80) {
                target["options"] =
                    json!({"delimiter": self.pick(&[":", "-"]), "index": self.rng.i32(-1..3)});
            }
            if self.chance(15) {
                target["reject"] = json!([self.target()]);
            }
            targets.push(target);
        }
        if self.chance(15) {
            return json!({"sourceValue": self.name(), "targets": targets});
        }
        json!({"source": source, "targets": targets})
    }

    fn transformer(&mut self) -> Value {
        let specs = json!([{"path": "metadata/labels", "create": true}, {"path": "spec/template/metadata/labels", "kind": "Deployment"}]);
        let name = json!({"name": "t"});
        match self.rng.u32(0..6) {
            0 => {
                json!({"apiVersion": "builtin", "kind": "LabelTransformer", "metadata": name, "labels": self.labels(), "fieldSpecs": specs})
            }
            1 => {
                json!({"apiVersion": "builtin", "kind": "AnnotationsTransformer", "metadata": name, "annotations": {"by": "plugin"}, "fieldSpecs": [{"path": "metadata/annotations", "create": true}]})
            }
            2 => {
                json!({"apiVersion": "builtin", "kind": "NamespaceTransformer", "metadata": {"name": "t", "namespace": "plugin-ns"}, "unsetOnly": self.rng.bool(), "setRoleBindingSubjects": self.pick(&["defaultOnly", "allServiceAccounts", "none"]), "fieldSpecs": [{"path": "metadata/namespace", "create": true}]})
            }
            3 => {
                json!({"apiVersion": "builtin", "kind": "PrefixSuffixTransformer", "metadata": name, "prefix": "p-", "suffix": "-s", "fieldSpecs": [{"path": "metadata/name"}]})
            }
            4 => {
                json!({"apiVersion": "builtin", "kind": "ImageTagTransformer", "metadata": name, "imageTag": {"name": "nginx", "newTag": "v9"}, "fieldSpecs": [{"path": "spec/containers[]/image"}]})
            }
            _ => {
                json!({"apiVersion": "builtin", "kind": "PatchTransformer", "metadata": name, "patch": "- op: add\n  path: /metadata/labels\n  value: {via: plugin}\n", "target": self.target()})
            }
        }
    }

    fn kustomization(&mut self, folder: &str, below: Vec<String>, component: bool) {
        self.objects =
            below.iter().flat_map(|other| self.done.get(other).cloned().unwrap_or_default()).collect();
        let mut k = Map::new();
        if component {
            k.insert("apiVersion".into(), Value::from("kustomize.config.k8s.io/v1alpha1"));
            k.insert("kind".into(), Value::from("Component"));
        } else if self.chance(50) {
            k.insert("apiVersion".into(), Value::from("kustomize.config.k8s.io/v1beta1"));
            k.insert("kind".into(), Value::from("Kustomization"));
        }
        let mut resources = Vec::new();
        for i in 0..self.rng.usize(if component { 0..2 } else { 1..3 }) {
            let file = format!("objects-{i}.yaml");
            let mut documents: Vec<Value> = (0..self.rng.usize(1..3)).map(|_| self.object()).collect();
            if self.chance(5) {
                documents = vec![
                    json!({"apiVersion": "v1", "kind": self.pick(&["List", "ConfigMapList"]), "items": documents}),
                ];
            }
            self.files.insert(format!("{folder}/{file}"), Content::Documents(documents));
            resources.push(Value::from(file));
        }
        let mut components = Vec::new();
        for other in below {
            if other == "part" {
                components.push(format!("../{other}"))
            } else {
                resources.push(Value::from(format!("../{other}")))
            }
        }
        k.insert("resources".into(), Value::Array(resources));
        if !components.is_empty() {
            k.insert("components".into(), json!(components));
        }
        self.simple_fields(&mut k);
        self.list_fields(&mut k, folder);
        let file =
            self.pick(&["kustomization.yaml", "kustomization.yaml", "kustomization.yml", "Kustomization"]);
        self.files.insert(format!("{folder}/{file}"), Content::Documents(vec![Value::Object(k)]));
        self.done.insert(folder.to_owned(), std::mem::take(&mut self.objects));
    }

    fn simple_fields(&mut self, k: &mut Map<String, Value>) {
        for (field, percent) in [("namePrefix", 25), ("nameSuffix", 15), ("namespace", 25)] {
            if self.chance(percent) {
                let value = match field {
                    "namePrefix" => self.pick(&["pre-", "12", "a."]),
                    "nameSuffix" => self.pick(&["-suf", "-2", ""]),
                    _ => self.pick(&NAMESPACES),
                };
                k.insert(field.into(), Value::from(value));
            }
        }
        if self.chance(20) {
            k.insert("commonLabels".into(), self.labels());
        }
        if self.chance(25) {
            let mut label = json!({"pairs": self.labels()});
            match self.rng.u32(0..4) {
                0 => label["includeSelectors"] = Value::Bool(true),
                1 => label["includeTemplates"] = Value::Bool(true),
                2 => {
                    label["fields"] =
                        json!([{"path": "spec/nested", "create": self.rng.bool(), "kind": "Widget"}])
                }
                _ => {}
            }
            k.insert("labels".into(), json!([label]));
        }
        if self.chance(20) {
            k.insert("commonAnnotations".into(), self.labels());
        }
        if self.chance(10) {
            k.insert(
                "buildMetadata".into(),
                json!([self.pick(&["originAnnotations", "transformerAnnotations", "managedByLabel"])]),
            );
        }
        if self.chance(10) {
            let sort = match self.rng.u32(0..3) {
                0 => json!({"order": "fifo"}),
                1 => json!({"order": "legacy"}),
                _ => {
                    json!({"order": "legacy", "legacySortOptions": {"orderFirst": ["Service", "ConfigMap"], "orderLast": ["Deployment"]}})
                }
            };
            k.insert("sortOptions".into(), sort);
        }
        if self.chance(20) {
            let mut image =
                json!({"name": self.pick(&["nginx", "app", "registry:5000/team/app", "busybox", "ngi.*"])});
            match self.rng.u32(0..5) {
                0 => image["newTag"] = Value::from("v2"),
                1 => image["newName"] = Value::from("other/nginx"),
                2 => image["digest"] = Value::from("sha256:def"),
                3 => image["tagSuffix"] = Value::from("-x"),
                _ => image["newTag"] = Value::from("12"),
            }
            k.insert("images".into(), json!([image]));
        }
        if self.chance(10) {
            let scaled =
                self.objects.iter().find(|(_, kind, ..)| kind == "Deployment" || kind == "StatefulSet");
            if let Some((_, _, name, _)) = scaled.cloned() {
                k.insert("replicas".into(), json!([{"name": name, "count": self.rng.u8(..)}]));
            }
        }
    }

    fn list_fields(&mut self, k: &mut Map<String, Value>, folder: &str) {
        if self.chance(30) {
            let maps: Vec<Value> =
                (0..self.rng.usize(1..3)).map(|i| self.generator(folder, i, false)).collect();
            k.insert("configMapGenerator".into(), Value::Array(maps));
        }
        if self.chance(20) {
            let secrets = vec![self.generator(folder, 5, true)];
            k.insert("secretGenerator".into(), Value::Array(secrets));
        }
        if self.chance(15) {
            k.insert("generatorOptions".into(), json!({"labels": self.labels(), "annotations": {"made": "yes"}, "disableNameSuffixHash": self.rng.bool()}));
        }
        let has_objects = !self.objects.is_empty();
        if has_objects && self.chance(40) {
            let patches: Vec<Value> =
                (0..self.rng.usize(1..3)).map(|i| self.patch_entry(folder, i)).collect();
            k.insert("patches".into(), Value::Array(patches));
        }
        if has_objects && self.chance(10) {
            let patch = self.merge_patch();
            k.insert("patchesStrategicMerge".into(), json!([dodai_yaml::to_string(&without_raw(&patch))]));
        }
        if self.chance(8) {
            let (_, kind, name, _) = self.existing();
            let patch = self.json_patch(&kind);
            let target = json!({"kind": kind, "name": name});
            k.insert(
                "patchesJson6902".into(),
                json!([{"target": target, "patch": dodai_yaml::to_string(&without_raw(&patch))}]),
            );
        }
        if has_objects && self.chance(25) {
            let replacements: Vec<Value> = (0..self.rng.usize(1..3)).map(|_| self.replacement()).collect();
            k.insert("replacements".into(), Value::Array(replacements));
        }
        if self.chance(10) {
            let (api_version, kind, name, _) = self.existing();
            let mut var =
                json!({"name": "VAR", "objref": {"apiVersion": api_version, "kind": kind, "name": name}});
            if self.chance(15) {
                var["fieldref"] = json!({"fieldPath": self.pick(&["metadata.labels.app", "spec.replicas", "data.k", "spec.ports[0].port"])});
            }
            k.insert("vars".into(), json!([var]));
        }
        if self.chance(10) {
            self.files.insert(format!("{folder}/config.yaml"), Content::Documents(vec![json!({
                "nameReference": [{"kind": "ConfigMap", "fieldSpecs": [{"kind": "Widget", "path": "spec/nested/a/b"}]}],
                "images": [{"kind": "Widget", "path": "spec/containers/image"}],
                "varReference": [{"kind": "ConfigMap", "path": "data"}],
                "commonLabels": [{"kind": "Widget", "path": "spec/extra/labels", "create": true}],
            })]));
            k.insert("configurations".into(), json!(["config.yaml"]));
        }
        if self.chance(10) {
            let config = self.transformer();
            if self.chance(50) {
                self.files.insert(format!("{folder}/transformer.yaml"), Content::Documents(vec![config]));
                k.insert("transformers".into(), json!(["transformer.yaml"]));
            } else {
                k.insert("transformers".into(), json!([dodai_yaml::to_string(&without_raw(&config))]));
            }
        }
    }
}

/// Raw scalars become text, for YAML inside of YAML.
fn without_raw(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::from(text.trim_start_matches(RAW)),
        Value::Array(items) => Value::Array(items.iter().map(without_raw).collect()),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), without_raw(value))).collect())
        }
        other => other.clone(),
    }
}
