//! Every Pod runs as a service account, and gets what that brings: image pull secrets and a token.
//!
//! The token volume is a switch (`Config::service_account_tokens`), since a node must be able to fill it. Without it an
//! account need not exist either: nothing of it is needed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::Server;
use crate::status::{ApiError, quote};
use crate::store::{Key, Object};
use crate::write::{Request, generate, name_of};

/// Where the token, the CA and the name of the namespace are mounted.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";
/// Life of a mounted token, seconds: an hour, and a few seconds by which upstream knows such tokens.
const TOKEN_SECONDS: i64 = 3607;
/// How long a Pod in a new namespace waits for the account `default`.
const DEFAULT_ACCOUNT_WAIT: Duration = Duration::from_secs(1);

pub(super) async fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let spec = &mut pod["spec"];
    if spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        spec["serviceAccountName"] = "default".into();
    }
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    let name = spec["serviceAccountName"].as_str().unwrap_or_default().to_owned();
    let tokens = request.server.config.service_account_tokens;
    let Some(account) = account(request.server, &request.key.namespace, &name).await else {
        if !tokens {
            return Ok(());
        }
        let text = format!(
            "error looking up service account {}/{name}: serviceaccount {} not found",
            request.key.namespace,
            quote(&name)
        );
        return Err(ApiError::forbidden("pods", "", &name_of(pod), &text));
    };
    let account = account.value();
    let spec = &mut pod["spec"];
    if spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
        && account["imagePullSecrets"].as_array().is_some_and(|list| !list.is_empty())
    {
        spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    let field = "automountServiceAccountToken";
    let wanted = spec[field].as_bool().or(account[field].as_bool()).unwrap_or(true);
    if tokens && wanted {
        mount(spec);
    }
    Ok(())
}

async fn account(server: &Server, namespace: &str, name: &str) -> Option<Arc<Object>> {
    let key = Key::new(&"core/serviceaccounts".into(), namespace, name);
    let waits = name == "default" && server.config.controllers && server.config.service_account_tokens;
    if !waits {
        return server.store.get_head(&key);
    }
    let mut events = server.store.events();
    let found = async {
        loop {
            if let Some(found) = server.store.get_head(&key) {
                return found;
            }
            // Whatever arrives, the account is looked for again.
            let _ = events.recv().await;
        }
    };
    tokio::time::timeout(DEFAULT_ACCOUNT_WAIT, found).await.ok()
}

/// Adds the token volume, and a mount to every container that has nothing mounted there.
fn mount(spec: &mut Value) {
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let mut names = volumes.filter_map(|volume| volume["name"].as_str());
    let existing = names.find(|name| name.starts_with(VOLUME)).map(str::to_owned);
    let name = existing.clone().unwrap_or_else(|| generate(VOLUME));
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let mounts = &mut container["volumeMounts"];
            let mut list = mounts.as_array().cloned().unwrap_or_default();
            if list.iter().any(|mount| mount["mountPath"] == MOUNT) {
                continue;
            }
            list.push(json!({ "name": name, "readOnly": true, "mountPath": MOUNT }));
            *mounts = list.into();
            used = true;
        }
    }
    if used && existing.is_none() {
        let mut volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
        volumes.push(volume(&name));
        spec["volumes"] = volumes.into();
    }
}

fn volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
                { "configMap": {
                    "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                } },
                { "downwardAPI": { "items": [
                    { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } },
                ] } },
            ],
        },
    })
}
