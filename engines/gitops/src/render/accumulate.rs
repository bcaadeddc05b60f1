//! A kustomization and those it names, from the inside out: resources, generators, components, transformers.

use std::collections::BTreeMap;
use std::sync::Arc;

use dodai_yaml::{Limits, Position, ReadOptions};
use serde_json::Value;

use super::config::{self, Config};
use super::decode::DecodeError;
use super::error::{Error, ErrorPlace};
use super::files::{FileError, Place};
use super::generators::{Generator, generate};
use super::kustomization::{
    self, FILE_NAMES, GeneratorArgs, Kustomization, KustomizationKind, Var, merge_options,
};
use super::origin::{self, Origin};
use super::resource::Resource;
use super::schema::{BUILTIN_VERSION, from_openapi};
use super::transform::Step;
use super::transform::fields::{append_all, at_object, with_any_id};
use super::world::{Note, World, from_file_error, is_url};
use super::{explain, names, plugins, steps};

/// Kustomizations inside each other.
const DEPTH_MAX: usize = 100;

/// Objects on their way up, with the configuration and the vars that came with them.
#[derive(Default)]
pub(crate) struct Accumulator {
    pub(crate) objects: Vec<Resource>,
    pub(crate) config: Option<Arc<Config>>,
    pub(crate) vars: BTreeMap<String, Var>,
}

impl Accumulator {
    fn merge_config(&mut self, other: &Arc<Config>) -> Result<(), Error> {
        let defaults = Config::defaults();
        let merged = match &self.config {
            None if Arc::ptr_eq(other, &defaults) => Arc::clone(other),
            // Every configuration has the defaults in it.
            Some(own) if Arc::ptr_eq(own, other) || Arc::ptr_eq(other, &defaults) => Arc::clone(own),
            own => {
                let mut config = own.as_ref().map(|own| Config::clone(own)).unwrap_or_default();
                config.merge(other).map_err(|error| Error::new(error.to_string()))?;
                Arc::new(config)
            }
        };
        self.config = Some(merged);
        Ok(())
    }

    fn merge_vars(&mut self, vars: impl IntoIterator<Item = Var>) -> Result<(), Error> {
        for var in vars {
            if self.vars.contains_key(&var.name) {
                return Err(Error::new(format!("the var `{}` is defined twice", var.name)));
            }
            self.vars.insert(var.name.clone(), var);
        }
        Ok(())
    }
}

/// One kustomization that is being built.
pub(crate) struct Target<'w> {
    world: &'w World<'w>,
    /// Its folder in the tree.
    root: String,
    /// Folders of this one and of those that named it.
    visited: Vec<String>,
    file: String,
    text: Arc<[u8]>,
    document: Option<dodai_yaml::Document>,
    pub(crate) kustomization: Kustomization,
    /// Set if annotations of origin are wanted: the path from where the build began.
    origin: Option<String>,
}

const READ_OPTIONS: ReadOptions =
    ReadOptions { limits: Limits::REPOSITORY, repeated_keys: true, first_document_only: true };

impl<'w> Target<'w> {
    /// Reads the kustomization in a folder.
    pub(crate) fn load(
        world: &'w World<'w>,
        root: String,
        mut visited: Vec<String>,
    ) -> Result<Target<'w>, Error> {
        visited.push(root.clone());
        if visited.len() > DEPTH_MAX {
            return Err(Error::new(format!("more than {DEPTH_MAX} kustomizations inside each other")));
        }
        let (file, text) = find_file(world, &root)?;
        let place =
            |position, len| ErrorPlace { file: file.clone(), position, len, text: Some(Arc::clone(&text)) };
        let utf8 = std::str::from_utf8(&text)
            .map_err(|_| Error::new("the file is not UTF-8").at(|| place(None, 1)))?;
        let wrong_yaml = |error: dodai_yaml::Error| {
            let position = error.position();
            Error::new(error.message()).at(|| place(position, 1))
        };
        let document = dodai_yaml::parse_with(utf8, &READ_OPTIONS).map_err(wrong_yaml)?.into_iter().next();
        let value = match &document {
            Some(document) => document.to_json().map_err(wrong_yaml)?,
            None => Value::Null,
        };
        let kustomization = kustomization::read(&value).map_err(|DecodeError { path, message, hint }| {
            let error = Error::new(message);
            let error = match hint {
                Some(hint) => error.hint(hint),
                None => error,
            };
            error.at(|| place_of_field(&file, &text, document.as_ref(), &path)).in_field(path)
        })?;
        for warning in &kustomization.warnings {
            world.warn(*warning);
        }
        Ok(Target { world, root, visited, file, text, document, kustomization, origin: None })
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn begin_origin(&mut self) {
        if !self.kustomization.build_metadata.is_empty() {
            self.origin = Some(String::new());
        }
    }

