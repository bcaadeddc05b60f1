//! The store: one revision for everything, ordered maps of immutable objects, bounded histories for watches.
//!
//! Writers work on the *head* (what was written, synced or not); readers see the *published* state only, which a
//! group of writes enters after its sync. So nothing is answered from a group before it is durable, and many writers
//! share one sync. In memory mode a write is published at once.
//!
//! Leaves out: what the objects mean. Keys are tuples, never paths.

pub mod disk;
mod feed;
#[cfg(test)]
mod history;
mod log;
mod object;
pub mod planted;
mod recovery;
pub mod seal;
mod watcher;
mod writer;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;

pub use feed::{Feed, Missed, Moment};
pub use log::LogError;
pub use object::{Draft, Labels, Object};
pub use recovery::{Limits, Locked, Setup};
use seal::Sealer;
pub use watcher::Watcher;
pub use writer::Steps;

/// Most events kept per resource for watches and reads of the past.
const RING_EVENTS_MAX: usize = 10_000;
/// Bytes of JSON kept per resource for the same.
const RING_BYTES_MAX: usize = 32 << 20;
/// How long events are kept: etcd's history ends after as long (`--etcd-compaction-interval` of kube-apiserver).
const RING_KEPT: Duration = Duration::from_secs(300);
/// Events kept however old they are (`watch_cache.go` keeps as many).
const RING_EVENTS_MIN: usize = 100;

/// Events that somebody who wants all of them may lie behind.
const EVENTS_MAX: usize = 2_048;

/// Why the store refuses.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the disk is full: writes are refused until there is space, reads go on")]
    NoSpace,
    #[error("the disk failed ({0}): writes are refused until the server starts again")]
    Failed(String),
    #[error("the store is closed")]
    Closed,
    #[error("cannot write a Secret: the key that seals Secrets is lost, see the log of the start")]
    NoKey,
    #[error("cannot change Secret \"{0}\": {1}")]
    Locked(String, String),
}

/// What a key names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Storage name of the resource, `group/plural`.
    pub resource: Arc<str>,
    /// Empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Key {
    pub fn new(resource: &Arc<str>, namespace: &str, name: &str) -> Key {
        Key { resource: resource.clone(), namespace: namespace.into(), name: name.into() }
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

/// One change. For a deletion `object` is the last state at the revision of the deletion.
#[derive(Debug)]
pub struct Event {
    pub kind: EventKind,
    pub object: Arc<Object>,
    pub previous: Option<Arc<Object>>,
    /// The event as a line of a JSON watch, made once for all watchers.
    pub line: OnceLock<Bytes>,
    /// When it happened, on this machine.
    at: Instant,
}

/// What a write does to its key.
pub enum Change {
    /// Nothing; the answer carries no new revision.
    Nothing,
    Put(Value),
    /// Removes the object; the value is its last state.
    Delete(Value),
    /// As `Put` and `Delete`, written out by a caller who could do it before.
    PutDraft(Draft),
    DeleteDraft(Draft),
}

/// What a write made.
#[derive(Debug)]
pub struct Written {
    /// The new state (for a deletion the last one); `None` when nothing changed.
    pub object: Option<Arc<Object>>,
}

/// Objects of one resource and its recent history.
#[derive(Debug)]
struct Resource {
    objects: BTreeMap<(Arc<str>, Arc<str>), Arc<Object>>,
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    /// All events after this revision are in the ring.
    floor: u64,
    changed: crate::changed::Sender,
}

#[derive(Debug, Default)]
struct Published {
    revision: u64,
    /// No history from before this revision.
    floor: u64,
    resources: HashMap<Arc<str>, Resource>,
    /// Owner uid -> keys of its dependents.
    dependents: HashMap<Box<str>, HashSet<Key>>,
    /// The living objects, found by their uid.
    uids: HashSet<ByUid>,
}

/// A living object, told apart by its uid.
#[derive(Debug)]
struct ByUid {
    resource: Arc<str>,
    object: Arc<Object>,
}

impl ByUid {
    fn key(&self) -> Key {
        let Object { namespace, name, .. } = &*self.object;
        Key { resource: self.resource.clone(), namespace: namespace.clone(), name: name.clone() }
    }

    fn is(&self, key: &Key) -> bool {
        self.object.name == key.name
            && self.object.namespace == key.namespace
            && self.resource == key.resource
    }
}

impl std::borrow::Borrow<str> for ByUid {
    fn borrow(&self) -> &str {
        &self.object.uid
    }
}

impl std::hash::Hash for ByUid {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.object.uid.hash(state);
    }
}

