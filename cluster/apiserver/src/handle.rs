//! From a request to an answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::admission;
use crate::admission::attributes::Operation;
use crate::authorize::authorize;
use crate::codec::body_json;
use crate::delete;
use crate::discovery;
use crate::https::Stopped;
use crate::impersonate::impersonate;
use crate::kinds::Kind;
use crate::kubelet;
use crate::meter::Overloaded;
use crate::metrics;
use crate::openapi;
use crate::patch::Patch;
use crate::read::{self, Selection};
use crate::reply::{Body, Reply};
use crate::request::{Attributes, Form, Media, Path, Query, ResourcePath, negotiate, verb};
use crate::selector::FieldSelector;
use crate::server::Server;
use crate::special;
use crate::status::ApiError;
use crate::store::Key;
use crate::subresource::Door;
use crate::token;
use crate::user::User;
use crate::write;

/// Bytes of a request body.
const BODY_BYTES_MAX: usize = 3 << 20;
/// Time in which a body must have come.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// Answers a request of an authenticated user.
pub(crate) async fn handle(server: &Arc<Server>, user: &User, request: Request<Body>) -> Response<Body> {
    // Held until the answer is made.
    let share = server.meter.share();
    let _in_flight = server.metrics.begin();
    let request = request.map(|body| share.count(body));
    let answered = match impersonate(server, user, request.headers()) {
        Ok(user) => server.config.clock.show(route(server, &user, request)).await,
        Err(error) => Err(error),
    };
    let reply = match answered {
        Ok(reply) => reply,
        Err(error) => {
            if error.code >= 500 && error.code != 504 {
                tracing::debug!(code = error.code, message = %error.message, "a request failed");
            }
            Reply::error(&error)
        }
    };
    reply.response
}

async fn route(server: &Arc<Server>, user: &User, request: Request<Body>) -> Result<Reply, ApiError> {
    let query = Query::parse(request.uri().query());
    let path = Path::parse(request.uri().path())?;
    match path {
        Path::Other(segments) => {
            let attributes = Attributes {
                verb: request.method().as_str().to_lowercase(),
                path: request.uri().path().to_owned(),
                ..Attributes::default()
            };
            authorize(server, user, &attributes)?;
            other(server, &segments, &request, &query)
        }
        Path::Resource(path) => resource(server, user, path, query, request).await,
    }
}

fn other(
    server: &Arc<Server>,
    segments: &[String],
    request: &Request<Body>,
    query: &Query,
) -> Result<Reply, ApiError> {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    match &*segments {
        ["healthz" | "livez" | "readyz"] => {
            if query.has("verbose") {
                return Ok(Reply::text(200, format!("[+]ping ok\n{} check passed\n", segments[0])));
            }
            return Ok(Reply::text(200, "ok"));
        }
        ["healthz" | "livez" | "readyz", "ping"] => return Ok(Reply::text(200, "ok")),
        _ => {}
    }
    let known = matches!(
        segments.first(),
        Some(&("api" | "apis" | "metrics" | "openapi" | "version" | ".well-known" | "openid")) | None
    );
    if !known || segments.is_empty() {
        return match segments.is_empty() {
            true => Ok(discovery::paths(&server.registry())),
            false => Ok(Reply::text(404, "404 page not found\n")),
        };
    }
    if !reading {
        return Err(ApiError::method_not_allowed());
    }
    match &*segments {
        ["metrics"] => Ok(Reply::text(200, metrics::render(server))),
        ["version"] => Ok(discovery::version()),
        [".well-known", "openid-configuration"] => Ok(Reply::value(200, &token::discovery(), Media::JSON)),
        ["openid", "v1", "jwks"] => Ok(Reply::value(200, &server.issuer.key_set(), Media::JSON)),
        ["openapi", rest @ ..] => openapi::answer(server, rest, request.headers(), query),
        _ => discovery::answer(&server.registry(), &segments, request.headers(), query),
    }
}

async fn resource(
    server: &Arc<Server>,
    user: &User,
    path: ResourcePath,
    query: Query,
    request: Request<Body>,
) -> Result<Reply, ApiError> {
    let Some(verb) = verb(request.method(), &path, &query) else {
        return Err(ApiError::method_not_allowed());
    };
    authorize(server, user, &attributes(verb, &path, &query))?;
    let registry = server.registry();
    let Some(kind) = registry.get(&path.group, &path.version, &path.plural).cloned() else {
        // A group that is not known at all is a plain 404 upstream.
        if !registry.groups.get(&path.group).is_some_and(|versions| versions.contains_key(&path.version)) {
            return Ok(Reply::text(404, "404 page not found\n"));
        }
        return Err(ApiError::no_such_path());
    };
    let answered = known_resource(server, user, &kind, path, query, verb, request).await;
    let code = answered.as_ref().map_or_else(|error| error.code, |reply| reply.response.status().as_u16());
    server.metrics.answered(verb, kind.storage(), code);
    answered
}

