//! Checks of a CustomResourceDefinition: names, versions, and the rules that make a schema structural.

use serde_json::{Map, Value, json};

use super::rules::{self, Known};
use crate::names;
use crate::status::{Cause, show};

/// Checks a new definition.
pub(crate) fn validate(crd: &Value, causes: &mut Vec<Cause>) {
    validate_with(None, crd, causes);
}

fn validate_with(old: Option<&Value>, crd: &Value, causes: &mut Vec<Cause>) {
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural, kind) =
        (text(&spec["group"]), text(&spec["names"]["plural"]), text(&spec["names"]["kind"]));
    let name = text(&crd["metadata"]["name"]);
    if name != format!("{plural}.{group}") {
        causes.push(Cause::invalid(
            "metadata.name",
            &name.into(),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    approval(crd, &group, causes);
    if group.is_empty() {
        causes.push(Cause::required("spec.group", ""));
    } else if let Some(detail) = names::subdomain(&group) {
        causes.push(Cause::invalid("spec.group", &spec["group"], &detail));
    } else if !group.contains('.') {
        causes.push(Cause::invalid("spec.group", &spec["group"], "should be a domain with at least one dot"));
    }
    match spec["scope"].as_str().unwrap_or_default() {
        "" => causes.push(Cause::required("spec.scope", "")),
        "Cluster" | "Namespaced" => {}
        _ => causes.push(Cause::not_supported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"])),
    }
    versions(old, spec, causes);
    check_names(&spec["names"], &plural, &kind, causes);
    if spec["conversion"]["strategy"] == "Webhook" {
        causes.push(Cause::forbidden(
            "spec.conversion.strategy",
            "conversion webhooks are not supported by this server",
        ));
    }
    if spec["preserveUnknownFields"] == true {
        causes.push(Cause::invalid("spec.preserveUnknownFields", &true.into(), "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"));
    }
}

fn approval(crd: &Value, group: &str, causes: &mut Vec<Cause>) {
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|suffix| group == *suffix || group.ends_with(&format!(".{suffix}")));
    let approved = crd["metadata"]["annotations"]["api-approved.kubernetes.io"]
        .as_str()
        .is_some_and(|text| !text.is_empty());
    if protected && !approved {
        causes.push(Cause::required(
            "metadata.annotations[api-approved.kubernetes.io]",
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        ));
    }
}

fn check_names(names_value: &Value, plural: &str, kind: &str, causes: &mut Vec<Cause>) {
    let mut check = |field: String, text: &str, mixed: bool| {
        let lower = text.to_lowercase();
        for detail in names::label_1035(if mixed { &lower } else { text }) {
            let detail = if mixed {
                format!("may have mixed case, but should otherwise match: {detail}")
            } else {
                detail
            };
            causes.push(Cause::invalid(field.clone(), &text.into(), &detail));
        }
    };
    if !plural.is_empty() {
        check("spec.names.plural".into(), plural, false);
    }
    if let Some(singular) = names_value["singular"].as_str() {
        check("spec.names.singular".into(), singular, false);
    }
    if !kind.is_empty() {
        check("spec.names.kind".into(), kind, true);
    }
    if let Some(list) = names_value["listKind"].as_str() {
        check("spec.names.listKind".into(), list, true);
    }
    for (field, what) in [("shortNames", "shortNames"), ("categories", "categories")] {
        for (at, word) in names_value[field].as_array().into_iter().flatten().enumerate() {
            check(format!("spec.names.{what}[{at}]"), word.as_str().unwrap_or_default(), false);
        }
    }
    if plural.is_empty() {
        causes.push(Cause::required("spec.names.plural", ""));
    }
    if kind.is_empty() {
        causes.push(Cause::required("spec.names.kind", ""));
    }
    if kind == names_value["listKind"].as_str().unwrap_or_default() && !kind.is_empty() {
        causes.push(Cause::invalid(
            "spec.names.listKind",
            &kind.into(),
            "kind and listKind may not be the same",
        ));
    }
}

fn versions(old: Option<&Value>, spec: &Value, causes: &mut Vec<Cause>) {
    let known = old.map(Known::of).unwrap_or_default();
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    let storage = versions.iter().filter(|version| version["storage"] == true).count();
    let schemas: Vec<&Value> = versions.iter().map(|version| &version["schema"]["openAPIV3Schema"]).collect();
    let shared = schemas.windows(2).all(|pair| pair[0] == pair[1]);
    let mut seen = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        let base = format!("spec.versions[{at}]");
        let name = version["name"].as_str().unwrap_or_default();
        let wrong = names::label_1035(name);
        if at == 0 {
            causes.extend(wrong.iter().map(|detail| Cause::invalid("spec.version", &name.into(), detail)));
        }
        causes
            .extend(wrong.iter().map(|detail| Cause::invalid(format!("{base}.name"), &name.into(), detail)));
        if seen.contains(&name) {
            causes.push(Cause::invalid(
                "spec.versions",
                &json!(versions),
                "must contain unique version names",
            ));
        }
        seen.push(name);
        if schemas[at].is_null() {
            causes.push(Cause::required(format!("{base}.schema.openAPIV3Schema"), ""));
            continue;
        }
        let path = if shared { "spec.validation".to_owned() } else { format!("{base}.schema") };
        if !shared || at == 0 {
            let path = format!("{path}.openAPIV3Schema");
            let n_before = causes.len();
            Check { causes }.root(schemas[at], &path);
            let unchanged = old.is_some_and(|old| has_schema(old, name, schemas[at]));
            let compile = causes.len() == n_before;
            rules::check(schemas[at], &path, &known, (compile, unchanged), causes);
        }
        if let Some(scale) = version["subresources"].get("scale").filter(|scale| scale.is_object()) {
            check_scale(
                scale,
                &if shared {
                    "spec.subresources.scale".to_owned()
                } else {
                    format!("{base}.subresources.scale")
                },
                causes,
            );
        }
        selectable(
            version,
            schemas[at],
            &if shared { "spec.selectableFields".to_owned() } else { format!("{base}.selectableFields") },
            causes,
        );
    }
    if storage != 1 {
        causes.push(Cause::invalid(
            "spec.versions",
            &json!(versions),
            "must have exactly one version marked as storage version",
        ));
    }
}

/// Whether a version of `crd` has this schema.
fn has_schema(crd: &Value, version: &str, schema: &Value) -> bool {
    let mut versions = crd["spec"]["versions"].as_array().into_iter().flatten();
    versions.any(|known| known["name"] == version && known["schema"]["openAPIV3Schema"] == *schema)
}

fn check_scale(scale: &Value, base: &str, causes: &mut Vec<Cause>) {
    for (field, prefix, needed) in [
        ("specReplicasPath", ".spec.", true),
        ("statusReplicasPath", ".status.", true),
        ("labelSelectorPath", "", false),
    ] {
        let text = scale[field].as_str().unwrap_or_default();
        let path = format!("{base}.{field}");
        if text.is_empty() {
            if needed {
                causes.push(Cause::required(path, ""));
            }
            continue;
        }
        let simple =
            text.starts_with('.') && !text.contains(['*', '?', '(', ')', '"', '\'']) && !text.contains("..");
        if !simple {
            causes.push(Cause::invalid(path, &text.into(), "is not a valid simple json path"));
        } else if field == "labelSelectorPath" && !text.starts_with(".spec.") && !text.starts_with(".status.")
        {
            causes.push(Cause::invalid(
                path,
                &text.into(),
                "should be a json path under either .spec or .status",
            ));
        } else if !prefix.is_empty() && !text.starts_with(prefix) {
            causes.push(Cause::invalid(
                path,
                &text.into(),
                &format!("should be a json path under {}", prefix.trim_end_matches('.')),
            ));
        }
    }
}

fn selectable(version: &Value, schema: &Value, base: &str, causes: &mut Vec<Cause>) {
    for (at, field) in version["selectableFields"].as_array().into_iter().flatten().enumerate() {
        let text = field["jsonPath"].as_str().unwrap_or_default();
        let path = format!("{base}[{at}].jsonPath");
        if text.is_empty() {
            causes.push(Cause::required(path, ""));
            continue;
        }
        let found = text
            .trim_start_matches('.')
            .split('.')
            .try_fold(schema, |schema, part| schema["properties"].get(part));
        match found.and_then(|schema| schema["type"].as_str()) {
            Some("string" | "boolean" | "integer") => {}
            None => causes.push(Cause::invalid(path, &text.into(), "is an invalid path: does not refer to a valid field")),
            _ => causes.push(Cause::invalid(path, &text.into(), "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.")),
        }
    }
}

/// Checks a change of a definition.
pub(crate) fn validate_update(old: &Value, crd: &Value, causes: &mut Vec<Cause>) {
    let established = super::condition(old, "Established").is_some_and(|found| found["status"] == "True");
    if established {
        for (field, pointer) in [("spec.scope", "/spec/scope"), ("spec.names.kind", "/spec/names/kind")] {
            immutable(old, crd, field, pointer, causes);
        }
    }
    immutable(old, crd, "spec.group", "/spec/group", causes);
    immutable(old, crd, "spec.names.plural", "/spec/names/plural", causes);
    validate_with(Some(old), crd, causes);
    let names: Vec<&Value> =
        crd["spec"]["versions"].as_array().into_iter().flatten().map(|version| &version["name"]).collect();
    for (at, stored) in crd["status"]["storedVersions"].as_array().into_iter().flatten().enumerate() {
        if !names.contains(&stored) {
            let version = stored.as_str().unwrap_or_default();
            causes.push(Cause::invalid(format!("status.storedVersions[{at}]"), stored, &format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
            )));
        }
    }
}

