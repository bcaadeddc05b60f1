//! Random objects of many kinds, with odd values in them.

use serde_json::{Map, Value, json};

use super::{KEYS, Maker, NAMESPACES, RAW};

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

fn raw(text: &str) -> Value {
    Value::from(format!("{RAW}{text}"))
}

impl Maker {
    /// A scalar that readers may take in different ways.
    pub(super) fn odd(&mut self) -> Value {
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

    pub(super) fn text(&mut self) -> Value {
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

    pub(super) fn value(&mut self) -> Value {
        match self.rng.u32(0..10) {
            0..=2 => self.odd(),
            3 => Value::from(self.rng.i32(-3..100)),
            4 => Value::Bool(self.rng.bool()),
            5 => Value::Null,
            _ => self.text(),
        }
    }

    pub(super) fn string_map(&mut self) -> Value {
        let mut map = Map::new();
        for _ in 0..self.rng.usize(0..3) {
            let key = self.pick(&KEYS);
            let value = if self.chance(10) { Value::from("true") } else { self.text() };
            map.insert(key.to_owned(), value);
        }
        Value::Object(map)
    }

    pub(super) fn labels(&mut self) -> Value {
        let mut map = Map::new();
        for _ in 0..self.rng.usize(1..3) {
            let key = self.pick(&KEYS);
            let value = if self.chance(10) { Value::from("12") } else { Value::from(self.name()) };
            map.insert(key.to_owned(), value);
        }
        Value::Object(map)
    }

    pub(super) fn container(&mut self) -> Value {
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

    pub(super) fn pod_spec(&mut self) -> Value {
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

    pub(super) fn template(&mut self) -> Value {
        let labels = self.labels();
        json!({"metadata": {"labels": labels}, "spec": self.pod_spec()})
    }

    pub(super) fn spec(&mut self, kind: &str, object: &mut Value) {
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

    pub(super) fn object(&mut self) -> Value {
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
}
