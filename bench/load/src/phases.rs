//! What is measured, one phase after the other. Objects are ConfigMaps of about 1.9 KB, as in the measurements of the reference.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;

use crate::processes::Processes;
use crate::target::Target;
use crate::tell;

/// Bytes of data in each object.
const DATA_BYTES: usize = 1700;
/// Clients of the phases that measure CPU.
const CLIENTS: usize = 8;
/// Between two writes while watchers are timed: no queue builds up.
const WATCH_PAUSE: Duration = Duration::from_millis(5);
/// How long a watcher may be late before the run fails.
const WATCH_WAIT_MAX: Duration = Duration::from_secs(30);

/// Everything; counts are `scale` percent of the full ones.
pub(crate) async fn all(target: &Target, processes: &Processes, scale: u64) -> anyhow::Result<()> {
    let count = |full: u64| (full * scale / 100).max(10) as usize;
    tell("memory idle", "MiB", processes.resident_bytes()? / (1 << 20) as f64);
    for clients in [1, 8, 32] {
        creates(target, processes, clients, (5 * scale / 100).max(1)).await?;
    }
    operations(target, processes, count(2000)).await?;
    for watchers in [1, 50] {
        watching(target, watchers, count(200)).await?;
    }
    objects(target, processes, count(10_000)).await
}

fn object(name: &str, text: &str) -> anyhow::Result<ConfigMap> {
    let filling = "x".repeat(DATA_BYTES);
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { "app": "bench" } }, "data": { "filling": filling, "text": text } }))?)
}

