//! An object on its way through a build: its tree, and what kustomize notes about it.
//!
//! Kustomize keeps its notes (earlier names, prefixes, whether a hash is wanted) in annotations of the object, where
//! patches can see them: an object that was renamed has annotations. They are kept there here too, and removed at the
//! end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::explain::History;
use super::id::ResId;
use super::node::{Kind, Node, NodeId, Style, Tree, WrongKind};
use super::path::PathError;
use super::schema::View;
use super::world::World;
use super::{merge, names};

/// Where an object was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) file: Arc<str>,
    pub(crate) line: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) tree: Tree,
    /// Vars that take their value from this object.
    pub(crate) vars: Vec<Arc<str>>,
    pub(crate) source: Option<Source>,
    /// Kept only when somebody asks for an explanation.
    pub(crate) history: Option<Box<History>>,
}

pub(crate) type TextMap = BTreeMap<Arc<str>, Arc<str>>;

const METADATA: &str = "metadata";
const ANNOTATIONS: &str = "annotations";
const LABELS: &str = "labels";
const ENABLED: &str = "enabled";

impl Resource {
    pub(crate) fn new(tree: Tree, source: Option<Source>) -> Resource {
        Resource { tree, vars: Vec::new(), source, history: None }
    }

    fn text_field(&self, name: &str) -> Arc<str> {
        match self.tree.field(self.tree.root(), name) {
            Some(field) => Arc::clone(self.tree.value(field)),
            None => names::empty(),
        }
    }

    pub(crate) fn kind(&self) -> Arc<str> {
        self.text_field("kind")
    }

    pub(crate) fn api_version(&self) -> Arc<str> {
        self.text_field("apiVersion")
    }

    fn metadata(&self) -> Option<NodeId> {
        let metadata = self.tree.field(self.tree.root(), METADATA)?;
        (!self.tree.get(metadata).is_nil_or_empty()).then_some(metadata)
    }

    fn metadata_text(&self, name: &str) -> Arc<str> {
        let field = self.metadata().and_then(|metadata| self.tree.field(metadata, name));
        match field.filter(|field| !self.tree.get(*field).is_nil_or_empty()) {
            Some(field) => Arc::clone(self.tree.value(field)),
            None => names::empty(),
        }
    }

    pub(crate) fn name(&self) -> Arc<str> {
        self.metadata_text("name")
    }

    pub(crate) fn namespace(&self) -> Arc<str> {
        self.metadata_text("namespace")
    }

    /// What the object is called now.
    pub(crate) fn id(&self, world: &World) -> ResId {
        let (api_version, kind) = (self.api_version(), self.kind());
        ResId {
            cluster_scoped: world.schemas.is_cluster_scoped(&api_version, &kind),
            gvk: world.gvk(&api_version, &kind),
            name: self.name(),
            namespace: self.namespace(),
        }
    }

    /// What the object was called, the oldest first.
    pub(crate) fn previous_ids(&self, world: &World) -> Vec<ResId> {
        let Some(previous) = self.annotation(names::PREVIOUS_NAMES) else { return Vec::new() };
        let empty = names::empty();
        let namespaces = self.annotation(names::PREVIOUS_NAMESPACES).unwrap_or(&empty);
        let kinds = self.annotation(names::PREVIOUS_KINDS).unwrap_or(&empty);
        let api_version = self.api_version();
        previous
            .split(',')
            .zip(namespaces.split(','))
            .zip(kinds.split(','))
            .map(|((name, namespace), kind)| ResId {
                gvk: world.gvk(&api_version, &kind.into()),
                name: name.into(),
                namespace: namespace.into(),
                cluster_scoped: false,
            })
            .collect()
    }

    /// What the object was called first.
    pub(crate) fn original_id(&self, world: &World) -> ResId {
        let Some(previous) = self.annotation(names::PREVIOUS_NAMES) else { return self.id(world) };
        let first = |text: &str| -> Arc<str> { text.split(',').next().unwrap_or_default().into() };
        let of = |key| self.annotation(key).map_or_else(names::empty, |text| first(text));
        ResId {
            gvk: world.gvk(&self.api_version(), &of(names::PREVIOUS_KINDS)),
            name: first(previous),
            namespace: of(names::PREVIOUS_NAMESPACES),
            cluster_scoped: false,
        }
    }

