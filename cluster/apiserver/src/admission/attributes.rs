//! What a request is about, as policies and webhooks see it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::convert;
use crate::kinds::{Kind, split_api_version};
use crate::server::Server;
use crate::status::ApiError;
use crate::user::User;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// One request that changes something, or opens a connection.
#[derive(Clone)]
pub(crate) struct Attributes<'a> {
    pub server: &'a Arc<Server>,
    pub user: &'a User,
    pub operation: Operation,
    pub kind: &'a Arc<Kind>,
    /// Empty for the main door.
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty where the server will make it up.
    pub name: String,
    pub object: Option<&'a Value>,
    pub old: Option<&'a Value>,
    pub dry_run: bool,
    /// `CreateOptions` and such.
    pub options: Value,
}

impl Attributes<'_> {
    /// The kind of the object, which a subresource may have of its own: group, version and kind.
    pub(crate) fn object_kind(&self, kind: &Kind) -> Value {
        let subresource = kind.subresource(self.subresource);
        let (mut group, mut version, mut name) =
            (kind.group.clone(), kind.version.clone(), kind.kind.clone());
        if let Some(subresource) = subresource {
            name = subresource.kind.clone();
            group = subresource.group.clone().unwrap_or(group);
            version = subresource.version.clone().unwrap_or(version);
        }
        json!({ "group": group, "version": version, "kind": name })
    }

    /// Whether the object is of the resource's own kind, so that it can be had in its other versions.
    fn is_own_kind(&self) -> bool {
        self.kind.subresource(self.subresource).is_none_or(|found| found.kind == self.kind.kind)
    }

    /// An object of this request in the version that a rule speaks of.
    pub(crate) fn in_version(&self, object: &Value, kind: &Arc<Kind>) -> Value {
        if Arc::ptr_eq(kind, self.kind) || kind.version == self.kind.version && kind.group == self.kind.group
        {
            return object.clone();
        }
        if !self.is_own_kind() {
            return object.clone();
        }
        in_version(object, self.kind, kind)
    }

    /// An `AdmissionRequest` without its objects and its uid.
    pub(crate) fn request(&self, kind: &Kind) -> Map<String, Value> {
        let resource =
            |kind: &Kind| json!({ "group": kind.group, "version": kind.version, "resource": kind.plural });
        let mut request = Map::new();
        request.insert("kind".into(), self.object_kind(kind));
        request.insert("resource".into(), resource(kind));
        request.insert("requestKind".into(), self.object_kind(self.kind));
        request.insert("requestResource".into(), resource(self.kind));
        for (key, text) in [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", &self.name),
            ("namespace", self.namespace),
        ] {
            if !text.is_empty() {
                request.insert(key.into(), text.into());
            }
        }
        request.insert("operation".into(), self.operation.name().into());
        request.insert("userInfo".into(), user_info(self.user));
        request.insert("dryRun".into(), self.dry_run.into());
        request.insert("options".into(), self.options.clone());
        request
    }

    /// The name errors are about.
    fn shown_name(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let meta = self.object.map(|object| &object["metadata"]);
        let text = |field: &str| meta.and_then(|meta| meta[field].as_str()).filter(|text| !text.is_empty());
        text("name").or(text("generateName")).unwrap_or("Unknown").to_owned()
    }

    /// A 403 about the object.
    pub(crate) fn forbidden(&self, detail: &str) -> ApiError {
        ApiError::forbidden(&self.kind.plural, &self.kind.group, &self.shown_name(), detail)
    }

    /// Policies and webhooks do not watch over their own configuration, so that nobody can lock himself out.
    pub(crate) fn is_exempt(&self) -> bool {
        self.kind.group == "admissionregistration.k8s.io"
    }
}

/// Converts between two versions of one resource.
pub(crate) fn in_version(object: &Value, from: &Kind, to: &Kind) -> Value {
    let mut object = object.clone();
    convert::to_storage(from, &mut object);
    convert::from_storage(to, &mut object);
    crate::codec::set_type(&mut object, to);
    object
}

fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    info.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        info.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        info.insert("extra".into(), json!(user.extra));
    }
    Value::Object(info)
}

/// The kind in the registry that `apiVersion` and `kind` name.
pub(crate) fn kind_named(server: &Server, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
    let (group, version) = split_api_version(api_version);
    let registry = server.registry();
    let mut kinds = registry.groups.get(group)?.get(version)?.values();
    kinds.find(|known| known.kind == kind).cloned()
}
