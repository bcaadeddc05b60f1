//! `SealedSecret` of Sealed Secrets: becomes the Secret of its name, with an imported private key.

use std::sync::Arc;

use dodai_api::SealedSecret;
use dodai_api::bitnami::sealed_secret::SealedSecretStatus;
use dodai_api::dodai::condition::Condition;
use dodai_kit::{Controller, Plan, View, Watches};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use sha2_for_age::{Digest, Sha256};

use crate::error::Reason;
use crate::file::convert::PlainSecret;
use crate::seal::Keyring;
use crate::sealed::{self, Error};
use crate::secret::{self, State, conditions};
use crate::sops_secret::wanted;

/// Everything that `plan` may look at.
pub struct World {
    object: Arc<SealedSecret>,
    opened: Result<PlainSecret, Error>,
    current: Option<Arc<Secret>>,
}

/// The controller of SealedSecrets.
pub struct SealedSecretController;

impl Controller for SealedSecretController {
    type Kind = SealedSecret;
    type World = World;
    const NAME: &'static str = "sealedsecret";
    const MANAGER: &'static str = crate::MANAGER;

    fn watches(watches: &mut Watches<'_, SealedSecret>) {
        watches.owned::<Secret>();
        watches.mapped::<Secret>(|secret, _| vec![dodai_kit::Key::of(secret)]);
    }

    fn observe(view: &View, object: &Arc<SealedSecret>) -> World {
        let keyring = view.outside::<Keyring>().unwrap_or_default();
        let namespace = object.namespace().unwrap_or_default();
        World {
            opened: sealed::open(object, &keyring),
            current: view.get::<Secret>(&namespace, &object.name_any()),
            object: object.clone(),
        }
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
    let state = match &world.opened {
        Ok(plain) => {
            let sealed = serde_json::to_vec(&object.spec).unwrap_or_default();
            let revision = hex::encode(&Sha256::digest(sealed)[..8]);
            secret::write(&mut plan, object, world.current.as_deref(), wanted(plain, &revision))
        }
        Err(error) => State::stalled(Reason::SealRefused, error.to_string()),
    };
    let generation = object.metadata.generation;
    plan.set_status(&SealedSecretStatus { observed_generation: generation, conditions: Vec::new() });
    plan.conditions = conditions(&state, generation);
    // Upstream's own condition, so that what looks for it goes on to work.
    plan.conditions.push(Condition {
        observed_generation: generation,
        ..Condition::new("Synced", state.ready, state.reason, &state.message)
    });
    plan
}
