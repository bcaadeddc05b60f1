//! One watch and one copy of an object per kind and process, shared by all controllers.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};

/// Changes a slow controller may be behind before it is told to look at everything again.
const CHANGES_MAX: usize = 4096;

/// Any typed Kubernetes kind.
pub trait Kind:
    Resource<DynamicType = ()> + Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}
impl<K> Kind for K where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

/// Namespace (empty for kinds without) and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty for kinds without namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Key {
        Key { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Key {
        Key::new(object.namespace().unwrap_or_default(), object.name_any())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// The objects of one kind as the API server last told them.
pub struct Cache<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    changes: broadcast::Sender<Arc<K>>,
    synced: watch::Sender<bool>,
}

impl<K: Kind> Cache<K> {
    fn new() -> Cache<K> {
        Cache {
            objects: RwLock::default(),
            changes: broadcast::channel(CHANGES_MAX).0,
            synced: watch::channel(false).0,
        }
    }

    /// The object of this key.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// The objects of a namespace, or of all for `None`, ordered by key.
    pub fn list(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        match namespace {
            None => objects.values().cloned().collect(),
            Some(namespace) => objects
                .range((Bound::Included(Key::new(namespace, "")), Bound::Unbounded))
                .take_while(|(key, _)| key.namespace == namespace)
                .map(|(_, object)| object.clone())
                .collect(),
        }
    }

    /// Every object that changes or goes, from now on. For one that went, its last state.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<K>> {
        self.changes.subscribe()
    }

    /// Waits until the first list has arrived.
    pub async fn synced(&self) {
        // The sender lives as long as this cache, so that waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    fn apply(&self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let object = Arc::new(object);
        self.objects
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(Key::of(object.as_ref()), object.clone());
        // Nobody listening is fine.
        let _ = self.changes.send(object);
    }

    fn delete(&self, object: K) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&Key::of(&object));
        let _ = self.changes.send(Arc::new(object));
    }

    /// A fresh list: what it does not name has gone while we were not looking.
    fn replace(&self, fresh: Vec<K>) {
        let fresh: BTreeMap<Key, K> = fresh.into_iter().map(|object| (Key::of(&object), object)).collect();
        let gone: Vec<Arc<K>> = self
            .list(None)
            .into_iter()
            .filter(|object| !fresh.contains_key(&Key::of(object.as_ref())))
            .collect();
        for object in gone {
            self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&Key::of(object.as_ref()));
            let _ = self.changes.send(object);
        }
        for object in fresh.into_values() {
            self.apply(object);
        }
        self.synced.send_replace(true);
    }
}

async fn follow<K: Kind>(cache: Arc<Cache<K>>, client: Client) {
    let stream = watcher(Api::<K>::all(client), watcher::Config::default()).default_backoff();
    futures::pin_mut!(stream);
    let mut fresh = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Init) => fresh.clear(),
            Ok(watcher::Event::InitApply(object)) => fresh.push(object),
            Ok(watcher::Event::InitDone) => cache.replace(std::mem::take(&mut fresh)),
            Ok(watcher::Event::Apply(object)) => cache.apply(object),
            Ok(watcher::Event::Delete(object)) => cache.delete(object),
            // The stream backs off and starts again by itself.
            Err(error) => tracing::debug!(kind = %K::kind(&()), %error, "watch interrupted"),
        }
    }
}

/// The caches of a process, one per kind, started when first asked for.
#[derive(Clone)]
pub struct Caches {
    client: Client,
    by_kind: Arc<Mutex<HashMap<TypeId, Entry>>>,
}

struct Entry {
    cache: Arc<dyn Any + Send + Sync>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Caches {
    /// No watch is started yet.
    pub fn new(client: Client) -> Caches {
        Caches { client, by_kind: Arc::default() }
    }

    /// The cache of a kind; the first call starts its watch.
    pub fn of<K: Kind>(&self) -> Arc<Cache<K>> {
        let mut by_kind = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = by_kind.entry(TypeId::of::<K>()).or_insert_with(|| {
            let cache = Arc::new(Cache::<K>::new());
            let task = tokio::spawn(follow(cache.clone(), self.client.clone()));
            Entry { cache, task }
        });
        entry.cache.clone().downcast::<Cache<K>>().expect("the entry of a type holds the cache of that type")
    }
}
