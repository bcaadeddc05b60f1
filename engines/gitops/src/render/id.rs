//! What an object is called: group, version, kind, name and namespace.

use std::fmt;
use std::sync::Arc;

/// Namespace of objects that have none by their kind.
pub(crate) const NOT_A_NAMESPACE: &str = "_non_namespaceable_";
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// Group, version, kind; empty parts are unknown, or match all in a selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Gvk {
    pub(crate) group: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) kind: Arc<str>,
}

impl Gvk {
    pub(crate) fn from_api_version(api_version: &str, kind: &Arc<str>) -> Gvk {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Gvk { group: group.into(), version: version.into(), kind: Arc::clone(kind) }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether a selector, of which empty parts match all, takes this.
    pub(crate) fn is_selected(&self, selector: &Gvk) -> bool {
        let fits = |wanted: &Arc<str>, found: &Arc<str>| wanted.is_empty() || wanted == found;
        fits(&selector.group, &self.group)
            && fits(&selector.version, &self.version)
            && fits(&selector.kind, &self.kind)
    }

    /// The order in which lists of rules are kept.
    pub(crate) fn sort_key(&self) -> (i32, String) {
        let or =
            |part: &Arc<str>, none: &str| if part.is_empty() { none.to_owned() } else { part.to_string() };
        let text = format!("{}_{}_{}", or(&self.group, "~G"), or(&self.version, "~V"), or(&self.kind, "~K"));
        (kind_order(&self.kind), text)
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or =
            |part: &Arc<str>, none: &'static str| if part.is_empty() { none.into() } else { part.clone() };
        write!(
            f,
            "{}.{}.{}",
            or(&self.kind, "[noKind]"),
            or(&self.version, "[noVer]"),
            or(&self.group, "[noGrp]")
        )
    }
}

/// What stands first, and what last, in the order of kinds of kustomize.
pub(crate) const ORDER_FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
pub(crate) const ORDER_LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

fn kind_order(kind: &str) -> i32 {
    if let Some(at) = ORDER_FIRST.iter().position(|first| *first == kind) {
        return at as i32 - ORDER_FIRST.len() as i32;
    }
    ORDER_LAST.iter().position(|last| *last == kind).map_or(0, |at| at as i32 + 1)
}

/// An object, now or under one of its earlier names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ResId {
    pub(crate) gvk: Gvk,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    /// The kind is known to have no namespace.
    pub(crate) cluster_scoped: bool,
}

impl ResId {
    pub(crate) fn effective_namespace(&self) -> &str {
        if self.cluster_scoped {
            NOT_A_NAMESPACE
        } else if self.namespace.is_empty() {
            DEFAULT_NAMESPACE
        } else {
            &self.namespace
        }
    }

    pub(crate) fn same_namespace(&self, other: &ResId) -> bool {
        self.effective_namespace() == other.effective_namespace()
    }

    pub(crate) fn same_but_namespace(&self, other: &ResId) -> bool {
        self.name == other.name && self.gvk == other.gvk
    }

    /// Whether both mean the same object.
    pub(crate) fn is(&self, other: &ResId) -> bool {
        self.same_but_namespace(other) && self.same_namespace(other)
    }

    /// What [`ResId::is`] compares.
    pub(crate) fn key(&self) -> IdKey {
        (self.gvk.clone(), Arc::clone(&self.name), self.effective_namespace().into())
    }

    /// Empty parts of the selector match all.
    pub(crate) fn is_selected_by(&self, selector: &ResId) -> bool {
        (selector.name.is_empty() || selector.name == self.name)
            && (selector.namespace.is_empty() || selector.same_namespace(self))
            && self.gvk.is_selected(&selector.gvk)
    }
}

pub(crate) type IdKey = (Gvk, Arc<str>, Arc<str>);

impl fmt::Display for ResId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or =
            |part: &Arc<str>, none: &'static str| if part.is_empty() { none.into() } else { part.clone() };
        write!(f, "{}/{}.{}", self.gvk, or(&self.name, "[noName]"), or(&self.namespace, "[noNs]"))
    }
}

/// For people: `Deployment web in shop`.
pub(crate) fn for_people(id: &ResId) -> String {
    let mut text = format!("{} `{}`", id.gvk.kind, id.name);
    if !id.namespace.is_empty() && &*id.namespace != NOT_A_NAMESPACE {
        text.push_str(&format!(" in namespace `{}`", id.namespace));
    }
    text
}
