//! OpenAPI v3: an index, and a document per group version, made when first asked for; and v2 (`openapi/v2.rs`).

mod v2;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value, json};

use crate::discovery::tagged;
use crate::kinds::{Kind, Registry};
use crate::reply::Reply;
use crate::request::{Media, Query, negotiate};
use crate::schema::source;
use crate::server::Server;
use crate::status::ApiError;

/// Documents made so far; emptied when definitions change.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    documents: Mutex<HashMap<String, Arc<String>>>,
    /// Held while the document of v2 is made.
    making: Mutex<()>,
}

impl Cache {
    pub(crate) fn clear(&self) {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).retain(|path, _| !is_custom_path(path));
    }
}

/// Documents of built-in groups never change; those of others may.
fn is_custom_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("apis/") else { return false };
    let group = rest.split('/').next().unwrap_or_default();
    !Registry::builtin().groups.contains_key(group)
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// `/openapi/...`.
pub(crate) fn answer(
    server: &Server,
    path: &[&str],
    headers: &HeaderMap,
    query: &Query,
) -> Result<Reply, ApiError> {
    match path {
        ["v3"] => Ok(index(&server.registry(), headers)),
        ["v3", rest @ ..] => {
            let Some(text) = document(server, &rest.join("/")) else {
                return Ok(Reply::text(404, "404 page not found\n"));
            };
            let mut reply = tagged((*text).clone(), "application/json", headers);
            if query.has("hash") {
                // The hash names the content, so it may be kept for ever.
                let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
                reply.response.headers_mut().insert(header::CACHE_CONTROL, forever);
            }
            Ok(reply)
        }
        ["v2"] => {
            negotiate(headers)?;
            let _one = server.open_api.making.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(tagged(v2::document(&server.registry()), "application/json", headers))
        }
        _ => Ok(Reply::text(404, "404 page not found\n")),
    }
}

fn paths(registry: &Registry) -> Vec<(String, &str, &str)> {
    let mut paths = Vec::new();
    for (group, versions) in &registry.groups {
        for version in versions.keys() {
            let path = match group.as_str() {
                "" => format!("api/{version}"),
                group => format!("apis/{group}/{version}"),
            };
            paths.push((path, group.as_str(), version.as_str()));
        }
    }
    paths
}

fn index(registry: &Registry, headers: &HeaderMap) -> Reply {
    let mut found = Map::new();
    for (path, group, version) in paths(registry) {
        let hash = hash_of(registry, group, version);
        found.insert(path.clone(), json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}") }));
    }
    let _ = Media::JSON;
    tagged(json!({ "paths": found }).to_string(), "application/json", headers)
}

/// What the documents of built-in kinds are made from. Clients keep a document for as long as its hash stays, so that a new program with the
/// same version must not give an old hash.
const SOURCES: [&str; 6] = [
    include_str!("openapi.rs"),
    include_str!("schema/source.rs"),
    include_str!("../data/openapi.tsv"),
    include_str!("../data/fields.tsv"),
    include_str!("../data/kinds.jsonl"),
    include_str!("../data/presence.txt"),
];

/// Names the content of a document without making it: built-in kinds by what they are made from, others by their schemas.
fn hash_of(registry: &Registry, group: &str, version: &str) -> String {
    use sha2::Digest;
    let mut digest = sha2::Sha256::new();
    digest.update(sources());
    digest.update(format!("{group}/{version}").as_bytes());
    for kind in registry.groups[group][version].values() {
        digest.update(kind.kind.as_bytes());
        if let Some(custom) = &kind.custom {
            digest.update(custom.open_api.to_string().as_bytes());
            digest.update(format!("{:?}", kind.subresources).as_bytes());
        }
    }
    hex::encode_upper(digest.finalize())
}

