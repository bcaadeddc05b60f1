//! The table of built-in kinds, read from `data/kinds.jsonl`.
//!
//! What a kind can do is data; the few things that differ in code are in `strategy.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

use serde::Deserialize;

use crate::crd::CustomVersion;
use crate::schema::{self, TypeInfo};

const KINDS: &str = include_str!("../data/kinds.jsonl");

/// A subresource such as `status`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Subresource {
    pub name: String,
    pub kind: String,
    pub verbs: Vec<String>,
    /// Group of the kind, where it is another one than the resource's.
    pub group: Option<String>,
    pub version: Option<String>,
}

/// One resource in one version, as discovery shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kind {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    #[serde(default)]
    pub short_names: Vec<String>,
    #[serde(default)]
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    #[serde(default)]
    pub storage_version_hash: Option<String>,
    #[serde(default)]
    pub subresources: Vec<Subresource>,
    /// Name of the OpenAPI schema of a built-in kind.
    #[serde(default)]
    pub schema: Option<String>,
    /// `Pod` -> `PodList`; CRDs may name another.
    #[serde(default)]
    pub list_kind: String,
    /// Storage name: kinds that are two views of one object share it.
    #[serde(skip)]
    pub storage: OnceLock<Arc<str>>,
    /// The type of a built-in kind, once it was asked for.
    #[serde(skip)]
    pub info: OnceLock<&'static TypeInfo>,
    /// The CRD version behind a custom resource.
    #[serde(skip)]
    pub custom: Option<Arc<CustomVersion>>,
}

impl Kind {
    /// `v1` or `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    pub(crate) fn is_api_version(&self, text: &str) -> bool {
        match self.group.as_str() {
            "" => text == self.version,
            group => split_api_version(text) == (group, self.version.as_str()),
        }
    }

    pub(crate) fn storage(&self) -> &Arc<str> {
        self.storage.get_or_init(|| storage_name(&self.group, &self.plural))
    }

    /// The type of a built-in kind.
    pub(crate) fn info(&self) -> Option<&'static TypeInfo> {
        let name = self.schema.as_deref()?;
        Some(self.info.get_or_init(|| schema::builtin(name)))
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    /// Whether status is written through its own door only.
    pub(crate) fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.custom.is_some()
    }
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Splits `apps/v1` into group and version.
pub(crate) fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// The storage name of a resource. Events are one store with two views; so are the versions of autoscaling.
fn storage_name(group: &str, plural: &str) -> Arc<str> {
    match (group, plural) {
        ("events.k8s.io", "events") | ("", _) => format!("core/{plural}").into(),
        _ => format!("{group}/{plural}").into(),
    }
}

/// Resources by group, version and plural.
#[derive(Debug, Default, Clone)]
pub(crate) struct Registry {
    pub groups: BTreeMap<String, BTreeMap<String, BTreeMap<String, Arc<Kind>>>>,
}

impl Registry {
    /// The built-in kinds.
    pub(crate) fn builtin() -> Registry {
        static BUILTIN: LazyLock<Registry> = LazyLock::new(|| {
            let mut registry = Registry::default();
            for line in KINDS.lines() {
                let mut kind: Kind = serde_json::from_str(line).expect("the table of kinds is sound");
                kind.list_kind = format!("{}List", kind.kind);
                registry.add(Arc::new(kind));
            }
            registry
        });
        BUILTIN.clone()
    }

    pub(crate) fn add(&mut self, kind: Arc<Kind>) {
        let group = self.groups.entry(kind.group.clone()).or_default();
        group.entry(kind.version.clone()).or_default().insert(kind.plural.clone(), kind);
    }

    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.groups.get(group)?.get(version)?.get(plural)
    }

    /// Any version that is served of what is stored under this name.
    pub(crate) fn by_storage(&self, storage: &str) -> Option<&Arc<Kind>> {
        let (group, plural) = storage.split_once('/')?;
        let group = if group == "core" { "" } else { group };
        self.groups.get(group)?.values().rev().find_map(|version| version.get(plural))
    }
}

/// Columns of a Table: name, type, format, priority.
pub(crate) type Columns = Vec<(String, String, String, i64)>;

/// Columns of a built-in kind.
pub(crate) fn columns(api_version: &str, kind: &str) -> Option<&'static Columns> {
    const COLUMNS: &str = include_str!("../data/columns.tsv");
    static TABLE: LazyLock<BTreeMap<&'static str, Columns>> = LazyLock::new(|| {
        let lines = COLUMNS.lines().filter_map(|line| line.split_once('\t'));
        lines
            .map(|(key, json)| (key, serde_json::from_str(json).expect("the table of columns is sound")))
            .collect()
    });
    TABLE.get(format!("{api_version} {kind}").as_str())
}
