//! `patches`, `patchesStrategicMerge` and `patchesJson6902`.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Transformer;
use super::fields::{of_object, refuse_conflicts, with_any_id};
use crate::render::error::Error;
use crate::render::id::{ResId, for_people};
use crate::render::kustomization::{Patch, Selector};
use crate::render::resource::Resource;
use crate::render::selector::Compiled;
use crate::render::world::World;
use crate::render::{json, json_patch, names};

/// One entry of `patches`.
pub(crate) enum ApplyPatch {
    /// Strategic merge, each for the object that it names.
    Named(Vec<Resource>),
    /// One strategic merge for all that the target selects.
    Merge {
        patch: Box<Resource>,
        target: Compiled,
    },
    Json {
        operations: Vec<Map<String, Value>>,
        target: Compiled,
        renames: bool,
    },
    /// An empty file.
    Nothing,
}

impl ApplyPatch {
    /// Reads the patch; `root` is the folder of the kustomization.
    pub(crate) fn new(world: &World, root: &str, patch: &Patch) -> Result<ApplyPatch, Error> {
        let inline = patch.patch.trim();
        let content: std::sync::Arc<[u8]>;
        let (file, field) = match (inline.is_empty(), patch.path.is_empty()) {
            (true, true) => return Err(Error::new("a patch needs `patch` or `path`")),
            (false, false) => return Err(Error::new("a patch has either `patch` or `path`, not both")),
            (false, true) => {
                content = inline.as_bytes().into();
                (None, "patch")
            }
            (true, false) => {
                let (file, read) = world.read(root, &patch.path).map_err(|error| error.in_field("path"))?;
                content = read;
                (Some(std::sync::Arc::from(file)), "path")
            }
        };
        let documents = world.cache.parse(&content);
        let merges = world.objects_of(&documents, file.as_ref(), &content);
        let json = std::str::from_utf8(&content).ok().map(parse_operations);
        match (merges, json) {
            (Ok(merges), Some(Ok(operations))) if !merges.is_empty() && !operations.is_empty() => {
                Err(Error::new("the patch is a strategic merge patch and a JSON patch at once")
                    .in_field(field))
            }
            (Ok(merges), _) => ApplyPatch::from_merges(merges, patch),
            (Err(_), Some(Ok(operations))) => {
                let Some(target) = &patch.target else {
                    return Err(Error::new("a JSON patch needs a `target`").in_field(field));
                };
                Ok(ApplyPatch::Json { operations, target: compile(target)?, renames: true })
            }
            (Err(error), json) => {
                let error = if file.is_some() { error } else { Error::new(error.message()).in_field(field) };
                let hint = match json {
                    Some(Err(json)) => format!("neither a strategic merge patch nor a JSON patch: {json}"),
                    _ => "neither a strategic merge patch nor a JSON patch".to_owned(),
                };
                Err(error.hint(hint))
            }
        }
    }

    fn from_merges(mut merges: Vec<Resource>, patch: &Patch) -> Result<ApplyPatch, Error> {
        for merge in &mut merges {
            if patch.allow_name_change {
                merge.enable(names::ALLOW_NAME_CHANGE);
            }
            if patch.allow_kind_change {
                merge.enable(names::ALLOW_KIND_CHANGE);
            }
        }
        let Some(target) = &patch.target else { return Ok(ApplyPatch::Named(merges)) };
        if merges.len() > 1 {
            return Err(Error::new("a file with several strategic merge patches cannot have a `target`")
                .in_field("target"));
        }
        match merges.pop() {
            None => Ok(ApplyPatch::Nothing),
            Some(patch) => Ok(ApplyPatch::Merge { patch: Box::new(patch), target: compile(target)? }),
        }
    }
}

pub(crate) fn compile(target: &Selector) -> Result<Compiled, Error> {
    Compiled::new(target).map_err(|error| error.in_field("target"))
}

/// A JSON patch, in JSON if it looks like it, else in YAML.
pub(crate) fn parse_operations(text: &str) -> Result<Vec<Map<String, Value>>, String> {
    if text.is_empty() {
        return Err("the patch is empty".to_owned());
    }
    let value = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        crate::render::yaml_value(text.as_bytes()).map_err(|error| error.message())?
    };
    json_patch::operations(&value).map_err(|error| error.to_string())
}

impl Transformer for ApplyPatch {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        match self {
            ApplyPatch::Nothing => Ok(()),
            ApplyPatch::Named(patches) => {
                let view = world.schemas.view();
                for patch in patches {
                    let at = target_of(world, objects, patch)?;
                    objects[at]
                        .apply_patch(patch, &view, world)
                        .map_err(|error| of_patch(patch, world, &error))?;
                }
                Ok(())
            }
            ApplyPatch::Merge { patch, target } => {
                let selected: Vec<ResId> = objects
                    .iter()
                    .filter(|resource| target.selects(resource, world))
                    .map(|resource| resource.id(world))
                    .collect();
                world.idle.set(selected.is_empty());
                merge_into(world, objects, &selected, patch)
            }
            ApplyPatch::Json { operations, target, renames } => {
                apply_json(world, objects, operations, target, *renames)
            }
        }
    }
}

