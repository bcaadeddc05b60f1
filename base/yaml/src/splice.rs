//! Replaces one scalar in the text of a file and leaves every other byte alone: an image tag, a number of replicas.
//!
//! The new text is read again and compared with the old tree, node by node; what would change anything else is
//! refused. Inserting and deleting keys is not done here.

use std::ops::Range;

use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::kubernetes;
use crate::read::parse;
use crate::tree::{Document, Node, NodeId, NodeKind, ScalarStyle, StructureStyle};
use crate::write::{Place, double_quoted, inline_other, inline_text, is_single_line, literal};

/// Replaces the scalar at `path` in a text of one document. The style is kept where the new value allows it:
/// quotes stay quotes, a block of lines stays one, comments stay.
///
/// # Errors
/// A text that does not read; a path that is not there, is no scalar, or comes from an alias; a new value that is a
/// list or a map; and a text that would not read back as intended.
pub fn replace_scalar(text: &str, path: &str, new_value: &Value) -> Result<String, Error> {
    crate::single(&parse(text)?)?.replace_scalar(path, new_value)
}

impl Document {
    /// Like [`replace_scalar`], for one document of many. Returns the whole new text.
    ///
    /// # Errors
    /// See [`replace_scalar`].
    pub fn replace_scalar(&self, path: &str, new_value: &Value) -> Result<String, Error> {
        let target = self.target(path)?;
        if new_value.is_array() || new_value.is_object() {
            let found = if new_value.is_array() { "list" } else { "map" };
            return Err(Error::new(ErrorKind::NewNotScalar { path: path.to_owned(), found }));
        }
        let (range, written) = self.edit(target, new_value);
        let mut text = String::with_capacity(self.text().len() + written.len());
        text.push_str(&self.text()[..range.start]);
        text.push_str(&written);
        text.push_str(&self.text()[range.end..]);
        match self.unfaithful(&text, target, new_value) {
            None => Ok(text),
            Some(reason) => {
                let (position, len) = self.mark(target);
                let kind = ErrorKind::Unfaithful { path: path.to_owned(), reason };
                Err(Error::new(kind).at(position, len))
            }
        }
    }

    fn target(&self, path: &str) -> Result<NodeId, Error> {
        let Some(found) = self.find(path) else {
            let location = self.locate(path);
            let kind = ErrorKind::NoField { path: path.to_owned() };
            return Err(Error::new(kind).at(location.position, location.len));
        };
        let (position, len) = self.mark(found.value);
        let node = self.node(found.value);
        let is_alias = matches!(node.kind, NodeKind::Alias { .. });
        let kind = if found.through_alias || is_alias {
            ErrorKind::ThroughAlias { path: path.to_owned() }
        } else if self.is_repeated(found.value) {
            let reason = "an alias repeats it elsewhere".to_owned();
            ErrorKind::Unfaithful { path: path.to_owned(), reason }
        } else if matches!(node.kind, NodeKind::Scalar { .. }) {
            return Ok(found.value);
        } else {
            ErrorKind::NotScalar { path: path.to_owned(), found: node.kind_name() }
        };
        Err(Error::new(kind).at(position, len))
    }

    /// Whether an alias stands for the node or for something around it.
    fn is_repeated(&self, id: NodeId) -> bool {
        let range = self.node(id).range();
        self.nodes.iter().any(|node| match node.kind {
            NodeKind::Alias { target } => target == id || contains(&self.node(target).range(), &range),
            _ => false,
        })
    }

    fn in_flow(&self, id: NodeId) -> bool {
        let range = self.node(id).range();
        self.nodes.iter().any(|node| match node.kind {
            NodeKind::Sequence { style: StructureStyle::Flow, .. }
            | NodeKind::Mapping { style: StructureStyle::Flow, .. } => contains(&node.range(), &range),
            _ => false,
        })
    }