    /// Gives an error of this kustomization its place, and notes the way.
    pub(crate) fn locate(&self, error: Error) -> Error {
        error
            .locate(|field| place_of_field(&self.file, &self.text, self.document.as_ref(), field))
            .in_kustomization(&self.root)
    }

    /// Takes the schema that the kustomization names; `outermost`: whatever was taken before.
    pub(crate) fn use_schema(&self, outermost: bool) -> Result<(), Error> {
        let openapi = &self.kustomization.openapi;
        let custom = match openapi.get("path") {
            None => None,
            Some(path) => {
                Some(self.world.read(&self.root, path).map_err(|error| error.in_field("openapi.path"))?.1)
            }
        };
        if self.world.schemas.is_set() && !outermost {
            return Ok(());
        }
        match (custom, openapi.get("version").filter(|version| !version.is_empty())) {
            (Some(_), _) if openapi.contains_key("version") => {
                Err(Error::new("`openapi` has either `version` or `path`, not both")
                    .in_field("openapi.version"))
            }
            (Some(content), _) => {
                let wrong = |message: String| {
                    Error::new(format!("cannot read the schema: {message}")).in_field("openapi.path")
                };
                let value = super::yaml_value(&content).map_err(|error| wrong(error.message()))?;
                if !value.is_object() {
                    return Err(wrong("it is no OpenAPI document".to_owned()));
                }
                self.world.schemas.use_custom(from_openapi(&value));
                Ok(())
            }
            (None, Some(version)) if version == BUILTIN_VERSION => {
                self.world.schemas.use_builtin();
                Ok(())
            }
            (None, Some(_)) => {
                let message = format!("this version is not built in, only `{BUILTIN_VERSION}` is");
                Err(Error::new(message).in_field("openapi.version"))
            }
            (None, None) => Ok(()),
        }
    }

    /// Everything that this kustomization says, added to what is there.
    pub(crate) fn accumulate(&self, mut all: Accumulator) -> Result<Accumulator, Error> {
        let kustomization = &self.kustomization;
        for (path, field) in &kustomization.resources {
            self.resource(&mut all, path).map_err(|error| error.in_field(field.as_str()))?;
        }
        all.merge_config(&self.configuration()?)?;
        for (i, path) in kustomization.crds.iter().enumerate() {
            let field = format!("crds[{i}]");
            self.merge_crd(&mut all, path).map_err(|error| error.in_field(field))?;
        }
        self.generate(&mut all)?;
        for (i, path) in kustomization.components.iter().enumerate() {
            let field = format!("components[{i}]");
            all = self.component(all, path).map_err(|error| error.in_field(field))?;
        }
        self.transform(&mut all)?;
        self.validate(&mut all)?;
        self.add_vars(&mut all)?;
        Ok(all)
    }

    /// A file of objects, or a folder with a kustomization.
    fn resource(&self, all: &mut Accumulator, path: &str) -> Result<(), Error> {
        let objects = match self.resolve(path)? {
            Place::File { .. } => {
                let mut objects = self.world.objects(&self.root, path)?;
                if let Some(origin) = &self.origin {
                    let text = Origin { path: origin::join(origin, path), ..Origin::default() }.text();
                    for resource in &mut objects {
                        set_origin(resource, &text)?;
                    }
                }
                objects
            }
            Place::Folder { path: folder } => {
                let inner = self.inner(path, folder, KustomizationKind::Kustomization)?;
                let built = inner.accumulate(Accumulator::default()).map_err(|error| inner.locate(error))?;
                append_all(self.world, &mut all.objects, built.objects)?;
                if let Some(config) = &built.config {
                    all.merge_config(config)?;
                }
                return all.merge_vars(built.vars.into_values());
            }
        };
        append_all(self.world, &mut all.objects, objects)?;
        explain::note(self.world, &mut all.objects, &self.file, "resources");
        Ok(())
    }

