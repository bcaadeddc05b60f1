//! Garbage collection: dependents go with their owners, in the background or before them, or are set free.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Weak};

use serde_json::Value;

use super::{Feed, Next};
use crate::delete::{self, Options, Propagation};
use crate::kinds::split_api_version;
use crate::server::Server;
use crate::store::{Change, Event, EventKind, Key, Moment, Object, View};
use crate::write::Failure;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Time after which a failed step is tried again.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(200);

/// What may leave something to collect: objects that have or had owners, objects that are on their way out, and owners that
/// have gone.
fn wanted(moment: &Moment<'_>, _: &Key, event: &Event) -> bool {
    let object = &event.object;
    !object.owners.is_empty()
        || event.previous.as_ref().is_some_and(|before| !before.owners.is_empty())
        || match event.kind {
            EventKind::Deleted => moment.has_dependents(&object.uid),
            _ => object.deleting,
        }
}

/// Collects until the server goes.
pub(super) async fn run(server: Weak<Server>) {
    let Some(mut feed) = Feed::new(&server, wanted) else { return };
    let mut todo: BTreeSet<Key> = BTreeSet::new();
    if let Some(server) = feed.server() {
        todo.extend(interesting(&server));
    }
    loop {
        if let Some(key) = todo.pop_first() {
            let Some(server) = feed.server() else { return };
            if look_at(&server, &key).await.is_err() {
                // The disk may be full: the object is looked at again later.
                todo.insert(key);
                tokio::time::sleep(RETRY_AFTER).await;
            }
            if *server.closing.borrow() {
                return;
            }
            // What else has happened meanwhile.
            while let Some((key, event)) = feed.events.try_next() {
                note(&server, &key, &event, &mut todo);
            }
            continue;
        }
        match feed.next().await {
            Next::Closed => return,
            Next::Missed => {
                let Some(server) = feed.server() else { return };
                todo.extend(interesting(&server));
            }
            Next::Event(key, event) => {
                let Some(server) = feed.server() else { return };
                note(&server, &key, &event, &mut todo);
            }
        }
    }
}

/// Objects that may have something to do: all with owners, and all that wait for their dependents.
fn interesting(server: &Server) -> Vec<Key> {
    let all = server.store.all().into_iter();
    all.filter(|(_, object)| !object.owners.is_empty() || object.deleting).map(|(key, _)| key).collect()
}

fn note(server: &Server, key: &Key, event: &Event, todo: &mut BTreeSet<Key>) {
    let object = &event.object;
    match event.kind {
        EventKind::Deleted => {
            todo.extend(server.store.dependents(&object.uid));
            // An owner that waits for this dependent.
            todo.extend(object.owners.iter().filter_map(|owner| server.store.key_of(owner)));
        }
        _ => {
            if !object.owners.is_empty() || object.deleting {
                todo.insert(key.clone());
            }
            if object.deleting {
                todo.extend(object.owners.iter().filter_map(|owner| server.store.key_of(owner)));
            }
            // An owner that waits for this one, which is not its dependent any more.
            let before = event.previous.iter().flat_map(|before| before.owners.iter());
            let left = before.filter(|owner| !object.owners.contains(owner));
            todo.extend(left.filter_map(|owner| server.store.key_of(owner)));
        }
    }
}

fn finalizers(value: &Value) -> Vec<&str> {
    value["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

async fn look_at(server: &Arc<Server>, key: &Key) -> Result<(), ()> {
    let Some(object) = server.store.get(key) else { return Ok(()) };
    if object.deleting {
        let value = object.value();
        if finalizers(&value).contains(&ORPHAN) {
            return orphan(server, key, &object).await;
        }
        if finalizers(&value).contains(&FOREGROUND) {
            return foreground(server, key, &object).await;
        }
    }
    if object.owners.is_empty() {
        return Ok(());
    }
    owners(server, key, &object).await
}

/// Whether an owner reference points at a living object of the right kind in the right place.
enum Owner {
    Living { waits_for_us: bool },
    Gone,
}

fn find_owner(server: &Server, reference: &Value, dependent: &Key) -> Owner {
    let uid = reference["uid"].as_str().unwrap_or_default();
    let Some(found) = server.store.key_of(uid) else {
        return if is_locked(server, reference, dependent) {
            Owner::Living { waits_for_us: false }
        } else {
            Owner::Gone
        };
    };
    // Owners live in the namespace of their dependents or in none.
    if !found.namespace.is_empty() && found.namespace != dependent.namespace {
        return Owner::Gone;
    }
    let (group, _) = split_api_version(reference["apiVersion"].as_str().unwrap_or_default());
    let registry = server.registry();
    let Some(kind) = registry.by_storage(&found.resource) else { return Owner::Gone };
    let named = reference["kind"].as_str().unwrap_or_default();
    let events = found.resource.ends_with("/events");
    if kind.kind != named
        || kind.group != group && !events
        || *found.name != *reference["name"].as_str().unwrap_or_default()
    {
        return Owner::Gone;
    }
    let Some(object) = server.store.get(&found) else { return Owner::Gone };
    let waits_for_us = object.deleting && finalizers(&object.value()).contains(&FOREGROUND);
    Owner::Living { waits_for_us }
}

/// Whether the owner may be a Secret that could not be opened: its uid is not known, so its dependents stay.
fn is_locked(server: &Server, reference: &Value, dependent: &Key) -> bool {
    let name = reference["name"].as_str().unwrap_or_default();
    let key = Key::new(&"core/secrets".into(), &dependent.namespace, name);
    reference["kind"] == "Secret" && server.store.get(&key).is_some_and(|found| found.locked.is_some())
}

async fn owners(server: &Arc<Server>, key: &Key, object: &Arc<Object>) -> Result<(), ()> {
    let value = object.value();
    let references = value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let (mut living, mut waiting, mut leaving) = (0, 0, HashSet::new());
    for reference in &references {
        let found = find_owner(server, reference, key);
        match found {
            Owner::Living { waits_for_us: false } => {
                living += 1;
                continue;
            }
            Owner::Living { waits_for_us: true } => waiting += 1,
            Owner::Gone => {}
        }
        leaving.insert(reference["uid"].as_str().unwrap_or_default().to_owned());
    }
    if leaving.is_empty() {
        return Ok(());
    }
    if living > 0 {
        // Somebody still owns it: it stays, and those who have gone, or wait for it to go, are let go of
        // (`attemptToDeleteItem` of garbagecollector.go).
        return strip_owners(server, key, &leaving).await;
    }
    if object.deleting {
        return Ok(());
    }
    // A dependent of an owner that goes in the foreground goes in the foreground, if it has dependents itself.
    let in_foreground = waiting > 0 && !server.store.dependents(&object.uid).is_empty();
    let held: Option<Propagation> = if finalizers(&value).contains(&ORPHAN) {
        Some(Propagation::Orphan)
    } else if in_foreground || finalizers(&value).contains(&FOREGROUND) {
        Some(Propagation::Foreground)
    } else {
        Some(Propagation::Background)
    };
    let options = Options { propagation: held, uid: Some(object.uid.to_string()), ..Options::default() };
    remove(server, key, &options).await
}

async fn remove(server: &Arc<Server>, key: &Key, options: &Options) -> Result<(), ()> {
    let registry = server.registry();
    let Some(kind) = registry.by_storage(&key.resource) else { return Ok(()) };
    match delete::delete(server, kind, key, options).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code, 403 | 404 | 409) => Ok(()),
        Err(error) => {
            tracing::warn!(resource = %key.resource, namespace = %key.namespace, name = %key.name, %error, "an object cannot be collected");
            Err(())
        }
    }
}

