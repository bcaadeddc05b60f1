//! Carries out a plan: the same code for every controller, so that no engine can forget a guard.
//!
//! - A create that finds the name taken leaves what is there; where that must be ours it ends the pass.
//! - An apply uses the controller's own field manager, by force.
//! - A replace must carry the resourceVersion that was seen.
//! - A confirmation reads from the API server, not from a cache; an object that changed since it was seen, or is there though
//!   it was not seen, ends the pass.
//! - A delete carries the uid that was seen; an object that has gone, or was made anew, is left alone.
//! - A status is written only when it says something new, against the version that was seen; a condition whose `status`
//!   does not change keeps its time; a change of `Ready` becomes an event.

use dodai_api::dodai::condition::Condition;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, Request};
use kube::{Api, Client, Resource};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::controller::Context;
use crate::error::Error;
use crate::owned::Owned;
use crate::plan::{Action, Object, Plan, Target, display_name};

/// Longest message of an event, in bytes (an Event's note is limited to 1 kB upstream).
const EVENT_MESSAGE_BYTES_MAX: usize = 1000;

/// Carries out the actions, then writes the status. Returns how many writes were made.
pub async fn execute(context: &Context, manager: &str, object: &Object, plan: &Plan) -> Result<u64, Error> {
    let mut writes = 0;
    for action in &plan.actions {
        if let Err(error) = act(&context.client, manager, action).await {
            tell_failure(context, manager, object, plan, action, &error).await;
            return Err(error);
        }
        writes += u64::from(action.is_write());
    }
    if write_status(context, manager, object, plan).await? {
        writes += 1;
    }
    Ok(writes)
}

