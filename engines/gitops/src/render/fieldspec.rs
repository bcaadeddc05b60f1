//! Doing something with the field that a [`FieldSpec`] names.

use super::config::FieldSpec;
use super::id::Gvk;
use super::node::{Kind, NodeId, Tag, Tree};
use super::path::PathError;

/// What is created where a field is missing or null.
#[derive(Clone)]
pub(crate) struct Create {
    pub(crate) kind: Kind,
    pub(crate) tag: Tag,
}

/// Calls `set` for every node at the path, if the object is of the kind. Missing parts are created if the rule says so
/// and `create` is given.
pub(crate) fn apply<E: From<PathError>>(
    tree: &mut Tree,
    spec: &FieldSpec,
    create: Option<&Create>,
    set: &mut dyn FnMut(&mut Tree, NodeId) -> Result<(), E>,
) -> Result<(), E> {
    if !fits_kind(tree, &spec.gvk) {
        return Ok(());
    }
    let create = create.filter(|_| spec.create);
    let root = tree.root();
    walk(tree, root, &spec.parts, create, set)
}

fn fits_kind(tree: &Tree, wanted: &Gvk) -> bool {
    let root = tree.root();
    let text = |name: &str| tree.field(root, name).map_or("", |field| tree.value(field));
    if !wanted.kind.is_empty() && *wanted.kind != *text("kind") {
        return false;
    }
    if wanted.group.is_empty() && wanted.version.is_empty() {
        return true;
    }
    let api_version = text("apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    (wanted.group.is_empty() || *wanted.group == *group)
        && (wanted.version.is_empty() || *wanted.version == *version)
}

fn walk<E: From<PathError>>(
    tree: &mut Tree,
    at: NodeId,
    path: &[String],
    create: Option<&Create>,
    set: &mut dyn FnMut(&mut Tree, NodeId) -> Result<(), E>,
) -> Result<(), E> {
    let Some((part, rest)) = path.split_first() else { return set(tree, at) };
    if tree.is_null(at) {
        return Ok(());
    }
    match tree.kind(at) {
        Kind::List => {
            for item in tree.items(at).to_vec() {
                walk(tree, item, path, create, set)?;
            }
            Ok(())
        }
        Kind::Map => {
            let (name, is_list) = match part.strip_suffix("[]") {
                Some(name) => (name, true),
                None => (part.as_str(), false),
            };
            if name.is_empty() {
                return Err(PathError::EmptyName.into());
            }
            let new = match create {
                Some(create) if !is_list => Some(if rest.is_empty() {
                    create.clone()
                } else {
                    Create { kind: Kind::Map, tag: Tag::Map }
                }),
                _ => None,
            };
            let field = match &new {
                Some(new) => tree.lookup_create(at, &[name], new.kind)?,
                None => tree.lookup(at, &[name])?,
            };
            let Some(field) = field else { return Ok(()) };
            // A null becomes what belongs there.
            let wanted = new.or_else(|| is_list.then_some(Create { kind: Kind::List, tag: Tag::None }));
            if let Some(wanted) = wanted.filter(|_| tree.is_null(field)) {
                let field = tree.get_mut(field);
                (field.kind, field.tag) = (wanted.kind, wanted.tag);
            }
            walk(tree, field, rest, create, set)
        }
        Kind::Scalar => {
            Err(PathError::Kind(super::node::WrongKind { expected: "map or list", found: "scalar" }).into())
        }
    }
}
