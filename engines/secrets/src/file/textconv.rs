//! What `git diff` shows: the file with a short keyed hash in the place of each value, never plaintext.

use sha2_for_age::{Digest, Sha256};

use super::splice::{self, Edits};
use super::{FileError, FileResult, find_all};
use crate::seal::value::looks_sealed;
use crate::seal::{Keyring, SealedValue};

/// Hex digits of a hash that is shown.
const SHOWN: usize = 12;

/// The text for `git diff`. A value that opens is shown as a hash keyed by one's own identity, so that sealing it anew
/// shows no difference; one that does not, as a hash of its ciphertext; plaintext that was never sealed is not shown.
///
/// # Errors
/// A file that does not read.
pub fn textconv(text: &str, keyring: &Keyring) -> FileResult<String> {
    let mut edits = Edits::default();
    for found in find_all(text)? {
        let binding = found.binding()?;
        let keys = found.data_keys(&binding, keyring);
        for entry in &found.data {
            let Some(text) = &entry.text else { continue };
            let shown = if looks_sealed(text) {
                let opened = SealedValue::parse(text)
                    .and_then(|value| value.open(keys.get(&value.key_id)?, &binding, &entry.key));
                match opened.ok().and_then(|opened| keyring.keyed_hash(&opened.value)) {
                    Some(hash) => format!("value {}", short(&hash)),
                    None => format!("sealed {}", short(&Sha256::digest(text.as_bytes()))),
                }
            } else {
                "NOT SEALED".to_owned()
            };
            let tail = if splice::is_block(&found.document, entry.node) {
                &found.document.text()[splice::tail(&found.document, entry.node)]
            } else {
                ""
            };
            edits.replace(splice::span(&found.document, entry.node), format!("({shown}){tail}"));
        }
        shorten_keys(&found, &mut edits);
    }
    edits.apply(text).ok_or_else(|| FileError::new("values overlap"))
}

/// Wrapped keys and MACs as short hashes: who is in the list can be seen, the rest is noise.
fn shorten_keys(found: &super::Found, edits: &mut Edits) {
    let document = &found.document;
    let Some(list) = splice::find(document, &["spec", "keys"]) else { return };
    let items = |node| match &document.node(node).kind {
        dodai_yaml::NodeKind::Sequence { items, .. } => items.clone(),
        _ => Vec::new(),
    };
    let mut nodes = Vec::new();
    for key in items(list) {
        nodes.extend(splice::entry(document, key, "mac").map(|(_, node)| node));
        let Some((_, recipients)) = splice::entry(document, key, "recipients") else { continue };
        for recipient in items(recipients) {
            nodes.extend(splice::entry(document, recipient, "wrapped").map(|(_, node)| node));
        }
    }
    for node in nodes {
        let Some(text) = splice::scalar_text(document, node) else { continue };
        if !splice::is_block(document, node) {
            let shown = format!("({})", short(&Sha256::digest(text.as_bytes())));
            edits.replace(document.node(node).range(), shown);
        }
    }
}

fn short(hash: &[u8]) -> String {
    hex::encode(hash)[..SHOWN].to_owned()
}
