//! Custom resource definitions: from the object to what the server serves.
//!
//! Leaves out: conversion webhooks, which `crd/check.rs` refuses.

pub(crate) mod check;
mod format;
pub(crate) mod rules;
pub(crate) mod structural;

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::kinds::{Kind, Registry, Subresource};
use crate::status::{Cause, quote};
use structural::Structural;

/// A printer column of a custom resource.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub name: String,
    pub ty: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    pub path: String,
}

/// The paths of the scale subresource, without the leading dot.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub selector: Option<String>,
}

/// One served version of a custom resource.
#[derive(Debug)]
pub(crate) struct CustomVersion {
    pub schema: Structural,
    /// The CEL rules of the schema, if there are any.
    pub rules: Option<dodai_cel::rules::Validator>,
    /// The schema as published.
    pub open_api: Value,
    pub merge: dodai_merge::schema::Schema,
    pub columns: Vec<Column>,
    pub selectable: Vec<String>,
    pub scale: Option<Scale>,
    /// The warning for users of a deprecated version.
    pub deprecation: Option<String>,
    /// The schema of the version in which objects are stored, where it is another one.
    pub storage_schema: Option<Structural>,
    pub terminating: bool,
    /// Whether stored objects may differ from the schema, because it was changed or is not the stored version's.
    pub rewrite: bool,
}

impl CustomVersion {
    /// Checks a new object, or a changed one; through the door `status` only that part of it, and the rules.
    pub(crate) fn validate(
        &self,
        old: Option<&Value>,
        object: &Value,
        status_only: bool,
        causes: &mut Vec<Cause>,
    ) {
        match old {
            None => self.schema.validate(object, "", causes),
            Some(old) if status_only => {
                let schema = self.schema.properties.get("status");
                if let (Some(schema), Some(status)) = (schema, object.get("status")) {
                    // Texts name the path in the status, as upstream's validator of that part does.
                    let mut found = Vec::new();
                    schema.validate_update(status, &old["status"], "", &mut found);
                    causes.extend(found.into_iter().map(|cause| Cause {
                        field: match cause.field.as_str() {
                            "<nil>" => "status".to_owned(),
                            field => format!("status.{field}"),
                        },
                        ..cause
                    }));
                }
            }
            Some(old) => self.schema.validate_update(object, old, "", causes),
        }
        if let Some(scale) = &self.scale {
            check_replicas(object, scale, status_only, causes);
        }
        if let Some(rules) = &self.rules {
            rules::run(rules, object, old, causes);
        }
    }
}

/// The numbers that the scale subresource shows are numbers it can show.
fn check_replicas(object: &Value, scale: &Scale, status_only: bool, causes: &mut Vec<Cause>) {
    let spec = (!status_only).then_some(&scale.spec_replicas);
    for path in spec.into_iter().chain([&scale.status_replicas]) {
        let Some(found) = at(object, path) else { continue };
        let Some(number) = found.as_i64() else { continue };
        if number < 0 {
            causes.push(Cause::invalid(format!(".{path}"), found, "should be a non-negative integer"));
        } else if number > i64::from(i32::MAX) {
            let text = "should be less than or equal to 2147483647";
            causes.push(Cause::invalid(format!(".{path}"), found, text));
        }
    }
}

/// Warnings for whoever writes a new definition.
pub(crate) fn warnings(crd: &Value) -> Vec<String> {
    let (mut formats, mut sets) = (Vec::new(), Vec::new());
    for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
        let schema = &version["schema"]["openAPIV3Schema"];
        format::unknown(schema, &mut formats);
        check::sets_of_others(schema, &mut sets);
    }
    sets.sort();
    let formats = formats.iter().map(|format| format!("unrecognized format {}", quote(format)));
    let sets = sets.iter().map(|ty| {
        format!("x-kubernetes-list-type: set for items of type \"{ty}\" is not supported by server-side apply or CEL validation rules")
    });
    let mut warnings: Vec<String> = Vec::new();
    for warning in formats.chain(sets) {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    warnings
}

