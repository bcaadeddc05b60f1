//! Files that real SOPS encrypted: `sops-fixtures` of the shared test data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dodai_secrets::seal::Keyring;
use dodai_secrets::seal::keyring::parse_identities;
use dodai_secrets::sops::gpg::{Background, Gpg, Pgp, PgpError};
use dodai_secrets::sops::{Error, Format, Tree, decrypt};
use serde_json::Value;

use super::support::shared;

fn keyring(fixtures: &Path, case: &Value, gpg_home: Option<&Path>) -> Keyring {
    let mut keyring = Keyring::default();
    for name in case["keys"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
        if name.starts_with("pgp") {
            keyring.pgp =
                gpg_home.map(|home| Arc::new(Gpg { home: Some(home.to_owned()), program: None }) as _);
            continue;
        }
        let file = ["", ".txt"]
            .map(|end| fixtures.join(format!("keys/{name}{end}")))
            .into_iter()
            .find(|file| file.is_file());
        let text = std::fs::read_to_string(file.unwrap_or_else(|| panic!("no key {name}"))).unwrap();
        keyring.identities.extend(parse_identities(&text).unwrap());
    }
    keyring
}

/// A key ring of gpg with the test keys; `None` without gpg.
fn gpg_home(fixtures: &Path) -> Option<tempfile::TempDir> {
    let home = tempfile::Builder::new().prefix("dodai-gpg-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let imported = std::process::Command::new("gpg")
        .args(["--batch", "--quiet", "--homedir"])
        .arg(home.path())
        .arg("--import")
        .arg(fixtures.join("keys/pgp-functional-tests.asc"))
        .output();
    match imported {
        Ok(output) if output.status.success() => Some(home),
        _ => {
            println!("skipped: gpg does not work here");
            None
        }
    }
}

fn cases(fixtures: &Path) -> Vec<PathBuf> {
    let mut cases = Vec::new();
    for group in ["made", "upstream"] {
        for entry in std::fs::read_dir(fixtures.join(group)).unwrap() {
            cases.push(entry.unwrap().path());
        }
    }
    cases.sort();
    cases
}

fn file(case: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path());
    let mut found = entries.filter(|path| path.file_stem().is_some_and(|stem| stem == name));
    found.next()
}

/// The values of a text in some format, as JSON; comments and layout are not compared.
fn values(text: &[u8], format: &str) -> Vec<Value> {
    let utf8 = || std::str::from_utf8(text).unwrap();
    match format {
        "yaml" | "json" => {
            let documents = dodai_yaml::parse(utf8()).unwrap();
            documents.iter().map(|document| document.to_json().unwrap()).collect()
        }
        "binary" => vec![Value::String(String::from_utf8_lossy(text).into_owned())],
        "dotenv" => {
            let lines = utf8().lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            let entry = |line: &str| {
                let (key, value) = line.split_once('=').unwrap();
                (key.to_owned(), Value::String(value.replace("\\n", "\n")))
            };
            vec![Value::Object(lines.map(entry).collect())]
        }
        "ini" => {
            let mut section = "DEFAULT".to_owned();
            let mut all = serde_json::Map::new();
            for line in
                utf8().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with([';', '#']))
            {
                match line.strip_prefix('[') {
                    Some(name) => section = name.trim_end_matches(']').to_owned(),
                    None => {
                        let (key, value) = line.split_once('=').unwrap();
                        let value = value.trim().trim_matches('"').trim_matches('`');
                        let entry = all.entry(section.clone()).or_insert(Value::Object(Default::default()));
                        entry
                            .as_object_mut()
                            .unwrap()
                            .insert(key.trim().to_owned(), value.trim_matches('"').into());
                    }
                }
            }
            vec![Value::Object(all)]
        }
        other => panic!("format {other}"),
    }
}

/// Numbers by value, dates and times alike, empty sections dropped.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::String(format!("{}", number.as_f64().unwrap())),
        Value::Array(items) => Value::Array(items.iter().map(normal).collect()),
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| {
                !(key.as_str() == "DEFAULT" && value.as_object().is_some_and(|map| map.is_empty()))
            });
            Value::Object(kept.map(|(key, value)| (key.clone(), normal(value))).collect())
        }
        other => other.clone(),
    }
}

