//! Places in the text of a file, and changes of it that leave every other byte alone.
//!
//! Changes are collected, then made at once, last first. What they made of the file is read again by the caller and
//! compared with what was meant ([`super::check`]), so that unusual YAML is refused and never broken.

use std::ops::Range;

use dodai_yaml::{Document, NodeId, NodeKind, ScalarStyle, StructureStyle};
use serde_json::Value;

/// Changes of one text.
#[derive(Debug, Default)]
pub(crate) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Puts `text` in the place of the bytes.
    pub(crate) fn replace(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.0.push((range, text.into()));
    }

    /// Adds the changes of another.
    pub(crate) fn append(&mut self, other: Edits) {
        self.0.extend(other.0);
    }

    /// Makes the changes. Of several insertions at one place the first comes first. `None` if two overlap.
    pub(crate) fn apply(mut self, text: &str) -> Option<String> {
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let mut result = String::with_capacity(text.len());
        let mut at = 0;
        for (range, new) in &self.0 {
            result.push_str(text.get(at..range.start)?);
            result.push_str(new);
            at = range.end;
        }
        result.push_str(text.get(at..)?);
        Some(result)
    }
}

/// The direct entry of a mapping with this key; what a merge key brings is not an entry of the mapping.
pub(crate) fn entry(document: &Document, mapping: NodeId, name: &str) -> Option<(NodeId, NodeId)> {
    let NodeKind::Mapping { entries, .. } = &document.node(mapping).kind else { return None };
    entries.iter().copied().find(|(key, _)| scalar_text(document, *key).is_some_and(|text| text == name))
}

/// The value at a path of direct entries. An alias on the way ends it.
pub(crate) fn find(document: &Document, path: &[&str]) -> Option<NodeId> {
    let mut here = document.root_id();
    for name in path {
        here = entry(document, here, name)?.1;
    }
    Some(here)
}

/// The text of a scalar.
pub(crate) fn scalar_text(document: &Document, node: NodeId) -> Option<&str> {
    match &document.node(node).kind {
        NodeKind::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// Whether a node is an absent or null value.
pub(crate) fn is_null(document: &Document, node: NodeId) -> bool {
    matches!(&document.node(node).kind, NodeKind::Scalar { text, style: ScalarStyle::Plain }
        if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
}

/// Whether a node stands inside `[...]` or `{...}`.
pub(crate) fn in_flow(document: &Document, path: &[NodeId]) -> bool {
    path.iter().any(|node| {
        matches!(
            document.node(*node).kind,
            NodeKind::Mapping { style: StructureStyle::Flow, .. }
                | NodeKind::Sequence { style: StructureStyle::Flow, .. }
        )
    })
}

/// A scalar together with what must be replaced with it: for a block also the rest of its first line and its lines up to
/// the last that is not blank.
pub(crate) fn span(document: &Document, node: NodeId) -> Range<usize> {
    let range = document.node(node).range();
    if !is_block(document, node) {
        return range;
    }
    let text = document.text();
    let header = range.start + line_length(&text[range.start..]);
    let body = &text[header..range.end.max(header)];
    // The range may reach into the indentation of what follows.
    let mut end = body.len();
    while let Some(at) = body[..end].rfind('\n').filter(|at| body[*at..end].trim().is_empty()) {
        end = at - usize::from(body[..at].ends_with('\r'));
    }
    range.start..header + end
}

/// Whether a scalar is written as `|` or `>`.
pub(crate) fn is_block(document: &Document, node: NodeId) -> bool {
    matches!(
        document.node(node).kind,
        NodeKind::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded, .. }
    )
}

/// What stands behind a scalar on its first line, with the blanks before it.
pub(crate) fn tail(document: &Document, node: NodeId) -> Range<usize> {
    let range = document.node(node).range();
    let text = document.text();
    if is_block(document, node) {
        let end = range.start + line_length(&text[range.start..]);
        let header = &text[range.start..end];
        let begin = header.find([' ', '\t']).map_or(end, |at| range.start + at);
        return begin..end;
    }
    range.end..range.end + line_length(&text[range.end..])
}

/// Up to the line break, which is not part of it.
pub(crate) fn line_length(text: &str) -> usize {
    let end = text.find('\n').unwrap_or(text.len());
    if text[..end].ends_with('\r') { end - 1 } else { end }
}

/// The line break of the place, or the file's first, or `\n`.
pub(crate) fn line_end(text: &str, at: usize) -> &'static str {
    let next = text.get(at..).and_then(|rest| rest.find('\n').map(|end| rest[..end].ends_with('\r')));
    let first = || text.find('\n').map(|end| text[..end].ends_with('\r'));
    if next.or_else(first).unwrap_or(false) { "\r\n" } else { "\n" }
}

/// The column of a byte: characters since the line began.
pub(crate) fn column(text: &str, at: usize) -> usize {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    text[start..at].chars().count()
}

/// The indentation of the line of a byte: where an entry begins that has a `?` or an anchor before its key.
pub(crate) fn indentation(text: &str, at: usize) -> usize {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..at].trim_start_matches('\u{feff}');
    line.len() - line.trim_start_matches(' ').len()
}

