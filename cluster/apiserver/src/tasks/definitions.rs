//! A definition that is deleted takes its custom resources with it. This task also gives new definitions their
//! finalizer, and keeps what is served in step with what is stored.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use serde_json::Value;

use super::{Feed, Next};
use crate::crd::{self, set_condition};
use crate::delete::{self, Options, Propagation};
use crate::server::{CRD_FINALIZER as FINALIZER, Server, crds};
use crate::store::{Change, Event, EventKind, Key, Moment, View};
use crate::write::{Failure, now};

/// Cleans up until the server goes.
pub(super) async fn run(server: Weak<Server>) {
    let Some(mut feed) = Feed::new(&server, wanted) else { return };
    let mut todo: BTreeSet<String> = BTreeSet::new();
    if let Some(server) = feed.server() {
        todo.extend(terminating(&server));
    }
    loop {
        while let Some(name) = todo.pop_first() {
            let Some(server) = feed.server() else { return };
            clean(&server, &name).await;
        }
        match feed.next().await {
            Next::Closed => return,
            Next::Missed => {
                let Some(server) = feed.server() else { return };
                todo.extend(terminating(&server));
            }
            Next::Event(key, event) => {
                if key.resource == *crds() && event.object.deleting && event.kind != EventKind::Deleted {
                    todo.insert(key.name.to_string());
                } else if event.kind == EventKind::Deleted
                    && let Some((group, plural)) = key.resource.split_once('/')
                {
                    let name = format!("{plural}.{group}");
                    let Some(server) = feed.server() else { return };
                    if server.store.get(&Key::new(crds(), "", &name)).is_some_and(|found| found.deleting) {
                        todo.insert(name);
                    }
                }
            }
        }
    }
}

/// Definitions on their way out, and objects that have gone and may have been the last that one waits for.
fn wanted(_: &Moment<'_>, key: &Key, event: &Event) -> bool {
    match event.kind {
        // Groups of definitions have a dot.
        EventKind::Deleted => key.resource.contains('.'),
        _ => event.object.deleting && key.resource == *crds(),
    }
}

fn terminating(server: &Server) -> Vec<String> {
    let found = server.store.list(crds(), "").objects;
    found.iter().filter(|crd| crd.deleting).map(|crd| crd.name.to_string()).collect()
}

async fn clean(server: &Arc<Server>, name: &str) {
    let key = Key::new(crds(), "", name);
    let Some(found) = server.store.get(&key) else { return };
    let value = found.value();
    let ours = value["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|list| list.iter().any(|known| known == FINALIZER));
    if !found.deleting || !ours {
        return;
    }
    let (group, plural) = (crd::text(&value["spec"]["group"]), crd::text(&value["spec"]["names"]["plural"]));
    let resource: Arc<str> = format!("{group}/{plural}").into();
    let registry = server.registry();
    if let Some(kind) = registry.by_storage(&resource) {
        for object in server.store.list(&resource, "").objects {
            if object.deleting {
                continue;
            }
            let options = Options {
                propagation: Some(Propagation::Background),
                uid: Some(object.uid.to_string()),
                ..Options::default()
            };
            let key = Key::new(&resource, &object.namespace, &object.name);
            if let Err(error) = delete::delete(server, kind, &key, &options).await
                && !matches!(error.code, 404 | 409)
            {
                tracing::warn!(crd = name, object = %object.name, %error, "a custom resource cannot be deleted");
            }
        }
    }
    let left = server.store.list(&resource, "").objects.len();
    let mut removed = None;
    let written = server
        .store
        .write(&key, |current, _: &View<'_>| {
            let Some(current) = current else { return Ok(Change::Nothing) };
            let before = current.value();
            let mut value = before.clone();
            if left > 0 {
                let message = "CustomResource deletion is in progress";
                set_condition(
                    &mut value,
                    "Terminating",
                    "True",
                    "InstanceDeletionInProgress",
                    message,
                    &now(),
                );
                return Ok(if value == before { Change::Nothing } else { Change::Put(value) });
            }
            let meta = &mut value["metadata"];
            let mut list = meta["finalizers"].as_array().cloned().unwrap_or_default();
            list.retain(|known| known != FINALIZER);
            if list.is_empty() {
                meta.as_object_mut().map(|meta| meta.remove("finalizers"));
                removed = Some(value.clone());
                return Ok::<_, Failure>(Change::Delete(value));
            }
            meta["finalizers"] = Value::Array(list);
            Ok(Change::Put(value))
        })
        .await;
    if written.is_err() {
        tracing::warn!(crd = name, "the status of a definition cannot be written");
    }
    if removed.is_some() {
        server.rebuild_registry();
    }
}
