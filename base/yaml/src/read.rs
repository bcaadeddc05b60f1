//! Events of `granit-parser` -> trees, with every bound of [`limits`] checked while reading.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{self as granit, Event, Parser, Span, Tag};

use crate::error::{Error, ErrorKind};
use crate::limits::{self, ReadOptions};
use crate::path::push_key;
use crate::source::Source;
use crate::tree::{Document, Node, NodeId, NodeKind, ScalarStyle, StructureStyle};

/// Reads all documents of a text. Empty ones (nothing, or only comments, between two `---`) are left out.
///
/// # Errors
/// Syntax errors, duplicate keys in one map, and texts beyond [`limits`]; each with its position.
pub fn parse(text: &str) -> Result<Vec<Document>, Error> {
    parse_with(text, &ReadOptions::KUBERNETES)
}

/// Reads all documents of a text with other bounds and rules than [`parse`].
///
/// # Errors
/// As [`parse`], as far as the options do not allow it.
pub fn parse_with(text: &str, options: &ReadOptions) -> Result<Vec<Document>, Error> {
    let max = options.limits.text_bytes;
    if text.len() > max {
        return Err(Error::new(ErrorKind::TooLarge { bytes: text.len(), max }));
    }
    let source = Arc::new(Source::new(text));
    refuse_control_characters(&source)?;
    let mut reader = Reader::new(source, *options);
    for event in Parser::new_from_str_with_options(text, parser_options()) {
        match event {
            Ok((event, span)) => reader.event(event, &span)?,
            Err(error) => return Err(reader.syntax_error(&error)),
        }
        if options.first_document_only && reader.n_ended > 0 {
            break;
        }
    }
    Ok(reader.documents)
}

fn parser_options() -> granit::Options {
    let mut options = granit::options! {
        // As libyaml does, on which the library of Kubernetes is built.
        block_scalar_eof_without_line_feed: true,
    };
    options.set_emit_comments(false);
    options
}

/// The characters libyaml refuses in a text.
fn refuse_control_characters(source: &Source) -> Result<(), Error> {
    for (offset, character) in source.text.char_indices() {
        let allowed = match character {
            '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' => true,
            '\u{0}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => false,
            _ => true,
        };
        if !allowed {
            let kind = ErrorKind::ControlCharacter { character: u32::from(character) };
            return Err(Error::new(kind).at(source.position(offset), 1));
        }
    }
    Ok(())
}

/// What a node stands for with its aliases followed.
#[derive(Clone, Copy, Default)]
struct Weight {
    /// See [`limits::EXPANSION_BYTES_MAX`].
    cost: u64,
    /// Collections inside each other, itself counted; 0 for a scalar.
    height: usize,
}

/// A collection whose end has not come yet.
struct Frame {
    id: NodeId,
    weight: Weight,
    /// A key that waits for its value.
    key: Option<NodeId>,
}

struct Reader {
    options: ReadOptions,
    /// Documents that ended, empty ones included.
    n_ended: usize,
    source: Arc<Source>,
    documents: Vec<Document>,
    nodes_total: usize,
    previous_end: usize,
    nodes: Vec<Node>,
    weights: Vec<Weight>,
    frames: Vec<Frame>,
    root: Option<NodeId>,
    anchors: HashMap<usize, NodeId>,
    n_aliases: usize,
    expansion: u64,
}