async fn known_resource(
    server: &Arc<Server>,
    user: &User,
    kind: &Arc<Kind>,
    path: ResourcePath,
    query: Query,
    verb: &'static str,
    request: Request<Body>,
) -> Result<Reply, ApiError> {
    check_scope(kind, &path, verb)?;
    let mut media = negotiate(request.headers())?;
    media.pretty = pretty(&query);
    let key = Key::new(kind.storage(), &path.namespace, &path.name);
    let answered = if path.subresource.is_empty() {
        match verb {
            "get" => read::get(server, kind, &key, &query, media).await,
            "list" => {
                let selection = Selection::parse(kind, &path.namespace, "", &query)?;
                read::list(server, &selection, &query, media).await
            }
            "watch" => {
                let selection = Selection::parse(kind, &path.namespace, &path.name, &query)?;
                let stopped = request.extensions().get::<Stopped>().cloned();
                read::watch(server, selection, &query, media, stopped).await
            }
            _ => main_write(server, user, kind, key, &query, verb, media, request).await,
        }
    } else {
        subresource(server, user, kind, key, &path.subresource, &query, verb, media, request).await
    };
    let refused = answered.as_ref().map_or(true, |reply| reply.response.status().as_u16() >= 400);
    if (refused || query.has("dryRun")) && !matches!(verb, "get" | "list" | "watch") {
        server.store.settle().await?;
    }
    let mut reply = answered?;
    if let Some(warning) = kind.custom.as_ref().and_then(|custom| custom.deprecation.as_ref()) {
        reply.warn(warning);
    }
    Ok(reply)
}

/// What authorization looks at.
fn attributes(verb: &str, path: &ResourcePath, query: &Query) -> Attributes {
    let mut attributes = Attributes {
        verb: verb.into(),
        group: path.group.clone(),
        resource: path.plural.clone(),
        subresource: path.subresource.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        path: String::new(),
    };
    if path.group.is_empty() && path.plural == "namespaces" {
        // A namespace lies in itself, so that a role in it can speak of it.
        attributes.namespace = path.name.clone();
    }
    if path.name.is_empty() && matches!(verb, "list" | "watch" | "deletecollection") {
        // A list of one name is allowed to those who may see that name. It is read as it will be applied: nothing may look
        // like one name here and like another there.
        let selector = FieldSelector::read(query.get("fieldSelector"));
        if let Some(name) = selector.ok().as_ref().and_then(|selector| selector.exact("metadata.name")) {
            attributes.name = name.to_owned();
        }
    }
    attributes
}

fn pretty(query: &Query) -> bool {
    query.flag("pretty")
}

fn check_scope(kind: &Kind, path: &ResourcePath, verb: &str) -> Result<(), ApiError> {
    if !path.subresource.is_empty() {
        let known = kind.subresource(&path.subresource).is_some() || path.subresource.starts_with("proxy/");
        if !known {
            return Err(ApiError::no_such_path());
        }
    }
    if kind.namespaced && path.namespace.is_empty() {
        // Across namespaces one can look, no more.
        if !path.name.is_empty() {
            return Err(ApiError::no_such_path());
        }
        if !matches!(verb, "list" | "watch") {
            return Err(ApiError::method_not_allowed());
        }
    }
    if !kind.namespaced && !path.namespace.is_empty() {
        return Err(ApiError::no_such_path());
    }
    if path.name.is_empty() && matches!(verb, "update" | "patch")
        || !path.name.is_empty() && verb == "create" && path.subresource.is_empty()
    {
        return Err(ApiError::method_not_allowed());
    }
    let verbs = match kind.subresource(&path.subresource) {
        Some(subresource) => &subresource.verbs,
        None => &kind.verbs,
    };
    let verb = if verb == "watch" && !path.name.is_empty() { "watch" } else { verb };
    if path.subresource.is_empty() && !verbs.iter().any(|known| known == verb) {
        return Err(ApiError::method_not_allowed());
    }
    if !path.subresource.is_empty()
        && !path.subresource.starts_with("proxy/")
        && !verbs.iter().any(|known| known == verb)
    {
        return Err(ApiError::method_not_allowed());
    }
    Ok(())
}

