//! Structural schemas of custom resources: pruning, defaults and validation of objects.
//!
//! Leaves out: CEL rules (`x-kubernetes-validations`), see `crd/rules.rs`.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use crate::status::{Cause, show};

/// Checks that upstream makes of every value: its type, its combinations, its enumeration, and itself.
const CHECKS_PER_VALUE: u32 = 4;

/// `type` of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    fn read(text: &str) -> Option<Type> {
        Some(match text {
            "object" => Type::Object,
            "array" => Type::Array,
            "string" => Type::String,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
        }
    }
}

/// `additionalProperties`.
#[derive(Clone, Debug, Default)]
pub(crate) enum Additional {
    #[default]
    None,
    Any,
    Schema(Box<Structural>),
}

/// A compiled schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Structural {
    pub ty: Option<Type>,
    pub nullable: bool,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Structural>,
    pub additional: Additional,
    pub items: Option<Box<Structural>>,
    pub preserve: bool,
    pub embedded: bool,
    pub int_or_string: bool,
    pub list_type: Option<String>,
    pub list_keys: Vec<String>,
    values: Option<Vec<Value>>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    exclusive: (bool, bool),
    multiple_of: Option<f64>,
    length: (Option<u64>, Option<u64>),
    pattern: Option<(String, Option<Regex>)>,
    n_items: (Option<u64>, Option<u64>),
    n_properties: (Option<u64>, Option<u64>),
    required: Vec<String>,
    format: Option<String>,
    all_of: Vec<Structural>,
    any_of: Vec<Structural>,
    one_of: Vec<Structural>,
    not: Option<Box<Structural>>,
}

impl Structural {
    /// Compiles a schema that `check` has accepted; what it cannot read it leaves open.
    pub(crate) fn compile(schema: &Value) -> Structural {
        let number = |key: &str| schema[key].as_f64();
        let count = |low: &str, high: &str| (schema[low].as_u64(), schema[high].as_u64());
        let list = |key: &str| -> Vec<Structural> {
            schema[key].as_array().into_iter().flatten().map(Structural::compile).collect()
        };
        let words = |key: &str| -> Vec<String> {
            schema[key]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        let flag = |key: &str| schema[key].as_bool().unwrap_or_default();
        let properties = schema["properties"].as_object().into_iter().flatten();
        Structural {
            ty: schema["type"].as_str().and_then(Type::read),
            nullable: flag("nullable"),
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            properties: properties.map(|(name, inner)| (name.clone(), Structural::compile(inner))).collect(),
            additional: match schema.get("additionalProperties") {
                Some(Value::Bool(true)) => Additional::Any,
                Some(inner @ Value::Object(_)) => Additional::Schema(Box::new(Structural::compile(inner))),
                _ => Additional::None,
            },
            items: schema.get("items").map(|inner| Box::new(Structural::compile(inner))),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_type: schema["x-kubernetes-list-type"].as_str().map(str::to_owned),
            list_keys: words("x-kubernetes-list-map-keys"),
            values: schema["enum"].as_array().cloned(),
            minimum: number("minimum"),
            maximum: number("maximum"),
            exclusive: (flag("exclusiveMinimum"), flag("exclusiveMaximum")),
            multiple_of: number("multipleOf"),
            length: count("minLength", "maxLength"),
            pattern: schema["pattern"].as_str().map(|text| (text.to_owned(), Regex::new(text).ok())),
            n_items: count("minItems", "maxItems"),
            n_properties: count("minProperties", "maxProperties"),
            required: words("required"),
            format: schema["format"].as_str().map(str::to_owned),
            all_of: list("allOf"),
            any_of: list("anyOf"),
            one_of: list("oneOf"),
            not: schema.get("not").map(|inner| Box::new(Structural::compile(inner))),
        }
    }

    fn child(&self, key: &str) -> Option<&Structural> {
        match (self.properties.get(key), &self.additional) {
            (Some(inner), _) => Some(inner),
            (None, Additional::Schema(inner)) => Some(inner),
            _ => None,
        }
    }

    /// Removes what the schema does not know; the paths removed go to `unknown`.
    pub(crate) fn prune(&self, value: &mut Value, root: bool, unknown: &mut Vec<String>) {
        self.prune_at(value, root, self.preserve, "", unknown);
    }

    fn prune_at(&self, value: &mut Value, meta: bool, preserve: bool, path: &str, unknown: &mut Vec<String>) {
        let preserve = preserve && !matches!(self.additional, Additional::Schema(_)) || self.preserve;
        match value {
            Value::Object(map) => {
                let known = |key: &str| meta && matches!(key, "apiVersion" | "kind" | "metadata");
                let open = preserve || matches!(self.additional, Additional::Any);
                map.retain(|key, _| {
                    let keep = open || known(key) || self.child(key).is_some();
                    if !keep {
                        unknown.push(join(path, key));
                    }
                    keep
                });
                for (key, inner) in map.iter_mut() {
                    if known(key) {
                        if key == "metadata" && !path.is_empty() {
                            // The object itself has had its metadata checked already.
                            embedded_metadata(inner, &join(path, key), unknown);
                        }
                        continue;
                    }
                    // Below an open place everything stays.
                    if let Some(schema) = self.child(key) {
                        schema.prune_at(inner, schema.embedded, schema.preserve, &join(path, key), unknown);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for (at, item) in items.iter_mut().enumerate() {
                        schema.prune_at(
                            item,
                            schema.embedded,
                            schema.preserve,
                            &format!("{path}[{at}]"),
                            unknown,
                        );
                    }
                }
            }
            _ => {}
        }
    }

    /// Puts defaults where nothing is; a null where it is not allowed counts as nothing.
    pub(crate) fn set_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (name, schema) in &self.properties {
                    let Some(default) = &schema.default else { continue };
                    let missing = match map.get(name) {
                        None => true,
                        Some(Value::Null) => !schema.nullable,
                        Some(_) => false,
                    };
                    if missing {
                        map.insert(name.clone(), default.clone());
                    }
                }
                for (name, inner) in map.iter_mut() {
                    if let Some(schema) = self.child(name) {
                        if inner.is_null()
                            && !schema.nullable
                            && let Some(default) = &schema.default
                        {
                            *inner = default.clone();
                        }
                        schema.set_defaults(inner);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for item in items {
                        if item.is_null()
                            && !schema.nullable
                            && let Some(default) = &schema.default
                        {
                            *item = default.clone();
                        }
                        schema.set_defaults(item);
                    }
                }
            }
            _ => {}
        }
    }

