//! `replacements`: copies a value from one field into others.

use super::Transformer;
use super::fields::of_object;
use crate::render::error::Error;
use crate::render::id::{ResId, for_people};
use crate::render::json::{go_pretty, node_to_json};
use crate::render::kustomization::{FieldOptions, Replacement, ReplacementSource, ReplacementTarget};
use crate::render::node::{Kind, Node, NodeId, Tree};
use crate::render::parse::parse_one;
use crate::render::path::{Matcher, PathError, split_smart};
use crate::render::resource::Resource;
use crate::render::selector::Compiled;
use crate::render::world::World;

/// One replacement of a list, with its place in it.
pub(crate) struct Replace {
    pub(crate) replacements: Vec<(String, Replacement)>,
}

const DEFAULT_PATH: &str = "metadata.name";

impl Transformer for Replace {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        for (field, replacement) in &self.replacements {
            replace(world, objects, replacement).map_err(|error| error.in_field(field.as_str()))?;
        }
        Ok(())
    }
}

/// A value on its way: a tree whose root it is.
type Carried = Tree;

fn replace(world: &World, objects: &mut [Resource], replacement: &Replacement) -> Result<(), Error> {
    let Some(targets) = &replacement.targets else { return Err(Error::new("a replacement needs `targets`")) };
    let value = match (&replacement.source, &replacement.source_value) {
        (None, None) => return Err(Error::new("a replacement needs `source` or `sourceValue`")),
        (Some(_), Some(_)) => {
            return Err(Error::new("a replacement has either `source` or `sourceValue`, not both"));
        }
        (None, Some(text)) => Tree::new(Node::scalar(text.as_str())),
        (Some(source), None) => source_value(world, objects, source)?,
    };
    for target in targets {
        let Some(select) = &target.select else { return Err(Error::new("a target needs `select`")) };
        let select = Compiled::new(select)?;
        let reject = target.reject.iter().map(Compiled::new).collect::<Result<Vec<_>, _>>()?;
        for resource in objects.iter_mut() {
            if is_target(world, resource, &select, &reject) {
                copy_to(resource, &value, target).map_err(|message| of_object(resource, world, message))?;
            }
        }
    }
    Ok(())
}

/// The names that an object has and had; here kinds without namespace are not known as such.
fn ids_of(world: &World, resource: &Resource) -> Vec<ResId> {
    let mut ids = vec![ResId { cluster_scoped: false, ..resource.id(world) }];
    ids.extend(resource.previous_ids(world));
    ids
}

fn is_target(world: &World, resource: &Resource, select: &Compiled, reject: &[Compiled]) -> bool {
    if !select.fits_labels(resource) {
        return false;
    }
    if reject.iter().any(|reject| reject.has_label_selectors && reject.fits_labels(resource)) {
        return false;
    }
    let ids = ids_of(world, resource);
    let rejected =
        reject.iter().any(|reject| !reject.names_nothing && ids.iter().any(|id| reject.fits_id(id)));
    !rejected && ids.iter().any(|id| select.fits_id(id))
}

fn source_value(world: &World, objects: &[Resource], source: &ReplacementSource) -> Result<Carried, Error> {
    let wanted = source.id.to_id();
    let mut found =
        objects.iter().filter(|resource| ids_of(world, resource).iter().any(|id| id.is_selected_by(&wanted)));
    let resource = match (found.next(), found.next()) {
        (None, _) => return Err(Error::new(format!("no object fits the source: {}", for_people(&wanted)))),
        (Some(a), Some(b)) => {
            let names = [a, b].map(|resource| for_people(&resource.id(world)));
            return Err(Error::new(format!("several objects fit the source: {}", names.join(", "))));
        }
        (Some(resource), None) => resource,
    };
    let path = if source.field_path.is_empty() { DEFAULT_PATH } else { &source.field_path };
    let tree = &resource.tree;
    let failed = |error: &PathError| of_object(resource, world, format!("cannot read `{path}`: {error}"));
    let at = tree.lookup(tree.root(), &split_smart(path)).map_err(|error| failed(&error))?;
    let Some(at) = at.filter(|at| !tree.get(*at).is_nil_or_empty()) else {
        return Err(of_object(resource, world, format!("the source has no `{path}`")));
    };
    let mut value = Tree::with_capacity(8);
    let root = value.graft(tree, at);
    value.set_root(root);
    if let Some(options) = source.options.as_ref().filter(|options| !options.delimiter.is_empty()) {
        if value.kind(root) != Kind::Scalar {
            return Err(Error::new("`delimiter` can only be used with a scalar"));
        }
        let parts: Vec<&str> = value.value(root).split(&*options.delimiter).collect();
        let part = usize::try_from(options.index).ok().and_then(|index| parts.get(index));
        let Some(part) = part else {
            let message = format!("`index` is {}, the value has {} parts", options.index, parts.len());
            return Err(of_object(resource, world, message));
        };
        let part: std::sync::Arc<str> = (*part).into();
        value.get_mut(root).value = part;
    }
    Ok(value)
}

