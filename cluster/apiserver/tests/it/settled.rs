//! No answer says what a crash could take back: neither an acknowledgement, nor a refusal, nor "nothing to do".

use std::future::Future;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use dodai_apiserver::store::disk::Disk;
use dodai_apiserver::store::seal::SealKey;
use dodai_apiserver::{ApiServer, Config, KeyPlace, Storage, User};
use futures::FutureExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::sim_disk::SimDisk;

/// A disk whose syncs wait while the gate is closed.
#[derive(Clone, Debug, Default)]
struct Gated {
    disk: SimDisk,
    /// Whether it is closed, and how many syncs wait.
    gate: Arc<(Mutex<(bool, usize)>, Condvar)>,
}

impl Gated {
    fn close(&self) {
        self.gate.0.lock().unwrap().0 = true;
    }

    fn open(&self) {
        self.gate.0.lock().unwrap().0 = false;
        self.gate.1.notify_all();
    }

    fn waiting(&self) -> usize {
        self.gate.0.lock().unwrap().1
    }
}

impl Disk for Gated {
    fn create(&self, name: &str) -> io::Result<()> {
        self.disk.create(name)
    }

    fn append(&self, name: &str, data: &[u8]) -> io::Result<()> {
        self.disk.append(name, data)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(name)
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.disk.truncate(name, len)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut gate = self.gate.0.lock().unwrap();
        gate.1 += 1;
        while gate.0 {
            gate = self.gate.1.wait(gate).unwrap();
        }
        gate.1 -= 1;
        drop(gate);
        self.disk.sync(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "k": "v" } })).unwrap()
}

/// A request on its way; told whether it has been answered.
fn send<T: Send + 'static>(
    request: impl Future<Output = T> + Send + 'static,
) -> std::pin::Pin<Box<dyn Future<Output = T> + Send>> {
    let task = tokio::spawn(request);
    Box::pin(async move { task.await.unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_for_the_writes_that_it_rests_on() {
    let disk = Gated::default();
    let config = Config {
        storage: Storage::On(Arc::new(disk.clone())),
        keys: Some(KeyPlace::Given(vec![SealKey::generate()])),
        controllers: false,
        ..Config::default()
    };
    let server = ApiServer::open(config).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client(User::admin("test")));
    for name in ["gone", "changed"] {
        maps.create(&PostParams::default(), &map(name)).await.unwrap();
    }
    disk.close();
    // One group waits for its sync: a creation, a deletion, a change.
    let patch = Patch::Merge(json!({ "data": { "k": "new" } }));
    let (post, options, params) = (PostParams::default(), DeleteParams::default(), PatchParams::default());
    let writes = {
        let (maps, patch) = (maps.clone(), patch.clone());
        let (post, options, params) = (post.clone(), options.clone(), params.clone());
        send(async move {
            let new = map("new");
            let (made, gone, changed) = tokio::join!(
                maps.create(&post, &new),
                maps.delete("gone", &options),
                maps.patch("changed", &params, &patch),
            );
            (made, gone, changed.unwrap())
        })
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while disk.waiting() == 0 {
        assert!(std::time::Instant::now() < deadline, "no group is written");
        tokio::task::yield_now().await;
    }
    let again = {
        let (maps, post) = (maps.clone(), post.clone());
        send(async move { maps.create(&post, &map("new")).await })
    };
    let second = {
        let (maps, options) = (maps.clone(), options.clone());
        send(async move { maps.delete("gone", &options).await })
    };
    let same = {
        let (maps, params) = (maps.clone(), params.clone());
        send(async move { maps.patch("changed", &params, &patch).await })
    };
    let (mut again, mut second, mut same, mut writes) = (again, second, same, writes);
    // Reads go on, and see nothing of it.
    for _ in 0..50 {
        assert_eq!(maps.get("changed").await.unwrap().data.unwrap()["k"], "v");
        assert!(
            maps.get_opt("gone").await.unwrap().is_some() && maps.get_opt("new").await.unwrap().is_none()
        );
        assert!((&mut again).now_or_never().is_none(), "a conflict with what may never have been was told");
        assert!((&mut second).now_or_never().is_none(), "an absence that may never have been was told");
        assert!((&mut same).now_or_never().is_none(), "a change that may never have been was told");
        assert!((&mut writes).now_or_never().is_none(), "a write was answered before its sync");
    }
    disk.open();
    let (made, gone, changed) = writes.await;
    let same = same.await.unwrap();
    assert_eq!(same.metadata.resource_version, changed.metadata.resource_version);
    // Whichever came first.
    let again = again.await;
    assert!(made.is_ok() != again.is_ok());
    let refusal = made.err().or(again.err()).expect("one of the two");
    assert!(refusal.to_string().contains("already exists"), "{refusal}");
    assert!((gone.is_ok() || second.await.is_ok()) && maps.get_opt("gone").await.unwrap().is_none());
    server.shutdown().await.unwrap();
}
