//! Documents -> objects: lists are taken apart, what is no object is refused.

use std::sync::Arc;

use serde_json::Value;

use super::json;
use super::node::{NodeId, Tree};
use super::resource::{Resource, Source};

/// A document that is no object.
pub(crate) struct Refused {
    pub(crate) message: String,
    pub(crate) line: usize,
}

/// The objects of the documents of one text, with their lines.
pub(crate) fn from_trees(
    mut documents: Vec<(Tree, usize)>,
    file: Option<&Arc<str>>,
) -> Result<Vec<Resource>, Refused> {
    if let [(tree, line)] = &documents[..]
        && let Some(items) = unwrapped_items(tree)
    {
        let line = *line;
        documents = items.into_iter().map(|item| (part(tree, item), line)).collect();
    }
    let mut waiting: std::collections::VecDeque<(Tree, usize)> = std::collections::VecDeque::new();
    for (tree, line) in documents {
        if check(&tree, line)? {
            waiting.push_back((tree, line));
        }
    }
    let mut objects = Vec::new();
    while let Some((tree, line)) = waiting.pop_front() {
        match list_items(&tree, line)? {
            None => {
                let source = file.map(|file| Source { file: Arc::clone(file), line });
                objects.push(Resource::new(tree, source));
            }
            // The items of a list are read after everything that stands before them in the text.
            Some(items) => {
                for item in items {
                    let tree = json::from_json(&item);
                    if check(&tree, line)? {
                        waiting.push_back((tree, line));
                    }
                }
            }
        }
    }
    Ok(objects)
}

/// The items of a `List` that stands alone in its text; they stay as they are written.
fn unwrapped_items(tree: &Tree) -> Option<Vec<NodeId>> {
    let root = tree.root();
    let kind = tree.field(root, "kind").map(|kind| tree.value(kind))?;
    if !matches!(&**kind, "List" | "ResourceList") {
        return None;
    }
    let items = tree.field(root, "items");
    if items.is_none() && tree.field(root, "functionConfig").is_none() {
        return None;
    }
    Some(items.map(|items| tree.get(items).content.clone()).unwrap_or_default())
}

fn part(tree: &Tree, id: NodeId) -> Tree {
    let mut part = Tree::with_capacity(64);
    let root = part.graft(tree, id);
    part.set_root(root);
    part
}

/// Whether the document is an object; an empty one is skipped.
fn check(tree: &Tree, line: usize) -> Result<bool, Refused> {
    if tree.is_nil_or_empty() {
        return Ok(false);
    }
    let root = tree.root();
    let text = |parent: NodeId, name: &str| {
        let field = tree.field(parent, name)?;
        (!tree.get(field).is_nil_or_empty()).then(|| tree.value(field))
    };
    let refused = |message: &str| Refused { message: message.to_owned(), line };
    let kind = text(root, "kind").filter(|kind| !kind.is_empty());
    let Some(kind) = kind else { return Err(refused("missing `kind`: this is no Kubernetes object")) };
    if kind.ends_with("List") {
        return Ok(true);
    }
    let metadata = tree.field(root, "metadata").filter(|metadata| !tree.get(*metadata).is_nil_or_empty());
    let name = metadata.and_then(|metadata| text(metadata, "name")).filter(|name| !name.is_empty());
    match name {
        Some(_) => Ok(true),
        None => {
            Err(Refused { message: format!("missing `metadata.name` in an object of kind `{kind}`"), line })
        }
    }
}

/// The items if the object is a list of a kind.
fn list_items(tree: &Tree, line: usize) -> Result<Option<Vec<Value>>, Refused> {
    let kind = tree.field(tree.root(), "kind").map(|kind| tree.value(kind));
    let Some(kind) = kind.filter(|kind| kind.ends_with("List")) else { return Ok(None) };
    let Some(items) = tree.field(tree.root(), "items") else { return Ok(None) };
    let refused = |message: String| Refused { message, line };
    let value =
        json::to_json(tree).map_err(|error| refused(format!("cannot take the `{kind}` apart: {error}")))?;
    match value.get("items") {
        Some(Value::Array(list)) => Ok(Some(list.clone())),
        Some(Value::Null) => Ok(Some(Vec::new())),
        _ => {
            Err(refused(format!("`items` of a `{kind}` must be a list, found a {}", tree.kind(items).name())))
        }
    }
}
