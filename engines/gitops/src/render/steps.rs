//! The transformers that the fields of a kustomization ask for, in the order in which they run.

use super::config::{Config, FieldSpec, merge_specs};
use super::error::Error;
use super::id::Gvk;
use super::kustomization::{Kustomization, Label};
use super::plugins;
use super::transform::image::SetImage;
use super::transform::label::SetEntries;
use super::transform::namespace::SetNamespace;
use super::transform::patch::{ApplyPatch, MergePatches, old_json_patch};
use super::transform::rename::Rename;
use super::transform::replica::SetReplicas;
use super::transform::{Step, Transformer};
use super::world::World;

/// `origin` of a step is the name of its plugin.
pub(crate) fn of_fields(
    world: &World,
    root: &str,
    kustomization: &Kustomization,
    config: &Config,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let mut add = |transformer: Box<dyn Transformer>, field: String, plugin: &str| {
        steps.push(Step { transformer, field, origin: Some(plugin.to_owned()) });
    };
    if let Some(entries) =
        kustomization.patches_strategic_merge.as_ref().filter(|entries| !entries.is_empty())
    {
        let field = "patchesStrategicMerge";
        let patches = MergePatches::new(world, root, entries, field)?;
        add(Box::new(patches), field.to_owned(), "PatchStrategicMergeTransformer");
    }
    for (i, patch) in kustomization.patches.iter().enumerate() {
        let field = format!("patches[{i}]");
        let patch = ApplyPatch::new(world, root, patch).map_err(|error| within(error, &field))?;
        add(Box::new(patch), field, "PatchTransformer");
    }
    if !kustomization.namespace.is_empty() {
        let namespace = SetNamespace {
            namespace: kustomization.namespace.clone(),
            specs: config.namespace.clone(),
            ..SetNamespace::default()
        };
        add(Box::new(namespace), "namespace".to_owned(), "NamespaceTransformer");
    }
    if !kustomization.name_prefix.is_empty() {
        let rename = Rename {
            prefix: kustomization.name_prefix.clone(),
            suffix: String::new(),
            is_prefix: true,
            specs: config.name_prefix.clone(),
        };
        add(Box::new(rename), "namePrefix".to_owned(), "PrefixTransformer");
    }
    if !kustomization.name_suffix.is_empty() {
        let rename = Rename {
            prefix: String::new(),
            suffix: kustomization.name_suffix.clone(),
            is_prefix: false,
            specs: config.name_suffix.clone(),
        };
        add(Box::new(rename), "nameSuffix".to_owned(), "SuffixTransformer");
    }
    for (i, label) in kustomization.labels.iter().enumerate() {
        let field = format!("labels[{i}]");
        let specs = label_specs(label, config).map_err(|error| error.in_field(&*field))?;
        add(Box::new(SetEntries { entries: label.pairs.clone(), specs }), field, "LabelTransformer");
    }
    let common = kustomization.common_labels.clone().unwrap_or_default();
    if !kustomization.labels.is_empty() || !common.is_empty() {
        let labels = SetEntries { entries: common, specs: config.common_labels.clone() };
        add(Box::new(labels), "commonLabels".to_owned(), "LabelTransformer");
    }
    if !kustomization.common_annotations.is_empty() {
        let annotations = SetEntries {
            entries: kustomization.common_annotations.clone(),
            specs: config.common_annotations.clone(),
        };
        add(Box::new(annotations), "commonAnnotations".to_owned(), "AnnotationsTransformer");
    }
    for (i, patch) in kustomization.patches_json.iter().flatten().enumerate() {
        let field = format!("patchesJson6902[{i}]");
        let made = old_json_patch(world, root, patch.target.as_ref(), &patch.path, &patch.patch);
        add(Box::new(made.map_err(|error| within(error, &field))?), field, "PatchJson6902Transformer");
    }
    for (i, replica) in kustomization.replicas.iter().enumerate() {
        let replicas = SetReplicas { replica: replica.clone(), specs: config.replicas.clone() };
        add(Box::new(replicas), format!("replicas[{i}]"), "ReplicaCountTransformer");
    }
    for (i, image) in kustomization.images.iter().enumerate() {
        let field = format!("images[{i}]");
        let image =
            SetImage::new(image.clone(), config.images.clone()).map_err(|error| within(error, &field))?;
        add(Box::new(image), field, "ImageTagTransformer");
    }
    if !kustomization.replacements.is_empty() {
        let field = "replacements";
        let replace = plugins::replacements(world, root, &kustomization.replacements, field)?;
        add(Box::new(replace), field.to_owned(), "ReplacementTransformer");
    }
    Ok(steps)
}

/// Puts the field of an entry before the field in it.
fn within(error: Error, field: &str) -> Error {
    match error.field().map(|inner| format!("{field}.{inner}")) {
        Some(inner) => error.without_field().in_field(inner),
        None => error.in_field(field),
    }
}

/// Where a label goes.
fn label_specs(label: &Label, config: &Config) -> Result<Vec<FieldSpec>, Error> {
    let mut specs = label.fields.clone();
    let mut merge =
        |more: &[FieldSpec]| merge_specs(&mut specs, more).map_err(|error| Error::new(error.to_string()));
    merge(&config.labels)?;
    if label.include_selectors {
        merge(&config.common_labels)?;
    } else {
        if label.include_templates {
            merge(&config.template_labels)?;
        }
        if label.include_volume_claim_templates {
            merge(&config.volume_claim_template_labels)?;
        }
        merge(&[FieldSpec::new(Gvk::default(), "metadata/labels", true)])?;
    }
    Ok(specs)
}
