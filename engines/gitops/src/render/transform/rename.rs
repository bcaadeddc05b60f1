//! `namePrefix` and `nameSuffix`.

use super::Transformer;
use super::fields::of_path;
use crate::render::config::FieldSpec;
use crate::render::error::Error;
use crate::render::fieldspec::{Create, apply};
use crate::render::id::ResId;
use crate::render::node::{Kind, Node, Tag, Tree};
use crate::render::path::PathError;
use crate::render::resource::Resource;
use crate::render::world::World;

/// Puts text before and behind names.
pub(crate) struct Rename {
    pub(crate) prefix: String,
    pub(crate) suffix: String,
    /// Whether the notes are a prefix's or a suffix's, also when there is nothing to add.
    pub(crate) is_prefix: bool,
    pub(crate) specs: Vec<FieldSpec>,
}

/// Kinds that keep their names: others refer to them in ways that are not known.
fn keeps_name(id: &ResId) -> bool {
    matches!(&*id.gvk.kind, "CustomResourceDefinition" | "Namespace")
        || (&*id.gvk.kind == "APIService" && &*id.gvk.group == "apiregistration.k8s.io")
}

impl Transformer for Rename {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        let create = Create { kind: Kind::Scalar, tag: Tag::Str };
        for resource in objects {
            let id = resource.original_id(world);
            if keeps_name(&id) {
                continue;
            }
            for spec in self.specs.iter().filter(|spec| id.gvk.is_selected(&spec.gvk)) {
                if spec.path == "metadata/name" {
                    if self.is_prefix {
                        resource.add_name_prefix(&self.prefix);
                    } else {
                        resource.add_name_suffix(&self.suffix);
                    }
                    if !self.prefix.is_empty() || !self.suffix.is_empty() {
                        resource.store_previous_id(world);
                    }
                }
                let mut set = |tree: &mut Tree, at| {
                    let name = format!("{}{}{}", self.prefix, tree.value(at), self.suffix);
                    tree.set_scalar(at, Node::scalar(name)).map_err(PathError::from)
                };
                let done = apply(&mut resource.tree, spec, Some(&create), &mut set);
                done.map_err(|error| of_path(resource, world, &spec.path, &error))?;
            }
        }
        Ok(())
    }
}
