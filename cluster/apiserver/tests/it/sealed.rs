//! Values of Secrets on the disk: in no file, not to be moved; and what happens when their key is lost, wrong, readable by
//! others or replaced.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dodai_apiserver::store::planted::{Bug, plant};
use dodai_apiserver::store::seal::SealKey;
use dodai_apiserver::store::{Change, Key, Store, StoreError};
use dodai_apiserver::{ApiServer, Config, KeyPlace, Storage, User};
use futures::{FutureExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use serde_json::{Value, json};

use super::crash::{Checked, MARKER, chain, setup};
use super::format::{self, read_log, write_log};
use super::sim_disk::{Image, SimDisk};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// The one file with a key.
    fn key_file(&self) -> PathBuf {
        let files: Vec<PathBuf> =
            std::fs::read_dir(self.keys()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    async fn open_with(&self, keys: KeyPlace) -> Result<ApiServer, String> {
        let config = Config { storage: Storage::Disk(self.state()), keys: Some(keys), ..Config::default() };
        ApiServer::open(config).await.map_err(|error| chain(&error))
    }

    async fn open(&self) -> ApiServer {
        self.open_with(KeyPlace::Folder(self.keys())).await.unwrap()
    }

    /// Files of the state folder that hold the marker, as it is or in base64.
    fn found(&self) -> Vec<String> {
        let encoded = &base64(MARKER)[..12];
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.state()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let has = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
            if has(MARKER) || has(encoded) {
                found.push(path.display().to_string());
            }
        }
        found
    }
}

fn base64(text: &str) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(text)
}

fn secrets(server: &ApiServer) -> Api<Secret> {
    Api::default_namespaced(server.client(User::admin("test")))
}

fn secret(name: &str) -> Secret {
    serde_json::from_value(json!({
        "metadata": { "name": name, "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"stringData\":{{\"k\":\"{MARKER}\"}}}}"),
        } },
        "stringData": { "k": MARKER },
    }))
    .unwrap()
}

fn text(secret: &Secret) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()["k"].0.clone()).unwrap()
}

