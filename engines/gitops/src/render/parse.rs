//! Text -> trees, as kustomize reads files of objects: separators first, then one document from each part; aliases
//! and merge keys are put in place.

use std::collections::HashMap;
use std::sync::Arc;

use dodai_yaml::kustomize::resolve_plain;
use dodai_yaml::{Document, Limits, NodeKind, ReadOptions, ScalarStyle, StructureStyle};

use super::node::{Kind, Node, NodeId, Style, Tag, Tree};

/// Why a text gives no objects.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("{error}")]
    Yaml {
        error: dodai_yaml::Error,
        /// Line of the text before the part with the error.
        lines_before: usize,
    },
    #[error("the text is not UTF-8")]
    Utf8,
    #[error("only a comment may follow `---` in its line")]
    Separator { line: usize },
    #[error("{message}")]
    Other { message: &'static str, line: usize },
}

impl ParseError {
    /// Line and column in the whole text.
    pub(crate) fn position(&self) -> Option<dodai_yaml::Position> {
        match self {
            ParseError::Yaml { error, lines_before } => error
                .position()
                .map(|at| dodai_yaml::Position { line: at.line + lines_before, column: at.column }),
            ParseError::Separator { line } | ParseError::Other { line, .. } => {
                Some(dodai_yaml::Position { line: *line, column: 1 })
            }
            ParseError::Utf8 => None,
        }
    }
}

/// A document and the line of the text in which its first node stands.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) tree: Tree,
    pub(crate) line: usize,
}

const OPTIONS: ReadOptions =
    ReadOptions { limits: Limits::REPOSITORY, repeated_keys: true, first_document_only: true };

/// All documents that are not empty.
pub(crate) fn parse_documents(bytes: &[u8]) -> Result<Vec<Parsed>, ParseError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ParseError::Utf8)?;
    let replaced;
    let text = if text.contains("\r\n") {
        replaced = text.replace("\r\n", "\n");
        &replaced
    } else {
        text
    };
    let mut documents = Vec::new();
    for (part, lines_before) in split_documents(text)? {
        let read = dodai_yaml::parse_with(part, &OPTIONS)
            .map_err(|error| ParseError::Yaml { error, lines_before })?;
        let Some(document) = read.first() else { continue };
        let line = lines_before + document.start().line;
        let tree = from_document(document).map_err(|message| ParseError::Other { message, line })?;
        if !tree.is_null(tree.root()) {
            documents.push(Parsed { tree, line });
        }
    }
    Ok(documents)
}

/// One document that need not be an object, such as a text inside of a field.
pub(crate) fn parse_one(text: &str) -> Result<Option<Tree>, ParseError> {
    let read = dodai_yaml::parse_with(text, &OPTIONS)
        .map_err(|error| ParseError::Yaml { error, lines_before: 0 })?;
    let Some(document) = read.first() else { return Ok(None) };
    from_document(document).map(Some).map_err(|message| ParseError::Other { message, line: 1 })
}

/// Parts between lines that begin with `---`, each with the number of lines before it.
fn split_documents(text: &str) -> Result<Vec<(&str, usize)>, ParseError> {
    let mut parts = Vec::new();
    let (mut start, mut search, mut lines, mut counted) = (0, 0, 0, 0);
    while let Some(found) = text[search..].find("\n---") {
        let at = search + found;
        let Some(length) = text[at + 1..].find('\n') else { break };
        let end = at + 1 + length + 1;
        let rest = text[at + 4..end].trim();
        if !rest.is_empty() && !rest.starts_with('#') {
            let line = text[..at].matches('\n').count() + 2;
            return Err(ParseError::Separator { line });
        }
        // The line feed before the separator belongs to the part.
        parts.push((&text[start..=at], lines));
        lines += text[counted..end].matches('\n').count();
        counted = end;
        start = end;
        // The line feed that ends a separator does not begin the next one.
        search = end;
    }
    parts.push((&text[start..], lines));
    Ok(parts)
}

fn from_document(document: &Document) -> Result<Tree, &'static str> {
    let mut reader = Reader { document, tree: Tree::with_capacity(64), keys: HashMap::new() };
    let root = reader.node(document.root_id())?;
    reader.tree.set_root(root);
    Ok(reader.tree)
}

struct Reader<'d> {
    document: &'d Document,
    tree: Tree,
    /// Texts of keys, which repeat.
    keys: HashMap<&'d str, Arc<str>>,
}

