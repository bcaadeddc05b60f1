//! watch: initial events, live events with the transitions of selectors, bookmarks, timeouts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Selection, check_options, not_a_form, revision, wait_for};
use crate::codec;
use crate::https::Stopped;
use crate::reply::Reply;
use crate::request::{Form, Media, Query};
use crate::server::Server;
use crate::status::ApiError;
use crate::store::{Event, EventKind, Expired, Object, Watcher};
use crate::table;

/// Time between bookmarks.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// The shortest time after which a watch without `timeoutSeconds` ends; the longest is twice that.
const WATCH_TIME_MIN: u64 = 1800;

/// A running watch: hands out lines.
struct Stream {
    selection: Selection,
    media: Media,
    query: Query,
    watcher: Watcher,
    /// What was there when the watch began. Lines are made of it when they are wanted, so that a reader who does not read
    /// costs little.
    initial: std::vec::IntoIter<Arc<Object>>,
    ready: VecDeque<Bytes>,
    /// A bookmark that follows the initial events.
    initial_end: bool,
    /// The revision of the initial events.
    start: u64,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    /// Columns go with the first event only.
    columns_sent: bool,
    ended: bool,
    closing: tokio::sync::watch::Receiver<bool>,
    stopped: Option<Stopped>,
}

/// watch.
pub(crate) async fn watch(
    server: &Server,
    selection: Selection,
    query: &Query,
    media: Media,
    stopped: Option<Stopped>,
) -> Result<Reply, ApiError> {
    let from = revision(query)?;
    query.number("limit")?;
    let timeout = query.number("timeoutSeconds")?;
    check_options(query, true)?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let send_initial = query.flag("sendInitialEvents");
    let synthetic = send_initial || !query.has("sendInitialEvents") && from.unwrap_or(0) == 0;
    let kind = selection.kind.clone();
    let (start, initial) = if synthetic {
        if let Some(least) = from {
            wait_for(&server.store, least).await?;
        }
        let listing = server.store.list(kind.storage(), &selection.namespace);
        selection.check_open(&listing.objects)?;
        (listing.revision, listing.objects)
    } else {
        let start = match from {
            Some(start) if start > 0 => start,
            _ => server.store.revision(),
        };
        (start, Vec::new())
    };
    let watcher = server.store.watch(kind.storage(), start).map_err(|expired| too_old(start, &expired))?;
    let seconds = match timeout {
        Some(seconds) if seconds > 0 => seconds as u64,
        _ => fastrand::u64(WATCH_TIME_MIN..2 * WATCH_TIME_MIN),
    };
    let now = Instant::now();
    let stream = Stream {
        selection,
        media,
        query: query.clone(),
        watcher,
        initial: initial.into_iter(),
        ready: VecDeque::new(),
        initial_end: send_initial && bookmarks,
        start,
        bookmarks,
        next_bookmark: now + BOOKMARK_EVERY,
        deadline: now + Duration::from_secs(seconds),
        columns_sent: false,
        ended: false,
        closing: server.closing.subscribe(),
        stopped,
    };
    // A form that cannot be had is refused with the head of the answer.
    if matches!(stream.media.form, Form::Discovery(_)) {
        return Err(not_a_form(stream.media));
    }
    let lines = futures::stream::unfold(stream, |mut stream| async move {
        let line = stream.next().await?;
        Some((line, stream))
    });
    Ok(Reply::stream(200, media.content_type(), lines))
}

