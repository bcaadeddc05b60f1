//! A kustomization file: its fields, the deprecated ones included, and what is refused in it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::config::FieldSpec;
use super::decode::{DecodeError, Fields, KUSTOMIZATION, Rules, text_map_of};
use super::id::{Gvk, ResId};

type Result<T> = std::result::Result<T, DecodeError>;

/// Names under which a kustomization is found in its folder.
pub const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KustomizationKind {
    Kustomization,
    Component,
}

impl KustomizationKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            KustomizationKind::Kustomization => "Kustomization",
            KustomizationKind::Component => "Component",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Kustomization {
    pub(crate) kind: KustomizationKind,
    pub(crate) openapi: BTreeMap<String, String>,
    pub(crate) name_prefix: String,
    pub(crate) name_suffix: String,
    pub(crate) namespace: String,
    pub(crate) common_labels: Option<BTreeMap<String, String>>,
    pub(crate) labels: Vec<Label>,
    pub(crate) common_annotations: BTreeMap<String, String>,
    pub(crate) patches_strategic_merge: Option<Vec<String>>,
    pub(crate) patches_json: Option<Vec<Patch>>,
    pub(crate) patches: Vec<Patch>,
    pub(crate) images: Vec<Image>,
    pub(crate) replacements: Vec<ReplacementField>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) vars: Option<Vec<Var>>,
    pub(crate) sort_options: Option<SortOptions>,
    /// With the field that names each (`bases` are resources).
    pub(crate) resources: Vec<(String, String)>,
    pub(crate) components: Vec<String>,
    pub(crate) crds: Vec<String>,
    pub(crate) config_maps: Vec<GeneratorArgs>,
    pub(crate) secrets: Vec<GeneratorArgs>,
    /// The field that asks for a chart.
    pub(crate) helm: Option<&'static str>,
    pub(crate) generator_options: Option<GeneratorOptions>,
    pub(crate) configurations: Vec<String>,
    pub(crate) generators: Vec<String>,
    pub(crate) transformers: Vec<String>,
    pub(crate) validators: Vec<String>,
    pub(crate) build_metadata: Vec<String>,
    /// Warnings about deprecated fields, in upstream's words.
    pub(crate) warnings: Vec<&'static str>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Label {
    pub(crate) pairs: BTreeMap<String, String>,
    pub(crate) include_selectors: bool,
    pub(crate) include_templates: bool,
    pub(crate) include_volume_claim_templates: bool,
    pub(crate) fields: Vec<FieldSpec>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Patch {
    pub(crate) path: String,
    pub(crate) patch: String,
    pub(crate) target: Option<Selector>,
    pub(crate) allow_name_change: bool,
    pub(crate) allow_kind_change: bool,
}

/// Group, version, kind, name and namespace are regular expressions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    pub(crate) id: Selected,
    pub(crate) annotation_selector: String,
    pub(crate) label_selector: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selected {
    pub(crate) gvk: Gvk,
    pub(crate) name: String,
    pub(crate) namespace: String,
}

