//! What depends on other objects: namespaces that must exist, and the plugins that are on in every cluster.
//!
//! `mutate` changes a new object, `validate` refuses a new or changed one after its own rules have been checked; both in
//! upstream's order. `mutate_by_hooks` and `validate_by_hooks` ask the policies and webhooks that people have configured.

pub(crate) mod attributes;
mod certificate;
mod expression;
mod limits;
mod matching;
mod pod;
mod pod_security;
pub(crate) mod policy;
pub(crate) mod quota;
mod service_account;
mod storage;
mod stored_only;
pub(crate) mod webhook;

use std::sync::Arc;

use serde_json::{Value, json};

pub(crate) use pod::tolerations;
pub(crate) use stored_only::warnings as stored_only_warnings;

use attributes::{Attributes, Operation};

use crate::kinds::Kind;
use crate::server::Server;
use crate::status::{ApiError, Cause};
use crate::store::{Key, View};
use crate::user::User;
use crate::write::Request;

/// 404 when the namespace of a new object does not exist.
pub(crate) fn namespace_exists(
    server: &Server,
    kind: &Kind,
    namespace: &str,
    name: &str,
) -> Result<(), ApiError> {
    let key = Key::new(&server.namespaces, "", namespace);
    match server.store.get_head(&key) {
        None => Err(ApiError::not_found("namespaces", "", namespace)),
        Some(found) if found.deleting => Err(terminating(kind, namespace, name)),
        Some(_) => Ok(()),
    }
}

/// The same, inside the write: no object can slip into a namespace that is on its way out.
pub(crate) fn namespace_open(view: &View<'_>, kind: &Kind, key: &Key) -> Result<(), ApiError> {
    if !kind.namespaced {
        return Ok(());
    }
    let namespace =
        Key { resource: "core/namespaces".into(), namespace: "".into(), name: key.namespace.clone() };
    match view.get(&namespace) {
        None => Err(ApiError::not_found("namespaces", "", &key.namespace)),
        Some(found) if found.deleting => Err(terminating(kind, &key.namespace, &key.name)),
        Some(_) => Ok(()),
    }
}

fn terminating(kind: &Kind, namespace: &str, name: &str) -> ApiError {
    let text =
        format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut error = ApiError::forbidden(&kind.plural, &kind.group, name, &text);
    error.details.get_or_insert_default().causes = vec![Cause {
        reason: "NamespaceTerminating",
        field: "metadata.namespace".into(),
        message: format!("namespace {namespace} is being terminated"),
    }];
    error
}

/// No new objects of a definition that is on its way out.
pub(crate) fn custom_open(server: &Server, kind: &Kind, key: &Key) -> Result<(), ApiError> {
    if !kind.is_custom() {
        return Ok(());
    }
    let text = "create not allowed while custom resource definition is terminating";
    let registry = server.registry();
    match registry.get(&kind.group, &kind.version, &kind.plural).and_then(|kind| kind.custom.as_ref()) {
        Some(custom) if !custom.terminating => Ok(()),
        _ => Err(ApiError::forbidden(&kind.plural, &kind.group, &key.name, text)),
    }
}

