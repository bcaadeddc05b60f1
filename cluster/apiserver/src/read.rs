//! get, list and watch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::codec;
use crate::kinds::Kind;
use crate::reply::Reply;
use crate::request::{Form, Media, Query};
use crate::selector::{FieldSelector, LabelSelector, known_fields};
use crate::server::Server;
use crate::status::{ApiError, Cause};
use crate::store::{Event, EventKind, Expired, Key, Object, Store, Watcher};
use crate::table;

/// How long a read waits for a revision of the future.
const FUTURE_WAIT: Duration = Duration::from_secs(3);
/// Time between bookmarks.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// The shortest time after which a watch without `timeoutSeconds` ends; the longest is twice that.
const WATCH_TIME_MIN: u64 = 1800;

/// What a list or watch selects.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub kind: Arc<Kind>,
    pub namespace: String,
    /// A watch of a single object.
    pub name: String,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    pub(crate) fn parse(
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        query: &Query,
    ) -> Result<Selection, ApiError> {
        let mut known: Vec<&str> = known_fields(&kind.group, &kind.plural).to_vec();
        if let Some(custom) = &kind.custom {
            known.extend(custom.selectable.iter().map(String::as_str));
        }
        let labels = LabelSelector::parse(query.get("labelSelector"))?;
        let fields = FieldSelector::parse(query.get("fieldSelector"), &known, kind.is_custom())?;
        Ok(Selection { kind: kind.clone(), namespace: namespace.into(), name: name.into(), labels, fields })
    }

    pub(crate) fn has_selector(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        if !self.namespace.is_empty() && *object.namespace != *self.namespace {
            return false;
        }
        if !self.name.is_empty() && *object.name != *self.name {
            return false;
        }
        if !self.labels.matches(&object.labels) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        if self.fields.only_names() {
            return self.fields.matches(|field| match field {
                "metadata.name" => object.name.to_string(),
                _ => object.namespace.to_string(),
            });
        }
        let value = codec::load(&self.kind, object);
        self.fields.matches(|field| field_value(&self.kind, &value, field))
    }
}

/// The value of a selectable field as text.
fn field_value(kind: &Kind, value: &Value, field: &str) -> String {
    let found = match (kind.plural.as_str(), field) {
        ("events", "source") => {
            let source = value["source"]["component"].as_str().unwrap_or_default();
            let other = value["reportingComponent"].as_str().unwrap_or_default();
            return if source.is_empty() { other.into() } else { source.into() };
        }
        ("pods", "spec.hostNetwork") => value["spec"]["hostNetwork"].clone(),
        ("jobs", "status.successful") => value["status"]["succeeded"].clone(),
        ("pods", "status.podIPs") => value["status"]["podIPs"][0]["ip"].clone(),
        _ => crate::crd::at(value, field).cloned().unwrap_or_default(),
    };
    match found {
        Value::String(text) => text,
        Value::Null if field == "spec.hostNetwork" || field == "spec.unschedulable" => "false".into(),
        Value::Null if field == "status.successful" => "0".into(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The resourceVersion parameter as a number.
fn revision(query: &Query) -> Result<Option<u64>, ApiError> {
    match query.get("resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "resourceVersion: Invalid value: {}: strconv.ParseUint: parsing {}: invalid syntax",
                crate::status::quote(text),
                crate::status::quote(text)
            ))
        }),
    }
}

/// Waits until the store has reached `revision`.
async fn wait_for(store: &Store, revision: u64) -> Result<(), ApiError> {
    if store.revision() >= revision {
        return Ok(());
    }
    let deadline = Instant::now() + FUTURE_WAIT;
    let mut events = store.events();
    while store.revision() < revision {
        // Whatever arrives, the revision is looked at again.
        if tokio::time::timeout_at(deadline, events.recv()).await.is_err() {
            let text =
                format!("Timeout: Too large resource version: {revision}, current: {}", store.revision());
            let mut error = ApiError::timeout(text);
            error.details.get_or_insert_default().causes = vec![Cause {
                reason: "ResourceVersionTooLarge",
                field: String::new(),
                message: "Too large resource version".into(),
            }];
            return Err(error);
        }
    }
    Ok(())
}

/// get.
pub(crate) async fn get(
    server: &Server,
    kind: &Arc<Kind>,
    key: &Key,
    query: &Query,
    media: Media,
) -> Result<Reply, ApiError> {
    if let Some(wanted) = revision(query)? {
        wait_for(&server.store, wanted).await?;
    }
    let Some(object) = server.store.get(key) else {
        return Err(ApiError::not_found(&kind.plural, &kind.group, &key.name));
    };
    one(kind, &object, media, query)
}

