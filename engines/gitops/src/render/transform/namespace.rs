//! `namespace`: sets the namespace of objects, and where it is written in others.

use super::Transformer;
use super::fields::{count_ids, of_object, of_path};
use crate::render::config::FieldSpec;
use crate::render::error::Error;
use crate::render::fieldspec::{Create, apply};
use crate::render::id::{Gvk, for_people};
use crate::render::names;
use crate::render::node::{Kind, Node, NodeId, Tag, Tree};
use crate::render::path::PathError;
use crate::render::resource::Resource;
use crate::render::world::World;

/// Which subjects of role bindings get the namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subjects {
    #[default]
    NamedDefault,
    AllServiceAccounts,
    None,
}

#[derive(Default)]
pub(crate) struct SetNamespace {
    pub(crate) namespace: String,
    pub(crate) specs: Vec<FieldSpec>,
    pub(crate) unset_only: bool,
    pub(crate) subjects: Subjects,
}

const METADATA_NAMESPACE: &str = "metadata/namespace";
const METADATA_NAME: &str = "metadata/name";
const SUBJECTS_NAMESPACE: &str = "subjects/namespace";

impl Transformer for SetNamespace {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        if self.namespace.is_empty() {
            return Ok(());
        }
        let mut counts = count_ids(world, objects);
        for resource in objects.iter_mut().filter(|resource| !resource.tree.is_nil_or_empty()) {
            if resource.annotation(names::HELM_GENERATED).is_some_and(|value| &**value == "true") {
                continue;
            }
            let old = resource.id(world).key();
            resource.store_previous_id(world);
            self.apply_to(world, resource)?;
            let id = resource.id(world);
            *counts.entry(old).or_insert(1) -= 1;
            let count = counts.entry(id.key()).or_insert(0);
            *count += 1;
            if *count != 1 {
                let message =
                    format!("setting the namespace gives two objects the same name: {}", for_people(&id));
                return Err(Error::new(message));
            }
        }
        Ok(())
    }
}

impl SetNamespace {
    pub(crate) fn apply_to(&self, world: &World, resource: &mut Resource) -> Result<(), Error> {
        if !resource.id(world).cluster_scoped {
            let own = FieldSpec::new(Gvk::default(), METADATA_NAMESPACE, true);
            self.set_at(world, resource, &own, Tag::None)?;
        }
        let is_binding = |kind: &str| matches!(kind, "RoleBinding" | "ClusterRoleBinding");
        let binds = is_binding(&resource.kind());
        if binds {
            self.set_subjects(resource).map_err(|error| {
                of_object(resource, world, format!("cannot set the namespace of `subjects`: {error}"))
            })?;
        }
        let is_core = &*resource.api_version() == "v1";
        for spec in &self.specs {
            let handled = spec.path == METADATA_NAMESPACE
                || (spec.path == METADATA_NAME && !is_core)
                || (binds && is_binding(&spec.gvk.kind) && spec.path == SUBJECTS_NAMESPACE);
            if !handled {
                self.set_at(world, resource, spec, Tag::Str)?;
            }
        }
        Ok(())
    }

    fn set_at(
        &self,
        world: &World,
        resource: &mut Resource,
        spec: &FieldSpec,
        tag: Tag,
    ) -> Result<(), Error> {
        let create = Create { kind: Kind::Scalar, tag };
        let mut set = |tree: &mut Tree, at| self.set(tree, at);
        let done = apply(&mut resource.tree, spec, Some(&create), &mut set);
        done.map_err(|error| of_path(resource, world, &spec.path, &error))
    }

    fn set(&self, tree: &mut Tree, at: NodeId) -> Result<(), PathError> {
        let node = tree.get(at);
        if self.unset_only && !node.is_null() && node.kind == Kind::Scalar && !node.value.is_empty() {
            return Ok(());
        }
        let value = Node { tag: Tag::Str, ..Node::scalar(self.namespace.as_str()) };
        Ok(tree.set_scalar(at, value)?)
    }

    fn set_subjects(&self, resource: &mut Resource) -> Result<(), PathError> {
        let (field, wanted) = match self.subjects {
            Subjects::None => return Ok(()),
            Subjects::NamedDefault => ("name", "default"),
            Subjects::AllServiceAccounts => ("kind", "ServiceAccount"),
        };
        let tree = &mut resource.tree;
        let Some(subjects) =
            tree.try_field(tree.root(), "subjects")?.filter(|subjects| !tree.is_null(*subjects))
        else {
            return Ok(());
        };
        tree.require(subjects, Kind::List)?;
        for subject in tree.items(subjects).to_vec() {
            let Some(found) = tree.try_field(subject, field)?.filter(|found| !tree.is_null(*found)) else {
                continue;
            };
            tree.require(found, Kind::Scalar)?;
            if &**tree.value(found) != wanted {
                continue;
            }
            if let Some(at) = tree.lookup_create(subject, &["namespace"], Kind::Scalar)? {
                self.set(tree, at)?;
            }
        }
        Ok(())
    }
}