fn sources() -> &'static [u8] {
    use sha2::Digest;
    static DIGEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut digest = sha2::Sha256::new();
        digest.update(concat!(env!("CARGO_PKG_VERSION"), "/1.36").as_bytes());
        SOURCES.iter().for_each(|source| digest.update(source.as_bytes()));
        digest.finalize().to_vec()
    });
    &DIGEST
}

fn document(server: &Server, path: &str) -> Option<Arc<String>> {
    let mut documents = server.open_api.documents.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = documents.get(path) {
        return Some(known.clone());
    }
    let registry = server.registry();
    let (_, group, version) = paths(&registry).into_iter().find(|(known, ..)| known == path)?;
    let made = Arc::new(make(&registry, group, version).to_string());
    documents.insert(path.to_owned(), made.clone());
    Some(made)
}

fn make(registry: &Registry, group: &str, version: &str) -> Value {
    let kinds: Vec<&Arc<Kind>> = registry.groups[group][version].values().collect();
    let mut names: Vec<&str> = kinds.iter().filter_map(|kind| kind.schema.as_deref()).collect();
    names.extend([
        "io.k8s.api.core.v1.ConfigMap",
        "io.k8s.api.autoscaling.v1.Scale",
        "io.k8s.api.policy.v1.Eviction",
        "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
        "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    ]);
    if group.is_empty() {
        // A subresource of ServiceAccounts.
        names.push("io.k8s.api.authentication.v1.TokenRequest");
    }
    let mut schemas: Map<String, Value> = source::definitions(names).into_iter().collect();
    schemas.insert(
        format!("{META}.Patch"),
        json!({
            "description": "A patch of an object, in the form that the Content-Type names.", "type": "object",
        }),
    );
    tune(&mut schemas);
    let mut paths = Map::new();
    for kind in kinds {
        let name = schema_name(kind);
        if let Some(custom) = &kind.custom {
            schemas.insert(name.clone(), custom_schema(&custom.open_api));
        }
        if let Some(schema) = schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] =
                json!([{ "group": kind.group, "version": kind.version, "kind": kind.kind }]);
        }
        if kind.verbs.iter().any(|verb| verb == "list") {
            schemas.insert(format!("{name}List"), list_schema(kind, &name));
        }
        add_paths(kind, &name, &mut paths);
    }
    json!({
        "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": crate::discovery::VERSION },
        "paths": paths, "components": { "schemas": schemas },
    })
}

/// Details that Kubernetes publishes and schemars does not.
fn tune(schemas: &mut Map<String, Value>) {
    if let Some(schema) = schemas.get_mut("io.k8s.apimachinery.pkg.util.intstr.IntOrString") {
        schema["format"] = "int-or-string".into();
        schema["oneOf"] = json!([{ "type": "integer" }, { "type": "string" }]);
        schema.as_object_mut().map(|schema| schema.remove("x-kubernetes-int-or-string"));
    }
    if let Some(schema) = schemas.get_mut("io.k8s.apimachinery.pkg.api.resource.Quantity") {
        schema["oneOf"] = json!([{ "type": "string" }, { "type": "number" }]);
        schema.as_object_mut().map(|schema| schema.remove("x-kubernetes-int-or-string"));
    }
    for (name, schema) in schemas.iter_mut() {
        complete(name, schema);
    }
}

/// What is required, and the zero values that upstream publishes as defaults: of elements, of values of maps, and of structs that are
/// always there.
fn complete(name: &str, schema: &mut Value) {
    let Some(definition) = schema.as_object_mut() else { return };
    definition.remove("required");
    if let Some((required, extra)) = facts().get(name) {
        if !required.is_empty() {
            definition.insert("required".into(), required.split(',').collect());
        }
        let extra: Value = serde_json::from_str(extra).unwrap_or_default();
        for (fact, key) in [("unions", "x-kubernetes-unions"), ("kinds", "x-kubernetes-group-version-kind")] {
            if let Some(value) = extra.get(fact) {
                definition.insert(key.into(), value.clone());
            }
        }
    }
    let always = crate::schema::always(name);
    for (field, property) in
        definition.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten()
    {
        if always.contains(&field.as_str()) {
            default_to(property, json!({}));
        }
        let mut inner = property;
        while let Some(key) =
            ["items", "additionalProperties"].into_iter().find(|key| inner.get(key).is_some())
        {
            inner = &mut inner[key];
            let zero = match inner["type"].as_str() {
                Some("string") if inner["format"] == "byte" => continue,
                Some("string") => json!(""),
                Some("integer" | "number") => json!(0),
                Some("boolean") => json!(false),
                Some(_) => continue,
                None if inner.get("$ref").is_some() && !is_scalar(inner) => json!({}),
                None => continue,
            };
            default_to(inner, zero);
        }
    }
}

