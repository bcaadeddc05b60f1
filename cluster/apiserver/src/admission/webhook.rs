//! Admission webhooks: which there are, and asking them about a request. Those that change are asked one after the other,
//! and some of them again; those that only agree or refuse all at once.
//!
//! Leaves out audit annotations: there is no audit log to put them into.

mod call;
pub(crate) mod check;
mod review;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::attributes::{Attributes, in_version};
use super::expression::{Conditions, Input, STORED_MINOR, Sees, Variables, environment};
use super::matching::Criteria;
use crate::crd::text;
use crate::kinds::Kind;
use crate::status::{ApiError, quote};
use crate::store::Store;
use call::Target;
use review::Review;

const CONFIGURATIONS: [&str; 2] = [
    "admissionregistration.k8s.io/mutatingwebhookconfigurations",
    "admissionregistration.k8s.io/validatingwebhookconfigurations",
];
/// Time for an answer where the webhook says nothing.
const TIMEOUT_DEFAULT_SECONDS: u64 = 10;

/// All webhooks, read when first needed after a change.
#[derive(Debug, Default)]
pub(crate) struct Webhooks(Mutex<Option<Arc<Snapshot>>>);

#[derive(Debug)]
struct Snapshot {
    revisions: [u64; 2],
    mutating: Vec<Arc<Webhook>>,
    validating: Vec<Arc<Webhook>>,
}

/// One webhook of a configuration.
#[derive(Debug)]
struct Webhook {
    name: String,
    criteria: Result<Criteria, String>,
    conditions: Conditions,
    target: Target,
    ignores_failures: bool,
    side_effects: String,
    timeout: Duration,
    review_versions: Vec<String>,
    asks_again: bool,
}

impl Webhooks {
    /// Whether there is any webhook.
    pub(crate) fn any(&self, store: &Store) -> bool {
        let found = self.snapshot(store);
        !found.mutating.is_empty() || !found.validating.is_empty()
    }

    fn snapshot(&self, store: &Store) -> Arc<Snapshot> {
        // Read before the objects, so that a change in between makes the snapshot old, not wrong.
        let revisions = CONFIGURATIONS.map(|resource| store.changed(resource));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(snapshot) = kept.as_ref().filter(|kept| kept.revisions == revisions) {
            return snapshot.clone();
        }
        let [mutating, validating] = CONFIGURATIONS.map(|resource| {
            let objects = store.list(&resource.into(), "").objects;
            let all = objects.iter().flat_map(|object| {
                let value = object.value();
                value["webhooks"].as_array().cloned().unwrap_or_default()
            });
            all.map(|webhook| Arc::new(Webhook::read(&webhook))).collect()
        });
        let snapshot = Arc::new(Snapshot { revisions, mutating, validating });
        *kept = Some(snapshot.clone());
        snapshot
    }
}

impl Webhook {
    fn read(webhook: &Value) -> Webhook {
        let sees = Sees { authorizer: true, ..Sees::default() };
        let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(TIMEOUT_DEFAULT_SECONDS);
        let versions = webhook["admissionReviewVersions"].as_array().into_iter().flatten();
        Webhook {
            name: text(&webhook["name"]),
            criteria: Criteria::of_webhook(webhook),
            conditions: Conditions::compile(&webhook["matchConditions"], &environment(STORED_MINOR, sees)),
            target: Target::read(&webhook["clientConfig"]),
            ignores_failures: webhook["failurePolicy"] == "Ignore",
            side_effects: text(&webhook["sideEffects"]),
            timeout: Duration::from_secs(seconds),
            review_versions: versions.map(text).collect(),
            asks_again: webhook["reinvocationPolicy"] == "IfNeeded",
        }
    }

    /// The version of the resource in which the webhook wants to see the request, if it does.
    fn wants(&self, attributes: &Attributes<'_>) -> Result<Option<Arc<Kind>>, ApiError> {
        let criteria = self.criteria.as_ref().map_err(ApiError::internal)?;
        let Some(kind) = criteria.matches(attributes)? else { return Ok(None) };
        if self.conditions.is_empty() {
            return Ok(Some(kind));
        }
        let input = Input::new(attributes, &kind).with_authorizer(attributes);
        match self.conditions.hold(&input, &Variables::default()) {
            Ok(true) => Ok(Some(kind)),
            Ok(false) => Ok(None),
            Err(_) if self.ignores_failures => Ok(None),
            Err(error) => {
                let kind = attributes.kind;
                Err(ApiError::forbidden(&kind.plural, &kind.group, &attributes.name, &error))
            }
        }
    }

