//! After applying: waits until encrypted secrets are Secrets, and tells at once which are not. An App that waits for one that
//! cannot be opened has failed now, not when the time is up.

use std::time::{Duration, Instant};

use dodai_api::dodai::condition::{self, Condition};
use dodai_api::{App, EncryptedSecret, SealedSecret, SopsSecret};
use kube::{Api, Client, ResourceExt};

use crate::applying::AppliedApp;
use crate::follow::{self, End};
use crate::manifests::Manifest;
use crate::progress::Steps;

/// Longest wait for the engine to look at a secret; KMS may be slow, a decision is not.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How soon to look again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What an App says while a Secret that it names is not there.
const WAITING: &str = "WaitingForSecret";

/// Follows secrets, then Apps. An App that waits for the Secret of one that is stalled fails at once.
pub(crate) async fn follow(
    client: &Client,
    manifests: &[Manifest],
    namespace: &str,
    apps: &[AppliedApp],
    steps: &Steps,
    timeout: Duration,
) -> End {
    if settle(client, manifests, namespace, steps).await {
        return follow::follow(client, apps, steps, timeout).await;
    }
    let end = tokio::select! {
        end = follow::follow(client, apps, steps, timeout) => end,
        () = one_waits(client, apps) => End::Failed,
    };
    steps.clear();
    if end == End::Ready { End::Failed } else { end }
}

/// Tells how each encrypted secret of the manifests ended. Returns whether all became Secrets, or may yet.
async fn settle(client: &Client, manifests: &[Manifest], namespace: &str, steps: &Steps) -> bool {
    let began = Instant::now();
    let mut well = true;
    for manifest in manifests {
        let namespace = manifest.namespace().unwrap_or(namespace);
        let name = manifest.name();
        if !manifest.is_secret() {
            continue;
        }
        loop {
            let conditions = conditions(client, manifest.kind(), namespace, name).await;
            let is = |type_: &str| condition::find(&conditions, type_).filter(|found| found.is_true());
            if is("Ready").is_some() {
                break;
            }
            if let Some(stalled) = is("Stalled") {
                steps.failed("secret", &format!("{name}: {}", stalled.message), &[]);
                well = false;
                break;
            }
            if began.elapsed() > WAIT_MAX {
                let why = condition::find(&conditions, "Ready").map(|ready| ready.message.clone());
                steps.note(&format!("secret {name} is not ready yet: {}", why.unwrap_or_default()));
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    well
}

/// The conditions of an object, once they are about its present spec.
async fn conditions(client: &Client, kind: &str, namespace: &str, name: &str) -> Vec<Condition> {
    let client = client.clone();
    let about = |generation: Option<i64>, observed: Option<i64>, conditions: Vec<Condition>| {
        if observed >= generation { conditions } else { Vec::new() }
    };
    // An answer that does not come is as good as none yet.
    let found = match kind {
        "EncryptedSecret" => {
            Api::<EncryptedSecret>::namespaced(client, namespace).get(name).await.ok().map(|object| {
                let status = object.status.unwrap_or_default();
                about(object.metadata.generation, status.observed_generation, status.conditions)
            })
        }
        "SopsSecret" => Api::<SopsSecret>::namespaced(client, namespace).get(name).await.ok().map(|object| {
            let status = object.status.unwrap_or_default();
            about(object.metadata.generation, status.observed_generation, status.conditions)
        }),
        _ => Api::<SealedSecret>::namespaced(client, namespace).get(name).await.ok().map(|object| {
            let status = object.status.unwrap_or_default();
            about(object.metadata.generation, status.observed_generation, status.conditions)
        }),
    };
    found.unwrap_or_default()
}

/// Comes back when an App waits for a Secret.
async fn one_waits(client: &Client, apps: &[AppliedApp]) {
    loop {
        for applied in apps {
            let api: Api<App> = Api::namespaced(client.clone(), &applied.namespace);
            let Ok(app) = api.get(&applied.name).await else { continue };
            let status = app.status.clone().unwrap_or_default();
            let ready = condition::find(&status.conditions, "Ready");
            if let Some(ready) = ready.filter(|ready| ready.reason == WAITING)
                && status.observed_generation >= Some(applied.generation)
            {
                tracing::info!(app = app.name_any(), message = ready.message, "an App waits for a Secret");
                return;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
