//! `ControllerRevision`s: the templates that a StatefulSet or DaemonSet had, newest last. Each holds the patch that brings
//! its template back, as `kubectl rollout undo` sends it.

use std::collections::BTreeSet;
use std::sync::Arc;

use dodai_kit::plan::controller_reference;
use dodai_kit::{Kind, Plan};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt;
use kube::core::Selector;
use serde_json::{Value, json};

use super::{names, pods, selector};

/// Label of Pods: which revision they are of. For a StatefulSet the revision's name, for a DaemonSet its hash.
pub(crate) const LABEL: &str = "controller-revision-hash";
/// Label of a StatefulSet's revisions.
pub(crate) const LABEL_HASH: &str = "controller.kubernetes.io/hash";
/// Revisions that are kept beside those in use, if the spec does not say.
const LIMIT_DEFAULT: i32 = 10;

/// What is known of a workload's revisions.
pub(crate) struct History<'a> {
    /// Revisions that the workload controls, oldest first.
    pub(crate) revisions: &'a [Arc<ControllerRevision>],
    /// Revisions without controller that it selects.
    pub(crate) orphans: &'a [Arc<ControllerRevision>],
    /// Names of all revisions of the namespace.
    pub(crate) names: &'a BTreeSet<String>,
    /// Label under which a revision tells its hash.
    pub(crate) hash_label: &'static str,
}

/// How the history stands.
pub(crate) enum Step {
    /// This is the revision of the template.
    At(Arc<ControllerRevision>),
    /// The plan brings it there; look again then.
    Underway,
    /// The revision's name is another's: the hash needs another salt.
    Collision,
}

/// Sorts revisions of a namespace into those of an owner and those that it may take over.
pub(crate) fn sort(
    mut all: Vec<Arc<ControllerRevision>>,
    uid: &str,
    selector: Option<&Selector>,
) -> (Vec<Arc<ControllerRevision>>, Vec<Arc<ControllerRevision>>, BTreeSet<String>) {
    let names = all.iter().map(|revision| revision.name_any()).collect();
    all.sort_by_key(|revision| (revision.revision, revision.metadata.creation_timestamp.clone()));
    let (ours, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|revision| dodai_kit::view::is_controlled_by(revision.as_ref(), uid));
    let is_orphan = |revision: &Arc<ControllerRevision>| {
        dodai_kit::plan::controller_of(revision.as_ref()).is_none()
            && selector.is_some_and(|selector| selector::selects(selector, revision.labels()))
    };
    (ours, others.into_iter().filter(is_orphan).collect(), names)
}

/// Finds the revision of the template, or plans what is missing: adoption, a new revision, a newer number for one that
/// the template went back to.
pub(crate) fn step<O: Kind>(
    plan: &mut Plan,
    owner: &O,
    template: &PodTemplateSpec,
    history: &History<'_>,
    collisions: Option<i32>,
) -> Step {
    let orphans: Vec<_> =
        history.orphans.iter().filter(|revision| revision.metadata.deletion_timestamp.is_none()).collect();
    if !orphans.is_empty() {
        plan.confirm(owner);
        for revision in orphans {
            plan.replace(&pods::adopted(revision.as_ref(), controller_reference(owner)));
        }
        return Step::Underway;
    }
    let newest = history.revisions.iter().map(|revision| revision.revision).max().unwrap_or(0);
    let wanted = patch(template);
    let is_same =
        |revision: &&Arc<ControllerRevision>| revision.data.as_ref().map(|data| &data.0) == Some(&wanted);
    let Some(found) = history.revisions.iter().rev().find(is_same) else {
        let hash = names::hash_of(&wanted, collisions);
        let name = format!("{}-{hash}", owner.name_any());
        if history.names.contains(&name) {
            return Step::Collision;
        }
        plan.confirm(owner);
        let revision = new(owner, template, history.hash_label, name, hash, newest + 1);
        plan.create(&revision);
        return Step::Underway;
    };
    if found.revision < newest {
        let mut again = found.as_ref().clone();
        again.revision = newest + 1;
        plan.replace(&again);
        return Step::Underway;
    }
    Step::At(found.clone())
}

fn new<O: Kind>(
    owner: &O,
    template: &PodTemplateSpec,
    hash_label: &str,
    name: String,
    hash: String,
    revision: i64,
) -> ControllerRevision {
    let mut labels = template.metadata.clone().unwrap_or_default().labels.unwrap_or_default();
    labels.insert(hash_label.to_owned(), hash);
    let annotations = owner.annotations().clone();
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: owner.namespace(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(patch(template))),
        revision,
    }
}

/// The strategic merge patch that brings a template back, whatever is there.
fn patch(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).expect("a Kubernetes type serialises to JSON");
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template of a revision.
pub(crate) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0["spec"]["template"].clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Deletes the oldest revisions beyond the limit, of those that are not in use.
pub(crate) fn truncate(
    plan: &mut Plan,
    revisions: &[Arc<ControllerRevision>],
    limit: Option<i32>,
    is_live: impl Fn(&ControllerRevision) -> bool,
) {
    let limit = usize::try_from(limit.unwrap_or(LIMIT_DEFAULT)).unwrap_or(0);
    let idle: Vec<_> = revisions
        .iter()
        .filter(|revision| !is_live(revision) && revision.metadata.deletion_timestamp.is_none())
        .collect();
    for revision in &idle[..idle.len().saturating_sub(limit)] {
        plan.delete(revision.as_ref());
    }
}