/// Makes the log so long that it is replaced by a snapshot when the server stops.
async fn fill(server: &ApiServer) {
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client(User::admin("test")));
    let long = "x".repeat(900 << 10);
    for n in 0..5 {
        let map = json!({ "metadata": { "name": format!("long{n}") }, "data": { "k": long } });
        maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_value_of_a_secret_is_in_no_file_with_and_without_snapshots() {
    let place = Place::new();
    let server = place.open().await;
    let api = secrets(&server);
    let made = api.create(&PostParams::default(), &secret("a")).await.unwrap();
    api.create(&PostParams::default(), &secret("gone")).await.unwrap();
    let change = json!({ "stringData": { "other": format!("{MARKER}-changed") } });
    api.patch("a", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    api.delete("gone", &DeleteParams::default()).await.unwrap();
    // A token of a service account is a Secret, too.
    let token = json!({ "metadata": { "name": "token", "annotations": { "kubernetes.io/service-account.name": "default" } },
        "type": "kubernetes.io/service-account-token" });
    api.create(&PostParams::default(), &serde_json::from_value(token).unwrap()).await.unwrap();
    let mut watched = Box::pin(api.watch(&WatchParams::default().timeout(60), "0").await.unwrap());
    let token = loop {
        let event = watched.try_next().await.unwrap().expect("the token is filled in");
        let (kube::core::WatchEvent::Added(secret) | kube::core::WatchEvent::Modified(secret)) = event else {
            continue;
        };
        if let Some(token) = secret.data.unwrap_or_default().get("token") {
            break String::from_utf8(token.0.clone()).unwrap();
        }
    };
    drop(watched);
    assert_eq!(place.found(), [""; 0]);
    server.shutdown().await.unwrap();
    assert_eq!(place.found(), [""; 0]);
    assert!(!place.state().join("snapshot").exists());

    let server = place.open().await;
    assert_eq!(text(&secrets(&server).get("a").await.unwrap()), MARKER);
    assert_eq!(secrets(&server).get("a").await.unwrap().metadata.uid, made.metadata.uid);
    fill(&server).await;
    server.shutdown().await.unwrap();
    assert!(place.state().join("snapshot").exists());
    assert_eq!(place.found(), [""; 0]);
    for entry in std::fs::read_dir(place.state()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let part = base64(&token)[40..80].to_owned();
        assert!(!bytes.windows(part.len()).any(|window| window == part.as_bytes()), "a token lies open");
    }
    let server = place.open().await;
    assert_eq!(text(&secrets(&server).get("a").await.unwrap()), MARKER);
    assert_eq!(server.notices(), [""; 0]);
    // The search works.
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client(User::admin("test")));
    let open = json!({ "metadata": { "name": "open" }, "data": { "k": MARKER } });
    maps.create(&PostParams::default(), &serde_json::from_value(open).unwrap()).await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(place.found().len(), 1);
}

/// A refusal with this code and text.
fn refused<T: std::fmt::Debug>(result: kube::Result<T>, code: u16, says: &str) {
    match result {
        Err(kube::Error::Api(status)) => {
            assert!(status.code == code && status.message.contains(says), "{status:?}");
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_is_told_and_everything_else_loads_until_it_is_back() {
    let place = Place::new();
    let server = place.open().await;
    let api = secrets(&server);
    let made = api.create(&PostParams::default(), &secret("a")).await.unwrap();
    api.create(&PostParams::default(), &secret("b")).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client(User::admin("test")));
    let map = json!({ "metadata": { "name": "m", "ownerReferences": [{
        "apiVersion": "v1", "kind": "Secret", "name": "a", "uid": made.metadata.uid } ] } });
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    server.shutdown().await.unwrap();

    let file = place.key_file();
    let away = place.folder.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    let server = place.open().await;
    let name = file.file_name().unwrap().to_str().unwrap();
    let [notice] = server.notices() else { panic!("{:?}", server.notices()) };
    assert!(notice.contains(name) && notice.contains("default/a, default/b"), "{notice}");
    assert!(
        notice.contains("put it there and start again") && notice.contains("no Secret can be written"),
        "{notice}"
    );
    let api = secrets(&server);
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client(User::admin("test")));
    assert!(maps.get_opt("m").await.unwrap().is_some());
    refused(api.get("a").await, 500, "cannot open Secret \"default/a\": it is sealed with the key");
    refused(api.list(&ListParams::default()).await, 500, "cannot open Secret");
    refused(api.get_metadata("a").await, 500, name);
    refused(api.watch(&WatchParams::default(), "0").await.map(drop), 500, "cannot open Secret");
    let patch = Patch::Merge(json!({ "stringData": { "k": "new" } }));
    refused(api.patch("a", &PatchParams::default(), &patch).await, 500, "cannot open Secret");
    let apply = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" }, "stringData": { "k": "new" } });
    refused(
        api.patch("a", &PatchParams::apply("me").force(), &Patch::Apply(apply)).await,
        500,
        "cannot open Secret",
    );
    refused(api.replace("a", &PostParams::default(), &secret("a")).await, 500, "cannot open Secret");
    refused(api.create(&PostParams::default(), &secret("a")).await, 409, "already exists");
    refused(
        api.create(&PostParams::default(), &secret("c")).await,
        503,
        "the key that seals Secrets is lost",
    );
    assert!(maps.get_opt("m").await.unwrap().is_some(), "the owner may be there still");
    api.delete("b", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("b").await.unwrap().is_none());
    // Over a restart and a snapshot.
    fill(&server).await;
    server.shutdown().await.unwrap();
    assert!(
        place.state().join("snapshot").exists() && !file.exists(),
        "no key was made beside locked Secrets"
    );
    let server = place.open().await;
    refused(secrets(&server).get("a").await, 500, "cannot open Secret");
    server.shutdown().await.unwrap();

    std::fs::rename(&away, &file).unwrap();
    let server = place.open().await;
    assert_eq!(server.notices(), [""; 0]);
    let again = secrets(&server).get("a").await.unwrap();
    assert_eq!(again, made);
    assert!(secrets(&server).get_opt("b").await.unwrap().is_none());
    secrets(&server).create(&PostParams::default(), &secret("c")).await.unwrap();
    server.shutdown().await.unwrap();

    // Lost for good: once nothing needs it, a new one is made.
    std::fs::remove_file(&file).unwrap();
    let server = place.open().await;
    for name in ["a", "c"] {
        secrets(&server).delete(name, &DeleteParams::default()).await.unwrap();
    }
    server.shutdown().await.unwrap();
    let server = place.open().await;
    let [notice] = server.notices() else { panic!("{:?}", server.notices()) };
    assert!(notice.starts_with("a key that seals the Secrets in"), "{notice}");
    secrets(&server).create(&PostParams::default(), &secret("d")).await.unwrap();
    server.shutdown().await.unwrap();
    assert_ne!(place.key_file(), file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_told_and_a_file_with_both_changes_the_key() {
    let place = Place::new();
    let file = |name: &str| KeyPlace::File(place.folder.path().join(name));
    let path = |name: &str| place.folder.path().join(name);
    let server = place.open_with(file("one")).await.unwrap();
    let made = secrets(&server).create(&PostParams::default(), &secret("a")).await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(std::fs::metadata(path("one")).unwrap().permissions().mode() & 0o777, 0o600);

    // A file that is not there yet, and one that holds another key.
    let server = place.open_with(file("two")).await.unwrap();
    assert!(server.notices()[0].contains("is not in `") && !path("two").exists(), "{:?}", server.notices());
    refused(secrets(&server).create(&PostParams::default(), &secret("b")).await, 503, "is lost");
    server.shutdown().await.unwrap();
    let elsewhere = Place::new();
    elsewhere.open_with(file("two")).await.unwrap().shutdown().await.unwrap();
    let server = place.open_with(file("two")).await.unwrap();
    let notice = &server.notices()[0];
    assert!(notice.contains("default/a") && notice.contains(path("two").to_str().unwrap()), "{notice}");
    refused(secrets(&server).get("a").await, 500, "it is sealed with the key");
    secrets(&server).create(&PostParams::default(), &secret("b")).await.unwrap();
    server.shutdown().await.unwrap();

    // Both: the first seals everything anew, and is enough from then on.
    let both = ["two", "one"].map(|name| std::fs::read_to_string(path(name)).unwrap()).concat();
    std::fs::write(path("both"), both).unwrap();
    let refusal = place.open_with(file("both")).await.err().expect("it can be read by others");
    assert!(refusal.contains("can be read by others (mode 644): `chmod 600` it"), "{refusal}");
    std::fs::set_permissions(path("both"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = place.open_with(file("both")).await.unwrap();
    assert_eq!(server.notices(), [""; 0]);
    assert_eq!(secrets(&server).get("a").await.unwrap(), made);
    fill(&server).await;
    server.shutdown().await.unwrap();
    let server = place.open_with(file("two")).await.unwrap();
    assert_eq!(server.notices(), [""; 0]);
    assert_eq!(text(&secrets(&server).get("a").await.unwrap()), MARKER);
    assert_eq!(text(&secrets(&server).get("b").await.unwrap()), MARKER);
    server.shutdown().await.unwrap();
    std::fs::write(path("two"), "nothing of the kind\n").unwrap();
    let refusal = place.open_with(file("two")).await.err().expect("it holds no key");
    assert!(refusal.contains("holds no key of a store"), "{refusal}");
}

/// Two Secrets in a log, and the log with the sealed value of the first under the name of the second.
fn moved() -> Checked {
    let keys = [SealKey::generate()];
    let disk: SimDisk = SimDisk::default();
    let (store, mut steps) = Store::open_in_steps(Arc::new(disk.clone()), &setup(&keys)).unwrap();
    for name in ["mine", "theirs"] {
        let key = Key::new(&"core/secrets".into(), "default", name);
        let value = json!({ "metadata": { "name": name }, "data": { "k": MARKER } });
        let mut write = Box::pin(store.write(&key, |_, _| Ok::<_, StoreError>(Change::Put(value))));
        assert!(write.as_mut().now_or_never().is_none());
        steps.step();
        write.now_or_never().expect("it was written").unwrap();
    }
    steps.close();
    let mut image: Image = disk.live();
    let (header, mut groups) = read_log(&image["log"]);
    let value = groups[1][0].value.clone();
    assert_eq!((&*groups[1][0].name, &*groups[2][0].name), ("mine", "theirs"));
    groups[2][0].value = value;
    image.insert("log".into(), Arc::new(write_log(&header, &groups)));
    let (store, _) = Store::open_in_steps(Arc::new(SimDisk::<()>::of(&image)), &setup(&keys)).unwrap();
    let get = |name: &str| store.get(&Key::new(&"core/secrets".into(), "default", name)).unwrap();
    assert!(get("mine").locked.is_none());
    match &get("theirs").locked {
        None => Err(format!("a value was moved: {}", get("theirs").value())),
        Some(locked) => {
            assert!(locked.why.contains("its seal is broken"), "{}", locked.why);
            assert!(store.notices()[0].contains("default/theirs"), "{:?}", store.notices());
            Ok(())
        }
    }
}

#[test]
fn a_sealed_value_that_was_moved_does_not_open() {
    moved().unwrap();
    plant(Some(Bug::SealsAreUnbound));
    let found = moved();
    plant(None);
    assert!(found.unwrap_err().contains("a value was moved"));
}

#[test]
fn a_secret_that_is_not_sealed_is_refused() {
    let keys = [SealKey::generate()];
    let disk: SimDisk = SimDisk::default();
    drop(Store::open_in_steps(Arc::new(disk.clone()), &setup(&keys)).unwrap());
    let mut image = disk.live();
    let (header, _) = read_log(&image["log"]);
    let plain = format::Record {
        revision: 1,
        flags: 0,
        resource: "core/secrets".into(),
        namespace: "default".into(),
        name: "put".into(),
        value: br#"{"metadata":{"name":"put"}}"#.to_vec(),
    };
    image.insert("log".into(), Arc::new(write_log(&header, &[vec![plain], vec![]])));
    let opened = Store::open_in_steps(Arc::new(SimDisk::<()>::of(&image)), &setup(&keys));
    let error = opened.err().expect("it is refused");
    assert!(error.to_string().contains("the Secret of revision 1 is not sealed"), "{error}");
}

/// What the fixture holds; `docs/reference/store-format.md` tells how it was made.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-2")
}

fn fixture_image() -> Image {
    let read = |name: &str| (name.to_owned(), Arc::new(std::fs::read(fixture().join(name)).unwrap()));
    ["log", "snapshot"].map(read).into()
}

#[test]
fn the_fixture_of_this_format_is_read_by_this_and_every_later_version() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(fixture().join("expected.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // git keeps no modes.
    let file = folder.path().join("key");
    std::fs::copy(fixture().join("store.key"), &file).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let setup = dodai_apiserver::store::Setup::new(KeyPlace::File(file));
    let (store, _) = Store::open_in_steps(Arc::new(SimDisk::<()>::of(&fixture_image())), &setup).unwrap();
    let objects: Vec<Value> = store
        .all()
        .into_iter()
        .map(|(key, object)| json!({ "resource": *key.resource, "revision": object.revision, "object": object.value() }))
        .collect();
    assert_eq!(json!({ "revision": store.revision(), "objects": objects }), expected);
}

#[test]
fn the_fixture_is_what_the_document_says() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(fixture().join("expected.json")).unwrap()).unwrap();
    let (key, id) = format::read_key(&std::fs::read_to_string(fixture().join("store.key")).unwrap());
    let image = fixture_image();
    let snapshot = format::read_snapshot(&image["snapshot"]);
    let (header, groups) = read_log(&image["log"]);
    assert_eq!((snapshot.key, header.key, header.base), (id, id, snapshot.revision));
    assert!(groups.last().unwrap().is_empty(), "the log ends with a seal");
    let mut state = std::collections::BTreeMap::new();
    let mut revision = snapshot.revision;
    for record in groups.iter().flatten() {
        revision += 1;
        assert_eq!(record.revision, revision);
    }
    for record in snapshot.records.into_iter().chain(groups.into_iter().flatten()) {
        let is_secret = record.resource == "core/secrets";
        assert_eq!(record.flags & 2 != 0, is_secret);
        let value = if is_secret { format::unseal(&key, &record) } else { record.value.clone() };
        let place = (record.resource.clone(), record.namespace.clone(), record.name.clone());
        if record.flags & 1 != 0 {
            state.remove(&place);
            continue;
        }
        let object: Value = serde_json::from_slice(&value).unwrap();
        state.insert(
            place,
            json!({ "resource": record.resource, "revision": record.revision, "object": object }),
        );
    }
    let objects: Vec<Value> = state.into_values().collect();
    assert_eq!(json!({ "revision": revision, "objects": objects }), expected);
    // The document's hexadecimal example is the beginning of this log.
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/store-format.md");
    let document = std::fs::read_to_string(document).unwrap();
    let digits: String = document
        .split("```hex")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the document shows bytes")
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(|line| line.chars().filter(char::is_ascii_hexdigit))
        .collect();
    let shown = hex::decode(digits).unwrap();
    assert!(shown.len() > 100 && image["log"].starts_with(&shown), "the document shows other bytes");
}

/// Writes the fixture anew; only for a new version of the format: `DODAI_WRITE_FIXTURE=1`.
#[test]
fn the_fixture_is_written_when_asked_for() {
    if std::env::var_os("DODAI_WRITE_FIXTURE").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = KeyPlace::File(folder.path().join("store.key"));
    let limits = setup(&[]).limits;
    let setup = dodai_apiserver::store::Setup {
        limits,
        folder: "tests/fixtures/store-2".into(),
        ..dodai_apiserver::store::Setup::new(keys)
    };
    let disk: SimDisk = SimDisk::default();
    let (store, mut steps) = Store::open_in_steps(Arc::new(disk.clone()), &setup).unwrap();
    let mut write = |writes: &[(&str, &str, &str, Option<usize>)]| {
        let mut running = Vec::new();
        for (resource, namespace, name, len) in writes {
            let key = Key::new(&(*resource).into(), namespace, name);
            let mut value = json!({ "metadata": { "name": name, "uid": format!("00000000-0000-4000-8000-{:012}", name.len()) } });
            if !namespace.is_empty() {
                value["metadata"]["namespace"] = (*namespace).into();
            }
            if let Some(len) = len {
                value["data"] = json!({ "k": "höchst geheim ".repeat(*len).trim() });
            }
            let change = if len.is_some() { Change::Put(value) } else { Change::Delete(value) };
            let store = store.clone();
            running
                .push(Box::pin(async move { store.write(&key, |_, _| Ok::<_, StoreError>(change)).await }));
        }
        assert!(running.iter_mut().all(|write| write.as_mut().now_or_never().is_none()));
        steps.step();
        running.into_iter().for_each(|write| drop(write.now_or_never().unwrap().unwrap()));
    };
    write(&[("core/namespaces", "", "shop", Some(0))]);
    write(&[("core/secrets", "shop", "db", Some(1)), ("core/configmaps", "shop", "settings", Some(2))]);
    write(&[("core/configmaps", "shop", "filler", Some(330))]);
    write(&[("core/configmaps", "shop", "filler", None)]);
    write(&[("core/secrets", "shop", "db", Some(2)), ("core/secrets", "shop", "later", Some(3))]);
    write(&[("core/secrets", "shop", "later", None), ("core/configmaps", "shop", "empty", Some(0))]);
    steps.close();
    std::fs::create_dir_all(fixture()).unwrap();
    let image = disk.live();
    for name in ["log", "snapshot"] {
        std::fs::write(fixture().join(name), &*image[name]).unwrap();
    }
    std::fs::copy(folder.path().join("store.key"), fixture().join("store.key")).unwrap();
    let objects: Vec<Value> = store
        .all()
        .into_iter()
        .map(|(key, object)| json!({ "resource": *key.resource, "revision": object.revision, "object": object.value() }))
        .collect();
    let expected = json!({ "revision": store.revision(), "objects": objects });
    std::fs::write(fixture().join("expected.json"), format!("{expected:#}\n")).unwrap();
}