/// The one object that a strategic merge patch names.
fn target_of(world: &World, objects: &[Resource], patch: &Resource) -> Result<usize, Error> {
    let wanted = patch.original_id(world);
    match with_any_id(world, objects, |id| wanted.is(id))[..] {
        [at] => Ok(at),
        [] => {
            let error = of_patch(patch, world, "the patch is for an object that is not there");
            let near = objects
                .iter()
                .map(|resource| resource.id(world))
                .find(|id| id.name == wanted.name && id.gvk.kind == wanted.gvk.kind);
            Err(match near {
                Some(near) if near.gvk != wanted.gvk => error.hint(format!(
                    "there is one with `apiVersion: {}`, the patch says `{}`",
                    near.gvk.api_version(),
                    wanted.gvk.api_version()
                )),
                Some(near) => error.hint(format!(
                    "there is one in namespace `{}`, the patch says `{}`",
                    near.effective_namespace(),
                    wanted.effective_namespace()
                )),
                None => error
                    .hint("name, kind, apiVersion and namespace of the patch must be those of the object"),
            })
        }
        ref several => {
            let message = format!("the patch fits {} objects", several.len());
            Err(of_patch(patch, world, &message))
        }
    }
}

/// An error of a patch: names its object, and the place of the patch.
fn of_patch(patch: &Resource, world: &World, message: &str) -> Error {
    let error = Error::new(format!("{message}: {}", for_people(&patch.id(world))));
    match &patch.source {
        Some(source) => error.at(|| crate::render::world::place_of(source)),
        None => error,
    }
}

/// Applies copies of a patch to the objects with these names.
fn merge_into(
    world: &World,
    objects: &mut Vec<Resource>,
    selected: &[ResId],
    patch: &Resource,
) -> Result<(), Error> {
    let view = world.schemas.view();
    let selected: HashSet<&ResId> = selected.iter().collect();
    for resource in objects.iter_mut() {
        let id = resource.id(world);
        if !selected.contains(&id) {
            continue;
        }
        let failed = |error: String| of_patch(patch, world, &error);
        let mut copy = patch.deep_copy();
        copy.merge_metadata_from(patch).map_err(|error| failed(error.to_string()))?;
        copy.set_api_version(&id.gvk.api_version());
        copy.set_kind(&patch.kind());
        resource.apply_patch(&copy, &view, world).map_err(failed)?;
    }
    objects.retain(|resource| !resource.tree.is_nil_or_empty());
    refuse_conflicts(world, objects)
}

fn apply_json(
    world: &World,
    objects: &mut [Resource],
    operations: &[Map<String, Value>],
    target: &Compiled,
    renames: bool,
) -> Result<(), Error> {
    world.idle.set(true);
    for resource in objects.iter_mut().filter(|resource| target.selects(resource, world)) {
        world.idle.set(false);
        if renames {
            resource.store_previous_id(world);
        }
        let mut annotations = resource.annotations();
        annotations.retain(|key, _| {
            key.starts_with(names::INTERNAL_PREFIX)
                || [names::LEGACY_PATH, names::LEGACY_INDEX, names::LEGACY_ID].contains(&&**key)
        });
        let kept = annotations;
        let mut value = json::to_json(&resource.tree)
            .map_err(|error| of_object(resource, world, format!("cannot patch: {error}")))?;
        json_patch::apply(&mut value, operations).map_err(|error| of_object(resource, world, error))?;
        resource.tree = json::from_json(&value);
        let mut annotations = resource.annotations();
        annotations.extend(kept);
        resource.set_annotations(&annotations).map_err(|error| of_object(resource, world, error))?;
    }
    Ok(())
}

/// All of `patchesStrategicMerge`.
pub(crate) struct MergePatches {
    pub(crate) patches: Vec<Resource>,
}

impl MergePatches {
    pub(crate) fn new(
        world: &World,
        root: &str,
        entries: &[String],
        field: &str,
    ) -> Result<MergePatches, Error> {
        let mut patches = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            // An entry may be the patch itself.
            let found = match world.objects_in_text(entry) {
                Ok(found) => found,
                Err(inline) => match world.objects(root, entry) {
                    Ok(found) => found,
                    Err(error) => {
                        let error = if entry.contains('\n') { inline } else { error };
                        return Err(error.in_field(format!("{field}[{i}]")));
                    }
                },
            };
            patches.extend(found);
        }
        if patches.is_empty() {
            return Err(Error::new("there is no patch in any of the files").in_field(field));
        }
        Ok(MergePatches { patches })
    }
}

impl Transformer for MergePatches {
    fn transform(&self, world: &World, objects: &mut Vec<Resource>) -> Result<(), Error> {
        for patch in &self.patches {
            let at = target_of(world, objects, patch)?;
            let id = objects[at].id(world);
            merge_into(world, objects, &[id], patch)?;
        }
        Ok(())
    }
}

/// One entry of `patchesJson6902`, and the plugin of that name.
pub(crate) fn old_json_patch(
    world: &World,
    root: &str,
    target: Option<&Selector>,
    path: &str,
    inline: &str,
) -> Result<ApplyPatch, Error> {
    let target = target.filter(|target| !target.id.name.is_empty());
    let Some(target) = target else {
        return Err(Error::new("a JSON patch needs a `target` with a `name`").in_field("target"));
    };
    let (text, field) = match (path.is_empty(), inline.is_empty()) {
        (true, true) => return Err(Error::new("a JSON patch needs `path` or `patch`")),
        (false, false) => return Err(Error::new("a JSON patch has either `path` or `patch`, not both")),
        (true, false) => (inline.to_owned(), "patch"),
        (false, true) => {
            let (_, content) = world.read(root, path).map_err(|error| error.in_field("path"))?;
            let text = String::from_utf8(content.to_vec())
                .map_err(|_| Error::new("the patch is not UTF-8").in_field("path"))?;
            (text, "path")
        }
    };
    let operations = parse_operations(&text).map_err(|message| Error::new(message).in_field(field))?;
    if operations.is_empty() {
        return Err(Error::new("the patch has no operations").in_field(field));
    }
    Ok(ApplyPatch::Json { operations, target: compile(target)?, renames: false })
}
