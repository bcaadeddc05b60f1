//! The vectors of C2SP/CCTV for age (`age-testkit` of the shared test data), and age files of ours for Debian's `age`.

use std::io::Read;
use std::process::{Command, Stdio};

use dodai_secrets::seal::keyring::{AgeError, Keyring, parse_identities};
use sha2_for_age::{Digest, Sha256};

use super::support::shared;

/// Larger than any vector.
const BYTES_MAX: usize = 32 << 20;

struct Vector {
    expect: String,
    payload: Option<String>,
    identities: Vec<String>,
    passphrases: Vec<String>,
    compressed: bool,
    known: bool,
    file: Vec<u8>,
}

fn read(bytes: &[u8]) -> Vector {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
    let mut vector = Vector {
        expect: String::new(),
        payload: None,
        identities: Vec::new(),
        passphrases: Vec::new(),
        compressed: false,
        known: true,
        file: bytes[end + 2..].to_vec(),
    };
    for line in std::str::from_utf8(&bytes[..end]).unwrap().lines() {
        let (key, value) = line.split_once(": ").unwrap();
        let value = value.to_owned();
        match key {
            "expect" => vector.expect = value,
            "payload" => vector.payload = Some(value),
            "identity" => vector.identities.push(value),
            "passphrase" => vector.passphrases.push(value),
            "compressed" => vector.compressed = true,
            "file key" | "armored" | "comment" => {}
            _ => vector.known = false,
        }
    }
    if vector.compressed {
        let mut file = Vec::new();
        flate2::read::ZlibDecoder::new(vector.file.as_slice()).read_to_end(&mut file).unwrap();
        vector.file = file;
    }
    vector
}

/// What our use of age says of a vector.
fn open(vector: &Vector) -> Result<Vec<u8>, String> {
    if let Some(passphrase) = vector.passphrases.first() {
        // Data keys are never wrapped for passphrases, so this is the library alone.
        let identity = age::scrypt::Identity::new(age::secrecy::SecretString::from(passphrase.clone()));
        let decryptor = age::Decryptor::new(age::armor::ArmoredReader::new(vector.file.as_slice()))
            .map_err(|error| format!("{error:?}"))?;
        let mut stream = decryptor
            .decrypt(std::iter::once(&identity as &dyn age::Identity))
            .map_err(|error| format!("{error:?}"))?;
        let mut plain = Vec::new();
        stream.read_to_end(&mut plain).map_err(|error| format!("payload: {error}"))?;
        return Ok(plain);
    }
    let identities = parse_identities(&vector.identities.join("\n"))?;
    let opened = Keyring::of(identities).open_age_up_to(&vector.file, BYTES_MAX);
    opened.map(|plain| plain.to_vec()).map_err(|error| format!("{error:?}"))
}

#[test]
fn every_vector_of_age_does_what_it_says() {
    let Some(folder) = shared("testdata/age-testkit/testdata") else { return };
    let (mut n, mut unsupported, mut failures) = (0, Vec::new(), Vec::new());
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let vector = read(&std::fs::read(&file).unwrap());
        if !vector.known {
            failures.push(format!("{name}: a key that this test does not know"));
            continue;
        }
        let opened = open(&vector);
        if vector.identities.iter().any(|identity| identity.starts_with("AGE-SECRET-KEY-PQ-")) {
            // Refused with a reason of its own, never opened wrongly.
            assert!(opened.is_err_and(|error| error.contains("post-quantum")), "{name}");
            unsupported.push(name);
            continue;
        }
        n += 1;
        let fits = match (&opened, vector.expect.as_str()) {
            (Ok(plain), "success") => Some(hex::encode(Sha256::digest(plain))) == vector.payload,
            (Err(error), "no match") => {
                error.contains("NoMatch")
                    || (error.contains("DecryptionFailed") && !vector.passphrases.is_empty())
            }
            (Err(error), "payload failure") => error.contains("payload"),
            (Err(_), "HMAC failure" | "header failure" | "armor failure") => true,
            _ => false,
        };
        if !fits {
            failures.push(format!(
                "{name}: expected {}, got {:?}",
                vector.expect,
                opened.map(|plain| plain.len())
            ));
        }
    }
    println!(
        "{n} vectors; {} post-quantum ones are not supported: {}",
        unsupported.len(),
        unsupported.join(", ")
    );
    assert!(failures.is_empty(), "{} of {n}:\n{}", failures.len(), failures.join("\n"));
    assert!(n > 50);
}

#[test]
fn a_file_that_is_cut_off_gives_nothing() {
    let alice = super::support::person();
    let file = super::support::file_with(&alice, &[("A", "x")]);
    let wrapped = file.lines().find_map(|line| line.trim().strip_prefix("wrapped: ")).unwrap().to_owned();
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(wrapped).unwrap();
    assert!(alice.keyring.open_age(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(alice.keyring.open_age(&bytes[..end]).is_err());
    }
    assert_eq!(Keyring::default().open_age(&bytes).unwrap_err(), AgeError::NoMatch);
}

/// What we wrap opens with the `age` of the distribution.
#[test]
fn the_wrapped_key_opens_with_age() {
    if Command::new("age").arg("--version").output().is_err() {
        println!("skipped: age not found");
        return;
    }
    let identity = dodai_secrets::seal::Identity::generate();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.txt");
    dodai_secrets::places::write_new(&key, &identity).unwrap();
    let recipient = dodai_secrets::seal::Recipient::parse(&identity.recipient().unwrap()).unwrap();
    let person = super::support::Person { keyring: Keyring::of(vec![identity]), recipient };
    let file = super::support::file_with(&person, &[("A", "x")]);
    let wrapped = file.lines().find_map(|line| line.trim().strip_prefix("wrapped: ")).unwrap().to_owned();
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(wrapped).unwrap();
    let mut child = Command::new("age")
        .args(["-d", "-i"])
        .arg(&key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    // The bytes from which the id follows.
    let data_key = dodai_secrets::seal::DataKey::from_bytes(&output.stdout).unwrap();
    assert!(file.contains(&data_key.id()));
}
