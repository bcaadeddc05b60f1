//! Reads ConfigMaps, Secrets and claims for Pods, straight from the API: the kubelet keeps no copy of a Secret.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, Secret, ServiceAccountTokenProjection,
};
use kube::{Api, Client};

use super::tokens::Tokens;
use crate::error::{Error, Result};

/// Keys and values of a ConfigMap or Secret.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

/// Where a Pod's references lead.
pub(crate) trait Lookup: Send + Sync {
    /// `None` only if it is optional and not there.
    fn config_map<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        optional: bool,
    ) -> BoxFuture<'a, Result<Option<Data>>>;
    /// As above.
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        optional: bool,
    ) -> BoxFuture<'a, Result<Option<Data>>>;
    /// A token of the Pod's service account.
    fn token<'a>(
        &'a self,
        pod: &'a Pod,
        asked: &'a ServiceAccountTokenProjection,
    ) -> BoxFuture<'a, Result<String>>;
    /// Whether the claim is there and can be used.
    fn claim<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// The API server.
pub(crate) struct ApiLookup {
    client: Client,
    tokens: Tokens,
}

impl ApiLookup {
    pub(crate) fn new(client: Client) -> ApiLookup {
        ApiLookup { client, tokens: Tokens::default() }
    }
}

fn missing(kind: &str, name: &str) -> Error {
    Error::Config { reason: "CreateContainerConfigError", message: format!("{kind} \"{name}\" not found") }
}

impl Lookup for ApiLookup {
    fn config_map<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        optional: bool,
    ) -> BoxFuture<'a, Result<Option<Data>>> {
        async move {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
            let Some(found) = api.get_opt(name).await.map_err(Error::api("read a ConfigMap"))? else {
                return if optional { Ok(None) } else { Err(missing("configmap", name)) };
            };
            let text = found.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
            let binary = found.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
            Ok(Some(text.chain(binary).collect()))
        }
        .boxed()
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        optional: bool,
    ) -> BoxFuture<'a, Result<Option<Data>>> {
        async move {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            let Some(found) = api.get_opt(name).await.map_err(Error::api("read a Secret"))? else {
                return if optional { Ok(None) } else { Err(missing("secret", name)) };
            };
            Ok(Some(found.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect()))
        }
        .boxed()
    }

    fn token<'a>(
        &'a self,
        pod: &'a Pod,
        asked: &'a ServiceAccountTokenProjection,
    ) -> BoxFuture<'a, Result<String>> {
        self.tokens.get(&self.client, pod, asked).boxed()
    }

    fn claim<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
            let claim = api.get_opt(name).await.map_err(Error::api("read a PersistentVolumeClaim"))?;
            let claim = claim.ok_or_else(|| missing("persistentvolumeclaim", name))?;
            let class = claim.spec.and_then(|spec| spec.storage_class_name);
            match class.as_deref() {
                None | Some("" | "local") => Ok(()),
                Some(other) => Err(Error::Config {
                    reason: "CreateContainerConfigError",
                    message: format!("persistentvolumeclaim \"{name}\" asks for storage class `{other}`, this node has `local`"),
                }),
            }
        }
        .boxed()
    }
}
