//! Server-side apply on Kubernetes objects: `metadata.managedFields` is read, kept up and written.
//!
//! An API server calls [`apply`] for apply patches and [`update`] for every other write. Both take objects in the
//! API version of the request. `update` wants the new object with its defaults set (they belong to the writer);
//! what `apply` returns is still to be defaulted (nobody owns those). Both want to be called before the server
//! puts in what it decides itself (`uid`, `resourceVersion`, `generation`).
//!
//! Left out: dropping `managedFields` of an object that is too large to store (the store knows its limit; see
//! [`clear`]).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::fields::{Path, Set};
use crate::schema::Schema;
use crate::typed::{Duplicates, Typed};
use crate::update::{Converter, Ignored, Updater};

mod cap;
mod conflict;
mod entries;
mod last_applied;

pub use cap::UPDATE_MANAGERS_MAX;
pub use conflict::Conflict;
pub use entries::{Manager, Operation, Tracked};

/// Who writes, through which door. The same for [`apply`] and [`update`].
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Schema of the kind in `api_version`.
    pub schema: &'a Schema,
    /// `group/version` of the request (`v1`, `apps/v1`); the objects given are in it.
    pub api_version: &'a str,
    /// `status`, `scale`, ...; empty for the object itself.
    pub subresource: &'a str,
    /// `fieldManager`, or the first part of the User-Agent. Empty is written as `unknown`.
    pub manager: &'a str,
    /// Now, RFC 3339 to the second in UTC (`2026-01-31T10:00:00Z`).
    pub time: &'a str,
    /// Fields this door resets (`spec` on `/status`, `status` on the object): nobody comes to own them here.
    pub reset_fields: Option<&'a Set>,
    /// What an object of this kind holds before anything is set: [`Schema::skeleton`] for built-in kinds (upstream
    /// keeps those in Go structs, whose members are there from the start), `None` for custom resources. A creation
    /// is compared with it.
    pub empty: Option<&'a Value>,
    /// For managers that wrote in other versions; `&SameInAllVersions` if there is only one.
    pub converter: &'a dyn Converter,
}

/// Why a write cannot be tracked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 409 `Conflict`; Display is the Status message (`Apply failed with 1 conflict: ...`), the conflicts are its
    /// causes.
    #[error("{message}")]
    Conflicts { message: String, conflicts: Vec<Conflict> },
    /// 400 `BadRequest`: the request itself is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// 500 without a reason: object and schema do not fit each other (unknown field, duplicate key, conversion).
    #[error("{0}")]
    Internal(String),
}

/// Manager that is recorded for what an untracked object held before its first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Applies `config`, the wish of `request.manager`, to `live` (`None`: it does not exist yet).
///
/// Returns the new object with its `managedFields`, not yet defaulted. If nothing would change, it equals `live`.
/// Where a map or list lost all it had, there is null, as upstream: drop nulls (of custom resources those that are
/// not `nullable`) before the object is validated and stored.
pub fn apply(live: Option<&Value>, config: &Value, force: bool, request: &Request) -> Result<Value, Error> {
    check_config(config, request)?;
    let nothing = Value::Object(serde_json::Map::new());
    let live_object = live.unwrap_or(&nothing);
    let mut before = Tracked::decode(managers_of(live_object))
        .map_err(|error| Error::Internal(format!("failed to decode managed fields: {error}")))?;
    let stripped = Arc::new(without_managers(live_object));
    let live_typed = parse(stripped.clone(), Duplicates::Allowed, "live", request)?;
    let config_typed = parse(Arc::new(config.clone()), Duplicates::Refused, "patch", request)?;
    let untracked = before.managers.is_empty();
    if untracked && live.is_some() {
        let empty = Typed { value: Arc::new(empty_object(request)), ..live_typed.clone() };
        let first = Request { manager: BEFORE_FIRST_APPLY, ..*request };
        record_update(&empty, &live_typed, &mut before, &first)?;
    }

    let manager = Manager::new(request, Operation::Apply);
    let (new, managers) = apply_or_migrate(&live_typed, &config_typed, &before, &manager, force, request)?;
    let mut tracked = Tracked { managers, times: before.times.clone() };
    if untracked {
        before = Tracked::default();
    }
    strip(&mut tracked, &manager);
    let mut object = match new {
        Some(new) => {
            tracked.times.insert(manager, request.time.to_owned());
            Arc::unwrap_or_clone(new.value)
        }
        // Nothing changed, so the time stays; a manager that only joins an owner gets none, as upstream.
        None => Arc::unwrap_or_clone(stripped),
    };
    if request.manager == last_applied::MANAGER {
        last_applied::rewrite(&mut object, config);
    }
    Ok(finish(object, &tracked, &before, live))
}