impl Reader {
    fn new(source: Arc<Source>, options: ReadOptions) -> Reader {
        Reader {
            options,
            n_ended: 0,
            source,
            documents: Vec::new(),
            nodes_total: 0,
            previous_end: 0,
            nodes: Vec::new(),
            weights: Vec::new(),
            frames: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            n_aliases: 0,
            expansion: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Error> {
        let range = span.byte_range().expect("a parser over a string knows byte offsets");
        match event {
            Event::DocumentStart(..) => self.start_document(),
            Event::DocumentEnd => self.end_document()?,
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), range.clone())?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                let kind = NodeKind::Sequence { items: Vec::new(), style: structure_style(style) };
                self.open(kind, anchor, tag.as_deref(), range.clone())?;
            }
            Event::MappingStart(style, anchor, tag) => {
                let kind = NodeKind::Mapping { entries: Vec::new(), style: structure_style(style) };
                self.open(kind, anchor, tag.as_deref(), range.clone())?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range.clone())?,
            Event::Alias(anchor) => self.alias(anchor, range.clone())?,
            Event::StreamStart | Event::StreamEnd => {}
            _ => {
                let message = "the parser reported something this reader does not know".to_owned();
                return Err(self.error(ErrorKind::Syntax { message }, range.start));
            }
        }
        self.previous_end = self.previous_end.max(range.end);
        Ok(())
    }

    fn start_document(&mut self) {
        self.nodes.clear();
        self.weights.clear();
        self.frames.clear();
        self.root = None;
        self.anchors.clear();
        self.n_aliases = 0;
        self.expansion = 0;
    }

    fn end_document(&mut self) -> Result<(), Error> {
        self.n_ended += 1;
        let Some(root) = self.root.take() else { return Ok(()) };
        let node = &self.nodes[root.index()];
        let nothing = node.range().is_empty() && node.tag.is_none() && !node.anchored;
        if nothing && matches!(node.kind, NodeKind::Scalar { .. }) {
            return Ok(());
        }
        let max = self.options.limits.documents;
        if self.documents.len() >= max {
            return Err(self.error(ErrorKind::TooManyDocuments { max }, node.range().start));
        }
        self.documents.push(Document {
            source: Arc::clone(&self.source),
            repeated_keys: self.options.repeated_keys,
            nodes: std::mem::take(&mut self.nodes),
            root,
            index: self.documents.len(),
        });
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: granit::ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        range: Range<usize>,
    ) -> Result<(), Error> {
        let style = scalar_style(style);
        let (text, range) = match style {
            // An absent value is reported as `~`.
            ScalarStyle::Plain if range.is_empty() => ("", self.absent_value(range)?),
            ScalarStyle::Literal | ScalarStyle::Folded => {
                let from = self.previous_end.min(range.start);
                let header = block_header(&self.source.text[from..range.start]).map(|at| from + at);
                (text, header.unwrap_or(range.start)..range.end)
            }
            _ => (text, range),
        };
        let weight = Weight { cost: limits::NODE_COST_BYTES + text.len() as u64, height: 0 };
        let id = self.add(NodeKind::Scalar { text: text.into(), style }, anchor, tag, range, weight)?;
        self.attach(id);
        Ok(())
    }

    /// The place of an absent value: the parser reports it before the `:`, it belongs behind it.
    fn absent_value(&self, range: Range<usize>) -> Result<Range<usize>, Error> {
        let Some(Frame { id, key: Some(key), .. }) = self.frames.last() else { return Ok(range) };
        let rest = &self.source.text[range.start..];
        let Some(after) = rest.trim_start().strip_prefix(':') else { return Ok(range) };
        let is_flow =
            matches!(self.nodes[id.index()].kind, NodeKind::Mapping { style: StructureStyle::Flow, .. });
        let is_plain_key =
            matches!(self.nodes[key.index()].kind, NodeKind::Scalar { style: ScalarStyle::Plain, .. });
        let offset = self.source.text.len() - after.len();
        // libyaml reads `{a:}` as the key `a:`, YAML 1.2 as `a` without a value.
        if is_flow && is_plain_key && after.starts_with([',', ']', '}', '[', '{']) {
            return Err(self.error(ErrorKind::AmbiguousColon, offset - 1));
        }
        Ok(offset..offset)
    }

    /// The parser takes a tab before a block collection in some places; libyaml never does.
    fn refuse_tab_before(&self, kind: &NodeKind, offset: usize) -> Result<(), Error> {
        let is_block = matches!(
            kind,
            NodeKind::Sequence { style: StructureStyle::Block, .. }
                | NodeKind::Mapping { style: StructureStyle::Block, .. }
        );
        // Not for flow collections: a line may hold a million of them, and each look back is as long as the line.
        if !is_block {
            return Ok(());
        }
        let before = &self.source.text[..offset];
        let line_start = before.rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let indentation = &before[line_start..];
        if indentation.contains('\t') && indentation.trim_matches([' ', '\t', '-', '?']).is_empty() {
            let tab = line_start + indentation.find('\t').unwrap_or(0);
            return Err(self.error(ErrorKind::TabInIndentation, tab));
        }
        Ok(())
    }

    fn open(
        &mut self,
        kind: NodeKind,
        anchor: usize,
        tag: Option<&Tag>,
        range: Range<usize>,
    ) -> Result<(), Error> {
        let max = self.options.limits.depth;
        if self.frames.len() >= max {
            return Err(self.error(ErrorKind::TooDeep { max }, range.start));
        }
        self.refuse_tab_before(&kind, range.start)?;
        let weight = Weight { cost: limits::NODE_COST_BYTES, height: 1 };
        let id = self.add(kind, anchor, tag, range, Weight::default())?;
        self.frames.push(Frame { id, weight, key: None });
        Ok(())
    }

    fn close(&mut self, range: Range<usize>) -> Result<(), Error> {
        let frame = self.frames.pop().expect("the parser closes what it opened");
        self.weights[frame.id.index()] = frame.weight;
        self.set_range(frame.id, range);
        self.refuse_duplicate_keys(frame.id)?;
        self.attach(frame.id);
        Ok(())
    }

    fn alias(&mut self, anchor: usize, range: Range<usize>) -> Result<(), Error> {
        let Some(target) = self.anchors.get(&anchor).copied() else {
            let message = "the alias has no anchor before it".to_owned();
            return Err(self.error(ErrorKind::Syntax { message }, range.start));
        };
        if self.frames.iter().any(|frame| frame.id == target) {
            return Err(self.error(ErrorKind::AliasInItself, range.start));
        }
        let bounds = self.options.limits;
        self.n_aliases += 1;
        if self.n_aliases > bounds.aliases {
            return Err(self.error(ErrorKind::TooManyAliases { max: bounds.aliases }, range.start));
        }
        let weight = self.weights[target.index()];
        if self.frames.len() + weight.height > bounds.depth {
            return Err(self.error(ErrorKind::TooDeep { max: bounds.depth }, range.start));
        }
        self.expansion = self.expansion.saturating_add(weight.cost);
        if self.expansion > bounds.expansion_bytes {
            let kind = ErrorKind::ExpansionTooLarge { max: bounds.expansion_bytes };
            return Err(self.error(kind, range.start));
        }
        let id = self.add(NodeKind::Alias { target }, 0, None, range, weight)?;
        self.attach(id);
        Ok(())
    }

    fn add(
        &mut self,
        kind: NodeKind,
        anchor: usize,
        tag: Option<&Tag>,
        range: Range<usize>,
        weight: Weight,
    ) -> Result<NodeId, Error> {
        self.nodes_total += 1;
        let max = self.options.limits.nodes;
        if self.nodes_total > max {
            return Err(self.error(ErrorKind::TooManyNodes { max }, range.start));
        }
        let id = NodeId(self.nodes.len() as u32);
        let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()).into_boxed_str());
        self.nodes.push(Node::new(kind, tag, anchor != 0, range));
        self.weights.push(weight);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        Ok(id)
    }

    /// Gives a finished node to the collection it stands in.
    fn attach(&mut self, id: NodeId) {
        let weight = self.weights[id.index()];
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(id);
            return;
        };
        frame.weight.cost = frame.weight.cost.saturating_add(weight.cost);
        frame.weight.height = frame.weight.height.max(weight.height + 1);
        match &mut self.nodes[frame.id.index()].kind {
            NodeKind::Sequence { items, .. } => items.push(id),
            NodeKind::Mapping { entries, .. } => match frame.key.take() {
                Some(key) => entries.push((key, id)),
                None => frame.key = Some(id),
            },
            NodeKind::Scalar { .. } | NodeKind::Alias { .. } => unreachable!("frames hold collections"),
        }
    }

    /// A flow collection ends at its bracket, a block collection with its last child.
    fn set_range(&mut self, id: NodeId, end: Range<usize>) {
        let node = &self.nodes[id.index()];
        let (style, last) = match &node.kind {
            NodeKind::Sequence { items, style } => (*style, items.last().copied()),
            NodeKind::Mapping { entries, style } => (*style, entries.last().map(|entry| entry.1)),
            _ => return,
        };
        let start = node.range().start;
        let end = match (style, last) {
            (StructureStyle::Block, Some(last)) => self.nodes[last.index()].range().end,
            (StructureStyle::Block, None) => start,
            // The single pair `[a: b]` is a flow map without brackets.
            (StructureStyle::Flow, Some(last)) if end.is_empty() => self.nodes[last.index()].range().end,
            (StructureStyle::Flow, _) => end.end,
        };
        self.nodes[id.index()].set_end(end.max(start));
    }

    fn refuse_duplicate_keys(&self, id: NodeId) -> Result<(), Error> {
        if self.options.repeated_keys {
            return Ok(());
        }
        let NodeKind::Mapping { entries, .. } = &self.nodes[id.index()].kind else { return Ok(()) };
        let mut seen: HashMap<&str, NodeId> = HashMap::with_capacity(entries.len());
        for (key, _) in entries {
            let NodeKind::Scalar { text, style } = &self.nodes[key.index()].kind else { continue };
            // Merge keys may be repeated; whether `<<` is one is for the dialect to say.
            if &**text == "<<" && *style == ScalarStyle::Plain {
                continue;
            }
            if let Some(first) = seen.insert(text, *key) {
                let first_line = self.source.position(self.nodes[first.index()].range().start).line;
                let kind = ErrorKind::DuplicateKey { key: shorten(text).into_owned(), first_line };
                let range = self.nodes[key.index()].range();
                let len = self.source.text[range.clone()].chars().count();
                let error = Error::new(kind).at(self.source.position(range.start), len);
                return Err(error.in_path(self.path()));
            }
        }
        Ok(())
    }

    /// The path of the node that was just closed, from the frames around it.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.frames {
            match (&self.nodes[frame.id.index()].kind, frame.key) {
                (NodeKind::Sequence { items, .. }, _) => path.push_str(&format!("[{}]", items.len())),
                (_, Some(key)) => match &self.nodes[key.index()].kind {
                    NodeKind::Scalar { text, .. } => push_key(&mut path, text),
                    _ => path.push_str("[?]"),
                },
                _ => {}
            }
        }
        path
    }

    fn error(&self, kind: ErrorKind, offset: usize) -> Error {
        Error::new(kind).at(self.source.position(offset), 1)
    }

    fn syntax_error(&self, error: &granit::ScanError) -> Error {
        let offset = error.marker().byte_offset().unwrap_or(self.previous_end);
        let message = match error.kind() {
            granit::ErrorKind::UnknownAnchor => "the alias has no anchor before it".to_owned(),
            granit::ErrorKind::TabInBlockIndentation => {
                // The parser points behind the tab.
                let before = &self.source.text[..offset];
                let line = &before[before.rfind(['\n', '\r']).map_or(0, |at| at + 1)..];
                let back = line.find('\t').map_or(0, |at| line.len() - at);
                return self.error(ErrorKind::TabInIndentation, offset - back);
            }
            _ => error.info(),
        };
        self.error(ErrorKind::Syntax { message }, offset)
    }
}

