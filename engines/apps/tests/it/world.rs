//! A world of objects that carries out plans as an API server would, and can show itself as it was.
//!
//! Left out on purpose: everything that plans of this engine do not use (patches of lists, finalizers of others).

use std::collections::BTreeMap;

use dodai_kit::{Action, Objects, Plan};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) type Id = (String, String);

/// Objects by kind and name; one namespace.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) objects: BTreeMap<Id, Value>,
    revision: u64,
    past: Vec<BTreeMap<Id, Value>>,
    /// Every object that was ever created for an owner that was there: kind, name, uid of the owner.
    pub(crate) created: Vec<(String, String, String)>,
    pub(crate) seconds: i64,
}

/// How far back a stale reader may look, in writes.
const PAST_MAX: usize = 12;

impl World {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + self.seconds)
    }

    fn remember(&mut self) {
        self.past.push(self.objects.clone());
        if self.past.len() > PAST_MAX {
            self.past.remove(0);
        }
    }

    fn next_revision(&mut self) -> String {
        self.revision += 1;
        self.revision.to_string()
    }

    /// What a reader sees: each kind as it was some writes ago, as caches of several watches do.
    pub(crate) fn view(&self, stale: bool) -> Objects {
        let kinds: std::collections::BTreeSet<&String> = self.objects.keys().map(|(kind, _)| kind).collect();
        let mut values = Vec::new();
        for kind in kinds {
            let back = if stale { fastrand::usize(0..=PAST_MAX) } else { 0 };
            let objects = match back {
                0 => &self.objects,
                _ => self.past.get(self.past.len().saturating_sub(back)).unwrap_or(&self.objects),
            };
            values.extend(objects.iter().filter(|((of, _), _)| of == kind).map(|(_, value)| value.clone()));
        }
        Objects { now: self.now(), values }
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        self.objects.iter().filter(|((of, _), _)| of == kind).map(|(_, value)| value.clone()).collect()
    }

    /// Changes an object as its own controller or a person would.
    pub(crate) fn edit(&mut self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let id = (kind.to_owned(), name.to_owned());
        let Some(mut value) = self.objects.get(&id).cloned() else { return };
        let before = value["spec"].clone();
        change(&mut value);
        self.store(id, value, Some(before));
    }

    fn store(&mut self, id: Id, mut value: Value, old_spec: Option<Value>) {
        self.remember();
        value["metadata"]["resourceVersion"] = self.next_revision().into();
        if let Some(old) = old_spec
            && old != value["spec"]
        {
            value["metadata"]["generation"] =
                (value["metadata"]["generation"].as_i64().unwrap_or(1) + 1).into();
        }
        self.objects.insert(id, value);
    }

    pub(crate) fn create(&mut self, mut value: Value) -> bool {
        let (kind, name) = (text(&value["kind"]), text(&value["metadata"]["name"]));
        if self.objects.contains_key(&(kind.clone(), name.clone())) {
            return false;
        }
        let uid = format!("uid-{}", self.revision + 1);
        value["metadata"]["uid"] = uid.into();
        value["metadata"]["namespace"] = "default".into();
        value["metadata"]["generation"] = 1.into();
        value["metadata"]["creationTimestamp"] = self.now().to_string().into();
        let owner = text(&value["metadata"]["ownerReferences"][0]["uid"]);
        // What a stale reader makes for an owner that has gone is collected again; it counts for nothing.
        if owner.is_empty() || self.objects.values().any(|object| object["metadata"]["uid"] == *owner) {
            self.created.push((kind.clone(), name.clone(), owner));
        }
        self.store((kind, name), value, None);
        true
    }

    /// Deletes an object and what it owns; a Pod that runs first terminates.
    pub(crate) fn delete(&mut self, kind: &str, name: &str) {
        let Some(value) = self.get(kind, name).cloned() else { return };
        if kind == "Pod" && value["status"]["phase"] == "Running" {
            let now = self.now().to_string();
            return self.edit(kind, name, |pod| pod["metadata"]["deletionTimestamp"] = now.into());
        }
        self.remember();
        self.objects.remove(&(kind.to_owned(), name.to_owned()));
        let uid = &value["metadata"]["uid"];
        let owned: Vec<Id> = self
            .objects
            .iter()
            .filter(|(_, object)| {
                object["metadata"]["ownerReferences"]
                    .as_array()
                    .is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == *uid))
            })
            .map(|(id, _)| id.clone())
            .collect();
        for (kind, name) in owned {
            self.delete(&kind, &name);
        }
    }

    /// The garbage collector: what was made for an owner that had gone by then, goes too.
    pub(crate) fn collect(&mut self) {
        let uids: std::collections::BTreeSet<String> =
            self.objects.values().map(|object| text(&object["metadata"]["uid"])).collect();
        let orphans: Vec<Id> = self
            .objects
            .iter()
            .filter(|(_, object)| {
                let owners = object["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| owners.iter().all(|owner| !uids.contains(&text(&owner["uid"]))))
            })
            .map(|(id, _)| id.clone())
            .collect();
        for (kind, name) in orphans {
            self.delete(&kind, &name);
        }
    }

    /// Carries out the first `most` writes of a plan, as kit's `execute` does. `false`: it ended early.
    pub(crate) fn execute(&mut self, seen: &Value, plan: &Plan, most: usize) -> bool {
        for (index, action) in plan.actions.iter().enumerate() {
            if index >= most || !self.act(action) {
                return false;
            }
        }
        if plan.actions.len() >= most {
            return false;
        }
        self.write_status(seen, plan)
    }

    fn act(&mut self, action: &Action) -> bool {
        match action {
            Action::Confirm(target, version) => self
                .get(&target.resource.kind, &target.name)
                .is_some_and(|object| object["metadata"]["resourceVersion"] == **version),
            Action::ConfirmOwned(owned) => {
                let there = self.all(&owned.resource.kind);
                let there = there.iter().map(|object| ObjectMeta::deserialize(&object["metadata"]).unwrap());
                owned.differs(there).is_none()
            }
            Action::ConfirmGone(_) | Action::CreateNew(_) => unreachable!("not in this engine's plans"),
            Action::Create(object) => {
                self.create(object.value.clone());
                true
            }
            Action::Apply(object) => {
                if self.create(object.value.clone()) {
                    return true;
                }
                let wanted = object.value.clone();
                self.edit(&object.resource.kind, object.name(), |current| merge(current, &wanted));
                true
            }
            Action::Replace(object) => {
                let Some(current) = self.get(&object.resource.kind, object.name()).cloned() else {
                    return false;
                };
                if current["metadata"]["resourceVersion"] != object.value["metadata"]["resourceVersion"] {
                    return false;
                }
                self.store(
                    (object.resource.kind.clone(), object.name().to_owned()),
                    object.value.clone(),
                    Some(current["spec"].clone()),
                );
                true
            }
            Action::Delete(target) => {
                let same = self
                    .get(&target.resource.kind, &target.name)
                    .is_some_and(|object| object["metadata"]["uid"] == *target.uid);
                if same {
                    self.delete(&target.resource.kind, &target.name);
                }
                true
            }
        }
    }

    fn write_status(&mut self, seen: &Value, plan: &Plan) -> bool {
        let Some(mut status) = plan.status.clone() else { return true };
        if !plan.conditions.is_empty() {
            status["conditions"] = json!(plan.conditions);
        }
        let (kind, name) = (text(&seen["kind"]), text(&seen["metadata"]["name"]));
        let Some(current) = self.get(&kind, &name).cloned() else { return true };
        if seen["status"] == status {
            return true;
        }
        if current["metadata"]["resourceVersion"] != seen["metadata"]["resourceVersion"] {
            return false;
        }
        self.edit(&kind, &name, |object| object["status"] = status);
        true
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Server-side apply of one manager: maps merge, everything else is replaced.
fn merge(current: &mut Value, wanted: &Value) {
    match (current, wanted) {
        (Value::Object(current), Value::Object(wanted)) => {
            for (key, value) in wanted {
                merge(current.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (current, wanted) => *current = wanted.clone(),
    }
}
