//! What may be asked of the garbage collector, whoever else is at work: what goes without having been asked for has owners,
//! and none of them stays; an owner is taken from its dependent only when it is gone or lets go.
//!
//! The collector is a task of the API server. It sees every write, in order, so that no fault of a network reaches it; what
//! reaches it is the order of writes that faults bring about: owners that go while a request for a dependent is on its way,
//! controllers that make anew what is being collected, late adoptions.

use std::cell::RefCell;
use std::collections::BTreeSet;

use dodai_apiserver::testing::{Call, Change, Sim, World};
use kube::api::{DeleteParams, Preconditions};
use serde_json::Value;

use super::kubelet::{self, expect, has_finalizer, is_marked, name, text, uid};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

thread_local! {
    /// Uids whose deletion somebody asked for, in the run of this thread.
    static ASKED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// A run begins.
pub(crate) fn begin() {
    ASKED.take();
}

/// Takes in what a controller asks.
pub(crate) fn call(call: &Call) {
    if call.verb() == "delete" {
        asked(text(&call.json()["preconditions"]["uid"]));
    }
}

fn asked(uid: &str) {
    ASKED.with_borrow_mut(|all| all.insert(uid.to_owned()));
}

/// A person deletes an object.
pub(crate) async fn delete(sim: &Sim, resource: &str, object: &Value, params: DeleteParams) {
    asked(uid(object));
    let preconditions = Some(Preconditions { uid: Some(uid(object).to_owned()), resource_version: None });
    expect(
        sim,
        kubelet::api(sim, resource).delete(name(object), &DeleteParams { preconditions, ..params }).await,
    );
}

fn owners(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn find<'a>(world: &'a World, uid: &str) -> Option<&'a Value> {
    world.iter().map(|(_, object)| object).find(|object| self::uid(object) == uid)
}

/// The rules, for one write.
pub(crate) fn always(change: &Change<'_>) -> Result<(), String> {
    let (Some(before), after) = (change.before.at(change.id), change.after.at(change.id)) else {
        return Ok(());
    };
    let after = after.filter(|after| uid(after) == uid(before));
    let goes = !is_marked(before) && after.is_none_or(is_marked);
    if goes && !ASKED.with_borrow(|all| all.contains(uid(before))) {
        is_collected_rightly(change, before)?;
    }
    if after.is_none() && has_finalizer(before, FOREGROUND) {
        blocks_nobody(change.before, before)?;
    }
    match after {
        Some(after) if change.id.resource == "configmaps" => is_set_free_rightly(change.after, before, after),
        _ => Ok(()),
    }
}

fn is_collected_rightly(change: &Change<'_>, object: &Value) -> Result<(), String> {
    // Roles and accounts that the API server looks after by itself.
    if change.id.resource.contains("rbac") || change.id.resource == "serviceaccounts" {
        return Ok(());
    }
    if owners(object).is_empty() {
        return Err(format!("{} was collected, and nobody owned it", change.id));
    }
    for owner in owners(object) {
        let found = find(change.after, text(&owner["uid"]));
        if let Some(found) = found.filter(|found| !(is_marked(found) && has_finalizer(found, FOREGROUND))) {
            return Err(format!("{} was collected, and its owner {} is still there", change.id, name(found)));
        }
    }
    Ok(())
}

/// An owner that is deleted in the foreground goes after those that block it.
fn blocks_nobody(world: &World, owner: &Value) -> Result<(), String> {
    for (id, object) in world.iter() {
        let blocks = |reference: &&Value| {
            reference["uid"] == owner["metadata"]["uid"] && reference["blockOwnerDeletion"] == true
        };
        if owners(object).iter().any(|reference| blocks(&reference)) {
            return Err(format!("{} went before its dependent {id}", name(owner)));
        }
    }
    Ok(())
}

/// References go with their owners, when the owner lets its dependents go, or when it waits for one that another keeps. Of Pods controllers let go, too, so that this
/// is asked of what no controller looks after.
fn is_set_free_rightly(world: &World, before: &Value, after: &Value) -> Result<(), String> {
    for owner in owners(before).iter().filter(|owner| !owners(after).contains(owner)) {
        let found = find(world, text(&owner["uid"]));
        let is_kept = |found: &Value| has_finalizer(found, FOREGROUND) && !owners(after).is_empty();
        if let Some(found) = found.filter(|found| !has_finalizer(found, ORPHAN) && !is_kept(found)) {
            return Err(format!("{} lost its owner {}, which is still there", name(before), name(found)));
        }
    }
    Ok(())
}

/// Nothing stays whose owners are all gone.
pub(crate) fn finally(world: &World) -> Result<(), String> {
    let uids: BTreeSet<&str> = world.iter().map(|(_, object)| uid(object)).collect();
    for (id, object) in world.iter() {
        if !owners(object).is_empty()
            && owners(object).iter().all(|owner| !uids.contains(text(&owner["uid"])))
        {
            return Err(format!("{id} stays, and its owners are gone"));
        }
    }
    Ok(())
}