    /// Checks an object; the order of causes is that of the schema.
    pub(crate) fn validate(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        self.check(value, None, path, causes);
        self.check_unique(value, path, causes);
    }

    /// Checks a changed object: what is as it was is tolerated, with all that is below it. Elements of lists are found by
    /// their keys.
    pub(crate) fn validate_update(&self, value: &Value, old: &Value, path: &str, causes: &mut Vec<Cause>) {
        self.check(value, Some(old), path, causes);
        let mut before = Vec::new();
        self.check_unique(old, path, &mut before);
        if before.is_empty() {
            self.check_unique(value, path, causes);
        }
    }

    /// Gives the number of checks made, by which alternatives are compared.
    fn check(&self, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) -> u32 {
        if value.is_null() && self.nullable || old.is_some_and(|old| !old.is_null() && old == value) {
            return 1;
        }
        if !self.check_type(value, path, causes) {
            return 1;
        }
        self.check_values(value, path, causes);
        let n_below = match value {
            Value::Object(map) => self.check_object(map, old, path, causes),
            Value::Array(items) => self.check_array(items, old, path, causes),
            Value::String(text) => {
                self.check_string(text, path, causes);
                1
            }
            Value::Number(number) => {
                self.check_number(number.as_f64().unwrap_or_default(), value, path, causes);
                1
            }
            _ => 1,
        };
        CHECKS_PER_VALUE + n_below + self.check_junctors(value, old, path, causes)
    }

    fn check_type(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) -> bool {
        let got = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if is_integer(number) => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let (fits, wanted) = if self.int_or_string {
            (got == "integer" || got == "string", "integer,string")
        } else {
            match self.ty {
                None => (true, ""),
                Some(Type::Number) => (got == "number" || got == "integer", "number"),
                Some(ty) => (got == ty.name(), ty.name()),
            }
        };
        if !fits {
            let text = format!("{} in body must be of type {wanted}: \"{got}\"", name_of(path));
            causes.push(Cause::type_invalid(field_of(path), &Value::String(got.into()), &text));
        }
        fits
    }

    fn check_values(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        let Some(values) = &self.values else { return };
        if !values.iter().any(|known| same(known, value)) {
            let known: Vec<String> = values
                .iter()
                .map(|known| match known {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                })
                .collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            causes.push(Cause::not_supported(field_of(path), value, &known));
        }
    }

    fn check_object(
        &self,
        map: &Map<String, Value>,
        old: Option<&Value>,
        path: &str,
        causes: &mut Vec<Cause>,
    ) -> u32 {
        let n = map.len() as u64;
        if let (Some(min), _) = self.n_properties
            && n < min
        {
            let text = format!("{} in body should have at least {min} properties", name_of(path));
            causes.push(Cause::invalid(field_of(path), &n.into(), &text));
        }
        if let (_, Some(max)) = self.n_properties
            && n > max
        {
            causes.push(Cause::too_many(field_of(path), n as usize, max as usize));
        }
        for name in &self.required {
            if !map.contains_key(name) {
                causes.push(Cause::required(join(path, name), ""));
            }
        }
        if self.embedded {
            self.check_embedded(map, path, causes);
        }
        let mut n_matches = 1;
        for (name, inner) in map {
            if let Some(schema) = self.child(name) {
                n_matches +=
                    schema.check(inner, old.and_then(|old| old.get(name)), &join(path, name), causes);
            }
        }
        n_matches
    }