/// Reads a body up to its bounds: in size, in time, and in what all bodies may hold together.
pub(crate) async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(BODY_TIME_MAX, collect(body)).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::timeout("request did not complete within the allotted timeout")),
    }
}

async fn collect(mut body: Body) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::too_large(format!("Request entity too large: limit is {BODY_BYTES_MAX}"));
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.downcast_ref::<Overloaded>() {
            Some(overloaded) => {
                let mut error = ApiError::new(429, "TooManyRequests", overloaded.to_string());
                error.details.get_or_insert_default().retry_after_seconds = 1;
                error
            }
            None => ApiError::bad_request(format!("the body of the request cannot be read: {error}")),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + bytes.len() + data.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        // Most bodies come in one piece, which is taken as it is.
        if first.is_empty() && bytes.is_empty() {
            first = data;
            continue;
        }
        bytes.extend_from_slice(&std::mem::take(&mut first));
        bytes.extend_from_slice(&data);
    }
    Ok(if bytes.is_empty() { first } else { bytes.freeze() })
}

/// The name under which changes are tracked.
pub(crate) fn manager(query: &Query, headers: &HeaderMap, user: &User) -> String {
    let given = query.get("fieldManager");
    if !given.is_empty() {
        return given.to_owned();
    }
    let agent = headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
    let agent = agent.map(str::to_owned).or_else(|| user.agent.clone()).unwrap_or_default();
    let name: String =
        agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

#[allow(clippy::too_many_arguments)]
async fn main_write(
    server: &Arc<Server>,
    user: &User,
    kind: &Arc<Kind>,
    key: Key,
    query: &Query,
    verb: &str,
    media: Media,
    request: Request<Body>,
) -> Result<Reply, ApiError> {
    let (head, body) = request.into_parts();
    match verb {
        "delete" => {
            let options = delete::Options::read(&body_json(read_body(body).await?, &head.headers)?, query)?;
            let warned = orphans_pods(kind, &options);
            let done = delete_one(server, user, kind, &key, &options, query, media).await;
            let mut reply = done.unwrap_or_else(|error| Reply::error(&error));
            if warned {
                reply.warn(crate::warnings::ORPHANED_PODS);
            }
            Ok(reply)
        }
        "deletecollection" => {
            let body = body_json(read_body(body).await?, &head.headers)?;
            delete_collection(server, user, kind, &key, query, media, &body).await
        }
        _ => {
            if kind.verbs.iter().all(|verb| verb == "create") {
                let body = body_json(read_body(body).await?, &head.headers)?;
                return special::create(server, user, kind, &key, query, &body, media, &head.headers).await;
            }
            write_object(server, user, kind, key, Door::Main, query, verb, media, &head.headers, body).await
        }
    }
}

async fn delete_one(
    server: &Arc<Server>,
    user: &User,
    kind: &Arc<Kind>,
    key: &Key,
    options: &delete::Options,
    query: &Query,
    media: Media,
) -> Result<Reply, ApiError> {
    let warnings = admission::check_deletion(server, user, kind, key, options).await?;
    let deleted = delete::delete(server, kind, key, options).await?;
    let answer = delete::answer(kind, key, &deleted);
    let mut reply = match answer["kind"] == "Status" {
        true => Reply::value(200, &answer, Media { form: Form::Plain, ..media }),
        false => read::value(kind, &answer, media, query)?,
    };
    warnings.iter().for_each(|warning| reply.warn(warning));
    Ok(reply)
}

async fn delete_collection(
    server: &Arc<Server>,
    user: &User,
    kind: &Arc<Kind>,
    key: &Key,
    query: &Query,
    media: Media,
    body: &[u8],
) -> Result<Reply, ApiError> {
    let mut options = delete::Options::read(body, query)?;
    let warned = orphans_pods(kind, &options);
    let selection = Selection::parse(kind, &key.namespace, "", query)?;
    let page = read::page(server, &selection, query).await?;
    for object in &page.objects {
        let key = Key::new(kind.storage(), &object.namespace, &object.name);
        options.uid = Some(object.uid.to_string());
        admission::check_deletion(server, user, kind, &key, &options).await?;
        match delete::delete(server, kind, &key, &options).await {
            Ok(_) => {}
            // Gone or replaced in between: not ours to delete.
            Err(error) if matches!(error.code, 404 | 409) => {}
            Err(error) => return Err(error),
        }
    }
    let list = read::list_json(kind, page);
    let mut reply = Reply::json(200, list, Media { form: Form::Plain, ..media });
    if warned {
        reply.warn(crate::warnings::ORPHANED_PODS);
    }
    Ok(reply)
}

/// Whether a deletion leaves the Pods of Jobs behind without having been told to.
fn orphans_pods(kind: &Kind, options: &delete::Options) -> bool {
    kind.is("batch", "jobs") && options.propagation.is_none()
}

/// create, update and patch, through any door.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn write_object(
    server: &Arc<Server>,
    user: &User,
    kind: &Arc<Kind>,
    key: Key,
    door: Door,
    query: &Query,
    verb: &str,
    media: Media,
    headers: &HeaderMap,
    body: Body,
) -> Result<Reply, ApiError> {
    let options = match verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        _ => "PatchOptions",
    };
    let (dry_run, validation) = write::check_options(query, options)?;
    let manager = manager(query, headers, user);
    let mut request = write::Request {
        server,
        kind: kind.clone(),
        key,
        query,
        user,
        manager,
        dry_run,
        validation,
        warnings: Vec::new(),
        door,
        options,
        hooks: true,
    };
    let result = match verb {
        "create" => {
            let body = body_json(read_body(body).await?, headers)?;
            request.create(&body).await
        }
        "update" => {
            let body = body_json(read_body(body).await?, headers)?;
            request.update(&body).await
        }
        _ => {
            let patch = Patch::read(&read_body(body).await?, headers)?;
            special::check_patch_options(&patch, query)?;
            request.patch(&patch).await
        }
    };
    let mut warnings = std::mem::take(&mut request.warnings);
    let mut reply = match result {
        Ok(outcome) => {
            if kind.is("apiextensions.k8s.io", "customresourcedefinitions") && !dry_run {
                server.sync_crd(outcome.object["metadata"]["name"].as_str().unwrap_or_default()).await;
            }
            if !outcome.created {
                // Those of a new object are given before it can fail for other reasons.
                warnings.extend(crate::warnings::warnings(kind, &outcome.object, false, outcome.bumped));
            }
            if outcome.created && kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
                warnings.extend(crate::crd::warnings(&outcome.object));
            }
            warnings.extend(crate::admission::stored_only_warnings(kind, &outcome.object));
            let mut reply = match &outcome.stored {
                Some(stored) => read::written(kind, stored, &outcome.object, media, query)?,
                None => read::value(kind, &outcome.object, media, query)?,
            };
            if outcome.created {
                *reply.response.status_mut() = http::StatusCode::CREATED;
            }
            reply
        }
        Err(error) => Reply::error(&error),
    };
    for warning in &warnings {
        reply.warn(warning);
    }
    Ok(reply)
}

