//! A namespace that is deleted is emptied first; its conditions say what it waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use serde_json::{Value, json};

use super::{Feed, Next};
use crate::crd::set_condition;
use crate::delete::{self, Options, Propagation};
use crate::server::Server;
use crate::store::{Change, Event, EventKind, Key, Moment, View};
use crate::write::{Failure, now};

/// Empties namespaces until the server goes.
pub(super) async fn run(server: Weak<Server>) {
    let Some(mut feed) = Feed::new(&server, wanted) else { return };
    let mut todo: BTreeSet<String> = BTreeSet::new();
    if let Some(server) = feed.server() {
        todo.extend(terminating(&server));
    }
    loop {
        while let Some(name) = todo.pop_first() {
            let Some(server) = feed.server() else { return };
            empty(&server, &name).await;
        }
        match feed.next().await {
            Next::Closed => return,
            Next::Missed => {
                let Some(server) = feed.server() else { return };
                todo.extend(terminating(&server));
            }
            Next::Event(key, event) => {
                let name = if event.kind == EventKind::Deleted { &key.namespace } else { &key.name };
                todo.insert(name.to_string());
            }
        }
    }
}

const NAMESPACES: &str = "core/namespaces";

/// Namespaces on their way out, and what goes in them.
fn wanted(moment: &Moment<'_>, key: &Key, event: &Event) -> bool {
    if event.kind != EventKind::Deleted {
        return event.object.deleting && &*key.resource == NAMESPACES;
    }
    let namespace = || moment.get(&Key::new(&NAMESPACES.into(), "", &key.namespace));
    !key.namespace.is_empty() && namespace().is_some_and(|namespace| namespace.deleting)
}

fn terminating(server: &Server) -> Vec<String> {
    let namespaces = server.store.list(&server.namespaces, "").objects;
    namespaces
        .iter()
        .filter(|namespace| namespace.deleting)
        .map(|namespace| namespace.name.to_string())
        .collect()
}

async fn empty(server: &Arc<Server>, name: &str) {
    let key = Key::new(&server.namespaces, "", name);
    let Some(namespace) = server.store.get(&key) else { return };
    let value = namespace.value();
    let has_ours = |value: &Value| {
        value["spec"]["finalizers"]
            .as_array()
            .is_some_and(|list| list.iter().any(|finalizer| finalizer == "kubernetes"))
    };
    if !namespace.deleting || !has_ours(&value) {
        return;
    }
    let registry = server.registry();
    for (resource, _) in server.store.count_in(name) {
        let Some(kind) = registry.by_storage(&resource) else { continue };
        for object in server.store.list(&resource, name).objects {
            if object.deleting {
                continue;
            }
            let options = Options {
                propagation: Some(Propagation::Background),
                uid: Some(object.uid.to_string()),
                ..Options::default()
            };
            let key = Key::new(&resource, name, &object.name);
            if let Err(error) = delete::delete(server, kind, &key, &options).await
                && !matches!(error.code, 404 | 409)
            {
                tracing::warn!(namespace = name, %resource, object = %object.name, %error, "an object of a namespace cannot be deleted");
            }
        }
    }
    let left = server.store.count_in(name);
    finish(server, &key, &left).await;
}

/// Lets an empty namespace go, or writes what it waits for.
async fn finish(server: &Arc<Server>, key: &Key, left: &[(Arc<str>, usize)]) {
    let report = report(server, &key.name, left);
    let kind = server.registry().get("", "v1", "namespaces").cloned();
    let mut removed = false;
    let written = server
        .store
        .write(key, |current, _: &View<'_>| {
            let Some(current) = current else { return Ok(Change::Nothing) };
            let before = current.value();
            let mut value = before.clone();
            if left.is_empty()
                && let Some(list) = value["spec"]["finalizers"].as_array_mut()
            {
                list.retain(|finalizer| finalizer != "kubernetes");
                if list.is_empty() {
                    value["spec"] = json!({});
                }
            }
            for (ty, status, reason, message) in &report {
                set_condition(&mut value, ty, status, reason, message, &now());
            }
            let over = value["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty)
                && value["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
            if over {
                removed = true;
                return Ok::<_, Failure>(Change::Delete(value));
            }
            Ok(if value == before { Change::Nothing } else { Change::Put(value) })
        })
        .await;
    if written.is_err() {
        tracing::warn!(namespace = %key.name, "the status of a namespace cannot be written");
    }
    if let (Some(kind), true) = (kind, removed) {
        server.after_delete(&kind);
    }
}

type Condition = (&'static str, &'static str, &'static str, String);

fn report(server: &Server, name: &str, left: &[(Arc<str>, usize)]) -> Vec<Condition> {
    let mut resources = Vec::new();
    let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
    for (resource, count) in left {
        let (group, plural) = resource.split_once('/').unwrap_or_default();
        let group = if group == "core" { "" } else { group };
        resources.push(format!("{plural}.{group} has {count} resource instances"));
        for object in server.store.list(resource, name).objects {
            for finalizer in object.value()["metadata"]["finalizers"].as_array().into_iter().flatten() {
                *finalizers.entry(finalizer.as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
    }
    let mut conditions: Vec<Condition> = vec![
        (
            "NamespaceDeletionDiscoveryFailure",
            "False",
            "ResourcesDiscovered",
            "All resources successfully discovered".into(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".into(),
        ),
        (
            "NamespaceDeletionContentFailure",
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".into(),
        ),
    ];
    conditions.push(match resources.is_empty() {
        true => (
            "NamespaceContentRemaining",
            "False",
            "ContentRemoved",
            "All content successfully removed".into(),
        ),
        false => (
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", resources.join(", ")),
        ),
    });
    conditions.push(match finalizers.is_empty() {
        true => (
            "NamespaceFinalizersRemaining",
            "False",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".into(),
        ),
        false => {
            let list: Vec<String> = finalizers
                .iter()
                .map(|(name, count)| format!("{name} in {count} resource instances"))
                .collect();
            (
                "NamespaceFinalizersRemaining",
                "True",
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {}", list.join(", ")),
            )
        }
    });
    conditions
}
