//! create, update and patch: one path for every kind.
//!
//! Order as upstream: read, default, track managed fields, fill in what the server decides, validate, store. The
//! store compares revisions, so a change in between makes the write start again.

mod create;
mod patch;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::admission;
use crate::admission::attributes::{Attributes, Operation};
use crate::codec::{self, FieldValidation};
use crate::kinds::Kind;
use crate::request::Query;
use crate::schema::decode;
use crate::server::Server;
use crate::status::{ApiError, Cause};
use crate::store::{Change, Draft, Key, Object, StoreError, View, Written};
use crate::strategy;
use crate::subresource::Door;
use crate::user::User;

/// Times a write starts again because another one was faster.
const RETRIES_MAX: usize = 5;
/// Names tried for `generateName`.
const GENERATED_NAMES_MAX: usize = 8;
/// Characters of a generated suffix.
const SUFFIX_LEN: usize = 5;
/// A generated name keeps so much of its base.
const GENERATED_BASE_LEN_MAX: usize = 63 - SUFFIX_LEN;
/// Bytes of a stored object.
const OBJECT_BYTES_MAX: usize = 1_572_864;
/// Bytes of a field manager's name.
const MANAGER_LEN_MAX: usize = 128;

/// What all writes have in common.
pub(crate) struct Request<'a> {
    pub server: &'a Arc<Server>,
    pub kind: Arc<Kind>,
    pub key: Key,
    pub query: &'a Query,
    pub user: &'a User,
    pub manager: String,
    pub dry_run: bool,
    pub validation: FieldValidation,
    pub warnings: Vec<String>,
    pub door: Door,
    /// `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub options: &'static str,
    /// Whether policies and webhooks are asked; not where the caller has asked already.
    pub hooks: bool,
}

/// The query as an object such as `CreateOptions`.
pub(crate) fn options_value(kind: &str, query: &Query) -> Value {
    let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
    for name in ["fieldManager", "fieldValidation"] {
        if !query.get(name).is_empty() {
            options[name] = query.get(name).into();
        }
    }
    if query.all("dryRun").any(|word| word == "All") {
        options["dryRun"] = json!(["All"]);
    }
    if query.has("force") {
        options["force"] = query.flag("force").into();
    }
    options
}

/// The outcome of a write.
pub(crate) struct Outcome {
    pub created: bool,
    /// Whether an update has moved the generation.
    pub bumped: bool,
    pub object: Value,
    /// The same as it was stored, if it was.
    pub stored: Option<Arc<Object>>,
}

/// Why a write did not happen.
pub(crate) enum Failure {
    Api(ApiError),
    /// Somebody else was faster.
    Retry,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Api(error.into())
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure::Api(error)
    }
}

pub(crate) fn now() -> String {
    decode::seconds(crate::clock::now())
}

/// Checks `dryRun`, `fieldManager` and `fieldValidation` of an options object such as `CreateOptions`.
pub(crate) fn check_options(query: &Query, options: &str) -> Result<(bool, FieldValidation), ApiError> {
    let mut causes = Vec::new();
    let manager = query.get("fieldManager");
    if manager.len() > MANAGER_LEN_MAX {
        causes.push(Cause::too_long("fieldManager", MANAGER_LEN_MAX));
    }
    for (at, c) in manager.chars().enumerate() {
        if c.is_control() {
            let text = format!("invalid character U+{:04X} (at position {at})", c as u32);
            causes.push(Cause::invalid("fieldManager", &manager.into(), &text));
        }
    }
    let dry_runs: Vec<&str> = query.all("dryRun").filter(|value| !value.is_empty()).collect();
    for value in &dry_runs {
        if *value != "All" {
            causes.push(Cause::not_supported("dryRun", &json!([value]), &["All"]));
        }
    }
    if !causes.is_empty() {
        return Err(ApiError::invalid(options, "meta.k8s.io", "", causes));
    }
    Ok((!dry_runs.is_empty(), FieldValidation::read(query.get("fieldValidation"), options)?))
}