/// A key as it is shown in a message.
pub(crate) fn shorten(key: &str) -> Cow<'_, str> {
    const KEY_CHARS_MAX: usize = 80;
    match key.char_indices().nth(KEY_CHARS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", &key[..end])),
        None => Cow::Borrowed(key),
    }
}

/// Finds the `|` or `>` of a block scalar in what stands between the token before it and its content: `:`, `-`,
/// an anchor, a tag, comments.
fn block_header(between: &str) -> Option<usize> {
    let mut offset = 0;
    for line in between.split_inclusive(['\n', '\r']) {
        let mut at = 0;
        for token in line.split_inclusive([' ', '\t', '\n', '\r']) {
            if token.starts_with('#') {
                break;
            }
            if token.starts_with(['|', '>']) {
                return Some(offset + at);
            }
            at += token.len();
        }
        offset += line.len();
    }
    None
}

fn scalar_style(style: granit::ScalarStyle) -> ScalarStyle {
    match style {
        granit::ScalarStyle::Plain => ScalarStyle::Plain,
        granit::ScalarStyle::SingleQuoted => ScalarStyle::SingleQuoted,
        granit::ScalarStyle::DoubleQuoted => ScalarStyle::DoubleQuoted,
        granit::ScalarStyle::Literal => ScalarStyle::Literal,
        granit::ScalarStyle::Folded => ScalarStyle::Folded,
    }
}

fn structure_style(style: granit::StructureStyle) -> StructureStyle {
    match style {
        granit::StructureStyle::Block => StructureStyle::Block,
        granit::StructureStyle::Flow => StructureStyle::Flow,
    }
}
