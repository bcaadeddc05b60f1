//! Builds kustomizations: what `kubectl kustomize DIR` prints, to the byte, as a pure function over a tree of files.
//!
//! Nothing is executed, nothing is fetched, no clock is read. The result says what was read ([`Reads`]), so that a
//! change elsewhere needs no new build; an error says it too.
//!
//! Left out: helm charts, plugins that are programs or containers, remote bases. Each gives an error at its field.

mod accumulate;
mod cache;
mod config;
mod decode;
mod error;
mod explain;
mod fieldspec;
mod files;
#[doc(hidden)]
pub mod fuzz;
mod generators;
mod git;
mod id;
mod json;
mod json_patch;
mod kustomization;
pub mod lint;
mod merge;
mod names;
mod node;
mod objects;
mod origin;
mod parse;
mod path;
mod plugins;
mod resource;
mod schema;
mod selector;
mod steps;
mod transform;
mod tree;
mod world;
mod write_v3;

use dodai_yaml::{Limits, ReadOptions};
use serde_json::Value;

pub use cache::Cache;
pub use error::{Error, ErrorPlace};
pub use explain::{Change, Event, Explanation, Wanted};
pub use files::{FILE_BYTES_MAX, READ_BYTES_MAX, Reads};
pub use git::{GitError, GitTree};
pub use kustomization::FILE_NAMES;
pub use tree::{Entry, Folder, Memory, Tree};
pub use world::Note;

use accumulate::{Accumulator, Target};
use files::{FileError, Files};
use kustomization::{MANAGED_BY_LABEL, ORIGIN_ANNOTATIONS, TRANSFORMER_ANNOTATIONS};
use resource::Resource;
use transform::hash::AddHashes;
use transform::nameref::FixReferences;
use transform::{Transformer, sort, vars};
use world::World;

/// Which files a kustomization may name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadRestrictor {
    /// Files in or below its folder. Folders with other kustomizations may be anywhere in the tree.
    #[default]
    RootOnly,
    /// Any file of the tree.
    None,
}

/// The order of the result where the kustomization does not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By kind, as the commands print it.
    #[default]
    Legacy,
    /// As it was read.
    None,
}

/// How a build is done.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub load_restrictor: LoadRestrictor,
    pub order: Order,
    /// Keep the history of this object.
    pub explain: Option<Wanted>,
}

/// What a build gives.
#[derive(Clone, Debug)]
pub struct Output {
    pub objects: Vec<Object>,
    /// Upstream's words, in the order in which they came up.
    pub warnings: Vec<String>,
    pub reads: Reads,
    /// Fields that had no effect.
    pub notes: Vec<Note>,
    /// Of the objects that were asked for.
    pub explanations: Vec<Explanation>,
}

/// An object of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub value: Value,
    /// File and line where it was read; generated objects have none.
    pub source: Option<(String, usize)>,
}

impl Output {
    /// The bytes that `kubectl kustomize` prints.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        for (i, object) in self.objects.iter().enumerate() {
            if i > 0 {
                out.push_str("---\n");
            }
            dodai_yaml::kustomize::write(&mut out, &object.value);
        }
        out
    }
}

/// Builds the kustomization in a folder of a tree.
///
/// # Errors
/// Whatever keeps kustomize from building it, with file, line and field.
pub fn render(tree: &dyn Tree, folder: &str, options: &Options) -> Result<Output, Error> {
    render_with(tree, folder, options, &Cache::default())
}

/// As [`render`], sharing parsed files with other builds.
///
/// # Errors
/// As [`render`].
pub fn render_with(tree: &dyn Tree, folder: &str, options: &Options, cache: &Cache) -> Result<Output, Error> {
    let world = World::new(Files::new(tree), cache, options);
    let built = build(&world, folder);
    let reads = world.files.reads();
    match built {
        Ok((objects, explanations)) => {
            let (warnings, notes) = (world.warnings.into_inner(), world.notes.into_inner());
            Ok(Output { objects, warnings, reads, notes, explanations })
        }
        Err(error) => Err(error.with_reads(reads)),
    }
}

fn build(world: &World, folder: &str) -> Result<(Vec<Object>, Vec<Explanation>), Error> {
    let root = world.files.folder("", folder).map_err(|error| match error {
        FileError::IsFile(path) => {
            Error::new(format!("`{path}` is a file; a folder with a kustomization is built"))
        }
        error => world::from_file_error(error),
    })?;
    let mut target = Target::load(world, root, Vec::new()).map_err(|error| error.in_kustomization(folder))?;
    target.begin_origin();
    let objects = build_target(world, &target).map_err(|error| target.locate(error))?;
    let mut printed = Vec::with_capacity(objects.len());
    let mut explanations = Vec::new();
    for resource in &objects {
        let value = json::to_json(&resource.tree)
            .map_err(|error| target.locate(transform::fields::at_object(resource, world, error)))?;
        if let Some(wanted) = world.explains()
            && *resource.kind() == *wanted.kind
            && *resource.name() == *wanted.name
        {
            explanations.push(Explanation::of(resource, value.clone()));
        }
        let source = resource.source.as_ref().map(|source| (source.file.to_string(), source.line));
        printed.push(Object { value, source });
    }
    Ok((printed, explanations))
}

