//! Cluster roles with an `aggregationRule` get the rules of the roles that it selects.

use std::sync::{Arc, Weak};

use serde_json::Value;

use super::{Feed, Next};
use crate::rbac::RESOURCES;
use crate::server::Server;
use crate::special::selects;
use crate::store::{Change, Key, Object, View};
use crate::write::Failure;

/// Keeps aggregated roles up to date until the server goes.
pub(super) async fn run(server: Weak<Server>) {
    let Some(mut feed) = Feed::new(&server, |_, key, _| &*key.resource == RESOURCES[0]) else { return };
    let resource: Arc<str> = RESOURCES[0].into();
    loop {
        let Some(server) = feed.server() else { return };
        // A role may select an aggregated one, so until nothing changes; in a circle the sets only grow.
        while aggregate_all(&server, &resource).await {}
        drop(server);
        if let Next::Closed = feed.next().await {
            return;
        }
    }
}

/// One pass over all roles; whether any has changed.
async fn aggregate_all(server: &Server, resource: &Arc<str>) -> bool {
    let roles = server.store.list(resource, "").objects;
    let mut changed = false;
    for role in &roles {
        let value = role.value();
        if !value["aggregationRule"].is_object() {
            continue;
        }
        let rules = gather(&value, role, &roles);
        let held = value["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
        // The order does not count, else roles in a circle could change each other for ever.
        if held.len() == rules.len() && rules.iter().all(|rule| held.contains(rule)) {
            continue;
        }
        let key = Key::new(resource, "", &role.name);
        let revision = role.revision;
        let mut value = value;
        value["rules"] = rules.into();
        let written = server.store.write(&key, |current, _: &View<'_>| {
            let same = current.is_some_and(|current| current.revision == revision);
            Ok::<_, Failure>(if same { Change::Put(value) } else { Change::Nothing })
        });
        match written.await {
            Ok(written) => changed |= written.object.is_some(),
            Err(_) => tracing::warn!(role = %role.name, "an aggregated role cannot be written"),
        }
    }
    changed
}

fn gather(value: &Value, role: &Object, roles: &[Arc<Object>]) -> Vec<Value> {
    let selectors = value["aggregationRule"]["clusterRoleSelectors"].as_array();
    let selectors = selectors.map(Vec::as_slice).unwrap_or_default();
    let mut rules: Vec<Value> = Vec::new();
    for other in roles {
        let chosen = selectors.iter().any(|selector| selects(selector, &other.labels));
        if !chosen || other.name == role.name {
            continue;
        }
        for rule in other.value()["rules"].as_array().into_iter().flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}