    /// Where a path of this kustomization leads.
    fn resolve(&self, path: &str) -> Result<Place, Error> {
        if path.is_empty() {
            return Err(Error::new("the path is empty"));
        }
        match self.world.files.resolve(&self.root, path) {
            Ok(place) => Ok(place),
            Err(FileError::Absent(_) | FileError::Outside(_)) if is_url(path) || looks_remote(path) => {
                let error =
                    Error::new(format!("`{path}` is in another repository; remote bases are not fetched"));
                Err(error.hint("put a copy into this repository, or a git submodule"))
            }
            Err(error) => Err(from_file_error(error)),
        }
    }

    /// The kustomization in a folder that this one names.
    fn inner(&self, path: &str, folder: String, wanted: KustomizationKind) -> Result<Target<'w>, Error> {
        if path.starts_with('/') {
            return Err(Error::new(format!("`{path}`: the path of a folder must be relative")));
        }
        let is_around = |visited: &String| {
            *visited == folder
                || folder.is_empty()
                || visited.strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/'))
        };
        if let Some(visited) = self.visited.iter().rev().find(|visited| is_around(visited)) {
            let shown = |folder: &str| if folder.is_empty() { ".".to_owned() } else { folder.to_owned() };
            let message =
                format!("cycle: `{}` contains `{}`, which is being built", shown(&folder), shown(visited));
            return Err(Error::new(message));
        }
        let mut inner = Target::load(self.world, folder.clone(), self.visited.clone())
            .map_err(|error| error.in_kustomization(&folder))?;
        inner.kustomization.build_metadata.clone_from(&self.kustomization.build_metadata);
        inner.origin = self.origin.as_ref().map(|origin| origin::join(origin, path));
        inner.use_schema(false).map_err(|error| inner.locate(error))?;
        match (wanted, inner.kustomization.kind) {
            (KustomizationKind::Component, KustomizationKind::Kustomization) => {
                Err(Error::new(format!("`{path}` is no Component")).hint("list it in `resources`"))
            }
            (KustomizationKind::Kustomization, KustomizationKind::Component) => {
                Err(Error::new(format!("`{path}` is a Component")).hint("list it in `components`"))
            }
            _ => Ok(inner),
        }
    }

    fn component(&self, all: Accumulator, path: &str) -> Result<Accumulator, Error> {
        match self.resolve(path)? {
            Place::File { .. } => Err(Error::new(format!("`{path}` is a file, a component is a folder"))),
            Place::Folder { path: folder } => {
                let inner = self.inner(path, folder, KustomizationKind::Component)?;
                inner.accumulate(all).map_err(|error| inner.locate(error))
            }
        }
    }

    fn configuration(&self) -> Result<Arc<Config>, Error> {
        let paths = &self.kustomization.configurations;
        if paths.is_empty() {
            return Ok(Config::defaults());
        }
        let mut config = Config::clone(&Config::defaults());
        let mut added = Config::default();
        for (i, path) in paths.iter().enumerate() {
            let field = format!("configurations[{i}]");
            let (file, content) =
                self.world.read(&self.root, path).map_err(|error| error.in_field(&*field))?;
            let wrong = |message: String| {
                Error::new(message).at(|| ErrorPlace {
                    file: file.clone(),
                    position: None,
                    len: 1,
                    text: None,
                })
            };
            let value = super::strict_yaml_value(&content).map_err(|error| {
                let position = error.position();
                Error::new(error.message()).at(|| ErrorPlace {
                    file: file.clone(),
                    position,
                    len: 1,
                    text: Some(Arc::clone(&content)),
                })
            })?;
            let read = Config::read(&value).map_err(|error| {
                let found = wrong(format!("{} ({})", error.message, error.path));
                match error.hint {
                    Some(hint) => found.hint(hint),
                    None => found,
                }
            })?;
            added.merge(&read).map_err(|error| wrong(error.to_string()))?;
        }
        config.merge(&added).map_err(|error| Error::new(error.to_string()).in_field("configurations"))?;
        Ok(Arc::new(config))
    }

    fn merge_crd(&self, all: &mut Accumulator, path: &str) -> Result<(), Error> {
        let (_, content) = self.world.read(&self.root, path)?;
        let value = super::yaml_value(&content).map_err(|error| Error::new(error.message()))?;
        let found = config::from_crds(&value).map_err(|error| Error::new(error.to_string()))?;
        if found != Config::default() {
            all.merge_config(&Arc::new(found))?;
        }
        Ok(())
    }

    /// The origin of what a built-in generator or transformer does.
    fn builtin_origin(&self, kind: &str) -> Option<String> {
        let path = self.origin.as_ref()?;
        let name = self.file.rsplit('/').next().unwrap_or_default();
        let by = ["builtin".to_owned(), kind.to_owned(), String::new(), String::new()];
        Some(
            Origin { configured_in: origin::join(path, name), configured_by: Some(by), ..Origin::default() }
                .text(),
        )
    }

    fn generate(&self, all: &mut Accumulator) -> Result<(), Error> {
        let kustomization = &self.kustomization;
        let lists: [(&[GeneratorArgs], Generator, &str, &str); 2] = [
            (&kustomization.config_maps, Generator::ConfigMap, "configMapGenerator", "ConfigMapGenerator"),
            (&kustomization.secrets, Generator::Secret, "secretGenerator", "SecretGenerator"),
        ];
        for (list, generator, field, plugin) in lists {
            for (i, args) in list.iter().enumerate() {
                let mut args = args.clone();
                args.options = merge_options(args.options, kustomization.generator_options.as_ref());
                let field = format!("{field}[{i}]");
                let in_entry = |error: Error| match error.field().map(|inner| format!("{field}.{inner}")) {
                    Some(inner) => error.without_field().in_field(inner),
                    None => error.in_field(&*field),
                };
                let made = generate(self.world, &self.root, generator, &args).map_err(in_entry)?;
                self.absorb(all, vec![made], self.builtin_origin(plugin), &field).map_err(in_entry)?;
            }
        }
        if let Some(field) = kustomization.helm {
            return Err(Error::new("helm charts are not rendered").in_field(field));
        }
        let configs = self.plugin_configs(&kustomization.generators, "generators")?;
        for config in &configs {
            let (made, origin) = plugins::generated(self.world, &self.root, config, "generators")?;
            self.absorb(all, made, origin, "generators").map_err(|error| error.in_field("generators"))?;
        }
        Ok(())
    }

    /// Takes over what a generator made: new, merged or replaced.
    fn absorb(
        &self,
        all: &mut Accumulator,
        made: Vec<Resource>,
        origin: Option<String>,
        field: &str,
    ) -> Result<(), Error> {
        for mut resource in made {
            if let Some(origin) = &origin {
                origin::set_if_absent(&mut resource, origin)?;
            }
            self.absorb_one(all, resource)?;
        }
        explain::note(self.world, &mut all.objects, &self.file, field);
        Ok(())
    }

    fn absorb_one(&self, all: &mut Accumulator, mut resource: Resource) -> Result<(), Error> {
        let world = self.world;
        let id = resource.id(world);
        let behavior =
            resource.annotation(names::BEHAVIOR).map(|behavior| behavior.to_string()).unwrap_or_default();
        let failed = |error: super::path::PathError| Error::new(error.to_string());
        match with_any_id(world, &all.objects, |other| id.is(other))[..] {
            [] if matches!(behavior.as_str(), "merge" | "replace") => {
                let message = format!("there is no {} to {behavior}", super::id::for_people(&id));
                Err(Error::new(message))
            }
            [] => append_all(world, &mut all.objects, vec![resource]),
            [at] => {
                let old = &all.objects[at];
                match behavior.as_str() {
                    "replace" => resource.merge_metadata_from(old).map_err(failed)?,
                    "merge" => {
                        let origin = old.annotation(names::ORIGIN).cloned();
                        resource.merge_metadata_from(old).map_err(failed)?;
                        merge_data(&mut resource, old).map_err(failed)?;
                        if let Some(origin) = origin {
                            origin::set(&mut resource, &origin)?;
                        }
                    }
                    _ => {
                        let message = format!("{} exists already", super::id::for_people(&id));
                        let hint = "`behavior: merge` or `behavior: replace` changes what is there";
                        return Err(Error::new(message).hint(hint));
                    }
                }
                resource.history = all.objects[at].history.take();
                resource.source = all.objects[at].source.take();
                all.objects[at] = resource;
                Ok(())
            }
            ref several => {
                let message = format!("{} objects could take {}", several.len(), super::id::for_people(&id));
                Err(Error::new(message))
            }
        }
    }

    /// Objects that configure plugins: in the text, in files, in other kustomizations.
    fn plugin_configs(&self, entries: &[String], field: &str) -> Result<Vec<Resource>, Error> {
        let mut all = Accumulator::default();
        let mut paths = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let Ok(mut inline) = self.world.objects_in_text(entry) else {
                paths.push((i, entry));
                continue;
            };
            if let Some(origin) = &self.origin {
                let name = self.file.rsplit('/').next().unwrap_or_default();
                let text = Origin { path: origin::join(origin, name), ..Origin::default() }.text();
                for resource in &mut inline {
                    origin::set(resource, &text)?;
                }
            }
            append_all(self.world, &mut all.objects, inline)?;
        }
        for (i, path) in paths {
            self.resource(&mut all, path).map_err(|error| error.in_field(format!("{field}[{i}]")))?;
        }
        Ok(all.objects)
    }

    fn transform(&self, all: &mut Accumulator) -> Result<(), Error> {
        let config = all.config.clone().unwrap_or_default();
        let mut steps = steps::of_fields(self.world, &self.root, &self.kustomization, &config)?;
        for step in &mut steps {
            step.origin = step.origin.take().and_then(|kind| self.builtin_origin(&kind));
        }
        let configs = self.plugin_configs(&self.kustomization.transformers, "transformers")?;
        steps.extend(plugins::transformers(self.world, &self.root, &configs, "transformers")?);
        for step in &steps {
            self.run(all, step)?;
        }
        Ok(())
    }

    fn run(&self, all: &mut Accumulator, step: &Step) -> Result<(), Error> {
        self.world.idle.set(false);
        let done = step.transformer.transform(self.world, &mut all.objects);
        done.map_err(|error| error.in_field(step.field.as_str()))?;
        if let Some(origin) = &step.origin {
            for resource in &mut all.objects {
                origin::add_transformation(resource, origin)?;
            }
        }
        all.objects.retain(|resource| !resource.tree.is_nil_or_empty());
        if self.world.idle.take() {
            let message = "matches nothing".to_owned();
            let note = Note { file: self.file.clone(), field: step.field.clone(), message };
            self.world.notes.borrow_mut().push(note);
        }
        explain::note(self.world, &mut all.objects, &self.file, &step.field);
        Ok(())
    }

    /// Validators may look, not change.
    fn validate(&self, all: &mut Accumulator) -> Result<(), Error> {
        if self.kustomization.validators.is_empty() {
            return Ok(());
        }
        let configs = self.plugin_configs(&self.kustomization.validators, "validators")?;
        for step in plugins::transformers(self.world, &self.root, &configs, "validators")? {
            let printed = |objects: &[Resource]| -> Vec<Option<Value>> {
                objects.iter().map(|resource| super::json::to_json(&resource.tree).ok()).collect()
            };
            let before = printed(&all.objects);
            step.transformer
                .transform(self.world, &mut all.objects)
                .map_err(|error| error.in_field(step.field.as_str()))?;
            if printed(&all.objects) != before {
                return Err(Error::new("a validator cannot change objects").in_field("validators"));
            }
        }
        Ok(())
    }

    fn add_vars(&self, all: &mut Accumulator) -> Result<(), Error> {
        let vars = self.kustomization.vars.as_deref().unwrap_or_default();
        for (i, var) in vars.iter().enumerate() {
            let wanted = kustomization::Selected {
                gvk: var.gvk.clone(),
                name: var.object_name.clone(),
                namespace: var.namespace.clone(),
            }
            .to_id();
            let found = with_any_id(self.world, &all.objects, |id| {
                if wanted.namespace.is_empty() { wanted.same_but_namespace(id) } else { wanted.is(id) }
            });
            match found[..] {
                [] => {}
                [at] => all.objects[at].vars.push(var.name.as_str().into()),
                [at, ..] => {
                    let message = format!("the var `{}` fits {} objects", var.name, found.len());
                    let other = at_object(&all.objects[at], self.world, message);
                    return Err(Error::new(other.message()).in_field(format!("vars[{i}]")));
                }
            }
        }
        all.merge_vars(vars.iter().cloned()).map_err(|error| error.in_field("vars"))
    }
}

