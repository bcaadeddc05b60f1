//! The published OpenAPI v3 schemas, as far as changing objects at random needs them.

use std::collections::HashMap;

use serde_json::Value;

use crate::kinds::{KINDS, Kind};
use crate::server::Server;

pub struct Schemas {
    /// By prefix (`apis/apps/v1`): the components of its document.
    documents: HashMap<&'static str, Value>,
}

impl Schemas {
    pub async fn read(server: &Server) -> anyhow::Result<Schemas> {
        let mut documents = HashMap::new();
        for kind in KINDS {
            if !documents.contains_key(kind.prefix) {
                let document = server.get(&format!("/openapi/v3/{}", kind.prefix)).await?;
                documents.insert(kind.prefix, document["components"]["schemas"].clone());
            }
        }
        Ok(Schemas { documents })
    }

    /// The schema of a kind.
    pub fn of(&self, kind: &Kind) -> Option<&Value> {
        let version = kind.prefix.rsplit('/').next().unwrap_or_default();
        self.documents.get(kind.prefix)?.as_object()?.values().find(|schema| {
            schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| {
                kinds.iter().any(|entry| entry["kind"] == kind.kind && entry["version"] == version)
            })
        })
    }

    /// Follows `$ref`, also inside the `allOf` of one element that the server publishes.
    pub fn resolve<'a>(&'a self, kind: &Kind, schema: &'a Value) -> &'a Value {
        let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
        match reference.and_then(|reference| reference.rsplit('/').next()) {
            Some(name) => self.documents.get(kind.prefix).map_or(schema, |schemas| &schemas[name]),
            None => schema,
        }
    }
}
