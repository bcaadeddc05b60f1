//! The tree on which kustomize works: YAML nodes in one arena, with the text, tag and style that they were read with.
//!
//! Texts stay as they are written until the end, since kustomize copies and compares texts, not values: `1.10` that is
//! moved into a name is `1.10`, and printed as a number it is `1.1`. A node may stand in more than one place: a label
//! that kustomize adds in several places is *one* node there, and a later change of one place changes them all. That is
//! visible in its output, so it is kept here.

use std::sync::Arc;

/// The number of a node in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar,
    Map,
    List,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Scalar => "scalar",
            Kind::Map => "map",
            Kind::List => "list",
        }
    }
}

/// What a node is said to be. `None`: the text decides when it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    None,
    Null,
    Bool,
    Int,
    Float,
    Str,
    Timestamp,
    Binary,
    Merge,
    Map,
    List,
    Other(Arc<str>),
}

impl Tag {
    /// From the form without `!!`.
    pub(crate) fn from_short(short: &str) -> Tag {
        match short {
            "null" => Tag::Null,
            "bool" => Tag::Bool,
            "int" => Tag::Int,
            "float" => Tag::Float,
            "str" => Tag::Str,
            "timestamp" => Tag::Timestamp,
            "binary" => Tag::Binary,
            "merge" => Tag::Merge,
            "map" => Tag::Map,
            "seq" => Tag::List,
            other => Tag::Other(other.into()),
        }
    }

    pub(crate) fn short(&self) -> &str {
        match self {
            Tag::None => "",
            Tag::Null => "null",
            Tag::Bool => "bool",
            Tag::Int => "int",
            Tag::Float => "float",
            Tag::Str => "str",
            Tag::Timestamp => "timestamp",
            Tag::Binary => "binary",
            Tag::Merge => "merge",
            Tag::Map => "map",
            Tag::List => "seq",
            Tag::Other(other) => other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Plain, or block.
    Plain,
    Single,
    Double,
    Literal,
    Folded,
    /// Of a map or list in brackets.
    Flow,
}

/// One node. The content of a map is its keys and values in turn.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) tag: Tag,
    pub(crate) style: Style,
    /// The tag is written in the text.
    pub(crate) tagged: bool,
    pub(crate) value: Arc<str>,
    pub(crate) content: Vec<NodeId>,
}

impl Node {
    /// A scalar whose text decides what it is.
    pub(crate) fn scalar(value: impl Into<Arc<str>>) -> Node {
        Node {
            kind: Kind::Scalar,
            tag: Tag::None,
            style: Style::Plain,
            tagged: false,
            value: value.into(),
            content: Vec::new(),
        }
    }

    /// Text.
    pub(crate) fn text(value: impl Into<Arc<str>>) -> Node {
        let value = value.into();
        let style = if value.contains('\n') { Style::Literal } else { Style::Plain };
        Node { tag: Tag::Str, style, ..Node::scalar(value) }
    }

    pub(crate) fn tagged_as(value: impl Into<Arc<str>>, tag: Tag) -> Node {
        Node { tag, ..Node::scalar(value) }
    }

    /// An empty node of a kind, without tag.
    pub(crate) fn empty(kind: Kind) -> Node {
        Node { kind, ..Node::scalar("") }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.tag == Tag::Null
    }

    /// A scalar that is text, or whose text decides.
    pub(crate) fn is_string(&self) -> bool {
        self.kind == Kind::Scalar && matches!(self.tag, Tag::Str | Tag::None)
    }

    /// Null, or an empty map or list.
    pub(crate) fn is_nil_or_empty(&self) -> bool {
        self.is_null() || (self.kind != Kind::Scalar && self.content.is_empty())
    }
}

/// A document.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    root: NodeId,
    /// The document was deleted.
    pub(crate) gone: bool,
}

/// A node of another kind than expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a {expected}, found a {found}")]
pub(crate) struct WrongKind {
    pub(crate) expected: &'static str,
    pub(crate) found: &'static str,
}

impl Tree {
    pub(crate) fn new(root: Node) -> Tree {
        Tree { nodes: vec![root], root: NodeId(0), gone: false }
    }