    fn check_embedded(&self, map: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
        for key in ["apiVersion", "kind"] {
            match map.get(key) {
                None => causes.push(Cause::required(join(path, key), "")),
                Some(Value::String(text)) if text.is_empty() => {
                    causes.push(Cause::required(join(path, key), "must not be empty"));
                }
                _ => {}
            }
        }
    }

    fn check_array(&self, items: &[Value], old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) -> u32 {
        let n = items.len() as u64;
        if let (Some(min), _) = self.n_items
            && n < min
        {
            let text = format!("{} in body should have at least {min} items", name_of(path));
            causes.push(Cause::invalid(field_of(path), &n.into(), &text));
        }
        if let (_, Some(max)) = self.n_items
            && n > max
        {
            causes.push(Cause::too_many(field_of(path), n as usize, max as usize));
        }
        let mut n_matches = 1;
        if let Some(schema) = &self.items {
            for (at, item) in items.iter().enumerate() {
                n_matches +=
                    schema.check(item, self.same_element(item, old), &format!("{path}[{at}]"), causes);
            }
        }
        n_matches
    }

    /// The old state of an element of a list.
    fn same_element<'v>(&self, item: &Value, old: Option<&'v Value>) -> Option<&'v Value> {
        if self.list_type.as_deref() != Some("map") {
            return None;
        }
        let same = |old: &&Value| self.list_keys.iter().all(|key| old.get(key) == item.get(key));
        old?.as_array()?.iter().find(same)
    }

    /// Sets and maps hold nothing twice.
    fn check_unique(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    if let Some(schema) = self.child(name) {
                        schema.check_unique(inner, &join(path, name), causes);
                    }
                }
            }
            Value::Array(items) => {
                self.check_unique_items(items, path, causes);
                if let Some(schema) = &self.items {
                    for (at, item) in items.iter().enumerate() {
                        schema.check_unique(item, &format!("{path}[{at}]"), causes);
                    }
                }
            }
            _ => {}
        }
    }

    fn check_unique_items(&self, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
        let key_of = |item: &Value| -> Value {
            if self.list_type.as_deref() == Some("set") {
                return item.clone();
            }
            let keys = self.list_keys.iter();
            Value::Object(keys.filter_map(|key| Some((key.clone(), item.get(key)?.clone()))).collect())
        };
        if !matches!(self.list_type.as_deref(), Some("set" | "map")) {
            return;
        }
        let mut seen = std::collections::HashSet::new();
        for (at, item) in items.iter().enumerate() {
            let key = key_of(item);
            if !seen.insert(key.to_string()) {
                causes.push(Cause::duplicate(format!("{path}[{at}]"), &key));
            }
        }
    }

    fn check_string(&self, text: &str, path: &str, causes: &mut Vec<Cause>) {
        let value = Value::String(text.into());
        let n = text.chars().count() as u64;
        if let (Some(min), _) = self.length
            && n < min
        {
            let text = format!("{} in body should be at least {min} chars long", name_of(path));
            causes.push(Cause::invalid(field_of(path), &value, &text));
        }
        if let (_, Some(max)) = self.length
            && n > max
        {
            causes.push(Cause::too_long(field_of(path), max as usize));
        }
        if let Some((source, regex)) = &self.pattern
            && regex.as_ref().is_some_and(|regex| !regex.is_match(text))
        {
            let text = format!("{} in body should match '{source}'", name_of(path));
            causes.push(Cause::invalid(field_of(path), &value, &text));
        }
        if let Some(format) = &self.format
            && !crate::crd::format::matches(format, text)
        {
            let text = format!("{} in body must be of type {format}: {}", name_of(path), show(&value));
            causes.push(Cause::invalid(field_of(path), &value, &text));
        }
    }

    fn check_number(&self, number: f64, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        let format = self.format.as_deref().unwrap_or_default();
        let fits = match (self.ty, format) {
            (Some(Type::Integer), "int32") => number as i64 == i64::from(number as i32),
            (Some(Type::Number), "float") => number.abs() <= f64::from(f32::MAX),
            _ => true,
        };
        if !fits {
            let ty = self.ty.map_or("", Type::name);
            // Upstream's error knows no field.
            let text = format!("Checked value must be of type {ty} with format {format} in {path}");
            causes.push(Cause::invalid("<nil>", &"".into(), &text));
        }
        if let Some(min) = self.minimum
            && (number < min || self.exclusive.0 && number == min)
        {
            let or = if self.exclusive.0 { "" } else { " or equal to" };
            let text = format!("{} in body should be greater than{or} {min}", name_of(path));
            causes.push(Cause::invalid(field_of(path), value, &text));
        }
        if let Some(max) = self.maximum
            && (number > max || self.exclusive.1 && number == max)
        {
            let or = if self.exclusive.1 { "" } else { " or equal to" };
            let text = format!("{} in body should be less than{or} {max}", name_of(path));
            causes.push(Cause::invalid(field_of(path), value, &text));
        }
        if let Some(of) = self.multiple_of
            && of != 0.0
            && (number / of).fract() != 0.0
        {
            let text = format!("{} in body should be a multiple of {of}", name_of(path));
            causes.push(Cause::invalid(field_of(path), value, &text));
        }
    }

    /// Allowed combinations. Of the alternatives none of which fits, the mistakes of that one are named that looks closest.
    fn check_junctors(&self, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) -> u32 {
        let try_one = |schema: &Structural| {
            let mut found = Vec::new();
            let n_matches = schema.check(value, old, path, &mut found);
            (found, n_matches)
        };
        let mut n_matches = 0;
        let fail = |what: &str, causes: &mut Vec<Cause>| {
            let text = format!("{} in body must {what}", quoted(path));
            causes.push(Cause::invalid(field_of(path), value, &text));
        };
        if !self.any_of.is_empty() {
            let best = closest(self.any_of.iter().map(try_one));
            if best.n_valid == 0 {
                fail("validate at least one schema (anyOf)", causes);
                causes.extend(best.causes);
            }
            n_matches += best.n_matches;
        }
        if !self.one_of.is_empty() {
            let best = closest(self.one_of.iter().map(try_one));
            match best.n_valid {
                0 => {
                    fail("validate one and only one schema (oneOf). Found none valid", causes);
                    causes.extend(best.causes);
                }
                1 => {}
                n => {
                    let what =
                        format!("validate one and only one schema (oneOf). Found {n} valid alternatives");
                    fail(&what, causes);
                }
            }
            n_matches += best.n_matches;
        }
        let mut n_valid = 0;
        for schema in &self.all_of {
            let (found, n) = try_one(schema);
            n_valid += usize::from(found.is_empty());
            causes.extend(found);
            n_matches += n;
        }
        if n_valid < self.all_of.len() {
            let none = if n_valid == 0 { ". None validated" } else { "" };
            fail(&format!("validate all the schemas (allOf){none}"), causes);
        }
        if let Some(schema) = &self.not
            && try_one(schema).0.is_empty()
        {
            fail("not validate the schema (not)", causes);
        }
        n_matches
    }
}

