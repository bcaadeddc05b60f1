//! Field paths: `spec.containers[0].image` -> the node, its line and its column.
//!
//! All the spellings that name fields in Kubernetes are taken: `a.b`, `.a.b`, `list[2]`, `map[key]`,
//! `map["a.b/c"]`, and `list[name="web",port=80]` of server-side apply. A key with dots that is not quoted
//! (`metadata.annotations.a.b/c`) is found too.

use std::ops::Range;

use crate::kubernetes;
use crate::source::Position;
use crate::tree::{Document, NodeId, NodeKind};

/// Steps in one path; longer ones are not found.
const STEPS_MAX: usize = 256;

/// Where a field stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Of the key, or of the item in a list.
    pub position: Position,
    /// Characters to mark from there.
    pub len: usize,
    /// The bytes of the value.
    pub range: Range<usize>,
    /// False if the field itself is absent and this is its nearest parent.
    pub exact: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// After a dot; may be a part of a key with dots.
    Name(String),
    /// In brackets.
    Key(String),
    Index(usize),
    Fields(Vec<(String, String)>),
}

/// How far a path goes in a document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) key: Option<NodeId>,
    /// As it stands there; may be an alias.
    pub(crate) value: NodeId,
    pub(crate) through_alias: bool,
    n_steps: usize,
}

impl Document {
    /// Where a field begins: its key, or the item of a list. `None` if there is no such field.
    pub fn position(&self, path: &str) -> Option<Position> {
        self.find(path).map(|found| self.location(&found, true).position)
    }

    /// Like [`Document::position`]; for an absent field the nearest parent that exists, at last the document.
    pub fn nearest_position(&self, path: &str) -> Position {
        self.locate(path).position
    }

    /// The bytes of the value of a field, in [`Document::text`].
    pub fn range(&self, path: &str) -> Option<Range<usize>> {
        self.find(path).map(|found| self.node(found.value).range())
    }

    /// The bytes of the key of a field; `None` for an item of a list.
    pub fn key_range(&self, path: &str) -> Option<Range<usize>> {
        self.find(path)?.key.map(|key| self.node(key).range())
    }

    /// Everything [`crate::render_snippet`] needs to show an error about a field, present or not.
    pub fn locate(&self, path: &str) -> Location {
        match parse_path(path) {
            Some(steps) => {
                let found = self.walk(&steps);
                self.location(&found, found.n_steps == steps.len())
            }
            None => self.location(&self.walk(&[]), false),
        }
    }

    pub(crate) fn find(&self, path: &str) -> Option<Found> {
        let steps = parse_path(path)?;
        let found = self.walk(&steps);
        (found.n_steps == steps.len()).then_some(found)
    }

    fn location(&self, found: &Found, exact: bool) -> Location {
        let (position, len) = self.mark(found.key.unwrap_or(found.value));
        Location { position, len, range: self.node(found.value).range(), exact }
    }

    fn walk(&self, steps: &[Step]) -> Found {
        let found = Found { key: None, value: self.root, through_alias: false, n_steps: 0 };
        self.step(found, steps)
    }

    /// The longest way from `here`.
    fn step(&self, here: Found, steps: &[Step]) -> Found {
        let Some(first) = steps.first() else { return here };
        let id = self.follow(here.value);
        let through_alias = here.through_alias || id != here.value;
        let n_steps = here.n_steps + 1;
        match (&self.node(id).kind, first) {
            (NodeKind::Sequence { items, .. }, Step::Index(index)) => match items.get(*index) {
                Some(item) => {
                    self.step(Found { key: None, value: *item, through_alias, n_steps }, &steps[1..])
                }
                None => here,
            },
            (NodeKind::Sequence { items, .. }, Step::Fields(fields)) => {
                match items.iter().find(|item| self.has_fields(**item, fields)) {
                    Some(item) => {
                        self.step(Found { key: None, value: *item, through_alias, n_steps }, &steps[1..])
                    }
                    None => here,
                }
            }
            (NodeKind::Mapping { .. }, Step::Key(key)) => {
                self.enter(here, id, key, 1, through_alias, steps).unwrap_or(here)
            }
            (NodeKind::Mapping { .. }, Step::Index(index)) => {
                self.enter(here, id, &index.to_string(), 1, through_alias, steps).unwrap_or(here)
            }
            (NodeKind::Mapping { .. }, Step::Name(name)) => {
                let mut best = here;
                let mut key = name.clone();
                for n_parts in 1..=steps.len() {
                    if let Some(found) = self.enter(here, id, &key, n_parts, through_alias, steps)
                        && found.n_steps > best.n_steps
                    {
                        best = found;
                    }
                    let Some(Step::Name(part)) = steps.get(n_parts) else { break };
                    if best.n_steps == here.n_steps + steps.len() {
                        break;
                    }
                    key.push('.');
                    key.push_str(part);
                }
                best
            }
            _ => here,
        }
    }

