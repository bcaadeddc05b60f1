//! Built-in transformers and generators that are configured by objects (`transformers`, `generators`).

use serde_json::Value;

use super::config::FieldSpec;
use super::decode::{DecodeError, Fields, PLUGIN};
use super::error::Error;
use super::generators::{Generator, generate};
use super::kustomization::{
    self, GeneratorArgs, Replacement, read_generator_fields, read_image_plugin, read_object_meta,
    read_patch_fields, read_replacement, read_replacement_field, read_replica, read_selector,
};
use super::parse::parse_one;
use super::resource::Resource;
use super::selector::Compiled;
use super::transform::hash::AddHashes;
use super::transform::image::SetImage;
use super::transform::label::SetEntries;
use super::transform::namespace::{SetNamespace, Subjects};
use super::transform::patch::{ApplyPatch, MergePatches, old_json_patch};
use super::transform::rename::Rename;
use super::transform::replacement::Replace;
use super::transform::replica::SetReplicas;
use super::transform::value_add::{AddValue, ValueTarget};
use super::transform::{Step, Transformer};
use super::world::{World, place_of};
use super::{json, origin};

/// Group of objects that configure built-in plugins.
const BUILTIN: &str = "builtin";

fn at_config(config: &Resource, error: Error) -> Error {
    match &config.source {
        Some(source) => error.at(|| place_of(source)),
        None => error,
    }
}

fn from_decode(error: DecodeError) -> Error {
    let shown =
        if error.path.is_empty() { error.message } else { format!("{} ({})", error.message, error.path) };
    let message = Error::new(shown);
    match error.hint {
        Some(hint) => message.hint(hint),
        None => message,
    }
}

fn refuse_external(config: &Resource) -> Result<(), Error> {
    if &*config.api_version() == BUILTIN {
        return Ok(());
    }
    let message = format!(
        "`{}` is a plugin that is a program or a container; only the built-in ones (`apiVersion: {BUILTIN}`) are run",
        config.kind()
    );
    Err(Error::new(message))
}

fn config_value(config: &Resource) -> Result<Value, Error> {
    json::to_json(&config.tree).map_err(|error| Error::new(error.to_string()))
}

/// The transformers that objects describe.
pub(crate) fn transformers(
    world: &World,
    root: &str,
    configs: &[Resource],
    field: &str,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    for config in configs {
        let made =
            transformer(world, root, config).map_err(|error| at_config(config, error).in_field(field))?;
        for transformer in made {
            let field = format!("{field}: {} {}", config.kind(), config.name());
            steps.push(Step { transformer, field, origin: None });
        }
        if let Some(last) = steps.last_mut() {
            last.origin = origin::of_plugin(config);
        }
    }
    Ok(steps)
}