/// References to what is written as a text or a number, or as anything.
fn is_scalar(schema: &Value) -> bool {
    let name = schema["$ref"].as_str().unwrap_or_default();
    [
        "Quantity",
        "IntOrString",
        "Time",
        ".v1.JSON",
        ".JSONSchemaPropsOrArray",
        ".JSONSchemaPropsOrStringArray",
        ".JSONSchemaPropsOrBool",
    ]
    .iter()
    .any(|ending| name.ends_with(ending))
}

/// Sets a default, beside which a reference has to be wrapped.
fn default_to(schema: &mut Value, zero: Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    if let Some(reference) = schema.remove("$ref") {
        schema.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
    schema.entry("default").or_insert(zero);
}

/// By type: its required members with commas between, and unions and kinds as JSON; as upstream's server publishes them.
fn facts() -> &'static HashMap<&'static str, (&'static str, &'static str)> {
    static FACTS: LazyLock<HashMap<&'static str, (&'static str, &'static str)>> = LazyLock::new(|| {
        let lines = include_str!("../data/openapi.tsv").lines();
        lines
            .map(|line| {
                let mut parts = line.split('\t');
                let mut next = || parts.next().unwrap_or_default();
                (next(), (next(), next()))
            })
            .collect()
    });
    &FACTS
}

/// The name under which a kind is published.
fn schema_name(kind: &Kind) -> String {
    if let Some(name) = &kind.schema {
        return name.clone();
    }
    let mut parts: Vec<&str> = kind.group.split('.').collect();
    parts.reverse();
    format!("{}.{}.{}", parts.join("."), kind.version, kind.kind)
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn custom_schema(open_api: &Value) -> Value {
    let mut schema = open_api.clone();
    if !schema.is_object() {
        schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    }
    let properties = &mut schema["properties"];
    if !properties.is_object() {
        *properties = json!({});
    }
    let text = |description: &str| json!({ "description": description, "type": "string" });
    properties["apiVersion"] = text("The versioned schema of this object.");
    properties["kind"] = text("The kind of this object.");
    properties["metadata"] = json!({
        "description": "Standard object's metadata.", "allOf": [reference(&format!("{META}.ObjectMeta"))],
    });
    schema
}

fn list_schema(kind: &Kind, name: &str) -> Value {
    json!({
        "description": format!("A list of {}.", kind.kind), "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" }, "kind": { "type": "string" },
            "items": { "type": "array", "items": { "default": {}, "allOf": [reference(name)] } },
            "metadata": { "default": {}, "allOf": [reference(&format!("{META}.ListMeta"))] },
        },
        "x-kubernetes-group-version-kind": [{ "group": kind.group, "version": kind.version, "kind": kind.list_kind }],
    })
}

/// `AppsV1`, `CoreV1`, the middle of operation ids.
fn camel(kind: &Kind) -> String {
    let group = if kind.group.is_empty() { "core" } else { kind.group.as_str() };
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let mut name = String::new();
    for part in group.split(['.', '-']).chain([kind.version.as_str()]) {
        let mut chars = part.chars();
        name.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        name.push_str(chars.as_str());
    }
    name
}

fn parameter(name: &str, ty: &str, description: &str) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": { "type": ty, "uniqueItems": true } })
}