impl PartialEq for ByUid {
    fn eq(&self, other: &ByUid) -> bool {
        self.object.uid == other.object.uid
    }
}

impl Eq for ByUid {}

impl Published {
    fn resource(&mut self, name: &Arc<str>) -> &mut Resource {
        let floor = self.floor;
        self.resources.entry(name.clone()).or_insert_with(|| Resource {
            objects: BTreeMap::new(),
            ring: VecDeque::new(),
            ring_bytes: 0,
            floor,
            changed: Default::default(),
        })
    }

    fn apply(&mut self, key: &Key, object: Arc<Object>, deleted: bool, history: bool) -> Option<Arc<Event>> {
        self.revision = self.revision.max(object.revision);
        let slot = (key.namespace.clone(), key.name.clone());
        let resource = self.resource(&key.resource);
        let previous = if deleted {
            resource.objects.remove(&slot)
        } else {
            resource.objects.insert(slot, object.clone())
        };
        let event = history.then(|| {
            let kind = match (&previous, deleted) {
                (_, true) => EventKind::Deleted,
                (None, false) => EventKind::Added,
                (Some(_), false) => EventKind::Modified,
            };
            let (at, line) = (Instant::now(), OnceLock::new());
            let event = Event { kind, object: object.clone(), previous: previous.clone(), line, at };
            resource.remember(Arc::new(event))
        });
        self.reindex(key, previous.as_deref(), (!deleted).then_some(&object));
        event
    }

    fn reindex(&mut self, key: &Key, old: Option<&Object>, new: Option<&Arc<Object>>) {
        if let Some(old) = old {
            for owner in &old.owners {
                if let Some(keys) = self.dependents.get_mut(owner) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.dependents.remove(owner);
                    }
                }
            }
            if self.uids.get(&*old.uid).is_some_and(|known| known.is(key)) {
                self.uids.remove(&*old.uid);
            }
        }
        if let Some(new) = new {
            for owner in &new.owners {
                self.dependents.entry(owner.clone()).or_default().insert(key.clone());
            }
            if new.locked.is_none() {
                self.uids.replace(ByUid { resource: key.resource.clone(), object: new.clone() });
            }
        }
    }
}

impl Resource {
    fn remember(&mut self, event: Arc<Event>) -> Arc<Event> {
        self.ring_bytes += event.object.json.len();
        self.ring.push_back(event.clone());
        while self.is_too_much(event.at)
            && let Some(gone) = self.ring.pop_front()
        {
            self.ring_bytes -= gone.object.json.len();
            self.floor = gone.object.revision;
        }
        event
    }

    /// Whether the oldest event goes.
    fn is_too_much(&self, now: Instant) -> bool {
        let kept = self.ring.len();
        let is_old = |oldest: &Arc<Event>| now.saturating_duration_since(oldest.at) > RING_KEPT;
        kept > RING_EVENTS_MAX
            || kept > 1 && self.ring_bytes > RING_BYTES_MAX
            || kept > RING_EVENTS_MIN && self.ring.front().is_some_and(is_old)
    }
}

/// What is written but perhaps not yet durable.
#[derive(Default)]
struct Head {
    revision: u64,
    /// The newest unpublished state per key; `None` for a deletion.
    overlay: HashMap<Key, (u64, Option<Arc<Object>>)>,
    pending: Vec<Pending>,
    /// The thread that writes sleeps. Waking it costs as much as all the rest of a small write, so it is woken only then.
    sleeps: bool,
    failed: Option<StoreError>,
    closing: bool,
}

