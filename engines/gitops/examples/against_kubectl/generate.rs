//! Random kustomizations: every field, nested bases, components, odd YAML.

mod objects;

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