/// Changes a new object as upstream's default plugins do.
pub(crate) async fn mutate(request: &Request<'_>, object: &mut Value) -> Result<(), ApiError> {
    match (request.kind.group.as_str(), request.kind.plural.as_str()) {
        ("", "pods") if object["spec"].is_object() => {
            limits::set_defaults(request, object);
            service_account::mutate(request, object).await?;
            pod::priority(request, object)?;
            tolerations(&mut object["spec"]);
            Ok(())
        }
        ("", "nodes") => {
            pod::taint_new_node(request, object);
            Ok(())
        }
        ("", "persistentvolumeclaims") => {
            storage::claim(request, object);
            Ok(())
        }
        ("networking.k8s.io", "ingresses") => {
            storage::ingress_class(request, object);
            Ok(())
        }
        ("certificates.k8s.io", "certificatesigningrequests") => {
            let spec = &mut object["spec"];
            spec["username"] = request.user.name.as_str().into();
            spec["groups"] = request.user.groups.clone().into();
            if !request.user.uid.is_empty() {
                spec["uid"] = request.user.uid.as_str().into();
            }
            Ok(())
        }
        ("", "persistentvolumes") => {
            storage::protect(object, "kubernetes.io/pv-protection");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Refuses a new object (`old` is `None`), or one changed through the main door. What it adds to quotas is charged;
/// the charge must be given back when the object is not stored after all.
pub(crate) async fn validate(
    request: &Request<'_>,
    old: Option<&Value>,
    object: &Value,
) -> Result<quota::Charge, ApiError> {
    if request.kind.is("certificates.k8s.io", "certificatesigningrequests")
        && let ("approval", Some(old)) = (request.door.name(), old)
    {
        certificate::validate_approval(request, old)?;
    }
    if request.kind.is("", "namespaces") && request.door.is_main() {
        pod_security::check_labels(request, object)?;
    }
    if request.door.is_main() || request.door.name() == "ephemeralcontainers" {
        pod_security::validate(request, old, object)?;
    }
    if request.kind.namespaced && request.door.is_main() {
        limits::validate(request, old, object)?;
        return quota::charge(request, old, object).await;
    }
    Ok(quota::Charge::default())
}

/// Warnings for an object that is let in.
pub(crate) fn warnings(request: &Request<'_>, object: &Value) -> Vec<String> {
    pod_security::warnings(request, object)
}

/// Whether there is any policy or webhook. Most servers have none, and need not work out what one would be asked.
pub(crate) fn has_hooks(server: &Server) -> bool {
    let store = &server.store;
    server.policies.any(store) || server.mutating_policies.any(store) || server.webhooks.any(store)
}

/// Asks the webhooks and policies that may change an object. The result is the changed object, if there is one, and
/// warnings.
///
/// # Errors
/// When one of them refuses the request.
pub(crate) async fn mutate_by_hooks(
    attributes: &Attributes<'_>,
) -> Result<(Option<Value>, Vec<String>), ApiError> {
    let mut warnings = Vec::new();
    let mut policies = policy::mutate::Course::new(attributes);
    let mut changed = match &mut policies {
        Some(policies) => policies.run(None, false, false)?,
        None => None,
    };
    let seen = Attributes { object: changed.as_ref().or(attributes.object), ..attributes.clone() };
    let by_webhooks = webhook::mutate(&seen, &mut warnings).await?;
    let changed_since = by_webhooks.is_some();
    changed = by_webhooks.or(changed);
    if let Some(policies) = &mut policies
        && (changed_since || policies.wants_again())
        && let Some(again) = policies.run(changed.as_ref(), true, changed_since)?
    {
        changed = Some(again);
    }
    Ok((changed, warnings))
}

/// Asks the policies and webhooks that may refuse. The result are warnings.
///
/// # Errors
/// When one of them refuses the request.
pub(crate) async fn validate_by_hooks(attributes: &Attributes<'_>) -> Result<Vec<String>, ApiError> {
    let mut warnings = policy::validate(attributes)?;
    webhook::validate(attributes, &mut warnings).await?;
    Ok(warnings)
}

/// Asks about a deletion.
///
/// # Errors
/// When it is refused.
pub(crate) async fn check_deletion(
    server: &Arc<Server>,
    user: &User,
    kind: &Arc<Kind>,
    key: &Key,
    options: &crate::delete::Options,
) -> Result<Vec<String>, ApiError> {
    if !has_hooks(server) {
        return Ok(Vec::new());
    }
    let Some(seen) = server.store.get_head(key) else { return Ok(Vec::new()) };
    let old = crate::codec::load(kind, &seen);
    let attributes = Attributes {
        server,
        user,
        operation: Operation::Delete,
        kind,
        subresource: "",
        namespace: namespace_of(kind, key),
        name: key.name.to_string(),
        object: None,
        old: Some(&old),
        dry_run: options.dry_run,
        options: options.to_value(),
    };
    let (_, mut warnings) = mutate_by_hooks(&attributes).await?;
    warnings.extend(validate_by_hooks(&attributes).await?);
    Ok(warnings)
}

/// A namespace lies in itself.
pub(crate) fn namespace_of<'k>(kind: &Kind, key: &'k Key) -> &'k str {
    if kind.is("", "namespaces") { &key.name } else { &key.namespace }
}

/// Asks about an object that comes through a subresource and is not stored: a binding, an eviction, options of a
/// connection.
///
/// # Errors
/// When it is refused.
pub(crate) async fn check_call(
    (server, user, kind): (&Arc<Server>, &User, &Arc<Kind>),
    key: &Key,
    (operation, subresource): (Operation, &str),
    object: &Value,
    dry_run: bool,
) -> Result<(Option<Value>, Vec<String>), ApiError> {
    let mut attributes = Attributes {
        server,
        user,
        operation,
        kind,
        subresource,
        namespace: namespace_of(kind, key),
        name: key.name.to_string(),
        object: Some(object),
        old: None,
        dry_run,
        options: match operation {
            Operation::Create => json!({ "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" }),
            _ => Value::Null,
        },
    };
    let (changed, mut warnings) = mutate_by_hooks(&attributes).await?;
    attributes.object = Some(changed.as_ref().unwrap_or(object));
    warnings.extend(validate_by_hooks(&attributes).await?);
    Ok((changed, warnings))
}

/// Checks a policy, a binding or a webhook configuration itself.
pub(crate) fn validate_configuration(
    kind: &Kind,
    old: Option<&Value>,
    object: &Value,
    causes: &mut Vec<Cause>,
) {
    match kind.plural.as_str() {
        "validatingadmissionpolicies" => policy::check::policy(old, object, causes),
        "validatingadmissionpolicybindings" => policy::check::binding(object, true, causes),
        "mutatingadmissionpolicies" => policy::check::mutating_policy(old, object, causes),
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => {
            webhook::check::configuration(old, object, causes);
        }
        "mutatingadmissionpolicybindings" => policy::check::binding(object, false, causes),
        _ => {}
    }
}
