//! `EncryptedSecret`: opens its values and writes the Secret of the same name; who may read it becomes a Role.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use dodai_api::EncryptedSecret;
use dodai_kit::{Controller, Plan, View, Watches};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt;

use crate::error::Error;
use crate::seal::{Binding, Keyring, Opened, SealedValue, wrapping};

pub use plan::World;

/// The controller of EncryptedSecrets.
pub struct EncryptedSecretController;

impl Controller for EncryptedSecretController {
    type Kind = EncryptedSecret;
    type World = World;
    const NAME: &'static str = "encryptedsecret";
    const MANAGER: &'static str = crate::MANAGER;

    fn watches(watches: &mut Watches<'_, EncryptedSecret>) {
        watches.owned::<Secret>();
        watches.owned::<Role>();
        watches.owned::<RoleBinding>();
        // A Secret in the way of ours that goes frees the name.
        watches.mapped::<Secret>(|secret, _| vec![dodai_kit::Key::of(secret)]);
    }

    fn observe(view: &View, object: &Arc<EncryptedSecret>) -> World {
        let namespace = object.namespace().unwrap_or_default();
        let name = object.name_any();
        let keyring = view.outside::<Keyring>().unwrap_or_default();
        let readers = plan::readers_name(&name);
        World {
            now: view.now(),
            opened: open(object, &keyring),
            current: view.get::<Secret>(&namespace, &name),
            role: view.get::<Role>(&namespace, &readers),
            binding: view.get::<RoleBinding>(&namespace, &readers),
            object: object.clone(),
        }
    }

    fn plan(world: &World) -> Plan {
        plan::plan(world)
    }
}

/// Every value, or why it does not open. Each data key is unwrapped once.
pub fn open(object: &EncryptedSecret, keyring: &Keyring) -> BTreeMap<String, Result<Opened, Error>> {
    let binding = Binding::of(object);
    let mut keys = BTreeMap::new();
    let mut one = |key: &str, text: &str| -> Result<Opened, Error> {
        let binding = binding.as_ref().map_err(Error::clone)?;
        let value = SealedValue::parse(text)?;
        let data_key = keys.entry(value.key_id.clone()).or_insert_with(|| {
            let wrapped = object.spec.keys.iter().find(|wrapped| wrapped.id == value.key_id);
            let wrapped = wrapped.ok_or_else(|| Error::UnknownKey(value.key_id.clone()))?;
            wrapping::unwrap(wrapped, binding, keyring)
        });
        value.open(data_key.as_ref().map_err(|error| error.clone())?, binding, key)
    };
    object.spec.data.iter().map(|(key, text)| (key.clone(), one(key, text))).collect()
}
