//! `replicas`.

use super::Transformer;
use super::fields::{of_path, with_any_id};
use crate::render::config::FieldSpec;
use crate::render::error::Error;
use crate::render::fieldspec::{Create, apply};
use crate::render::kustomization::Replica;
use crate::render::node::{Kind, Node, Tag, Tree};
use crate::render::path::PathError;
use crate::render::resource::Resource;
use crate::render::world::World;

pub(crate) struct SetReplicas {
    pub(crate) replica: Replica,
    pub(crate) specs: Vec<FieldSpec>,
}

impl Transformer for SetReplicas {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        let create = Create { kind: Kind::Scalar, tag: Tag::Int };
        let mut found_one = false;
        for spec in &self.specs {
            let found = with_any_id(world, objects, |id| {
                *id.name == *self.replica.name && id.gvk.is_selected(&spec.gvk)
            });
            for at in found {
                found_one = true;
                let mut set = |tree: &mut Tree, at| {
                    let count = Node::tagged_as(self.replica.count.to_string(), Tag::Int);
                    tree.set_scalar(at, count).map_err(PathError::from)
                };
                let done = apply(&mut objects[at].tree, spec, Some(&create), &mut set);
                done.map_err(|error| of_path(&objects[at], world, &spec.path, &error))?;
            }
        }
        if found_one {
            return Ok(());
        }
        let kinds: Vec<&str> = self.specs.iter().map(|spec| &*spec.gvk.kind).collect();
        let message =
            format!("no object named `{}` has replicas; looked for {}", self.replica.name, kinds.join(", "));
        Err(Error::new(message))
    }
}
