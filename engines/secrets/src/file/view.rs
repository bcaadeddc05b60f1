//! The text of a file with plaintext in the place of sealed values, for an editor or to look at.

use std::ops::Range;

use zeroize::Zeroizing;

use super::plain::{self, Written};
use super::splice::{self, Edits};
use super::{DECRYPTED, ENCRYPTED, FileError, FileResult, Found, find_all};
use crate::error::Error;
use crate::seal::value::looks_sealed;
use crate::seal::{Keyring, Opened, SealedValue};

/// A text with plaintext. The text is gone from memory when dropped.
pub struct View {
    /// The text.
    pub text: Zeroizing<String>,
    /// What could not be opened and stands in the text as it was.
    pub closed: Vec<Closed>,
}

/// A value that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The object.
    pub object: String,
    /// The key.
    pub key: String,
    /// Why.
    pub error: Error,
}

/// Opens a value of an object.
///
/// # Errors
/// Why it does not open.
pub fn open(found: &Found, key: &str, text: &str, keyring: &Keyring) -> Result<Opened, Error> {
    let binding = crate::seal::Binding::new(found.namespace.as_deref(), &found.name, &found.spec)?;
    let value = SealedValue::parse(text)?;
    value.open(&found.data_key(&value.key_id, &binding, keyring)?, &binding, key)
}

/// Shows every value that can be opened.
///
/// # Errors
/// A file that does not read.
pub fn view(text: &str, keyring: &Keyring) -> FileResult<View> {
    let mut edits = Edits::default();
    let mut closed = Vec::new();
    for found in find_all(text)? {
        show(&found, keyring, &mut edits, &mut closed)?;
    }
    let text = edits.apply(text).ok_or_else(|| FileError::new("values overlap"))?;
    Ok(View { text: Zeroizing::new(text), closed })
}

fn show(found: &Found, keyring: &Keyring, edits: &mut Edits, closed: &mut Vec<Closed>) -> FileResult<()> {
    let binding = found.binding()?;
    let keys = found.data_keys(&binding, keyring);
    let document = &found.document;
    if let Some(kind) = splice::find(document, &["kind"])
        && !found.decrypted
    {
        let range = document.node(kind).range();
        let raw = &document.text()[range.clone()];
        edits.replace(range, raw.replace(ENCRYPTED, DECRYPTED));
    }
    for entry in &found.data {
        let Some(text) = entry.text.as_deref().filter(|text| looks_sealed(text)) else { continue };
        let opened = SealedValue::parse(text)
            .and_then(|value| value.open(keys.get(&value.key_id)?, &binding, &entry.key));
        match opened {
            Ok(opened) => match written(found, entry, &opened.value) {
                Some((range, text)) => edits.replace(range, text.as_str()),
                None => {
                    let error = Error::Malformed("binary behind a tag of YAML, which cannot be shown");
                    closed.push(Closed { object: found.display_name(), key: entry.key.clone(), error });
                }
            },
            Err(error) => closed.push(Closed { object: found.display_name(), key: entry.key.clone(), error }),
        }
    }
    Ok(())
}

/// What replaces the sealed value, and where.
pub(crate) fn written(
    found: &Found,
    entry: &super::DataEntry,
    value: &[u8],
) -> Option<(Range<usize>, Zeroizing<String>)> {
    let document = &found.document;
    let text = document.text();
    let node = document.node(entry.node);
    let parents: Vec<_> = [vec![], vec!["spec"], vec!["spec", "data"]]
        .iter()
        .filter_map(|path| splice::find(document, path))
        .collect();
    let flow = splice::in_flow(document, &parents);
    let key_range = document.node(entry.key_node).range();
    let same_line = !text[key_range.start..node.range().start].contains('\n');
    let tail = splice::tail(document, entry.node);
    let line_break = text[tail.end..].starts_with(['\r', '\n']);
    let inline = !splice::is_block(document, entry.node);
    // A block may not follow a tag that was not made for it, nor end a file that does not end in a line break.
    let block = (same_line && line_break && inline && !flow)
        .then(|| (splice::column(text, key_range.start) + 2, splice::line_end(text, tail.end)))
        .filter(|(indent, _)| !is_swallowed(&text[tail.end..], *indent));
    let is_binary = std::str::from_utf8(value).is_err();
    if is_binary && node.tag.is_some() {
        // Bytes have a tag of their own, in the place of the one for texts.
        let before = text[..node.range().start].trim_end_matches([' ', '\t']).strip_suffix("!!str")?;
        let Written::Inline(written) = plain::write(value, flow, None) else { return None };
        let tail = if inline { "" } else { &text[tail] };
        let written = Zeroizing::new(format!("{}{tail}", *written));
        return Some((before.len()..splice::span(document, entry.node).end, written));
    }
    Some(match plain::write(value, flow, block) {
        Written::Inline(written) if inline => (splice::span(document, entry.node), written),
        // A block that becomes a line keeps the comment of its first line.
        Written::Inline(written) => {
            let written = Zeroizing::new(format!("{}{}", *written, &text[tail]));
            (splice::span(document, entry.node), written)
        }
        Written::Block { header, lines } => {
            let written = Zeroizing::new(format!("{header}{}{}", &text[tail.clone()], *lines));
            (node.range().start..tail.end, written)
        }
    })
}

/// Whether a block of this indentation would take in what follows it: a comment far to the right, a line of many blanks.
fn is_swallowed(rest: &str, indent: usize) -> bool {
    for line in rest.lines().skip(1) {
        let blanks = line.len() - line.trim_start_matches(' ').len();
        if !line.trim().is_empty() {
            return blanks >= indent;
        }
        if blanks > indent {
            return true;
        }
    }
    false
}
