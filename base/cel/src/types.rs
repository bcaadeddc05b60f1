//! Types as the checker sees them, and how they are written in messages.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A type. Object types are compared by name.
#[derive(Clone, Debug)]
pub enum Type {
    /// Anything; checked while evaluating.
    Dyn,
    /// What a wrong expression has; fits everywhere, so that one mistake gives one message.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Optional(Arc<Type>),
    /// The type of a type.
    TypeOf(Arc<Type>),
    /// An object with known fields.
    Object(Arc<ObjectType>),
    /// A type of a library, such as `net.IP`.
    Opaque(Arc<str>),
    /// A type parameter of a function, or a variable of the checker.
    Param(Arc<str>),
}

/// An object type; the names of fields are escaped (see `escape`).
#[derive(Debug)]
pub struct ObjectType {
    pub name: Arc<str>,
    pub fields: BTreeMap<Arc<str>, Type>,
}

impl Type {
    /// A list of `element`.
    pub fn list(element: Type) -> Type {
        Type::List(Arc::new(element))
    }

    /// A map from `key` to `value`.
    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new(key), Arc::new(value))
    }

    /// An optional `value`.
    pub fn optional(value: Type) -> Type {
        Type::Optional(Arc::new(value))
    }

    /// An object type.
    pub fn object(name: &str, fields: BTreeMap<Arc<str>, Type>) -> Type {
        Type::Object(Arc::new(ObjectType { name: name.into(), fields }))
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// The type parameters: element of a list, key and value of a map ...
    pub(crate) fn parameters(&self) -> Vec<&Type> {
        match self {
            Type::List(element) | Type::Optional(element) | Type::TypeOf(element) => vec![element],
            Type::Map(key, value) => vec![key, value],
            _ => Vec::new(),
        }
    }

    /// The same kind of type with other parameters.
    pub(crate) fn rebuilt(&self, change: &mut dyn FnMut(&Type) -> Type) -> Type {
        match self {
            Type::List(element) => Type::list(change(element)),
            Type::Optional(element) => Type::optional(change(element)),
            Type::TypeOf(element) => Type::TypeOf(Arc::new(change(element))),
            Type::Map(key, value) => Type::map(change(key), change(value)),
            other => other.clone(),
        }
    }

    /// Whether the outer kind (and the name, where there is one) is the same.
    pub(crate) fn same_kind(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Object(one), Type::Object(two)) => one.name == two.name,
            (Type::Opaque(one), Type::Opaque(two)) | (Type::Param(one), Type::Param(two)) => one == two,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Reads the notation of the function table: `map(<K>, list(int))`.
    pub(crate) fn read(text: &str) -> Type {
        let inner = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(')'));
        if let Some(inner) = inner("list(") {
            return Type::list(Type::read(inner));
        }
        if let Some(inner) = inner("optional_type(") {
            return Type::optional(Type::read(inner));
        }
        if let Some(inner) = inner("type(") {
            return Type::TypeOf(Arc::new(Type::read(inner)));
        }
        if let Some(inner) = inner("map(") {
            let mut parts = split_types(inner).into_iter();
            let key = parts.next().unwrap_or(Type::Dyn);
            return Type::map(key, parts.next().unwrap_or(Type::Dyn));
        }
        match text {
            "dyn" => Type::Dyn,
            "null" => Type::Null,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "google.protobuf.Duration" => Type::Duration,
            "google.protobuf.Timestamp" => Type::Timestamp,
            name if name.starts_with('<') => Type::Param(name.trim_matches(['<', '>']).into()),
            name => Type::Opaque(name.into()),
        }
    }
}

/// Reads a list of types: `list(<A>), int`.
pub(crate) fn split_types(text: &str) -> Vec<Type> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(Type::read(text[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        found.push(Type::read(last));
    }
    found
}

impl PartialEq for Type {
    fn eq(&self, other: &Type) -> bool {
        self.same_kind(other) && self.parameters() == other.parameters()
    }
}

impl Eq for Type {}

impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => out.write_str("dyn"),
            Type::Error => out.write_str("!error!"),
            Type::Null => out.write_str("null"),
            Type::Bool => out.write_str("bool"),
            Type::Int => out.write_str("int"),
            Type::Uint => out.write_str("uint"),
            Type::Double => out.write_str("double"),
            Type::String => out.write_str("string"),
            Type::Bytes => out.write_str("bytes"),
            Type::Duration => out.write_str("google.protobuf.Duration"),
            Type::Timestamp => out.write_str("google.protobuf.Timestamp"),
            Type::List(element) => write!(out, "list({element})"),
            Type::Map(key, value) => write!(out, "map({key}, {value})"),
            Type::Optional(value) => write!(out, "optional_type({value})"),
            Type::TypeOf(inner) => write!(out, "type({inner})"),
            Type::Object(object) => out.write_str(&object.name),
            Type::Opaque(name) | Type::Param(name) => out.write_str(name),
        }
    }
}

/// Names of types that can stand in an expression, with the first minor version that knows them.
pub(crate) const NAMED: [(&str, u32); 27] = [
    ("bool", 0),
    ("int", 0),
    ("uint", 0),
    ("double", 0),
    ("string", 0),
    ("bytes", 0),
    ("list", 0),
    ("map", 0),
    ("null_type", 0),
    ("type", 0),
    ("dyn", 0),
    ("google.protobuf.Duration", 0),
    ("google.protobuf.Timestamp", 0),
    ("optional_type", 28),
    ("kubernetes.URL", 0),
    ("kubernetes.Quantity", 28),
    ("kubernetes.Semver", 33),
    ("kubernetes.NamedFormat", 31),
    ("net.IP", 30),
    ("net.CIDR", 30),
    ("kubernetes.authorization.Authorizer", 27),
    ("kubernetes.authorization.PathCheck", 27),
    ("kubernetes.authorization.GroupCheck", 27),
    ("kubernetes.authorization.ResourceCheck", 27),
    ("kubernetes.authorization.Decision", 27),
    ("google.protobuf.Any", 0),
    ("google.protobuf.Value", 0),
];

/// The type a name stands for, if it is one of `NAMED`.
pub(crate) fn named(name: &str, minor: u32) -> Option<Type> {
    NAMED.iter().find(|(known, first)| *known == name && *first <= minor)?;
    Some(match name {
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "optional_type" => Type::optional(Type::Dyn),
        "type" => Type::TypeOf(Arc::new(Type::Dyn)),
        "google.protobuf.Any" | "google.protobuf.Value" => Type::Dyn,
        other => Type::read(other),
    })
}
