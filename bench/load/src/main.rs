//! Creates ConfigMaps over HTTPS as fast as the API acknowledges them: `dodai-bench-load KUBECONFIG CLIENTS SECONDS`.
//!
//! Prints one line of JSON: creates per second, and percentiles of the time from request to answer in microseconds. The
//! objects are about 1.9 KB, as in the measurements of the reference; each run uses a namespace of its own.

use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

/// Bytes of data in each object.
const DATA_BYTES: usize = 1700;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, kubeconfig, clients, seconds] = arguments.as_slice() else {
        anyhow::bail!("usage: dodai-bench-load KUBECONFIG CLIENTS SECONDS");
    };
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("another TLS provider was installed first");
    }
    let clients: usize = clients.parse().context("CLIENTS is a number")?;
    let time = Duration::from_secs(seconds.parse().context("SECONDS is a number")?);
    let namespace = format!("bench-{}", std::process::id());
    let first = client(kubeconfig).await?;
    let object = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
    Api::<Namespace>::all(first)
        .create(&PostParams::default(), &object)
        .await
        .context("cannot create the namespace")?;

    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..clients {
        let api: Api<ConfigMap> = Api::namespaced(client(kubeconfig).await?, &namespace);
        workers.spawn(async move { create(&api, worker, began + time).await });
    }
    let mut times = Vec::new();
    while let Some(result) = workers.join_next().await {
        times.extend(result??);
    }
    let took = began.elapsed();
    times.sort();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).map_or(0, |time| time.as_micros());
    let rate = times.len() as f64 / took.as_secs_f64();
    println!(
        "{}",
        json!({"clients": clients, "creates_per_s": rate.round(), "p50_us": at(0.5), "p99_us": at(0.99)})
    );
    Ok(())
}

async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default())
            .await?;
    Ok(Client::try_from(config)?)
}

async fn create(api: &Api<ConfigMap>, worker: usize, until: Instant) -> anyhow::Result<Vec<Duration>> {
    let data = "x".repeat(DATA_BYTES);
    let mut times = Vec::new();
    while Instant::now() < until {
        let name = format!("c-{worker}-{}", times.len());
        let object: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": name}, "data": {"text": data}}))?;
        let began = Instant::now();
        api.create(&PostParams::default(), &object).await.context("cannot create")?;
        times.push(began.elapsed());
    }
    Ok(times)
}
