//! Entry points for hostile bytes, one for each decoder: for a fuzzer, and for a small seeded run in the tests.
//!
//! Each takes any bytes and must come back: no panic, no endless work, and what was read is written as it was read.

use std::sync::OnceLock;

use crate::file::back::Sealing;
use crate::file::{back, convert, find_all, keys, lint, merge, textconv, view};
use crate::import;
use crate::rules::{Rules, matches};
use crate::seal::keyring::parse_identities;
use crate::seal::{Identity, Keyring, Recipient, SealedValue};
use crate::sealed;
use crate::sops::{self, Format};

fn keyring() -> &'static Keyring {
    static KEYRING: OnceLock<Keyring> = OnceLock::new();
    KEYRING.get_or_init(|| Keyring::of(vec![Identity::generate()]))
}

/// A sealed value.
pub fn value(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(value) = SealedValue::parse(text)
    {
        assert_eq!(value.to_string(), text, "one value has one text");
    }
}

/// A file with EncryptedSecrets: everything that is done with files.
pub fn file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let keyring = keyring();
    let recipients: Vec<Recipient> =
        keyring.recipients().iter().filter_map(|one| Recipient::parse(one).ok()).collect();
    let sealing = Sealing { keyring, recipients: &recipients, now_s: 1 };
    let Ok(found) = find_all(text) else { return };
    for one in &found {
        let _ = one.binding();
    }
    if let Ok(shown) = view::view(text, keyring)
        && let Ok(again) = back::back(Some(text), &shown.text, &sealing)
        && found.iter().all(|one| {
            !one.decrypted
                && one
                    .data
                    .iter()
                    .all(|entry| entry.text.as_deref().is_some_and(crate::seal::value::looks_sealed))
        })
    {
        assert_eq!(*again, text, "an edit without a change keeps every byte");
    }
    if let Ok(sealed) = back::back(None, text, &sealing) {
        assert!(find_all(&sealed).is_ok());
    }
    let _ = keys::rotate(text, &sealing);
    let _ = keys::rekey(text, &sealing);
    let _ = textconv::textconv(text, keyring);
    let _ = convert::encrypt_secrets(text, &sealing);
    let rules = Rules::default();
    let context = lint::Context { keyring, rules: &rules, path: "x.yaml", now_s: 1 };
    let _ = lint::lint(text, &context, &mut lint::Seen::default());
}

/// Three versions of a file, separated by a byte 0, to merge.
pub fn versions(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let mut next = || parts.next().unwrap_or_default();
    let (base, ours, theirs) = (next(), next(), next());
    if let Ok(prepared) = merge::prepare(base, ours, theirs) {
        for text in [&prepared.base, &prepared.ours, &prepared.theirs] {
            assert!(find_all(text).is_ok(), "a version that does not read any more");
        }
    }
}

/// A SOPS file in each format.
pub fn sops_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for format in [Format::Yaml, Format::Json, Format::Dotenv, Format::Ini, Format::Binary] {
        let opened = sops::decrypt(text, format, keyring());
        assert!(opened.is_err(), "a file that nobody wrapped for us opens");
    }
    let _ = import::secrets(text, Format::Yaml, "x", keyring());
}

/// An age file, and a file of identities.
pub fn age_file(bytes: &[u8]) {
    let _ = keyring().open_age(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_identities(text);
        let _ = Recipient::parse(text);
    }
}

/// Private keys and certificates of Sealed Secrets.
pub fn sealing_keys(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = sealed::parse_keys(text);
        let _ = sealed::certificate::Certificate::parse(text, jiff::Timestamp::UNIX_EPOCH);
    }
}

/// Rules, and a pattern with a path.
pub fn rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(rules) = Rules::parse(text) {
        let _ = rules.recipients("envs/prod/secrets.yaml");
    }
    let (pattern, path) = text.split_once('\n').unwrap_or((text, "a/b/c/d"));
    let short = |text: &str| text.chars().take(64).collect::<String>();
    let _ = matches(&short(pattern), &short(path));
}
