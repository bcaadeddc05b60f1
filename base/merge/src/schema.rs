//! The description of a type, as far as patches need it.
//!
//! A [`Schema`] is data: a table of named types and the reference to the root type. It is built once for each
//! kind (from OpenAPI by [`Schema::from_openapi`], or by hand) and then shared; a clone is two reference counts.
//! Formats, bounds and required fields are not here: validation belongs to the caller.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

mod openapi;
mod tidy;

pub use openapi::Error;

/// Named types and the type of the whole object. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Schema {
    types: Arc<BTreeMap<String, Type>>,
    root: TypeRef,
}

/// What a value may be. More than one part may be present; the value decides which one counts. A null counts
/// as a map, else as a scalar, else as a list, whichever is present first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Type {
    pub scalar: Option<Scalar>,
    pub list: Option<List>,
    pub map: Option<Map>,
}

/// Kinds of scalars that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    Numeric,
    String,
    Boolean,
    /// Any scalar, such as `IntOrString` and `Quantity`.
    Untyped,
}

/// How elements of a list belong to their list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct List {
    pub element: TypeRef,
    pub kind: ListKind,
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListKind {
    /// The whole list is one leaf. The default of Kubernetes.
    #[default]
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects told apart by these fields (`x-kubernetes-list-map-keys`). A key that an element lacks has the
    /// default of that field in the element's type, if there is one.
    Map(Vec<String>),
}

/// A struct (fields), a map (element), or both: fields first, then `element` for all other names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    pub fields: BTreeMap<String, Field>,
    /// Type of the fields not in `fields`. `None`: other fields are errors in `typed`, and are merged without
    /// knowledge by `strategic`.
    pub element: Option<TypeRef>,
    pub kind: MapKind,
}

/// `x-kubernetes-map-type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MapKind {
    #[default]
    Granular,
    /// The whole map is one leaf.
    Atomic,
}

/// A named field of a [`Map`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Field {
    pub ty: TypeRef,
    /// Read when the field is a key of a list of maps, and by [`Schema::skeleton`].
    pub default: Option<Value>,
    /// Only read by `strategic`.
    pub patch: Patch,
    /// Present in every object of the type, even if nobody set it; see [`Schema::skeleton`].
    pub always: bool,
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    pub strategy: PatchStrategy,
    /// `retainKeys`: `$retainKeys` is what clients send for this field. It is read wherever it occurs, so this
    /// is information only.
    pub retain_keys: bool,
    /// Field that tells the elements of a merged list of objects apart.
    pub merge_key: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PatchStrategy {
    /// Not told: maps are merged, lists are replaced.
    #[default]
    Unset,
    Merge,
    Replace,
}

/// A reference to a type, optionally with another granularity than the type has by itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TypeRef {
    pub target: Target,
    /// Overrides the kind of the map and of the list of the type referred to.
    pub granularity: Option<Granularity>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub enum Target {
    /// An entry of the table; this is how recursive types are written.
    Named(Arc<str>),
    Inline(Arc<Type>),
    /// Not described and deduced from the value: maps granular, lists atomic.
    #[default]
    Deduced,
    /// Not described and one leaf, whatever it holds.
    Opaque,
}

/// The override a reference may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    Atomic,
    /// Maps become granular. Lists become maps by the keys they have, or sets if they have none.
    Granular,
}

/// A type found by a reference, its granularity settled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Resolved<'a> {
    pub(crate) scalar: Option<Scalar>,
    pub(crate) list: Option<ResolvedList<'a>>,
    pub(crate) map: Option<ResolvedMap<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ResolvedList<'a> {
    pub(crate) element: &'a TypeRef,
    pub(crate) atomic: bool,
    /// Empty for sets.
    pub(crate) keys: &'a [String],
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ResolvedMap<'a> {
    pub(crate) map: &'a Map,
    pub(crate) atomic: bool,
}

/// Levels of structs in a skeleton.
const SKELETON_DEPTH_MAX: usize = 16;

