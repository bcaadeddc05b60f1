//! Opening a store: what the disk holds becomes the state that is served, under the keys that are at hand.
//!
//! A Secret whose key is lost is *locked*: everything else loads, it stays on the disk as it is, reading it is an error
//! that names the key. A key is made for a new store, or when no Secret needs the lost one; never beside locked Secrets,
//! since the lost one may only be away.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::disk::Disk;
use super::log::{self, Log, LogError, Record};
use super::seal::{self, KeyId, KeyPlace, SealKey, Sealer, Unopened};
use super::writer::{Steps, Writer};
use super::{Event, Key, Object, Published, Store, lock};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where the keys are that seal Secrets.
    pub keys: KeyPlace,
    /// The folder, for people: it is named in the file of a new key.
    pub folder: PathBuf,
    /// Sizes and times.
    pub limits: Limits,
}

impl Setup {
    /// As people run it, with these keys.
    pub fn new(keys: KeyPlace) -> Setup {
        Setup { keys, folder: PathBuf::new(), limits: Limits::default() }
    }
}

/// Sizes and times of the log.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Length of the log (bytes) from which a snapshot replaces it.
    pub log_bytes_max: u64,
    /// The same when the store opens or closes.
    pub log_bytes_open_max: u64,
    /// How long the log stays unsealed after the last write.
    pub seal_after: Duration,
    /// Bytes kept free on the disk for deletions.
    pub reserve_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            log_bytes_max: 64 << 20,
            log_bytes_open_max: 4 << 20,
            seal_after: Duration::from_millis(50),
            reserve_bytes: 1 << 20,
        }
    }
}

/// A value that is not at hand.
#[derive(Debug)]
pub struct Locked {
    /// What is on the disk, and stays there.
    pub(super) value: Vec<u8>,
    /// For people: why, and what to do.
    pub why: String,
}

/// What an opened store is made of.
struct Opened {
    published: Published,
    sealer: Sealer,
    log: Log,
    notices: Vec<String>,
}

impl Store {
    /// Opens what the disk holds, and starts the thread that writes.
    ///
    /// # Errors
    /// The disk fails, what is on it is damaged, or the key cannot be used.
    pub fn open(disk: Arc<dyn Disk>, setup: &Setup) -> Result<Store, LogError> {
        let (store, writer) = Store::prepare(disk, setup)?;
        let thread = std::thread::Builder::new()
            .name("dodai-store".into())
            .spawn(move || writer.run())
            .map_err(|source| LogError::Io { action: "start the thread that writes", file: "log", source })?;
        *lock(&store.thread) = Some(thread);
        Ok(store)
    }

    /// As `open`, without the thread: the caller makes each step of it. For simulations.
    ///
    /// # Errors
    /// See `open`.
    pub fn open_in_steps(disk: Arc<dyn Disk>, setup: &Setup) -> Result<(Store, Steps), LogError> {
        let (store, writer) = Store::prepare(disk, setup)?;
        Ok((store, Steps::new(writer)))
    }

    fn prepare(disk: Arc<dyn Disk>, setup: &Setup) -> Result<(Store, Writer), LogError> {
        let opened = open(&*disk, setup)?;
        for notice in &opened.notices {
            tracing::warn!(%notice, "about the store");
        }
        let store = Store::new(opened.published, Some(opened.sealer), opened.notices);
        let writer = Writer::new(store.shared.clone(), disk, opened.log, setup.limits.clone());
        Ok((store, writer))
    }

    /// What people should know of how the store was opened, such as a lost key.
    pub fn notices(&self) -> &[String] {
        &self.shared.notices
    }
}