    /// Whether one of the names that the object has or had passes.
    pub(crate) fn any_id(&self, world: &World, passes: impl Fn(&ResId) -> bool) -> bool {
        passes(&self.id(world)) || self.previous_ids(world).iter().any(passes)
    }

    pub(crate) fn store_previous_id(&mut self, world: &World) {
        let id = self.id(world);
        self.append_annotation(names::PREVIOUS_NAMES, &id.name);
        self.append_annotation(names::PREVIOUS_NAMESPACES, id.effective_namespace());
        self.append_annotation(names::PREVIOUS_KINDS, &id.gvk.kind);
    }

    fn map_of_metadata(&self, name: &str) -> Option<NodeId> {
        self.metadata().and_then(|metadata| self.tree.field(metadata, name))
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&Arc<str>> {
        let map = self.map_of_metadata(ANNOTATIONS)?;
        self.tree.field(map, key).map(|value| self.tree.value(value))
    }

    pub(crate) fn annotations(&self) -> TextMap {
        self.text_map(ANNOTATIONS)
    }

    pub(crate) fn labels(&self) -> TextMap {
        self.text_map(LABELS)
    }

    fn text_map(&self, name: &str) -> TextMap {
        let Some(map) = self.map_of_metadata(name) else { return TextMap::new() };
        let entries = self.tree.entries(map);
        entries
            .map(|(key, value)| (Arc::clone(self.tree.value(key)), Arc::clone(self.tree.value(value))))
            .collect()
    }

    pub(crate) fn set_annotations(&mut self, map: &TextMap) -> Result<(), PathError> {
        self.set_text_map(ANNOTATIONS, map)
    }

    /// Replaces a map of metadata; all its values become text, and an empty one goes.
    fn set_text_map(&mut self, name: &str, map: &TextMap) -> Result<(), PathError> {
        let root = self.tree.root();
        let Some(metadata) = self.tree.lookup_create(root, &[METADATA], Kind::Map)? else { return Ok(()) };
        self.tree.clear_field(metadata, name)?;
        if map.is_empty() {
            return Ok(());
        }
        let Some(target) = self.tree.lookup_create(metadata, &[name], Kind::Map)? else { return Ok(()) };
        for (key, value) in map {
            self.tree.set_field_node(target, key, Node::text(Arc::clone(value)))?;
        }
        Ok(())
    }

    /// Sets one annotation, without touching the others.
    pub(crate) fn annotate(&mut self, key: &str, value: &str) -> Result<(), PathError> {
        self.clear_empty_annotations()?;
        self.set_metadata_entry(ANNOTATIONS, key, value)
    }

    pub(crate) fn label(&mut self, key: &str, value: &str) -> Result<(), PathError> {
        self.set_metadata_entry(LABELS, key, value)
    }

    fn set_metadata_entry(&mut self, map: &str, key: &str, value: &str) -> Result<(), PathError> {
        let root = self.tree.root();
        if let Some(map) = self.tree.lookup_create(root, &[METADATA, map], Kind::Map)? {
            self.tree.set_field_node(map, key, Node { style: Style::Single, ..Node::text(value) })?;
        }
        Ok(())
    }

    fn clear_empty_annotations(&mut self) -> Result<(), WrongKind> {
        let root = self.tree.root();
        if let Some(metadata) = self.tree.try_field(root, METADATA)?
            && let Some(annotations) = self.tree.try_field(metadata, ANNOTATIONS)?
            && self.tree.get(annotations).content.is_empty()
        {
            self.tree.clear_field(metadata, ANNOTATIONS)?;
        }
        if let Some(metadata) = self.tree.try_field(root, METADATA)?
            && self.tree.get(metadata).content.is_empty()
        {
            self.tree.clear_field(root, METADATA)?;
        }
        Ok(())
    }

    /// A note with many parts.
    fn append_annotation(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let joined = match self.annotation(key) {
            Some(old) => format!("{old},{value}"),
            None => value.to_owned(),
        };
        // Only fails where `metadata` is no map, and such objects are refused when they are read.
        let _ = self.annotate(key, &joined);
    }

    pub(crate) fn add_name_prefix(&mut self, prefix: &str) {
        self.append_annotation(names::PREFIXES, prefix);
    }

    pub(crate) fn add_name_suffix(&mut self, suffix: &str) {
        self.append_annotation(names::SUFFIXES, suffix);
    }

    pub(crate) fn prefixes_and_suffixes(&self) -> (Vec<&str>, Vec<&str>) {
        let list = |key| self.annotation(key).map(|text| text.split(',').collect()).unwrap_or_default();
        (list(names::PREFIXES), list(names::SUFFIXES))
    }

    pub(crate) fn enable(&mut self, key: &str) {
        let mut annotations = self.annotations();
        annotations.insert(key.into(), ENABLED.into());
        let _ = self.set_annotations(&annotations);
    }

    pub(crate) fn is_enabled(&self, key: &str) -> bool {
        self.annotation(key).is_some_and(|value| &**value == ENABLED)
    }

    pub(crate) fn set_name(&mut self, name: &str) -> Result<(), PathError> {
        self.set_map_field(METADATA, "name", name)
    }

    pub(crate) fn set_namespace(&mut self, namespace: &str) -> Result<(), PathError> {
        if !namespace.is_empty() {
            return self.set_map_field(METADATA, "namespace", namespace);
        }
        if let Some(metadata) = self.tree.field(self.tree.root(), METADATA) {
            self.tree.clear_field(metadata, "namespace")?;
        }
        Ok(())
    }

    fn set_map_field(&mut self, map: &str, name: &str, value: &str) -> Result<(), PathError> {
        let root = self.tree.root();
        if let Some(map) = self.tree.lookup_create(root, &[map], Kind::Map)? {
            self.tree.set_field_node(map, name, Node::scalar(value))?;
        }
        Ok(())
    }

    pub(crate) fn set_kind(&mut self, kind: &str) {
        let root = self.tree.root();
        let _ = self.tree.set_field_node(root, "kind", Node::scalar(kind));
    }

    pub(crate) fn set_api_version(&mut self, api_version: &str) {
        let root = self.tree.root();
        let _ = self.tree.set_field_node(root, "apiVersion", Node::scalar(api_version));
    }

    /// A copy for another target.
    pub(crate) fn deep_copy(&self) -> Resource {
        Resource { tree: self.tree.deep_copy(), ..self.clone() }
    }

    /// Takes what another object has in its metadata; own values win, notes of kustomize are the other's.
    pub(crate) fn merge_metadata_from(&mut self, other: &Resource) -> Result<(), PathError> {
        let mut labels = other.labels();
        labels.extend(self.labels());
        self.set_text_map(LABELS, &labels)?;
        let own = self.annotations();
        let wants_hash = own.contains_key(names::NEEDS_HASH);
        let theirs = other.annotations();
        let mut merged = theirs.clone();
        merged.extend(own);
        for key in names::BUILD_ANNOTATIONS {
            match theirs.get(*key) {
                Some(value) => drop(merged.insert((*key).into(), Arc::clone(value))),
                None => drop(merged.remove(*key)),
            }
        }
        if !wants_hash {
            merged.remove(names::NEEDS_HASH);
        }
        self.set_annotations(&merged)?;
        self.set_name(&other.name())?;
        self.set_namespace(&other.namespace())?;
        self.vars.clone_from(&other.vars);
        Ok(())
    }

    /// Applies a strategic merge patch; the object may be `gone` after it.
    pub(crate) fn apply_patch(&mut self, patch: &Resource, view: &View, world: &World) -> Result<(), String> {
        let (name, namespace, kind) = (self.name(), self.namespace(), self.kind());
        let may_rename = patch.is_enabled(names::ALLOW_NAME_CHANGE);
        let may_change_kind = patch.is_enabled(names::ALLOW_KIND_CHANGE);
        if may_rename || may_change_kind {
            self.store_previous_id(world);
        }
        merge::merge(&mut self.tree, &patch.tree, view).map_err(|error| error.to_string())?;
        if self.tree.is_nil_or_empty() {
            return Ok(());
        }
        if !may_change_kind {
            self.set_kind(&kind);
        }
        if !may_rename {
            self.set_name(&name).map_err(|error| error.to_string())?;
        }
        self.set_namespace(&namespace).map_err(|error| error.to_string())
    }

    /// Removes the notes of the build.
    pub(crate) fn remove_build_annotations(&mut self) -> Result<(), PathError> {
        let mut annotations = self.annotations();
        if annotations.is_empty() {
            return Ok(());
        }
        for key in names::BUILD_ANNOTATIONS {
            annotations.remove(*key);
        }
        self.set_annotations(&annotations)
    }
}
