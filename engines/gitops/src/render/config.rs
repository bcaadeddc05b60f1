//! Which fields transformers change: the defaults (`data/field-specs.txt`), `configurations` and `crds` of
//! kustomizations.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::decode::{CONFIGURATION, DecodeError, Fields, Rules};
use super::id::Gvk;
use super::kustomization::read_gvk;
use super::path;

/// A field of the kinds that the selector takes. Shared: a configuration is copied at each level of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSpec {
    pub(crate) gvk: Gvk,
    pub(crate) path: String,
    pub(crate) parts: Arc<[String]>,
    pub(crate) create: bool,
}

impl FieldSpec {
    pub(crate) fn new(gvk: Gvk, path: &str, create: bool) -> FieldSpec {
        FieldSpec { gvk, path: path.to_owned(), parts: path::split(path, '/').into(), create }
    }

    pub(crate) fn read(value: &Value, at: &str, rules: Rules) -> Result<FieldSpec, DecodeError> {
        let mut f = Fields::new(value, at, rules)?;
        let gvk = read_gvk(&mut f)?;
        let spec = FieldSpec::new(gvk, &f.text("path")?, f.bool("create")?);
        f.finish()?;
        Ok(spec)
    }
}

/// Two entries of the same field say different things about creating it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the field `{0}` is configured twice, once with `create: true` and once without")]
pub(crate) struct Conflict(String);

/// Adds what is not there yet.
pub(crate) fn merge_specs(specs: &mut Vec<FieldSpec>, more: &[FieldSpec]) -> Result<(), Conflict> {
    for new in more {
        match specs.iter().find(|spec| spec.gvk.is_selected(&new.gvk) && spec.path == new.path) {
            Some(found) if found.create != new.create => return Err(Conflict(new.path.clone())),
            Some(_) => {}
            None => specs.push(new.clone()),
        }
    }
    Ok(())
}

/// Fields that hold the name of an object of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackReference {
    pub(crate) target: Gvk,
    pub(crate) referrers: Vec<FieldSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) name_prefix: Vec<FieldSpec>,
    pub(crate) name_suffix: Vec<FieldSpec>,
    pub(crate) namespace: Vec<FieldSpec>,
    pub(crate) common_labels: Vec<FieldSpec>,
    pub(crate) labels: Vec<FieldSpec>,
    pub(crate) template_labels: Vec<FieldSpec>,
    pub(crate) volume_claim_template_labels: Vec<FieldSpec>,
    pub(crate) common_annotations: Vec<FieldSpec>,
    pub(crate) name_reference: Vec<BackReference>,
    pub(crate) var_reference: Vec<FieldSpec>,
    pub(crate) images: Vec<FieldSpec>,
    pub(crate) replicas: Vec<FieldSpec>,
}

impl Config {
    fn lists(&mut self) -> [&mut Vec<FieldSpec>; 11] {
        [
            &mut self.name_prefix,
            &mut self.name_suffix,
            &mut self.namespace,
            &mut self.common_annotations,
            &mut self.common_labels,
            &mut self.labels,
            &mut self.template_labels,
            &mut self.volume_claim_template_labels,
            &mut self.var_reference,
            &mut self.images,
            &mut self.replicas,
        ]
    }

    pub(crate) fn merge(&mut self, other: &Config) -> Result<(), Conflict> {
        let mut other = other.clone();
        for (ours, theirs) in self.lists().into_iter().zip(other.lists()) {
            merge_specs(ours, theirs)?;
        }
        for reference in &other.name_reference {
            self.merge_reference(reference)?;
        }
        self.sort();
        Ok(())
    }

    fn merge_reference(&mut self, new: &BackReference) -> Result<(), Conflict> {
        let mut found = false;
        for reference in self.name_reference.iter_mut().filter(|reference| reference.target == new.target) {
            merge_specs(&mut reference.referrers, &new.referrers)?;
            found = true;
        }
        if !found {
            self.name_reference.push(new.clone());
        }
        Ok(())
    }

    fn sort(&mut self) {
        for list in self.lists() {
            list.sort_by_cached_key(|spec| spec.gvk.sort_key());
        }
        self.name_reference.sort_by_cached_key(|reference| reference.target.sort_key());
    }

    /// What holds without any configuration.
    pub(crate) fn defaults() -> Arc<Config> {
        static DEFAULTS: OnceLock<Arc<Config>> = OnceLock::new();
        Arc::clone(
            DEFAULTS.get_or_init(|| Arc::new(read_defaults(include_str!("../../data/field-specs.txt")))),
        )
    }

    /// A file of `configurations`.
    pub(crate) fn read(value: &Value) -> Result<Config, DecodeError> {
        let mut f = Fields::new(value, "", CONFIGURATION)?;
        let mut config = Config {
            name_prefix: f.list("namePrefix", FieldSpec::read)?,
            name_suffix: f.list("nameSuffix", FieldSpec::read)?,
            namespace: f.list("namespace", FieldSpec::read)?,
            common_labels: f.list("commonLabels", FieldSpec::read)?,
            labels: f.list("labels", FieldSpec::read)?,
            template_labels: f.list("templateLabels", FieldSpec::read)?,
            volume_claim_template_labels: f.list("volumeClaimTemplateLabels", FieldSpec::read)?,
            common_annotations: f.list("commonAnnotations", FieldSpec::read)?,
            name_reference: f.list("nameReference", |value, path, rules| {
                let mut f = Fields::new(value, path, rules)?;
                let reference = BackReference {
                    target: read_gvk(&mut f)?,
                    referrers: f.list("fieldSpecs", FieldSpec::read)?,
                };
                f.finish()?;
                Ok(reference)
            })?,
            var_reference: f.list("varReference", FieldSpec::read)?,
            images: f.list("images", FieldSpec::read)?,
            replicas: f.list("replicas", FieldSpec::read)?,
        };
        f.finish()?;
        config.sort();
        Ok(config)
    }

