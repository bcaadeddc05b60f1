//! A question to the API server: is what an owner controls what was seen?

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::core::{ApiResource, Selector, SelectorExt};
use serde_json::{Value, json};

use crate::cache::Kind;
use crate::plan::controller_in;

/// The objects of one kind that an owner, or several together, were seen to control.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Where they are; absent for kinds without namespace.
    pub namespace: Option<String>,
    /// Labels that they all match, so that others need not be read.
    selector: Option<Selector>,
    /// The uids of the owner, or of several.
    owners: BTreeSet<String>,
    /// Their uids, with the version where it matters.
    seen: BTreeMap<String, Option<String>>,
    no_orphans: bool,
}

impl Owned {
    /// Objects of `K` that `owner` controls and `selector` matches; none was seen yet.
    pub fn of<K: Kind>(owner: &impl Kind, selector: Option<&Selector>) -> Owned {
        Owned::of_all::<K>(owner.uid(), owner.namespace(), selector)
    }

    /// Objects of `K` in `namespace` that any of these owners controls and `selector` matches; none was seen yet.
    pub fn of_all<K: Kind>(
        owners: impl IntoIterator<Item = String>,
        namespace: Option<String>,
        selector: Option<&Selector>,
    ) -> Owned {
        Owned {
            resource: ApiResource::erase::<K>(&()),
            namespace,
            selector: selector.cloned(),
            owners: owners.into_iter().collect(),
            seen: BTreeMap::new(),
            no_orphans: false,
        }
    }

    /// Those that are selected of these were seen, in whatever version.
    #[must_use]
    pub fn seen<'a, K: Kind>(self, objects: impl IntoIterator<Item = &'a K>) -> Owned {
        self.seen_in(objects, |_| None)
    }

    /// Those that are selected of these were seen, and must not have changed since.
    #[must_use]
    pub fn unchanged<'a, K: Kind>(self, objects: impl IntoIterator<Item = &'a K>) -> Owned {
        self.seen_in(objects, K::resource_version)
    }

    fn seen_in<'a, K: Kind>(
        mut self,
        objects: impl IntoIterator<Item = &'a K>,
        version: impl Fn(&K) -> Option<String>,
    ) -> Owned {
        for object in objects {
            if self.selects(object.meta()) {
                self.seen.insert(object.uid().unwrap_or_default(), version(object));
            }
        }
        self
    }

    /// One that is selected, has no controller and is not being deleted must not be there either: it is taken over first.
    #[must_use]
    pub fn without_orphans(self) -> Owned {
        Owned { no_orphans: true, ..self }
    }

    /// The label selector, as the API takes it.
    pub fn selector(&self) -> Option<String> {
        self.selector.as_ref().map(Selector::to_string)
    }

    /// The owners, for people.
    pub fn owners(&self) -> String {
        self.owners.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// What is not as it was seen, given the metadata of all objects of the kind in the namespace (those that are not
    /// selected may be missing): the name of one that came, changed or is without controller, or the uid of one that went.
    pub fn differs<M: Borrow<ObjectMeta>>(&self, there: impl IntoIterator<Item = M>) -> Option<String> {
        let mut missing = self.seen.clone();
        for object in there {
            let object = object.borrow();
            if !self.selects(object) {
                continue;
            }
            let is_as_seen = match controller_in(object) {
                Some(owner) if self.owners.contains(&owner.uid) => {
                    let seen = missing.remove(object.uid.as_deref().unwrap_or_default());
                    seen.is_some_and(|seen| seen.is_none() || seen == object.resource_version)
                }
                Some(_) => true,
                None => !self.no_orphans || object.deletion_timestamp.is_some(),
            };
            if !is_as_seen {
                return Some(object.name.clone().unwrap_or_default());
            }
        }
        missing.into_keys().next().map(|uid| format!("uid {uid}"))
    }

    fn selects(&self, object: &ObjectMeta) -> bool {
        let none = BTreeMap::new();
        let labels = object.labels.as_ref().unwrap_or(&none);
        self.selector.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    /// As plan cases keep it.
    pub(crate) fn to_json(&self) -> Value {
        let mut owned = json!({ "kind": self.resource.kind, "owner": self.owners(), "seen": self.seen });
        if self.no_orphans {
            owned["noOrphans"] = true.into();
        }
        owned
    }
}
