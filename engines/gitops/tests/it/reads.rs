//! What a build says it read is all that matters to it: changes elsewhere change nothing.

use std::collections::BTreeMap;

use dodai_gitops::render::{Cache, Memory, Options, Reads, render_with};

use super::support::{json, suite};

type Files = BTreeMap<String, Vec<u8>>;

fn memory(files: &Files) -> Memory {
    let mut tree = Memory::default();
    for (path, content) in files {
        tree.insert(path.clone(), content.clone());
    }
    tree
}

fn result(files: &Files, folder: &str, cache: &Cache) -> (Result<String, String>, Reads) {
    match render_with(&memory(files), folder, &Options::default(), cache) {
        Ok(output) => (Ok(output.to_yaml()), output.reads),
        Err(error) => (Err(error.to_string()), error.reads().clone()),
    }
}

/// One random change; the path that it touches.
fn edit(rng: &mut fastrand::Rng, files: &mut Files) -> String {
    let names: Vec<String> = files.keys().cloned().collect();
    let name = names[rng.usize(..names.len())].clone();
    match rng.u8(..4) {
        0 => {
            files.remove(&name);
            name
        }
        1 => {
            // A file that may be looked for.
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let new =
                ["kustomization.yml", "Kustomization", "extra.yaml", "resources/new.yaml"][rng.usize(..4)];
            let path = if folder.is_empty() { new.to_owned() } else { format!("{folder}/{new}") };
            files.insert(path.clone(), b"namePrefix: new-\n".to_vec());
            path
        }
        _ => {
            let content = files.get_mut(&name).expect("the name is from the map");
            content.extend_from_slice(b"\n# a change\nx: y\n");
            name
        }
    }
}

#[test]
fn a_change_that_was_not_read_changes_nothing() {
    let Some(suite) = suite("kustomize-real") else { return };
    let seed =
        std::env::var("DODAI_GITOPS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x7265_6164);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let cases = json(&suite.join("cases.json"));
    let cases = cases.as_array().unwrap();
    let mut repositories: BTreeMap<&str, Files> = BTreeMap::new();
    let (mut untouched, mut touched) = (0, 0);
    for case in cases {
        if rng.u8(..100) >= 40 {
            continue;
        }
        let repository = case["repo"].as_str().unwrap();
        let files = repositories.entry(repository).or_insert_with(|| {
            let mut files = Files::new();
            collect(&suite.join("input").join(repository), "", &mut files);
            files
        });
        let folder = case["path"].as_str().unwrap();
        let cache = Cache::default();
        let (before, reads) = result(files, folder, &cache);
        // Near the kustomization, where changes matter.
        let near: Files = files
            .iter()
            .filter(|(path, _)| reads.touches(path) || rng.u8(..100) < 3)
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect();
        for _ in 0..6 {
            let mut changed = near.clone();
            let path = edit(&mut rng, &mut changed);
            // What is left out of `near` is what was not read.
            let (after, _) = result(&changed, folder, &cache);
            if reads.touches(&path) {
                touched += 1;
            } else {
                untouched += 1;
                assert_eq!(
                    before, after,
                    "{folder}: a change of {path}, which was not read, changes the result"
                );
            }
        }
    }
    println!("{untouched} changes elsewhere, {touched} of what was read");
    assert!(untouched > 50 && touched > 50, "the edits are one-sided");
}

fn collect(folder: &std::path::Path, prefix: &str, files: &mut Files) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
}
