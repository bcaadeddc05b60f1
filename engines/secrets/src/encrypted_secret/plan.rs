//! Decides for an EncryptedSecret: the Secret, who may read it, and what to say.
//!
//! A value that does not open leaves the Secret as it is: what was good goes on to serve, and the condition says which
//! value failed and why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dodai_api::EncryptedSecret;
use dodai_api::dodai::condition::Condition;
use dodai_api::dodai::encrypted_secret::{EncryptedSecretStatus, ValueFailure};
use dodai_kit::Plan;
use dodai_kit::view::is_controlled_by;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt;

use crate::error::{Error, Reason};
use crate::planted::{self, Bug};
use crate::seal::Opened;
use crate::secret::{self, PENDING_WAIT, REFUSED_WAIT, RETRY_WAIT, State, conditions};
use crate::{access, rotation};

/// Most failing values that a status lists.
const FAILURES_MAX: usize = 50;

/// Everything that `plan` may look at.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// The EncryptedSecret.
    pub object: Arc<EncryptedSecret>,
    /// Its values.
    pub opened: BTreeMap<String, Result<Opened, Error>>,
    /// The Secret of its name, whoever made it.
    pub current: Option<Arc<Secret>>,
    /// The Role of its readers.
    pub role: Option<Arc<Role>>,
    /// Who has that Role.
    pub binding: Option<Arc<RoleBinding>>,
}

/// Name of the Role and the RoleBinding of an EncryptedSecret's readers.
pub(crate) fn readers_name(name: &str) -> String {
    format!("{name}-secret-readers")
}

pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    if world.object.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let in_the_way = readers(&mut plan, world);
    let failures = failures(world);
    let state = if let Some((key, error)) = failures.first() {
        let first = format!("`{key}`: {error}");
        let message = match failures.len() {
            1 => first,
            n => format!("{first}; {} values more", n - 1),
        };
        let kept = if world.current.is_some() { "; the Secret stays as it was" } else { "" };
        let transient = failures.iter().any(|(_, error)| error.is_transient());
        if planted::is(Bug::WritesHalf) && world.opened.values().any(Result::is_ok) {
            write(&mut plan, world);
        }
        if let Some(current) = world.current.as_deref().filter(|_| planted::is(Bug::FailureDeletes)) {
            plan.delete(current);
        }
        if planted::is(Bug::ForgetsKms) {
            // It is as if there were nothing to wait for.
        } else if transient {
            let pending = failures.iter().any(|(_, error)| error.reason() == Reason::AskingKms);
            plan.again_in(if pending { PENDING_WAIT } else { RETRY_WAIT });
        } else if failures.iter().any(|(_, error)| matches!(error, Error::Kms { .. })) {
            plan.again_in(REFUSED_WAIT);
        }
        State {
            ready: false,
            stalled: !transient,
            reason: error.reason(),
            message: format!("{message}{kept}"),
        }
    } else {
        let mut state = write(&mut plan, world);
        if let Some(Ok(opened)) = world.opened.values().next().filter(|_| planted::is(Bug::StatusTellsValue))
        {
            state.message = String::from_utf8_lossy(&opened.value).into_owned();
        }
        if planted::is(Bug::StatusIsNeverTheSame) {
            state.message = (world.now.as_second() / 60).to_string();
            plan.again_in(Duration::from_secs(60));
        }
        in_the_way.filter(|_| state.ready).unwrap_or(state)
    };
    let (due, due_condition) = rotation_due(&mut plan, world);
    let status = EncryptedSecretStatus {
        observed_generation: match world.object.metadata.generation {
            Some(2) if planted::is(Bug::StatusTellsOldGeneration) => Some(0),
            generation => generation,
        },
        values: Some(i64::try_from(world.opened.len()).unwrap_or(i64::MAX)).filter(|_| state.ready),
        failures: failures
            .into_iter()
            .take(FAILURES_MAX)
            .map(|(key, error)| ValueFailure {
                key: key.clone(),
                reason: error.reason().into(),
                message: error.to_string(),
            })
            .collect(),
        rotation_due: due.map(dodai_kit::execute::rfc3339),
        conditions: Vec::new(),
    };
    plan.set_status(&status);
    plan.conditions = conditions(&state, world.object.metadata.generation);
    plan.conditions.extend(due_condition);
    plan
}

fn failures(world: &World) -> Vec<(&String, &Error)> {
    world.opened.iter().filter_map(|(key, opened)| Some((key, opened.as_ref().err()?))).collect()
}

