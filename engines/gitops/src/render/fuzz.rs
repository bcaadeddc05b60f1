//! Entries for fuzzing: bytes as one of the files of a small tree that holds the others. Any result is fine, a panic,
//! unbounded work and a cache that changes the result are not.

use super::{Cache, Memory, Options, render, render_with};

const RESOURCES: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
  labels: {app: web}
spec:
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: main
        image: registry.example.com/web:1@sha256:0
        env: [{name: A, value: a.$(NAME).b}]
        envFrom:
        - configMapRef: {name: config}
        ports: [{containerPort: 80, protocol: TCP}]
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
spec:
  selector: {app: web}
  ports: [{port: 80, protocol: TCP}]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: config
data:
  a: b
";

fn build(kustomization: &[u8], named: &str, data: &[u8]) {
    let mut tree = Memory::default();
    tree.insert("resources.yaml", RESOURCES.as_bytes().to_vec());
    tree.insert("kustomization.yaml", kustomization.to_vec());
    tree.insert(named, data.to_vec());
    let options = Options { explain: None, ..Options::default() };
    let cold = render(&tree, "", &options);
    let cache = Cache::default();
    for _ in 0..2 {
        let warm = render_with(&tree, "", &options, &cache);
        match (&cold, &warm) {
            (Ok(cold), Ok(warm)) => {
                assert_eq!(cold.to_yaml(), warm.to_yaml(), "the cache changes the result")
            }
            (Err(cold), Err(warm)) => assert_eq!(cold.to_string(), warm.to_string()),
            _ => panic!("the cache changes whether it builds"),
        }
    }
    if let Err(error) = cold {
        error.render(str::to_owned);
    }
}

/// A kustomization file.
pub fn kustomization(data: &[u8]) {
    build(data, "other.yaml", b"a: b\n");
}

/// A file of objects.
pub fn resources(data: &[u8]) {
    let kustomization = b"resources: [resources.yaml, other.yaml]\nnamePrefix: a-\nnamespace: x\nlabels:\n- pairs: {a: b}\n  \
        includeSelectors: true\nimages:\n- name: registry.example.com/web\n  newTag: v2\n";
    build(kustomization, "other.yaml", data);
}

/// A patch of either sort for every object.
pub fn patch(data: &[u8]) {
    build(b"resources: [resources.yaml]\npatches:\n- path: p.yaml\n  target: {name: .*}\n", "p.yaml", data);
    build(b"resources: [resources.yaml]\npatches:\n- path: p.yaml\n", "p.yaml", data);
}

/// A file of replacements.
pub fn replacements(data: &[u8]) {
    build(b"resources: [resources.yaml]\nreplacements:\n- path: r.yaml\n", "r.yaml", data);
}

/// A file with the configuration of transformers, one of a built-in transformer, and one of a generator.
pub fn configuration(data: &[u8]) {
    let names = "resources: [resources.yaml]\nnamePrefix: a-\n";
    for field in ["configurations", "transformers", "generators", "crds"] {
        build(format!("{names}{field}: [c.yaml]\n").as_bytes(), "c.yaml", data);
    }
}

/// A file of variables and a whole file of a generated map.
pub fn generated(data: &[u8]) {
    let kustomization = b"configMapGenerator:\n- name: a\n  envs: [f]\n- name: b\n  files: [f]\nsecretGenerator:\n- name: c\n  files: [f]\n";
    build(kustomization, "f", data);
}
