//! Structural schemas: the types they declare, and JSON read as they say.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::escape::{escape, is_reserved_field};
use crate::types::Type;

/// A structural schema, as far as expressions see it.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) nullable: bool,
    pub(crate) int_or_string: bool,
    pub(crate) preserve_unknown: bool,
    pub(crate) embedded: bool,
    pub(crate) list_type: String,
    pub(crate) list_keys: Vec<String>,
    pub(crate) properties: Option<BTreeMap<String, Arc<Schema>>>,
    pub(crate) additional: Option<Arc<Schema>>,
    pub(crate) items: Option<Arc<Schema>>,
}

impl Schema {
    /// Reads an OpenAPI v3 schema object with Kubernetes' extensions.
    pub fn new(json: &Json) -> Schema {
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let flag = |name: &str| json[name].as_bool().unwrap_or(false);
        let nested = |name: &str| json[name].as_object().map(|_| Arc::new(Schema::new(&json[name])));
        let properties = json["properties"].as_object().map(|properties| {
            properties.iter().map(|(name, schema)| (name.clone(), Arc::new(Schema::new(schema)))).collect()
        });
        let keys = json["x-kubernetes-list-map-keys"].as_array();
        Schema {
            kind: text("type"),
            format: text("format"),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            list_type: text("x-kubernetes-list-type"),
            list_keys: keys
                .map(|keys| keys.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect())
                .unwrap_or_default(),
            properties,
            additional: nested("additionalProperties"),
            items: nested("items"),
        }
    }

    /// The schema of a whole resource: `apiVersion`, `kind` and two fields of `metadata` are always there.
    pub fn as_resource(&self) -> Schema {
        let is = |schema: &Schema, name: &str, kind: &str| {
            schema
                .properties
                .as_ref()
                .and_then(|known| known.get(name))
                .is_some_and(|schema| schema.kind == kind)
        };
        let metadata = self.properties.as_ref().and_then(|known| known.get("metadata"));
        let named = metadata
            .is_some_and(|metadata| is(metadata, "name", "string") && is(metadata, "generateName", "string"));
        if named
            && is(self, "kind", "string")
            && is(self, "apiVersion", "string")
            && is(self, "metadata", "object")
        {
            return self.clone();
        }
        let string = Arc::new(Schema { kind: "string".to_owned(), ..Schema::default() });
        let names = ["name", "generateName"].map(|name| (name.to_owned(), string.clone()));
        let metadata = Schema {
            kind: "object".to_owned(),
            properties: Some(BTreeMap::from(names)),
            ..Schema::default()
        };
        let mut schema = self.clone();
        let properties = schema.properties.get_or_insert_default();
        properties.insert("metadata".to_owned(), Arc::new(metadata));
        properties.insert("apiVersion".to_owned(), string.clone());
        properties.insert("kind".to_owned(), string);
        schema
    }

    /// The declared type; object types are named from `name` on. `None` if expressions cannot see such a value.
    pub fn declared(&self, name: &str, is_resource: bool) -> Option<Type> {
        if self.int_or_string {
            return Some(Type::Dyn);
        }
        if is_resource {
            return self.as_resource().declared(name, false);
        }
        match self.kind.as_str() {
            "array" => {
                let items = self.items.as_ref()?;
                Some(Type::list(items.declared(&format!("{name}.@idx"), items.embedded)?))
            }
            "object" => match &self.additional {
                Some(values) => {
                    let values = values.declared(&format!("{name}.@elem"), values.embedded)?;
                    Some(Type::map(Type::String, values))
                }
                None => Some(Type::object(name, self.fields(name))),
            },
            "string" => Some(match self.format.as_str() {
                "byte" => Type::Bytes,
                "duration" => Type::Duration,
                "date" | "date-time" => Type::Timestamp,
                _ => Type::String,
            }),
            "boolean" => Some(Type::Bool),
            "number" => Some(Type::Double),
            "integer" => Some(Type::Int),
            _ => None,
        }
    }

    fn fields(&self, name: &str) -> BTreeMap<Arc<str>, Type> {
        let mut fields = BTreeMap::new();
        for (property, schema) in self.properties.iter().flatten() {
            let Some(field) = escape(property) else { continue };
            if let Some(declared) = schema.declared(&format!("{name}.{field}"), schema.embedded) {
                if is_reserved_field(property) {
                    fields.insert(Arc::from(property.as_str()), declared.clone());
                }
                fields.insert(Arc::from(field), declared);
            }
        }
        fields
    }
}

impl Type {
    /// The type a structural schema declares; `Dyn` where expressions can see nothing certain.
    pub fn from_schema(schema: &Json) -> Type {
        Schema::new(schema).declared("object", false).unwrap_or(Type::Dyn)
    }
}