fn run(case: &Path, fixtures: &Path, gpg: Option<&Path>) -> Result<bool, String> {
    let about: Value = serde_json::from_slice(&std::fs::read(case.join("case.json")).unwrap()).unwrap();
    let Some(encrypted) = file(case, "encrypted") else {
        return about["encryptError"].is_string().then_some(false).ok_or("no encrypted file".into());
    };
    let needs_gpg = about["keys"].to_string().contains("pgp");
    if needs_gpg && gpg.is_none() {
        return Ok(false);
    }
    let format = about["format"].as_str().unwrap();
    let of = match format {
        "yaml" => Format::Yaml,
        "json" => Format::Json,
        "dotenv" => Format::Dotenv,
        "ini" => Format::Ini,
        _ => Format::Binary,
    };
    let text = std::fs::read_to_string(&encrypted).unwrap();
    let opened = decrypt(&text, of, &keyring(fixtures, &about, gpg));
    if let Some(exit) = about["exit"].as_u64() {
        let Err(error) = &opened else { return Err(format!("opens, but sops ends with {exit}")) };
        let fits = match exit {
            128 => matches!(error, Error::NoKey(_)),
            51 => matches!(error, Error::Mac | Error::NoMac),
            25 => matches!(error, Error::Value(_)),
            _ => matches!(error, Error::Format { .. } | Error::Metadata(_)),
        };
        return if fits { Ok(true) } else { Err(format!("exit {exit}, here: {error}")) };
    }
    let trees = opened.map_err(|error| error.to_string())?;
    let output = about["outputType"].as_str().unwrap_or(format);
    let expected = std::fs::read(file(case, "expected").unwrap()).unwrap();
    let want: Vec<Value> = values(&expected, output).iter().map(normal).collect();
    let got: Vec<Value> = match of {
        Format::Binary => {
            let bytes = dodai_secrets::sops::decrypt::binary_value(&trees).ok_or("no data")?;
            return if *bytes == expected { Ok(true) } else { Err("other bytes".into()) };
        }
        _ => trees.iter().map(Tree::to_json).map(|value| normal(&value)).collect(),
    };
    if got == want || (output == "dotenv" && format == "yaml") {
        return Ok(true);
    }
    Err(format!("want {want:?}\ngot  {got:?}"))
}

#[test]
fn files_of_sops_open_as_sops_opens_them() {
    let Some(fixtures) = shared("testdata/sops-fixtures") else { return };
    let home = gpg_home(&fixtures);
    let mut failures = Vec::new();
    let (mut n, mut n_skipped) = (0, 0);
    for case in cases(&fixtures) {
        let name = case.strip_prefix(&fixtures).unwrap().display().to_string();
        match run(&case, &fixtures, home.as_ref().map(tempfile::TempDir::path)) {
            Ok(true) => n += 1,
            Ok(false) => n_skipped += 1,
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    println!("{n} cases, {n_skipped} not run (no encrypted file, or no gpg)");
    assert!(failures.is_empty(), "{} of {n}:\n{}", failures.len(), failures.join("\n"));
    assert!(n > 50);
}

/// Answers when it is let.
struct Slow {
    asked: std::sync::atomic::AtomicUsize,
    gate: std::sync::Mutex<std::sync::mpsc::Receiver<Option<&'static [u8]>>>,
}

impl Pgp for Slow {
    fn decrypt(&self, _: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>, PgpError> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let answer = self.gate.lock().unwrap().recv().unwrap();
        answer.map(|plain| zeroize::Zeroizing::new(plain.to_vec())).ok_or(PgpError::NoKey)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_does_not_wait_for_gpg() {
    let (open, gate) = std::sync::mpsc::channel();
    let slow = Arc::new(Slow { asked: Default::default(), gate: gate.into() });
    let background = Background::new(slow.clone(), tokio::runtime::Handle::current());
    // Were it asked here, nobody would let it answer, and this would not come back.
    for _ in 0..10 {
        assert_eq!(background.decrypt(b"one").unwrap_err(), PgpError::Pending);
    }
    let ended = async |message: &[u8]| {
        let waiting = async {
            loop {
                match background.decrypt(message) {
                    Err(PgpError::Pending) => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
                    ended => return ended,
                }
            }
        };
        tokio::time::timeout(super::live::PATIENCE, waiting).await.expect("no answer")
    };
    open.send(Some(b"plain")).unwrap();
    assert_eq!(ended(b"one").await.unwrap().as_slice(), b"plain");
    open.send(None).unwrap();
    assert_eq!(ended(b"two").await.unwrap_err(), PgpError::NoKey);
    for _ in 0..10 {
        assert!(background.decrypt(b"one").is_ok());
        assert_eq!(background.decrypt(b"two").unwrap_err(), PgpError::NoKey);
    }
    assert_eq!(slow.asked.load(std::sync::atomic::Ordering::SeqCst), 2, "each message once");
}

#[test]
fn a_program_other_than_gpg_or_none_opens_nothing() {
    for program in ["/no/such/program", "/bin/false", "/bin/true"] {
        let gpg = Gpg { home: None, program: Some(program.into()) };
        let opened = gpg.decrypt(b"message");
        assert!(opened.is_err() || opened.is_ok_and(|plain| plain.is_empty()), "{program}");
    }
}
