//! What the architecture promises, checked: who may depend on whom, what stays out of the lock file, how long files are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::repository;

/// Longest source file, lines: one idea each.
const LINES_MAX: usize = 800;

struct Package {
    name: String,
    /// Folder, relative to the repository.
    folder: String,
    /// Name, whether only for tests, features.
    dependencies: Vec<(String, bool, Vec<String>)>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let root = metadata["workspace_root"].as_str().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            folder: text(&package["manifest_path"])
                .replace(root, "")
                .trim_matches('/')
                .replace("/Cargo.toml", ""),
            dependencies: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|dependency| {
                    let features = dependency["features"].as_array().unwrap().iter().map(text).collect();
                    (text(&dependency["name"]), dependency["kind"] == "dev", features)
                })
                .collect(),
        })
        .collect()
}

#[test]
fn crates_depend_only_in_the_directions_of_the_architecture() {
    let packages = packages();
    let folder_of = |name: &str| {
        packages.iter().find(|package| package.name == name).map(|package| package.folder.clone())
    };
    let mut wrong = Vec::new();
    for package in &packages {
        for (dependency, is_test, _) in &package.dependencies {
            let Some(to) = folder_of(dependency) else { continue };
            let area = |folder: &str| folder.split('/').next().unwrap_or_default().to_owned();
            let allowed = match (area(&package.folder).as_str(), area(&to).as_str()) {
                // A crate's own tests switch features of it on.
                _ if package.name == *dependency => *is_test,
                // The apiserver knows objects as data: no crate of ours but these two.
                _ if package.name == "dodai-apiserver" => {
                    matches!(dependency.as_str(), "dodai-yaml" | "dodai-merge" | "dodai-cel")
                }
                ("dodai" | "bench" | "conformance" | "examples", _) => true,
                (_, "dodai") => false,
                ("base", "base") => true,
                ("engines" | "cluster", "base") => true,
                ("engines" | "cluster" | "base", "cluster") => *is_test,
                _ => false,
            };
            if !allowed {
                wrong.push(format!("{} -> {dependency}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "dependencies against the architecture: {wrong:?}");
}

#[test]
fn data_crates_have_no_async_and_no_client() {
    for package in packages() {
        if !matches!(package.name.as_str(), "dodai-yaml" | "dodai-merge" | "dodai-cel" | "dodai-api") {
            continue;
        }
        for (dependency, is_test, features) in &package.dependencies {
            let has_client = dependency == "kube"
                && features.iter().any(|feature| feature == "client" || feature == "runtime");
            let is_async = matches!(
                dependency.as_str(),
                "tokio" | "futures" | "hyper" | "tower" | "kube-client" | "kube-runtime"
            );
            assert!(
                *is_test || !(has_client || is_async),
                "{} must not use {dependency} {features:?}",
                package.name
            );
        }
    }
}

#[test]
fn there_is_one_tls_stack() {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    for banned in ["aws-lc-sys", "aws-lc-rs", "openssl-sys", "native-tls", "boring-sys"] {
        assert!(
            !lock.contains(&format!("name = \"{banned}\"")),
            "{banned} entered Cargo.lock: cargo tree -i {banned}"
        );
    }
}

#[test]
fn files_hold_one_idea_and_no_stub() {
    let mut wrong = Vec::new();
    for file in sources(&repository()) {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(repository()).unwrap().display().to_string();
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{name}: {lines} lines"));
        }
        let is_test = name.contains("/tests/") || name.contains("/benches/");
        // Split, so that this file does not find itself.
        for (first, second) in
            [("todo", "!("), ("unimplemented", "!("), ("dbg", "!("), ("/work", "/main"), ("#[ign", "ore]")]
        {
            if text.contains(&format!("{first}{second}")) {
                wrong.push(format!("{name}: {first}{second}"));
            }
        }
        if !is_test && !text.starts_with("//!") {
            wrong.push(format!("{name}: no head comment that says what the file is for"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(sources(&path));
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files
}
