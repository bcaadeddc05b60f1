//! What every namespace has: the service account `default`, and the ConfigMap `kube-root-ca.crt` with the CA of the
//! server (once it serves over HTTPS; without, there is no CA to tell).

use std::sync::{Arc, Weak};

use serde_json::{Value, json};

use super::{Feed, Next};
use crate::server::Server;
use crate::status::ApiError;
use crate::store::{Change, Event, EventKind, Key, Moment, Object, View};
use crate::write::now;

const ACCOUNTS: &str = "core/serviceaccounts";
const MAPS: &str = "core/configmaps";
const ROOT_CA: &str = "kube-root-ca.crt";

/// What this task looks at: namespaces, and what is taken from them.
fn wanted(_: &Moment<'_>, key: &Key, event: &Event) -> bool {
    match &*key.resource {
        "core/namespaces" => true,
        ACCOUNTS => &*key.name == "default" && event.kind == EventKind::Deleted,
        MAPS => &*key.name == ROOT_CA,
        _ => false,
    }
}

/// Keeps them there until the server goes.
pub(super) async fn run(server: Weak<Server>) {
    let Some(mut feed) = Feed::new(&server, wanted) else { return };
    let Some(mut ca) = feed.server().map(|server| server.ca.subscribe()) else { return };
    let mut every = true;
    loop {
        if every {
            let Some(server) = feed.server() else { return };
            for namespace in server.store.list(&server.namespaces, "").objects {
                furnish(&server, &namespace).await;
            }
        }
        every = false;
        let next = tokio::select! {
            biased;
            changed = ca.changed() => match changed {
                Ok(()) => Next::Missed,
                Err(_) => return,
            },
            next = feed.next() => next,
        };
        match next {
            Next::Closed => return,
            Next::Missed => every = true,
            Next::Event(key, _) => {
                let Some(server) = feed.server() else { return };
                let namespace = match &*key.resource {
                    "core/namespaces" => &key.name,
                    _ => &key.namespace,
                };
                if let Some(namespace) = server.store.get(&Key::new(&server.namespaces, "", namespace)) {
                    furnish(&server, &namespace).await;
                }
            }
        }
    }
}

fn new(namespace: &str, name: &str) -> Value {
    json!({ "metadata": {
        "name": name, "namespace": namespace, "uid": uuid::Uuid::new_v4().to_string(),
        "creationTimestamp": now(),
    } })
}

async fn furnish(server: &Arc<Server>, namespace: &Object) {
    if namespace.deleting {
        return;
    }
    let account = Key::new(&ACCOUNTS.into(), &namespace.name, "default");
    put(server, &account, |current| current.is_none().then(|| new(&namespace.name, "default"))).await;
    let Some(ca) = server.ca.borrow().clone() else { return };
    let map = Key::new(&MAPS.into(), &namespace.name, ROOT_CA);
    put(server, &map, |current| {
        let mut value = current.unwrap_or_else(|| {
            let mut map = new(&namespace.name, ROOT_CA);
            let text = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                        such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                        distributions of Kubernetes clusters.";
            map["metadata"]["annotations"]["kubernetes.io/description"] = text.into();
            map
        });
        let wanted = json!({ "ca.crt": &*ca });
        if value["data"] == wanted {
            return None;
        }
        value["data"] = wanted;
        Some(value)
    })
    .await;
}

/// Writes what `wanted` makes of the current state, if the namespace is still open.
async fn put(server: &Server, key: &Key, wanted: impl FnOnce(Option<Value>) -> Option<Value>) {
    if server.store.get(key).is_some() && &*key.resource == ACCOUNTS {
        return;
    }
    let written = server.store.write(key, |current: Option<&Arc<Object>>, view: &View<'_>| {
        let namespace = view.get(&Key::new(&server.namespaces, "", &key.namespace));
        if namespace.is_none_or(|namespace| namespace.deleting) {
            return Ok(Change::Nothing);
        }
        let value = wanted(current.map(|object| object.value()));
        Ok::<_, ApiError>(value.map_or(Change::Nothing, Change::Put))
    });
    if let Err(error) = written.await {
        tracing::warn!(namespace = %key.namespace, name = %key.name, %error, "what every namespace has cannot be written");
    }
}
