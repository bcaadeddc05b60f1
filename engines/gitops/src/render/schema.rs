//! What kustomize knows of kinds: which lists a strategic merge patch merges and by which keys, and which kinds have
//! no namespace. Built in are the facts of Kubernetes 1.21 (`data/kubernetes-1.21.txt`); `openapi` in a
//! kustomization brings others.
//!
//! The order in which kustomize reads schemas decides which of them it uses; the state here follows it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

/// The one version that is built in.
pub(crate) const BUILTIN_VERSION: &str = "v1.21.2";

/// The schema of a value.
#[derive(Debug, Default, Clone)]
pub(crate) struct Shape {
    /// Another schema by name; then nothing else counts.
    reference: Option<String>,
    fields: HashMap<String, Shape>,
    /// The values of a map whose keys are free.
    values: Option<Box<Shape>>,
    items: Option<Box<Shape>>,
    /// A strategic merge patch merges the list.
    pub(crate) merged: bool,
    /// By these keys; none for a list of scalars.
    pub(crate) keys: Vec<String>,
}

/// Schemas from one source.
#[derive(Debug, Default)]
pub(crate) struct Table {
    types: HashMap<String, Shape>,
    /// API version and kind -> type.
    kinds: HashMap<(String, String), String>,
    /// API version and kind -> whether the kind has a namespace.
    scopes: HashMap<(String, String), bool>,
}

/// What the built-in table leaves out of the names of types.
const PREFIXES: [&str; 4] = [
    "io.k8s.api.",
    "io.k8s.apimachinery.pkg.apis.",
    "io.k8s.kube-aggregator.pkg.apis.",
    "io.k8s.apiextensions-apiserver.pkg.apis.",
];

/// The tables that are in use, for one merge.
#[derive(Clone)]
pub(crate) struct View(Vec<Arc<Table>>);

impl View {
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Shape> {
        let key = (api_version.to_owned(), kind.to_owned());
        let name = self.0.iter().rev().find_map(|table| table.kinds.get(&key))?;
        self.named(name)
    }

    fn named(&self, name: &str) -> Option<&Shape> {
        // The built-in table has short names; documents refer to its types by their long ones.
        let short = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        self.0.iter().rev().find_map(|table| table.types.get(name).or_else(|| table.types.get(short)))
    }

    /// Follows references.
    fn resolve<'v>(&'v self, shape: &'v Shape) -> Option<&'v Shape> {
        const STEPS_MAX: usize = 32;
        let mut shape = shape;
        for _ in 0..STEPS_MAX {
            match &shape.reference {
                None => return Some(shape),
                Some(name) => shape = self.named(name)?,
            }
        }
        None
    }

    pub(crate) fn field<'v>(&'v self, shape: &'v Shape, name: &str) -> Option<&'v Shape> {
        self.resolve(shape.fields.get(name).or(shape.values.as_deref())?)
    }

    pub(crate) fn elements<'v>(&'v self, shape: &'v Shape) -> Option<&'v Shape> {
        self.resolve(shape.items.as_deref()?)
    }
}

/// The schemas of one build.
#[derive(Default)]
pub(crate) struct Schemas {
    /// Set by `openapi.version` or `openapi.path`; it is set once.
    is_set: Cell<bool>,
    custom: RefCell<Option<Arc<Table>>>,
    initialized: Cell<bool>,
    builtin: Cell<Builtin>,
    tables: RefCell<Vec<Arc<Table>>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Builtin {
    #[default]
    NotRead,
    /// A question was answered without it; it is read when the next schema is.
    Delayed,
    Read,
}

impl Schemas {
    pub(crate) fn is_set(&self) -> bool {
        self.is_set.get()
    }

    /// The version that is built in was asked for.
    pub(crate) fn use_builtin(&self) {
        self.is_set.set(true);
        *self.custom.borrow_mut() = None;
        self.initialized.set(false);
    }

    pub(crate) fn use_custom(&self, table: Table) {
        self.is_set.set(true);
        *self.custom.borrow_mut() = Some(Arc::new(table));
        self.initialized.set(false);
    }

    pub(crate) fn view(&self) -> View {
        self.initialize();
        View(self.tables.borrow().clone())
    }

    fn initialize(&self) {
        if self.initialized.replace(true) {
            return;
        }
        let mut tables = self.tables.borrow_mut();
        match &*self.custom.borrow() {
            Some(custom) => tables.push(Arc::clone(custom)),
            None => {
                tables.push(builtin());
                self.builtin.set(Builtin::Read);
            }
        }
        if self.builtin.get() == Builtin::Delayed {
            tables.push(builtin());
            self.builtin.set(Builtin::Read);
        }
    }