fn transformer(world: &World, root: &str, config: &Resource) -> Result<Vec<Box<dyn Transformer>>, Error> {
    refuse_external(config)?;
    let value = config_value(config)?;
    let mut f = Fields::new(&value, "", PLUGIN).map_err(from_decode)?;
    let specs = |f: &mut Fields<'_>| f.list("fieldSpecs", FieldSpec::read).map_err(from_decode);
    let one = |transformer: Box<dyn Transformer>| Ok(vec![transformer]);
    match &*config.kind() {
        "AnnotationsTransformer" => one(Box::new(SetEntries {
            entries: f.text_map("annotations").map_err(from_decode)?.unwrap_or_default(),
            specs: specs(&mut f)?,
        })),
        "LabelTransformer" => one(Box::new(SetEntries {
            entries: f.text_map("labels").map_err(from_decode)?.unwrap_or_default(),
            specs: specs(&mut f)?,
        })),
        "NamespaceTransformer" => one(Box::new(namespace(&mut f)?)),
        kind @ ("PrefixTransformer" | "SuffixTransformer" | "PrefixSuffixTransformer") => {
            let specs = f.optional_list("fieldSpecs", FieldSpec::read).map_err(from_decode)?;
            let Some(specs) = specs else { return Err(Error::new("`fieldSpecs` is needed")) };
            let mut made: Vec<Box<dyn Transformer>> = Vec::new();
            for (wanted, is_prefix, name) in [("Prefix", true, "prefix"), ("Suffix", false, "suffix")] {
                if kind.contains(wanted) {
                    let text = f.text(name).map_err(from_decode)?;
                    let (prefix, suffix) =
                        if is_prefix { (text, String::new()) } else { (String::new(), text) };
                    made.push(Box::new(Rename { prefix, suffix, is_prefix, specs: specs.clone() }));
                }
            }
            Ok(made)
        }
        "ImageTagTransformer" => {
            let image = f.object("imageTag", read_image_plugin).map_err(from_decode)?.unwrap_or_default();
            one(Box::new(SetImage::new(image, specs(&mut f)?)?))
        }
        "ReplicaCountTransformer" => one(Box::new(SetReplicas {
            replica: f.object("replica", read_replica).map_err(from_decode)?.unwrap_or_default(),
            specs: specs(&mut f)?,
        })),
        "ReplacementTransformer" => {
            let fields = f.list("replacements", read_replacement_field).map_err(from_decode)?;
            one(Box::new(replacements(world, root, &fields, "replacements")?))
        }
        "PatchTransformer" => {
            let patch = read_patch_fields(&mut f).map_err(from_decode)?;
            one(Box::new(ApplyPatch::new(world, root, &patch)?))
        }
        "PatchJson6902Transformer" => {
            let target = f.object("target", read_selector).map_err(from_decode)?;
            let (path, inline) =
                (f.text("path").map_err(from_decode)?, f.text("jsonOp").map_err(from_decode)?);
            one(Box::new(old_json_patch(world, root, target.as_ref(), &path, &inline)?))
        }
        "PatchStrategicMergeTransformer" => {
            let paths = f.texts("paths").map_err(from_decode)?;
            let inline = f.text("patches").map_err(from_decode)?;
            let mut patches = match paths.is_empty() {
                true => Vec::new(),
                false => MergePatches::new(world, root, &paths, "paths")?.patches,
            };
            if !inline.is_empty() {
                patches.extend(world.objects_in_text(&inline)?);
            }
            if patches.is_empty() {
                return Err(Error::new("there is no patch in `paths` or `patches`"));
            }
            one(Box::new(MergePatches { patches }))
        }
        "ValueAddTransformer" => one(Box::new(value_add(world, root, &mut f)?)),
        "HashTransformer" => one(Box::new(AddHashes)),
        other => Err(Error::new(format!("there is no built-in transformer `{other}`"))),
    }
}

fn namespace(f: &mut Fields<'_>) -> Result<SetNamespace, Error> {
    let (_, namespace) = f.object("metadata", read_object_meta).map_err(from_decode)?.unwrap_or_default();
    let subjects = match f.text("setRoleBindingSubjects").map_err(from_decode)?.as_str() {
        "" | "defaultOnly" => Subjects::NamedDefault,
        "allServiceAccounts" => Subjects::AllServiceAccounts,
        "none" => Subjects::None,
        _ => {
            let message = "`setRoleBindingSubjects` must be `defaultOnly`, `none` or `allServiceAccounts`";
            return Err(Error::new(message));
        }
    };
    Ok(SetNamespace {
        namespace,
        specs: f.list("fieldSpecs", FieldSpec::read).map_err(from_decode)?,
        unset_only: f.bool("unsetOnly").map_err(from_decode)?,
        subjects,
    })
}