impl Request<'_> {
    fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.kind.plural, &self.kind.group, &self.key.name)
    }

    fn invalid(&self, name: &str, causes: Vec<Cause>) -> ApiError {
        ApiError::invalid(&self.kind.kind, &self.kind.group, name, causes)
    }

    /// Unknown and duplicate fields become an error, warnings or nothing.
    fn report(&mut self, problems: Vec<String>) -> Result<(), ApiError> {
        match self.validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => self.warnings.extend(problems),
            FieldValidation::Strict if problems.is_empty() => {}
            FieldValidation::Strict => {
                let text = format!("strict decoding error: {}", problems.join(", "));
                return Err(codec::cannot_handle(&self.kind, &text));
            }
        }
        Ok(())
    }

    fn check_type(&self, object: &Value) -> Result<(), ApiError> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let wrong_kind = !kind.is_empty() && kind != self.kind.kind;
        if wrong_kind || !api_version.is_empty() && api_version != self.kind.api_version() {
            let (group, version) = crate::kinds::split_api_version(api_version);
            let shown = |group: &str, version: &str, kind: &str| {
                format!(
                    "{}, Kind={kind}",
                    if group.is_empty() { format!("/{version}") } else { format!("{group}/{version}") }
                )
            };
            if self.kind.is_custom() || !wrong_kind {
                return Err(ApiError::bad_request(format!(
                    "the API version in the data ({api_version}) does not match the expected API version ({})",
                    self.kind.api_version()
                )));
            }
            return Err(ApiError::bad_request(format!(
                "{kind} in version {} cannot be handled as a {}: converting ({}) to ({}): unknown conversion",
                crate::status::quote(version),
                self.kind.kind,
                shown(group, version, kind),
                shown(&self.kind.group, &self.kind.version, &self.kind.kind),
            )));
        }
        Ok(())
    }

    /// The namespace of the body must be that of the path.
    fn check_namespace(&self, object: &mut Value) -> Result<(), ApiError> {
        let meta = &mut object["metadata"];
        if !self.kind.namespaced {
            if let Some(meta) = meta.as_object_mut() {
                meta.remove("namespace");
            }
            return Ok(());
        }
        match meta["namespace"].as_str().unwrap_or_default() {
            "" => meta["namespace"] = (*self.key.namespace).into(),
            namespace if *namespace == *self.key.namespace => {}
            _ => {
                let text =
                    "the namespace of the provided object does not match the namespace sent on the request";
                return Err(ApiError::bad_request(text));
            }
        }
        Ok(())
    }

    /// An owner that is named twice is named once, with a warning.
    fn owners_once(&mut self, object: &mut Value) {
        let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() else { return };
        let mut kept: Vec<Value> = Vec::new();
        let mut twice: Vec<String> = Vec::new();
        for owner in owners.drain(..) {
            let uid = owner["uid"].as_str().unwrap_or_default().to_owned();
            if kept.contains(&owner) {
                if !twice.contains(&uid) {
                    twice.push(uid);
                }
            } else {
                kept.push(owner);
            }
        }
        *owners = kept;
        if !twice.is_empty() {
            self.warnings.push(format!(
                ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
                twice.join(", ")
            ));
        }
    }

    /// Unknown fields of a custom resource are noted and go, and defaults come.
    fn prune(&mut self, object: &mut Value) -> Result<Vec<String>, ApiError> {
        let Some(custom) = self.kind.custom.clone() else { return Ok(Vec::new()) };
        let mut unknown = Vec::new();
        custom.schema.prune(object, true, &mut unknown);
        unknown.sort();
        Ok(unknown.into_iter().map(|path| format!("unknown field \"{path}\"")).collect())
    }

    /// Everything between reading and managed fields.
    fn defaulted(&self, object: &mut Value) {
        if let Some(custom) = &self.kind.custom {
            crate::crd::structural::drop_nulls(&custom.schema, object);
            custom.schema.set_defaults(object);
            codec::normalize_request(&self.kind, object);
        } else {
            // What a type always holds is there before its own defaults are set.
            codec::normalize_request(&self.kind, object);
            if strategy::defaults(&self.kind, object) {
                codec::normalize_request(&self.kind, object);
            }
        }
        codec::set_type(object, &self.kind);
    }

    fn managed<'r>(
        &'r self,
        time: &'r str,
        reset: Option<&'r dodai_merge::fields::Set>,
    ) -> dodai_merge::managed::Request<'r> {
        let (schema, empty) = match &self.kind.custom {
            Some(custom) => (&custom.merge, None),
            None => {
                let info = self.kind.info().expect("a built-in kind has a type");
                (&info.merge, Some(&info.empty))
            }
        };
        dodai_merge::managed::Request {
            schema,
            api_version: self.server.api_version_of(&self.kind),
            subresource: self.door.name(),
            manager: &self.manager,
            time,
            reset_fields: reset,
            empty,
            converter: &dodai_merge::update::SameInAllVersions,
        }
    }

    fn track(&self, live: Option<&Value>, object: Value) -> Value {
        let time = now();
        let reset = strategy::reset_fields(&self.kind, &self.door);
        let custom = self.kind.is_custom();
        let tracked = dodai_merge::managed::update(live, object, &self.managed(&time, reset.as_ref()));
        debug_assert!(custom || tracked.is_object());
        tracked
    }

    /// Stores under the condition that nothing has changed since `seen`.
    async fn store(
        &self,
        seen: Option<&Arc<Object>>,
        change: Change,
        check: impl FnOnce(&View<'_>) -> Result<(), ApiError>,
    ) -> Result<Written, Failure> {
        self.server
            .store
            .write(&self.key, |current, view| {
                if current.map(|object| object.revision) != seen.map(|object| object.revision) {
                    return Err(Failure::Retry);
                }
                check(view)?;
                Ok(change)
            })
            .await
    }

    /// An object on its way into the store.
    fn draft(&self, object: &Value) -> Result<Draft, ApiError> {
        let draft = codec::draft(&self.kind, object);
        if draft.text_bytes() > OBJECT_BYTES_MAX {
            let text =
                format!("etcdserver: request is too large (an object may have {OBJECT_BYTES_MAX} bytes)");
            return Err(ApiError::too_large(text));
        }
        Ok(draft)
    }

    /// An update or apply that would create needs that right, too.
    fn may_create(&self) -> Result<(), ApiError> {
        let attributes = crate::request::Attributes {
            verb: "create".into(),
            group: self.kind.group.clone(),
            resource: self.kind.plural.clone(),
            namespace: self.key.namespace.to_string(),
            name: self.key.name.to_string(),
            ..Default::default()
        };
        crate::authorize::authorize(self.server, self.user, &attributes)
    }

    /// Nobody writes roles or bindings that give more than he has.
    fn check_grants(&self, old: Option<&Value>, object: &Value) -> Result<(), ApiError> {
        let namespace = &self.key.namespace;
        crate::rbac::escalation::check(self.server, self.user, &self.kind, namespace, old, object)
    }

    /// The object as mutating policies and webhooks leave it.
    async fn mutated(
        &mut self,
        operation: Operation,
        old: Option<&Value>,
        object: Value,
    ) -> Result<Value, ApiError> {
        if !self.hooks || !admission::has_hooks(self.server) {
            return Ok(object);
        }
        let attributes = self.attributes(operation, old, &object);
        let (changed, warnings) = admission::mutate_by_hooks(&attributes).await?;
        self.warnings.extend(warnings);
        let Some(changed) = changed else { return Ok(object) };
        let mut object = codec::decode_value(&self.kind, changed, false)
            .map_err(|detail| codec::cannot_handle(&self.kind, &detail))?
            .value;
        self.prune(&mut object)?;
        self.defaulted(&mut object);
        if operation == Operation::Create {
            // What was added gets what the server's own plugins give, such as the token of an injected container.
            admission::mutate(self, &mut object).await?;
        }
        Ok(object)
    }

    /// Asks the policies and webhooks that only agree or refuse.
    async fn hooks_agree(
        &mut self,
        operation: Operation,
        old: Option<&Value>,
        object: &Value,
    ) -> Result<(), ApiError> {
        if self.hooks && admission::has_hooks(self.server) {
            let warnings = admission::validate_by_hooks(&self.attributes(operation, old, object)).await?;
            self.warnings.extend(warnings);
        }
        Ok(())
    }

    fn attributes<'r>(
        &'r self,
        operation: Operation,
        old: Option<&'r Value>,
        object: &'r Value,
    ) -> Attributes<'r> {
        let name = match old {
            Some(_) => self.key.name.to_string(),
            None => name_of(object),
        };
        Attributes {
            server: self.server,
            user: self.user,
            operation,
            kind: &self.kind,
            subresource: self.door.name(),
            namespace: match (self.kind.is("", "namespaces"), old) {
                (true, Some(_)) => &self.key.name,
                _ => &self.key.namespace,
            },
            name,
            object: Some(object),
            old,
            dry_run: self.dry_run,
            options: options_value(self.options, self.query),
        }
    }

    /// The object of a POST or PUT; what is wrong with its fields is refused or told, as was asked for.
    fn read(&mut self, body: &[u8]) -> Result<Value, ApiError> {
        let decoded = codec::decode(&self.kind, body)?;
        let mut object = decoded.value;
        let mut problems = decoded.problems;
        self.check_type(&object)?;
        problems.extend(self.prune(&mut object)?);
        self.report(problems)?;
        self.owners_once(&mut object);
        Ok(object)
    }

    /// PUT.
    pub(crate) async fn update(&mut self, body: &[u8]) -> Result<Outcome, ApiError> {
        let mut object = self.read(body)?;
        self.check_namespace(&mut object)?;
        self.check_name(&object)?;
        self.defaulted(&mut object);
        for _ in 0..=RETRIES_MAX {
            let Some(seen) = self.server.store.get_head(&self.key) else {
                if strategy::creates_on_update(&self.kind) && matches!(self.door, Door::Main | Door::Status) {
                    self.may_create()?;
                    return self.create_object(object, None, true).await;
                }
                return Err(self.not_found());
            };
            codec::check_open(&seen)?;
            match self.replace(&seen, object.clone(), true).await {
                Err(Failure::Retry) => continue,
                Err(Failure::Api(error)) => return Err(error),
                Ok(outcome) => {
                    self.warnings.extend(admission::warnings(self, &outcome.object));
                    return Ok(outcome);
                }
            }
        }
        Err(ApiError::modified(&self.kind.plural, &self.kind.group, &self.key.name))
    }

    /// Updates to an object that was read from the store and changed. `newest`: whether a change in between is fine.
    pub(crate) async fn update_tree(&mut self, mut object: Value, newest: bool) -> Result<Outcome, ApiError> {
        self.defaulted(&mut object);
        let Some(seen) = self.server.store.get_head(&self.key) else {
            return Err(self.not_found());
        };
        codec::check_open(&seen)?;
        if newest {
            object["metadata"]["resourceVersion"] = seen.revision.to_string().into();
        }
        match self.replace(&seen, object, true).await {
            Err(Failure::Retry) => {
                Err(ApiError::modified(&self.kind.plural, &self.kind.group, &self.key.name))
            }
            Err(Failure::Api(error)) => Err(error),
            Ok(outcome) => Ok(outcome),
        }
    }

    fn check_name(&self, object: &Value) -> Result<(), ApiError> {
        match object["metadata"]["name"].as_str().unwrap_or_default() {
            "" => Err(ApiError::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                self.key.name
            ))),
            name if *name == *self.key.name => Ok(()),
            name => Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.key.name
            ))),
        }
    }

    /// Puts `object` in the place of `seen`. `track`: whether ownership of fields is still to be worked out.
    async fn replace(&mut self, seen: &Arc<Object>, object: Value, track: bool) -> Result<Outcome, Failure> {
        let kind = &self.kind.clone();
        let old = codec::load(kind, seen);
        let mut object = if track { self.track(Some(&old), object) } else { object };
        self.check_revision(&old, &object, seen)?;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        if !uid.is_empty() && uid != &*seen.uid {
            let text =
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", seen.uid);
            if track && self.query.get("patch").is_empty() {
                return Err(ApiError::conflict(&kind.plural, &kind.group, &self.key.name, &text).into());
            }
        }
        object = self.mutated(Operation::Update, Some(&old), object).await?;
        self.prepare_update(&old, &mut object);
        let release = self.allocate(Some(&old), &mut object)?;
        codec::normalize(kind, &mut object);
        codec::set_type(&mut object, kind);
        self.validate_update(&old, &object)?;
        self.check_grants(Some(&old), &object)?;
        self.hooks_agree(Operation::Update, Some(&old), &object).await?;
        if same_but_times(&old, &object) {
            self.server.store.settle().await?;
            return Ok(Outcome { created: false, bumped: false, object: old, stored: None });
        }
        let bumped = old["metadata"]["generation"] != object["metadata"]["generation"];
        let meta = &object["metadata"];
        let gone = !meta["deletionTimestamp"].is_null()
            && meta["finalizers"].as_array().is_none_or(Vec::is_empty)
            && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
            && !strategy::waits_for_finalize(kind, &object);
        let draft = self.draft(&object)?;
        if self.dry_run {
            admission::validate(self, Some(&old), &object).await?;
            object["metadata"]["resourceVersion"] = seen.revision.to_string().into();
            return Ok(Outcome { created: false, bumped, object, stored: None });
        }
        // The last state that watchers see is the last one that was stored.
        let charge = admission::validate(self, Some(&old), &object).await?;
        let change = if gone { Change::Delete(seen.value()) } else { Change::PutDraft(draft) };
        let written = match self.store(Some(seen), change, |_| Ok(())).await {
            Ok(written) => written,
            Err(failure) => {
                charge.give_back(self.server).await;
                return Err(failure);
            }
        };
        release.keep();
        if gone {
            self.server.after_delete(kind);
            object["metadata"]["resourceVersion"] = seen.revision.to_string().into();
            return Ok(Outcome { created: false, bumped, object, stored: None });
        }
        if let Some(stored) = &written.object {
            codec::as_stored(kind, &mut object, stored);
        }
        Ok(Outcome { created: false, bumped, object, stored: written.object })
    }

    fn check_revision(&self, _old: &Value, object: &Value, seen: &Object) -> Result<(), ApiError> {
        let kind = &self.kind;
        match object["metadata"]["resourceVersion"].as_str().unwrap_or_default() {
            "" | "0" if strategy::unconditional_update(kind) => Ok(()),
            "" | "0" => {
                let cause =
                    Cause::invalid("metadata.resourceVersion", &0.into(), "must be specified for an update");
                Err(ApiError::invalid(&kind.plural, &kind.group, &self.key.name, vec![cause]))
            }
            text => match text.parse::<u64>() {
                Ok(revision) if revision == seen.revision => Ok(()),
                Ok(_) => Err(ApiError::modified(&kind.plural, &kind.group, &self.key.name)),
                Err(_) => Err(self.invalid(
                    &self.key.name,
                    vec![Cause::invalid(
                        "metadata.resourceVersion",
                        &text.into(),
                        &format!("strconv.ParseUint: parsing {}: invalid syntax", crate::status::quote(text)),
                    )],
                )),
            },
        }
    }

    /// Keeps what an update cannot change, and moves the generation.
    fn prepare_update(&self, old: &Value, object: &mut Value) {
        for field in
            ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"]
        {
            copy_or_remove(&old["metadata"], &mut object["metadata"], field);
        }
        if object["metadata"]["uid"].as_str().unwrap_or_default().is_empty() {
            copy_or_remove(&old["metadata"], &mut object["metadata"], "uid");
        }
        // The name a create asked for stays.
        if object["metadata"]["generateName"].is_null() {
            copy_or_remove(&old["metadata"], &mut object["metadata"], "generateName");
        }
        strategy::prepare_update(&self.kind, &self.door, old, object);
        if strategy::has_generation(&self.kind) && strategy::spec_changed(&self.kind, old, object) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            object["metadata"]["generation"] = (generation + 1).into();
        }
    }

    fn validate_update(&self, old: &Value, object: &Value) -> Result<(), ApiError> {
        let name = name_of(object);
        let mut causes = Vec::new();
        crate::validate::metadata_update(&self.kind, old, object, &mut causes);
        strategy::validate_update(&self.kind, &self.door, old, object, &mut causes);
        if let Some(custom) = &self.kind.custom {
            custom.validate(Some(old), object, self.door == Door::Status, &mut causes);
        }
        if causes.is_empty() { Ok(()) } else { Err(self.invalid(&name, causes)) }
    }

    fn allocate(
        &self,
        old: Option<&Value>,
        object: &mut Value,
    ) -> Result<crate::allocate::Release, ApiError> {
        if !self.kind.is("", "services") || !self.door.is_main() {
            return Ok(crate::allocate::Release::default());
        }
        crate::allocate::service(self.server, old, object, self.dry_run)
            .map_err(|causes| self.invalid(&name_of(object), causes))
    }
}