fn open(disk: &dyn Disk, setup: &Setup) -> Result<Opened, LogError> {
    let make = || setup.keys.make(&setup.folder.display().to_string()).map_err(LogError::Key);
    let made = |file: Option<PathBuf>| {
        file.map(|file| {
            let folder = setup.folder.display();
            let file = file.display();
            format!(
                "a key that seals the Secrets in `{folder}` was made: {file}; keep a copy in a safe place, without it \
                 none of them can be read again"
            )
        })
    };
    let Some(mut recovered) = log::recover(disk)? else {
        let (key, file) = make()?;
        let log = Log::create(disk, fastrand::u64(..), key.id())?;
        let (published, notices) = (Published::default(), Vec::from_iter(made(file)));
        return Ok(Opened { published, sealer: Sealer::new(Some(key)), log, notices });
    };
    let revision = recovered.snapshot_revision;
    let mut published = Published { revision, floor: revision, ..Published::default() };
    let mut reader = Reader::new(setup, recovered.key)?;
    for record in std::mem::take(&mut recovered.snapshot) {
        reader.replay(&mut published, record, "snapshot", false)?;
    }
    published.revision = published.revision.max(revision);
    for record in std::mem::take(&mut recovered.changes) {
        reader.replay(&mut published, record, "log", true)?;
    }
    forget_locked(&mut published);
    let locked = locked(&published);
    let mut notices = notices(&locked, setup);
    if reader.sealer.is_none() && locked.is_empty() {
        let (key, file) = make()?;
        reader.sealer = Some(key);
        notices.extend(made(file));
    }
    let sealer = reader.finish();
    let long = recovered.len() > setup.limits.log_bytes_open_max;
    let key = sealer.key().unwrap_or(recovered.key);
    // A new key seals everything anew.
    let log = if long || !recovered.is_sealed_with(key) {
        let (mut log, _) = recovered.into_log();
        snapshot(&mut log, disk, everything(&published), &sealer, key)?;
        log
    } else {
        recovered.resume(disk)?
    };
    Ok(Opened { published, sealer, log, notices })
}

/// Reads records with the keys that they name.
struct Reader<'a> {
    setup: &'a Setup,
    /// The key that will seal.
    sealer: Option<SealKey>,
    found: BTreeMap<KeyId, bool>,
    open: Sealer,
}

impl Reader<'_> {
    fn new(setup: &Setup, id: KeyId) -> Result<Reader<'_>, LogError> {
        let sealer = setup.keys.current(id).map_err(LogError::Key)?;
        Ok(Reader { setup, sealer, found: BTreeMap::new(), open: Sealer::default() })
    }

    fn find(&mut self, id: KeyId) -> Result<(), LogError> {
        if self.found.contains_key(&id) {
            return Ok(());
        }
        let key = self.setup.keys.find(id).map_err(LogError::Key)?;
        self.found.insert(id, key.is_some());
        if let Some(key) = key {
            self.open.add(key);
        }
        Ok(())
    }

    fn replay(
        &mut self,
        published: &mut Published,
        mut record: Record,
        file: &'static str,
        history: bool,
    ) -> Result<(), LogError> {
        let corrupt = |what: String| LogError::Corrupt { file, offset: 0, what };
        let mut locked = None;
        if record.sealed {
            if let Some(id) = seal::key_of(&record.value) {
                self.find(id)?;
            }
            match self.open.open(&record) {
                Ok(value) => record.value = value,
                Err(why) => {
                    let stand_in = seal::placeholder(&record.namespace, &record.name, record.revision);
                    let value = std::mem::replace(&mut record.value, stand_in);
                    locked = Some(Box::new(Locked { value, why: self.explain(&why) }));
                }
            }
        } else if seal::is_sealed(&record.resource) && !record.deleted {
            let what = format!("the Secret of revision {} is not sealed", record.revision);
            return Err(corrupt(what));
        }
        let key = Key {
            resource: record.resource.into(),
            namespace: record.namespace.into(),
            name: record.name.into(),
        };
        let value: Value = serde_json::from_slice(&record.value).map_err(|error| {
            corrupt(format!("the object of revision {} is no JSON: {error}", record.revision))
        })?;
        let mut object = Object::index(&value, record.value.into(), record.revision, &key);
        object.locked = locked;
        published.apply(&key, Arc::new(object), record.deleted, history);
        Ok(())
    }

    fn explain(&self, why: &Unopened) -> String {
        match why {
            Unopened::Broken => {
                "its seal is broken: it was changed or moved outside of dodai; delete it".into()
            }
            Unopened::NoKey(id) => {
                let place = match self.setup.keys.file_of(*id) {
                    Some(file) => format!("is not in `{}`", file.display()),
                    None => "is not at hand".into(),
                };
                format!(
                    "it is sealed with the key {id}, which {place}: put it there and start again, or, if it is lost for \
                     good, delete this Secret"
                )
            }
        }
    }

    fn finish(self) -> Sealer {
        let mut sealer = self.open;
        sealer.seal_with(self.sealer);
        sealer
    }
}

