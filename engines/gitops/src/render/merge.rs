//! Strategic merge of a patch into an object, as kustomize does it.
//!
//! That is not what an API server does (`base/merge`): new items of lists stand before the old ones, `$patch` is the
//! only directive, other names that begin with `$` are fields like any other, and kinds that are not known are merged
//! with lists replaced.

use super::node::{Kind, Node, NodeId, Style, Tag, Tree, WrongKind};
use super::schema::{Shape, View};

const DIRECTIVE: &str = "$patch";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MergeError {
    #[error(transparent)]
    Kind(#[from] WrongKind),
    #[error("unknown `$patch` value; it can be `delete`, `replace` or `merge`")]
    Directive,
}

/// Merges a patch, which must be a copy, into a tree. The tree is `gone` if the patch deletes it.
pub(crate) fn merge(tree: &mut Tree, patch: &Tree, view: &View) -> Result<(), MergeError> {
    let source = tree.graft(patch, patch.root());
    let mut walker = Walker { tree, view };
    let root = walker.tree.root();
    // An object that `$patch: replace` would replace as a whole stays as it is there.
    tree.gone = walker.walk(Some(root), Some(source), None)?.node.is_none();
    Ok(())
}

/// What a walk gives: nothing, or a node; a null that was there before is kept.
struct Merged {
    node: Option<NodeId>,
    keep: bool,
}

impl From<Option<NodeId>> for Merged {
    fn from(node: Option<NodeId>) -> Merged {
        Merged { node, keep: false }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

struct Walker<'w> {
    tree: &'w mut Tree,
    view: &'w View,
}

/// Values of the keys of one item.
type Values = Vec<String>;

impl<'w> Walker<'w> {
    fn walk(
        &mut self,
        dest: Option<NodeId>,
        source: Option<NodeId>,
        schema: Option<&'w Shape>,
    ) -> Result<Merged, MergeError> {
        let schema = schema.or_else(|| self.schema_of_object(dest)).or_else(|| self.schema_of_object(source));
        let kind = [dest, source]
            .into_iter()
            .flatten()
            .find(|id| !self.tree.is_null(*id))
            .map(|id| self.tree.kind(id));
        if let Some(kind) = kind {
            for id in [dest, source].into_iter().flatten() {
                self.tree.require(id, kind)?;
            }
        }
        match kind {
            Some(Kind::Map) | None => self.map(dest, source, schema),
            Some(Kind::List) if schema.is_some_and(|schema| schema.merged) => self.list(dest, source, schema),
            Some(Kind::List | Kind::Scalar) => Ok(source.or(dest).into()),
        }
    }

    /// An object inside of an object brings its own schema.
    fn schema_of_object(&self, id: Option<NodeId>) -> Option<&'w Shape> {
        let id = id.filter(|id| !self.tree.is_null(*id))?;
        let text = |name: &str| {
            let field = self.tree.field(id, name)?;
            (!self.tree.get(field).is_nil_or_empty()).then(|| self.tree.value(field))
        };
        let (api_version, kind) = (text("apiVersion")?, text("kind")?);
        if api_version.is_empty() || kind.is_empty() {
            return None;
        }
        self.view.of_kind(api_version, kind)
    }

    fn map(
        &mut self,
        dest: Option<NodeId>,
        source: Option<NodeId>,
        schema: Option<&'w Shape>,
    ) -> Result<Merged, MergeError> {
        self.take_style(dest, source);
        let target = self.visit_map(dest, source)?;
        let Some(target_node) = target.node else { return Ok(target) };
        let mut names: Vec<std::sync::Arc<str>> = Vec::new();
        for id in [Some(target_node), source].into_iter().flatten() {
            names.extend(self.tree.entries(id).map(|(key, _)| std::sync::Arc::clone(self.tree.value(key))));
        }
        names.sort();
        names.dedup();
        for name in names {
            let below = schema.and_then(|schema| self.view.field(schema, &name));
            let old = self.tree.field(target_node, &name);
            let new = source.and_then(|source| self.tree.entry(source, &name));
            let merged = self.walk(old, new.map(|(_, value)| value), below)?;
            let key_style = match new {
                Some((key, value)) if merged.node == Some(value) => self.tree.get(key).style,
                _ => Style::Plain,
            };
            self.tree.set_field(target_node, &name, merged.node, merged.keep, key_style)?;
        }
        Ok(target)
    }

    /// An empty collection is written as the patch's.
    fn take_style(&mut self, dest: Option<NodeId>, source: Option<NodeId>) {
        if let (Some(dest), Some(source)) = (dest, source) {
            let style = self.tree.get(source).style;
            let dest = self.tree.get_mut(dest);
            if dest.kind != Kind::Scalar && dest.content.is_empty() {
                dest.style = style;
            }
        }
    }

    fn visit_map(&mut self, dest: Option<NodeId>, source: Option<NodeId>) -> Result<Merged, MergeError> {
        let present = dest.filter(|dest| !self.tree.is_null(*dest));
        let Some(present) = present else {
            if self.directive(source) == Ok(Directive::Delete) {
                return Ok(None.into());
            }
            if source.is_none()
                && let Some(dest) = dest
                && !self.tree.value(dest).is_empty()
            {
                let null = Node::tagged_as(std::sync::Arc::clone(self.tree.value(dest)), Tag::Null);
                return Ok(Merged { node: Some(self.tree.add(null)), keep: true });
            }
            return Ok(source.into());
        };
        if source.is_some_and(|source| self.tree.is_null(source)) {
            return Ok(None.into());
        }
        Ok(match self.directive(source)? {
            Directive::Delete => None,
            Directive::Replace => source,
            Directive::Merge => Some(present),
        }
        .into())
    }

    /// Reads the directive of a patch and takes it out.
    fn directive(&mut self, patch: Option<NodeId>) -> Result<Directive, MergeError> {
        let Some(patch) = patch else { return Ok(Directive::Merge) };
        let (found, map) = match self.tree.kind(patch) {
            Kind::Scalar => return Err(MergeError::Directive),
            Kind::Map => (self.tree.field(patch, DIRECTIVE), None),
            Kind::List => {
                let items = self.tree.items(patch);
                let with = items.iter().copied().find(|item| self.tree.field(*item, DIRECTIVE).is_some());
                // An item with more than the directive speaks of itself, not of the list.
                let alone = with.filter(|item| self.tree.get(*item).content.len() <= 2);
                (alone.and_then(|item| self.tree.field(item, DIRECTIVE)), alone)
            }
        };
        let Some(found) = found else { return Ok(Directive::Merge) };
        let text = std::sync::Arc::clone(self.tree.value(found));
        let directive = match &*text {
            "delete" => Directive::Delete,
            "replace" => Directive::Replace,
            "merge" => Directive::Merge,
            _ => return Err(MergeError::Directive),
        };
        match map {
            None => drop(self.tree.clear_field(patch, DIRECTIVE)?),
            Some(_) => self.set_element(patch, None, &[DIRECTIVE.to_owned()], &[text.to_string()])?,
        }
        Ok(directive)
    }

    fn list(
        &mut self,
        dest: Option<NodeId>,
        source: Option<NodeId>,
        schema: Option<&'w Shape>,
    ) -> Result<Merged, MergeError> {
        self.take_style(dest, source);
        let present = dest.filter(|dest| !self.tree.is_null(*dest));
        let target = match (present, source) {
            (None, source) => source,
            (Some(_), Some(source)) if self.tree.is_null(source) => None,
            (Some(present), source) => match self.directive(source)? {
                Directive::Delete => None,
                Directive::Replace => source,
                Directive::Merge => Some(present),
            },
        };
        let Some(target) = target else { return Ok(None.into()) };
        let keys = schema.map(|schema| schema.keys.clone()).unwrap_or_default();
        let elements = schema.and_then(|schema| self.view.elements(schema));
        // What the patch has stands first.
        let sources = [source, Some(target)];
        let merged = if keys.is_empty() {
            let mut values: Vec<Values> = Vec::new();
            for item in sources.iter().flatten().flat_map(|list| self.tree.items(*list)) {
                let value = vec![self.tree.value(*item).to_string()];
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            self.merge_items(values, &[String::new()], target, source, elements)?
        } else {
            let mut values: Vec<Values> = Vec::new();
            for item in sources.iter().flatten().flat_map(|list| self.tree.items(*list)) {
                let value: Values = keys.iter().map(|key| self.key_value(*item, key)).collect();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            self.merge_items(values, &keys, target, source, elements)?
        };
        Ok(merged.into())
    }

    /// The text of a field of an item; nothing if it is not there or empty.
    fn key_value(&self, item: NodeId, key: &str) -> String {
        match self.tree.field(item, key) {
            Some(field) if !self.tree.get(field).is_nil_or_empty() => self.tree.value(field).to_string(),
            _ => String::new(),
        }
    }

    fn merge_items(
        &mut self,
        mut all: Vec<Values>,
        keys: &[String],
        dest: NodeId,
        source: Option<NodeId>,
        elements: Option<&'w Shape>,
    ) -> Result<Option<NodeId>, MergeError> {
        let added = self.tree.add(Node::empty(Kind::List));
        if keys.len() > 1 {
            unify(&mut all);
        }
        let mut valid_keys = Vec::new();
        for values in &all {
            let (use_keys, use_values) = valid(&all, values, keys);
            valid_keys = use_keys;
            let old = self.find_element(Some(dest), &valid_keys, &use_values);
            let new = self.find_element(source, &valid_keys, &use_values);
            let merged = self.walk(old, new, elements)?.node;
            let merged = merged.filter(|node| {
                let node = self.tree.get(*node);
                !(node.is_null() || node.kind == Kind::Map && node.content.is_empty())
            });
            let Some(merged) = merged else {
                for _ in &valid_keys {
                    self.set_element(dest, None, &valid_keys, &use_values)?;
                }
                continue;
            };
            for (key, value) in valid_keys.iter().zip(&use_values) {
                if value.is_empty() || self.tree.field(merged, key).is_some() {
                    continue;
                }
                if key.is_empty() {
                    self.tree.set_scalar(merged, Node::scalar(value.as_str()))?;
                } else {
                    self.tree.set_field_node(merged, key, Node::scalar(value.as_str()))?;
                }
            }
            self.set_element(added, Some(merged), &valid_keys, &use_values)?;
        }
        if all.is_empty() {
            return Ok(Some(dest));
        }
        self.append_list(added, dest, &valid_keys)?;
        Ok(Some(added))
    }

    fn find_element(&self, list: Option<NodeId>, keys: &[String], values: &[String]) -> Option<NodeId> {
        let (keys, values) = valid(std::slice::from_ref(&values.to_vec()), values, keys);
        let list = list.filter(|list| self.tree.kind(*list) == Kind::List)?;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        if !keys[0].is_empty() && keys.len() != values.len() {
            return None;
        }
        self.tree.element(list, &keys, &values)
    }

    /// Puts an item in the place of those that have these values, or at the end; `None` removes them. Empty items go.
    fn set_element(
        &mut self,
        list: NodeId,
        element: Option<NodeId>,
        keys: &[String],
        values: &[String],
    ) -> Result<(), MergeError> {
        self.tree.require(list, Kind::List)?;
        let wants_map = keys.first().is_some_and(|key| !key.is_empty())
            && values.first().is_some_and(|value| !value.is_empty());
        let mut content = Vec::new();
        let mut found_one = false;
        for item in self.tree.items(list).to_vec() {
            let node = self.tree.get(item);
            if node.is_null() || (node.kind == Kind::Map && node.content.is_empty()) {
                continue;
            }
            if node.kind != Kind::Map && wants_map {
                content.push(item);
                continue;
            }
            if self.has_values(item, keys, values)? {
                found_one = true;
                content.extend(element);
            } else if !values.is_empty() {
                content.push(item);
            }
        }
        if let Some(element) = element.filter(|element| !found_one && !self.tree.is_null(*element)) {
            content.push(element);
        }
        self.tree.get_mut(list).content = content;
        Ok(())
    }

    fn has_values(&self, item: NodeId, keys: &[String], values: &[String]) -> Result<bool, MergeError> {
        let mut matched = false;
        for (i, key) in keys.iter().enumerate() {
            if let Some(value) = values.get(i) {
                matched = if key.is_empty() {
                    self.tree.require(item, Kind::Scalar)?;
                    **self.tree.value(item) == **value
                } else {
                    let field = self.tree.try_field(item, key)?;
                    // An empty value asks only whether the field is there.
                    field.is_some_and(|field| value.is_empty() || **self.tree.value(field) == **value)
                };
            }
            if !matched {
                return Ok(false);
            }
        }
        Ok(matched)
    }

    /// Adds the items of a list that are not there yet.
    fn append_list(&mut self, to: NodeId, from: NodeId, keys: &[String]) -> Result<(), MergeError> {
        for item in self.tree.items(from).to_vec() {
            if keys[0].is_empty() {
                let value = self.tree.value(item).to_string();
                self.set_element(to, Some(item), &[String::new()], &[value])?;
                continue;
            }
            let mut values = Vec::new();
            for key in keys {
                match self.tree.try_field(item, key)? {
                    Some(field) => values.push(self.tree.value(field).to_string()),
                    None => self.tree.get_mut(to).content.push(item),
                }
            }
            if keys.len() > 1 {
                self.set_element(to, None, keys, &values)?;
            }
            self.set_element(to, Some(item), keys, &values)?;
        }
        Ok(())
    }
}

/// Keys that at least one of the items has, and the values of one item for them.
fn valid(all: &[Values], values: &[String], keys: &[String]) -> (Vec<String>, Values) {
    let used = |at: usize| all.iter().any(|values| values.get(at).is_some_and(|value| !value.is_empty()));
    if !(0..keys.len()).any(used) {
        return (keys.to_vec(), values.to_vec());
    }
    let valid_keys =
        keys.iter().enumerate().filter(|(at, _)| used(*at)).map(|(_, key)| key.clone()).collect();
    let valid_values = values
        .iter()
        .enumerate()
        .filter(|(at, value)| !value.is_empty() || used(*at))
        .map(|(_, value)| value.clone());
    (valid_keys, valid_values.collect())
}

/// Items that agree in one key, and of which one lacks the other, are one item.
fn unify(all: &mut [Values]) {
    for i in 0..all.len() {
        let first = all[i].clone();
        for j in 0..all.len() {
            if let Some(united) = united(&first, &all[j]) {
                all[i] = united.clone();
                all[j] = united;
            }
        }
    }
}

fn united(a: &[String], b: &[String]) -> Option<Values> {
    if a.len() != b.len() {
        return None;
    }
    let mut common = false;
    let mut result = Vec::with_capacity(a.len());
    for (a, b) in a.iter().zip(b) {
        if a == b {
            common = true;
        } else if !a.is_empty() && !b.is_empty() {
            return None;
        }
        result.push(if a.is_empty() { b.clone() } else { a.clone() });
    }
    common.then_some(result)
}