    /// The bytes to replace and what to put there.
    fn edit(&self, target: NodeId, new_value: &Value) -> (Range<usize>, String) {
        let NodeKind::Scalar { style, .. } = &self.node(target).kind else {
            unreachable!("the target is a scalar")
        };
        let range = self.node(target).range();
        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            return self.edit_block(range, new_value);
        }
        let place = Place { flow: self.in_flow(target) };
        let mut written = match new_value {
            Value::String(text) => match style {
                ScalarStyle::DoubleQuoted => double_quoted(text),
                ScalarStyle::SingleQuoted if is_single_line(text) => {
                    format!("'{}'", text.replace('\'', "''"))
                }
                _ => inline_text(text, place),
            },
            other => inline_other(other),
        };
        if range.is_empty() {
            let text = self.text();
            if !text[..range.start].ends_with([' ', '\t', '\n', '\r']) && range.start > 0 {
                written.insert(0, ' ');
            }
            let after = text[range.end..].chars().next();
            if after.is_some_and(|c| !matches!(c, ' ' | '\t' | '\n' | '\r' | ',' | ']' | '}')) {
                written.push(' ');
            }
        }
        (range, written)
    }

    /// A block scalar: its header, a comment behind the header, and its lines up to the last that is not blank.
    fn edit_block(&self, range: Range<usize>, new_value: &Value) -> (Range<usize>, String) {
        let text = self.text();
        let header_end = range.start + line_len(&text[range.start..]);
        let header = &text[range.start..header_end];
        let comment = header.find([' ', '\t']).map_or("", |at| header[at..].trim_end());
        let body = &text[header_end..range.end.max(header_end)];
        let end = header_end + body.trim_end().len();
        let line_end = if text[header_end..].starts_with("\r\n") { "\r\n" } else { "\n" };
        let indent = body.lines().find(|line| !line.trim().is_empty());
        let indent = indent.map_or(0, |line| line.len() - line.trim_start_matches(' ').len());
        let block = match new_value {
            Value::String(new) if indent > 0 && !new.ends_with("\n\n") => literal(new, indent, line_end),
            _ => None,
        };
        let written = match (block, new_value) {
            (Some(block), _) => {
                let (indicator, lines) = block.split_at(line_len(&block));
                let lines = if end == text.len() { lines } else { lines.trim_end_matches(['\r', '\n']) };
                format!("{indicator}{comment}{lines}")
            }
            (None, Value::String(new)) => format!("{}{comment}", inline_text(new, Place::BLOCK)),
            (None, other) => format!("{}{comment}", inline_other(other)),
        };
        (range.start..end, written)
    }

    /// Why the new text is not the old one with only `target` changed; `None` if it is.
    fn unfaithful(&self, text: &str, target: NodeId, new_value: &Value) -> Option<String> {
        let (old, new) = match (parse(self.text()), parse(text)) {
            (Ok(old), Ok(new)) => (old, new),
            (_, Err(error)) | (Err(error), _) => return Some(error.kind().to_string()),
        };
        let elsewhere = Some("something else would change".to_owned());
        if old.len() != new.len() {
            return elsewhere;
        }
        for (i, (old, new)) in old.iter().zip(&new).enumerate() {
            let changed = (i == self.index).then_some(target);
            let same = old.nodes.len() == new.nodes.len()
                && old.root == new.root
                && old.nodes.iter().zip(&new.nodes).enumerate().all(|(id, (old, new))| {
                    changed.is_some_and(|target| target.index() == id) || is_same(old, new)
                });
            if !same {
                return elsewhere;
            }
        }
        match kubernetes::scalar_value(new[self.index].nodes.get(target.index())?) {
            Ok(value) if value == kubernetes::normalize(new_value) => None,
            Ok(_) => Some("the new value would read as something else".to_owned()),
            Err(kind) => Some(kind.to_string()),
        }
    }
}

/// The same node, wherever it stands.
fn is_same(old: &Node, new: &Node) -> bool {
    old.kind == new.kind && old.tag == new.tag && old.anchored == new.anchored
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Up to the line break.
fn line_len(text: &str) -> usize {
    text.find(['\n', '\r']).unwrap_or(text.len())
}