fn percentile_ms(times: &[Duration], share: f64) -> f64 {
    let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// Creates for some seconds, each client after its last answer.
pub(crate) async fn creates(
    target: &Target,
    processes: &Processes,
    clients: usize,
    seconds: u64,
) -> anyhow::Result<()> {
    let namespace = target.namespace(&format!("creates{clients}")).await?;
    let mut workers = tokio::task::JoinSet::new();
    let (began, cpu) = (Instant::now(), processes.cpu_s()?);
    for worker in 0..clients {
        let api: Api<ConfigMap> = Api::namespaced(target.client().await?, &namespace);
        workers.spawn(async move {
            let mut times = Vec::new();
            while began.elapsed() < Duration::from_secs(seconds) {
                let object = object(&format!("c-{worker}-{}", times.len()), "")?;
                let began = Instant::now();
                api.create(&PostParams::default(), &object).await.context("cannot create")?;
                times.push(began.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(result) = workers.join_next().await {
        times.extend(result??);
    }
    let (took, cpu) = (began.elapsed(), processes.cpu_s()? - cpu);
    times.sort();
    tell(&format!("creates, {clients} clients"), "1/s", times.len() as f64 / took.as_secs_f64());
    tell(&format!("create p50, {clients} clients"), "ms", percentile_ms(&times, 0.5));
    tell(&format!("create p99, {clients} clients"), "ms", percentile_ms(&times, 0.99));
    if !processes.is_empty() {
        tell(&format!("create cpu, {clients} clients"), "ms", cpu * 1000.0 / times.len() as f64);
    }
    Ok(())
}

/// One request about the object with that number.
type Operation = for<'a> fn(&'a Api<ConfigMap>, usize) -> futures::future::BoxFuture<'a, anyhow::Result<()>>;

/// CPU of each verb, over the same objects.
async fn operations(target: &Target, processes: &Processes, count: usize) -> anyhow::Result<()> {
    let namespace = target.namespace("operations").await?;
    let verbs: [(&str, Operation); 5] = [
        ("create", |api, n| {
            Box::pin(async move {
                api.create(&PostParams::default(), &object(&format!("o-{n}"), "")?).await?;
                Ok(())
            })
        }),
        ("get", |api, n| {
            Box::pin(async move {
                api.get(&format!("o-{n}")).await?;
                Ok(())
            })
        }),
        ("update", |api, n| {
            Box::pin(async move {
                let name = format!("o-{n}");
                api.replace(&name, &PostParams::default(), &object(&name, "updated")?).await?;
                Ok(())
            })
        }),
        ("apply", |api, n| {
            Box::pin(async move {
                let params = PatchParams::apply("bench").force();
                let config =
                    json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "text": "applied" } });
                api.patch(&format!("o-{n}"), &params, &Patch::Apply(&config)).await?;
                Ok(())
            })
        }),
        ("delete", |api, n| {
            Box::pin(async move {
                api.delete(&format!("o-{n}"), &DeleteParams::default()).await?;
                Ok(())
            })
        }),
    ];
    for (verb, operation) in verbs {
        let mut apis: Vec<Api<ConfigMap>> = Vec::new();
        for _ in 0..CLIENTS {
            apis.push(Api::namespaced(target.client().await?, &namespace));
        }
        let (began, cpu) = (Instant::now(), processes.cpu_s()?);
        let each = |worker: usize| {
            let api = apis[worker].clone();
            async move {
                for n in (worker..count).step_by(CLIENTS) {
                    operation(&api, n).await.with_context(|| format!("cannot {verb}"))?;
                }
                anyhow::Ok(())
            }
        };
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..CLIENTS {
            workers.spawn(each(worker));
        }
        while let Some(result) = workers.join_next().await {
            result??;
        }
        let per = 1000.0 / count as f64;
        tell(&format!("{verb} cpu"), "ms", (processes.cpu_s()? - cpu) * per);
        tell(&format!("{verb} rate"), "1/s", count as f64 / began.elapsed().as_secs_f64());
    }
    Ok(())
}

/// From a create being sent until each watcher has it.
async fn watching(target: &Target, watchers: usize, events: usize) -> anyhow::Result<()> {
    let namespace = target.namespace(&format!("watch{watchers}")).await?;
    let api: Api<ConfigMap> = Api::namespaced(target.client().await?, &namespace);
    let (seen, mut all_seen) = mpsc::unbounded_channel::<(String, Instant)>();
    let (ready, mut all_ready) = mpsc::channel::<()>(watchers);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..watchers {
        let api: Api<ConfigMap> = Api::namespaced(target.client().await?, &namespace);
        let version = api.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
        let (seen, ready) = (seen.clone(), ready.clone());
        tasks.spawn(async move {
            let mut stream = api.watch(&WatchParams::default(), &version).await?.boxed();
            let _ = ready.send(()).await;
            while let Some(event) = stream.try_next().await? {
                if let WatchEvent::Added(object) = event {
                    let _ = seen.send((object.name_any(), Instant::now()));
                }
            }
            anyhow::Ok(())
        });
    }
    for _ in 0..watchers {
        all_ready.recv().await.context("a watch ended")?;
    }
    let mut sent = std::collections::HashMap::new();
    let mut times = Vec::new();
    for n in 0..events {
        let (name, began) = (format!("w-{n}"), Instant::now());
        sent.insert(name.clone(), began);
        api.create(&PostParams::default(), &object(&name, "")?).await?;
        tokio::time::sleep(WATCH_PAUSE).await;
    }
    while times.len() < events * watchers {
        let (name, at) = tokio::time::timeout(WATCH_WAIT_MAX, all_seen.recv())
            .await
            .context("a watcher misses events")?
            .context("every watch ended")?;
        times.push(at - *sent.get(&name).context("an object that nobody made")?);
    }
    tasks.shutdown().await;
    times.sort();
    tell(&format!("watch p50, {watchers} watchers"), "ms", percentile_ms(&times, 0.5));
    tell(&format!("watch p99, {watchers} watchers"), "ms", percentile_ms(&times, 0.99));
    Ok(())
}

/// Memory of many objects, and listing them whole and in pages.
async fn objects(target: &Target, processes: &Processes, count: usize) -> anyhow::Result<()> {
    let namespace = target.namespace("objects").await?;
    let before = processes.resident_bytes()?;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..CLIENTS {
        let api: Api<ConfigMap> = Api::namespaced(target.client().await?, &namespace);
        workers.spawn(async move {
            for n in (worker..count).step_by(CLIENTS) {
                api.create(&PostParams::default(), &object(&format!("l-{n}"), &n.to_string())?).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(result) = workers.join_next().await {
        result??;
    }
    let grown = processes.resident_bytes()? - before;
    tell("memory per object", "KiB", grown / 1024.0 / count as f64);
    let api: Api<ConfigMap> = Api::namespaced(target.client().await?, &namespace);
    let mut times = Vec::new();
    let cpu = processes.cpu_s()?;
    for _ in 0..5 {
        let began = Instant::now();
        let found = api.list(&ListParams::default()).await?.items.len();
        anyhow::ensure!(found == count, "{found} of {count} objects are listed");
        times.push(began.elapsed());
    }
    times.sort();
    tell(&format!("list of {count}"), "ms", percentile_ms(&times, 0.5));
    tell(&format!("list of {count}: cpu"), "ms", (processes.cpu_s()? - cpu) * 1000.0 / 5.0);
    let (began, mut found, mut page) = (Instant::now(), 0, ListParams::default().limit(500));
    loop {
        let list = api.list(&page).await?;
        found += list.items.len();
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    anyhow::ensure!(found == count, "{found} of {count} objects are in the pages");
    tell(&format!("list of {count} in pages of 500"), "ms", began.elapsed().as_secs_f64() * 1000.0);
    tell("memory with all objects", "MiB", processes.resident_bytes()? / (1 << 20) as f64);
    Ok(())
}