    /// Asks. `None`: it could not be asked, and that is to be ignored.
    async fn ask(
        &self,
        attributes: &Attributes<'_>,
        kind: &Arc<Kind>,
        mutating: bool,
    ) -> Result<Option<review::Answer>, ApiError> {
        if attributes.dry_run && !matches!(self.side_effects.as_str(), "None" | "NoneOnDryRun") {
            let text = format!("admission webhook {} does not support dry run", quote(&self.name));
            return Err(ApiError::bad_request(text));
        }
        match self.asked(attributes, kind, mutating).await {
            Ok(answer) if answer.allowed => Ok(Some(answer)),
            Ok(answer) => Err(answer.refusal(&self.name)),
            Err(reason) => {
                let reason = format!("failed calling webhook {}: {reason}", quote(&self.name));
                if self.ignores_failures {
                    // The reason may hold what the webhook answered, and so what it was sent.
                    tracing::warn!(webhook = %self.name, "a webhook could not be asked and is passed over");
                    return Ok(None);
                }
                Err(ApiError::internal(reason))
            }
        }
    }

    async fn asked(
        &self,
        attributes: &Attributes<'_>,
        kind: &Arc<Kind>,
        mutating: bool,
    ) -> Result<review::Answer, String> {
        let review = Review::new(attributes, kind, &self.review_versions)
            .map_err(|error| format!("could not create admission objects: {error}"))?;
        let answer = self.target.post(attributes.server, &review.body, self.timeout).await?;
        review.read(&answer, mutating).map_err(|error| format!("received invalid webhook response: {error}"))
    }
}

/// Asks the webhooks that may change the object. The result is the changed object, if it was changed.
///
/// # Errors
/// When one refuses, or cannot be asked and that counts.
pub(crate) async fn mutate(
    attributes: &Attributes<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Value>, ApiError> {
    let snapshot = attributes.server.webhooks.snapshot(&attributes.server.store);
    if snapshot.mutating.is_empty() || attributes.is_exempt() {
        return Ok(None);
    }
    let mut object = attributes.object.cloned();
    let mut changed = false;
    let mut again: Vec<bool> = vec![false; snapshot.mutating.len()];
    let mut asked: Vec<bool> = again.clone();
    for round in 0..2 {
        for (at, webhook) in snapshot.mutating.iter().enumerate() {
            if round == 1 && !again[at] {
                continue;
            }
            let current = Attributes { object: object.as_ref(), ..attributes.clone() };
            let Some(kind) = webhook.wants(&current)? else { continue };
            let answer = webhook.ask(&current, &kind, true).await?;
            let mut new = None;
            if let Some(answer) = answer {
                warnings.extend(answer.warnings.iter().cloned());
                new = answer.patched(&webhook.name, &current, &kind)?;
            }
            if let Some(new) = new {
                let new = if Arc::ptr_eq(&kind, attributes.kind) {
                    new
                } else {
                    in_version(&new, &kind, attributes.kind)
                };
                if object.as_ref() != Some(&new) {
                    object = Some(new);
                    changed = true;
                    if round == 0 {
                        let before = asked.iter().zip(&snapshot.mutating).take(at);
                        for (earlier, (asked, known)) in before.enumerate() {
                            again[earlier] |= *asked && known.asks_again;
                        }
                    }
                }
            }
            asked[at] = true;
        }
        if !again.contains(&true) {
            break;
        }
    }
    Ok(object.filter(|_| changed))
}

/// Asks the webhooks that agree or refuse, all at once.
///
/// # Errors
/// The first refusal, in the order of the configurations.
pub(crate) async fn validate(
    attributes: &Attributes<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    let snapshot = attributes.server.webhooks.snapshot(&attributes.server.store);
    if snapshot.validating.is_empty() || attributes.is_exempt() {
        return Ok(());
    }
    let mut wanted = Vec::new();
    for webhook in &snapshot.validating {
        if let Some(kind) = webhook.wants(attributes)? {
            wanted.push((webhook, kind));
        }
    }
    let asked = wanted.iter().map(|(webhook, kind)| webhook.ask(attributes, kind, false));
    for answer in futures::future::join_all(asked).await {
        if let Some(answer) = answer? {
            warnings.extend(answer.warnings);
        }
    }
    Ok(())
}