/// An answer with a single object.
pub(crate) fn one(kind: &Kind, object: &Object, media: Media, query: &Query) -> Result<Reply, ApiError> {
    match media.form {
        Form::Plain => Ok(Reply::json(200, codec::render(kind, object), media)),
        _ => value(kind, &codec::load(kind, object), media, query),
    }
}

/// An answer with a single object that is at hand as a tree.
pub(crate) fn value(kind: &Kind, object: &Value, media: Media, query: &Query) -> Result<Reply, ApiError> {
    match media.form {
        Form::Plain => Ok(Reply::value(200, object, media)),
        Form::Partial => Ok(Reply::value(200, &codec::partial(object), media)),
        Form::Table => {
            let meta = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
            let table = table::table(kind, std::slice::from_ref(object), meta, query, true)?;
            Ok(Reply::value(200, &table, media))
        }
        _ => Err(not_a_form(media)),
    }
}

fn not_a_form(media: Media) -> ApiError {
    let mut error =
        ApiError::new(406, "NotAcceptable", format!("the object cannot be shown as {:?}", media.form));
    error.details = Some(Default::default());
    error
}

/// Checks of `ListOptions`, with upstream's texts.
fn check_options(query: &Query, watch: bool) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    let matching = query.get("resourceVersionMatch");
    let rv = query.get("resourceVersion");
    let forbidden =
        |causes: &mut Vec<Cause>, field: &str, text: &str| causes.push(Cause::forbidden(field, text));
    if watch && query.has("sendInitialEvents") {
        if matching != "NotOlderThan" {
            forbidden(
                &mut causes,
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            );
        }
        return refuse(causes);
    }
    if !matching.is_empty() {
        if watch {
            forbidden(
                &mut causes,
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if !watch && rv.is_empty() {
            forbidden(
                &mut causes,
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if !query.get("continue").is_empty() {
            forbidden(
                &mut causes,
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            causes.push(Cause::not_supported(
                "resourceVersionMatch",
                &matching.into(),
                &["Exact", "NotOlderThan", ""],
            ));
        }
        if matching == "Exact" && rv == "0" {
            forbidden(
                &mut causes,
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
    }
    if !watch && query.has("sendInitialEvents") {
        forbidden(&mut causes, "sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    refuse(causes)
}

fn refuse(causes: Vec<Cause>) -> Result<(), ApiError> {
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid("ListOptions", "meta.k8s.io", "", causes)) }
}

/// A place in a paged list.
struct Continue {
    /// `None`: the newest state.
    revision: Option<u64>,
    namespace: String,
    name: String,
}

impl Continue {
    fn read(token: &str) -> Option<Continue> {
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).ok()?;
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        Some(Continue {
            revision: value["rv"].as_u64(),
            namespace: value["ns"].as_str()?.into(),
            name: value["n"].as_str()?.into(),
        })
    }

    fn write(&self) -> String {
        let value = json!({ "v": "dodai/v1", "rv": self.revision, "ns": self.namespace, "n": self.name });
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    }
}

/// The objects of a list and what its metadata says.
pub(crate) struct Page {
    pub objects: Vec<Arc<Object>>,
    pub metadata: Value,
}

/// Selects the objects of a list.
pub(crate) async fn page(server: &Server, selection: &Selection, query: &Query) -> Result<Page, ApiError> {
    let store = &server.store;
    let kind = &selection.kind;
    let limit = query.number("limit")?.unwrap_or(0);
    query.number("timeoutSeconds")?;
    let wanted = revision(query)?;
    check_options(query, false)?;
    let expired = |_: Expired| ApiError::expired("The resourceVersion for the provided list is too old.");
    let mut after = None;
    let listing = if !query.get("continue").is_empty() {
        if wanted.is_some_and(|wanted| wanted != 0) {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let token = Continue::read(query.get("continue"))
            .ok_or_else(|| ApiError::bad_request("continue key is not valid: it cannot be read"))?;
        let listing = match token.revision {
            None => store.list(kind.storage(), &selection.namespace),
            Some(revision) => {
                store.list_at(kind.storage(), &selection.namespace, revision).map_err(|_| {
                    let fresh = Continue {
                        revision: None,
                        namespace: token.namespace.clone(),
                        name: token.name.clone(),
                    };
                    expired_token(fresh.write())
                })?
            }
        };
        after = Some((token.namespace, token.name));
        listing
    } else {
        let matching = query.get("resourceVersionMatch");
        let legacy = limit > 0 && matching.is_empty();
        match wanted {
            Some(exact) if exact > 0 && (matching == "Exact" || legacy) => {
                wait_for(store, exact).await?;
                store.list_at(kind.storage(), &selection.namespace, exact).map_err(expired)?
            }
            Some(least) => {
                wait_for(store, least).await?;
                store.list(kind.storage(), &selection.namespace)
            }
            None => store.list(kind.storage(), &selection.namespace),
        }
    };
    let mut objects: Vec<Arc<Object>> = listing.objects;
    objects.retain(|object| {
        let later = after.as_ref().is_none_or(|(namespace, name)| {
            (&*object.namespace, &*object.name) > (namespace.as_str(), name.as_str())
        });
        later && selection.matches(object)
    });
    let mut metadata = json!({ "resourceVersion": listing.revision.to_string() });
    if limit > 0 && objects.len() as i64 > limit {
        let rest = objects.len() - limit as usize;
        objects.truncate(limit as usize);
        if let Some(last) = objects.last() {
            let token = Continue {
                revision: Some(listing.revision),
                namespace: last.namespace.to_string(),
                name: last.name.to_string(),
            };
            metadata["continue"] = token.write().into();
        }
        if !selection.has_selector() {
            metadata["remainingItemCount"] = rest.into();
        }
    }
    Ok(Page { objects, metadata })
}

/// A 410 that carries a token for going on at the newest state.
fn expired_token(fresh: String) -> ApiError {
    let mut error = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    error.list_continue = Some(fresh.into());
    error
}

/// list.
pub(crate) async fn list(
    server: &Server,
    selection: &Selection,
    query: &Query,
    media: Media,
) -> Result<Reply, ApiError> {
    let kind = &selection.kind;
    let page = page(server, selection, query).await?;
    match media.form {
        Form::Plain => Ok(Reply::json(200, list_json(kind, &page), media)),
        Form::PartialList => {
            let items: Vec<Value> =
                page.objects.iter().map(|object| codec::partial(&codec::load(kind, object))).collect();
            let list = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": page.metadata, "items": items,
            });
            Ok(Reply::value(200, &list, media))
        }
        Form::Table => {
            let objects: Vec<Value> = page.objects.iter().map(|object| codec::load(kind, object)).collect();
            let table = table::table(kind, &objects, page.metadata, query, true)?;
            Ok(Reply::value(200, &table, media))
        }
        _ => Err(not_a_form(media)),
    }
}

/// The text of a list, put together from the stored texts.
pub(crate) fn list_json(kind: &Kind, page: &Page) -> Bytes {
    let size: usize = page.objects.iter().map(|object| object.json.len() + 64).sum();
    let mut text = BytesMut::with_capacity(size + 256);
    let mut metadata = page.metadata.clone();
    if kind.is_custom() && metadata["continue"].is_null() {
        // Plain lists of custom resources always show it.
        metadata["continue"] = "".into();
    }
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
        kind.list_kind,
        kind.api_version(),
        metadata
    );
    text.put_slice(head.as_bytes());
    for (at, object) in page.objects.iter().enumerate() {
        if at > 0 {
            text.put_u8(b',');
        }
        text.put_slice(&codec::render_item(kind, object));
    }
    text.put_slice(b"]}");
    text.freeze()
}

/// A running watch: hands out lines.
struct Stream {
    selection: Selection,
    media: Media,
    query: Query,
    watcher: Watcher,
    ready: VecDeque<Bytes>,
    /// A bookmark that follows the initial events.
    initial_end: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    /// Columns go with the first event only.
    columns_sent: bool,
    ended: bool,
    closing: tokio::sync::watch::Receiver<bool>,
}

/// watch.
pub(crate) async fn watch(
    server: &Server,
    selection: Selection,
    query: &Query,
    media: Media,
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
    let mut stream = Stream {
        selection,
        media,
        query: query.clone(),
        watcher,
        ready: VecDeque::new(),
        initial_end: send_initial && bookmarks,
        bookmarks,
        next_bookmark: now + BOOKMARK_EVERY,
        deadline: now + Duration::from_secs(seconds),
        columns_sent: false,
        ended: false,
        closing: server.closing.subscribe(),
    };
    for object in &initial {
        if !stream.selection.matches(object) {
            continue;
        }
        let line = stream.line("ADDED", object)?;
        stream.ready.push_back(line);
    }
    if stream.initial_end {
        let line = stream.bookmark(start, true)?;
        stream.ready.push_back(line);
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
            if self.ended || *self.closing.borrow() {
                return None;
            }
            let wake = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
            let taken = tokio::select! {
                biased;
                taken = self.watcher.next() => Some(taken),
                _ = self.closing.changed() => return None,
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

fn wrap(ty: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(ty.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}
