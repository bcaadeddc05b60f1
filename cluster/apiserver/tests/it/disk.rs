//! What is acknowledged stays, on real files: restarts, torn and damaged ones. (`kill -9` is in `linearizable.rs`.)

use std::path::Path;

use dodai_apiserver::{ApiServer, Config, Error, KeyPlace, Storage, User};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

fn config(folder: &Path) -> Config {
    let keys = KeyPlace::Folder(folder.join("keys"));
    Config { storage: Storage::Disk(folder.to_owned()), keys: Some(keys), ..Config::default() }
}

async fn open(folder: &Path) -> (ApiServer, Api<ConfigMap>) {
    let server = ApiServer::open(config(folder)).await.unwrap();
    let maps = Api::default_namespaced(server.client(User::admin("test")));
    (server, maps)
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "k": "v" } })).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn state_survives_a_restart_and_revisions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (server, maps) = open(folder.path()).await;
    let made = maps.create(&PostParams::default(), &map("a")).await.unwrap();
    maps.create(&PostParams::default(), &map("gone")).await.unwrap();
    maps.delete("gone", &Default::default()).await.unwrap();
    let before = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    server.shutdown().await.unwrap();
    let (server, maps) = open(folder.path()).await;
    assert_eq!(maps.get("a").await.unwrap(), made);
    assert!(maps.get_opt("gone").await.unwrap().is_none());
    let next = maps.create(&PostParams::default(), &map("b")).await.unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    assert!(number(&next.metadata.resource_version.unwrap()) > number(&before));
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = open(folder.path()).await;
    let Err(second) = ApiServer::open(config(folder.path())).await else { panic!("opened twice") };
    assert!(matches!(second, Error::InUse { .. }), "{second}");
    server.shutdown().await.unwrap();
}

/// A folder with ten ConfigMaps, each written by a group of its own.
async fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (server, maps) = open(folder.path()).await;
    for n in 0..10 {
        maps.create(&PostParams::default(), &map(&format!("m{n}"))).await.unwrap();
    }
    server.shutdown().await.unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_and_everything_before_it_stays() {
    let folder = written().await;
    let log = folder.path().join("log");
    let whole = std::fs::read(&log).unwrap();
    // Without its seal, the last group may end anywhere.
    for cut in [1, 40, 70, 200, 500] {
        std::fs::write(&log, &whole[..whole.len() - cut]).unwrap();
        let (server, maps) = open(folder.path()).await;
        let n = maps.list(&ListParams::default()).await.unwrap().items.len();
        assert!(n >= 9, "{n} of 10 are left after cutting {cut} bytes");
        maps.create(&PostParams::default(), &map("later")).await.unwrap();
        server.shutdown().await.unwrap();
        let (server, maps) = open(folder.path()).await;
        assert!(maps.get_opt("later").await.unwrap().is_some());
        server.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_refused_with_file_and_offset_or_harmless() {
    let folder = written().await;
    let log = folder.path().join("log");
    let whole = std::fs::read(&log).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(37) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&log, &damaged).unwrap();
        match ApiServer::open(config(folder.path())).await {
            Err(error) => {
                refused += 1;
                let text = format!("{:?}", error);
                assert!(text.contains("log") && text.contains("offset"), "{text}");
            }
            Ok(server) => {
                let maps: Api<ConfigMap> = Api::default_namespaced(server.client(User::admin("test")));
                let n = maps.list(&ListParams::default()).await.unwrap().items.len();
                assert_eq!(n, 10, "a bit flipped at {at} lost an object silently");
                server.shutdown().await.unwrap();
            }
        }
    }
    assert!(refused > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn space_made_ready_behind_the_log_is_no_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (server, maps) = open(folder.path()).await;
    for n in 0..5 {
        maps.create(&PostParams::default(), &map(&format!("m{n}"))).await.unwrap();
    }
    // What a process that is killed now leaves behind.
    let left = tempfile::tempdir().unwrap();
    std::fs::create_dir(left.path().join("keys")).unwrap();
    std::fs::copy(folder.path().join("log"), left.path().join("log")).unwrap();
    for key in std::fs::read_dir(folder.path().join("keys")).unwrap() {
        let key = key.unwrap();
        std::fs::copy(key.path(), left.path().join("keys").join(key.file_name())).unwrap();
    }
    let with_zeros = std::fs::read(left.path().join("log")).unwrap();
    assert!(with_zeros.len() > 1 << 20 && with_zeros.ends_with(&[0; 1 << 16]), "{} bytes", with_zeros.len());
    server.shutdown().await.unwrap();
    let closed = std::fs::read(folder.path().join("log")).unwrap();
    assert!(closed.len() < 1 << 20, "{} bytes after the end", closed.len());

    let (server, maps) = open(left.path()).await;
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 5);
    maps.create(&PostParams::default(), &map("later")).await.unwrap();
    server.shutdown().await.unwrap();
    let (server, maps) = open(left.path()).await;
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 6);
    server.shutdown().await.unwrap();
}

#[test]
fn a_file_that_grows_is_read_and_left_as_it_was_written() {
    use dodai_apiserver::store::disk::{Disk, FileDisk};

    let folder = tempfile::tempdir().unwrap();
    let disk = FileDisk::new(folder.path().to_owned()).unwrap();
    disk.create("log").unwrap();
    let mut wanted = Vec::new();
    // Longer than what is made ready at a time.
    for n in 0..600_u32 {
        let piece = vec![(n % 255) as u8 + 1; 1 + (n as usize * 7919) % 20_000];
        disk.append("log", &piece).unwrap();
        wanted.extend(piece);
        if n % 3 > 0 {
            disk.sync("log").unwrap();
        }
        if n % 50 == 25 {
            let len = wanted.len() - 100;
            disk.truncate("log", len as u64).unwrap();
            wanted.truncate(len);
        }
        if n % 20 == 0 {
            assert!(disk.read("log").unwrap() == wanted, "after {n} pieces");
        }
    }
    assert!(std::fs::metadata(folder.path().join("log")).unwrap().len() > wanted.len() as u64);
    drop(disk);
    assert!(std::fs::read(folder.path().join("log")).unwrap() == wanted, "after the end");
}
