//! A small world to run controllers in: a store with versions, caches that lag behind it one kind at a time, and
//! processes that are killed between two actions. Everything follows from one seed.

use std::collections::BTreeMap;

use dodai_kit::{Action, Controller, Key, Objects, View};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};

/// Kind, namespace, name.
pub(crate) type Id = (String, String, String);

/// How a pass ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Nothing was written; look again after this time.
    Quiet(Option<std::time::Duration>),
    Wrote,
    Conflict,
    Killed,
    Gone,
}

pub(crate) struct World {
    pub(crate) random: fastrand::Rng,
    pub(crate) now: Timestamp,
    pub(crate) objects: BTreeMap<Id, Value>,
    log: Vec<(Id, Option<Value>)>,
    /// For each kind, what its cache holds and how far in the log it has read.
    caches: BTreeMap<String, (usize, BTreeMap<Id, Value>)>,
    next_uid: u64,
    /// What was created, with the state of the world at that moment being what `objects` says.
    pub(crate) created: Vec<Value>,
    /// What was deleted by a controller, as it was then.
    pub(crate) deleted: Vec<Value>,
    /// The last steps, for a failed assertion.
    pub(crate) story: Vec<String>,
}

pub(crate) fn id(value: &Value) -> Id {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&value["kind"]), text(&value["metadata"]["namespace"]), text(&value["metadata"]["name"]))
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        World {
            random: fastrand::Rng::with_seed(seed),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            objects: BTreeMap::new(),
            log: Vec::new(),
            caches: BTreeMap::new(),
            next_uid: 0,
            created: Vec::new(),
            deleted: Vec::new(),
            story: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, text: String) {
        self.story.push(format!("{} {text}", self.now));
    }

    pub(crate) fn advance(&mut self, by_s: i64) {
        self.now += SignedDuration::from_secs(by_s);
    }

    /// A chance of one in `n`.
    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(0..n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.random.usize(0..from.len())].clone())
    }

    pub(crate) fn of_kind(&self, kind: &str) -> Vec<Value> {
        self.objects.values().filter(|value| value["kind"] == kind).cloned().collect()
    }

    pub(crate) fn pods(&self) -> Vec<Pod> {
        self.of_kind("Pod").into_iter().map(|value| serde_json::from_value(value).unwrap()).collect()
    }

    /// Creates an object as the API server would, `false` if the name is taken.
    pub(crate) fn create(&mut self, mut value: Value) -> bool {
        let id = id(&value);
        if self.objects.contains_key(&id) {
            return false;
        }
        self.next_uid += 1;
        let metadata = value["metadata"].as_object_mut().unwrap();
        metadata.insert("uid".into(), format!("uid-{}", self.next_uid).into());
        metadata.insert("generation".into(), 1.into());
        metadata.insert("creationTimestamp".into(), rfc3339(self.now).into());
        if id.0 == "Pod" && value["status"].is_null() {
            value["status"] = json!({"phase": "Pending"});
        }
        self.created.push(value.clone());
        self.tell(format!("created {id:?}"));
        self.put(id, value);
        true
    }

    /// Stores a new state of an object under a new version, or takes it away if nothing holds it any more.
    pub(crate) fn put(&mut self, id: Id, mut value: Value) {
        let metadata = &value["metadata"];
        let is_held = metadata["finalizers"].as_array().is_some_and(|list| !list.is_empty());
        let grace = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        if !metadata["deletionTimestamp"].is_null() && grace == 0 && !is_held {
            self.remove(&id);
            return;
        }
        value["metadata"]["resourceVersion"] = (self.log.len() + 1).to_string().into();
        self.log.push((id.clone(), Some(value.clone())));
        self.objects.insert(id, value);
    }

    pub(crate) fn remove(&mut self, id: &Id) {
        self.tell(format!("gone {id:?}"));
        self.objects.remove(id);
        self.log.push((id.clone(), None));
    }

    /// Changes an object outside of any controller.
    pub(crate) fn change(&mut self, id: &Id, change: impl FnOnce(&mut Value)) {
        let Some(mut value) = self.objects.get(id).cloned() else { return };
        let before = value.clone();
        change(&mut value);
        if value == before {
            return;
        }
        if value["spec"] != before["spec"] {
            value["metadata"]["generation"] = (before["metadata"]["generation"].as_i64().unwrap() + 1).into();
        }
        self.put(id.clone(), value);
    }

    /// What the API server does with a deletion: a Pod that may run gets its time, all else goes unless it is held.
    pub(crate) fn delete(&mut self, id: &Id) {
        let Some(mut value) = self.objects.get(id).cloned() else { return };
        if !value["metadata"]["deletionTimestamp"].is_null() {
            return;
        }
        let runs = id.0 == "Pod"
            && value["spec"]["nodeName"].is_string()
            && !matches!(value["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let grace = if runs { 30 } else { 0 };
        value["metadata"]["deletionTimestamp"] = rfc3339(self.now).into();
        value["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.tell(format!("deletion of {id:?}"));
        self.put(id.clone(), value);
    }

    /// Deletes what is controlled by something that has gone.
    pub(crate) fn collect_garbage(&mut self) {
        let uids: Vec<String> = self
            .objects
            .values()
            .filter_map(|value| Some(value["metadata"]["uid"].as_str()?.to_owned()))
            .collect();
        let lost: Vec<Id> = self
            .objects
            .iter()
            .filter(|(_, value)| {
                let owners = value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
                !owners.is_empty() && owners.iter().all(|owner| !uids.iter().any(|uid| owner["uid"] == **uid))
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in lost {
            self.delete(&id);
        }
    }

    /// The cache of one kind reads some more of the log, or all of it.
    pub(crate) fn catch_up(&mut self, kind: &str, all: bool) {
        let end = self.log.len();
        let (position, _) = self.caches.entry(kind.to_owned()).or_default();
        let to = if all { end } else { self.random.usize(*position..=end) };
        let from = std::mem::replace(position, to);
        for (id, value) in &self.log[from..to] {
            if id.0 != kind {
                continue;
            }
            let cache = &mut self.caches.get_mut(kind).unwrap().1;
            match value {
                Some(value) => cache.insert(id.clone(), value.clone()),
                None => cache.remove(id),
            };
        }
    }

    pub(crate) fn catch_up_all(&mut self, kinds: &[&str]) {
        for kind in kinds {
            self.catch_up(kind, true);
        }
    }

    fn view(&self) -> View {
        let values = self.caches.values().flat_map(|(_, cache)| cache.values().cloned()).collect();
        View::of_objects(Objects { now: self.now, values })
    }

    pub(crate) fn cached(&self, kind: &str) -> Vec<Key> {
        let cache = self.caches.get(kind).map(|(_, cache)| cache.keys().cloned().collect::<Vec<_>>());
        cache.unwrap_or_default().into_iter().map(|(_, namespace, name)| Key::new(namespace, name)).collect()
    }

    /// One pass of a controller over what its caches show. `kill` ends it after that many actions.
    pub(crate) fn pass<C: Controller>(&mut self, key: &Key, kill: Option<usize>) -> Outcome {
        let view = self.view();
        let Some(object) = view.get::<C::Kind>(&key.namespace, &key.name) else { return Outcome::Gone };
        let plan = C::plan(&C::observe(&view, &object));
        let mut wrote = false;
        for (number, action) in plan.actions.iter().enumerate() {
            if kill == Some(number) {
                self.tell(format!("{} killed after {number} actions", C::NAME));
                return Outcome::Killed;
            }
            match self.act(action) {
                Ok(changed) => wrote |= changed,
                Err(why) => {
                    self.tell(format!("{} {key}: conflict: {why}", C::NAME));
                    return Outcome::Conflict;
                }
            }
        }
        if kill == Some(plan.actions.len()) {
            return Outcome::Killed;
        }
        let seen = dodai_kit::Object::new(object.as_ref()).value;
        if let Some(status) = plan.status.clone().filter(|status| *status != seen["status"]) {
            let id = id(&seen);
            let Some(mut current) = self.objects.get(&id).cloned() else { return Outcome::Conflict };
            if current["metadata"]["resourceVersion"] != seen["metadata"]["resourceVersion"] {
                return Outcome::Conflict;
            }
            self.tell(format!("{} {key}: status {status}", C::NAME));
            current["status"] = status;
            self.put(id, current);
            wrote = true;
        }
        if wrote { Outcome::Wrote } else { Outcome::Quiet(plan.next) }
    }

    /// Whether it changed anything.
    fn act(&mut self, action: &Action) -> Result<bool, String> {
        match action {
            Action::Create(object) if object.resource.kind == "Binding" => self.bind(&object.value),
            Action::Create(object) => Ok(self.create(object.value.clone())),
            Action::CreateNew(object) => match self.create(object.value.clone()) {
                true => Ok(true),
                false => Err(format!("{} is there", object.display_name())),
            },
            Action::Apply(object) => {
                let id = id(&object.value);
                let Some(current) = self.objects.get(&id).cloned() else {
                    return Ok(self.create(object.value.clone()));
                };
                let mut wanted = object.value.clone();
                for field in ["uid", "generation", "creationTimestamp", "resourceVersion"] {
                    wanted["metadata"][field] = current["metadata"][field].clone();
                }
                let changed = wanted != current;
                if changed {
                    self.put(id, wanted);
                }
                Ok(changed)
            }
            Action::Replace(object) => {
                let id = id(&object.value);
                let current = self.objects.get(&id).cloned().ok_or("gone")?;
                if current["metadata"]["resourceVersion"] != object.value["metadata"]["resourceVersion"] {
                    return Err(format!("replace of {id:?}"));
                }
                let mut wanted = object.value.clone();
                wanted["status"] = current["status"].clone();
                if wanted == current {
                    return Ok(false);
                }
                self.tell(format!("replaced {id:?}"));
                self.change(&id, |value| *value = wanted);
                Ok(true)
            }
            Action::Delete(target) => {
                let id = (
                    target.resource.kind.clone(),
                    target.namespace.clone().unwrap_or_default(),
                    target.name.clone(),
                );
                let Some(current) = self.objects.get(&id).cloned() else { return Ok(false) };
                if current["metadata"]["uid"] != *target.uid {
                    return Ok(false);
                }
                let is_new = current["metadata"]["deletionTimestamp"].is_null();
                if is_new {
                    self.deleted.push(current);
                }
                self.delete(&id);
                Ok(is_new)
            }
            Action::ConfirmOwned(owned) => {
                let there = self.of_kind(&owned.resource.kind);
                let there = there.iter().map(|object| ObjectMeta::deserialize(&object["metadata"]).unwrap());
                match owned.differs(there) {
                    None => Ok(false),
                    Some(name) => Err(format!("{} {name} of {}", owned.resource.kind, owned.owners())),
                }
            }
            Action::Confirm(target, version) => {
                let id = (
                    target.resource.kind.clone(),
                    target.namespace.clone().unwrap_or_default(),
                    target.name.clone(),
                );
                match self.objects.get(&id) {
                    Some(current) if current["metadata"]["resourceVersion"] == **version => Ok(false),
                    _ => Err(format!("{id:?} is not at {version}")),
                }
            }
            Action::ConfirmGone(target) => {
                let namespace = target.namespace.clone().unwrap_or_default();
                let id = (target.resource.kind.clone(), namespace, target.name.clone());
                match self.objects.get(&id) {
                    Some(current) if current["metadata"]["uid"] == *target.uid => {
                        Err(format!("{id:?} is there"))
                    }
                    _ => Ok(false),
                }
            }
        }
    }

    fn bind(&mut self, binding: &Value) -> Result<bool, String> {
        let id = ("Pod".to_owned(), id(binding).1, id(binding).2);
        let current = self.objects.get(&id).ok_or("gone")?;
        if current["metadata"]["uid"] != binding["metadata"]["uid"] || current["spec"]["nodeName"].is_string()
        {
            return Err(format!("binding of {id:?}"));
        }
        let node = binding["target"]["name"].clone();
        self.change(&id, |pod| pod["spec"]["nodeName"] = node);
        Ok(true)
    }

    /// What the kubelet says of a Pod.
    pub(crate) fn set_phase(&mut self, id: &Id, phase: &str, ready: bool) {
        let now = rfc3339(self.now);
        self.tell(format!("{id:?} is {phase}, ready {ready}"));
        self.change(id, |pod| {
            let was = pod["status"]["conditions"][0].clone();
            let status = if ready { "True" } else { "False" };
            let since = if was["status"] == status { was["lastTransitionTime"].clone() } else { now.into() };
            pod["status"] = json!({"phase": phase, "podIP": "127.0.0.1", "conditions":
                [{"type": "Ready", "status": status, "lastTransitionTime": since}]});
        });
    }

    /// The kubelet's last word on a Pod that is being deleted: nothing of it runs, it may go.
    pub(crate) fn let_go(&mut self, id: &Id) {
        self.change(id, |pod| pod["metadata"]["deletionGracePeriodSeconds"] = 0.into());
    }

    /// Shows what happened before an assertion fails.
    pub(crate) fn check(&self, holds: bool, what: &str) {
        if !holds {
            let tail = self.story.len().saturating_sub(60);
            panic!("{what}\n{}", self.story[tail..].join("\n"));
        }
    }
}

pub(crate) fn rfc3339(time: Timestamp) -> String {
    dodai_kit::execute::rfc3339(time)
}

/// Runs a simulation for many seeds; `DODAI_SEED` runs one, `DODAI_SEEDS` says how many.
pub(crate) fn for_seeds(run: fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("DODAI_SEED") {
        return run(seed);
    }
    for seed in 0..number("DODAI_SEEDS").unwrap_or(40) {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            eprintln!("failed with DODAI_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
