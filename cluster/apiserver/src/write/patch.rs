//! Patches of all four kinds, up to the point where they are an update like any other.

use serde_json::{Value, json};

use super::{Failure, Outcome, RETRIES_MAX, Request, now};
use crate::codec::{self, FieldValidation};
use crate::patch::{Patch, PatchKind};
use crate::status::{ApiError, Cause};
use crate::store::Object;
use crate::strategy;
use crate::subresource::Door;

impl Request<'_> {
    /// PATCH.
    pub(crate) async fn patch(&mut self, patch: &Patch) -> Result<Outcome, ApiError> {
        if patch.kind == PatchKind::Strategic && self.kind.is_custom() {
            return Err(ApiError::unsupported_media(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            ]));
        }
        let mut last = None;
        for attempt in 0..=RETRIES_MAX {
            let seen = self.server.store.get_head(&self.key);
            seen.iter().try_for_each(|seen| codec::check_open(seen))?;
            let result = match (&seen, patch.kind) {
                (None, PatchKind::Apply)
                    if self.door.is_main()
                        || self.door == Door::Status && strategy::creates_on_update(&self.kind) =>
                {
                    self.may_create()?;
                    let object = self.apply(None, patch)?;
                    match self.create_object(object, Some(&patch.value), false).await {
                        // Somebody created it in between: apply to that.
                        Err(error) if error.reason == "AlreadyExists" && attempt < RETRIES_MAX => continue,
                        other => return other,
                    }
                }
                (None, _) => return Err(self.not_found()),
                (Some(seen), PatchKind::Apply) => {
                    let old = codec::load(&self.kind, seen);
                    let object = self.apply(Some(&old), patch)?;
                    self.replace(seen, object, false).await
                }
                (Some(seen), _) => {
                    let object = self.patched(seen, patch)?;
                    self.replace(seen, object, true).await
                }
            };
            match result {
                Ok(outcome) => {
                    self.warnings.extend(crate::admission::warnings(self, &outcome.object));
                    return Ok(outcome);
                }
                Err(Failure::Api(error)) => return Err(error),
                Err(Failure::Retry) => last = Some(()),
            }
            // Warnings belong to the last attempt only.
            self.warnings.clear();
        }
        debug_assert!(last.is_some());
        Err(ApiError::modified(&self.kind.plural, &self.kind.group, &self.key.name))
    }

    /// The object after a JSON, merge or strategic patch.
    fn patched(&mut self, seen: &Object, patch: &Patch) -> Result<Value, ApiError> {
        let old = codec::load(&self.kind, seen);
        let changed = match patch.kind {
            PatchKind::Strategic => {
                let schema = &crate::schema::builtin(self.kind.schema.as_deref().unwrap_or_default()).merge;
                dodai_merge::strategic::patch(&old, &patch.value, schema).map_err(|error| match error {
                    // Upstream has no reason for this one.
                    dodai_merge::strategic::Error::NoMergeKey { .. } => ApiError::plain(error.to_string()),
                    other => ApiError::bad_request(other.to_string()),
                })?
            }
            _ => patch.apply_plain(&old)?,
        };
        let wrong = |detail: &str| {
            let shown = Value::String(patch.text.clone());
            ApiError::invalid("", "", "", vec![Cause::invalid("patch", &shown, detail)])
        };
        if changed["kind"] != old["kind"] || changed["apiVersion"] != old["apiVersion"] {
            return Err(wrong("a patch may not change kind or apiVersion"));
        }
        let typed = patch.kind == PatchKind::Strategic;
        let decoded = codec::decode_value(&self.kind, changed, typed).map_err(|detail| wrong(&detail))?;
        let mut object = decoded.value;
        let mut problems: Vec<String> = patch.problems.clone();
        problems.extend(decoded.problems);
        problems.extend(self.prune(&mut object)?);
        if self.validation == FieldValidation::Strict && !problems.is_empty() {
            return Err(wrong(&format!("strict decoding error: {}", problems.join(", "))));
        }
        self.report(problems)?;
        self.check_namespace(&mut object)?;
        self.check_name(&object)?;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        if !uid.is_empty() && uid != &*seen.uid {
            let cause = Cause::invalid("metadata.uid", &uid.into(), "field is immutable");
            return Err(self.invalid(&self.key.name, vec![cause]));
        }
        self.defaulted(&mut object);
        if object["metadata"]["resourceVersion"].is_null() {
            object["metadata"]["resourceVersion"] = seen.revision.to_string().into();
        }
        Ok(object)
    }

    /// The object after a server-side apply, with its managed fields.
    fn apply(&mut self, live: Option<&Value>, patch: &Patch) -> Result<Value, ApiError> {
        let mut config = patch.value.clone();
        if !config["metadata"].is_object() {
            config["metadata"] = json!({});
        }
        self.check_applied(&config)?;
        let mut unknown = patch.problems.clone();
        if self.kind.is_custom() {
            unknown.extend(self.prune(&mut config)?);
        }
        self.report(unknown)?;
        let time = now();
        let reset = strategy::reset_fields(&self.kind, &self.door);
        let request = self.managed(&time, reset.as_ref());
        let merged = dodai_merge::managed::apply(live, &config, self.query.flag("force"), &request).map_err(
            |error| match error {
                dodai_merge::managed::Error::Conflicts { message, conflicts } => {
                    let mut error = ApiError::new(409, "Conflict", message);
                    error.details.get_or_insert_default().causes = conflicts
                        .into_iter()
                        .map(|conflict| Cause {
                            reason: "FieldManagerConflict",
                            field: conflict.field,
                            message: conflict.message,
                        })
                        .collect();
                    error
                }
                dodai_merge::managed::Error::BadRequest(text) => ApiError::bad_request(text),
                dodai_merge::managed::Error::Internal(text) => ApiError::plain(text),
            },
        )?;
        let decoded = codec::decode_value(&self.kind, merged, true).map_err(|detail| {
            let (group, kind) = (&self.kind.group, &self.kind.kind);
            ApiError::plain(format!(
                "failed to convert new object ({}) to proper version: unable to convert unstructured object to {group}/{}, Kind={kind}: {detail}",
                named(&config),
                self.kind.version
            ))
        })?;
        let mut object = decoded.value;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        if live.is_none() && !uid.is_empty() {
            let text = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(ApiError::conflict(&self.kind.plural, &self.kind.group, &self.key.name, &text));
        }
        if object["metadata"]["name"].as_str().unwrap_or_default().is_empty() {
            self.check_name(&object)?;
        }
        self.prune(&mut object)?;
        self.check_namespace(&mut object)?;
        self.defaulted(&mut object);
        Ok(object)
    }

    fn check_applied(&self, config: &Value) -> Result<(), ApiError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, api_version) = (text(&config["kind"]), text(&config["apiVersion"]));
        if kind.is_empty() || api_version.is_empty() {
            return Err(ApiError::bad_request("invalid object type: /, Kind=".to_owned()));
        }
        if kind != self.kind.kind || api_version != self.kind.api_version() {
            return Err(ApiError::bad_request(format!(
                "the applied configuration is a {kind} in {api_version}, the endpoint serves {} in {}",
                self.kind.kind,
                self.kind.api_version()
            )));
        }
        let meta = &config["metadata"];
        if meta.get("managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let name = text(&meta["name"]);
        if !name.is_empty() && name != *self.key.name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.key.name
            )));
        }
        let namespace = text(&meta["namespace"]);
        if !namespace.is_empty() && namespace != *self.key.namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(())
    }
}

/// `default/web; apps/v1, Kind=Deployment`; a version without a group is written `/v1`.
fn named(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = crate::kinds::split_api_version(text("/apiVersion"));
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    format!("{namespace}/{name}; {group}/{version}, Kind={}", text("/kind"))
}