pub(crate) fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Copies a field, or removes it where the source has none.
pub(crate) fn copy_or_remove(from: &Value, to: &mut Value, field: &str) {
    match from.get(field) {
        Some(value) => to[field] = value.clone(),
        None => {
            to.as_object_mut().map(|map| map.remove(field));
        }
    }
}

/// A name from a base: five characters that make no words.
pub(crate) fn generate(base: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut end = base.len().min(GENERATED_BASE_LEN_MAX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    for _ in 0..SUFFIX_LEN {
        name.push(char::from(ALPHABET[fastrand::usize(..ALPHABET.len())]));
    }
    name
}

/// Whether nothing has changed but the times in managedFields (and the revision, which the store sets).
fn same_but_times(old: &Value, new: &Value) -> bool {
    let same_entry = |old: &Value, new: &Value| same_members(old, new, "time", |_, old, new| old == new);
    let same_meta = |name: &str, old: &Value, new: &Value| match (name, old, new) {
        ("managedFields", Value::Array(old), Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same_entry(old, new))
        }
        _ => old == new,
    };
    same_members(old, new, "", |name, old, new| match name {
        "metadata" => same_members(old, new, "resourceVersion", same_meta),
        _ => old == new,
    })
}

/// Whether two objects have the same members, one left out, as `same` says.
fn same_members(
    old: &Value,
    new: &Value,
    left_out: &str,
    same: impl Fn(&str, &Value, &Value) -> bool,
) -> bool {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return old == new };
    let count = |members: &Map<String, Value>| members.len() - usize::from(members.contains_key(left_out));
    count(old) == count(new)
        && old.iter().all(|(name, value)| {
            name == left_out || new.get(name).is_some_and(|other| same(name, value, other))
        })
}
