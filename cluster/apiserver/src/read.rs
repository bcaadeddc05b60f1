//! get and list.

mod text;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::codec;
use crate::kinds::Kind;
use crate::reply::Reply;
use crate::request::{Form, Media, Query};
use crate::selector::{FieldSelector, LabelSelector, known_fields};
use crate::server::Server;
use crate::status::{ApiError, Cause};
use crate::store::{Expired, Key, Object, Store};

use crate::table;

pub(crate) use text::list_json;
pub(crate) use watch::watch;

/// How long a read waits for a revision of the future.
const FUTURE_WAIT: Duration = Duration::from_secs(3);
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
        let fields = FieldSelector::parse(query.get("fieldSelector"), &known, kind)?;
        Ok(Selection { kind: kind.clone(), namespace: namespace.into(), name: name.into(), labels, fields })
    }

    pub(crate) fn has_selector(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// Refuses what cannot be told for an object that could not be opened.
    pub(crate) fn check_open(&self, objects: &[Arc<Object>]) -> Result<(), ApiError> {
        let asked = |object: &&Arc<Object>| self.name.is_empty() || *object.name == *self.name;
        objects.iter().filter(asked).try_for_each(|object| codec::check_open(object))
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
    let found = match kind.is("", "componentstatuses") {
        true => crate::components::one(server, &key.name),
        false => server.store.get(key),
    };
    let Some(object) = found else {
        return Err(ApiError::not_found(&kind.plural, &kind.group, &key.name));
    };
    codec::check_open(&object)?;
    one(kind, &object, media, query)
}

/// An answer with a single object.
pub(crate) fn one(kind: &Kind, object: &Object, media: Media, query: &Query) -> Result<Reply, ApiError> {
    match media.form {
        Form::Plain => Ok(Reply::json(200, codec::render(kind, object), media)),
        _ => value(kind, &codec::load(kind, object), media, query),
    }
}

/// An answer with an object that was just stored, at hand as a tree, too.
pub(crate) fn written(
    kind: &Kind,
    stored: &Object,
    object: &Value,
    media: Media,
    query: &Query,
) -> Result<Reply, ApiError> {
    match media.form {
        Form::Plain => one(kind, stored, media, query),
        _ => value(kind, object, media, query),
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
    if kind.is("", "componentstatuses") {
        objects = crate::components::all(server);
    }
    selection.check_open(&objects)?;
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
        Form::Plain => Ok(text::answer(kind, page, media)),
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
