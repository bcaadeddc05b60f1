//! Plan cases as data: `tests/plan/<kind>/<case>/{given,want}.yaml`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dodai_kit::Outside;
use dodai_secrets::seal::Keyring;
use dodai_secrets::seal::keyring::parse_identities;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan").join(name)
}

fn outside() -> Outside {
    let text = std::fs::read_to_string(folder("identity.txt")).unwrap();
    Outside::default().with(Arc::new(Keyring::of(parse_identities(&text).unwrap())))
}

#[test]
fn plans_of_encrypted_secrets() {
    let n = dodai_kit::cases::run_with::<dodai_secrets::encrypted_secret::EncryptedSecretController>(
        &folder("encrypted_secret"),
        &outside(),
    );
    assert!(n > 10);
}
