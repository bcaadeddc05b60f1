//! A plaintext value as YAML, and back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dodai_yaml::{Document, NodeId, NodeKind};
use serde_json::Value;
use zeroize::Zeroizing;

use super::splice::{self, quoted};

/// How a value is written.
pub(crate) enum Written {
    /// On the line.
    Inline(Zeroizing<String>),
    /// Behind the header, the rest of the line stays; then the lines, each with a line break before it.
    Block { header: &'static str, lines: Zeroizing<String> },
}

/// Writes a value for its place. A text of several lines becomes a block if it may (`block`: its indentation and line
/// break) and if a block says it exactly.
pub(crate) fn write(value: &[u8], flow: bool, block: Option<(usize, &str)>) -> Written {
    let Ok(text) = std::str::from_utf8(value) else {
        return Written::Inline(Zeroizing::new(format!("!!binary \"{}\"", STANDARD.encode(value))));
    };
    if let Some((indent, line_end)) = block
        && !flow
        && is_block_text(text)
    {
        let (header, body) = match text.strip_suffix('\n') {
            Some(body) => ("|", body),
            None => ("|-", text),
        };
        let mut lines = Zeroizing::new(String::with_capacity(text.len() + indent * body.lines().count()));
        for line in body.split('\n') {
            lines.push_str(line_end);
            lines.extend(std::iter::repeat_n(' ', if line.is_empty() { 0 } else { indent }));
            lines.push_str(line);
        }
        return Written::Block { header, lines };
    }
    if !flow && !text.contains(['\n', '\r']) && text.len() < 4096 {
        let written = Zeroizing::new(dodai_yaml::to_string(&Value::String(text.to_owned())));
        let line = written.trim_end_matches('\n');
        // A `|` of the writer would begin a block.
        if !line.contains('\n') && !line.starts_with(['|', '>']) {
            return Written::Inline(Zeroizing::new(line.to_owned()));
        }
    }
    Written::Inline(Zeroizing::new(quoted(text)))
}

/// Several lines, none of them blank but not empty, the first not indented, at most one line break at the end.
fn is_block_text(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !body.starts_with([' ', '\t', '\n'])
        && !body.ends_with('\n')
        && body.split('\n').all(|line| line.is_empty() || !line.trim().is_empty())
        && body.chars().all(|c| {
            c == '\n' || c == '\t' || (' '..='~').contains(&c) || ('\u{a0}'..='\u{d7ff}').contains(&c)
        })
        && !body.contains(['\u{2028}', '\u{2029}'])
}

/// The value of a scalar as a person wrote it: its text, whatever type YAML would see in it (`0644` is four characters);
/// with `!!binary` the bytes. `None` for a list, a map or an alias, and for `!!binary` that is none.
pub(crate) fn read(document: &Document, node: NodeId) -> Option<Zeroizing<Vec<u8>>> {
    let id = node;
    let node = document.node(id);
    let NodeKind::Scalar { text, .. } = &node.kind else { return None };
    if node.tag.as_deref() == Some("tag:yaml.org,2002:binary") {
        let symbols: Zeroizing<Vec<u8>> =
            Zeroizing::new(text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
        return STANDARD.decode(&*symbols).ok().map(Zeroizing::new);
    }
    if splice::is_null(document, id) && text.is_empty() {
        return Some(Zeroizing::new(Vec::new()));
    }
    Some(Zeroizing::new(text.as_bytes().to_vec()))
}
