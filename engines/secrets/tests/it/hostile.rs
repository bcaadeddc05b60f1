//! Hostile bytes for every decoder: real inputs, broken in seeded ways. `DODAI_SECRETS_SEED`, `DODAI_SECRETS_RUNS` as for
//! random files.

use std::time::{Duration, Instant};

use dodai_secrets::hostile;
use fastrand::Rng;

use super::support::{file_with, person, shared};

const RUNS: usize = 300;
/// Longest work for one input; a thousand times what a debug build needs, so that a busy machine does not matter.
const SLOW: Duration = Duration::from_secs(120);
/// The seed, unless `DODAI_SECRETS_SEED` names another: a run is the same everywhere.
const SEED: u64 = 20_261_126;

fn corpus() -> Vec<Vec<u8>> {
    let alice = person();
    let file = file_with(&alice, &[("A", "one"), ("B", "two\nlines\n")]);
    let mut corpus = vec![
        file.clone().into_bytes(),
        file.replace("EncryptedSecret", "DecryptedSecret").into_bytes(),
        format!("{file}\0{file}\0{}", file.replace("A:", "C:")).into_bytes(),
        file.lines().find_map(|line| line.trim().strip_prefix("A: ")).unwrap().as_bytes().to_vec(),
        b"secrets:\n  people: {a: age1x}\n  rules:\n  - {path: \"**/*a*\", recipients: [a]}\n".to_vec(),
        b"**/*a*/**/*b*\na/a/a/b/b/b".to_vec(),
        b"apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: y}\nstringData: {A: b}\ndata: {C: YQ==}\n".to_vec(),
    ];
    if let Some(fixtures) = shared("testdata/sops-fixtures") {
        for name in [
            "made/yaml-types/encrypted.yaml",
            "made/json-types/encrypted.json",
            "made/dotenv/encrypted.env",
            "made/ini-encrypted-regex/encrypted.ini",
            "made/groups-3-of-3/encrypted.yaml",
        ] {
            corpus.push(std::fs::read(fixtures.join(name)).unwrap());
        }
    }
    if let Some(vectors) = shared("testdata/age-testkit/testdata") {
        for name in ["x25519", "armor", "x25519_grease", "stanza_valid_characters"] {
            corpus.extend(std::fs::read(vectors.join(name)));
        }
    }
    corpus
}

fn broken(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[rng.usize(..corpus.len())].clone();
    let pieces: [&[u8]; 14] = [
        b"\n",
        b"  ",
        b": ",
        b"- ",
        b"{",
        b"}",
        b"[",
        b"\"",
        b"&a ",
        b"*a",
        b"|-\n",
        b"\0",
        b"---\n",
        b"!!binary ",
    ];
    for _ in 0..rng.usize(1..6) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.usize(..bytes.len());
        match rng.u8(..6) {
            0 => bytes[at] = rng.u8(..),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, pieces[rng.usize(..pieces.len())].iter().copied())),
            3 => {
                let end = (at + rng.usize(1..40)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            4 => {
                let end = (at + rng.usize(1..80)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = rng.usize(..=bytes.len());
                drop(bytes.splice(to..to, part));
            }
            _ => {
                let other = &corpus[rng.usize(..corpus.len())];
                let from = rng.usize(..other.len());
                let end = (from + rng.usize(1..200)).min(other.len());
                drop(bytes.splice(at..at, other[from..end].iter().copied()));
            }
        }
    }
    bytes
}

type Target = fn(&[u8]);

#[test]
fn hostile_bytes_are_refused_without_a_panic() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seed = number("DODAI_SECRETS_SEED").unwrap_or(SEED);
    println!("DODAI_SECRETS_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let corpus = corpus();
    let targets: [(&str, Target); 7] = [
        ("value", hostile::value),
        ("file", hostile::file),
        ("versions", hostile::versions),
        ("sops_file", hostile::sops_file),
        ("age_file", hostile::age_file),
        ("sealing_keys", hostile::sealing_keys),
        ("rules", hostile::rules),
    ];
    for (name, target) in targets {
        for input in &corpus {
            target(input);
        }
        for run in 0..number("DODAI_SECRETS_RUNS").map_or(RUNS, |runs| runs as usize) {
            let bytes = broken(&mut rng, &corpus);
            let began = Instant::now();
            let done = std::panic::catch_unwind(|| target(&bytes));
            assert!(done.is_ok(), "{name}, run {run}: {:?}", String::from_utf8_lossy(&bytes));
            assert!(began.elapsed() < SLOW, "{name}, run {run} took {:?}", began.elapsed());
        }
    }
}