/// Puts the origin where the transformer of annotations would.
fn set_origin(resource: &mut Resource, text: &str) -> Result<(), Error> {
    use super::node::{Kind, Node, Style, Tag};
    let tree = &mut resource.tree;
    let root = tree.root();
    let failed = |error: super::path::PathError| Error::new(error.to_string());
    let Some(annotations) =
        tree.lookup_create(root, &["metadata", "annotations"], Kind::Map).map_err(failed)?
    else {
        return Ok(());
    };
    if tree.is_null(annotations) {
        let node = tree.get_mut(annotations);
        (node.kind, node.tag) = (Kind::Map, Tag::Map);
    }
    let value = tree.add(Node { tag: Tag::Str, ..Node::scalar(text) });
    tree.set_field(annotations, names::ORIGIN, Some(value), false, Style::Plain)
        .map_err(|error| Error::new(error.to_string()))
}

/// Adds the data of an older object where the new one says nothing.
fn merge_data(resource: &mut Resource, old: &Resource) -> Result<(), super::path::PathError> {
    use super::node::{Kind, Node};
    for field in ["data", "binaryData"] {
        let mut data: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        for from in [old, &*resource] {
            let tree = &from.tree;
            let Some(map) = tree.field(tree.root(), field) else { continue };
            for (key, value) in tree.entries(map) {
                let text = if tree.is_null(value) { names::empty() } else { Arc::clone(tree.value(value)) };
                data.insert(Arc::clone(tree.value(key)), text);
            }
        }
        let root = resource.tree.root();
        resource.tree.clear_field(root, field)?;
        for (key, text) in data {
            if let Some(map) = resource.tree.lookup_create(root, &[field], Kind::Map)? {
                resource.tree.set_field_node(map, &key, Node::text(text))?;
            }
        }
    }
    Ok(())
}