impl<'d> Reader<'d> {
    fn node(&mut self, id: dodai_yaml::NodeId) -> Result<NodeId, &'static str> {
        let document = self.document;
        let id = document.follow(id);
        let source = document.node(id);
        let node = match &source.kind {
            NodeKind::Scalar { .. } => self.scalar(source, false),
            NodeKind::Sequence { items, style } => {
                let mut content = Vec::with_capacity(items.len());
                for item in items {
                    content.push(self.node(*item)?);
                }
                Node {
                    tag: collection_tag(source.tag.as_deref(), Tag::List),
                    style: collection_style(*style),
                    content,
                    ..Node::empty(Kind::List)
                }
            }
            NodeKind::Mapping { entries, style } => return self.map(source, entries, *style),
            NodeKind::Alias { .. } => unreachable!("an alias is never the target of an alias"),
        };
        Ok(self.tree.add(node))
    }

    fn map(
        &mut self,
        source: &'d dodai_yaml::Node,
        entries: &'d [(dodai_yaml::NodeId, dodai_yaml::NodeId)],
        style: StructureStyle,
    ) -> Result<NodeId, &'static str> {
        let document = self.document;
        let mut content = Vec::with_capacity(2 * entries.len());
        let mut merged = None;
        for (key, value) in entries {
            let key_source = document.node(document.follow(*key));
            let key = match &key_source.kind {
                NodeKind::Scalar { .. } => {
                    let key = self.scalar(key_source, true);
                    if key.tag == Tag::Merge {
                        if merged.replace(*value).is_some() {
                            return Err("a map has two merge keys (`<<`)");
                        }
                        continue;
                    }
                    self.tree.add(key)
                }
                _ => self.node(*key)?,
            };
            content.extend([key, self.node(*value)?]);
        }
        if let Some(value) = merged {
            self.merge(value, &mut content)?;
        }
        let tag = collection_tag(source.tag.as_deref(), Tag::Map);
        Ok(self.tree.add(Node { tag, style: collection_style(style), content, ..Node::empty(Kind::Map) }))
    }

    /// Adds the entries of merged maps: later ones win, the map's own entries win over all.
    fn merge(&mut self, value: dodai_yaml::NodeId, content: &mut Vec<NodeId>) -> Result<(), &'static str> {
        let own = content.len();
        for source in self.merge_sources(value)? {
            let map = self.node(source)?;
            for at in (0..self.tree.get(map).content.len()).step_by(2) {
                let (key, value) = (self.tree.get(map).content[at], self.tree.get(map).content[at + 1]);
                let name = Arc::clone(self.tree.value(key));
                let found = (0..content.len()).step_by(2).find(|at| *self.tree.value(content[*at]) == name);
                match found {
                    Some(at) if at < own => {}
                    Some(at) => content[at + 1] = value,
                    None => content.extend([key, value]),
                }
            }
        }
        Ok(())
    }

    fn merge_sources(&self, value: dodai_yaml::NodeId) -> Result<Vec<dodai_yaml::NodeId>, &'static str> {
        const WRONG: &str = "`<<` needs a map, or a list of maps";
        let document = self.document;
        let followed = document.follow(value);
        match &document.node(followed).kind {
            NodeKind::Mapping { .. } => Ok(vec![followed]),
            NodeKind::Sequence { items, .. } if followed == value => {
                let maps: Vec<_> = items.iter().rev().map(|item| document.follow(*item)).collect();
                let fits = maps.iter().all(|id| matches!(document.node(*id).kind, NodeKind::Mapping { .. }));
                if fits { Ok(maps) } else { Err(WRONG) }
            }
            _ => Err(WRONG),
        }
    }

    fn scalar(&mut self, source: &'d dodai_yaml::Node, is_key: bool) -> Node {
        let NodeKind::Scalar { text, style } = &source.kind else { unreachable!("only called for scalars") };
        let (tag, tagged) = match source.tag.as_deref() {
            Some(tag) if tag != "!" => (Tag::from_short(short_tag(tag)), true),
            _ if *style != ScalarStyle::Plain => (Tag::Str, false),
            _ if &**text == "<<" => (Tag::Merge, false),
            _ => (Tag::from_short(resolve_plain(text).tag()), false),
        };
        let value = if is_key {
            Arc::clone(self.keys.entry(text).or_insert_with(|| Arc::from(&**text)))
        } else {
            Arc::from(&**text)
        };
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted => Style::Single,
            ScalarStyle::DoubleQuoted => Style::Double,
            ScalarStyle::Literal => Style::Literal,
            ScalarStyle::Folded => Style::Folded,
        };
        Node { tag, style, tagged, ..Node::scalar(value) }
    }
}

fn collection_style(style: StructureStyle) -> Style {
    match style {
        StructureStyle::Block => Style::Plain,
        StructureStyle::Flow => Style::Flow,
    }
}

fn short_tag(tag: &str) -> &str {
    tag.strip_prefix("tag:yaml.org,2002:").or_else(|| tag.strip_prefix("!!")).unwrap_or(tag)
}

fn collection_tag(tag: Option<&str>, default: Tag) -> Tag {
    match tag {
        Some(tag) if tag != "!" => Tag::from_short(short_tag(tag)),
        _ => default,
    }
}
