//! The Secret that an object of ours becomes: the same rules for every kind of this engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dodai_api::dodai::condition::Condition;
use dodai_api::names::ANNOTATION_REVISION;
use dodai_kit::plan::{controller_of, controller_reference};
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Kind, Plan};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use sha2_for_age::{Digest, Sha256};

use crate::error::Reason;
use crate::planted::{self, Bug};

/// Types of Secrets by which the API server gives rights: whoever could make one would get them.
const TYPES_REFUSED: [&str; 2] = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"];
/// Annotations that only the owner of a meaning may write.
const ANNOTATIONS_REFUSED: [&str; 2] =
    ["kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"];

/// The names of labels and annotations that `template` gave, so that one which is taken out of it goes, and those of others
/// stay.
const ANNOTATION_TEMPLATE: &str = "dodai.dev/from-template";

/// How soon KMS or `gpg` is looked at again while an answer is on its way.
pub(crate) const PENDING_WAIT: Duration = Duration::from_millis(100);
/// How soon what may get better by itself is tried again.
pub(crate) const RETRY_WAIT: Duration = Duration::from_secs(30);
/// How soon what somebody must mend elsewhere (a grant, a disabled key) is tried again: nothing here changes when it is.
pub(crate) const REFUSED_WAIT: Duration = Duration::from_secs(300);

/// What a Secret must be.
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) type_: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Changes when a value does, and says nothing about it.
    pub(crate) revision: String,
    pub(crate) data: BTreeMap<String, Vec<u8>>,
}

/// How it stands, for conditions.
pub(crate) struct State {
    pub(crate) ready: bool,
    pub(crate) stalled: bool,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl State {
    pub(crate) fn stalled(reason: Reason, message: impl Into<String>) -> State {
        State { ready: false, stalled: true, reason, message: message.into() }
    }
}

/// A revision from the keys and the times at which their values were set.
pub(crate) fn revision<'a>(values: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut hash = Sha256::new();
    for (key, set_at_s) in values {
        hash.update((key.len() as u64).to_be_bytes());
        hash.update(key.as_bytes());
        hash.update(set_at_s.to_be_bytes());
    }
    hex::encode(&hash.finalize()[..8])
}

/// Plans what brings the Secret about.
pub(crate) fn write<K: Kind>(plan: &mut Plan, owner: &K, current: Option<&Secret>, wanted: Wanted) -> State {
    if TYPES_REFUSED.contains(&wanted.type_.as_str()) {
        let message =
            format!("Secrets of type `{}` give rights of their own and are not made here", wanted.type_);
        return State::stalled(Reason::TypeRefused, message);
    }
    if let Some(name) = ANNOTATIONS_REFUSED.iter().find(|name| wanted.annotations.contains_key(**name)) {
        return State::stalled(Reason::TypeRefused, format!("the annotation `{name}` is not written here"));
    }
    let uid = owner.uid().unwrap_or_default();
    if planted::is(Bug::ReadyUnwritten) {
        return written();
    }
    if let Some(current) = current
        && !is_controlled_by(current, &uid)
        && !planted::is(Bug::TakesForeign)
    {
        let by = match controller_of(current) {
            Some(owner) => format!("{} `{}`", owner.kind, owner.name),
            None => "somebody else".to_owned(),
        };
        let message = format!("Secret `{}` belongs to {by}: delete it, or take another name", wanted.name);
        return State::stalled(Reason::SecretNotOurs, message);
    }
    let mut annotations = wanted.annotations;
    if let Some(names) = Names::of(&wanted.labels, &annotations).write() {
        annotations.insert(ANNOTATION_TEMPLATE.to_owned(), names);
    }
    annotations.insert(ANNOTATION_REVISION.to_owned(), wanted.revision);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(wanted.name),
            namespace: owner.namespace(),
            labels: Some(wanted.labels).filter(|labels| !labels.is_empty()),
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        type_: Some(wanted.type_),
        data: Some(wanted.data.into_iter().map(|(key, value)| (key, ByteString(value))).collect()),
        ..Secret::default()
    };
    match current {
        // The type of a Secret cannot be changed: it is made anew.
        Some(current) if current.type_ != secret.type_ => {
            confirm(plan, owner);
            plan.delete(current);
            State {
                ready: false,
                stalled: false,
                reason: Reason::Writing,
                message: "its type changes".into(),
            }
        }
        Some(current) if is_same(current, &secret) => written(),
        Some(current) => {
            // All its values are ours, so that one which is gone goes; labels of others stay.
            let mut new = current.clone();
            new.metadata.managed_fields = None;
            if planted::is(Bug::OldValuesStay) {
                new.data.get_or_insert_default().extend(secret.data.unwrap_or_default());
            } else {
                new.data = secret.data;
            }
            let before = Names::read(current);
            new.labels_mut().retain(|name, _| !before.labels.contains(name));
            new.annotations_mut()
                .retain(|name, _| !before.annotations.contains(name) && name != ANNOTATION_TEMPLATE);
            new.labels_mut().extend(secret.metadata.labels.unwrap_or_default());
            new.annotations_mut().extend(secret.metadata.annotations.unwrap_or_default());
            confirm(plan, owner);
            plan.replace(&new);
            written()
        }
        None => {
            confirm(plan, owner);
            // A name that is taken may be somebody's.
            plan.create_new(&secret);
            written()
        }
    }
}

/// An object that was changed meanwhile must not bring values back that it has no more.
fn confirm<K: Kind>(plan: &mut Plan, owner: &K) {
    if !planted::is(Bug::WritesUnconfirmed) {
        plan.confirm(owner);
    }
}

fn written() -> State {
    State { ready: true, stalled: false, reason: Reason::Written, message: String::new() }
}

fn is_same(current: &Secret, wanted: &Secret) -> bool {
    let map = |map: &Option<BTreeMap<String, ByteString>>| map.clone().unwrap_or_default();
    map(&current.data) == map(&wanted.data)
        && wanted.labels().iter().all(|(name, value)| current.labels().get(name) == Some(value))
        && wanted.annotations().iter().all(|(name, value)| current.annotations().get(name) == Some(value))
        // Nothing was taken out of the template.
        && current.annotations().get(ANNOTATION_TEMPLATE) == wanted.annotations().get(ANNOTATION_TEMPLATE)
}

/// Names of labels and annotations.
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Names {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    labels: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    annotations: BTreeSet<String>,
}

impl Names {
    fn of(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Names {
        Names { labels: labels.keys().cloned().collect(), annotations: annotations.keys().cloned().collect() }
    }

    /// What the template gave when the Secret was last written; nothing if somebody spoilt the note.
    fn read(secret: &Secret) -> Names {
        let text = secret.annotations().get(ANNOTATION_TEMPLATE);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    fn write(&self) -> Option<String> {
        let any = !self.labels.is_empty() || !self.annotations.is_empty();
        any.then(|| serde_json::to_string(self).unwrap_or_default())
    }
}

/// `Ready`, `Reconciling` and `Stalled`.
pub(crate) fn conditions(state: &State, generation: Option<i64>) -> Vec<Condition> {
    let condition = |type_: &str, status: bool, message: &str| Condition {
        observed_generation: generation,
        ..Condition::new(type_, status, state.reason, message)
    };
    vec![
        condition("Ready", state.ready, &state.message),
        condition("Reconciling", !state.ready && !state.stalled, &state.message),
        condition("Stalled", state.stalled, if state.stalled { &state.message } else { "" }),
    ]
}
