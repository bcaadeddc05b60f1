//! Checks of roles and bindings.

use serde_json::Value;

use super::{list, text};
use crate::names;
use crate::rbac::GROUP;
use crate::status::Cause;

fn is_empty(value: &Value) -> bool {
    list(value).is_empty()
}

/// Rules of a Role or, outside a namespace, of a ClusterRole.
pub(super) fn role(object: &Value, namespaced: bool, causes: &mut Vec<Cause>) {
    for (at, rule) in list(&object["rules"]).iter().enumerate() {
        policy_rule(rule, namespaced, &format!("rules[{at}]"), causes);
    }
    let aggregation = &object["aggregationRule"];
    if aggregation.is_object() && is_empty(&aggregation["clusterRoleSelectors"]) {
        let text = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        causes.push(Cause::required("aggregationRule.clusterRoleSelectors", text));
    }
}

fn policy_rule(rule: &Value, namespaced: bool, path: &str, causes: &mut Vec<Cause>) {
    if is_empty(&rule["verbs"]) {
        causes.push(Cause::required(format!("{path}.verbs"), "verbs must contain at least one value"));
    }
    let urls = &rule["nonResourceURLs"];
    if !is_empty(urls) {
        let mut wrong =
            |text: &str| causes.push(Cause::invalid(format!("{path}.nonResourceURLs"), urls, text));
        if namespaced {
            wrong("namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !is_empty(&rule[field])) {
            wrong("rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if is_empty(&rule["apiGroups"]) {
        let text = "resource rules must supply at least one api group";
        causes.push(Cause::required(format!("{path}.apiGroups"), text));
    }
    if is_empty(&rule["resources"]) {
        let text = "resource rules must supply at least one resource";
        causes.push(Cause::required(format!("{path}.resources"), text));
    }
}

/// A RoleBinding or, outside a namespace, a ClusterRoleBinding.
pub(super) fn binding(object: &Value, namespaced: bool, causes: &mut Vec<Cause>) {
    let role = &object["roleRef"];
    if text(role, "apiGroup") != GROUP {
        causes.push(Cause::not_supported("roleRef.apiGroup", &text(role, "apiGroup").into(), &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        causes.push(Cause::not_supported("roleRef.kind", &text(role, "kind").into(), kinds));
    }
    match text(role, "name") {
        "" => causes.push(Cause::required("roleRef.name", "")),
        name => {
            for detail in names::path_segment(name) {
                causes.push(Cause::invalid("roleRef.name", &name.into(), &detail));
            }
        }
    }
    for (at, subject) in list(&object["subjects"]).iter().enumerate() {
        self::subject(subject, namespaced, &format!("subjects[{at}]"), causes);
    }
}

fn subject(subject: &Value, namespaced: bool, path: &str, causes: &mut Vec<Cause>) {
    let name = text(subject, "name");
    if name.is_empty() {
        causes.push(Cause::required(format!("{path}.name"), ""));
    }
    let mut group = |wanted: &str| {
        if text(subject, "apiGroup") != wanted {
            let field = format!("{path}.apiGroup");
            causes.push(Cause::not_supported(field, &text(subject, "apiGroup").into(), &[wanted]));
        }
    };
    match text(subject, "kind") {
        "ServiceAccount" => {
            group("");
            if !name.is_empty()
                && let Some(detail) = names::subdomain(name)
            {
                causes.push(Cause::invalid(format!("{path}.name"), &name.into(), &detail));
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                causes.push(Cause::required(format!("{path}.namespace"), ""));
            }
        }
        "User" | "Group" => group(GROUP),
        other => {
            let known = ["ServiceAccount", "User", "Group"];
            causes.push(Cause::not_supported(format!("{path}.kind"), &other.into(), &known));
        }
    }
}
