//! Secrets of the type `kubernetes.io/service-account-token` are filled, and go with their service account.

use std::sync::{Arc, Weak};

use super::{Feed, Next};
use crate::delete::{self, Options};
use crate::server::Server;
use crate::store::{Change, Event, EventKind, Key, Moment, Object, View};
use crate::token::secret::{ACCOUNT_NAME, ACCOUNT_UID, TYPE, fill};
use crate::write::Failure;

const SECRETS: &str = "core/secrets";
const ACCOUNTS: &str = "core/serviceaccounts";

fn wanted(_: &Moment<'_>, key: &Key, event: &Event) -> bool {
    match &*key.resource {
        SECRETS => event.kind != EventKind::Deleted,
        ACCOUNTS => event.kind != EventKind::Modified,
        _ => false,
    }
}

/// Looks after such Secrets until the server goes.
pub(super) async fn run(server: Weak<Server>) {
    let Some(mut feed) = Feed::new(&server, wanted) else { return };
    let mut every = true;
    loop {
        let Some(server) = feed.server() else { return };
        if every {
            for secret in server.store.list(&SECRETS.into(), "").objects {
                settle(&server, &secret).await;
            }
        }
        drop(server);
        every = false;
        match feed.next().await {
            Next::Closed => return,
            Next::Missed => every = true,
            Next::Event(key, event) => {
                let Some(server) = feed.server() else { return };
                match &*key.resource {
                    SECRETS => settle(&server, &event.object).await,
                    _ => {
                        for secret in server.store.list(&SECRETS.into(), &key.namespace).objects {
                            settle(&server, &secret).await;
                        }
                    }
                }
            }
        }
    }
}

/// Fills a Secret, or removes it when its account is gone.
async fn settle(server: &Arc<Server>, secret: &Object) {
    // Most Secrets are of another type: no need to read them.
    if secret.locked.is_some() || !secret.json.windows(TYPE.len()).any(|window| window == TYPE.as_bytes()) {
        return;
    }
    let value = secret.value();
    let annotation = |name: &str| value["metadata"]["annotations"][name].as_str().unwrap_or_default();
    let name = annotation(ACCOUNT_NAME);
    if value["type"] != TYPE || name.is_empty() || secret.deleting {
        return;
    }
    let account = server.store.get(&Key::new(&ACCOUNTS.into(), &secret.namespace, name));
    let known = annotation(ACCOUNT_UID);
    let key = Key::new(&SECRETS.into(), &secret.namespace, &secret.name);
    let filled = match account {
        Some(account) if known.is_empty() || *known == *account.uid => fill(server, &value, &account),
        // Never filled: the account may still come.
        None if known.is_empty() => return,
        _ => return remove(server, &key, secret).await,
    };
    let Some(filled) = filled else { return };
    let written = server.store.write(&key, |current, _: &View<'_>| {
        let same = current.is_some_and(|current| current.revision == secret.revision);
        // A change in between comes with its own event.
        Ok::<_, Failure>(if same { Change::Put(filled) } else { Change::Nothing })
    });
    if written.await.is_err() {
        tracing::warn!(namespace = %key.namespace, name = %key.name, "the Secret of a service account cannot be written");
    }
}

async fn remove(server: &Arc<Server>, key: &Key, secret: &Object) {
    let Some(kind) = server.registry().get("", "v1", "secrets").cloned() else { return };
    let options = Options { uid: Some(secret.uid.to_string()), ..Options::default() };
    if let Err(error) = delete::delete(server, &kind, key, &options).await
        && !matches!(error.code, 404 | 409)
    {
        tracing::warn!(namespace = %key.namespace, name = %key.name, %error, "the Secret of a service account cannot be deleted");
    }
}
