//! Discovery, legacy and aggregated, and `/version`.

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use crate::kinds::{Kind, Registry};
use crate::reply::Reply;
use crate::request::{Form, Media, Query, negotiate};
use crate::status::ApiError;

/// The Kubernetes version whose API is served.
pub(crate) const VERSION: &str = "v1.36.2";
/// Groups in the order in which upstream lists them; others follow by name.
const ORDER: &[&str] = &[
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
];

/// `/version`.
pub(crate) fn version() -> Reply {
    let body = json!({
        "major": "1", "minor": "36", "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
    });
    Reply::value(200, &body, Media::JSON)
}

/// `/`: the paths there are.
pub(crate) fn paths(registry: &Registry) -> Reply {
    let mut paths = vec!["/api".to_owned(), "/api/v1".into(), "/apis".into()];
    for group in groups(registry) {
        paths.push(format!("/apis/{group}"));
        for version in versions(registry, group) {
            paths.push(format!("/apis/{group}/{version}"));
        }
    }
    paths.extend(
        ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned),
    );
    Reply::value(200, &json!({ "paths": paths }), Media::JSON)
}

fn groups(registry: &Registry) -> Vec<&str> {
    let mut groups: Vec<&str> =
        registry.groups.keys().map(String::as_str).filter(|group| !group.is_empty()).collect();
    groups
        .sort_by_key(|group| (ORDER.iter().position(|known| known == group).unwrap_or(ORDER.len()), *group));
    groups
}

/// Versions of a group, the preferred one first: GA before beta before alpha, later before earlier.
pub(crate) fn versions<'a>(registry: &'a Registry, group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> = registry
        .groups
        .get(group)
        .into_iter()
        .flat_map(|versions| versions.keys())
        .map(String::as_str)
        .collect();
    versions.sort_by(|left, right| rank(right).cmp(&rank(left)).then(left.cmp(right)));
    versions
}

fn rank(version: &str) -> (u8, u64, u64) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..end].parse().ok()?;
        match &rest[end..] {
            "" => Some((3, major, 0)),
            tail => {
                let (level, number) = match tail.strip_prefix("beta") {
                    Some(number) => (2, number),
                    None => (1, tail.strip_prefix("alpha")?),
                };
                Some((level, major, number.parse().ok()?))
            }
        }
    };
    parse().unwrap_or((0, 0, 0))
}

fn group_versions(registry: &Registry, group: &str) -> Value {
    let versions = versions(registry, group);
    let list: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    json!({ "name": group, "preferredVersion": list.first(), "versions": list })
}

/// Everything below `/api` and `/apis` that is no resource.
pub(crate) fn answer(
    registry: &Registry,
    path: &[&str],
    headers: &HeaderMap,
    query: &Query,
) -> Result<Reply, ApiError> {
    let mut media = negotiate(headers)?;
    media.pretty = query.flag("pretty");
    match (path, media.form) {
        (["api"], Form::Discovery(version)) => Ok(aggregated(registry, &[""], version, headers)),
        (["apis"], Form::Discovery(version)) => Ok(aggregated(registry, &groups(registry), version, headers)),
        _ => {
            let body = legacy(registry, path)?;
            match body {
                Some(body) => Ok(Reply::value(200, &body, Media { form: Form::Plain, ..media })),
                None => Ok(Reply::text(404, "404 page not found\n")),
            }
        }
    }
}

fn legacy(registry: &Registry, path: &[&str]) -> Result<Option<Value>, ApiError> {
    Ok(Some(match path {
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443" }],
        }),
        ["apis"] => {
            let list: Vec<Value> =
                groups(registry).into_iter().map(|group| group_versions(registry, group)).collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list })
        }
        ["api", version] => resources(registry, "", version)?,
        ["apis", group] => {
            if !registry.groups.contains_key(*group) {
                return Ok(None);
            }
            let mut body = group_versions(registry, group);
            body["kind"] = "APIGroup".into();
            body["apiVersion"] = "v1".into();
            body
        }
        ["apis", group, version] => {
            if !registry.groups.contains_key(*group) {
                return Ok(None);
            }
            resources(registry, group, version)?
        }
        _ => return Ok(None),
    }))
}

