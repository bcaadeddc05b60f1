//! What a controller wants: a list of actions, a status, and when to look again.

use std::fmt;
use std::time::Duration;

use dodai_api::dodai::condition::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cache::Kind;
use crate::owned::Owned;

/// The whole decision of one pass. An empty plan (no actions, a status that is already there) means: nothing to do.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Plan {
    /// What to do, in this order; the first failure ends the pass.
    pub actions: Vec<Action>,
    /// The whole `status` of the reconciled object without `conditions`, if it has one to write.
    pub status: Option<Value>,
    /// Conditions of the reconciled object; `execute` keeps the time of those whose `status` does not change.
    pub conditions: Vec<Condition>,
    /// Look again after this time, also if nothing changes.
    pub next: Option<Duration>,
    /// Type of a condition that tells, in the words of workloads' statuses (`FailedCreate`, `FailedDelete` and the API
    /// server's message), that an action was refused. Written when that happens; `plan` leaves it out of the status, so
    /// that it goes with the refusal.
    pub failure_condition: Option<&'static str>,
}

/// One thing to do in the Kubernetes API.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the object; one of that name that exists already is left as it is. For what must happen once.
    Create(Object),
    /// Create the object; where the name is taken the pass ends as a conflict. For what the status then says is there.
    CreateNew(Object),
    /// Server-side apply with the controller's own field manager, by force.
    Apply(Object),
    /// Replace the object as it was seen; it must carry its `resourceVersion`.
    Replace(Object),
    /// Delete the object with this uid, and no other of the same name.
    Delete(Target),
    /// Go on only if the object is still at this `resourceVersion`; otherwise the pass ends as a conflict.
    ///
    /// For a decision that rests on objects it does not write: a cache may be behind what this very process wrote.
    Confirm(Target, String),
    /// Go on only if an owner controls exactly the objects that were seen; otherwise the pass ends as a conflict.
    ///
    /// Before making one more of something: a cache may not show yet what this very process made.
    ConfirmOwned(Owned),
    /// Go on only if there is no object of this name with this uid any more; otherwise the pass ends as a conflict.
    ///
    /// Before acting on somebody's absence: a cache may not show yet what is there.
    ConfirmGone(Target),
}

impl Action {
    /// Whether it may change something, and does not only ask.
    pub fn is_write(&self) -> bool {
        !matches!(self, Action::Confirm(..) | Action::ConfirmOwned(_) | Action::ConfirmGone(_))
    }
}

/// An object to write.
#[derive(Clone, PartialEq)]
pub struct Object {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// The whole object, with `apiVersion` and `kind`.
    pub value: Value,
}

/// An object that was seen.
#[derive(Clone, PartialEq)]
pub struct Target {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Absent for kinds without namespace.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The uid that was seen.
    pub uid: String,
    /// Do not wait for what may still run of it.
    pub at_once: bool,
}

impl Object {
    /// The object as it will be sent. `creationTimestamp: null` and the like do not occur: typed objects leave them out.
    pub fn new<K: Kind>(object: &K) -> Object {
        let resource = ApiResource::erase::<K>(&());
        let mut value = serde_json::to_value(object).expect("a Kubernetes type serialises to JSON");
        if let Value::Object(map) = &mut value {
            map.insert("apiVersion".to_owned(), resource.api_version.clone().into());
            map.insert("kind".to_owned(), resource.kind.clone().into());
        }
        Object { resource, value }
    }

    /// `metadata.name`; empty if there is none.
    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// `metadata.namespace`, if the object has one.
    pub fn namespace(&self) -> Option<&str> {
        self.value["metadata"]["namespace"].as_str()
    }

    /// `namespace/name`, or the name alone.
    pub fn display_name(&self) -> String {
        display_name(self.namespace(), self.name())
    }
}

impl Target {
    /// The object as it was seen.
    pub fn of<K: Kind>(object: &K) -> Target {
        Target {
            resource: ApiResource::erase::<K>(&()),
            namespace: object.namespace(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            at_once: false,
        }
    }

    /// `namespace/name`, or the name alone.
    pub fn display_name(&self) -> String {
        display_name(self.namespace.as_deref(), &self.name)
    }
}

pub(crate) fn display_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

impl fmt::Debug for Object {
    // Objects may hold Secrets: a debug print names the object and shows nothing of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource.kind, self.display_name())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} uid {}", self.resource.kind, self.display_name(), self.uid)
    }
}

impl Plan {
    /// Nothing to do.
    pub fn none() -> Plan {
        Plan::default()
    }

    /// Adds [`Action::Create`].
    pub fn create<K: Kind>(&mut self, object: &K) {
        self.actions.push(Action::Create(Object::new(object)));
    }

    /// Adds [`Action::CreateNew`].
    pub fn create_new<K: Kind>(&mut self, object: &K) {
        self.actions.push(Action::CreateNew(Object::new(object)));
    }

    /// Adds [`Action::Apply`].
    pub fn apply<K: Kind>(&mut self, object: &K) {
        self.actions.push(Action::Apply(Object::new(object)));
    }

