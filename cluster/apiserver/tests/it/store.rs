//! The store on a simulated disk: a crash at every call, a full disk, a broken one.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dodai_apiserver::store::disk::Disk;
use dodai_apiserver::store::{Change, Key, Store, StoreError};
use serde_json::json;

/// What is left of unsynced writes after a crash.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    Half,
    Everything,
}

#[derive(Default)]
struct State {
    /// Files as a process sees them, and their durable part.
    files: BTreeMap<String, (Vec<u8>, Vec<u8>)>,
    /// The folder as it is after a crash.
    durable: BTreeMap<String, Vec<u8>>,
    calls: usize,
    dead_at: Option<usize>,
    full: bool,
    broken_sync: bool,
}

#[derive(Clone, Default)]
struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    fn call<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        state.calls += 1;
        if state.dead_at.is_some_and(|at| state.calls > at) {
            return Err(io::Error::other("the machine is off"));
        }
        act(&mut state)
    }

    /// The disk after the power went.
    fn after_crash(&self, left: Left) -> SimDisk {
        let state = self.0.lock().unwrap();
        let mut files = BTreeMap::new();
        for (name, synced) in &state.durable {
            let mut content = synced.clone();
            if let Some((now, durable)) = state.files.get(name)
                && durable == synced
                && now.len() > synced.len()
            {
                let extra = match left {
                    Left::Nothing => 0,
                    Left::Half => (now.len() - synced.len()) / 2,
                    Left::Everything => now.len() - synced.len(),
                };
                content.extend_from_slice(&now[synced.len()..synced.len() + extra]);
            }
            files.insert(name.clone(), (content.clone(), content));
        }
        let durable = files.iter().map(|(name, (content, _))| (name.clone(), content.clone())).collect();
        SimDisk(Arc::new(Mutex::new(State { files, durable, ..State::default() })))
    }
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> io::Result<()> {
        self.call(|state| {
            state.files.insert(name.into(), Default::default());
            Ok(())
        })
    }

    fn append(&self, name: &str, data: &[u8]) -> io::Result<()> {
        self.call(|state| {
            if state.full && state.files.contains_key("reserve") {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let file = state.files.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
            file.0.extend_from_slice(data);
            Ok(())
        })
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.call(|state| Ok(state.files.get(name).ok_or(io::ErrorKind::NotFound)?.0.clone()))
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.call(|state| {
            state.files.get_mut(name).ok_or(io::ErrorKind::NotFound)?.0.truncate(len as usize);
            Ok(())
        })
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.call(|state| {
            if state.broken_sync {
                return Err(io::Error::other("input/output error"));
            }
            let file = state.files.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
            file.1 = file.0.clone();
            let content = file.1.clone();
            // A file whose entry is durable has its content durable too.
            if state.durable.contains_key(name) {
                state.durable.insert(name.into(), content);
            }
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(|state| {
            let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.files.insert(to.into(), file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(|state| {
            state.files.remove(name);
            Ok(())
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.call(|state| {
            state.durable =
                state.files.iter().map(|(name, (_, durable))| (name.clone(), durable.clone())).collect();
            Ok(())
        })
    }
}

fn key(n: usize) -> Key {
    Key::new(&"core/configmaps".into(), "default", &format!("m{n}"))
}

async fn put(store: &Store, n: usize) -> Result<(), StoreError> {
    let value = json!({ "metadata": { "name": format!("m{n}") } });
    store.write(&key(n), |_, _| Ok::<_, StoreError>(Change::Put(value))).await.map(drop)
}

async fn remove(store: &Store, n: usize) -> Result<(), StoreError> {
    let value = json!({ "metadata": { "name": format!("m{n}") } });
    store.write(&key(n), |_, _| Ok::<_, StoreError>(Change::Delete(value))).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_call_loses_nothing_that_was_acknowledged() {
    const WRITES: usize = 6;
    let mut crashes = 0;
    for dead_at in 0..200 {
        let disk = SimDisk::default();
        disk.0.lock().unwrap().dead_at = Some(dead_at);
        let mut acknowledged = Vec::new();
        let mut finished = false;
        if let Ok(store) = Store::open(Arc::new(disk.clone())) {
            for n in 0..WRITES {
                if put(&store, n).await.is_ok() {
                    acknowledged.push(n);
                }
            }
            finished = acknowledged.len() == WRITES;
            store.close().await;
        }
        for left in [Left::Nothing, Left::Half, Left::Everything] {
            let disk = disk.after_crash(left);
            // A crash while recovering changes nothing either.
            for again in 0..8 {
                let second = disk.after_crash(Left::Nothing);
                second.0.lock().unwrap().dead_at = Some(again);
                let _ = Store::open(Arc::new(second.clone()));
                let third = Store::open(Arc::new(second.after_crash(left)))
                    .unwrap_or_else(|error| panic!("call {dead_at}, {left:?}, then {again}: {error}"));
                for n in &acknowledged {
                    assert!(
                        third.get(&key(*n)).is_some(),
                        "call {dead_at}, {left:?}, then {again}: {n} is lost"
                    );
                }
                third.close().await;
            }
            crashes += 1;
        }
        if finished {
            println!("{crashes} crashes");
            return;
        }
    }
    panic!("the script never came to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_but_not_reads_and_deletions() {
    let disk = SimDisk::default();
    let store = Store::open(Arc::new(disk.clone())).unwrap();
    put(&store, 1).await.unwrap();
    // The reserve is made beside the first writes.
    while !disk.0.lock().unwrap().files.contains_key("reserve") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    disk.0.lock().unwrap().full = true;
    let refused = put(&store, 2).await.unwrap_err();
    assert!(matches!(refused, StoreError::NoSpace), "{refused}");
    assert!(refused.to_string().contains("the disk is full"), "{refused}");
    assert!(
        store.get(&key(1)).is_some() && store.get(&key(2)).is_none() && store.get_head(&key(2)).is_none()
    );
    remove(&store, 1).await.unwrap();
    disk.0.lock().unwrap().full = false;
    put(&store, 3).await.unwrap();
    store.close().await;
    let store = Store::open(Arc::new(disk.after_crash(Left::Nothing))).unwrap();
    let found: Vec<bool> = (1..=3).map(|n| store.get(&key(n)).is_some()).collect();
    assert_eq!(found, [false, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_never_tried_again() {
    let disk = SimDisk::default();
    let store = Store::open(Arc::new(disk.clone())).unwrap();
    put(&store, 1).await.unwrap();
    disk.0.lock().unwrap().broken_sync = true;
    assert!(matches!(put(&store, 2).await.unwrap_err(), StoreError::Failed(_)));
    disk.0.lock().unwrap().broken_sync = false;
    let after = put(&store, 3).await.unwrap_err();
    assert!(after.to_string().contains("until the server starts again"), "{after}");
    assert!(store.get(&key(1)).is_some() && store.get(&key(2)).is_none(), "reads go on");
}
