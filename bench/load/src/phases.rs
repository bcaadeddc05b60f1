//! What is measured, one phase after the other. Objects are ConfigMaps of about 1.9 KB, as in the measurements of the reference.
//!
//! Requests are written by hand and answers are not decoded: on a machine that server and load share, what the load spends is
//! missing on the server's side.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{AsyncBufReadExt, TryStreamExt};
use http::{Method, Request};
use kube::Client;
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
const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";

/// Everything; counts are `scale` percent of the full ones.
pub(crate) async fn all(target: &Target, processes: &Processes, scale: u64) -> anyhow::Result<()> {
    let count = |full: u64| (full * scale / 100).max(10) as usize;
    tell("memory idle", "MiB", processes.resident_bytes()? / (1 << 20) as f64);
    // First, while no memory is left over from others.
    objects(target, processes, count(10_000)).await?;
    for clients in [1, 8, 32] {
        creates(target, processes, clients, (5 * scale / 100).max(1)).await?;
    }
    operations(target, processes, count(2000)).await?;
    for watchers in [1, 50] {
        watching(target, watchers, count(200)).await?;
    }
    tell("memory with all objects", "MiB", processes.resident_bytes()? / (1 << 20) as f64);
    Ok(())
}

fn object(name: &str, text: &str) -> String {
    let filling = "x".repeat(DATA_BYTES);
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"bench"}}}},"data":{{"filling":"{filling}","text":"{text}"}}}}"#
    )
}

/// The ConfigMaps of a namespace, through one client.
#[derive(Clone)]
struct Maps {
    client: Client,
    path: String,
}

impl Maps {
    async fn new(target: &Target, namespace: &str) -> anyhow::Result<Maps> {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        Ok(Maps { client: target.client().await?, path })
    }

    fn request(
        &self,
        method: Method,
        rest: &str,
        body: Option<(&str, String)>,
    ) -> anyhow::Result<Request<Vec<u8>>> {
        let request = Request::builder().method(method).uri(format!("{}{rest}", self.path));
        let (content_type, body) = body.unwrap_or((JSON, String::new()));
        Ok(request.header(http::header::CONTENT_TYPE, content_type).body(body.into_bytes())?)
    }

    /// The answer's text; an error if it is one.
    async fn send(&self, method: Method, rest: &str, body: Option<(&str, String)>) -> anyhow::Result<String> {
        Ok(self.client.request_text(self.request(method, rest, body)?).await?)
    }

    async fn create(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.send(Method::POST, "", Some((JSON, object(name, text)))).await.context("cannot create").map(drop)
    }
}

