//! `GET /containerLogs/...`: the log of one run of a container.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};

use super::{Body, Refusal};
use crate::kubelet::{Here, Shared};
use crate::logs::{Changes, Query, Reader, log_path};
use crate::runtime::{Container, ContainerState, ExitRecord, PodState};

/// Pieces of text on their way to a client that reads slowly.
const PIECES_MAX: usize = 8;

/// Which run's lines are wanted.
struct Run {
    attempt: u32,
    from: Timestamp,
    until: Option<Timestamp>,
}

pub(super) fn serve(
    shared: &Shared,
    here: &Here,
    container: &str,
    record: Option<Container>,
    query: &super::Query,
) -> Result<Response<Body>, Refusal> {
    let (namespace, pod) = (here.pod.metadata.namespace.clone(), here.pod.metadata.name.clone());
    let (namespace, pod) = (namespace.unwrap_or_default(), pod.unwrap_or_default());
    let run = run(here, &pod, container, record, query.flag("previous"))?;
    let mut from = run.from;
    if let Some(seconds) = query.number("sinceSeconds")? {
        let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        from = from.max(Timestamp::now().checked_sub(seconds).unwrap_or(from));
    }
    if let Some(time) = query.first("sinceTime") {
        let bad = |_| (StatusCode::BAD_REQUEST, format!("`sinceTime` is no time: `{time}`"));
        from = from.max(time.parse::<Timestamp>().map_err(bad)?);
    }
    let wanted = Query {
        from: Some(from),
        until: run.until,
        tail_lines: query.number("tailLines")?,
        timestamps: query.flag("timestamps"),
        limit_bytes: query.number("limitBytes")?,
    };
    let path = log_path(&shared.data, &namespace, &pod, container);
    let follow = (query.flag("follow") && run.until.is_none()).then(|| Follow {
        container: container.to_string(),
        attempt: run.attempt,
        state: here.handle.state(),
    });
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        if let Err(error) = send(path, wanted, follow, &sender).await {
            // The body breaks off; whoever reads it learns that it is not whole.
            let _ = sender.send(Err(error.into())).await;
        }
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece.map(Frame::data), receiver))
    });
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}

fn run(
    here: &Here,
    pod: &str,
    container: &str,
    record: Option<Container>,
    previous: bool,
) -> Result<Run, Refusal> {
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    let Some(record) = record else {
        let why = if previous { "has no previous run" } else { "is waiting to start" };
        return Err(bad(format!("container \"{container}\" in pod \"{pod}\" {why}")));
    };
    let ended = |ended: &ExitRecord| Run {
        attempt: ended.attempt,
        from: ended.started_at,
        until: Some(ended.finished_at),
    };
    if previous {
        let restarts =
            here.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) != Some("Never");
        let last = match (&record.state, &record.previous) {
            (ContainerState::Exited(last), _) if restarts => Some(last),
            (_, previous) => previous.as_ref(),
        };
        let missing =
            || bad(format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"));
        return last.map(ended).ok_or_else(missing);
    }
    Ok(match &record.state {
        ContainerState::Starting { started_at } | ContainerState::Running { started_at, .. } => {
            Run { attempt: record.attempt, from: *started_at, until: None }
        }
        ContainerState::Exited(last) => ended(last),
    })
}

/// Until when a log is followed: the end of the run.
struct Follow {
    container: String,
    attempt: u32,
    state: watch::Receiver<Arc<PodState>>,
}

impl Follow {
    fn is_over(&self, state: &PodState) -> bool {
        state.containers.get(&self.container).is_none_or(|container| {
            container.attempt != self.attempt || matches!(container.state, ContainerState::Exited(_))
        })
    }
}

type Piece = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

async fn send(
    path: PathBuf,
    query: Query,
    follow: Option<Follow>,
    sender: &mpsc::Sender<Piece>,
) -> io::Result<()> {
    // Before the first look, so that nothing is missed between look and wait.
    let changes = match (&follow, path.parent()) {
        (Some(_), Some(folder)) => Some(Changes::of(folder)?),
        _ => None,
    };
    let opened = tokio::task::spawn_blocking(move || Reader::open(&path, query)).await;
    let mut reader = opened.map_err(io::Error::other)??;
    loop {
        let over = follow.as_ref().is_none_or(|follow| follow.is_over(&follow.state.borrow()));
        loop {
            let read = tokio::task::spawn_blocking(move || reader.read().map(|text| (reader, text))).await;
            let (returned, text) = read.map_err(io::Error::other)??;
            reader = returned;
            if text.is_empty() {
                break;
            }
            if sender.send(Ok(Bytes::from(text))).await.is_err() {
                return Ok(());
            }
        }
        let (Some(follow), Some(changes), false, false) = (&follow, &changes, over, reader.is_full()) else {
            return Ok(());
        };
        let mut state = follow.state.clone();
        tokio::select! {
            changed = changes.next() => changed?,
            _ = state.wait_for(|state| follow.is_over(state)) => {}
            () = sender.closed() => return Ok(()),
        }
    }
}