/// Writes into the status that the API server refused an action, if the plan has a condition for that.
async fn tell_failure(
    context: &Context,
    manager: &str,
    object: &Object,
    plan: &Plan,
    action: &Action,
    error: &Error,
) {
    let reason = match action {
        Action::Create(_) | Action::CreateNew(_) => "FailedCreate",
        Action::Delete(_) => "FailedDelete",
        _ => return,
    };
    let (Some(type_), Some(status), Error::Action { source, .. }) =
        (plan.failure_condition, &plan.status, error)
    else {
        return;
    };
    let kube::Error::Api(refusal) = source.as_ref() else { return };
    let mut told = plan.clone();
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let before = object.value["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let same = before.iter().find(|old| old["type"] == type_ && old["reason"] == reason);
    let since = same.map(|old| old["lastTransitionTime"].clone());
    conditions.push(serde_json::json!({
        "type": type_, "status": "True", "reason": reason, "message": refusal.message,
        "lastTransitionTime": since.unwrap_or_else(|| rfc3339(context.clock.now()).into()),
    }));
    told.status.get_or_insert_default()["conditions"] = conditions.into();
    if let Err(error) = write_status(context, manager, object, &told).await {
        tracing::debug!(%error, name = %object.display_name(), "a refusal could not be told");
    }
}

async fn act(client: &Client, manager: &str, action: &Action) -> Result<(), Error> {
    match action {
        Action::Create(object) => create(client, manager, object).await.map(drop),
        Action::CreateNew(object) => match create(client, manager, object).await? {
            true => Ok(()),
            false => Err(Error::Changed { kind: object.resource.kind.clone(), name: object.display_name() }),
        },
        Action::Apply(object) => {
            let params = PatchParams::apply(manager).force();
            let request = requests(object).patch(object.name(), &params, &Patch::Apply(&object.value));
            send(client, request).await.map_err(|source| failed("apply", object, source))
        }
        Action::Replace(object) => replace(client, manager, object).await,
        Action::Delete(target) => delete(client, target).await,
        Action::Confirm(target, version) => confirm(client, target, version).await,
        Action::ConfirmOwned(owned) => confirm_owned(client, owned).await,
        Action::ConfirmGone(target) => confirm_gone(client, target).await,
    }
}

/// Returns whether the name was free.
async fn create(client: &Client, manager: &str, object: &Object) -> Result<bool, Error> {
    let params = PostParams { dry_run: false, field_manager: Some(manager.to_owned()) };
    match send(client, requests(object).create(&params, body(object)?)).await {
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(false),
        result => result.map(|()| true).map_err(|source| failed("create", object, source)),
    }
}

async fn replace(client: &Client, manager: &str, object: &Object) -> Result<(), Error> {
    if object.value["metadata"]["resourceVersion"].as_str().is_none_or(str::is_empty) {
        return Err(Error::Unguarded { kind: object.resource.kind.clone(), name: object.display_name() });
    }
    let params = PostParams { dry_run: false, field_manager: Some(manager.to_owned()) };
    let request = requests(object).replace(object.name(), &params, body(object)?);
    send(client, request).await.map_err(|source| failed("replace", object, source))
}

async fn confirm(client: &Client, target: &Target, version: &str) -> Result<(), Error> {
    let found = api(client, &target.resource, target.namespace.as_deref()).get_opt(&target.name).await;
    match found.map_err(|source| unread(target, source))? {
        Some(found) if found.metadata.resource_version.as_deref() == Some(version) => Ok(()),
        _ => Err(changed(target)),
    }
}

async fn confirm_gone(client: &Client, target: &Target) -> Result<(), Error> {
    let api = api(client, &target.resource, target.namespace.as_deref());
    match api.get_metadata_opt(&target.name).await.map_err(|source| unread(target, source))? {
        Some(found) if found.metadata.uid.as_ref() == Some(&target.uid) => Err(changed(target)),
        _ => Ok(()),
    }
}

fn unread(target: &Target, source: kube::Error) -> Error {
    Error::Action {
        verb: "read",
        kind: target.resource.kind.clone(),
        name: target.display_name(),
        source: Box::new(source),
    }
}

fn changed(target: &Target) -> Error {
    Error::Changed { kind: target.resource.kind.clone(), name: target.display_name() }
}

async fn confirm_owned(client: &Client, owned: &Owned) -> Result<(), Error> {
    let kind = || owned.resource.kind.clone();
    let params = ListParams { label_selector: owned.selector(), ..ListParams::default() };
    let list =
        api(client, &owned.resource, owned.namespace.as_deref()).list(&params).await.map_err(|source| {
            let name = owned.namespace.clone().unwrap_or_default();
            Error::Action { verb: "list", kind: kind(), name, source: Box::new(source) }
        })?;
    match owned.differs(list.items.iter().map(|object| &object.metadata)) {
        None => Ok(()),
        Some(name) => {
            Err(Error::Changed { kind: kind(), name: display_name(owned.namespace.as_deref(), &name) })
        }
    }
}

async fn delete(client: &Client, target: &Target) -> Result<(), Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(target.uid.clone()), resource_version: None }),
        grace_period_seconds: target.at_once.then_some(0),
        ..DeleteParams::background()
    };
    match api(client, &target.resource, target.namespace.as_deref()).delete(&target.name, &params).await {
        // It has gone, or another of the same name is there: what we wanted gone is gone.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        result => result.map(drop).map_err(|source| Error::Action {
            verb: "delete",
            kind: target.resource.kind.clone(),
            name: target.display_name(),
            source: Box::new(source),
        }),
    }
}

fn api(client: &Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// What asks for an object's resource, in its namespace.
fn requests(object: &Object) -> Request {
    Request::new(DynamicObject::url_path(&object.resource, object.namespace()))
}

fn body(object: &Object) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(&object.value).map_err(|source| Error::Serialise("an object", source))
}