struct Pending {
    /// `None`: somebody only waits until what was written before is durable.
    write: Option<PendingWrite>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

struct PendingWrite {
    key: Key,
    object: Arc<Object>,
    deleted: bool,
}

impl PendingWrite {
    /// As `publish` takes it.
    fn shown(&self) -> (&Key, &Arc<Object>, bool) {
        (&self.key, &self.object, self.deleted)
    }
}

struct Shared {
    head: Mutex<Head>,
    wake: Condvar,
    published: RwLock<Published>,
    /// What the tasks inside the server want.
    feeds: feed::Feeds,
    /// Every published event; made for the first who asks, since its slots cost memory.
    events: OnceLock<tokio::sync::broadcast::Sender<(Key, Arc<Event>)>>,
    /// What seals records; `None` when nothing is kept.
    sealer: Option<Sealer>,
    notices: Vec<String>,
}

/// The store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A view of the newest written state, for checks inside a write.
pub struct View<'a> {
    head: &'a Head,
    shared: &'a Shared,
}

impl View<'_> {
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        if let Some((_, object)) = self.head.overlay.get(key) {
            return object.clone();
        }
        let published = self.shared.published.read().unwrap_or_else(PoisonError::into_inner);
        published.get(key)
    }
}

impl Published {
    fn get(&self, key: &Key) -> Option<Arc<Object>> {
        let slot = (key.namespace.clone(), key.name.clone());
        self.resources.get(&key.resource)?.objects.get(&slot).cloned()
    }
}

/// Objects of one moment.
#[derive(Debug)]
pub struct Listing {
    pub revision: u64,
    pub objects: Vec<Arc<Object>>,
}

/// The past that was asked for is no longer known.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired {
    /// The oldest revision that is still known.
    pub oldest: u64,
}

impl Store {
    /// A store that forgets everything when it is dropped.
    pub fn memory() -> Store {
        Store::new(Published::default(), None, Vec::new())
    }

    fn new(published: Published, sealer: Option<Sealer>, notices: Vec<String>) -> Store {
        let head = Head { revision: published.revision, ..Head::default() };
        let shared = Shared {
            head: Mutex::new(head),
            wake: Condvar::new(),
            published: RwLock::new(published),
            feeds: Default::default(),
            events: OnceLock::new(),
            sealer,
            notices,
        };
        Store { shared: Arc::new(shared), thread: Arc::default() }
    }

    fn published(&self) -> std::sync::RwLockReadGuard<'_, Published> {
        self.shared.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest revision that readers may see.
    pub fn revision(&self) -> u64 {
        self.published().revision
    }

    /// The revision of the newest change of a resource since the store was opened; 0 if there was none.
    pub fn changed(&self, resource: &str) -> u64 {
        self.published().resources.get(resource).map(|found| found.changed.get()).unwrap_or_default()
    }