fn immutable(old: &Value, new: &Value, field: &str, pointer: &str, causes: &mut Vec<Cause>) {
    let (before, after) = (old.pointer(pointer), new.pointer(pointer));
    if before != after {
        causes.push(Cause::invalid(field, after.unwrap_or(&Value::Null), "field is immutable"));
    }
}

struct Check<'a> {
    causes: &'a mut Vec<Cause>,
}

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Structural,
    /// Inside allOf, anyOf, oneOf, not: only value validation.
    Junctor,
}

impl Check<'_> {
    fn root(&mut self, schema: &Value, path: &str) {
        if schema["type"] != "object" {
            match schema["type"].as_str().unwrap_or_default() {
                "" => {
                    self.causes.push(Cause::required(format!("{path}.type"), "must not be empty at the root"))
                }
                other => self.causes.push(Cause::invalid(
                    format!("{path}.type"),
                    &other.into(),
                    "must be object at the root",
                )),
            }
        }
        if schema["nullable"] == true {
            self.causes
                .push(Cause::forbidden(format!("{path}.nullable"), "nullable cannot be true at the root"));
        }
        self.schema(schema, path, Level::Root);
    }

    fn schema(&mut self, schema: &Value, path: &str, level: Level) {
        let Some(map) = schema.as_object() else { return };
        self.forbidden(map, path);
        if level == Level::Junctor {
            self.junctor(map, path);
        } else {
            self.structural(map, path, level);
        }
        for (name, inner) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.schema(inner, &format!("{path}.properties[{name}]"), deeper(level));
        }
        if let Some(items) = map.get("items") {
            if items.is_array() {
                self.causes.push(Cause::forbidden(
                    format!("{path}.items"),
                    "items must be a schema object and not an array",
                ));
            }
            self.schema(items, &format!("{path}.items"), deeper(level));
        }
        if let Some(inner) = map.get("additionalProperties").filter(|inner| inner.is_object()) {
            self.schema(inner, &format!("{path}.additionalProperties"), deeper(level));
        }
        for junctor in ["allOf", "anyOf", "oneOf"] {
            for (at, inner) in map.get(junctor).and_then(Value::as_array).into_iter().flatten().enumerate() {
                if !self.is_int_or_string_idiom(map, junctor, inner) {
                    self.schema(inner, &format!("{path}.{junctor}[{at}]"), Level::Junctor);
                }
            }
        }
        if let Some(inner) = map.get("not") {
            self.schema(inner, &format!("{path}.not"), Level::Junctor);
        }
    }

    /// `x-kubernetes-int-or-string` may be accompanied by `anyOf: [{type: integer}, {type: string}]`.
    fn is_int_or_string_idiom(&self, map: &Map<String, Value>, junctor: &str, inner: &Value) -> bool {
        let fits =
            |inner: &Value| *inner == json!({ "type": "integer" }) || *inner == json!({ "type": "string" });
        map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true))
            && (junctor == "anyOf" && fits(inner)
                || junctor == "allOf" && inner["anyOf"].as_array().is_some_and(|list| list.iter().all(fits)))
    }

    fn forbidden(&mut self, map: &Map<String, Value>, path: &str) {
        let mut refuse =
            |field: &str, text: &str| self.causes.push(Cause::forbidden(format!("{path}.{field}"), text));
        if map.get("uniqueItems") == Some(&Value::Bool(true)) {
            refuse(
                "uniqueItems",
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            );
        }
        for field in
            ["definitions", "dependencies", "patternProperties", "additionalItems", "id", "$schema", "$ref"]
        {
            if map.get(field).is_some_and(|value| !value.is_null()) {
                refuse(field, &format!("{} is not supported", field.trim_start_matches('$')));
            }
        }
        if let Some(pattern) = map.get("pattern").and_then(Value::as_str)
            && let Err(error) = regex::Regex::new(pattern)
        {
            let text = format!("must be a valid regular expression, but isn't: {error}").replace('\n', " ");
            self.causes.push(Cause::invalid(format!("{path}.pattern"), &pattern.into(), &text));
        }
        let both = map.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty())
            && map.get("additionalProperties").is_some_and(|value| !value.is_null());
        if both {
            let text = "additionalProperties and properties are mutual exclusive";
            self.causes.push(Cause::forbidden(format!("{path}.additionalProperties"), text));
        }
    }

    fn junctor(&mut self, map: &Map<String, Value>, path: &str) {
        let undefined = "must be undefined to be structural";
        let empty = "must be empty to be structural";
        let no = "must be false to be structural";
        for (field, text) in [
            ("type", empty),
            ("additionalProperties", undefined),
            ("default", undefined),
            ("title", empty),
            ("description", empty),
            ("nullable", no),
            ("x-kubernetes-preserve-unknown-fields", no),
            ("x-kubernetes-embedded-resource", no),
            ("x-kubernetes-int-or-string", no),
            ("x-kubernetes-list-map-keys", empty),
            ("x-kubernetes-list-type", undefined),
            ("x-kubernetes-map-type", undefined),
            ("x-kubernetes-validations", empty),
        ] {
            let given = match map.get(field) {
                None | Some(Value::Null | Value::Bool(false)) => false,
                Some(Value::Array(list)) => !list.is_empty(),
                Some(Value::String(text)) => !text.is_empty(),
                Some(_) => true,
            };
            if given {
                self.causes.push(Cause::forbidden(format!("{path}.{field}"), text));
            }
        }
    }

    fn structural(&mut self, map: &Map<String, Value>, path: &str, level: Level) {
        let flag = |field: &str| map.get(field) == Some(&Value::Bool(true));
        let ty = map.get("type").and_then(Value::as_str).unwrap_or_default();
        let open = flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
        if ty.is_empty() && !open && level != Level::Root {
            let what = if path.ends_with(".items") { "array items" } else { "object fields" };
            self.causes.push(Cause::required(
                format!("{path}.type"),
                &format!("must not be empty for specified {what}"),
            ));
        }
        if !ty.is_empty() && flag("x-kubernetes-int-or-string") {
            self.causes.push(Cause::forbidden(
                format!("{path}.type"),
                "must be empty if x-kubernetes-int-or-string is true",
            ));
        }
        if ty == "array" && !map.contains_key("items") {
            self.causes.push(Cause::required(format!("{path}.items"), "must be specified"));
        }
        if flag("x-kubernetes-embedded-resource") && ty != "object" {
            self.causes.push(Cause::invalid(
                format!("{path}.type"),
                &ty.into(),
                "must be object if x-kubernetes-embedded-resource is true",
            ));
        }
        self.list(map, path);
        if let Some(default) = map.get("default").filter(|default| !default.is_null()) {
            let compiled = super::structural::Structural::compile(&Value::Object(map.clone()));
            let mut found = Vec::new();
            compiled.validate(default, "", &mut found);
            if let Some(first) = found.first() {
                let detail = first.message.split_once(": ").map(|(_, rest)| rest).unwrap_or(&first.message);
                self.causes.push(Cause::invalid_text(format!("{path}.default"), &show(default), detail));
            }
        }
    }

    fn list(&mut self, map: &Map<String, Value>, path: &str) {
        let Some(kind) = map.get("x-kubernetes-list-type").and_then(Value::as_str) else { return };
        let items = map.get("items").cloned().unwrap_or_default();
        let keys: Vec<&str> = map
            .get("x-kubernetes-list-map-keys")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        match kind {
            "map" if keys.is_empty() => {
                self.causes.push(Cause::required(
                    format!("{path}.x-kubernetes-list-map-keys"),
                    "must not be empty if x-kubernetes-list-type is map",
                ));
            }
            "map" => {
                for key in keys {
                    let inner = &items["properties"][key];
                    let at = format!("{path}.items.properties[{key}]");
                    if inner.is_null() {
                        self.causes.push(Cause::invalid(
                            format!("{path}.x-kubernetes-list-map-keys"),
                            &key.into(),
                            "entries must all be names of item properties",
                        ));
                        continue;
                    }
                    let required =
                        items["required"].as_array().is_some_and(|list| list.iter().any(|name| name == key));
                    if !required && inner.get("default").is_none() {
                        self.causes.push(Cause::required(format!("{at}.default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"));
                    }
                }
            }
            "set" => {
                let ty = items["type"].as_str().unwrap_or_default();
                if ty == "object" && items["x-kubernetes-map-type"] != "atomic" {
                    self.causes.push(Cause::invalid(
                        format!("{path}.items.x-kubernetes-map-type"),
                        &items["x-kubernetes-map-type"],
                        "must be atomic as item of a list with x-kubernetes-list-type=set",
                    ));
                }
                if ty == "array" && items["x-kubernetes-list-type"] != "atomic" {
                    self.causes.push(Cause::invalid(
                        format!("{path}.items.x-kubernetes-list-type"),
                        &items["x-kubernetes-list-type"],
                        "must be atomic as item of a list with x-kubernetes-list-type=set",
                    ));
                }
            }
            "atomic" => {}
            other => self.causes.push(Cause::not_supported(
                format!("{path}.x-kubernetes-list-type"),
                &other.into(),
                &["atomic", "map", "set"],
            )),
        }
    }
}

fn deeper(level: Level) -> Level {
    if level == Level::Junctor { Level::Junctor } else { Level::Structural }
}
