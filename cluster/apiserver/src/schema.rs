//! Types of built-in kinds: how a body is read, and what the stored form looks like.
//!
//! The stored form is what a round trip through upstream's types gives: unknown fields are gone, empty optional
//! values are left out, some structs and lists are always there. Which ones is in `data/presence.txt`.
//!
//! Leaves out: custom resources (`crd/structural.rs`).

pub(crate) mod decode;
pub(crate) mod int_or_string;
mod normal;
pub(crate) mod quantity;
pub(crate) mod source;

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use serde_json::Value;

pub(crate) use normal::{normalize, normalize_request};

const PRESENCE: &str = include_str!("../data/presence.txt");

/// What a value may be.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    String,
    /// 32 bits, or else 64.
    Integer32,
    Integer,
    Number,
    Boolean,
    /// Base64 text.
    Bytes,
    /// RFC 3339 to the second.
    Time,
    /// RFC 3339 with six digits.
    MicroTime,
    IntOrString,
    Quantity,
    /// Anything, kept as it is.
    Any,
    /// Any object, kept as it is.
    AnyObject,
    Struct(&'static Struct),
    Map(Box<Shape>),
    List(Box<Shape>),
}

/// How a field looks when it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Left out when it was not given; empty lists and maps are left out.
    Optional,
    /// A zero value (`""`, `0`, `false`) is left out.
    OmitZero,
    /// A zero value is written.
    WriteZero,
    /// An empty list or map is written as null.
    WriteNull,
    /// A struct that is always there.
    Always,
    /// A time that is written as null when it was not given.
    NullTime,
}

/// A field of a struct.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub shape: Shape,
    pub presence: Presence,
}

/// A named type, filled once.
#[derive(Debug)]
pub(crate) struct Struct {
    fields: OnceLock<BTreeMap<String, Field>>,
}

impl Struct {
    pub(crate) fn fields(&self) -> &BTreeMap<String, Field> {
        self.fields.get_or_init(BTreeMap::new)
    }
}

/// Named types live as long as the process; they describe its own code.
fn cell(name: &str) -> &'static Struct {
    static CELLS: LazyLock<Mutex<HashMap<String, &'static Struct>>> = LazyLock::new(Default::default);
    let mut cells = CELLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cells.get(name) {
        return known;
    }
    let made: &'static Struct = Box::leak(Box::new(Struct { fields: OnceLock::new() }));
    cells.insert(name.to_owned(), made);
    made
}

/// What the server knows about the type of one built-in kind.
#[derive(Debug)]
pub(crate) struct TypeInfo {
    pub root: &'static Struct,
    pub merge: dodai_merge::schema::Schema,
    /// What an object of this kind holds before anything is set.
    pub empty: Value,
}

/// The type of a built-in kind by the name of its schema; made at the first call.
pub(crate) fn builtin(name: &str) -> &'static TypeInfo {
    static INFOS: LazyLock<Mutex<HashMap<String, &'static TypeInfo>>> = LazyLock::new(Default::default);
    let mut infos = INFOS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = infos.get(name) {
        return known;
    }
    let mut definitions = source::definitions([name]);
    if let Some(raw) = definitions.get_mut("io.k8s.apimachinery.pkg.runtime.RawExtension") {
        // Nobody owns a part of what the server cannot read.
        raw["x-kubernetes-map-type"] = "atomic".into();
    }
    for (name, definition) in &definitions {
        let cell = cell(name);
        cell.fields.get_or_init(|| compile(name, definition));
    }
    let root_schema = definitions.get(name).cloned().unwrap_or_default();
    let merge = dodai_merge::schema::Schema::from_openapi(&root_schema, |name| definitions.get(name))
        .unwrap_or_else(|error| {
            tracing::error!(%name, %error, "a built-in schema cannot be used for merging");
            dodai_merge::schema::Schema::deduced()
        });
    let info: &'static TypeInfo = {
        let mut empty = Value::Object(serde_json::Map::new());
        normalize(&mut empty, cell(name));
        Box::leak(Box::new(TypeInfo { root: cell(name), merge, empty }))
    };
    infos.insert(name.to_owned(), info);
    info
}

fn compile(name: &str, definition: &Value) -> BTreeMap<String, Field> {
    let presence = presence(name);
    let mut fields = BTreeMap::new();
    for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
        let presence = presence.get(field.as_str()).copied().unwrap_or(Presence::Optional);
        let presence = match (field.as_str(), presence) {
            ("apiVersion" | "kind", Presence::Optional) => Presence::OmitZero,
            (_, presence) => presence,
        };
        fields.insert(field.clone(), Field { shape: shape(schema), presence });
    }
    fields
}

/// The members of a type that are structs and always there.
pub(crate) fn always(name: &str) -> Vec<&'static str> {
    let fields = presence(name).into_iter();
    fields.filter(|(_, presence)| *presence == Presence::Always).map(|(field, _)| field).collect()
}

fn presence(name: &str) -> HashMap<&'static str, Presence> {
    static TABLE: LazyLock<HashMap<&'static str, &'static str>> =
        LazyLock::new(|| PRESENCE.lines().filter_map(|line| line.split_once(' ')).collect());
    let mut presence = HashMap::new();
    for word in TABLE.get(name).into_iter().flat_map(|line| line.split(' ')) {
        let Some((code, fields)) = word.split_once(':') else { continue };
        let kind = match code {
            "z" => Presence::OmitZero,
            "e" | "i" | "q" => Presence::WriteZero,
            "n" => Presence::WriteNull,
            "s" => Presence::Always,
            "t" => Presence::NullTime,
            _ => Presence::Optional,
        };
        presence.extend(fields.split(',').map(|field| (field, kind)));
    }
    presence
}

fn shape(schema: &Value) -> Shape {
    if let Some(name) = source::referred(schema) {
        return named_shape(name);
    }
    let format = schema["format"].as_str().unwrap_or_default();
    match schema["type"].as_str() {
        Some("string") => match format {
            "byte" => Shape::Bytes,
            "date-time" => Shape::Time,
            _ => Shape::String,
        },
        Some("integer") if format == "int32" => Shape::Integer32,
        Some("integer") => Shape::Integer,
        Some("number") => Shape::Number,
        Some("boolean") => Shape::Boolean,
        Some("array") => Shape::List(Box::new(shape(&schema["items"]))),
        Some("object") => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => Shape::Map(Box::new(shape(values))),
            _ => Shape::AnyObject,
        },
        _ if schema.get("x-kubernetes-int-or-string").is_some() => Shape::IntOrString,
        _ => Shape::Any,
    }
}

fn named_shape(name: &str) -> Shape {
    match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" => Shape::Quantity,
        "IntOrString" => Shape::IntOrString,
        "Time" => Shape::Time,
        "MicroTime" => Shape::MicroTime,
        "RawExtension"
        | "JSON"
        | "JSONSchemaPropsOrArray"
        | "JSONSchemaPropsOrBool"
        | "JSONSchemaPropsOrStringArray" => Shape::Any,
        "FieldsV1" => Shape::AnyObject,
        _ => Shape::Struct(cell(name)),
    }
}

/// A named type of the built-in kinds, such as ObjectMeta.
pub(crate) fn named(name: &str) -> &'static Struct {
    // Any kind brings the common types with it.
    builtin("io.k8s.api.core.v1.ConfigMap");
    cell(name)
}
