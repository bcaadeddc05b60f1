//! Nobody hands out more than he has: checks of writes to roles and bindings.
//!
//! The verbs `escalate` (on the role) and `bind` (on the role that is bound) lift the check, as upstream.

use serde_json::Value;

use super::rule::quoted;
use super::{GROUP, Rule};
use crate::kinds::Kind;
use crate::request::Attributes;
use crate::server::Server;
use crate::status::{ApiError, quote};
use crate::user::User;

/// Checks a new (`old` is `None`) or changed object of the group; others pass.
pub(crate) fn check(
    server: &Server,
    user: &User,
    kind: &Kind,
    namespace: &str,
    old: Option<&Value>,
    object: &Value,
) -> Result<(), ApiError> {
    if kind.group != GROUP || user.is_in(crate::user::MASTERS) {
        return Ok(());
    }
    if old.is_some_and(|old| same_but_collection(old, object)) {
        return Ok(());
    }
    let name = crate::write::name_of(object);
    let forbidden = |text: &str| ApiError::forbidden(&kind.plural, GROUP, &name, text);
    let rules = match kind.plural.as_str() {
        "roles" | "clusterroles" => {
            if may(server, user, "escalate", &kind.plural, namespace, &name) {
                return Ok(());
            }
            let aggregated = |object: &Value| {
                let selectors = object["aggregationRule"]["clusterRoleSelectors"].as_array();
                selectors.is_some_and(|list| !list.is_empty())
            };
            if (aggregated(object) || old.is_some_and(aggregated))
                && missing(server, user, "", &everything()).is_err()
            {
                return Err(forbidden("must have cluster-admin privileges to use the aggregationRule"));
            }
            Rule::read_all(&object["rules"])
        }
        _ => {
            let role = &object["roleRef"];
            let (role_kind, role_name) =
                (role["kind"].as_str().unwrap_or_default(), role["name"].as_str().unwrap_or_default());
            let plural = if role_kind == "ClusterRole" { "clusterroles" } else { "roles" };
            if may(server, user, "bind", plural, namespace, role_name) {
                return Ok(());
            }
            server
                .rbac
                .role_rules(&server.store, role_kind, role_name, namespace)
                .ok_or_else(|| ApiError::not_found(&kind.plural, GROUP, role_name))?
                .to_vec()
        }
    };
    missing(server, user, namespace, &rules).map_err(|text| forbidden(&text))
}

/// Only what garbage collection changes has changed.
fn same_but_collection(old: &Value, new: &Value) -> bool {
    let plain = |object: &Value| {
        let mut object = object.clone();
        if let Some(meta) = object["metadata"].as_object_mut() {
            for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
                meta.remove(field);
            }
        }
        object
    };
    plain(old) == plain(new)
}

fn may(server: &Server, user: &User, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
    let attributes = Attributes {
        verb: verb.into(),
        group: GROUP.into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Attributes::default()
    };
    server.rbac.decide(&server.store, user, &attributes).allowed
}

fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

/// Whether the user holds all of `rules` in the namespace; the error says which he does not.
fn missing(server: &Server, user: &User, namespace: &str, rules: &[Rule]) -> Result<(), String> {
    let (held, unresolved) = server.rbac.rules_for(&server.store, user, namespace);
    let missing: Vec<Rule> = rules
        .iter()
        .flat_map(Rule::split)
        .filter(|rule| !held.iter().any(|held| held.covers(rule)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<String> = merge_verbs(missing).iter().map(Rule::compact).collect();
    shown.sort();
    shown.dedup();
    let mut text = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        quote(&user.name),
        quoted(&user.groups),
        shown.join("\n")
    );
    if !unresolved.is_empty() {
        text.push_str(&format!("; resolution errors: [{}]", unresolved.join(" ")));
    }
    Err(text)
}

/// Rules for the same thing become one.
fn merge_verbs(rules: Vec<Rule>) -> Vec<Rule> {
    let mut merged: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = |known: &&mut Rule| {
            !rule.resources.is_empty() && Rule { verbs: rule.verbs.clone(), ..(**known).clone() } == rule
        };
        match merged.iter_mut().find(same) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => merged.push(rule),
        }
    }
    merged
}
