//! `images`: other names, tags and digests.

use regex::Regex;

use super::Transformer;
use super::fields::{of_object, of_path};
use crate::render::config::FieldSpec;
use crate::render::error::Error;
use crate::render::fieldspec::apply;
use crate::render::kustomization::Image;
use crate::render::node::{Kind, Node, NodeId, Tree, WrongKind};
use crate::render::path::PathError;
use crate::render::resource::Resource;
use crate::render::world::World;

pub(crate) struct SetImage {
    image: Image,
    matches: Regex,
    specs: Vec<FieldSpec>,
}

impl SetImage {
    pub(crate) fn new(image: Image, specs: Vec<FieldSpec>) -> Result<SetImage, Error> {
        let pattern = format!("^{}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$", image.name);
        let matches = Regex::new(&pattern).map_err(|_| {
            Error::new(format!("`{}` is not a regular expression", image.name)).in_field("name")
        })?;
        Ok(SetImage { image, matches, specs })
    }

    /// Containers wherever they stand, by the names of the lists.
    fn walk(&self, world: &World, tree: &mut Tree, at: NodeId) -> Result<(), WrongKind> {
        match tree.kind(at) {
            Kind::Scalar => Ok(()),
            Kind::List => {
                for item in tree.items(at).to_vec() {
                    self.walk(world, tree, item)?;
                }
                Ok(())
            }
            Kind::Map => {
                for entry in tree.get(at).content.clone().chunks_exact(2) {
                    let (key, value) = (entry[0], entry[1]);
                    self.walk(world, tree, value)?;
                    if !matches!(&**tree.value(key), "containers" | "initContainers") {
                        continue;
                    }
                    for container in tree.items(value).to_vec() {
                        if let Some(image) = tree.try_field(container, "image")? {
                            self.set(world, tree, image)?;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn set(&self, world: &World, tree: &mut Tree, at: NodeId) -> Result<(), WrongKind> {
        tree.require(at, Kind::Scalar)?;
        let value = tree.value(at);
        if !self.matches.is_match(value) {
            return Ok(());
        }
        world.idle.set(false);
        let (mut name, mut tag, mut digest) = split(value);
        let new = &self.image;
        let suffixed;
        if !new.new_name.is_empty() {
            name = &new.new_name;
        }
        match (new.new_tag.is_empty(), new.digest.is_empty()) {
            (false, false) => (tag, digest) = (&new.new_tag, &new.digest),
            (false, true) => (tag, digest) = (&new.new_tag, ""),
            (true, false) => (tag, digest) = ("", &new.digest),
            (true, true) if !new.tag_suffix.is_empty() => {
                suffixed = format!("{tag}{}", new.tag_suffix);
                (tag, digest) = (&suffixed, "");
            }
            (true, true) => {}
        }
        let mut image = name.to_owned();
        if !tag.is_empty() {
            image.push(':');
            image.push_str(tag);
        }
        if !digest.is_empty() {
            image.push('@');
            image.push_str(digest);
        }
        tree.set_scalar(at, Node::scalar(image))
    }
}

/// Name, tag, digest; a `:` before the first `/` is a port.
fn split(image: &str) -> (&str, &str, &str) {
    let start = image.find('/').filter(|slash| *slash > 0).unwrap_or(0);
    let at = image[start..].find('@').map(|at| at + start);
    let colon = image[start..].find(':').map(|colon| colon + start);
    match (at, colon) {
        (None, None) => (image, "", ""),
        (Some(at), colon) if colon.is_none_or(|colon| at < colon) => (&image[..at], "", &image[at + 1..]),
        (Some(at), Some(colon)) => (&image[..colon], &image[colon + 1..at], &image[at + 1..]),
        (None, Some(colon)) => (&image[..colon], &image[colon + 1..], ""),
        (Some(at), None) => (&image[..at], "", &image[at + 1..]),
    }
}

impl Transformer for SetImage {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        world.idle.set(true);
        // Definitions of kinds have schemas of containers in them.
        let wanted = objects.iter_mut().filter(|resource| &*resource.kind() != "CustomResourceDefinition");
        for resource in wanted {
            let root = resource.tree.root();
            self.walk(world, &mut resource.tree, root)
                .map_err(|error| of_object(resource, world, format!("cannot change images: {error}")))?;
            for spec in &self.specs {
                let mut set = |tree: &mut Tree, at| self.set(world, tree, at).map_err(PathError::from);
                let done = apply(&mut resource.tree, spec, None, &mut set);
                done.map_err(|error| of_path(resource, world, &spec.path, &error))?;
            }
        }
        Ok(())
    }
}