#[allow(clippy::too_many_arguments)]
async fn subresource(
    server: &Arc<Server>,
    user: &User,
    kind: &Arc<Kind>,
    key: Key,
    name: &str,
    query: &Query,
    verb: &str,
    media: Media,
    request: Request<Body>,
) -> Result<Reply, ApiError> {
    let door = Door::of(name);
    match name {
        "status" | "finalize" | "approval" | "ephemeralcontainers" | "resize" => {
            if verb == "get" {
                return read::get(server, kind, &key, query, media).await;
            }
            let (head, body) = request.into_parts();
            write_object(server, user, kind, key, door, query, verb, media, &head.headers, body).await
        }
        "scale" => {
            let (head, body) = request.into_parts();
            let body = read_body(body).await?;
            crate::scale::answer(server, user, kind, &key, query, verb, media, &head.headers, body).await
        }
        "binding" | "eviction" => {
            let (head, body) = request.into_parts();
            let body = body_json(read_body(body).await?, &head.headers)?;
            special::pod(server, user, kind, &key, name, query, &body, media).await
        }
        "token" => {
            let (head, body) = request.into_parts();
            let body = body_json(read_body(body).await?, &head.headers)?;
            token::request::create(server, &key, &body, media)
        }
        "log" | "exec" | "attach" | "portforward" => {
            if name != "log" {
                let call = (Operation::Connect, name);
                let options = kubelet::options(name, query);
                admission::check_call((server, user, kind), &key, call, &options, false).await?;
            }
            kubelet::forward(server, &key, name, query, request).await
        }
        _ => Err(ApiError::new(
            501,
            "NotImplemented",
            format!("the subresource `{name}` is not supported by this server"),
        )),
    }
}