fn too_old(wanted: u64, expired: &Expired) -> ApiError {
    ApiError::expired(format!("too old resource version: {wanted} ({})", expired.oldest))
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if let Some(line) = self.next_initial() {
                return Some(line);
            }
            if self.ended || *self.closing.borrow() {
                return None;
            }
            let wake = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
            let taken = tokio::select! {
                biased;
                taken = self.watcher.next() => Some(taken),
                _ = self.closing.changed() => return None,
                () = listener_stops(&mut self.stopped) => return None,
                () = tokio::time::sleep_until(wake) => None,
            };
            match taken {
                Some(Ok(events)) => {
                    for event in events {
                        if let Some(line) = self.event(&event) {
                            self.ready.push_back(line);
                        }
                    }
                }
                Some(Err(expired)) => {
                    let error = too_old(self.watcher.revision(), &expired);
                    self.ended = true;
                    return Some(wrap("ERROR", error.to_value().to_string().as_bytes()));
                }
                None => {
                    let now = Instant::now();
                    // The cursor moves on with the rest of the server, so that the bookmark says something.
                    if let Ok(events) = self.watcher.take() {
                        for event in events {
                            if let Some(line) = self.event(&event) {
                                self.ready.push_back(line);
                            }
                        }
                    }
                    if self.bookmarks && self.ready.is_empty() {
                        self.next_bookmark = now + BOOKMARK_EVERY;
                        if let Ok(line) = self.bookmark(self.watcher.revision(), false) {
                            self.ready.push_back(line);
                        }
                    }
                    self.ended = now >= self.deadline;
                }
            }
        }
    }

    /// The next of the initial events, or the bookmark after them.
    fn next_initial(&mut self) -> Option<Bytes> {
        while let Some(object) = self.initial.next() {
            if self.selection.matches(&object)
                && let Ok(line) = self.line("ADDED", &object)
            {
                return Some(line);
            }
        }
        let ends = std::mem::take(&mut self.initial_end);
        if ends { self.bookmark(self.start, true).ok() } else { None }
    }

    fn event(&mut self, event: &Arc<Event>) -> Option<Bytes> {
        let before = event.previous.as_ref().is_some_and(|previous| self.selection.matches(previous));
        if event.kind == EventKind::Deleted {
            return if before { self.shared(event, "DELETED") } else { None };
        }
        let now = self.selection.matches(&event.object);
        match (before, now) {
            (false, false) => None,
            (false, true) if event.kind == EventKind::Added => self.shared(event, "ADDED"),
            (false, true) => self.line("ADDED", &event.object).ok(),
            (true, true) => self.shared(event, "MODIFIED"),
            (true, false) => {
                let previous = event.previous.as_ref()?;
                let mut value = codec::load(&self.selection.kind, previous);
                value["metadata"]["resourceVersion"] = event.object.revision.to_string().into();
                self.value_line("DELETED", &value).ok()
            }
        }
    }

    /// The line that all plain watchers of the stored version share.
    fn shared(&mut self, event: &Arc<Event>, ty: &'static str) -> Option<Bytes> {
        let plain = self.media == Media::JSON && crate::convert::is_plain(&self.selection.kind);
        if !plain {
            return self.line(ty, &event.object).ok();
        }
        let kind = &self.selection.kind;
        Some(event.line.get_or_init(|| wrap(ty, &codec::render(kind, &event.object))).clone())
    }

    fn line(&mut self, ty: &str, object: &Object) -> Result<Bytes, ApiError> {
        if self.media.form == Form::Plain && self.media.encoding == crate::request::Encoding::Json {
            return Ok(wrap(ty, &codec::render(&self.selection.kind, object)));
        }
        let value = codec::load(&self.selection.kind, object);
        self.value_line(ty, &value)
    }

    fn value_line(&mut self, ty: &str, object: &Value) -> Result<Bytes, ApiError> {
        let shown = match self.media.form {
            Form::Plain => object.clone(),
            Form::Partial | Form::PartialList => codec::partial(object),
            Form::Table => {
                let meta = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                table::table(&self.selection.kind, std::slice::from_ref(object), meta, &self.query, columns)?
            }
            Form::Discovery(_) => return Err(not_a_form(self.media)),
        };
        if self.media.encoding == crate::request::Encoding::Yaml {
            let event = json!({ "type": ty, "object": shown });
            return Ok(Bytes::from(format!("---\n{}", dodai_yaml::to_string(&event))));
        }
        Ok(wrap(ty, shown.to_string().as_bytes()))
    }

    fn bookmark(&mut self, revision: u64, initial: bool) -> Result<Bytes, ApiError> {
        let kind = &self.selection.kind;
        let mut object = json!({
            "kind": kind.kind, "apiVersion": kind.api_version(),
            "metadata": { "resourceVersion": revision.to_string(), "creationTimestamp": null },
        });
        object["metadata"].as_object_mut().map(|meta| meta.remove("creationTimestamp"));
        if initial {
            object["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        if self.media.form == Form::Plain {
            codec::normalize(kind, &mut object);
            codec::set_type(&mut object, kind);
        }
        self.value_line("BOOKMARK", &object)
    }
}

/// Waits until the listener of the request stops; for ever, if it came without one.
async fn listener_stops(stopped: &mut Option<Stopped>) {
    match stopped {
        // An error means that the handle is gone, but the listener goes on.
        Some(Stopped(stopped)) if !*stopped.borrow() => match stopped.changed().await {
            Ok(()) => {}
            Err(_) => std::future::pending().await,
        },
        Some(_) => {}
        None => std::future::pending().await,
    }
}

fn wrap(ty: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(ty.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}
