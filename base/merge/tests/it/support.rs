//! What the suites share: finding the data, reading upstream's schema form, judging with a list of skips.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dodai_merge::schema::{
    Field, Granularity, List, ListKind, Map, MapKind, Scalar, Schema, Target, Type, TypeRef,
};
use serde_json::Value;

/// A folder of the shared test data; `None` (and a line of output) if it is not there.
pub(crate) fn suite(name: &str) -> Option<PathBuf> {
    // A worktree lies one folder deeper than the repository itself.
    let places = ["../shared/testdata", "../../shared/testdata"];
    let found = places.iter().map(|place| repository().join(place).join(name)).find(|path| path.is_dir());
    if found.is_none() {
        println!("skipped: not found: {} {name}", places[0]);
    }
    found
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cases of a JSON-lines file.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn text<'v>(case: &'v Value, member: &str) -> &'v str {
    case[member].as_str().unwrap_or_else(|| panic!("`{member}` is no text in {case}"))
}

/// Collects verdicts and compares them with the list of skips at the end.
pub(crate) struct Judge {
    suite: &'static str,
    part: String,
    skips: BTreeMap<String, String>,
    seen: BTreeSet<String>,
    passed: usize,
    skipped: usize,
    wrong: Vec<String>,
}

impl Judge {
    /// `part` is one file of the suite; its skips are named `part:case`.
    pub(crate) fn new(suite: &'static str, part: &str) -> Judge {
        Judge {
            suite,
            part: part.to_owned(),
            skips: skips(suite),
            seen: BTreeSet::new(),
            passed: 0,
            skipped: 0,
            wrong: Vec::new(),
        }
    }

    pub(crate) fn case(&mut self, name: &str, verdict: Result<(), String>) {
        let name = format!("{}:{name}", self.part);
        let skipped = self.skips.contains_key(&name);
        self.seen.insert(name.clone());
        match (verdict, skipped) {
            (Ok(()), false) => self.passed += 1,
            (Err(_), true) => self.skipped += 1,
            (Ok(()), true) => self.wrong.push(format!("{name}: passes, take it out of skip.toml")),
            (Err(error), false) => self.wrong.push(format!("{name}: {error}")),
        }
    }

    pub(crate) fn finish(self) {
        println!("{} {}: {} passed, {} skipped", self.suite, self.part, self.passed, self.skipped);
        let part = format!("{}:", self.part);
        let unknown: Vec<_> =
            self.skips.keys().filter(|name| name.starts_with(&part) && !self.seen.contains(*name)).collect();
        assert!(unknown.is_empty(), "skip.toml names cases that do not exist: {unknown:?}");
        let shown: Vec<&str> = self.wrong.iter().take(20).map(String::as_str).collect();
        assert!(self.wrong.is_empty(), "{} wrong in {}:\n{}", self.wrong.len(), self.part, shown.join("\n"));
    }
}

/// `"case" = "reason"`, one a line; lines with `#` are comments.
fn skips(suite: &str) -> BTreeMap<String, String> {
    let path = repository().join("conformance").join(suite).join("skip.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let mut skips = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, reason) = line.rsplit_once(" = ").unwrap_or_else(|| panic!("no ` = ` in {line}"));
        let unquote = |text: &str| -> String { serde_json::from_str(text).unwrap() };
        let reason = unquote(reason);
        assert!(!reason.is_empty(), "no reason in {line}");
        skips.insert(unquote(name), reason);
    }
    skips
}

/// Equality of `want` and `got` with a text for the difference.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}\n   got {got:?}\n  want {want:?}")) }
}

/// Reads upstream's own schema form (`types: [{name, map, list, scalar}]`).
pub(crate) fn smd_schema(json: &Value) -> BTreeMap<String, Type> {
    let types = json["types"].as_array().unwrap();
    types.iter().map(|ty| (text(ty, "name").to_owned(), smd_type(ty))).collect()
}

pub(crate) fn with_root(types: &BTreeMap<String, Type>, root: &str) -> Schema {
    Schema::new(types.clone(), smd_named(root))
}

fn smd_type(ty: &Value) -> Type {
    Type {
        scalar: ty.get("scalar").map(|scalar| match scalar.as_str().unwrap() {
            "numeric" | "number" => Scalar::Numeric,
            "string" => Scalar::String,
            "boolean" => Scalar::Boolean,
            "untyped" => Scalar::Untyped,
            other => panic!("scalar {other}"),
        }),
        list: ty.get("list").map(|list| List {
            element: smd_reference(&list["elementType"]),
            kind: match (list["elementRelationship"].as_str(), list.get("keys")) {
                (Some("associative"), Some(keys)) => ListKind::Map(
                    keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect(),
                ),
                (Some("associative"), None) => ListKind::Set,
                _ => ListKind::Atomic,
            },
        }),
        map: ty.get("map").map(|map| Map {
            fields: map
                .get("fields")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(smd_field)
                .collect(),
            element: map
                .get("elementType")
                .filter(|element| !element.as_object().unwrap().is_empty())
                .map(smd_reference),
            kind: match map["elementRelationship"].as_str() {
                Some("atomic") => MapKind::Atomic,
                _ => MapKind::Granular,
            },
        }),
    }
}

fn smd_field(field: &Value) -> (String, Field) {
    let ty = smd_reference(&field["type"]);
    (text(field, "name").to_owned(), Field { ty, default: field.get("default").cloned(), ..Field::default() })
}

fn smd_reference(reference: &Value) -> TypeRef {
    let mut result = match reference["namedType"].as_str() {
        Some(name) => smd_named(name),
        None => TypeRef { target: Target::Inline(smd_type(reference).into()), granularity: None },
    };
    result.granularity = match reference["elementRelationship"].as_str() {
        Some("atomic") => Some(Granularity::Atomic),
        Some(_) => Some(Granularity::Granular),
        None => None,
    };
    result
}

fn smd_named(name: &str) -> TypeRef {
    match name {
        "__untyped_deduced_" => TypeRef::deduced(),
        "__untyped_atomic_" => TypeRef::opaque(),
        name => TypeRef::named(name),
    }
}
