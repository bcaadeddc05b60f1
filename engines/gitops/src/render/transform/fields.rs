//! Errors and small steps that transformers share.

use std::collections::HashMap;

use crate::render::error::Error;
use crate::render::id::{IdKey, ResId, for_people};
use crate::render::path::PathError;
use crate::render::resource::Resource;
use crate::render::world::{World, place_of};

/// An error of one object: names it, and the place where it was read.
pub(crate) fn of_object(resource: &Resource, world: &World, message: impl std::fmt::Display) -> Error {
    let id = resource.id(world);
    Error::new(format!("{message} (in {})", for_people(&id)))
}

/// As [`of_object`], with the object's own place.
pub(crate) fn at_object(resource: &Resource, world: &World, message: impl std::fmt::Display) -> Error {
    let error = of_object(resource, world, message);
    match &resource.source {
        Some(source) => error.at(|| place_of(source)),
        None => error,
    }
}

/// An error at a path of an object.
pub(crate) fn of_path(resource: &Resource, world: &World, path: &str, error: &PathError) -> Error {
    of_object(resource, world, format!("cannot change `{path}`: {error}"))
}

/// How many objects have each name now.
pub(crate) fn count_ids(world: &World, objects: &[Resource]) -> HashMap<IdKey, usize> {
    let mut counts = HashMap::with_capacity(objects.len());
    for resource in objects {
        *counts.entry(resource.id(world).key()).or_insert(0) += 1;
    }
    counts
}

/// Refuses two objects with the same name.
pub(crate) fn refuse_conflicts(world: &World, objects: &[Resource]) -> Result<(), Error> {
    let mut seen = HashMap::with_capacity(objects.len());
    for (i, resource) in objects.iter().enumerate() {
        if let Some(first) = seen.insert(resource.id(world).key(), i) {
            return Err(conflict(world, resource, Some(&objects[first])));
        }
    }
    Ok(())
}

/// The error of an object that is there already.
pub(crate) fn conflict(world: &World, resource: &Resource, other: Option<&Resource>) -> Error {
    let id = resource.id(world);
    let mut message = format!("{} is defined twice", for_people(&id));
    if let Some(source) = other.and_then(|other| other.source.as_ref()) {
        message.push_str(&format!(", first in {}:{}", source.file, source.line));
    }
    let error = Error::new(message).hint("a patch changes an object, a second resource cannot");
    match &resource.source {
        Some(source) => error.at(|| place_of(source)),
        None => error,
    }
}

/// Adds objects, refusing what is there already.
pub(crate) fn append_all(
    world: &World,
    objects: &mut Vec<Resource>,
    more: Vec<Resource>,
) -> Result<(), Error> {
    let mut seen: HashMap<IdKey, usize> =
        objects.iter().enumerate().map(|(i, resource)| (resource.id(world).key(), i)).collect();
    for resource in more {
        if let Some(first) = seen.insert(resource.id(world).key(), objects.len()) {
            return Err(conflict(world, &resource, objects.get(first)));
        }
        objects.push(resource);
    }
    Ok(())
}

/// Objects that have, or had, the name.
pub(crate) fn with_any_id(
    world: &World,
    objects: &[Resource],
    passes: impl Fn(&ResId) -> bool,
) -> Vec<usize> {
    let found = objects
        .iter()
        .enumerate()
        .filter(|(_, resource)| !resource.tree.is_nil_or_empty() && resource.any_id(world, &passes));
    found.map(|(i, _)| i).collect()
}
