//! `SopsSecret`: a SOPS file as it is, which becomes the Secrets that it holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dodai_api::SopsSecret;
use dodai_api::dodai::sops_secret::SopsSecretStatus;
use dodai_kit::view::is_controlled_by;
use dodai_kit::{Controller, Plan, View, Watches};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use sha2_for_age::{Digest, Sha256};

use crate::error::{KmsErrorKind, Reason};
use crate::file::convert::PlainSecret;
use crate::import::{self, Error};
use crate::seal::Keyring;
use crate::secret::{self, PENDING_WAIT, REFUSED_WAIT, RETRY_WAIT, State, Wanted, conditions};
use crate::sops::{self, Format};

/// Most Secrets of one file.
const SECRETS_MAX: usize = 100;

/// Everything that `plan` may look at.
pub struct World {
    object: Arc<SopsSecret>,
    opened: Result<Vec<PlainSecret>, Error>,
    /// The Secrets of the namespace that are ours, or stand where ours should be.
    secrets: BTreeMap<String, Arc<Secret>>,
}

/// The controller of SopsSecrets.
pub struct SopsSecretController;

impl Controller for SopsSecretController {
    type Kind = SopsSecret;
    type World = World;
    const NAME: &'static str = "sopssecret";
    const MANAGER: &'static str = crate::MANAGER;

    fn watches(watches: &mut Watches<'_, SopsSecret>) {
        watches.owned::<Secret>();
    }

    fn observe(view: &View, object: &Arc<SopsSecret>) -> World {
        let namespace = object.namespace().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let keyring = view.outside::<Keyring>().unwrap_or_default();
        let opened = import::secrets(&object.spec.document, Format::Yaml, &object.name_any(), &keyring);
        let wanted: Vec<String> = opened.iter().flatten().map(|secret| secret.name.clone()).collect();
        let mut secrets = BTreeMap::new();
        for secret in view.list::<Secret>(Some(&namespace)) {
            if is_controlled_by(secret.as_ref(), &uid) || wanted.contains(&secret.name_any()) {
                secrets.insert(secret.name_any(), secret);
            }
        }
        World { object: object.clone(), opened, secrets }
    }

    fn plan(world: &World) -> Plan {
        plan(world)
    }
}

fn plan(world: &World) -> Plan {
    let mut plan = Plan::none();
    let object = world.object.as_ref();
    if object.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let mut names = Vec::new();
    let state = match &world.opened {
        Ok(secrets) => write(&mut plan, world, secrets, &mut names),
        Err(error) => {
            let (transient, wait) = later(error);
            if let Some(wait) = wait {
                plan.again_in(wait);
            }
            let kept = if world.secrets.is_empty() { "" } else { "; what was made of it stays as it was" };
            State { stalled: !transient, ..State::stalled(Reason::SopsRefused, format!("{error}{kept}")) }
        }
    };
    plan.set_status(&SopsSecretStatus {
        observed_generation: object.metadata.generation,
        secrets: names,
        conditions: Vec::new(),
    });
    plan.conditions = conditions(&state, object.metadata.generation);
    plan
}

/// Whether waiting may help, and how long.
fn later(error: &Error) -> (bool, Option<Duration>) {
    match error {
        Error::Sops(sops::Error::PgpPending(_)) => (true, Some(PENDING_WAIT)),
        Error::Sops(sops::Error::Kms { error, .. }) => match error.kind {
            KmsErrorKind::Pending => (true, Some(PENDING_WAIT)),
            kind if kind.is_transient() => (true, Some(RETRY_WAIT)),
            _ => (false, Some(REFUSED_WAIT)),
        },
        // An agent may be unlocked, a card plugged in.
        Error::Sops(sops::Error::NoKey(_)) => (false, Some(REFUSED_WAIT)),
        _ => (false, None),
    }
}

fn write(plan: &mut Plan, world: &World, secrets: &[PlainSecret], names: &mut Vec<String>) -> State {
    let object = world.object.as_ref();
    let namespace = object.namespace();
    if secrets.len() > SECRETS_MAX {
        return State::stalled(Reason::InvalidSpec, format!("more than {SECRETS_MAX} Secrets in one file"));
    }
    // A file must not reach into another namespace by what it says inside.
    if let Some(other) = secrets.iter().find(|one| one.namespace.is_some() && one.namespace != namespace) {
        let message = format!("it holds Secret `{}` of another namespace", other.name);
        return State::stalled(Reason::InvalidSpec, message);
    }
    // The file is whole (its MAC fits), so that it changes when a value does.
    let revision = hex::encode(&Sha256::digest(object.spec.document.as_bytes())[..8]);
    let mut worst = None;
    for plain in secrets {
        names.push(plain.name.clone());
        let current = world.secrets.get(&plain.name).map(Arc::as_ref);
        let state = secret::write(plan, object, current, wanted(plain, &revision));
        if !state.ready {
            worst.get_or_insert(state);
        }
    }
    let uid = object.uid().unwrap_or_default();
    for (name, secret) in &world.secrets {
        if !names.contains(name) && is_controlled_by(secret.as_ref(), &uid) {
            plan.delete(secret.as_ref());
        }
    }
    worst.unwrap_or(State { ready: true, stalled: false, reason: Reason::Written, message: String::new() })
}

/// The Secret that a plaintext one becomes.
pub(crate) fn wanted(plain: &PlainSecret, revision: &str) -> Wanted {
    Wanted {
        name: plain.name.clone(),
        type_: plain.type_.clone().unwrap_or_else(|| crate::seal::binding::TYPE_DEFAULT.to_owned()),
        labels: plain.labels.clone(),
        annotations: plain.annotations.clone(),
        revision: revision.to_owned(),
        data: plain.data.iter().map(|(key, value)| (key.clone(), value.to_vec())).collect(),
    }
}