/// The locked objects, as `namespace/name`, by reason.
fn locked(published: &Published) -> BTreeMap<String, Vec<String>> {
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for object in published.resources.values().flat_map(|resource| resource.objects.values()) {
        if let Some(locked) = &object.locked {
            let name = format!("{}/{}", object.namespace, object.name);
            by_reason.entry(locked.why.clone()).or_default().push(name);
        }
    }
    by_reason.values_mut().for_each(|names| names.sort());
    by_reason
}

/// Names of locked objects in one notice.
const NAMES_MAX: usize = 20;

fn notices(locked: &BTreeMap<String, Vec<String>>, setup: &Setup) -> Vec<String> {
    let sealing = match &setup.keys {
        KeyPlace::Folder(_) => "; until then no Secret can be written",
        // A file that was named and holds another key seals what is new.
        KeyPlace::File(_) | KeyPlace::Given(_) => "",
    };
    let tell = |(why, names): (&String, &Vec<String>)| {
        let more = names.len().saturating_sub(NAMES_MAX);
        let mut shown = names[..names.len() - more].join(", ");
        if more > 0 {
            shown.push_str(&format!(" and {more} more"));
        }
        format!("{} of the Secrets cannot be opened ({shown}): {why}{sealing}", names.len())
    };
    locked.iter().map(tell).collect()
}

/// Takes away the history in which something locked occurs: nobody may be shown half an object.
fn forget_locked(published: &mut Published) {
    let revision = published.revision;
    for resource in published.resources.values_mut() {
        let is_locked = |object: &Arc<Object>| object.locked.is_some();
        let past =
            |event: &Arc<Event>| is_locked(&event.object) || event.previous.as_ref().is_some_and(is_locked);
        if resource.objects.values().any(is_locked) || resource.ring.iter().any(past) {
            resource.ring = VecDeque::new();
            resource.ring_bytes = 0;
            resource.floor = revision;
        }
    }
}

/// Everything that is published at a revision.
pub(super) struct Everything {
    revision: u64,
    objects: Vec<(Arc<str>, Arc<Object>)>,
}

pub(super) fn everything(published: &Published) -> Everything {
    let mut objects = Vec::new();
    for (name, resource) in &published.resources {
        objects.extend(resource.objects.values().map(|object| (name.clone(), object.clone())));
    }
    Everything { revision: published.revision, objects }
}

/// Replaces the log by a snapshot of everything. Returns its length.
pub(super) fn snapshot(
    log: &mut Log,
    disk: &dyn Disk,
    all: Everything,
    sealer: &Sealer,
    key: KeyId,
) -> Result<u64, LogError> {
    let records = all.objects.iter().map(|(resource, object)| record_of(resource, object, false, sealer));
    log.snapshot(disk, all.revision, key, records, fastrand::u64(..))
}

/// A state of an object as it goes to the disk.
pub(super) fn record_of(resource: &str, object: &Object, deleted: bool, sealer: &Sealer) -> Record {
    let locked = object.locked.as_ref();
    let mut record = Record {
        revision: object.revision,
        resource: resource.to_owned(),
        namespace: object.namespace.to_string(),
        name: object.name.to_string(),
        value: locked.map_or_else(|| object.json.to_vec(), |locked| locked.value.clone()),
        deleted,
        sealed: locked.is_some(),
    };
    sealer.seal(&mut record);
    record
}
