//! What `observe` reads from: the caches of a process, or the objects of a plan case.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Resource;
use serde_json::Value;

use crate::cache::{Caches, Key, Kind};
use crate::clock::Clock;
use crate::outside::Outside;

/// A reader of objects. `observe` gets one, so that the same code serves the running process and the plan cases.
#[derive(Clone)]
pub struct View {
    source: Source,
    outside: Outside,
}

#[derive(Clone)]
enum Source {
    Caches(Caches, Clock),
    Objects(Arc<Objects>),
}

impl View {
    /// Reads from the shared caches.
    pub fn of_caches(caches: Caches, clock: Clock) -> View {
        View { source: Source::Caches(caches, clock), outside: Outside::default() }
    }

    /// Reads from a fixed set of objects.
    pub fn of_objects(objects: Objects) -> View {
        View { source: Source::Objects(Arc::new(objects)), outside: Outside::default() }
    }

    /// One object.
    pub fn get<K: Kind>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = Key::new(namespace, name);
        match &self.source {
            Source::Caches(caches, _) => caches.of::<K>().get(&key),
            Source::Objects(objects) => {
                objects.list::<K>(None).into_iter().find(|object| Key::of(object.as_ref()) == key)
            }
        }
    }

    /// All objects of a kind in a namespace, or everywhere for `None`, ordered by namespace and name.
    pub fn list<K: Kind>(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        match &self.source {
            Source::Caches(caches, _) => caches.of::<K>().list(namespace),
            Source::Objects(objects) => objects.list(namespace),
        }
    }

    /// The same, with things that are no objects.
    #[must_use]
    pub fn with_outside(self, outside: Outside) -> View {
        View { outside, ..self }
    }

    /// A thing that is no object, such as a keyring.
    pub fn outside<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.outside.get()
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        match &self.source {
            Source::Caches(_, clock) => clock.now(),
            Source::Objects(objects) => objects.now,
        }
    }
}

/// A fixed set of objects, as `kubectl get -o yaml` prints them.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The time that `View::now` tells.
    pub now: Timestamp,
    /// The objects.
    pub values: Vec<Value>,
}

impl Objects {
    /// The objects of a kind; one that does not fit the kind's type is a mistake of the test.
    pub fn list<K: Kind>(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        let mut found: Vec<Arc<K>> = self
            .values
            .iter()
            .filter(|value| value["apiVersion"] == *K::api_version(&()) && value["kind"] == *K::kind(&()))
            .filter(|value| namespace.is_none_or(|namespace| value["metadata"]["namespace"] == namespace))
            .map(|value| {
                let object = serde_json::from_value(value.clone());
                Arc::new(object.unwrap_or_else(|error| panic!("{} in the case: {error}", K::kind(&()))))
            })
            .collect();
        found.sort_by_key(|object: &Arc<K>| Key::of(object.as_ref()));
        found
    }
}

/// Whether `object` is controlled by the owner with this uid.
pub fn is_controlled_by<K: Resource>(object: &K, uid: &str) -> bool {
    crate::plan::controller_of(object).is_some_and(|owner| owner.uid == uid)
}