fn value_add(world: &World, root: &str, f: &mut Fields<'_>) -> Result<AddValue, Error> {
    let mut value = f.text("value").map_err(from_decode)?.trim().to_owned();
    if value.is_empty() {
        value = root.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let mut targets = f
        .list("targets", |value, path, rules| {
            let mut f = Fields::new(value, path, rules)?;
            Ok((f.object("selector", read_selector)?, f.text("fieldPath")?, f.int("filePathPosition")?))
        })
        .map_err(from_decode)?;
    let file = f.text("targetFilePath").map_err(from_decode)?;
    if !file.is_empty() {
        let (_, content) = world.read(root, &file)?;
        let value = super::yaml_value(&content).map_err(|error| Error::new(error.message()))?;
        let mut f = Fields::new(&value, "", PLUGIN).map_err(from_decode)?;
        targets.extend(
            f.list("targets", |value, path, rules| {
                let mut f = Fields::new(value, path, rules)?;
                Ok((f.object("selector", read_selector)?, f.text("fieldPath")?, f.int("filePathPosition")?))
            })
            .map_err(from_decode)?,
        );
    }
    if targets.is_empty() {
        return Err(Error::new("at least one target is needed"));
    }
    let mut compiled = Vec::new();
    for (selector, field_path, position) in targets {
        if field_path.is_empty() {
            return Err(Error::new("`fieldPath` is needed"));
        }
        if position < 0 {
            return Err(Error::new("`filePathPosition` cannot be negative"));
        }
        let selector = selector.as_ref().map(Compiled::new).transpose()?;
        compiled.push(ValueTarget { selector, field_path, position });
    }
    Ok(AddValue { value, targets: compiled })
}

/// All replacements of a list; those in files are read.
pub(crate) fn replacements(
    world: &World,
    root: &str,
    fields: &[kustomization::ReplacementField],
    field: &str,
) -> Result<Replace, Error> {
    let mut all = Vec::new();
    for (i, entry) in fields.iter().enumerate() {
        let field = format!("{field}[{i}]");
        if entry.path.is_empty() {
            all.push((field, entry.replacement.clone()));
            continue;
        }
        let inline = &entry.replacement;
        if inline.source.is_some() || inline.targets.as_ref().is_some_and(|targets| !targets.is_empty()) {
            return Err(
                Error::new("a replacement has either `path` or `source` and `targets`").in_field(field)
            );
        }
        let read = replacements_in_file(world, root, &entry.path)
            .map_err(|error| error.in_field(format!("{field}.path")))?;
        all.extend(read.into_iter().map(|replacement| (field.clone(), replacement)));
    }
    Ok(Replace { replacements: all })
}

fn replacements_in_file(world: &World, root: &str, path: &str) -> Result<Vec<Replacement>, Error> {
    let (_, content) = world.read(root, path)?;
    let value =
        super::yaml_value(&content).map_err(|error| Error::new(format!("`{path}`: {}", error.message())))?;
    let read = match &value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(i, item)| read_replacement(item, &format!("[{i}]"), PLUGIN))
            .collect::<Result<Vec<_>, _>>(),
        Value::Object(_) => read_replacement(&value, "", PLUGIN).map(|one| vec![one]),
        _ => return Err(Error::new(format!("`{path}` must hold a replacement or a list of them"))),
    };
    read.map_err(from_decode)
}

/// What a generator that an object describes makes, and the origin that is noted.
pub(crate) fn generated(
    world: &World,
    root: &str,
    config: &Resource,
    field: &str,
) -> Result<(Vec<Resource>, Option<String>), Error> {
    let made = generator(world, root, config).map_err(|error| at_config(config, error).in_field(field))?;
    Ok((made, origin::of_plugin(config)))
}

fn generator(world: &World, root: &str, config: &Resource) -> Result<Vec<Resource>, Error> {
    refuse_external(config)?;
    let value = config_value(config)?;
    let mut f = Fields::new(&value, "", PLUGIN).map_err(from_decode)?;
    match &*config.kind() {
        kind @ ("ConfigMapGenerator" | "SecretGenerator") => {
            let generator = if kind == "SecretGenerator" { Generator::Secret } else { Generator::ConfigMap };
            let (name, namespace) =
                f.object("metadata", read_object_meta).map_err(from_decode)?.unwrap_or_default();
            let mut args: GeneratorArgs = read_generator_fields(&mut f).map_err(from_decode)?;
            args.secret_type = f.text("type").map_err(from_decode)?;
            if args.name.is_empty() {
                args.name = name;
            }
            if args.namespace.is_empty() {
                args.namespace = namespace;
            }
            Ok(vec![generate(world, root, generator, &args)?])
        }
        "IAMPolicyGenerator" => iam_policy(&mut f).map(|made| vec![made]),
        "HelmChartInflationGenerator" => Err(Error::new("helm charts are not rendered")),
        other => Err(Error::new(format!("there is no built-in generator `{other}`"))),
    }
}

/// A service account with the annotation that Google's workload identity reads.
fn iam_policy(f: &mut Fields<'_>) -> Result<Resource, Error> {
    let cloud = f.text("cloud").map_err(from_decode)?;
    if cloud != "gke" {
        return Err(Error::new(format!("the cloud `{cloud}` is not supported, only `gke`")));
    }
    let pair = |f: &mut Fields<'_>, field, second: &'static str| {
        f.object(field, |value, path, rules| {
            let mut f = Fields::new(value, path, rules)?;
            Ok((f.text("name")?, f.text(second)?))
        })
        .map(Option::unwrap_or_default)
        .map_err(from_decode)
    };
    let (name, namespace) = pair(f, "kubernetesService", "namespace")?;
    let (account, project) = pair(f, "serviceAccount", "projectId")?;
    let text = serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
        "annotations": {"iam.gke.io/gcp-service-account": format!("{account}@{project}.iam.gserviceaccount.com")},
        "name": name,
    }});
    let mut text = text;
    if !namespace.is_empty() {
        text["metadata"]["namespace"] = Value::from(namespace);
    }
    let tree =
        parse_one(&text.to_string()).ok().flatten().ok_or_else(|| Error::new("the names are not text"))?;
    Ok(Resource::new(tree, None))
}