/// Gives what changed from `live` (`None`: it is created) to `new` to `request.manager`, and returns `new` with its
/// `managedFields`. `new` may carry `managedFields` of its own (a client may edit them, except through a
/// subresource); a list of one empty entry resets them. An object that is not tracked stays so. If nothing but
/// times would change, the result carries the times of `live`.
///
/// Never refuses: what cannot be tracked is stored without `managedFields`, as upstream does.
pub fn update(live: Option<&Value>, new: Value, request: &Request) -> Value {
    let mut object = new;
    match try_update(live, &mut object, request) {
        Ok((tracked, before)) => finish(object, &tracked, &before, live),
        Err(_) => {
            clear(&mut object);
            object
        }
    }
}

/// As [`update`], but says why a write cannot be tracked.
pub fn update_strict(live: Option<&Value>, new: Value, request: &Request) -> Result<Value, Error> {
    let mut object = new;
    let (tracked, before) = try_update(live, &mut object, request)?;
    Ok(finish(object, &tracked, &before, live))
}

/// Removes `managedFields`; also right for an object that is too large to be stored with them.
pub fn clear(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
    }
}

/// The list of managers of an object.
fn managers_of(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

/// A copy of an object without its managers, which are often the larger half of it.
fn without_managers(object: &Value) -> Value {
    let Value::Object(members) = object else { return object.clone() };
    let copy = |(name, value): (&String, &Value)| match value {
        Value::Object(metadata) if name == "metadata" => {
            let kept = metadata.iter().filter(|(name, _)| *name != "managedFields");
            let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
            (name.clone(), Value::Object(kept.collect()))
        }
        _ => (name.clone(), value.clone()),
    };
    Value::Object(members.iter().map(copy).collect())
}

/// Whether two objects are equal but for the times in their `managedFields`: such a write is to be left out.
pub fn only_times_differ(a: &Value, b: &Value) -> bool {
    let decode = |object: &Value| Tracked::decode(managers_of(object));
    let (Ok(a_tracked), Ok(b_tracked)) = (decode(a), decode(b)) else { return a == b };
    a_tracked.managers == b_tracked.managers && same_but_managers(a, b)
}

/// Leaves the new object without `managedFields` and returns what to write there, and what there was.
fn try_update(
    live: Option<&Value>,
    object: &mut Value,
    request: &Request,
) -> Result<(Tracked, Tracked), Error> {
    let of_live = Tracked::decode(live.and_then(managers_of)).unwrap_or_default();
    let sent = managers_of(object);
    let mut tracked = if !request.subresource.is_empty() {
        of_live.clone()
    } else if entries::is_reset(sent) {
        Tracked::default()
    } else {
        // A client that knows nothing of managedFields, or sends nonsense, does not delete them.
        match Tracked::decode(sent) {
            Ok(sent) if !sent.managers.is_empty() => sent,
            _ => of_live.clone(),
        }
    };
    clear(object);
    if tracked.managers.is_empty() && live.is_some() {
        return Ok((tracked, of_live));
    }
    let live_object = live.map_or_else(|| empty_object(request), without_managers);
    // Lent, and given back whatever comes of it.
    let new = Arc::new(object.take());
    let recorded = record(new.clone(), live_object, &mut tracked, request);
    *object = Arc::unwrap_or_clone(new);
    recorded?;
    cap::cap(&mut tracked);
    Ok((tracked, of_live))
}

fn record(new: Arc<Value>, live: Value, tracked: &mut Tracked, request: &Request) -> Result<(), Error> {
    let new = parse(new, Duplicates::Allowed, "new", request)?;
    let live = parse(Arc::new(live), Duplicates::Allowed, "live", request)?;
    record_update(&live, &new, tracked, request)
}

/// What `update` does to the managers.
fn record_update(live: &Typed, new: &Typed, tracked: &mut Tracked, request: &Request) -> Result<(), Error> {
    // What is written now is first owned by nobody known, so that the manager's own earlier fields are treated as
    // everybody's: those it removes are lost.
    let current = Manager { name: "current-operation".into(), ..Manager::default() };
    let ignored = ignored(tracked, request);
    let updater = Updater { converter: request.converter, ignored: &ignored };
    tracked.managers = updater.update(live, new, &tracked.managers, &current).map_err(conflict::error)?;
    strip(tracked, &current);
    if let Some(mut owned) = tracked.managers.remove(&current) {
        let manager = Manager::new(request, Operation::Update);
        if let Some(before) = tracked.managers.get(&manager) {
            owned.set.extend(&before.set);
        }
        tracked.managers.insert(manager.clone(), owned);
        tracked.times.insert(manager, request.time.to_owned());
    }
    Ok(())
}

type Applied = (Option<Typed>, crate::update::Managers<Manager>);

/// Applies; where `kubectl` meets conflicts with what it wrote by client-side apply, it takes those fields over.
fn apply_or_migrate(
    live: &Typed,
    config: &Typed,
    tracked: &Tracked,
    manager: &Manager,
    force: bool,
    request: &Request,
) -> Result<Applied, Error> {
    let ignored = ignored(tracked, request);
    let updater = Updater { converter: request.converter, ignored: &ignored };
    let result = updater.apply(live, config, &tracked.managers, manager, force);
    let conflicts = match result {
        Err(crate::update::Error::Conflicts(conflicts)) if request.manager == last_applied::MANAGER => {
            conflicts
        }
        other => return other.map_err(conflict::error),
    };
    let allowed = last_applied::unchanged_fields(live, request);
    let left: Vec<_> = conflicts
        .into_iter()
        .filter(|conflict| !allowed.as_ref().is_some_and(|allowed| allowed.has(&conflict.path.0)))
        .collect();
    if !left.is_empty() {
        return Err(conflict::error(crate::update::Error::Conflicts(left)));
    }
    updater.apply(live, config, &tracked.managers, manager, true).map_err(conflict::error)
}

fn check_config(config: &Value, request: &Request) -> Result<(), Error> {
    let version = config.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version != request.api_version {
        return Err(Error::BadRequest(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            request.api_version
        )));
    }
    match config.pointer("/metadata/managedFields") {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(Error::BadRequest("metadata.managedFields must be nil".into())),
    }
}