    /// Adds [`Action::Apply`] unless `current` already covers the object.
    pub fn ensure<K: Kind>(&mut self, current: Option<&K>, object: &K) {
        let wanted = Object::new(object);
        let covered =
            current.is_some_and(|current| crate::covers(&Object::new(current).value, &wanted.value));
        if !covered {
            self.actions.push(Action::Apply(wanted));
        }
    }

    /// Adds [`Action::Replace`]; the object must be one that was seen, with its `resourceVersion`.
    pub fn replace<K: Kind>(&mut self, object: &K) {
        self.actions.push(Action::Replace(Object::new(object)));
    }

    /// Adds [`Action::Delete`] of an object that was seen.
    pub fn delete<K: Kind>(&mut self, object: &K) {
        self.actions.push(Action::Delete(Target::of(object)));
    }

    /// Adds [`Action::Delete`] of an object that nothing looks after any more: its grace is not waited for.
    pub fn delete_now<K: Kind>(&mut self, object: &K) {
        self.actions.push(Action::Delete(Target { at_once: true, ..Target::of(object) }));
    }

    /// Adds [`Action::Confirm`] of an object that was seen.
    pub fn confirm<K: Kind>(&mut self, object: &K) {
        let version = object.resource_version().unwrap_or_default();
        self.actions.push(Action::Confirm(Target::of(object), version));
    }

    /// Adds [`Action::ConfirmOwned`].
    pub fn confirm_owned(&mut self, owned: Owned) {
        self.actions.push(Action::ConfirmOwned(owned));
    }

    /// Adds [`Action::ConfirmOwned`], and then [`Action::Confirm`] of the owner.
    ///
    /// In this order both hold at one moment, that of the list: an owner that is unchanged later was unchanged then. The other
    /// way round, an object may have come and gone between the two, and the owner have changed.
    pub fn confirm_with<O: Kind>(&mut self, owner: &O, owned: Owned) {
        self.confirm_owned(owned);
        self.confirm(owner);
    }

    /// Adds [`Action::ConfirmGone`] for the owner of an object in `namespace` that an owner reference names.
    pub fn confirm_gone<O: Kind>(&mut self, namespace: Option<String>, owner: &OwnerReference) {
        self.actions.push(Action::ConfirmGone(Target {
            resource: ApiResource::erase::<O>(&()),
            namespace,
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            at_once: false,
        }));
    }

    /// Sets the status (without conditions).
    pub fn set_status(&mut self, status: &impl Serialize) {
        let mut value = serde_json::to_value(status).expect("a status serialises to JSON");
        if let Value::Object(map) = &mut value
            && map.get("conditions").is_some_and(|list| list.as_array().is_some_and(Vec::is_empty))
        {
            map.remove("conditions");
        }
        self.status = Some(value);
    }

    /// Looks again after `after`, or sooner if that was asked for already.
    pub fn again_in(&mut self, after: Duration) {
        self.next = Some(self.next.map_or(after, |next| next.min(after)));
    }

    /// The plan as data, as plan cases keep it.
    pub fn to_json(&self) -> Value {
        let actions: Vec<Value> = self
            .actions
            .iter()
            .map(|action| match action {
                Action::Create(object) => json!({"create": object.value}),
                Action::CreateNew(object) => json!({"createNew": object.value}),
                Action::Apply(object) => json!({"apply": object.value}),
                Action::Replace(object) => json!({"replace": object.value}),
                Action::Delete(target) if target.at_once => json!({"deleteNow":
                    format!("{} {} uid {}", target.resource.kind, target.display_name(), target.uid)}),
                Action::Delete(target) => json!({"delete":
                    format!("{} {} uid {}", target.resource.kind, target.display_name(), target.uid)}),
                Action::Confirm(target, version) => json!({"confirm":
                    format!("{} {} version {version}", target.resource.kind, target.display_name())}),
                Action::ConfirmOwned(owned) => json!({"confirmOwned": owned.to_json()}),
                Action::ConfirmGone(target) => json!({"confirmGone":
                    format!("{} {} uid {}", target.resource.kind, target.display_name(), target.uid)}),
            })
            .collect();
        let mut plan = Map::new();
        plan.insert("actions".to_owned(), actions.into());
        if let Some(status) = &self.status {
            plan.insert("status".to_owned(), status.clone());
        }
        if !self.conditions.is_empty() {
            let conditions = serde_json::to_value(&self.conditions).expect("conditions serialise to JSON");
            plan.insert("conditions".to_owned(), conditions);
        }
        if let Some(next) = self.next {
            plan.insert("nextMs".to_owned(), (next.as_millis() as u64).into());
        }
        Value::Object(plan)
    }
}

/// An owner reference to an object that was seen, as its controller.
pub fn controller_reference<K: Kind>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The controller reference of an object, if it has one.
pub fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    controller_in(object.meta())
}

/// The controller reference in an object's metadata, if there is one.
pub(crate) fn controller_in(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}
