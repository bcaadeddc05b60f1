//! `labels`, `commonLabels` and `commonAnnotations`.

use std::collections::BTreeMap;

use super::Transformer;
use super::fields::of_path;
use crate::render::config::FieldSpec;
use crate::render::error::Error;
use crate::render::fieldspec::{Create, apply};
use crate::render::node::{Kind, Node, Style, Tag, Tree};
use crate::render::path::PathError;
use crate::render::resource::Resource;
use crate::render::world::World;

/// Sets entries of maps: labels, annotations.
pub(crate) struct SetEntries {
    pub(crate) entries: BTreeMap<String, String>,
    pub(crate) specs: Vec<FieldSpec>,
}

impl Transformer for SetEntries {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let create = Create { kind: Kind::Map, tag: Tag::Map };
        for resource in objects {
            for (key, value) in &self.entries {
                // One node for all places: a later change of one of them changes all.
                let node = resource.tree.add(Node { tag: Tag::Str, ..Node::scalar(value.as_str()) });
                for spec in &self.specs {
                    let mut set = |tree: &mut Tree, at| {
                        tree.set_field(at, key, Some(node), false, Style::Plain).map_err(PathError::from)
                    };
                    let done = apply(&mut resource.tree, spec, Some(&create), &mut set);
                    done.map_err(|error| of_path(resource, world, &spec.path, &error))?;
                }
            }
        }
        Ok(())
    }
}
