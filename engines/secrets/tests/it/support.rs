//! What several tests need.

use dodai_secrets::file::back::Sealing;
use dodai_secrets::file::{change, find_all, view};
use dodai_secrets::seal::{Identity, Keyring, Recipient};

/// 2026-11-26T10:00:00Z.
pub(crate) const NOW_S: u64 = 1_795_687_200;

/// Someone with an identity.
pub(crate) struct Person {
    pub(crate) keyring: Keyring,
    pub(crate) recipient: Recipient,
}

pub(crate) fn person() -> Person {
    let identity = Identity::generate();
    let recipient = Recipient::parse(&identity.recipient().unwrap()).unwrap();
    Person { keyring: Keyring::of(vec![identity]), recipient }
}

pub(crate) fn sealing<'a>(keyring: &'a Keyring, recipients: &'a [Recipient]) -> Sealing<'a> {
    Sealing { keyring, recipients, now_s: NOW_S }
}

/// A file with one object and these values.
pub(crate) fn file_with(person: &Person, values: &[(&str, &str)]) -> String {
    let recipients = [person.recipient.clone()];
    let mut text = change::create("shop", "payments");
    for (key, value) in values {
        let sealing = sealing(&person.keyring, &recipients);
        text = change::set(&text, None, key, value.as_bytes(), false, &sealing).unwrap();
    }
    text
}

/// All values of a file that open: `name/key` and the value.
pub(crate) fn opened(text: &str, keyring: &Keyring) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for found in find_all(text).unwrap() {
        for entry in &found.data {
            let value = entry.text.as_deref().unwrap_or_default();
            if let Ok(opened) = view::open(&found, &entry.key, value, keyring) {
                all.push((format!("{}/{}", found.name, entry.key), opened.value.to_vec()));
            }
        }
    }
    all
}

/// One value as text.
pub(crate) fn value(text: &str, keyring: &Keyring, key: &str) -> Option<String> {
    let all = opened(text, keyring);
    all.into_iter()
        .find(|(name, _)| name.ends_with(&format!("/{key}")))
        .map(|(_, value)| String::from_utf8(value).unwrap())
}

/// A folder of the shared test data: beside the checkout, or of the folder it is in; `None` (and it says so) without.
pub(crate) fn shared(name: &str) -> Option<std::path::PathBuf> {
    let root = std::env::var_os("DODAI_SHARED")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let folder = root.join(name);
    if !folder.exists() {
        println!("skipped: {} not found", folder.display());
        return None;
    }
    Some(folder)
}