static DEDUCED: LazyLock<Type> = LazyLock::new(|| Type {
    scalar: Some(Scalar::Untyped),
    list: Some(List { element: TypeRef::opaque(), kind: ListKind::Atomic }),
    map: Some(Map { element: Some(TypeRef::deduced()), ..Map::default() }),
});

static OPAQUE: LazyLock<Type> = LazyLock::new(|| Type {
    scalar: Some(Scalar::Untyped),
    list: Some(List { element: TypeRef::opaque(), kind: ListKind::Atomic }),
    map: Some(Map { element: Some(TypeRef::opaque()), kind: MapKind::Atomic, ..Map::default() }),
});

impl Schema {
    /// A schema from a table of types. A name that is not in the table is an error where a value needs it.
    pub fn new(types: BTreeMap<String, Type>, root: TypeRef) -> Schema {
        Schema { types: Arc::new(types), root }
    }

    /// Another root in the same table.
    pub fn with_root(&self, root: TypeRef) -> Schema {
        Schema { types: self.types.clone(), root }
    }

    /// Nothing is known: maps are merged field by field, lists are atoms.
    pub fn deduced() -> Schema {
        Schema::new(BTreeMap::new(), TypeRef::deduced())
    }

    /// Reads a schema in the form of OpenAPI v3 as Kubernetes publishes it, or of a CRD's `openAPIV3Schema`.
    ///
    /// `resolve` finds what a `$ref` names (the part after the last `/`); each name is asked for once, so
    /// recursive types are fine. It reads `type`, `properties`, `items`, `additionalProperties`, `default`,
    /// `format`, one-element `allOf` around a `$ref`, and the extensions `x-kubernetes-list-type`,
    /// `-list-map-keys`, `-map-type`, `-patch-strategy`, `-patch-merge-key`, `-preserve-unknown-fields`,
    /// `-int-or-string` and `-embedded-resource`. Everything else is ignored.
    ///
    /// A CRD's schema says only `type: object` of `metadata`: put a `$ref` to `ObjectMeta` in its place before, or its
    /// lists (`finalizers`, `ownerReferences`) become atoms.
    pub fn from_openapi<'a>(
        root: &'a Value,
        resolve: impl FnMut(&str) -> Option<&'a Value>,
    ) -> Result<Schema, Error> {
        openapi::read(root, resolve)
    }

    pub fn root(&self) -> &TypeRef {
        &self.root
    }

    /// An entry of the table.
    pub fn named(&self, name: &str) -> Option<&Type> {
        self.types.get(name)
    }

    /// What an object of a built-in kind holds before anything is set. Fields with the default `{}` (upstream's
    /// generator writes it for structs held by value) are there as skeletons of their own type, and other
    /// [`always`](Field::always) fields as null. Not meant to be stored.
    pub fn skeleton(&self) -> Value {
        self.skeleton_of(&self.root, 0)
    }

    fn skeleton_of(&self, reference: &TypeRef, depth: usize) -> Value {
        let mut members = serde_json::Map::new();
        let map = self.resolve(reference).and_then(|resolved| resolved.map);
        // A Go struct cannot hold itself by value; the bound is for schemas that say it does.
        if let Some(map) = map.filter(|_| depth < SKELETON_DEPTH_MAX) {
            for (name, field) in &map.map.fields {
                let by_value =
                    field.default.as_ref().and_then(Value::as_object).is_some_and(|map| map.is_empty());
                if by_value {
                    members.insert(name.clone(), self.skeleton_of(&field.ty, depth + 1));
                } else if field.always {
                    members.insert(name.clone(), Value::Null);
                }
            }
        }
        Value::Object(members)
    }

    /// The type a reference means. `None`: the name is unknown, or a scalar type is told to be granular or atomic.
    pub(crate) fn resolve<'a>(&'a self, reference: &'a TypeRef) -> Option<Resolved<'a>> {
        let found: &'a Type = match &reference.target {
            Target::Named(name) => self.types.get(&**name)?,
            Target::Inline(inline) => inline,
            Target::Deduced => &DEDUCED,
            Target::Opaque => &OPAQUE,
        };
        if reference.granularity.is_some() && found.list.is_none() && found.map.is_none() {
            return None;
        }
        let atomic = |own: bool| match reference.granularity {
            None => own,
            Some(granularity) => granularity == Granularity::Atomic,
        };
        Some(Resolved {
            scalar: found.scalar,
            list: found.list.as_ref().map(|list| ResolvedList {
                element: &list.element,
                atomic: atomic(list.kind == ListKind::Atomic),
                keys: match &list.kind {
                    ListKind::Map(keys) => keys,
                    _ => &[],
                },
            }),
            map: found
                .map
                .as_ref()
                .map(|map| ResolvedMap { map, atomic: atomic(map.kind == MapKind::Atomic) }),
        })
    }
}