/// The kinds that an established CRD serves.
pub(crate) fn kinds(crd: &Value) -> Vec<Kind> {
    let spec = &crd["spec"];
    let group = text(&spec["group"]);
    let names = &crd["status"]["acceptedNames"];
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    let storage = versions.iter().find(|version| version["storage"] == true);
    let storage_version = storage.map(|version| text(&version["name"])).unwrap_or_default();
    let mut kinds = Vec::new();
    for version in versions.iter().filter(|version| version["served"] == true) {
        let custom = custom_version(crd, version, &storage_version);
        let all = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
        let door = ["get", "patch", "update"];
        let mut subresources = Vec::new();
        if version["subresources"].get("status").is_some() {
            subresources.push(subresource("status", &text(&names["kind"]), &door, None));
        }
        if custom.scale.is_some() {
            subresources.push(subresource("scale", "Scale", &door, Some(("autoscaling", "v1"))));
        }
        kinds.push(Kind {
            group: group.clone(),
            version: text(&version["name"]),
            kind: text(&names["kind"]),
            plural: text(&names["plural"]),
            singular: text(&names["singular"]),
            short_names: words(&names["shortNames"]),
            categories: words(&names["categories"]),
            namespaced: spec["scope"] == "Namespaced",
            verbs: all.map(str::to_owned).to_vec(),
            storage_version_hash: Some(storage_hash(&group, &storage_version, &text(&names["kind"]))),
            subresources,
            schema: None,
            info: Default::default(),
            list_kind: text(&names["listKind"]),
            storage: OnceLock::new(),
            custom: Some(Arc::new(custom)),
        });
    }
    kinds
}

fn subresource(name: &str, kind: &str, verbs: &[&str], of: Option<(&str, &str)>) -> Subresource {
    Subresource {
        name: name.into(),
        kind: kind.into(),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        group: of.map(|(group, _)| group.into()),
        version: of.map(|(_, version)| version.into()),
    }
}

