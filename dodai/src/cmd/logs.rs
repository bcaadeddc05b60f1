//! `dodai logs`: the logs of an App's processes, of a build, or of a release command, each line behind its source.

use std::collections::BTreeMap;

use dodai_api::names::{LABEL_APP, LABEL_PROCESS, LABEL_RELEASE, LABEL_ROLE};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;

use crate::cli::{Global, Logs};
use crate::failure::{Context, Failure, Result};
use crate::target;

/// Lines that may wait to be printed; a log that is faster waits.
const LINES_MAX: usize = 256;

/// Which Pods' logs.
#[derive(Clone)]
pub(crate) struct Selection {
    pub(crate) namespace: String,
    pub(crate) labels: String,
    pub(crate) params: LogParams,
}

pub(crate) async fn run(global: &Global, args: &Logs) -> Result<()> {
    let target = target::find(global, None).await?;
    let (name, process) = super::thing(&args.thing);
    super::app(&target.client, &global.namespace, name).await?;
    let since = args.since.as_deref().map(|text| super::duration("--since", text)).transpose()?;
    let selection = Selection {
        namespace: global.namespace.clone(),
        labels: labels(name, process, args.release)?,
        params: LogParams {
            follow: args.follow,
            tail_lines: args.tail,
            since_seconds: since.map(|since| since.as_secs() as i64),
            previous: args.previous,
            ..LogParams::default()
        },
    };
    let (lines, printed) = mpsc::channel(LINES_MAX);
    let printer = tokio::spawn(print(printed));
    let result = if args.follow {
        follow(&target.client, selection, lines).await
    } else {
        once(&target.client, &selection, lines).await
    };
    let _ = printer.await;
    result
}

fn labels(app: &str, process: Option<&str>, release: Option<i64>) -> Result<String> {
    let of_app = format!("{LABEL_APP}={app}");
    match (process, release) {
        (Some("build" | "release" | "migrate"), release) => {
            let role = if process == Some("build") { "build" } else { "release" };
            let of_release =
                release.map(|number| format!(",{LABEL_RELEASE}={app}-v{number}")).unwrap_or_default();
            Ok(format!("{of_app},{LABEL_ROLE}={role}{of_release}"))
        }
        (_, Some(_)) => Err(Failure::invalid("`--release` goes with `APP/build` or `APP/release`")),
        (Some(process), None) => Ok(format!("{of_app},{LABEL_PROCESS}={process}")),
        (None, None) => Ok(format!("{of_app},{LABEL_ROLE}=process")),
    }
}

/// What there is now, one Pod after the other.
async fn once(client: &Client, selection: &Selection, lines: mpsc::Sender<String>) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &selection.namespace);
    let mut pods =
        api.list(&ListParams::default().labels(&selection.labels)).await.context("cannot list pods")?.items;
    if pods.is_empty() {
        return Err(
            Failure::failed("no Pod has such a log (any more)").hint("`dodai status` shows what there is")
        );
    }
    pods.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.name_any()));
    let mut names = Names::default();
    for pod in &pods {
        let prefix = names.prefix(pod);
        if let Err(error) = stream(&api, &pod.name_any(), &prefix, &selection.params, &lines).await {
            tracing::debug!(pod = %pod.name_any(), %error, "no log");
            if pods.len() == 1 {
                return Err(Failure::from_error(
                    format!("cannot read the log of pod `{}`", pod.name_any()),
                    &error,
                ));
            }
        }
    }
    Ok(())
}

/// Every selected Pod from when its container has started, also those that come later. Ends when cancelled.
pub(crate) async fn follow(client: &Client, selection: Selection, lines: mpsc::Sender<String>) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &selection.namespace);
    let pods = watcher(api.clone(), watcher::Config::default().labels(&selection.labels))
        .default_backoff()
        .applied_objects();
    futures::pin_mut!(pods);
    let mut names = Names::default();
    // Containers whose log is or was read, by Pod and number of restarts, so that none is read twice.
    let mut read = std::collections::BTreeSet::new();
    let mut readers = tokio::task::JoinSet::new();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        let Some(restarts) = started(&pod) else { continue };
        let prefix = names.prefix(&pod);
        let (api, name, params, lines) =
            (api.clone(), pod.name_any(), selection.params.clone(), lines.clone());
        if !read.insert((pod.uid().unwrap_or_default(), restarts)) {
            continue;
        }
        while readers.try_join_next().is_some() {}
        readers.spawn(async move {
            if let Err(error) = stream(&api, &name, &prefix, &params, &lines).await {
                tracing::debug!(pod = %name, %error, "log ended");
            }
        });
    }
    Ok(())
}

/// How often the first container was restarted, if it has started at all.
fn started(pod: &Pod) -> Option<i32> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let state = status.state.as_ref()?;
    (state.running.is_some() || state.terminated.is_some()).then_some(status.restart_count)
}

async fn stream(
    api: &Api<Pod>,
    pod: &str,
    prefix: &str,
    params: &LogParams,
    lines: &mpsc::Sender<String>,
) -> kube::Result<()> {
    let mut log = api.log_stream(pod, params).await?.lines();
    while let Ok(Some(line)) = log.try_next().await {
        if lines.send(format!("{prefix} | {line}")).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Prints lines until all their sources have ended. A closed pipe ends it quietly.
pub(crate) async fn print(mut lines: mpsc::Receiver<String>) {
    use std::io::Write;
    while let Some(line) = lines.recv().await {
        if writeln!(std::io::stdout(), "{line}").is_err() {
            return;
        }
    }
}

/// Gives Pods short names: `web.1`, `web.2`, `release`, in the order in which they are seen.
#[derive(Default)]
struct Names {
    given: BTreeMap<String, String>,
    count: BTreeMap<String, usize>,
}

impl Names {
    fn prefix(&mut self, pod: &Pod) -> String {
        let labels = pod.labels();
        let what = labels
            .get(LABEL_PROCESS)
            .or_else(|| labels.get(LABEL_ROLE))
            .cloned()
            .unwrap_or_else(|| pod.name_any());
        let uid = pod.uid().unwrap_or_default();
        if let Some(name) = self.given.get(&uid) {
            return name.clone();
        }
        let count = self.count.entry(what.clone()).or_insert(0);
        *count += 1;
        let name = format!("{:<8}", format!("{what}.{count}"));
        self.given.insert(uid, name.clone());
        name
    }
}
