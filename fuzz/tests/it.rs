//! The corpus and seeded damage to it, through every target. `DODAI_FUZZ_SEED` and `DODAI_FUZZ_RUNS` for other and longer runs,
//! `DODAI_FUZZ_TARGET` for one target.

use std::collections::BTreeMap;
use std::path::Path;

use dodai_fuzz::{TARGETS, mutate::mutate};

/// Inputs made for each target in an ordinary run.
const RUNS: u64 = 250;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What is kept for each target, by file name.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files
        .map(|file| {
            let path = file.expect("the folder can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a file of the corpus can be read"))
        })
        .collect()
}

#[test]
fn the_corpus_and_damage_to_it_break_no_law() {
    let seed = number("DODAI_FUZZ_SEED").unwrap_or(0x6675_7a7a);
    let only = std::env::var("DODAI_FUZZ_TARGET").ok();
    let mut broken = Vec::new();
    for (name, read) in TARGETS.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        let mut try_one = |what: &str, bytes: &[u8]| {
            if std::panic::catch_unwind(|| read(bytes)).is_err() {
                broken.push(format!("{name}, {what}: {:?}", String::from_utf8_lossy(bytes)));
            }
        };
        let kept = corpus(name);
        assert!(!kept.is_empty(), "no input is kept for {name}");
        for (file, bytes) in &kept {
            try_one(file, bytes);
        }
        let kept: Vec<Vec<u8>> = kept.into_values().collect();
        let mut random = fastrand::Rng::with_seed(seed);
        for run in 0..number("DODAI_FUZZ_RUNS").unwrap_or(RUNS) {
            let bytes = mutate(&mut random, &kept);
            try_one(&format!("DODAI_FUZZ_SEED={seed}, run {run}"), &bytes);
        }
        println!("{name}: {} kept", kept.len());
    }
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn every_folder_of_the_corpus_belongs_to_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(folder).expect("the corpus is kept") {
        let name = entry.expect("the folder can be read").file_name().to_string_lossy().into_owned();
        assert!(dodai_fuzz::target(&name).is_some(), "corpus/{name} belongs to no target");
    }
}
