//! Paths into a tree: how kustomize splits them, looks them up and creates what is missing.

use regex::Regex;

use super::json::is_not_string_in_1_1;
use super::node::{Kind, Node, NodeId, Style, Tag, Tree, WrongKind};
use super::parse::parse_one;

/// Why a path cannot be followed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PathError {
    #[error(transparent)]
    Kind(#[from] WrongKind),
    #[error("the index {0} of a list cannot be negative")]
    NegativeIndex(i64),
    #[error("`*` can only be used in the `fieldPaths` of a target")]
    Wildcard,
    #[error("`{0}` must have the form `[field=value]`")]
    NoEquals(String),
    #[error("index {index} asked for, the list has {len} items")]
    Index { index: usize, len: usize },
    #[error("`{0}` is not a regular expression")]
    Regex(String),
    #[error("the text in the field is not YAML")]
    NotStructured,
    #[error("a field without a name cannot be set")]
    EmptyName,
}

/// Splits at a delimiter that no `\` precedes.
pub(crate) fn split(path: &str, delimiter: char) -> Vec<String> {
    if !path.contains('\\') {
        let inner = path.strip_prefix(delimiter).unwrap_or(path);
        return inner.split(delimiter).map(str::to_owned).collect();
    }
    let mut parts: Vec<&str> = path.split(delimiter).collect();
    if parts.len() > 1 && parts[0].is_empty() {
        parts.remove(0);
    }
    let mut result: Vec<String> = vec![parts[0].to_owned()];
    for part in &parts[1..] {
        let last = result.last_mut().expect("begins with one part");
        if last.ends_with('\\') {
            last.pop();
            last.push(delimiter);
            last.push_str(part);
        } else {
            result.push((*part).to_owned());
        }
    }
    result
}

/// Splits at dots that neither `\` precedes nor brackets enclose: `a.[name=x.y].b`.
pub(crate) fn split_smart(path: &str) -> Vec<String> {
    let mut parts = split(path, '.').into_iter();
    let mut result = Vec::new();
    while let Some(part) = parts.next() {
        if !part.starts_with('[') || part.ends_with(']') {
            result.push(part);
            continue;
        }
        let mut bracketed = part;
        for next in parts.by_ref() {
            bracketed.push('.');
            bracketed.push_str(&next);
            if next.ends_with(']') {
                break;
            }
        }
        if bracketed.contains('=') {
            result.push(bracketed);
        } else {
            result.push(bracketed.trim_matches(['[', ']']).to_owned());
        }
    }
    result
}

fn is_list_index(part: &str) -> bool {
    part.starts_with('[') && part.ends_with(']')
}

fn index_of(part: &str) -> Option<i64> {
    part.parse().ok()
}

fn is_index(part: &str) -> bool {
    index_of(part).is_some_and(|index| index >= 0)
}

/// `[name=value]` -> `name`, `value`.
fn split_index(part: &str) -> Result<(&str, &str), PathError> {
    let inner = part.strip_suffix(']').unwrap_or(part);
    let inner = inner.strip_prefix('[').unwrap_or(inner);
    inner.split_once('=').ok_or_else(|| PathError::NoEquals(part.to_owned()))
}

/// The kind that a node must have for the next part of a path.
fn kind_for(next: Option<&str>, last: Kind) -> Kind {
    match next {
        Some(next) if is_list_index(next) || is_index(next) => Kind::List,
        None | Some("") => last,
        Some(_) => Kind::Map,
    }
}