    fn enter(
        &self,
        here: Found,
        mapping: NodeId,
        key: &str,
        n_parts: usize,
        through_alias: bool,
        steps: &[Step],
    ) -> Option<Found> {
        let entry = self.entry(mapping, key)?;
        let found = Found {
            key: Some(entry.key),
            value: entry.value,
            through_alias: through_alias || entry.merged,
            n_steps: here.n_steps + n_parts,
        };
        Some(self.step(found, &steps[n_parts..]))
    }

    /// The entry that gives a key its value, merge keys included.
    fn entry(&self, mapping: NodeId, name: &str) -> Option<Entry> {
        self.entry_where(mapping, &|key| kubernetes::key_text(self, key).is_some_and(|text| text == name))
            // A path written by a person may have the key as it is written: `yes` is the key `true`.
            .or_else(|| self.entry_where(mapping, &|key| self.is_written(key, name)))
    }

    fn entry_where(&self, mapping: NodeId, fits: &dyn Fn(NodeId) -> bool) -> Option<Entry> {
        let NodeKind::Mapping { entries, .. } = &self.node(mapping).kind else { return None };
        let mut winner = None;
        for (key, value) in entries {
            if kubernetes::is_merge(self.node(*key)) {
                for source in kubernetes::merge_sources(self, *value).unwrap_or_default() {
                    if let Some(entry) = self.entry_where(source, fits) {
                        winner = Some(Entry { merged: true, ..entry });
                    }
                }
            } else if fits(*key) {
                winner = Some(Entry { key: *key, value: *value, merged: false });
            }
        }
        winner
    }

    fn is_written(&self, key: NodeId, name: &str) -> bool {
        matches!(&self.node(self.follow(key)).kind, NodeKind::Scalar { text, .. } if **text == *name)
    }

    fn has_fields(&self, item: NodeId, fields: &[(String, String)]) -> bool {
        let mapping = self.follow(item);
        fields.iter().all(|(name, wanted)| {
            let Some(entry) = self.entry(mapping, name) else { return false };
            match &self.node(self.follow(entry.value)).kind {
                NodeKind::Scalar { text, .. } => **text == **wanted,
                _ => false,
            }
        })
    }
}

struct Entry {
    key: NodeId,
    value: NodeId,
    merged: bool,
}

/// `None` if it is no path.
fn parse_path(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix('.').unwrap_or(path);
    while !rest.is_empty() {
        if steps.len() >= STEPS_MAX {
            return None;
        }
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = parse_brackets(inner)?;
            steps.push(step);
            rest = after.strip_prefix('.').unwrap_or(after);
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            steps.push(Step::Name(rest[..end].to_owned()));
            rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
        }
    }
    Some(steps)
}

/// What stands after `[`, and the rest after `]`.
fn parse_brackets(inner: &str) -> Option<(Step, &str)> {
    if inner.starts_with('"') {
        let (key, rest) = parse_quoted(inner)?;
        return Some((Step::Key(key), rest.strip_prefix(']')?));
    }
    let mut fields = Vec::new();
    let mut rest = inner;
    loop {
        let end = rest.find(['=', ']', '"'])?;
        if !rest[end..].starts_with('=') {
            break;
        }
        let name = rest[..end].trim().to_owned();
        rest = &rest[end + 1..];
        let value;
        if rest.starts_with('"') {
            (value, rest) = parse_quoted(rest)?;
        } else {
            let end = rest.find([',', ']'])?;
            value = rest[..end].to_owned();
            rest = &rest[end..];
        }
        fields.push((name, value));
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Some((Step::Fields(fields), rest.strip_prefix(']')?)),
        }
    }
    let (key, rest) = inner.split_once(']')?;
    let step = match key.parse() {
        Ok(index) if !key.starts_with('+') => Step::Index(index),
        _ => Step::Key(key.to_owned()),
    };
    Some((step, rest))
}

/// A text in double quotes, where `\` takes the next character as it is.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

/// Adds a key to a path as it is shown to people, and as `parse_path` reads it.
pub(crate) fn push_key(path: &mut String, key: &str) {
    let is_plain = !key.is_empty()
        && key
            .chars()
            .all(|character| character.is_alphanumeric() || matches!(character, '-' | '_' | '/' | '$'));
    if is_plain {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    } else {
        path.push_str("[\"");
        for character in key.chars() {
            if matches!(character, '"' | '\\') {
                path.push('\\');
            }
            path.push(character);
        }
        path.push_str("\"]");
    }
}

/// Adds an item of a list to a path.
pub(crate) fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}