/// The Secret, all of whose values are open.
fn write(plan: &mut Plan, world: &World) -> State {
    let object = &world.object;
    let spec = &object.spec;
    let type_ = spec.template.as_ref().and_then(|template| template.type_.as_deref());
    let metadata = spec.template.as_ref().and_then(|template| template.metadata.clone()).unwrap_or_default();
    let data: BTreeMap<String, Vec<u8>> = world
        .opened
        .iter()
        .filter_map(|(key, opened)| Some((key.clone(), opened.as_ref().ok()?.value.to_vec())))
        .collect();
    let wanted = secret::Wanted {
        name: object.name_any(),
        type_: type_.unwrap_or(crate::seal::binding::TYPE_DEFAULT).to_owned(),
        labels: metadata.labels,
        annotations: metadata.annotations,
        // Which values, and when each was set: changes with a value, and not when it is sealed anew.
        revision: secret::revision(
            world
                .opened
                .iter()
                .filter_map(|(key, opened)| Some((key.as_str(), opened.as_ref().ok()?.set_at_s))),
        ),
        data,
    };
    secret::write(plan, object.as_ref(), world.current.as_deref(), wanted)
}

/// A Role that lets the readers get this one Secret, and its binding; both gone with the last reader. Gives what stands in
/// the way.
fn readers(plan: &mut Plan, world: &World) -> Option<State> {
    let object = world.object.as_ref();
    let uid = object.uid().unwrap_or_default();
    let name = readers_name(&object.name_any());
    let ours = (
        world.role.as_ref().filter(|role| is_controlled_by(role.as_ref(), &uid)),
        world.binding.as_ref().filter(|binding| is_controlled_by(binding.as_ref(), &uid)),
    );
    if object.spec.readers.is_empty() {
        if planted::is(Bug::ReadersStay) {
            return None;
        }
        if let Some(binding) = ours.1 {
            plan.delete(binding.as_ref());
        }
        if let Some(role) = ours.0 {
            plan.delete(role.as_ref());
        }
        return None;
    }
    if (ours.0.is_none() && world.role.is_some()) || (ours.1.is_none() && world.binding.is_some()) {
        let message = format!("the Role or RoleBinding `{name}` for its readers belongs to somebody else");
        return Some(State::stalled(Reason::SecretNotOurs, message));
    }
    let (role, binding) = access::readers(object, &name);
    // Lists are whole: one reader fewer must show as a difference.
    let wants = (
        ours.0.is_none_or(|current| current.rules != role.rules),
        ours.1.is_none_or(|current| current.subjects != binding.subjects),
    );
    if wants.0 || wants.1 {
        // Who was a reader in a version of before does not become one again because a cache is late.
        plan.confirm(object);
    }
    if wants.0 {
        plan.apply(&role);
    }
    if wants.1 {
        plan.apply(&binding);
    }
    None
}

/// When the first value is due, and the condition that says whether it is.
fn rotation_due(plan: &mut Plan, world: &World) -> (Option<Timestamp>, Option<Condition>) {
    let Some(text) = &world.object.spec.rotate_after else { return (None, None) };
    let generation = world.object.metadata.generation;
    let say = |status: bool, reason: Reason, message: String| Condition {
        observed_generation: generation,
        ..Condition::new("RotationDue", status, reason, message)
    };
    let Some(after) = rotation::parse(text) else {
        let message = format!("`rotateAfter: {text}` is not an age such as `90d` or `2160h`");
        return (None, Some(say(false, Reason::InvalidSpec, message)));
    };
    let oldest =
        world.opened.iter().filter_map(|(key, opened)| Some((opened.as_ref().ok()?.set_at_s, key))).min();
    let Some((set_at_s, key)) = oldest else { return (None, None) };
    let due_s = set_at_s.saturating_add(after.as_secs());
    let due = i64::try_from(due_s).ok().and_then(|due| Timestamp::from_second(due).ok());
    let due = due.unwrap_or(Timestamp::MAX);
    if due <= world.now {
        let message = format!("`{key}` is older than `{text}`: give it a new value with `dodai secret set`");
        return (Some(due), Some(say(true, Reason::ValueOld, message)));
    }
    let left = due.duration_since(world.now);
    plan.again_in(Duration::from_secs(left.as_secs().unsigned_abs().saturating_add(1)));
    (Some(due), Some(say(false, Reason::ValuesFresh, String::new())))
}
