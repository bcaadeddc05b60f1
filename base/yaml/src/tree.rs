//! The tree of a document: nodes with their bytes, styles, tags and anchors, before any dialect gives them meaning.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::error::Error;
use crate::kubernetes;
use crate::source::{Position, Source};

/// The number of a node in its [`Document`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarStyle {
    /// Without quotes: the only style whose type depends on the text. An absent value is an empty plain scalar.
    Plain,
    SingleQuoted,
    DoubleQuoted,
    /// `|`
    Literal,
    /// `>`
    Folded,
}

/// How a list or a map is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StructureStyle {
    /// By indentation.
    Block,
    /// `[a, b]`, `{a: b}`
    Flow,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Text after escapes and folding.
    Scalar {
        text: Box<str>,
        style: ScalarStyle,
    },
    Sequence {
        items: Vec<NodeId>,
        style: StructureStyle,
    },
    /// Keys and values in the order of the text; a key may be any node.
    Mapping {
        entries: Vec<(NodeId, NodeId)>,
        style: StructureStyle,
    },
    /// `*name`; the target stands before it in the document and is never an alias itself.
    Alias {
        target: NodeId,
    },
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The whole tag (`tag:yaml.org,2002:int`, `!local`, `!`), if one is written.
    pub tag: Option<Box<str>>,
    /// Whether an anchor (`&name`) is written.
    pub anchored: bool,
    start: u32,
    end: u32,
}

impl Node {
    pub(crate) fn new(kind: NodeKind, tag: Option<Box<str>>, anchored: bool, range: Range<usize>) -> Node {
        // A text is at most TEXT_BYTES_MAX long, so offsets fit.
        Node { kind, tag, anchored, start: range.start as u32, end: range.end as u32 }
    }

    /// The bytes of the value, without tag and anchor. Quotes, and the `|` of a block scalar, are part of it; an
    /// absent value has an empty range. A block scalar ends with the blank lines behind it.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(crate) fn set_end(&mut self, end: usize) {
        self.end = end as u32;
    }

    /// `map`, `list`, `scalar` or `alias`, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            NodeKind::Scalar { .. } => "scalar",
            NodeKind::Sequence { .. } => "list",
            NodeKind::Mapping { .. } => "map",
            NodeKind::Alias { .. } => "alias",
        }
    }
}

/// One document of a text.
#[derive(Clone, Debug)]
pub struct Document {
    pub(crate) source: Arc<Source>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: NodeId,
    /// Its number among the documents that [`crate::parse`] returned.
    pub(crate) index: usize,
    /// Whether repeated keys are taken.
    pub(crate) repeated_keys: bool,
}

impl Document {
    /// The value in the Kubernetes dialect; see [`kubernetes`].
    ///
    /// # Errors
    /// Keys that become the same text, values without a form in JSON, tags that do not fit.
    pub fn to_json(&self) -> Result<Value, Error> {
        kubernetes::to_json(self)
    }

    /// The top node.
    pub fn root(&self) -> &Node {
        self.node(self.root)
    }

    /// The number of the top node.
    pub fn root_id(&self) -> NodeId {
        self.root
    }

    /// A node of this document.
    ///
    /// # Panics
    /// If the number belongs to another document that is larger.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The node itself, or what the alias stands for.
    pub fn follow(&self, id: NodeId) -> NodeId {
        match self.node(id).kind {
            NodeKind::Alias { target } => target,
            _ => id,
        }
    }

    /// The whole text the document was read from; ranges count in it.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// Where the document's first node begins.
    pub fn start(&self) -> Position {
        self.position_at(self.root().range().start)
    }

    /// The position of a byte offset in [`Document::text`].
    pub fn position_at(&self, offset: usize) -> Position {
        self.source.position(offset)
    }

    /// Position and marked length of a node: the part on its first line.
    pub(crate) fn mark(&self, id: NodeId) -> (Position, usize) {
        let range = self.node(id).range();
        let text = &self.text()[range.clone()];
        let first_line = text.lines().next().unwrap_or("");
        (self.position_at(range.start), first_line.chars().count().max(1))
    }
}