fn parse(value: Arc<Value>, duplicates: Duplicates, what: &str, request: &Request) -> Result<Typed, Error> {
    Typed::parse(value.clone(), request.schema, request.api_version, duplicates).map_err(|error| {
        Error::Internal(format!("failed to create typed {what} object ({}): {error}", full_name(&value)))
    })
}

/// `default/web; apps/v1, Kind=Deployment`; a version without a group is written `/v1`.
fn full_name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let version = text("/apiVersion");
    let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
    format!("{}/{}; {}, Kind={}", text("/metadata/namespace"), text("/metadata/name"), version, text("/kind"))
}

fn empty_object(request: &Request) -> Value {
    request.empty.cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()))
}

/// The reset fields, for the version of the request and those of all managers: they are the same in each.
fn ignored(tracked: &Tracked, request: &Request) -> BTreeMap<Arc<str>, Ignored> {
    let Some(set) = request.reset_fields else { return BTreeMap::new() };
    let versions = tracked.managers.values().map(|owned| owned.version.clone());
    versions
        .chain([request.api_version.into()])
        .map(|version| (version, Ignored::Fields(set.clone())))
        .collect()
}

/// What the server decides, or what names the object, belongs to nobody.
static STRIPPED: LazyLock<Set> = LazyLock::new(|| {
    let of_object = [&["apiVersion"][..], &["kind"], &["metadata"]];
    let of_metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    of_object
        .iter()
        .map(|names| Path::fields(names.iter().copied()))
        .chain(of_metadata.iter().map(|name| Path::fields(["metadata", name])))
        .collect()
});

fn strip(tracked: &mut Tracked, manager: &Manager) {
    let Some(mut owned) = tracked.managers.remove(manager) else { return };
    owned.set = owned.set.difference(&STRIPPED);
    if !owned.set.is_empty() {
        tracked.managers.insert(manager.clone(), owned);
    }
}

/// Writes the managers into the object; the ones of `live` as they stand there if only times would change.
fn finish(mut object: Value, tracked: &Tracked, before: &Tracked, live: Option<&Value>) -> Value {
    if let Some(live) = live
        && tracked.managers == before.managers
        && same_but_managers(&object, live)
    {
        return live.clone();
    }
    entries::write(&mut object, tracked);
    object
}

fn same_but_managers(a: &Value, b: &Value) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return a == b };
    let metadata_less = |name: &&String| *name != "metadata";
    let rest = a.keys().filter(metadata_less).count() == b.keys().filter(metadata_less).count()
        && a.iter().filter(|(name, _)| metadata_less(name)).all(|(name, value)| b.get(name) == Some(value));
    let metadata = |object: &serde_json::Map<String, Value>| {
        let mut metadata = object.get("metadata").cloned().unwrap_or_default();
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.remove("managedFields");
        }
        metadata
    };
    rest && metadata(a) == metadata(b)
}