/// What trying alternatives gave.
#[derive(Default)]
struct Closest {
    n_valid: usize,
    /// The mistakes of the alternative with most checks, if none is valid.
    causes: Vec<Cause>,
    n_matches: u32,
}

fn closest(tried: impl Iterator<Item = (Vec<Cause>, u32)>) -> Closest {
    let mut best = Closest::default();
    for (causes, n_matches) in tried {
        if causes.is_empty() {
            best = Closest { n_valid: best.n_valid + 1, causes, n_matches };
        } else if best.n_valid == 0 && (best.causes.is_empty() || n_matches > best.n_matches) {
            best = Closest { n_valid: 0, causes, n_matches };
        }
    }
    best
}

fn embedded_metadata(meta: &mut Value, path: &str, unknown: &mut Vec<String>) {
    let known = crate::schema::named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").fields();
    if let Some(map) = meta.as_object_mut() {
        map.retain(|key, _| {
            let keep = known.contains_key(key);
            if !keep {
                unknown.push(join(path, key));
            }
            keep
        });
    }
}

/// Whether JavaScript could count with a number, or it was written as one of 64 bits.
fn is_integer(number: &serde_json::Number) -> bool {
    const SAFE_MAX: f64 = 9_007_199_254_740_991.0;
    number.is_i64()
        || number.is_f64()
            && number.as_f64().is_some_and(|real| real.fract() == 0.0 && real.abs() <= SAFE_MAX)
}

fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn name_of(path: &str) -> &str {
    path
}

fn quoted(path: &str) -> String {
    format!("\"{path}\"")
}

fn field_of(path: &str) -> String {
    if path.is_empty() { "<nil>".into() } else { path.to_owned() }
}

/// Removes nulls that stand where null is not allowed.
pub(crate) fn drop_nulls(schema: &Structural, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, inner| {
                let Some(schema) = schema.child(key) else { return true };
                !inner.is_null() || schema.nullable
            });
            for (key, inner) in map.iter_mut() {
                if let Some(schema) = schema.child(key) {
                    drop_nulls(schema, inner);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|item| drop_nulls(schema, item));
            }
        }
        _ => {}
    }
}