fn write_parameters(patch: bool) -> Value {
    let mut list = vec![
        parameter("dryRun", "string", "With `All` nothing is stored."),
        parameter("fieldManager", "string", "Name of who makes the change."),
        parameter(
            "fieldValidation",
            "string",
            "What happens to unknown and duplicate fields: Ignore, Warn or Strict.",
        ),
    ];
    if patch {
        list.push(parameter("force", "boolean", "Take fields of others over; only for apply patches."));
    }
    list.into()
}

fn add_paths(kind: &Kind, name: &str, paths: &mut Map<String, Value>) {
    let root = match kind.group.as_str() {
        "" => format!("/api/{}", kind.version),
        group => format!("/apis/{group}/{}", kind.version),
    };
    let scope = if kind.namespaced { "Namespaced" } else { "" };
    let base = if kind.namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        format!("{root}/{}", kind.plural)
    };
    let middle = format!("{}{scope}{}", camel(kind), kind.kind);
    let operation = |verb: &str, action: &str, id: String, answer: &str| {
        json!({
            "description": format!("{action} {}", kind.kind), "operationId": id,
            "x-kubernetes-action": verb,
            "x-kubernetes-group-version-kind": { "group": kind.group, "version": kind.version, "kind": kind.kind },
            "responses": { "200": { "description": "OK", "content": { "application/json": { "schema": reference(answer) } } } },
        })
    };
    let list_name = format!("{name}List");
    let body = json!({ "content": { "*/*": { "schema": reference(name) } }, "required": true });
    let media: &[&str] = match kind.is_custom() {
        true => {
            &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]
        }
        false => &[
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ],
    };
    let patch_content: Map<String, Value> = media
        .iter()
        .map(|media| ((*media).into(), json!({ "schema": reference(&format!("{META}.Patch")) })))
        .collect();
    let mut whole = Map::new();
    let mut one = Map::new();
    for verb in &kind.verbs {
        match verb.as_str() {
            "list" => {
                let made = operation("list", "list", format!("list{middle}"), &list_name);
                whole.insert("get".into(), made);
            }
            "create" => {
                let mut made = operation("post", "create", format!("create{middle}"), name);
                made["parameters"] = write_parameters(false);
                made["requestBody"] = body.clone();
                whole.insert("post".into(), made);
            }
            "deletecollection" => {
                let id = format!("delete{}Collection{scope}{}", camel(kind), kind.kind);
                whole.insert("delete".into(), operation("deletecollection", "delete", id, &list_name));
            }
            "get" => {
                one.insert("get".into(), operation("get", "read", format!("read{middle}"), name));
            }
            "update" => {
                let mut made = operation("put", "replace", format!("replace{middle}"), name);
                made["parameters"] = write_parameters(false);
                made["requestBody"] = body.clone();
                one.insert("put".into(), made);
            }
            "patch" => {
                let mut made = operation("patch", "patch", format!("patch{middle}"), name);
                made["parameters"] = write_parameters(true);
                made["requestBody"] = json!({ "content": patch_content, "required": true });
                one.insert("patch".into(), made);
            }
            "delete" => {
                one.insert("delete".into(), operation("delete", "delete", format!("delete{middle}"), name));
            }
            _ => {}
        }
    }
    let place = |name: &str, what: &str| {
        json!({
            "name": name, "in": "path", "description": what, "required": true, "schema": { "type": "string", "uniqueItems": true },
        })
    };
    let mut shared = Vec::new();
    if kind.namespaced {
        shared.push(place("namespace", "the namespace of the object"));
    }
    if !whole.is_empty() {
        whole.insert("parameters".into(), shared.clone().into());
        paths.insert(base.clone(), whole.into());
    }
    if !one.is_empty() {
        shared.push(place("name", "the name of the object"));
        one.insert("parameters".into(), shared.into());
        paths.insert(format!("{base}/{{name}}"), one.into());
    }
}
