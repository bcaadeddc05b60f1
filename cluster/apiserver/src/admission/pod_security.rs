//! Pod security: the namespace's labels say which level is demanded and of which is warned.
//!
//! The checks are those of the newest version of the standard; a `-version` label is shown but selects nothing older.
//! The audit level has no effect, as there is no audit log.

mod baseline;
mod restricted;

use serde_json::Value;

use crate::status::{ApiError, Cause, quote};
use crate::store::Key;
use crate::write::{Request, name_of};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// What is wrong, and where: `hostPort (container "c" uses hostPort 80)`.
struct Finding {
    reason: &'static str,
    detail: String,
}

/// A level with its version, as the labels of a namespace say it.
struct Level {
    restricted: bool,
    shown: String,
}

fn level(request: &Request<'_>, mode: &str) -> Option<Level> {
    let key = Key::new(&request.server.namespaces, "", &request.key.namespace);
    let namespace = request.server.store.get_head(&key)?;
    let level = namespace.labels.get(&format!("{PREFIX}{mode}"))?;
    let version = namespace.labels.get(&format!("{PREFIX}{mode}-version")).unwrap_or("latest");
    match level {
        "privileged" => None,
        // A level that is no level counts as the strictest, as upstream.
        other => Some(Level { restricted: other != "baseline", shown: format!("{other}:{version}") }),
    }
}

/// Refuses labels of a namespace that name no level or version.
pub(super) fn check_labels(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    for mode in ["enforce", "audit", "warn"] {
        let mut check = |label: String, sound: fn(&str) -> bool, text: &str| {
            let value = &object["metadata"]["labels"][&label];
            if value.as_str().is_some_and(|value| !sound(value)) {
                causes.push(Cause::invalid(format!("metadata.labels[{label}]"), value, text));
            }
        };
        let level = |value: &str| matches!(value, "privileged" | "baseline" | "restricted");
        check(format!("{PREFIX}{mode}"), level, "must be one of privileged, baseline, restricted");
        let version = |value: &str| {
            let minor = value.strip_prefix("v1.").unwrap_or_default();
            value == "latest"
                || !minor.is_empty() && minor.len() < 4 && minor.bytes().all(|b| b.is_ascii_digit())
        };
        check(format!("{PREFIX}{mode}-version"), version, "must be \"latest\" or \"v1.x\"");
    }
    match causes.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(&request.kind.kind, "", &name_of(object), causes)),
    }
}

/// The spec of the Pods that an object makes.
fn pod_spec<'a>(request: &Request<'_>, object: &'a Value) -> Option<&'a Value> {
    let template = match (request.kind.group.as_str(), request.kind.plural.as_str()) {
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") | ("batch", "jobs") => {
            &object["spec"]["template"]
        }
        ("", "replicationcontrollers") => &object["spec"]["template"],
        ("", "podtemplates") => &object["template"],
        ("batch", "cronjobs") => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    Some(&template["spec"]).filter(|spec| spec.is_object())
}

/// What a spec violates, as one text.
fn violations(level: &Level, spec: &Value, pod: &Value) -> Option<String> {
    let mut found = baseline::check(spec, pod, level.restricted);
    if level.restricted {
        found.extend(restricted::check(spec));
    }
    let texts: Vec<String> = found
        .iter()
        .map(|finding| match finding.detail.as_str() {
            "" => finding.reason.to_owned(),
            detail => format!("{} ({detail})", finding.reason),
        })
        .collect();
    (!texts.is_empty()).then(|| format!("violate PodSecurity {}: {}", quote(&level.shown), texts.join(", ")))
}

/// Refuses a Pod below the level that its namespace enforces.
pub(super) fn validate(request: &Request<'_>, old: Option<&Value>, object: &Value) -> Result<(), ApiError> {
    if !request.kind.is("", "pods") || old.is_some_and(|old| old["spec"] == object["spec"]) {
        return Ok(());
    }
    let Some(level) = level(request, "enforce") else { return Ok(()) };
    match violations(&level, &object["spec"], object) {
        None => Ok(()),
        Some(text) => {
            let text = text.replacen("violate ", "violates ", 1);
            Err(ApiError::forbidden("pods", "", &name_of(object), &text))
        }
    }
}

/// Warns of what is below the level of which the namespace wants to be warned.
pub(super) fn warnings(request: &Request<'_>, object: &Value) -> Vec<String> {
    let spec = match request.kind.is("", "pods") {
        true => Some(&object["spec"]),
        false => pod_spec(request, object),
    };
    let Some(spec) = spec.filter(|_| request.door.is_main()) else { return Vec::new() };
    let Some(level) = level(request, "warn") else { return Vec::new() };
    violations(&level, spec, object).map(|text| format!("would {text}")).into_iter().collect()
}

/// All containers, in the order in which upstream looks at them.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten())
}

fn name(container: &Value) -> String {
    container["name"].as_str().unwrap_or_default().to_owned()
}

/// Names of the containers for which `bad` holds.
fn named(spec: &Value, bad: impl Fn(&Value) -> bool) -> Vec<String> {
    containers(spec).filter(|container| bad(container)).map(name).collect()
}

fn join(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quote(name)).collect();
    quoted.join(", ")
}

/// `container "a"` or `containers "a", "b"`.
fn of(names: &[String]) -> String {
    format!("container{} {}", if names.len() == 1 { "" } else { "s" }, join(names))
}

/// `pod`, `container "a"`, or both with an "and".
fn setters(pod: bool, names: &[String]) -> Option<String> {
    let mut who = Vec::new();
    if pod {
        who.push("pod".to_owned());
    }
    if !names.is_empty() {
        who.push(of(names));
    }
    (!who.is_empty()).then(|| who.join(" and "))
}