/// Sends a write. The object in its answer is not read: what was written is learnt from the watch.
async fn send(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> kube::Result<()> {
    client.request::<IgnoredAny>(request.map_err(kube::Error::BuildRequest)?).await.map(drop)
}

fn failed(verb: &'static str, object: &Object, source: kube::Error) -> Error {
    Error::Action {
        verb,
        kind: object.resource.kind.clone(),
        name: object.display_name(),
        source: Box::new(source),
    }
}

/// Returns whether there was something new to write.
async fn write_status(context: &Context, manager: &str, seen: &Object, plan: &Plan) -> Result<bool, Error> {
    let Some(mut status) = plan.status.clone() else { return Ok(false) };
    let mut object = seen.clone();
    let before: Vec<Condition> = conditions_of(&object.value["status"]);
    if !plan.conditions.is_empty() {
        let conditions = timed(&before, &plan.conditions, context.clock.now());
        status["conditions"] =
            serde_json::to_value(&conditions).map_err(|source| Error::Serialise("the conditions", source))?;
    }
    if object.value["status"] == status {
        return Ok(false);
    }
    object.value["status"] = status;
    let params = PostParams { dry_run: false, field_manager: Some(manager.to_owned()) };
    let request = requests(&object).replace_subresource("status", object.name(), &params, body(&object)?);
    match send(&context.client, request).await {
        // It has gone: nobody is left to read its status.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
        result => result.map_err(|source| failed("write the status of", &object, source))?,
    }
    if let Some(ready) = plan.conditions.iter().find(|condition| condition.type_ == "Ready")
        && !before
            .iter()
            .any(|old| old.type_ == "Ready" && old.status == ready.status && old.reason == ready.reason)
    {
        let stalled =
            plan.conditions.iter().any(|condition| condition.type_ == "Stalled" && condition.is_true());
        record(context, manager, seen, &ready.reason, &ready.message, stalled).await;
    }
    Ok(true)
}

fn conditions_of(status: &Value) -> Vec<Condition> {
    serde_json::from_value(status["conditions"].clone()).unwrap_or_default()
}

/// The wanted conditions, each with the time at which its `status` last changed.
fn timed(before: &[Condition], wanted: &[Condition], now: Timestamp) -> Vec<Condition> {
    let with_time = |condition: &Condition| {
        let same = before.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        let time = same.and_then(|old| old.last_transition_time.clone()).unwrap_or_else(|| rfc3339(now));
        Condition { last_transition_time: Some(time), ..condition.clone() }
    };
    wanted.iter().map(with_time).collect()
}

/// A time as Kubernetes writes it: whole seconds, UTC.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The event that a controller panicked over the object.
pub(crate) async fn tell_panic(context: &Context, manager: &str, object: &Object, error: &Error) {
    let Error::Panicked(_) = error else { return };
    let message =
        format!("{error}; a fault of dodai: after the third time the object waits until it changes");
    record(context, manager, object, "Panicked", &message, true).await;
}

/// An event about the object; losing one is not worth failing a pass, so that an error is only logged.
async fn record(
    context: &Context,
    manager: &str,
    object: &Object,
    reason: &str,
    message: &str,
    warning: bool,
) {
    let namespace = object.namespace().unwrap_or("default").to_owned();
    let now = context.clock.now();
    let name = format!("{}.{:x}{:04x}", object.name(), now.as_microsecond(), fastrand::u16(..));
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(object.resource.api_version.clone()),
            kind: Some(object.resource.kind.clone()),
            name: Some(object.name().to_owned()),
            namespace: object.namespace().map(str::to_owned),
            uid: object.value["metadata"]["uid"].as_str().map(str::to_owned),
            ..ObjectReference::default()
        },
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message[..message.floor_char_boundary(EVENT_MESSAGE_BYTES_MAX)].to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        reporting_component: Some(manager.to_owned()),
        reporting_instance: Some(dodai_api::names::NODE_NAME.to_owned()),
        source: Some(k8s_openapi::api::core::v1::EventSource {
            component: Some(manager.to_owned()),
            host: None,
        }),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(context.client.clone(), &namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        let name = object.display_name();
        tracing::debug!(%name, %error, "event not recorded");
    }
}
