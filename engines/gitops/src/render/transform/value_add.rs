//! The plugin `ValueAddTransformer`: writes one value into fields, or into a place of the path in a field.

use super::Transformer;
use super::fields::of_path;
use super::namespace::SetNamespace;
use crate::render::error::Error;
use crate::render::node::{Kind, Node};
use crate::render::path::PathError;
use crate::render::resource::Resource;
use crate::render::selector::Compiled;
use crate::render::world::World;

pub(crate) struct AddValue {
    pub(crate) value: String,
    pub(crate) targets: Vec<ValueTarget>,
}

pub(crate) struct ValueTarget {
    pub(crate) selector: Option<Compiled>,
    pub(crate) field_path: String,
    /// From 1; 0: the whole field.
    pub(crate) position: i64,
}

impl Transformer for AddValue {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        for target in &self.targets {
            let selected = objects.iter_mut().filter(|resource| {
                target.selector.as_ref().is_none_or(|selector| selector.selects(resource, world))
            });
            for resource in selected {
                if target.field_path == "metadata/namespace" {
                    let namespace = SetNamespace { namespace: self.value.clone(), ..SetNamespace::default() };
                    namespace.apply_to(world, resource)?;
                    continue;
                }
                self.add(resource, target)
                    .map_err(|error| of_path(resource, world, &target.field_path, &error))?;
            }
        }
        Ok(())
    }
}

impl AddValue {
    fn add(&self, resource: &mut Resource, target: &ValueTarget) -> Result<(), PathError> {
        let mut path: Vec<String> = Vec::new();
        for part in target.field_path.split('/') {
            match path.last_mut().and_then(|last| last.strip_suffix('\\').map(str::to_owned)) {
                Some(before) => *path.last_mut().expect("there is a last part") = format!("{before}/{part}"),
                None => path.push(part.to_owned()),
            }
        }
        let path: Vec<&str> = path.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
        let root = resource.tree.root();
        let Some(at) = resource.tree.lookup_create(root, &path, Kind::Scalar)? else { return Ok(()) };
        resource.tree.require(at, Kind::Scalar)?;
        let value = if target.position > 0 {
            insert_part(resource.tree.value(at), target.position as usize - 1, &self.value)
        } else {
            self.value.clone()
        };
        Ok(resource.tree.set_scalar(at, Node::scalar(value))?)
    }
}

/// Puts a part into a file path; beyond its end, at the end.
fn insert_part(path: &str, position: usize, part: &str) -> String {
    if path.is_empty() {
        return part.to_owned();
    }
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    parts.insert(position.min(parts.len()), part);
    let joined = parts.join("/");
    if path.starts_with('/') { format!("/{joined}") } else { joined }
}
