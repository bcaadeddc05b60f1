//! Creation, of what was sent and of what an apply or an update did not find.

use std::sync::Arc;

use serde_json::Value;

use super::{Failure, GENERATED_NAMES_MAX, Outcome, Request, generate, name_of, now};
use crate::admission;
use crate::admission::attributes::Operation;
use crate::codec;
use crate::status::ApiError;
use crate::store::{Change, Object, View};
use crate::strategy;

impl Request<'_> {
    /// POST.
    pub(crate) async fn create(&mut self, body: &[u8]) -> Result<Outcome, ApiError> {
        let mut object = self.read(body)?;
        // What only the server says is forgotten before anybody comes to own it.
        for field in
            ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"]
        {
            object["metadata"].as_object_mut().map(|meta| meta.remove(field));
        }
        self.create_object(object, None, false).await
    }

    /// Creates an object that is read already. `applied` is the wish of a server-side apply; `by_update`: a PUT found none.
    pub(crate) async fn create_object(
        &mut self,
        mut object: Value,
        applied: Option<&Value>,
        by_update: bool,
    ) -> Result<Outcome, ApiError> {
        self.check_namespace(&mut object)?;
        let versioned = object["metadata"]["resourceVersion"].as_str().is_some_and(|text| !text.is_empty());
        // A Job without labels shares those of its template, with what the server adds to them.
        let labels = &object["metadata"]["labels"];
        let shares_labels = self.kind.is("batch", "jobs")
            && labels.as_object().is_none_or(|labels| labels.is_empty())
            && object["spec"]["template"]["metadata"]["labels"].is_object();
        self.defaulted(&mut object);
        if applied.is_none() {
            object = self.track(None, object);
        }
        if self.kind.namespaced {
            admission::namespace_exists(self.server, &self.kind, &self.key.namespace, &name_of(&object))?;
        }
        admission::mutate(self, &mut object).await?;
        object = self.mutated(Operation::Create, None, object).await?;
        let generated = object["metadata"]["generateName"].is_string() && applied.is_none();
        for attempt in 0..GENERATED_NAMES_MAX {
            // Only a name of the server's own is tried more than once.
            let mut object = if generated { object.clone() } else { object.take() };
            self.prepare_create(&mut object)?;
            if shares_labels {
                object["metadata"]["labels"] = object["spec"]["template"]["metadata"]["labels"].clone();
            }
            let name = name_of(&object);
            self.key.name = name.as_str().into();
            let release = self.allocate(None, &mut object)?;
            codec::normalize(&self.kind, &mut object);
            codec::set_type(&mut object, &self.kind);
            self.validate_create(&object)?;
            let told = self.warnings.len();
            self.warnings.extend(crate::warnings::warnings(&self.kind, &object, true, false));
            if versioned && !by_update {
                return Err(ApiError::plain("resourceVersion should not be set on objects to be created"));
            }
            self.check_grants(None, &object)?;
            self.hooks_agree(Operation::Create, None, &object).await?;
            let charge = admission::validate(self, None, &object).await?;
            let inserted = self.insert(&mut object).await;
            if inserted.is_err() {
                charge.give_back(self.server).await;
            }
            match inserted {
                Ok(stored) => {
                    release.keep();
                    self.warnings.extend(admission::warnings(self, &object));
                    return Ok(Outcome { created: true, bumped: false, object, stored });
                }
                Err(Failure::Api(error)) => return Err(error),
                Err(Failure::Retry) => {
                    if generated
                        && attempt + 1 < GENERATED_NAMES_MAX
                        && self.server.store.get_head(&self.key).is_some()
                    {
                        self.warnings.truncate(told);
                        continue;
                    }
                    let mut error = ApiError::already_exists(&self.kind.plural, &self.kind.group, &name);
                    if self.server.store.get_head(&self.key).is_some_and(|object| object.deleting) {
                        error.message.insert_str(0, "object is being deleted: ");
                    }
                    if generated {
                        error.details.get_or_insert_default().retry_after_seconds = 1;
                    }
                    return Err(error);
                }
            }
        }
        Err(ApiError::already_exists(&self.kind.plural, &self.kind.group, &self.key.name))
    }

    fn prepare_create(&self, object: &mut Value) -> Result<(), ApiError> {
        let meta = &mut object["metadata"];
        let base = meta["generateName"].as_str().unwrap_or_default().to_owned();
        if meta["name"].as_str().unwrap_or_default().is_empty() && !base.is_empty() {
            meta["name"] = generate(&base).into();
        }
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
            meta.as_object_mut().map(|meta| meta.remove(field));
        }
        meta["uid"] = uuid::Uuid::new_v4().to_string().into();
        meta["creationTimestamp"] = now().into();
        match strategy::has_generation(&self.kind) {
            true => meta["generation"] = 1.into(),
            false => {
                meta.as_object_mut().map(|meta| meta.remove("generation"));
            }
        }
        strategy::prepare_create(&self.kind, object);
        Ok(())
    }

    fn validate_create(&self, object: &Value) -> Result<(), ApiError> {
        let name = name_of(object);
        let mut causes = Vec::new();
        // The rules of budgets leave metadata to what is checked for all kinds, if nothing else is wrong.
        let later = self.kind.is("policy", "poddisruptionbudgets");
        if !later {
            crate::validate::metadata(&self.kind, object, &mut causes);
        }
        strategy::validate(&self.kind, object, &mut causes);
        if later && causes.is_empty() {
            crate::validate::metadata(&self.kind, object, &mut causes);
        }
        if let Some(custom) = &self.kind.custom {
            custom.validate(None, object, false, &mut causes);
        }
        if causes.is_empty() { Ok(()) } else { Err(self.invalid(&name, causes)) }
    }

    /// Stores a new object, and gives it its revision. The result is what was stored; `None` after a dry run.
    async fn insert(&self, object: &mut Value) -> Result<Option<Arc<Object>>, Failure> {
        let draft = self.draft(object)?;
        let kind = &self.kind;
        let check = |view: &View<'_>| -> Result<(), ApiError> {
            admission::namespace_open(view, kind, &self.key)?;
            admission::custom_open(self.server, kind, &self.key)
        };
        if self.dry_run {
            return match self.server.store.get_head(&self.key) {
                Some(_) => Err(Failure::Retry),
                None => Ok(None),
            };
        }
        let stored = self.store(None, Change::PutDraft(draft), check).await?.object;
        if let Some(stored) = &stored {
            codec::as_stored(kind, object, stored);
        }
        Ok(stored)
    }
}