impl Selected {
    pub(crate) fn to_id(&self) -> ResId {
        ResId {
            gvk: self.gvk.clone(),
            name: self.name.as_str().into(),
            namespace: self.namespace.as_str().into(),
            cluster_scoped: false,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) new_name: String,
    pub(crate) tag_suffix: String,
    pub(crate) new_tag: String,
    pub(crate) digest: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) count: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ReplacementField {
    pub(crate) path: String,
    pub(crate) replacement: Replacement,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Replacement {
    pub(crate) source: Option<ReplacementSource>,
    pub(crate) source_value: Option<String>,
    pub(crate) targets: Option<Vec<ReplacementTarget>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ReplacementSource {
    pub(crate) id: Selected,
    pub(crate) field_path: String,
    pub(crate) options: Option<FieldOptions>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ReplacementTarget {
    pub(crate) select: Option<Selector>,
    pub(crate) reject: Vec<Selector>,
    pub(crate) field_paths: Vec<String>,
    pub(crate) options: Option<FieldOptions>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FieldOptions {
    pub(crate) delimiter: String,
    pub(crate) index: i64,
    pub(crate) create: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Var {
    pub(crate) name: String,
    pub(crate) gvk: Gvk,
    pub(crate) object_name: String,
    pub(crate) namespace: String,
    pub(crate) field_path: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SortOptions {
    pub(crate) order: String,
    pub(crate) legacy: Option<(Vec<String>, Vec<String>)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct GeneratorArgs {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) behavior: String,
    pub(crate) literals: Vec<String>,
    pub(crate) files: Vec<String>,
    pub(crate) envs: Vec<String>,
    pub(crate) options: Option<GeneratorOptions>,
    /// Of a Secret.
    pub(crate) secret_type: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct GeneratorOptions {
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) disable_name_suffix_hash: bool,
    pub(crate) immutable: bool,
}

const API_VERSION: &str = "kustomize.config.k8s.io/v1beta1";
const COMPONENT_API_VERSION: &str = "kustomize.config.k8s.io/v1alpha1";
const RUN_FIX: &str = "Run 'kustomize edit fix' to update your Kustomization automatically.";

macro_rules! deprecated {
    ($field:literal, $instead:literal) => {
        concat!(
            "# Warning: '",
            $field,
            "' is deprecated. Please use '",
            $instead,
            "' instead. ",
            "Run 'kustomize edit fix' to update your Kustomization automatically."
        )
    };
}

const VARS_WARNING: &str = concat!(
    "# Warning: 'vars' is deprecated. Please use 'replacements' instead. [EXPERIMENTAL] ",
    "Run 'kustomize edit fix' to update your Kustomization automatically."
);

/// Reads a kustomization.
pub(crate) fn read(value: &Value) -> Result<Kustomization> {
    debug_assert!(VARS_WARNING.ends_with(RUN_FIX));
    let mut f = Fields::new(value, "", KUSTOMIZATION)?;
    let kind = f.text("kind")?;
    let api_version = f.text("apiVersion")?;
    f.object("metadata", read_metadata)?;
    let mut resources: Vec<(String, String)> = with_field("resources", f.texts("resources")?);
    let bases = f.optional_list("bases", super::decode::text_of)?;
    let mut images = f.list("images", read_image)?;
    let image_tags = f.optional_list("imageTags", read_image)?;
    let helm_charts = f.take("helmCharts").map(|value| (value, "helmCharts"));
    let helm_old = f.take("helmChartInflationGenerator").map(|value| (value, "helmChartInflationGenerator"));
    f.take("helmGlobals");
    let mut kustomization = Kustomization {
        kind: KustomizationKind::Kustomization,
        openapi: f.text_map("openapi")?.unwrap_or_default(),
        name_prefix: f.text("namePrefix")?,
        name_suffix: f.text("nameSuffix")?,
        namespace: f.text("namespace")?,
        common_labels: f.text_map("commonLabels")?,
        labels: f.list("labels", read_label)?,
        common_annotations: f.text_map("commonAnnotations")?.unwrap_or_default(),
        patches_strategic_merge: f.optional_list("patchesStrategicMerge", super::decode::text_of)?,
        patches_json: f.optional_list("patchesJson6902", read_patch)?,
        patches: f.list("patches", read_patch)?,
        images: Vec::new(),
        replacements: f.list("replacements", read_replacement_field)?,
        replicas: f.list("replicas", read_replica)?,
        vars: f.optional_list("vars", read_var)?,
        sort_options: f.object("sortOptions", read_sort_options)?,
        resources: Vec::new(),
        components: f.texts("components")?,
        crds: f.texts("crds")?,
        config_maps: f.list("configMapGenerator", read_config_map)?,
        secrets: f.list("secretGenerator", read_secret)?,
        helm: helm_charts
            .or(helm_old)
            .filter(|(value, _)| value.as_array().is_none_or(|list| !list.is_empty()))
            .map(|(_, field)| field),
        generator_options: f.object("generatorOptions", read_generator_options)?,
        configurations: f.texts("configurations")?,
        generators: f.texts("generators")?,
        transformers: f.texts("transformers")?,
        validators: f.texts("validators")?,
        build_metadata: f.texts("buildMetadata")?,
        warnings: Vec::new(),
    };
    f.finish()?;
    kustomization.warnings = warnings(&kustomization, bases.is_some(), image_tags.is_some());
    resources.extend(with_field("bases", bases.unwrap_or_default()));
    images.extend(image_tags.unwrap_or_default());
    kustomization.resources = resources;
    kustomization.images = images;
    check_kind(&mut kustomization, &kind, &api_version)?;
    if is_empty(value) {
        return Err(DecodeError {
            path: String::new(),
            message: "the kustomization is empty".to_owned(),
            hint: None,
        });
    }
    Ok(kustomization)
}

fn with_field(field: &str, paths: Vec<String>) -> Vec<(String, String)> {
    paths.into_iter().enumerate().map(|(i, path)| (path, format!("{field}[{i}]"))).collect()
}

fn warnings(kustomization: &Kustomization, bases: bool, image_tags: bool) -> Vec<&'static str> {
    let found = [
        (bases, deprecated!("bases", "resources")),
        (kustomization.common_labels.is_some(), deprecated!("commonLabels", "labels")),
        (image_tags, deprecated!("imageTags", "images")),
        (kustomization.patches_json.is_some(), deprecated!("patchesJson6902", "patches")),
        (kustomization.patches_strategic_merge.is_some(), deprecated!("patchesStrategicMerge", "patches")),
        (kustomization.vars.is_some(), VARS_WARNING),
    ];
    found.into_iter().filter(|(is, _)| *is).map(|(_, warning)| warning).collect()
}

fn check_kind(kustomization: &mut Kustomization, kind: &str, api_version: &str) -> Result<()> {
    let error = |path: &str, message: String| Err(DecodeError { path: path.to_owned(), message, hint: None });
    kustomization.kind = match kind {
        "" | "Kustomization" => KustomizationKind::Kustomization,
        "Component" => KustomizationKind::Component,
        _ => return error("kind", "`kind` must be `Kustomization` or `Component`".to_owned()),
    };
    let wanted = match kustomization.kind {
        KustomizationKind::Kustomization => API_VERSION,
        KustomizationKind::Component => COMPONENT_API_VERSION,
    };
    if !api_version.is_empty() && api_version != wanted {
        let kind = kustomization.kind.name();
        return error("apiVersion", format!("`apiVersion` of a `{kind}` must be `{wanted}`"));
    }
    Ok(())
}

/// Nothing is said but what the file is. An empty list is something, unless it is of a field that is moved elsewhere.
fn is_empty(value: &Value) -> bool {
    let Some(map) = value.as_object() else { return true };
    map.iter().all(|(key, value)| match key.to_ascii_lowercase().as_str() {
        "kind" | "apiversion" => true,
        "bases" | "imagetags" | "helmchartinflationgenerator" => value.as_array().is_none_or(Vec::is_empty),
        _ => value.is_null() || value.as_str() == Some(""),
    })
}

/// It is not used, but must be right.
fn read_metadata(value: &Value, path: &str, rules: Rules) -> Result<()> {
    let mut f = Fields::new(value, path, rules)?;
    f.text("name")?;
    f.text("namespace")?;
    f.text_map("labels")?;
    f.text_map("annotations")?;
    f.finish()
}

fn read_image(value: &Value, path: &str, rules: Rules) -> Result<Image> {
    let mut f = Fields::new(value, path, rules)?;
    let image = Image {
        name: f.text("name")?,
        new_name: f.text("newName")?,
        tag_suffix: f.text("tagSuffix")?,
        new_tag: f.text("newTag")?,
        digest: f.text("digest")?,
    };
    f.finish()?;
    Ok(image)
}

/// `imageTag` of a plugin.
pub(crate) fn read_image_plugin(value: &Value, path: &str, rules: Rules) -> Result<Image> {
    read_image(value, path, rules)
}

fn read_label(value: &Value, path: &str, rules: Rules) -> Result<Label> {
    let mut f = Fields::new(value, path, rules)?;
    let label = Label {
        pairs: f.text_map("pairs")?.unwrap_or_default(),
        include_selectors: f.bool("includeSelectors")?,
        include_templates: f.bool("includeTemplates")?,
        include_volume_claim_templates: f.bool("includeVolumeClaimTemplates")?,
        fields: f.list("fields", FieldSpec::read)?,
    };
    f.finish()?;
    Ok(label)
}

fn read_patch(value: &Value, path: &str, rules: Rules) -> Result<Patch> {
    let mut f = Fields::new(value, path, rules)?;
    let patch = read_patch_fields(&mut f)?;
    f.finish()?;
    Ok(patch)
}

/// The fields of an entry of `patches`, and of the plugin.
pub(crate) fn read_patch_fields(f: &mut Fields<'_>) -> Result<Patch> {
    let options = f.object("options", |value, path, rules| {
        let mut f = Fields::new(value, path, rules)?;
        let options = (f.bool("allowNameChange")?, f.bool("allowKindChange")?);
        f.finish()?;
        Ok(options)
    })?;
    let (allow_name_change, allow_kind_change) = options.unwrap_or_default();
    Ok(Patch {
        path: f.text("path")?,
        patch: f.text("patch")?,
        target: f.object("target", read_selector)?,
        allow_name_change,
        allow_kind_change,
    })
}

pub(crate) fn read_gvk(f: &mut Fields<'_>) -> Result<Gvk> {
    Ok(Gvk {
        group: f.text("group")?.into(),
        version: f.text("version")?.into(),
        kind: f.text("kind")?.into(),
    })
}

fn read_selected(f: &mut Fields<'_>) -> Result<Selected> {
    Ok(Selected { gvk: read_gvk(f)?, name: f.text("name")?, namespace: f.text("namespace")? })
}

pub(crate) fn read_selector(value: &Value, path: &str, rules: Rules) -> Result<Selector> {
    let mut f = Fields::new(value, path, rules)?;
    let selector = Selector {
        id: read_selected(&mut f)?,
        annotation_selector: f.text("annotationSelector")?,
        label_selector: f.text("labelSelector")?,
    };
    f.finish()?;
    Ok(selector)
}

pub(crate) fn read_replica(value: &Value, path: &str, rules: Rules) -> Result<Replica> {
    let mut f = Fields::new(value, path, rules)?;
    let replica = Replica { name: f.text("name")?, count: f.int("count")? };
    f.finish()?;
    Ok(replica)
}

pub(crate) fn read_replacement_field(value: &Value, path: &str, rules: Rules) -> Result<ReplacementField> {
    let mut f = Fields::new(value, path, rules)?;
    let field = ReplacementField { path: f.text("path")?, replacement: read_replacement_fields(&mut f)? };
    f.finish()?;
    Ok(field)
}

/// One replacement of a file.
pub(crate) fn read_replacement(value: &Value, path: &str, rules: Rules) -> Result<Replacement> {
    let mut f = Fields::new(value, path, rules)?;
    let replacement = read_replacement_fields(&mut f)?;
    f.finish()?;
    Ok(replacement)
}

fn read_replacement_fields(f: &mut Fields<'_>) -> Result<Replacement> {
    Ok(Replacement {
        source: f.object("source", |value, path, rules| {
            let mut f = Fields::new(value, path, rules)?;
            let source = ReplacementSource {
                id: read_selected(&mut f)?,
                field_path: f.text("fieldPath")?,
                options: f.object("options", read_field_options)?,
            };
            f.finish()?;
            Ok(source)
        })?,
        source_value: f.optional_text("sourceValue")?,
        targets: f.optional_list("targets", |value, path, rules| {
            let mut f = Fields::new(value, path, rules)?;
            let target = ReplacementTarget {
                select: f.object("select", read_selector)?,
                reject: f.list("reject", read_selector)?,
                field_paths: f.texts("fieldPaths")?,
                options: f.object("options", read_field_options)?,
            };
            f.finish()?;
            Ok(target)
        })?,
    })
}

fn read_field_options(value: &Value, path: &str, rules: Rules) -> Result<FieldOptions> {
    let mut f = Fields::new(value, path, rules)?;
    let options =
        FieldOptions { delimiter: f.text("delimiter")?, index: f.int("index")?, create: f.bool("create")? };
    f.text("encoding")?;
    f.finish()?;
    Ok(options)
}

fn read_var(value: &Value, path: &str, rules: Rules) -> Result<Var> {
    let mut f = Fields::new(value, path, rules)?;
    let name = f.text("name")?;
    let target = f.object("objref", |value, path, rules| {
        let mut f = Fields::new(value, path, rules)?;
        let api_version = f.text("apiVersion")?;
        let mut selected = read_selected(&mut f)?;
        f.finish()?;
        match api_version.split('/').collect::<Vec<_>>()[..] {
            [""] => {}
            [version] => selected.gvk.version = version.into(),
            [group, version] => {
                selected.gvk.group = group.into();
                selected.gvk.version = version.into();
            }
            _ => {}
        }
        Ok(selected)
    })?;
    let field_path = f.object("fieldref", |value, path, rules| {
        let mut f = Fields::new(value, path, rules)?;
        let field_path = f.text("fieldPath")?;
        f.finish()?;
        Ok(field_path)
    })?;
    f.finish()?;
    let target = target.unwrap_or_default();
    let field_path = field_path.filter(|path| !path.is_empty()).unwrap_or_else(|| "metadata.name".to_owned());
    Ok(Var { name, gvk: target.gvk, object_name: target.name, namespace: target.namespace, field_path })
}

fn read_sort_options(value: &Value, path: &str, rules: Rules) -> Result<SortOptions> {
    let mut f = Fields::new(value, path, rules)?;
    let options = SortOptions {
        order: f.text("order")?,
        legacy: f.object("legacySortOptions", |value, path, rules| {
            let mut f = Fields::new(value, path, rules)?;
            let legacy = (f.texts("orderFirst")?, f.texts("orderLast")?);
            f.finish()?;
            Ok(legacy)
        })?,
    };
    f.finish()?;
    Ok(options)
}

fn read_config_map(value: &Value, path: &str, rules: Rules) -> Result<GeneratorArgs> {
    let mut f = Fields::new(value, path, rules)?;
    let args = read_generator_fields(&mut f)?;
    f.finish()?;
    Ok(args)
}

fn read_secret(value: &Value, path: &str, rules: Rules) -> Result<GeneratorArgs> {
    let mut f = Fields::new(value, path, rules)?;
    let args = GeneratorArgs { secret_type: f.text("type")?, ..read_generator_fields(&mut f)? };
    f.finish()?;
    Ok(args)
}

/// The fields of a generator, and of the plugin.
pub(crate) fn read_generator_fields(f: &mut Fields<'_>) -> Result<GeneratorArgs> {
    let mut args = GeneratorArgs {
        namespace: f.text("namespace")?,
        name: f.text("name")?,
        behavior: f.text("behavior")?,
        literals: f.texts("literals")?,
        files: f.texts("files")?,
        envs: f.texts("envs")?,
        options: f.object("options", read_generator_options)?,
        secret_type: String::new(),
    };
    let env = f.text("env")?;
    // The old singular form; a plugin's is not looked at.
    if !env.is_empty() && !f.rules().coerce {
        args.envs.push(env);
    }
    Ok(args)
}

pub(crate) fn read_generator_options(value: &Value, path: &str, rules: Rules) -> Result<GeneratorOptions> {
    let mut f = Fields::new(value, path, rules)?;
    let options = GeneratorOptions {
        labels: f.text_map("labels")?,
        annotations: f.text_map("annotations")?,
        disable_name_suffix_hash: f.bool("disableNameSuffixHash")?,
        immutable: f.bool("immutable")?,
    };
    f.finish()?;
    Ok(options)
}

/// `metadata` of a plugin: name and namespace.
pub(crate) fn read_object_meta(value: &Value, path: &str, rules: Rules) -> Result<(String, String)> {
    let mut f = Fields::new(value, path, rules)?;
    let meta = (f.text("name")?, f.text("namespace")?);
    // Labels and annotations are not used, but must be maps.
    for field in ["labels", "annotations"] {
        if let Some(value) = value.get(field).filter(|value| !value.is_null()) {
            text_map_of(value, path, rules)?;
        }
    }
    Ok(meta)
}

/// Options of one generator, with those for all of them put in where it says nothing.
pub(crate) fn merge_options(
    local: Option<GeneratorOptions>,
    global: Option<&GeneratorOptions>,
) -> Option<GeneratorOptions> {
    let Some(global) = global else { return local };
    let mut options = local.unwrap_or_default();
    let fill = |local: &mut Option<BTreeMap<String, String>>, global: &Option<BTreeMap<String, String>>| {
        let Some(global) = global else { return };
        let local = local.get_or_insert_with(BTreeMap::new);
        for (key, value) in global {
            local.entry(key.clone()).or_insert_with(|| value.clone());
        }
    };
    fill(&mut options.labels, &global.labels);
    fill(&mut options.annotations, &global.annotations);
    options.disable_name_suffix_hash |= global.disable_name_suffix_hash;
    options.immutable |= global.immutable;
    Some(options)
}

impl Kustomization {
    pub(crate) fn wants_metadata(&self, option: &str) -> bool {
        self.build_metadata.iter().any(|wanted| wanted == option)
    }
}

/// Options of `buildMetadata`.
pub(crate) const ORIGIN_ANNOTATIONS: &str = "originAnnotations";
pub(crate) const TRANSFORMER_ANNOTATIONS: &str = "transformerAnnotations";
pub(crate) const MANAGED_BY_LABEL: &str = "managedByLabel";