    /// Whether the kind is known to have no namespace.
    pub(crate) fn is_cluster_scoped(&self, api_version: &str, kind: &str) -> bool {
        if let Some(namespaced) = builtin_scope(api_version, kind) {
            return !namespaced;
        }
        if !self.initialized.get() {
            if self.custom.borrow().is_none() {
                if self.builtin.get() == Builtin::NotRead {
                    self.builtin.set(Builtin::Delayed);
                }
                return false;
            }
            self.initialize();
        }
        let tables = self.tables.borrow();
        if tables.iter().all(|table| table.kinds.is_empty() && table.scopes.is_empty()) {
            return false;
        }
        let key = (api_version.to_owned(), kind.to_owned());
        // One path with a namespace is enough.
        tables.iter().filter_map(|table| table.scopes.get(&key)).copied().reduce(|a, b| a || b) == Some(false)
    }
}

fn builtin() -> Arc<Table> {
    static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
    Arc::clone(
        TABLE.get_or_init(|| Arc::new(read_facts(include_str!("../../data/kubernetes-1.21.txt"), false))),
    )
}

fn builtin_scope(api_version: &str, kind: &str) -> Option<bool> {
    static SCOPES: OnceLock<HashMap<String, Vec<(String, bool)>>> = OnceLock::new();
    let scopes = SCOPES.get_or_init(|| {
        let mut scopes: HashMap<String, Vec<(String, bool)>> = HashMap::new();
        for ((api_version, kind), namespaced) in
            read_facts(include_str!("../../data/kubernetes-1.21.txt"), true).scopes
        {
            scopes.entry(kind).or_default().push((api_version, namespaced));
        }
        scopes
    });
    let of_kind = scopes.get(kind)?;
    of_kind.iter().find(|(version, _)| version == api_version).map(|(_, namespaced)| *namespaced)
}

/// Reads the table of facts; its head says how it is written.
fn read_facts(text: &str, scopes_only: bool) -> Table {
    let mut table = Table::default();
    let mut current = String::new();
    let wanted = |line: &&str| {
        line.starts_with("scope ") || !(scopes_only || line.starts_with('#') || line.is_empty())
    };
    for line in text.lines().filter(wanted) {
        if let Some(field) = line.strip_prefix("  ") {
            if let Some(shape) = table.types.get_mut(&current) {
                let (name, field) = read_field(field);
                shape.fields.insert(name, field);
            }
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["scope", scope, kind, version] if scopes_only => {
                table.scopes.insert((version.to_owned(), kind.to_owned()), scope == "namespaced");
            }
            ["kind", kind, version, name] if !scopes_only => {
                table.kinds.insert((version.to_owned(), kind.to_owned()), name.to_owned());
            }
            ["type", name] if !scopes_only => {
                current = name.to_owned();
                table.types.insert(current.clone(), Shape::default());
            }
            _ => {}
        }
    }
    table
}

/// `NAME [: TYPE] [[] or {}] [merge KEY,...]`
fn read_field(line: &str) -> (String, Shape) {
    let mut words = line.split_whitespace().peekable();
    let name = words.next().unwrap_or_default().to_owned();
    let mut shape = Shape::default();
    let mut of = None;
    while let Some(word) = words.next() {
        match word {
            ":" => {
                of = words
                    .next()
                    .map(|name| Box::new(Shape { reference: Some(name.to_owned()), ..Shape::default() }))
            }
            "[]" => shape.items = Some(of.take().unwrap_or_default()),
            "{}" => shape.values = of.take(),
            "merge" => {
                shape.merged = true;
                shape.keys =
                    words.next().map(|keys| keys.split(',').map(str::to_owned).collect()).unwrap_or_default();
            }
            _ => {}
        }
    }
    match of {
        Some(of) => (name, *of),
        None => (name, shape),
    }
}

/// Schemas from an OpenAPI 2 document.
pub(crate) fn from_openapi(document: &Value) -> Table {
    let mut table = Table::default();
    for (name, schema) in members(document.get("definitions")) {
        for gvk in
            schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array).into_iter().flatten()
        {
            if let Some(kind) = type_meta(gvk) {
                table.kinds.insert(kind, name.clone());
            }
        }
        table.types.insert(name.clone(), shape(schema, 0));
    }
    for (path, operations) in members(document.get("paths")) {
        let gvk = operations.get("get").and_then(|get| get.get("x-kubernetes-group-version-kind"));
        let Some(kind) = gvk.and_then(type_meta) else { continue };
        let namespaced = path.contains("namespaces/{namespace}");
        let known = table.scopes.entry(kind).or_insert(namespaced);
        *known |= namespaced;
    }
    table
}

fn members(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn type_meta(gvk: &Value) -> Option<(String, String)> {
    let text = |name: &str| gvk.get(name).and_then(Value::as_str);
    let (version, kind) = (text("version")?, text("kind")?);
    let api_version = match text("group") {
        Some(group) if !group.is_empty() => format!("{group}/{version}"),
        _ => version.to_owned(),
    };
    Some((api_version, kind.to_owned()))
}

fn shape(schema: &Value, depth: usize) -> Shape {
    const DEPTH_MAX: usize = 64;
    let mut shape_of = Shape::default();
    if depth > DEPTH_MAX {
        return shape_of;
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        shape_of.reference = Some(reference.rsplit('/').next().unwrap_or_default().to_owned());
        return shape_of;
    }
    for (name, property) in members(schema.get("properties")) {
        shape_of.fields.insert(name.clone(), shape(property, depth + 1));
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        shape_of.values = Some(Box::new(shape(values, depth + 1)));
    }
    let is_list = schema.get("type").and_then(Value::as_str) == Some("array");
    if let Some(items) = schema.get("items").filter(|items| is_list && items.is_object()) {
        shape_of.items = Some(Box::new(shape(items, depth + 1)));
    }
    if let Some(strategy) = schema.get("x-kubernetes-patch-strategy").and_then(Value::as_str) {
        shape_of.merged = strategy.split(',').any(|part| part == "merge");
        let texts = |value: &Value| {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        shape_of.keys =
            match (schema.get("x-kubernetes-list-map-keys"), schema.get("x-kubernetes-patch-merge-key")) {
                (Some(keys), _) => texts(keys),
                (None, Some(key)) => key.as_str().map(str::to_owned).into_iter().collect(),
                (None, None) => Vec::new(),
            };
    }
    shape_of
}