/// Changes metadata of an object as it is now; removes it if that was the last thing it waited for.
async fn change_meta(server: &Arc<Server>, key: &Key, change: impl Fn(&mut Value) -> bool) -> Result<(), ()> {
    let registry = server.registry();
    let Some(kind) = registry.by_storage(&key.resource).cloned() else { return Ok(()) };
    let mut removed = false;
    let written = server
        .store
        .write(key, |current, _: &View<'_>| {
            let Some(current) = current else { return Ok(Change::Nothing) };
            let mut value = current.value();
            if !change(&mut value) {
                return Ok(Change::Nothing);
            }
            let over = current.deleting
                && finalizers(&value).is_empty()
                && value["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
                && !crate::strategy::waits_for_finalize(&kind, &value);
            if over {
                removed = true;
                return Ok::<_, Failure>(Change::Delete(value));
            }
            Ok(Change::Put(value))
        })
        .await;
    if removed {
        server.after_delete(&kind);
    }
    written.map(drop).map_err(|_| ())
}

fn drop_finalizer(value: &mut Value, finalizer: &str) -> bool {
    let meta = &mut value["metadata"];
    let Some(list) = meta["finalizers"].as_array_mut() else { return false };
    let before = list.len();
    list.retain(|name| name != finalizer);
    let changed = list.len() != before;
    if list.is_empty() {
        meta.as_object_mut().map(|meta| meta.remove("finalizers"));
    }
    changed
}

async fn strip_owners(server: &Arc<Server>, key: &Key, uids: &HashSet<String>) -> Result<(), ()> {
    change_meta(server, key, |value| {
        let meta = &mut value["metadata"];
        let Some(list) = meta["ownerReferences"].as_array_mut() else { return false };
        let before = list.len();
        list.retain(|owner| !uids.contains(owner["uid"].as_str().unwrap_or_default()));
        let changed = list.len() != before;
        if list.is_empty() {
            meta.as_object_mut().map(|meta| meta.remove("ownerReferences"));
        }
        changed
    })
    .await
}

/// Sets the dependents free, then lets the owner go.
async fn orphan(server: &Arc<Server>, key: &Key, object: &Arc<Object>) -> Result<(), ()> {
    let uids = HashSet::from([object.uid.to_string()]);
    for dependent in server.store.dependents(&object.uid) {
        strip_owners(server, &dependent, &uids).await?;
    }
    change_meta(server, key, |value| drop_finalizer(value, ORPHAN)).await
}

/// Deletes the dependents, and lets the owner go when none is left that blocks it.
async fn foreground(server: &Arc<Server>, key: &Key, object: &Arc<Object>) -> Result<(), ()> {
    let mut blocked = false;
    for dependent in server.store.dependents(&object.uid) {
        let Some(found) = server.store.get(&dependent) else { continue };
        let value = found.value();
        let references = value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        blocked |= references
            .iter()
            .any(|reference| reference["uid"] == *object.uid && reference["blockOwnerDeletion"] == true);
        if !found.deleting {
            owners(server, &dependent, &found).await?;
        }
    }
    let left = server.store.dependents(&object.uid);
    blocked &= !left.is_empty();
    if blocked {
        return Ok(());
    }
    change_meta(server, key, |value| drop_finalizer(value, FOREGROUND)).await
}