impl Tree {
    /// Follows a path of names and indices.
    pub(crate) fn lookup(&self, from: NodeId, path: &[impl AsRef<str>]) -> Result<Option<NodeId>, PathError> {
        let mut at = from;
        for part in path.iter().map(|part| part.as_ref().trim()).filter(|part| !part.is_empty()) {
            let next = match index_of(part) {
                Some(index) if index < 0 => return Err(PathError::NegativeIndex(index)),
                Some(index) => {
                    self.require(at, Kind::List)?;
                    self.items(at).get(index as usize).copied()
                }
                None if part == "-" => {
                    self.require(at, Kind::List)?;
                    self.items(at).last().copied()
                }
                None if part == "*" => return Err(PathError::Wildcard),
                None if is_list_index(part) => {
                    let (name, value) = split_index(part)?;
                    self.require(at, Kind::List)?;
                    self.element(at, &[name], &[value])
                }
                None => self.try_field(at, part)?,
            };
            match next {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Follows a path of names; what is missing is created, the last node as `kind`.
    pub(crate) fn lookup_create(
        &mut self,
        from: NodeId,
        path: &[&str],
        kind: Kind,
    ) -> Result<Option<NodeId>, PathError> {
        let mut at = from;
        for (i, part) in path.iter().enumerate() {
            if self.is_null(at) {
                return Ok(None);
            }
            if index_of(part).is_some() || *part == "-" || is_list_index(part) {
                match self.lookup(at, &[part])? {
                    Some(next) => at = next,
                    None => return Ok(None),
                }
                continue;
            }
            self.require(at, Kind::Map)?;
            at = match self.field(at, part) {
                Some(field) => field,
                None => {
                    let new = self.add(Node::empty(kind_for(path.get(i + 1).copied(), kind)));
                    self.push_entry(at, Node::scalar(*part), new);
                    new
                }
            };
        }
        Ok(Some(at))
    }

    /// The first map of a list whose fields have these texts; with an empty name, the scalar with the text.
    pub(crate) fn element(&self, list: NodeId, keys: &[&str], values: &[&str]) -> Option<NodeId> {
        let items = self.items(list);
        if keys.first().is_none_or(|key| key.is_empty()) {
            let wanted = values.first().copied().unwrap_or_default();
            return items.iter().copied().find(|item| &**self.value(*item) == wanted);
        }
        items.iter().copied().find(|item| {
            // Null passes the check of kinds there, and then has no fields.
            self.kind(*item) == Kind::Map
                && !self.is_null(*item)
                && keys.iter().zip(values).all(|(key, value)| {
                    self.field(*item, key).is_some_and(|field| &**self.value(field) == *value)
                })
        })
    }

    /// Sets a field of a map. An existing one keeps its style, and changes wherever the node stands. Null removes it
    /// unless `keep`.
    pub(crate) fn set_field(
        &mut self,
        map: NodeId,
        name: &str,
        value: Option<NodeId>,
        keep: bool,
        key_style: Style,
    ) -> Result<(), WrongKind> {
        let Some(value) = value.filter(|value| keep || !self.is_null(*value)) else {
            self.clear_field(map, name)?;
            return Ok(());
        };
        self.quote_if_needed(value);
        match self.try_field(map, name)? {
            Some(field) => {
                let (style, tagged) = (self.get(field).style, self.get(field).tagged);
                self.assign(field, value);
                let field = self.get_mut(field);
                (field.style, field.tagged) = (style, tagged);
                let value = self.get_mut(value);
                (value.style, value.tagged) = (style, tagged);
            }
            None => self.push_entry(map, Node { style: key_style, ..Node::scalar(name) }, value),
        }
        Ok(())
    }

    /// Sets a field to a new node.
    pub(crate) fn set_field_node(&mut self, map: NodeId, name: &str, value: Node) -> Result<(), WrongKind> {
        let value = self.add(value);
        self.set_field(map, name, Some(value), false, Style::Plain)
    }

    /// Text that readers of YAML 1.1 take for something else is quoted.
    fn quote_if_needed(&mut self, id: NodeId) {
        let node = self.get(id);
        if node.is_string() && node.style == Style::Plain && !node.tagged && is_not_string_in_1_1(&node.value)
        {
            self.get_mut(id).style = Style::Double;
        }
    }

    /// Gives a scalar another text and tag; it keeps its style.
    pub(crate) fn set_scalar(&mut self, target: NodeId, value: Node) -> Result<(), WrongKind> {
        self.require(target, Kind::Scalar)?;
        if value.is_null() {
            return Ok(());
        }
        let (style, tagged) = (self.get(target).style, self.get(target).tagged);
        *self.get_mut(target) = Node { style, tagged, ..value };
        Ok(())
    }
}

/// The nodes that a path with `*` and regular expressions names, and what is created on the way.
pub(crate) struct Matcher {
    /// Create what is missing; the last node as this kind.
    pub(crate) create: Option<Kind>,
}

/// Nodes found, and whether there is a list of them at all (there is a difference when creating).
type Found = Option<Vec<NodeId>>;

impl Matcher {
    pub(crate) fn find(
        &self,
        tree: &mut Tree,
        at: NodeId,
        path: &[String],
    ) -> Result<Vec<NodeId>, PathError> {
        Ok(self.walk(tree, at, path)?.unwrap_or_default())
    }

    fn walk(&self, tree: &mut Tree, at: NodeId, path: &[String]) -> Result<Found, PathError> {
        let Some((part, rest)) = path.split_first() else { return Ok(Some(vec![at])) };
        if is_index(part) {
            return self.index(tree, at, part, rest);
        }
        if is_list_index(part) {
            return self.sequence(tree, at, part, rest);
        }
        if part == "*" {
            tree.require(at, Kind::List)?;
            let mut found = None;
            for item in tree.items(at).to_vec() {
                append(&mut found, self.walk(tree, item, rest)?);
            }
            return Ok(found);
        }
        self.field(tree, at, part, rest)
    }

    fn field(&self, tree: &mut Tree, at: NodeId, part: &str, rest: &[String]) -> Result<Found, PathError> {
        let field = match (tree.try_field(at, part)?, self.create) {
            (Some(field), _) => field,
            (None, None) => return Ok(None),
            (None, Some(kind)) => {
                let new = tree.add(Node::empty(kind_for(rest.first().map(String::as_str), kind)));
                tree.set_field(at, part, Some(new), false, Style::Plain)?;
                new
            }
        };
        if tree.kind(field) == Kind::Scalar && !rest.is_empty() {
            // The text of the field is taken for YAML. What is found in it is no part of this tree; only whether
            // something is found counts.
            let inner = parse_one(tree.value(field)).map_err(|_| PathError::NotStructured)?;
            let Some(mut inner) = inner else { return Ok(None) };
            let root = inner.root();
            let found = self.walk(&mut inner, root, rest)?;
            return Ok(found.map(|nodes| nodes.into_iter().map(|node| tree.graft(&inner, node)).collect()));
        }
        self.walk(tree, field, rest)
    }

    fn index(&self, tree: &mut Tree, at: NodeId, part: &str, rest: &[String]) -> Result<Found, PathError> {
        let index = index_of(part).unwrap_or(0) as usize;
        tree.require(at, Kind::List)?;
        let len = tree.items(at).len();
        if index == len
            && let Some(kind) = self.create
        {
            let new = tree.add(Node::empty(kind_for(rest.first().map(String::as_str), kind)));
            tree.get_mut(at).content.push(new);
        }
        let Some(item) = tree.items(at).get(index).copied() else {
            return Err(PathError::Index { index, len });
        };
        self.walk(tree, item, rest)
    }

    fn sequence(&self, tree: &mut Tree, at: NodeId, part: &str, rest: &[String]) -> Result<Found, PathError> {
        let (name, pattern) = split_index(part)?;
        let regex = Regex::new(pattern).map_err(|_| PathError::Regex(pattern.to_owned()))?;
        tree.require(at, Kind::List)?;
        let found = self.matching(tree, at, name, &regex, rest)?.filter(|found| !found.is_empty());
        if found.is_some() || self.create.is_none() {
            return Ok(found);
        }
        let value = tree.add(Node::scalar(pattern));
        let new = if name.is_empty() {
            value
        } else {
            let map = tree.add(Node::empty(Kind::Map));
            tree.push_entry(map, Node::scalar(name), value);
            map
        };
        tree.get_mut(at).content.push(new);
        self.matching(tree, at, name, &regex, rest)
    }

    fn matching(
        &self,
        tree: &mut Tree,
        list: NodeId,
        name: &str,
        regex: &Regex,
        rest: &[String],
    ) -> Result<Found, PathError> {
        let mut found = None;
        for item in tree.items(list).to_vec() {
            if name.is_empty() {
                // What stands behind the brackets is not looked at.
                if regex.is_match(&shown(tree, item)) {
                    append(&mut found, Some(vec![item]));
                }
                continue;
            }
            let Some(field) = tree.field(item, name) else { continue };
            if regex.is_match(&shown(tree, field)) {
                append(&mut found, self.walk(tree, item, rest)?);
            }
        }
        Ok(found)
    }
}

fn append(found: &mut Found, more: Found) {
    if let Some(more) = more {
        found.get_or_insert_with(Vec::new).extend(more);
    }
}

/// A scalar as it is written in YAML, on which the regular expressions of paths are tried.
fn shown(tree: &Tree, id: NodeId) -> String {
    use dodai_yaml::kustomize::{can_be_plain, resolve_plain};
    let node = tree.get(id);
    let text = node.value.trim();
    match node.style {
        Style::Double => format!("\"{text}\""),
        Style::Single => format!("'{text}'"),
        Style::Plain if node.tag == Tag::Str && resolve_plain(text).tag() != "str" => format!("\"{text}\""),
        Style::Plain if node.kind == Kind::Scalar && !can_be_plain(text) => format!("'{text}'"),
        _ => text.to_owned(),
    }
}