fn copy_to(resource: &mut Resource, value: &Carried, target: &ReplacementTarget) -> Result<(), String> {
    let default = [DEFAULT_PATH.to_owned()];
    let paths = if target.field_paths.is_empty() { &default[..] } else { &target.field_paths };
    let creates = target.options.as_ref().is_some_and(|options| options.create);
    let create = creates.then(|| value.kind(value.root()));
    for path in paths {
        let parts = split_smart(path);
        if set_in_text(&mut resource.tree, &parts, value, create) {
            continue;
        }
        let tree = &mut resource.tree;
        let root = tree.root();
        let found = Matcher { create }.find(tree, root, &parts);
        let what = if creates { "find or create" } else { "find" };
        let found = found.map_err(|error| format!("cannot {what} the field `{path}`: {error}"))?;
        if found.is_empty() {
            return Err(format!("cannot {what} the field `{path}`"));
        }
        for at in found {
            set_value(tree, at, value, target.options.as_ref())?;
        }
    }
    Ok(())
}

fn set_value(
    tree: &mut Tree,
    at: NodeId,
    value: &Carried,
    options: Option<&FieldOptions>,
) -> Result<(), String> {
    let source = value.get(value.root());
    let mut text = std::sync::Arc::clone(&source.value);
    if let Some(options) = options.filter(|options| !options.delimiter.is_empty()) {
        if tree.kind(at) != Kind::Scalar {
            return Err("`delimiter` can only be used with a scalar".to_owned());
        }
        let old = std::sync::Arc::clone(tree.value(at));
        let mut parts: Vec<&str> = old.split(&*options.delimiter).collect();
        let new = if source.is_null() { "" } else { &source.value };
        match usize::try_from(options.index) {
            Err(_) => parts.insert(0, new),
            Ok(index) if index >= parts.len() => parts.push(new),
            Ok(index) => parts[index] = new,
        }
        text = parts.join(&options.delimiter).into();
    }
    if tree.kind(at) == Kind::Scalar {
        // Only the text: whether it is a number or text stays as it was.
        tree.get_mut(at).value = text;
        return Ok(());
    }
    let new = tree.graft(value, value.root());
    tree.get_mut(new).value = text;
    tree.assign(at, new);
    Ok(())
}

/// A path that goes on below a scalar means YAML or JSON in its text. Whether that was so.
fn set_in_text(tree: &mut Tree, parts: &[String], value: &Carried, create: Option<Kind>) -> bool {
    let Some((field, rest)) = text_with_structure(tree, parts) else { return false };
    let original = std::sync::Arc::clone(tree.value(field));
    let Ok(Some(mut inner)) = parse_one(&original) else { return false };
    let root = inner.root();
    let Ok(found) = (Matcher { create }).find(&mut inner, root, &rest) else { return false };
    if found.is_empty() {
        return false;
    }
    for at in found {
        if inner.kind(at) == Kind::Scalar {
            let text = std::sync::Arc::clone(value.value(value.root()));
            inner.get_mut(at).value = text;
        } else {
            let new = inner.graft(value, value.root());
            inner.assign(at, new);
        }
    }
    match write_structure(&inner, &original) {
        Some(text) => {
            tree.get_mut(field).value = text.into();
            true
        }
        None => false,
    }
}

/// The first scalar on a path that has more parts, if its text is YAML.
fn text_with_structure(tree: &Tree, parts: &[String]) -> Option<(NodeId, Vec<String>)> {
    for at in 1..parts.len() {
        let Ok(Some(field)) = tree.lookup(tree.root(), &parts[..at]) else { continue };
        if tree.kind(field) == Kind::Scalar && parse_one(tree.value(field)).is_ok() {
            return Some((field, parts[at..].to_vec()));
        }
    }
    None
}

/// The text again: JSON as it was, pretty or not; else YAML.
fn write_structure(tree: &Tree, original: &str) -> Option<String> {
    let first = original.trim_start().chars().next()?;
    let value = node_to_json(tree, tree.root(), true).ok()?;
    if first == '{' || first == '[' {
        if original.contains('\n') && original.contains("  ") {
            return Some(go_pretty(&value));
        }
        let mut out = String::new();
        crate::render::generators::go_json(&mut out, &value);
        return Some(out);
    }
    Some(crate::render::write_v3::to_text(tree).trim().to_owned())
}
