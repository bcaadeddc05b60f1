//! The hash of generated objects behind their names.

use super::Transformer;
use super::fields::of_object;
use crate::render::error::Error;
use crate::render::generators::content_hash;
use crate::render::names;
use crate::render::resource::Resource;
use crate::render::world::World;

pub(crate) struct AddHashes;

impl Transformer for AddHashes {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        for resource in objects.iter_mut().filter(|resource| resource.is_enabled(names::NEEDS_HASH)) {
            let hash = content_hash(resource).map_err(|error| of_object(resource, world, error.message()))?;
            resource.store_previous_id(world);
            let name = format!("{}-{hash}", resource.name());
            resource.set_name(&name).map_err(|error| of_object(resource, world, error))?;
        }
        Ok(())
    }
}