    /// The published object.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.published().get(key)
    }

    /// The newest written object, durable or not: only for the start of a write.
    pub fn get_head(&self, key: &Key) -> Option<Arc<Object>> {
        let head = lock(&self.shared.head);
        View { head: &head, shared: &self.shared }.get(key)
    }

    /// The key of the living object with this uid.
    pub fn key_of(&self, uid: &str) -> Option<Key> {
        self.published().uids.get(uid).map(ByUid::key)
    }

    /// Keys of the objects that name `uid` as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Key> {
        let mut keys: Vec<Key> =
            self.published().dependents.get(uid).into_iter().flatten().cloned().collect();
        keys.sort();
        keys
    }

    /// How many objects of each resource lie in the namespace (empty: anywhere), without those that have none.
    pub fn count_in(&self, namespace: &str) -> Vec<(Arc<str>, usize)> {
        let published = self.published();
        let mut counts = Vec::new();
        for (name, resource) in &published.resources {
            let count = resource.range(namespace).count();
            if count > 0 {
                counts.push((name.clone(), count));
            }
        }
        counts.sort();
        counts
    }

    /// Objects of a resource (of one namespace, unless `namespace` is empty), ordered by namespace and name.
    pub fn list(&self, resource: &Arc<str>, namespace: &str) -> Listing {
        let published = self.published();
        let objects = match published.resources.get(resource) {
            None => Vec::new(),
            Some(resource) => resource.range(namespace).map(|(_, object)| object.clone()).collect(),
        };
        Listing { revision: published.revision, objects }
    }

    /// As `list`, but the state at an earlier revision.
    pub fn list_at(&self, resource: &Arc<str>, namespace: &str, revision: u64) -> Result<Listing, Expired> {
        let published = self.published();
        let Some(found) = published.resources.get(resource) else {
            if revision < published.floor {
                return Err(Expired { oldest: published.floor });
            }
            return Ok(Listing { revision, objects: Vec::new() });
        };
        if revision < found.floor {
            return Err(Expired { oldest: found.floor });
        }
        let mut objects: BTreeMap<_, _> =
            found.range(namespace).map(|(key, object)| (key.clone(), object.clone())).collect();
        for event in found.ring.iter().rev().take_while(|event| event.object.revision > revision) {
            if !namespace.is_empty() && *event.object.namespace != *namespace {
                continue;
            }
            let key = (event.object.namespace.clone(), event.object.name.clone());
            match &event.previous {
                Some(previous) => objects.insert(key, previous.clone()),
                None => objects.remove(&key),
            };
        }
        Ok(Listing { revision, objects: objects.into_values().collect() })
    }

    /// Forgets all history: nothing before the newest revision can be asked for. For a new store, in which nobody can
    /// have seen anything.
    pub fn forget(&self) {
        let mut published = self.shared.published.write().unwrap_or_else(PoisonError::into_inner);
        let revision = published.revision;
        published.floor = revision;
        for resource in published.resources.values_mut() {
            resource.ring = VecDeque::new();
            resource.ring_bytes = 0;
            resource.floor = revision;
        }
    }

    /// Starts a watch of a resource: events after `revision`.
    pub fn watch(&self, resource: &Arc<str>, revision: u64) -> Result<Watcher, Expired> {
        let mut published = self.shared.published.write().unwrap_or_else(PoisonError::into_inner);
        let found = published.resource(resource);
        if revision < found.floor {
            return Err(Expired { oldest: found.floor });
        }
        let changed = found.changed.subscribe();
        Ok(Watcher { store: self.clone(), resource: resource.clone(), cursor: revision, changed })
    }

    /// Every published event from now on.
    pub fn events(&self) -> tokio::sync::broadcast::Receiver<(Key, Arc<Event>)> {
        self.shared.events.get_or_init(|| tokio::sync::broadcast::Sender::new(EVENTS_MAX)).subscribe()
    }

    /// Every object, for the tasks inside the server.
    pub fn all(&self) -> Vec<(Key, Arc<Object>)> {
        let published = self.published();
        let mut all = Vec::new();
        for (name, resource) in &published.resources {
            for object in resource.objects.values() {
                all.push((Key::new(name, &object.namespace, &object.name), object.clone()));
            }
        }
        all.sort_by(|left, right| left.0.cmp(&right.0));
        all
    }

    /// Writes one key. `decide` runs alone, sees the newest written state and should be short; its error is handed
    /// through. The result arrives after the sync.
    pub async fn write<E: From<StoreError>>(
        &self,
        key: &Key,
        decide: impl FnOnce(Option<&Arc<Object>>, &View<'_>) -> Result<Change, E>,
    ) -> Result<Written, E> {
        let (object, done) = {
            let mut head = lock(&self.shared.head);
            if let Some(failed) = &head.failed {
                return Err(failed.clone().into());
            }
            if head.closing {
                return Err(StoreError::Closed.into());
            }
            let view = View { head: &head, shared: &self.shared };
            let current = view.get(key);
            let (draft, deleted) = match decide(current.as_ref(), &view)? {
                Change::Nothing => return Ok(Written { object: None }),
                Change::Put(value) => (Draft::new(&value), false),
                Change::Delete(value) => (Draft::new(&value), true),
                Change::PutDraft(draft) => (draft, false),
                Change::DeleteDraft(draft) => (draft, true),
            };
            self.check_locked(key, current.as_deref(), deleted)?;
            let revision = head.revision + 1;
            let object = Arc::new(draft.at(revision, key));
            head.revision = revision;
            if self.shared.sealer.is_none() {
                publish(&self.shared, std::iter::once((key, &object, deleted)));
                return Ok(Written { object: Some(object) });
            }
            let state = (!deleted).then(|| object.clone());
            head.overlay.insert(key.clone(), (revision, state));
            let (done, wait) = oneshot::channel();
            let write = PendingWrite { key: key.clone(), object: object.clone(), deleted };
            self.push(&mut head, Pending { write: Some(write), done });
            (object, wait)
        };
        match done.await {
            Ok(Ok(())) => Ok(Written { object: Some(object) }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    /// Waits until everything that is written by now is durable. An answer that rests on the newest written state, and wrote
    /// nothing itself (a refusal, an update without effect), must not be given before: a crash could take back what it says.
    ///
    /// # Errors
    /// What was written was taken back: the answer would be wrong.
    pub async fn settle(&self) -> Result<(), StoreError> {
        let settled = {
            let mut head = lock(&self.shared.head);
            if head.overlay.is_empty() {
                return Ok(());
            }
            let (done, settled) = oneshot::channel();
            self.push(&mut head, Pending { write: None, done });
            settled
        };
        settled.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Hands something to the thread that writes.
    fn push(&self, head: &mut Head, pending: Pending) {
        head.pending.push(pending);
        if std::mem::take(&mut head.sleeps) {
            self.shared.wake.notify_one();
        }
    }

    /// Nothing locked is written over, and no Secret is written without a key.
    fn check_locked(&self, key: &Key, current: Option<&Object>, deleted: bool) -> Result<(), StoreError> {
        if deleted {
            return Ok(());
        }
        if let Some(locked) = current.and_then(|current| current.locked.as_ref()) {
            return Err(StoreError::Locked(format!("{}/{}", key.namespace, key.name), locked.why.clone()));
        }
        match &self.shared.sealer {
            Some(sealer) if seal::is_sealed(&key.resource) && sealer.key().is_none() => {
                Err(StoreError::NoKey)
            }
            _ => Ok(()),
        }
    }

    /// Tells the thread to end when it has written what is pending. Later writes are refused, reads go on.
    pub fn begin_close(&self) {
        lock(&self.shared.head).closing = true;
        self.shared.wake.notify_one();
    }

    /// As `begin_close`, and waits for it.
    pub async fn close(&self) {
        self.begin_close();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the thread that writes the store did not end cleanly");
            }
        }
    }
}

impl Resource {
    fn range(&self, namespace: &str) -> impl Iterator<Item = (&(Arc<str>, Arc<str>), &Arc<Object>)> {
        let namespace: Arc<str> = namespace.into();
        let all = namespace.is_empty();
        let start = (namespace.clone(), Arc::from(""));
        self.objects.range(start..).take_while(move |(key, _)| all || key.0 == namespace)
    }
}

/// Makes writes visible, all at once, and tells those who wait for them.
fn publish<'a>(shared: &Shared, writes: impl Iterator<Item = (&'a Key, &'a Arc<Object>, bool)>) {
    let (mut events, mut changed, mut wake) = (Vec::new(), Vec::new(), Vec::new());
    let mut published = shared.published.write().unwrap_or_else(PoisonError::into_inner);
    for (key, object, deleted) in writes {
        let Some(event) = published.apply(key, object.clone(), deleted, true) else { continue };
        shared.feeds.offer(&feed::Moment(&published), key, &event, &mut wake);
        let of_resource = published.resources.get(&key.resource).map(|resource| resource.changed.clone());
        match changed.last_mut() {
            Some((resource, revision, _)) if *resource == key.resource => *revision = object.revision,
            _ => changed.extend(of_resource.map(|sender| (key.resource.clone(), object.revision, sender))),
        }
        events.push((key, event));
    }
    // Those who are woken read at once.
    drop(published);
    for (_, revision, sender) in changed {
        sender.set(revision);
    }
    feed::Feeds::wake(wake);
    if let Some(sender) = shared.events.get() {
        for (key, event) in events {
            // Nobody listening is fine.
            let _ = sender.send((key.clone(), event));
        }
    }
}