/// Where the last line of a node in block style ends, before its line break.
pub(crate) fn end_of_lines(document: &Document, node: NodeId) -> usize {
    let text = document.text();
    let end = match &document.node(node).kind {
        NodeKind::Mapping { entries, style: StructureStyle::Block } => match entries.last() {
            Some((key, value)) => {
                return end_of_lines(document, *value).max(end_of_lines(document, *key));
            }
            None => document.node(node).range().end,
        },
        NodeKind::Sequence { items, style: StructureStyle::Block } => match items.last() {
            Some(item) => return end_of_lines(document, *item),
            None => document.node(node).range().end,
        },
        _ => span(document, node).end,
    };
    end + line_length(&text[end..])
}

/// Adds an entry to a mapping, or makes the mapping where there is none (an absent or null value).
/// `None` where the node is something else.
pub(crate) fn insert_entry(
    edits: &mut Edits,
    document: &Document,
    parents: &[NodeId],
    (key_node, mapping): (Option<NodeId>, NodeId),
    key: &str,
    value: &Value,
) -> Option<()> {
    let text = document.text();
    let node = document.node(mapping);
    let single = Value::Object([(key.to_owned(), value.clone())].into_iter().collect());
    match &node.kind {
        NodeKind::Mapping { entries, style: StructureStyle::Block } => {
            let first = document.node(entries.first()?.0).range().start;
            let at = end_of_lines(document, mapping);
            let indent = indentation(text, first);
            edits.replace(at..at, block_lines(&single, indent, line_end(text, at)));
        }
        NodeKind::Mapping { entries, style: StructureStyle::Flow } => {
            let close = node.range().end.checked_sub(1).filter(|at| text[*at..].starts_with('}'))?;
            let before = text[..close].trim_end();
            let comma = if entries.is_empty() || before.ends_with(',') { "" } else { ", " };
            let entry = format!("{}: {}", quoted(key), flow(value));
            edits.replace(before.len()..before.len(), format!("{comma}{entry}"));
        }
        _ if is_null(document, mapping) => {
            let key_node = key_node?;
            if in_flow(document, parents) {
                let empty = node.range().is_empty();
                let written = flow(&single);
                edits.replace(node.range(), if empty { format!(" {written}") } else { written });
            } else {
                let start = document.node(key_node).range().start;
                let indent = indentation(text, start) + 2;
                // Its tail (a comment) stays on the line of the key.
                let at = node.range().end + line_length(&text[node.range().end..]);
                edits.replace(node.range(), "");
                edits.replace(at..at, block_lines(&single, indent, line_end(text, at)));
            }
        }
        _ => return None,
    }
    Some(())
}

/// A value as indented lines, each with a line break before it.
pub(crate) fn block_lines(value: &Value, indent: usize, line_end: &str) -> String {
    let mut lines = String::new();
    for line in dodai_yaml::to_string(value).lines() {
        lines.push_str(line_end);
        lines.extend(std::iter::repeat_n(' ', if line.is_empty() { 0 } else { indent }));
        lines.push_str(line);
    }
    lines
}

/// A value on one line: JSON, which YAML reads.
pub(crate) fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{}: {}", quoted(key), flow(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// A text in double quotes, with everything escaped that YAML does not allow as it is.
pub(crate) fn quoted(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a String cannot fail.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
                let _ = write!(out, "\\x{:02x}", character as u32);
            }
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04x}", character as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
