//! One watch and one copy of an object per kind and process, shared by all controllers.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::StreamExt;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::{SetOnce, broadcast};

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

/// An object of some kind, for code that is the same for all kinds.
pub type AnyObject = Arc<dyn Any + Send + Sync>;

/// The objects of one kind as the API server last told them.
pub struct Cache<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    changes: broadcast::Sender<AnyObject>,
    synced: SetOnce<()>,
}

impl<K: Kind> Cache<K> {
    fn new() -> Cache<K> {
        Cache {
            objects: RwLock::default(),
            changes: broadcast::channel(CHANGES_MAX).0,
            synced: SetOnce::new(),
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
    pub fn subscribe(&self) -> broadcast::Receiver<AnyObject> {
        self.changes.subscribe()
    }

    /// Waits until the first list has arrived.
    pub async fn synced(&self) {
        self.synced.wait().await;
    }

    fn insert(&self, object: K) {
        let object = Arc::new(object);
        self.objects
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(Key::of(object.as_ref()), object.clone());
        // Nobody listening is fine.
        let _ = self.changes.send(object);
    }

    fn remove(&self, key: &Key) {
        let gone = self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some(gone) = gone {
            let _ = self.changes.send(gone);
        }
    }
}

/// Where a watch puts what it sees. The watch itself knows no kind, so that it is compiled once for all of them.
trait Sink: Send + Sync {
    fn apply(&self, object: DynamicObject);
    fn delete(&self, object: &DynamicObject);
    /// A fresh list: what it does not name has gone while we were not looking.
    fn replace(&self, fresh: Vec<DynamicObject>);
}

impl<K: Kind> Sink for Cache<K> {
    fn apply(&self, object: DynamicObject) {
        if let Some(object) = typed(object) {
            self.insert(object);
        }
    }

    fn delete(&self, object: &DynamicObject) {
        self.remove(&Key::of(object));
    }

    fn replace(&self, fresh: Vec<DynamicObject>) {
        let named: BTreeSet<Key> = fresh.iter().map(Key::of).collect();
        for object in self.list(None) {
            let key = Key::of(object.as_ref());
            if !named.contains(&key) {
                self.remove(&key);
            }
        }
        for object in fresh {
            self.apply(object);
        }
        // It may have been set by an earlier list.
        let _ = self.synced.set(());
    }
}

/// The object as its type. One that does not fit (written by a newer version, say) is left out and told, and stops nobody.
fn typed<K: Kind>(object: DynamicObject) -> Option<K> {
    let key = Key::of(&object);
    match whole(object).and_then(serde_json::from_value) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::warn!(kind = %K::kind(&()), %key, %error, "an object cannot be read and is left out");
            None
        }
    }
}

/// The object as one value, without `managedFields`. All but its metadata is moved, not copied.
fn whole(mut object: DynamicObject) -> serde_json::Result<Value> {
    object.metadata.managed_fields = None;
    let mut map = match object.data {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    map.insert("metadata".to_owned(), serde_json::to_value(object.metadata)?);
    if let Some(types) = object.types {
        map.insert("apiVersion".to_owned(), types.api_version.into());
        map.insert("kind".to_owned(), types.kind.into());
    }
    Ok(Value::Object(map))
}

async fn follow(sink: Arc<dyn Sink>, client: Client, resource: ApiResource) {
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let stream = watcher(api, watcher::Config::default()).default_backoff();
    futures::pin_mut!(stream);
    let mut fresh = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Init) => fresh.clear(),
            Ok(watcher::Event::InitApply(object)) => fresh.push(object),
            Ok(watcher::Event::InitDone) => sink.replace(std::mem::take(&mut fresh)),
            Ok(watcher::Event::Apply(object)) => sink.apply(object),
            Ok(watcher::Event::Delete(object)) => sink.delete(&object),
            // The stream backs off and starts again by itself.
            Err(error) => tracing::debug!(kind = %resource.kind, %error, "watch interrupted"),
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
            let resource = ApiResource::erase::<K>(&());
            let task = tokio::spawn(follow(cache.clone(), self.client.clone(), resource));
            Entry { cache, task }
        });
        entry.cache.clone().downcast::<Cache<K>>().expect("the entry of a type holds the cache of that type")
    }
}
