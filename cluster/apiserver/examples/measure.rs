//! Prints what the server costs: time to open, creations per second in memory and on disk, memory per object.
//!
//! Numbers mean something with `--release` only.

use std::time::Instant;

use dodai_apiserver::{ApiServer, Config, Storage, User};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

const OBJECTS: usize = 2_000;
const CLIENTS: usize = 32;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("dodai-measure-{}", std::process::id()));
    for storage in [Storage::Memory, Storage::Disk(folder.clone())] {
        let name = format!("{storage:?}").split('(').next().unwrap_or_default().to_lowercase();
        let start = Instant::now();
        let keys = dodai_apiserver::KeyPlace::Folder(folder.join("keys"));
        let config = || Config { storage: storage.clone(), keys: Some(keys.clone()), ..Config::default() };
        let server = ApiServer::open(config()).await?;
        println!("{name}: open {:?}", start.elapsed());
        let maps: Api<ConfigMap> = Api::default_namespaced(server.client(User::admin("measure")));
        let start = Instant::now();
        maps.list(&ListParams::default()).await?;
        println!("{name}: first list {:?}", start.elapsed());
        let make = |n: usize| -> Result<ConfigMap, serde_json::Error> {
            serde_json::from_value(
                json!({ "metadata": { "name": format!("m{n}") }, "data": { "k": "v".repeat(1800) } }),
            )
        };
        maps.create(&PostParams::default(), &make(OBJECTS)?).await?;
        let start = Instant::now();
        let clients = (0..CLIENTS).map(|client| {
            let maps = maps.clone();
            async move {
                for n in (client..OBJECTS).step_by(CLIENTS) {
                    let map = make(n).map_err(kube::Error::SerdeError)?;
                    maps.create(&PostParams::default(), &map).await?;
                }
                Ok::<_, kube::Error>(())
            }
        });
        futures::future::try_join_all(clients).await?;
        let took = start.elapsed();
        println!("{name}: {:.0} creations/s with {CLIENTS} clients", OBJECTS as f64 / took.as_secs_f64());
        let start = Instant::now();
        let n = maps.list(&ListParams::default()).await?.items.len();
        println!("{name}: list of {n} {:?}", start.elapsed());
        server.shutdown().await?;
        if matches!(storage, Storage::Disk(_)) {
            let start = Instant::now();
            let server = ApiServer::open(config()).await?;
            println!("{name}: open again with {n} objects {:?}", start.elapsed());
            server.shutdown().await?;
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