/// The one kustomization file of a folder.
fn find_file(world: &World, root: &str) -> Result<(String, Arc<[u8]>), Error> {
    let mut found = Vec::new();
    let mut failed = None;
    for name in FILE_NAMES {
        match world.files.read(root, name, Some(root)) {
            Ok(file) => found.push(file),
            Err(FileError::Absent(_)) => {}
            Err(error) => failed = Some(error),
        }
    }
    let shown = if root.is_empty() { "." } else { root };
    match (found.pop(), found.is_empty(), failed) {
        (Some(file), true, _) => Ok(file),
        (Some(_), false, _) => Err(Error::new(format!("`{shown}` has more than one kustomization file"))
            .hint(format!("keep one of {}", FILE_NAMES.join(", ")))),
        (None, _, Some(error)) => Err(from_file_error(error)),
        (None, _, None) => {
            let error = Error::new(format!("`{shown}` has no kustomization file"));
            Err(error.hint(format!("looked for {}", FILE_NAMES.join(", "))))
        }
    }
}

/// Forms in which upstream finds a repository.
fn looks_remote(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    ["git::", "git@", "ssh://", "git://", "file://", "github.com/", "github.com:", "gh:", "org-"]
        .iter()
        .any(|prefix| lower.starts_with(prefix))
        || lower.contains(".git")
        || lower.contains("?ref=")
        || lower.contains("//") && lower.contains("github.com")
}

fn place_of_field(
    file: &str,
    text: &Arc<[u8]>,
    document: Option<&dodai_yaml::Document>,
    field: &str,
) -> ErrorPlace {
    let located = document.map(|document| document.locate(field));
    let (position, len) = match located {
        Some(location) => (Some(location.position), location.len),
        None => (document.map(|_| Position { line: 1, column: 1 }), 1),
    };
    ErrorPlace { file: file.to_owned(), position, len, text: Some(Arc::clone(text)) }
}