fn build_target(world: &World, target: &Target<'_>) -> Result<Vec<Resource>, Error> {
    let note = |objects: &mut [Resource], step: &str| explain::note(world, objects, target.file(), step);
    target.use_schema(true)?;
    let Accumulator { mut objects, config, vars: all_vars } = target.accumulate(Accumulator::default())?;
    AddHashes.transform(world, &mut objects)?;
    note(&mut objects, "hash of the content");
    let config = config.unwrap_or_default();
    FixReferences { rules: config.name_reference.clone() }.transform(world, &mut objects)?;
    note(&mut objects, "names that others refer to");
    vars::resolve(world, &mut objects, &all_vars, &config.var_reference)?;
    note(&mut objects, "vars");
    drop_local(world, &mut objects)?;
    match (&target.kustomization.sort_options, world.options.order) {
        (Some(options), _) => sort::sort(world, &mut objects, options)?,
        (None, Order::Legacy) => sort::by_kind(world, &mut objects, &id::ORDER_FIRST, &id::ORDER_LAST)?,
        (None, Order::None) => {}
    }
    finish(&mut objects, target)?;
    note(&mut objects, "buildMetadata");
    Ok(objects)
}

/// Objects that are only for tools are not printed; those that lost their name are refused.
fn drop_local(world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
    objects.retain(|resource| !resource.tree.is_nil_or_empty());
    for resource in objects.iter() {
        let missing = match (resource.kind().is_empty(), resource.name().is_empty()) {
            (true, _) => "`kind`",
            (false, true) if !resource.kind().ends_with("List") => "`metadata.name`",
            _ => continue,
        };
        let message = format!("an object has no {missing} at the end of the build");
        return Err(transform::fields::at_object(resource, world, message));
    }
    objects
        .retain(|resource| resource.annotation(names::LOCAL_CONFIG).is_none_or(|value| &**value == "false"));
    Ok(())
}

/// What upstream's command writes into `managed-by`: this renderer stands in for that version.
const MANAGED_BY: &str = "kustomize-v5.8.1";

/// Adds what `buildMetadata` asks for and removes the notes of the build.
fn finish(objects: &mut [Resource], target: &Target<'_>) -> Result<(), Error> {
    let wants = |option: &str| target.kustomization.wants_metadata(option);
    let failed = |error: path::PathError| Error::new(error.to_string());
    for resource in objects {
        if wants(MANAGED_BY_LABEL) {
            set_label(resource, names::MANAGED_BY, MANAGED_BY).map_err(failed)?;
        }
        resource.remove_build_annotations().map_err(failed)?;
        let mut annotations = resource.annotations();
        let (keeps_origin, keeps_transformers) = (wants(ORIGIN_ANNOTATIONS), wants(TRANSFORMER_ANNOTATIONS));
        if !keeps_origin {
            annotations.remove(names::ORIGIN);
        }
        if !keeps_transformers {
            annotations.remove(names::TRANSFORMATIONS);
        }
        if !keeps_origin || !keeps_transformers {
            resource.set_annotations(&annotations).map_err(failed)?;
        }
    }
    Ok(())
}

fn set_label(resource: &mut Resource, key: &str, value: &str) -> Result<(), path::PathError> {
    use node::{Kind, Node, Style, Tag};
    let tree = &mut resource.tree;
    let root = tree.root();
    let Some(labels) = tree.lookup_create(root, &["metadata", "labels"], Kind::Map)? else { return Ok(()) };
    let value = tree.add(Node { tag: Tag::Str, ..Node::scalar(value) });
    Ok(tree.set_field(labels, key, Some(value), false, Style::Plain)?)
}

pub(crate) const FIRST_DOCUMENT: ReadOptions =
    ReadOptions { limits: Limits::REPOSITORY, repeated_keys: true, first_document_only: true };

/// The first document of a text in the Kubernetes dialect, repeated keys taken; null if there is none.
pub(crate) fn yaml_value(content: &[u8]) -> Result<Value, dodai_yaml::Error> {
    value_with(content, &FIRST_DOCUMENT)
}

/// As [`yaml_value`], repeated keys refused.
pub(crate) fn strict_yaml_value(content: &[u8]) -> Result<Value, dodai_yaml::Error> {
    value_with(content, &ReadOptions { repeated_keys: false, ..FIRST_DOCUMENT })
}

fn value_with(content: &[u8], options: &ReadOptions) -> Result<Value, dodai_yaml::Error> {
    let text = String::from_utf8_lossy(content);
    match dodai_yaml::parse_with(&text, options)?.first() {
        Some(document) => document.to_json(),
        None => Ok(Value::Null),
    }
}