    pub(crate) fn with_capacity(n_nodes: usize) -> Tree {
        Tree { nodes: Vec::with_capacity(n_nodes), root: NodeId(0), gone: false }
    }

    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    pub(crate) fn set_root(&mut self, root: NodeId) {
        self.root = root;
    }

    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("a text has fewer than 4 billion nodes"));
        self.nodes.push(node);
        id
    }

    pub(crate) fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    pub(crate) fn value(&self, id: NodeId) -> &Arc<str> {
        &self.get(id).value
    }

    pub(crate) fn kind(&self, id: NodeId) -> Kind {
        self.get(id).kind
    }

    pub(crate) fn is_null(&self, id: NodeId) -> bool {
        self.get(id).is_null()
    }

    /// Whether there is nothing to print.
    pub(crate) fn is_nil_or_empty(&self) -> bool {
        self.gone || self.get(self.root).is_nil_or_empty()
    }

    /// Keys and values of a map; nothing for other nodes.
    pub(crate) fn entries(&self, map: NodeId) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        let node = self.get(map);
        let content = if node.kind == Kind::Map { &node.content[..] } else { &[] };
        content.chunks_exact(2).map(|pair| (pair[0], pair[1]))
    }

    /// The items of a list; nothing for other nodes.
    pub(crate) fn items(&self, list: NodeId) -> &[NodeId] {
        let node = self.get(list);
        if node.kind == Kind::List { &node.content } else { &[] }
    }

    /// The value of the first entry with this key.
    pub(crate) fn field(&self, map: NodeId, name: &str) -> Option<NodeId> {
        self.entry(map, name).map(|(_, value)| value)
    }

    pub(crate) fn entry(&self, map: NodeId, name: &str) -> Option<(NodeId, NodeId)> {
        self.entries(map).find(|(key, _)| &**self.value(*key) == name)
    }

    /// The value of a field, as kustomize looks it up: nothing below null.
    ///
    /// # Errors
    /// If the node is neither null nor a map.
    pub(crate) fn try_field(&self, map: NodeId, name: &str) -> Result<Option<NodeId>, WrongKind> {
        if self.is_null(map) {
            return Ok(None);
        }
        self.require(map, Kind::Map)?;
        Ok(self.field(map, name))
    }

    /// Null passes for every kind.
    pub(crate) fn require(&self, id: NodeId, expected: Kind) -> Result<(), WrongKind> {
        let node = self.get(id);
        if node.is_null() || node.kind == expected {
            return Ok(());
        }
        Err(WrongKind { expected: expected.name(), found: node.kind.name() })
    }

    /// Removes the first entry with this key and returns its value.
    pub(crate) fn clear_field(&mut self, map: NodeId, name: &str) -> Result<Option<NodeId>, WrongKind> {
        self.require(map, Kind::Map)?;
        let found = self.entries(map).position(|(key, _)| &**self.value(key) == name);
        Ok(found.map(|at| {
            let content = &mut self.get_mut(map).content;
            let removed = content[2 * at + 1];
            content.drain(2 * at..2 * at + 2);
            removed
        }))
    }

    pub(crate) fn push_entry(&mut self, map: NodeId, key: Node, value: NodeId) {
        let key = self.add(key);
        self.get_mut(map).content.extend([key, value]);
    }

    /// A copy of a part of another tree, in which every node stands in one place.
    pub(crate) fn graft(&mut self, other: &Tree, id: NodeId) -> NodeId {
        let source = other.get(id);
        let mut node = Node { content: Vec::with_capacity(source.content.len()), ..source.clone_leaf() };
        for child in &source.content {
            node.content.push(self.graft(other, *child));
        }
        self.add(node)
    }

    /// A copy in which every node stands in one place.
    pub(crate) fn deep_copy(&self) -> Tree {
        let mut copy = Tree::with_capacity(self.nodes.len());
        let root = copy.graft(self, self.root);
        copy.root = root;
        copy.gone = self.gone;
        copy
    }

    /// Puts `source` in the place of `target`: all places of `target` change.
    pub(crate) fn assign(&mut self, target: NodeId, source: NodeId) {
        let node = self.get(source).clone();
        *self.get_mut(target) = node;
    }
}

impl Node {
    fn clone_leaf(&self) -> Node {
        Node {
            kind: self.kind,
            tag: self.tag.clone(),
            style: self.style,
            tagged: self.tagged,
            value: Arc::clone(&self.value),
            content: Vec::new(),
        }
    }
}
