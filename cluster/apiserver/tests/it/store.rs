//! The store with its thread on a simulated disk: a full one, a broken one.

use std::sync::Arc;
use std::time::Duration;

use dodai_apiserver::store::seal::{KeyPlace, SealKey};
use dodai_apiserver::store::{Change, Key, Setup, Store, StoreError};
use serde_json::json;

use super::sim_disk::{Fault, SimDisk};

fn key(n: usize) -> Key {
    Key::new(&"core/configmaps".into(), "default", &format!("m{n}"))
}

fn setup() -> Setup {
    Setup::new(KeyPlace::Given(vec![SealKey::generate()]))
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
async fn a_full_disk_refuses_writes_but_not_reads_and_deletions() {
    let disk: SimDisk = SimDisk::default();
    let setup = setup();
    let store = Store::open(Arc::new(disk.clone()), &setup).unwrap();
    // The reserve is made before the first write.
    put(&store, 1).await.unwrap();
    assert!(disk.used() > setup.limits.reserve_bytes);
    disk.set_space(disk.used());
    let refused = put(&store, 2).await.unwrap_err();
    assert!(matches!(refused, StoreError::NoSpace), "{refused}");
    assert!(refused.to_string().contains("the disk is full"), "{refused}");
    assert!(
        store.get(&key(1)).is_some() && store.get(&key(2)).is_none() && store.get_head(&key(2)).is_none()
    );
    remove(&store, 1).await.unwrap();
    disk.set_space(usize::MAX);
    put(&store, 3).await.unwrap();
    store.close().await;
    for image in disk.images(1, 100) {
        let store = Store::open(Arc::new(SimDisk::<()>::of(&image)), &setup).unwrap();
        let found: Vec<bool> = (1..=3).map(|n| store.get(&key(n)).is_some()).collect();
        assert_eq!(found, [false, false, true]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_never_tried_again() {
    let disk: SimDisk = SimDisk::default();
    let store = Store::open(Arc::new(disk.clone()), &setup()).unwrap();
    put(&store, 1).await.unwrap();
    // Sealed, the thread makes no call until the next write: an append, then the sync that fails.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let mut calls = 0;
    while calls != disk.n_calls() {
        assert!(std::time::Instant::now() < deadline, "the log is never sealed");
        calls = disk.n_calls();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    disk.fail_at(calls + 1, Fault::Error);
    assert!(matches!(put(&store, 2).await.unwrap_err(), StoreError::Failed(_)));
    assert_eq!(disk.struck().unwrap(), "sync log");
    let calls = disk.n_calls();
    let after = put(&store, 3).await.unwrap_err();
    assert!(after.to_string().contains("until the server starts again"), "{after}");
    assert!(store.get(&key(1)).is_some() && store.get(&key(2)).is_none(), "reads go on");
    store.close().await;
    assert_eq!(disk.n_calls(), calls, "the disk was used after its failure");
}
