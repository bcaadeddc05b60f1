//! What is done to the objects of a kustomization: one transformer for each of its fields, in upstream's order.

use super::error::Error;
use super::resource::Resource;
use super::world::World;

pub(crate) mod fields;
pub(crate) mod hash;
pub(crate) mod image;
pub(crate) mod label;
pub(crate) mod nameref;
pub(crate) mod namespace;
pub(crate) mod patch;
pub(crate) mod rename;
pub(crate) mod replacement;
pub(crate) mod replica;
pub(crate) mod sort;
pub(crate) mod value_add;
pub(crate) mod vars;

/// Changes objects.
pub(crate) trait Transformer {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error>;
}

/// A transformer, and which field or file asked for it.
pub(crate) struct Step {
    pub(crate) transformer: Box<dyn Transformer>,
    /// Field of the kustomization.
    pub(crate) field: String,
    /// What is written in annotations that tell of transformers.
    pub(crate) origin: Option<String>,
}