/// The hash by which clients see whether two versions share their storage.
fn storage_hash(group: &str, version: &str, kind: &str) -> String {
    use base64::Engine;
    use sha2::Digest;
    let digest = sha2::Sha256::digest(format!("{group}/{version}/{kind}").as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

fn custom_version(crd: &Value, version: &Value, storage_version: &str) -> CustomVersion {
    let spec = &crd["spec"];
    let open_api = version["schema"]["openAPIV3Schema"].clone();
    let name = text(&version["name"]);
    let deprecation = (version["deprecated"] == true).then(|| {
        let default =
            format!("{}/{name} {} is deprecated", text(&spec["group"]), text(&spec["names"]["kind"]));
        version["deprecationWarning"].as_str().map(str::to_owned).unwrap_or(default)
    });
    let scale = version["subresources"].get("scale").map(|scale| Scale {
        spec_replicas: path(&scale["specReplicasPath"]),
        status_replicas: path(&scale["statusReplicasPath"]),
        selector: scale.get("labelSelectorPath").map(path),
    });
    let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
    let columns = columns.map(|column| Column {
        name: text(&column["name"]),
        ty: text(&column["type"]),
        format: text(&column["format"]),
        description: text(&column["description"]),
        priority: column["priority"].as_i64().unwrap_or_default(),
        path: text(&column["jsonPath"]),
    });
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    CustomVersion {
        schema: Structural::compile(&open_api),
        rules: rules::validator(&open_api),
        merge: merge_schema(&open_api),
        open_api,
        columns: columns.collect(),
        selectable: selectable.map(|field| path(&field["jsonPath"])).collect(),
        scale,
        deprecation,
        storage_schema: (name != storage_version).then(|| {
            let versions = spec["versions"].as_array().into_iter().flatten();
            let storage = versions.into_iter().find(|version| version["name"] == storage_version);
            Structural::compile(&storage.cloned().unwrap_or_default()["schema"]["openAPIV3Schema"])
        }),
        terminating: !crd["metadata"]["deletionTimestamp"].is_null(),
        rewrite: crd["metadata"]["generation"].as_i64() != Some(1)
            || spec["versions"].as_array().is_some_and(|versions| versions.len() > 1),
    }
}

/// The schema for merging: the CRD's own, with the type of `metadata` that every object has.
fn merge_schema(open_api: &Value) -> dodai_merge::schema::Schema {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let definitions = crate::schema::source::definitions(["io.k8s.api.core.v1.ConfigMap"]);
    let mut root = open_api.clone();
    if !root.is_object() {
        root = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    }
    if !root["properties"].is_object() {
        root["properties"] = json!({});
    }
    root["properties"]["apiVersion"] = json!({ "type": "string" });
    root["properties"]["kind"] = json!({ "type": "string" });
    root["properties"]["metadata"] = json!({ "$ref": format!("#/components/schemas/{META}") });
    dodai_merge::schema::Schema::from_openapi(&root, |name| definitions.get(name)).unwrap_or_else(|error| {
        tracing::error!(%error, "the schema of a custom resource cannot be used for merging");
        dodai_merge::schema::Schema::deduced()
    })
}

/// What the names of a CRD come to beside all that is served.
pub(crate) struct Names {
    pub accepted: Value,
    /// Reason and message of the condition `NamesAccepted`, when it is false.
    pub conflict: Option<(&'static str, String)>,
}

/// Accepts the names of a CRD that nobody else in its group has.
pub(crate) fn accept_names(crd: &Value, others: &[Value], registry: &Registry) -> Names {
    let group = text(&crd["spec"]["group"]);
    let plural = text(&crd["spec"]["names"]["plural"]);
    let mut resources: Vec<String> = Vec::new();
    let mut kinds: Vec<String> = Vec::new();
    for other in others {
        if text(&other["spec"]["group"]) != group || other["metadata"]["name"] == crd["metadata"]["name"] {
            continue;
        }
        let names = &other["status"]["acceptedNames"];
        resources.extend([text(&names["plural"]), text(&names["singular"])]);
        resources.extend(words(&names["shortNames"]));
        kinds.extend([text(&names["kind"]), text(&names["listKind"])]);
    }
    for version in registry.groups.get(&group).into_iter().flat_map(|versions| versions.values()) {
        for kind in version.values().filter(|kind| !kind.is_custom() && kind.plural != plural) {
            resources.extend([kind.plural.clone(), kind.singular.clone()]);
            kinds.extend([kind.kind.clone(), kind.list_kind.clone()]);
        }
    }
    let wanted = &crd["spec"]["names"];
    let mut accepted = crd["status"]["acceptedNames"].clone();
    if !accepted.is_object() {
        accepted = json!({});
    }
    let mut conflict = None;
    let mut take = |field: &str, reason: &'static str, taken: &[String]| {
        let Some(name) = wanted[field].as_str() else { return };
        if taken.iter().any(|other| other == name) {
            conflict.get_or_insert((reason, format!("\"{name}\" is already in use")));
        } else {
            accepted[field] = name.into();
        }
    };
    take("plural", "PluralConflict", &resources);
    take("singular", "SingularConflict", &resources);
    take("kind", "KindConflict", &kinds);
    take("listKind", "ListKindConflict", &kinds);
    let short = words(&wanted["shortNames"]);
    match short.iter().find(|name| resources.contains(name)) {
        Some(name) => {
            conflict.get_or_insert(("ShortNamesConflict", format!("\"{name}\" is already in use")));
        }
        None if short.is_empty() => {
            accepted.as_object_mut().map(|map| map.remove("shortNames"));
        }
        None => accepted["shortNames"] = short.into(),
    }
    match wanted.get("categories") {
        Some(categories) => accepted["categories"] = categories.clone(),
        None => {
            accepted.as_object_mut().map(|map| map.remove("categories"));
        }
    }
    for field in ["plural", "kind"] {
        if accepted.get(field).is_none() {
            accepted[field] = "".into();
        }
    }
    Names { accepted, conflict }
}

/// Sets a condition; the time moves only with the status. Returns whether anything changed.
pub(crate) fn set_condition(
    object: &mut Value,
    ty: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: &str,
) -> bool {
    let mut condition = json!({
        "type": ty, "status": status, "lastTransitionTime": now, "reason": reason, "message": message,
    });
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let conditions = object["status"]["conditions"].as_array_mut().expect("made an array just above");
    match conditions.iter_mut().find(|known| known["type"] == ty) {
        None => {
            conditions.push(condition);
            true
        }
        Some(known) => {
            if known["status"] == condition["status"] {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            let changed = *known != condition;
            *known = condition;
            changed
        }
    }
}

pub(crate) fn condition<'a>(object: &'a Value, ty: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == ty)
}

/// The text of a string, else empty.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn path(value: &Value) -> String {
    text(value).trim_start_matches('.').to_owned()
}

/// The value at a dotted path.
pub(crate) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, part| value.get(part))
}

/// Sets the value at a dotted path.
pub(crate) fn set_at(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for part in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[part];
    }
    *place = value;
}