    fn section(&mut self, name: &str) -> Option<&mut Vec<FieldSpec>> {
        Some(match name {
            "namePrefix" => &mut self.name_prefix,
            "nameSuffix" => &mut self.name_suffix,
            "namespace" => &mut self.namespace,
            "commonLabels" => &mut self.common_labels,
            "templateLabels" => &mut self.template_labels,
            "volumeClaimTemplateLabels" => &mut self.volume_claim_template_labels,
            "commonAnnotations" => &mut self.common_annotations,
            "varReference" => &mut self.var_reference,
            "images" => &mut self.images,
            "replicas" => &mut self.replicas,
            _ => return None,
        })
    }
}

/// Reads the table of defaults; its head says how it is written.
fn read_defaults(text: &str) -> Config {
    let mut config = Config::default();
    let mut section = "";
    let part = |word: &str| -> Arc<str> { if word == "*" { "".into() } else { word.into() } };
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [name] => section = name.trim_matches(['[', ']']),
            [">", kind, version, group] => config.name_reference.push(BackReference {
                target: Gvk { group: part(group), version: part(version), kind: part(kind) },
                referrers: Vec::new(),
            }),
            [path, kind, version, group, ..] => {
                let gvk = Gvk { group: part(group), version: part(version), kind: part(kind) };
                let spec = FieldSpec::new(gvk, path, words.get(4) == Some(&"create"));
                match config.section(section) {
                    Some(list) => list.push(spec),
                    None => config
                        .name_reference
                        .last_mut()
                        .into_iter()
                        .for_each(|last| last.referrers.push(spec.clone())),
                }
            }
            _ => unreachable!("a line of the table has four words"),
        }
    }
    config.sort();
    config
}

/// What the OpenAPI definitions of custom resources (a file of `crds`) say about their fields.
pub(crate) fn from_crds(definitions: &Value) -> Result<Config, Conflict> {
    let mut config = Config::default();
    let Some(definitions) = definitions.as_object() else { return Ok(config) };
    let by_name: HashMap<&str, &Value> = definitions.iter().map(|(name, api)| (name.as_str(), api)).collect();
    for (name, api) in definitions {
        let properties = properties_of(api);
        if !["kind", "apiVersion", "metadata"]
            .iter()
            .all(|field| properties.is_some_and(|p| p.contains_key(*field)))
        {
            continue;
        }
        let kind = name.rsplit('.').next().unwrap_or_default();
        let gvk = Gvk { kind: kind.into(), ..Gvk::default() };
        let mut of_kind = Config::default();
        walk_definition(&mut of_kind, &gvk, &by_name, name, &mut Vec::new(), 0)?;
        config.merge(&of_kind)?;
    }
    Ok(config)
}

fn properties_of(api: &Value) -> Option<&serde_json::Map<String, Value>> {
    let schema = api.get("Schema").or_else(|| api.get("schema"))?;
    schema.get("properties")?.as_object()
}

fn walk_definition(
    config: &mut Config,
    gvk: &Gvk,
    definitions: &HashMap<&str, &Value>,
    name: &str,
    path: &mut Vec<String>,
    depth: usize,
) -> Result<(), Conflict> {
    // Definitions may refer to themselves; there that never ends.
    const DEPTH_MAX: usize = 32;
    let Some(properties) =
        definitions.get(name).and_then(|api| properties_of(api)).filter(|_| depth < DEPTH_MAX)
    else {
        return Ok(());
    };
    for (field, property) in properties {
        path.push(field.clone());
        let text = |name: &str| property.get(name).and_then(Value::as_str);
        let spec = || FieldSpec::new(gvk.clone(), &path.join("/"), false);
        if text("x-kubernetes-annotation").is_some() {
            merge_specs(&mut config.common_annotations, &[spec()])?;
        }
        if text("x-kubernetes-label-selector").is_some() {
            merge_specs(&mut config.common_labels, &[spec()])?;
        }
        if text("x-kubernetes-identity").is_some() {
            merge_specs(&mut config.name_prefix, &[spec()])?;
        }
        if let (Some(version), Some(kind)) =
            (text("x-kubernetes-object-ref-api-version"), text("x-kubernetes-object-ref-kind"))
        {
            let key = text("x-kubernetes-object-ref-name-key").unwrap_or("name");
            let target = Gvk { version: version.into(), kind: kind.into(), ..Gvk::default() };
            let referrer = FieldSpec::new(gvk.clone(), &format!("{}/{key}", path.join("/")), false);
            config.merge_reference(&BackReference { target, referrers: vec![referrer] })?;
        }
        if let Some(reference) = text("$ref") {
            walk_definition(config, gvk, definitions, reference, path, depth + 1)?;
        }
        path.pop();
    }
    Ok(())
}