/// The text of a member that occurs but once in a list's metadata.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
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
    let (load, mut maps) = (Processes::this(), Vec::new());
    for _ in 0..clients {
        maps.push(Maps::new(target, &namespace).await?);
    }
    let (began, cpu, load_cpu) = (Instant::now(), processes.cpu_s()?, load.cpu_s()?);
    for (worker, maps) in maps.into_iter().enumerate() {
        workers.spawn(async move {
            let mut times = Vec::new();
            while began.elapsed() < Duration::from_secs(seconds) {
                let name = format!("c-{worker}-{}", times.len());
                let began = Instant::now();
                maps.create(&name, "").await?;
                times.push(began.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(result) = workers.join_next().await {
        times.extend(result??);
    }
    let (took, cpu, load_cpu) = (began.elapsed(), processes.cpu_s()? - cpu, load.cpu_s()? - load_cpu);
    times.sort();
    tell(&format!("creates, {clients} clients"), "1/s", times.len() as f64 / took.as_secs_f64());
    tell(&format!("create p50, {clients} clients"), "ms", percentile_ms(&times, 0.5));
    tell(&format!("create p99, {clients} clients"), "ms", percentile_ms(&times, 0.99));
    if !processes.is_empty() {
        let each = 1000.0 / times.len() as f64;
        tell(&format!("create cpu, {clients} clients"), "ms", cpu * each);
        if !target.is_in_process() {
            tell(&format!("load's own cpu, {clients} clients"), "ms", load_cpu * each);
        }
    }
    Ok(())
}

/// CPU of each verb, over the same objects.
pub(crate) async fn operations(target: &Target, processes: &Processes, count: usize) -> anyhow::Result<()> {
    let namespace = target.namespace("operations").await?;
    let applied = || r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"text":"applied"}}"#.to_owned();
    let call = move |verb: &str, n: usize| {
        let name = format!("o-{n}");
        let path = format!("/{name}");
        match verb {
            "create" => (Method::POST, String::new(), Some((JSON, object(&name, "")))),
            "get" => (Method::GET, path, None),
            "update" => (Method::PUT, path, Some((JSON, object(&name, "updated")))),
            "apply" => {
                (Method::PATCH, format!("{path}?fieldManager=bench&force=true"), Some((APPLY, applied())))
            }
            _ => (Method::DELETE, path, None),
        }
    };
    for verb in ["create", "get", "update", "apply", "delete"] {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Maps::new(target, &namespace).await?);
        }
        let (began, cpu) = (Instant::now(), processes.cpu_s()?);
        let each = |worker: usize| {
            let maps = clients[worker].clone();
            async move {
                for n in (worker..count).step_by(CLIENTS) {
                    let (method, rest, body) = call(verb, n);
                    maps.send(method, &rest, body).await.with_context(|| format!("cannot {verb}"))?;
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
pub(crate) async fn watching(target: &Target, watchers: usize, events: usize) -> anyhow::Result<()> {
    let namespace = target.namespace(&format!("watch{watchers}")).await?;
    let maps = Maps::new(target, &namespace).await?;
    let (seen, mut all_seen) = mpsc::unbounded_channel::<(usize, Instant)>();
    let (ready, mut all_ready) = mpsc::channel::<()>(watchers);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..watchers {
        let maps = Maps::new(target, &namespace).await?;
        let list = maps.send(Method::GET, "?limit=1", None).await?;
        let version = member(&list, "resourceVersion").unwrap_or_default().to_owned();
        let (seen, ready) = (seen.clone(), ready.clone());
        tasks.spawn(async move {
            let rest = format!("?watch=true&resourceVersion={version}");
            let mut lines =
                maps.client.request_stream(maps.request(Method::GET, &rest, None)?).await?.lines();
            let _ = ready.send(()).await;
            while let Some(line) = lines.try_next().await? {
                let at = Instant::now();
                if line.starts_with(r#"{"type":"ADDED""#)
                    && let Some((_, rest)) = line.rsplit_once(r#""name":"w-"#)
                    && let Some((number, _)) = rest.split_once('"')
                {
                    let _ = seen.send((number.parse::<usize>()?, at));
                }
            }
            anyhow::Ok(())
        });
    }
    for _ in 0..watchers {
        all_ready.recv().await.context("a watch ended")?;
    }
    let (mut sent, mut times) = (Vec::new(), Vec::new());
    for n in 0..events {
        sent.push(Instant::now());
        maps.create(&format!("w-{n}"), "").await?;
        tokio::time::sleep(WATCH_PAUSE).await;
    }
    while times.len() < events * watchers {
        let (number, at) = tokio::time::timeout(WATCH_WAIT_MAX, all_seen.recv())
            .await
            .context("a watcher misses events")?
            .context("every watch ended")?;
        times.push(at - *sent.get(number).context("an object that nobody made")?);
    }
    tasks.shutdown().await;
    times.sort();
    tell(&format!("watch p50, {watchers} watchers"), "ms", percentile_ms(&times, 0.5));
    tell(&format!("watch p99, {watchers} watchers"), "ms", percentile_ms(&times, 0.99));
    Ok(())
}

/// Memory of many objects, and listing them whole and in pages.
pub(crate) async fn objects(target: &Target, processes: &Processes, count: usize) -> anyhow::Result<()> {
    let namespace = target.namespace("objects").await?;
    let before = processes.resident_bytes()?;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..CLIENTS {
        let maps = Maps::new(target, &namespace).await?;
        workers.spawn(async move {
            for n in (worker..count).step_by(CLIENTS) {
                maps.create(&format!("l-{n}"), &n.to_string()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(result) = workers.join_next().await {
        result??;
    }
    let grown = processes.resident_bytes()? - before;
    tell("memory per object", "KiB", grown / 1024.0 / count as f64);
    let maps = Maps::new(target, &namespace).await?;
    let mut times = Vec::new();
    let cpu = processes.cpu_s()?;
    let mut found = String::new();
    for _ in 0..5 {
        let began = Instant::now();
        found = maps.send(Method::GET, "", None).await?;
        times.push(began.elapsed());
    }
    let cpu = processes.cpu_s()? - cpu;
    let n_items = found.matches(r#""name":"l-"#).count();
    anyhow::ensure!(n_items == count, "{n_items} of {count} objects are listed");
    drop(found);
    times.sort();
    tell(&format!("list of {count}"), "ms", percentile_ms(&times, 0.5));
    tell(&format!("list of {count}: cpu"), "ms", cpu * 1000.0 / 5.0);
    let (began, mut n_items, mut page) = (Instant::now(), 0, "?limit=500".to_owned());
    loop {
        let list = maps.send(Method::GET, &page, None).await?;
        n_items += list.matches(r#""name":"l-"#).count();
        match member(&list, "continue").filter(|token| !token.is_empty()) {
            Some(token) => page = format!("?limit=500&continue={token}"),
            None => break,
        }
    }
    anyhow::ensure!(n_items == count, "{n_items} of {count} objects are in the pages");
    tell(&format!("list of {count} in pages of 500"), "ms", began.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}