fn resources(registry: &Registry, group: &str, version: &str) -> Result<Value, ApiError> {
    let kinds = registry
        .groups
        .get(group)
        .and_then(|versions| versions.get(version))
        .ok_or_else(ApiError::no_such_path)?;
    let mut list = Vec::new();
    for kind in kinds.values() {
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": kind.verbs,
        });
        if !kind.short_names.is_empty() {
            entry["shortNames"] = kind.short_names.clone().into();
        }
        if !kind.categories.is_empty() {
            entry["categories"] = kind.categories.clone().into();
        }
        if let Some(hash) = &kind.storage_version_hash {
            entry["storageVersionHash"] = hash.as_str().into();
        }
        list.push(entry);
        for subresource in &kind.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", kind.plural, subresource.name), "singularName": "",
                "namespaced": kind.namespaced, "kind": subresource.kind, "verbs": subresource.verbs,
            });
            if let Some(version) = &subresource.version {
                entry["group"] = subresource.group.clone().unwrap_or_default().into();
                entry["version"] = version.as_str().into();
            }
            list.push(entry);
        }
    }
    let mut body = json!({ "kind": "APIResourceList", "groupVersion": crate::kinds::api_version(group, version), "resources": list });
    if !group.is_empty() {
        body["apiVersion"] = "v1".into();
    }
    Ok(body)
}

fn aggregated(registry: &Registry, names: &[&str], form: &'static str, headers: &HeaderMap) -> Reply {
    let mut items = Vec::new();
    for group in names {
        let versions: Vec<Value> = versions(registry, group)
            .into_iter()
            .map(|version| {
                let kinds = &registry.groups[*group][version];
                let resources: Vec<Value> = kinds.values().map(|kind| aggregated_resource(kind)).collect();
                json!({ "version": version, "freshness": "Current", "resources": resources })
            })
            .collect();
        let mut item = json!({ "metadata": {}, "versions": versions });
        if !group.is_empty() {
            item["metadata"]["name"] = (*group).into();
        }
        items.push(item);
    }
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{form}"), "metadata": {}, "items": items,
    });
    let content_type = match form {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    tagged(body.to_string(), content_type, headers)
}

/// An answer with an ETag, or 304 when the client has it.
pub(crate) fn tagged(body: String, content_type: &'static str, headers: &HeaderMap) -> Reply {
    use sha2::Digest;
    let tag = format!("\"{}\"", hex::encode_upper(sha2::Sha256::digest(body.as_bytes())));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut reply = if known { Reply::text(304, "") } else { Reply::text(200, body) };
    let head = reply.response.headers_mut();
    if known {
        head.remove(header::CONTENT_TYPE);
    } else {
        head.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    head.insert(header::VARY, HeaderValue::from_static("Accept"));
    head.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        head.insert(header::ETAG, tag);
    }
    reply
}

fn aggregated_resource(kind: &Kind) -> Value {
    let response =
        |group: &str, version: &str, name: &str| json!({ "group": group, "version": version, "kind": name });
    // A built-in kind of this very version is written without group and version.
    let own = |name: &str| match kind.is_custom() {
        true => response(&kind.group, &kind.version, name),
        false => response("", "", name),
    };
    let mut entry = json!({
        "resource": kind.plural, "responseKind": own(&kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular, "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        entry["shortNames"] = kind.short_names.clone().into();
    }
    if !kind.categories.is_empty() {
        entry["categories"] = kind.categories.clone().into();
    }
    if !kind.subresources.is_empty() {
        let list: Vec<Value> = kind
            .subresources
            .iter()
            .map(|subresource| {
                let response = match &subresource.version {
                    Some(version) => response(subresource.group.as_deref().unwrap_or_default(), version, &subresource.kind),
                    None => own(&subresource.kind),
                };
                json!({ "subresource": subresource.name, "responseKind": response, "verbs": subresource.verbs })
            })
            .collect();
        entry["subresources"] = list.into();
    }
    entry
}