impl TypeRef {
    pub fn named(name: &str) -> TypeRef {
        TypeRef { target: Target::Named(name.into()), granularity: None }
    }

    pub fn inline(ty: Type) -> TypeRef {
        TypeRef { target: Target::Inline(Arc::new(ty)), granularity: None }
    }

    pub fn deduced() -> TypeRef {
        TypeRef { target: Target::Deduced, granularity: None }
    }

    pub fn opaque() -> TypeRef {
        TypeRef { target: Target::Opaque, granularity: None }
    }

    pub fn scalar(scalar: Scalar) -> TypeRef {
        TypeRef::inline(Type { scalar: Some(scalar), ..Type::default() })
    }

    pub fn list(element: TypeRef, kind: ListKind) -> TypeRef {
        TypeRef::inline(Type { list: Some(List { element, kind }), ..Type::default() })
    }

    /// A struct with exactly these fields.
    pub fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Field)>) -> TypeRef {
        let fields = fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect();
        TypeRef::inline(Type { map: Some(Map { fields, ..Map::default() }), ..Type::default() })
    }

    /// A map from any name to `element`.
    pub fn map(element: TypeRef) -> TypeRef {
        TypeRef::inline(Type {
            map: Some(Map { element: Some(element), ..Map::default() }),
            ..Type::default()
        })
    }

    pub fn with_granularity(mut self, granularity: Granularity) -> TypeRef {
        self.granularity = Some(granularity);
        self
    }
}

impl From<TypeRef> for Field {
    fn from(ty: TypeRef) -> Field {
        Field { ty, ..Field::default() }
    }
}

impl<'a> Resolved<'a> {
    /// The part that describes `value`; all parts if none fits or there is no value.
    pub(crate) fn deduce(self, value: Option<&Value>) -> Resolved<'a> {
        let none = Resolved::default();
        match value {
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) if self.scalar.is_some() => {
                Resolved { scalar: self.scalar, ..none }
            }
            Some(Value::Array(_)) if self.list.is_some() => Resolved { list: self.list, ..none },
            Some(Value::Object(_)) if self.map.is_some() => Resolved { map: self.map, ..none },
            _ => self,
        }
    }

    /// Which parts are there; enough to compare two deductions from the same type.
    pub(crate) fn shape(self) -> (bool, bool, bool) {
        (self.scalar.is_some(), self.list.is_some(), self.map.is_some())
    }

    /// Which part handles the value, in upstream's order of preference.
    pub(crate) fn part(self) -> Option<Part<'a>> {
        match self {
            Resolved { map: Some(map), .. } => Some(Part::Map(map)),
            Resolved { scalar: Some(scalar), .. } => Some(Part::Scalar(scalar)),
            Resolved { list: Some(list), .. } => Some(Part::List(list)),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    Map(ResolvedMap<'a>),
    List(ResolvedList<'a>),
    Scalar(Scalar),
}

impl<'a> ResolvedMap<'a> {
    /// Type of the field `name`; `None` if the field is not declared and there is no type for all others.
    pub(crate) fn field(self, name: &str) -> Option<&'a TypeRef> {
        self.map.fields.get(name).map(|field| &field.ty).or(self.map.element.as_ref())
    }
}
