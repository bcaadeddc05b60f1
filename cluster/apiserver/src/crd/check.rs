//! Checks of a CustomResourceDefinition: names, versions, schemas, columns.

mod defaults;
mod schema;
mod structural;

pub(super) use schema::sets_of_others;
use serde_json::{Value, json};

use super::rules::{self, Known};
use crate::names;
use crate::status::Cause;

/// Fields that a version may offer to field selectors.
const SELECTABLE_MAX: usize = 8;

/// Checks a new definition.
pub(crate) fn validate(crd: &Value, causes: &mut Vec<Cause>) {
    validate_with(None, crd, causes);
}

fn validate_with(old: Option<&Value>, crd: &Value, causes: &mut Vec<Cause>) {
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let name = text(&crd["metadata"]["name"]);
    if name != format!("{plural}.{group}") {
        causes.push(Cause::invalid(
            "metadata.name",
            &name.into(),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    if group.is_empty() {
        causes.push(Cause::required("spec.group", ""));
    } else if let Some(detail) = names::subdomain(&group) {
        causes.push(Cause::invalid("spec.group", &spec["group"], &detail));
    } else if !group.contains('.') {
        causes.push(Cause::invalid("spec.group", &spec["group"], "should be a domain with at least one dot"));
    }
    one_of("spec.scope", &spec["scope"], &["Cluster", "Namespaced"], causes);
    Versions { old, spec, causes }.check();
    if !spec["conversion"].is_null() {
        conversion(&spec["conversion"], causes);
    }
    approval(old, crd, &group, causes);
    let was_open = old.is_some_and(|old| old["spec"]["preserveUnknownFields"] == true);
    if spec["preserveUnknownFields"] == true && !was_open {
        causes.push(Cause::invalid("spec.preserveUnknownFields", &true.into(), "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"));
    }
}

fn one_of(field: &str, value: &Value, known: &[&str], causes: &mut Vec<Cause>) {
    match value.as_str().unwrap_or_default() {
        "" => causes.push(Cause::required(field, "")),
        word if known.contains(&word) => {}
        _ => causes.push(Cause::not_supported(field, value, known)),
    }
}

fn conversion(conversion: &Value, causes: &mut Vec<Cause>) {
    one_of("spec.conversion.strategy", &conversion["strategy"], &["None", "Webhook"], causes);
    if conversion["strategy"] == "Webhook" {
        let text = "conversion webhooks are not supported by this server";
        causes.push(Cause::forbidden("spec.conversion.strategy", text));
        return;
    }
    let webhook = &conversion["webhook"];
    let text = "should not be set when strategy is not set to Webhook";
    if !webhook["clientConfig"].is_null() {
        causes.push(Cause::forbidden("spec.conversion.webhookClientConfig", text));
    }
    if webhook["conversionReviewVersions"].as_array().is_some_and(|list| !list.is_empty()) {
        causes.push(Cause::forbidden("spec.conversion.conversionReviewVersions", text));
    }
}

/// What the annotation by which groups of Kubernetes are approved says.
#[derive(PartialEq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Wrong,
}

fn approval_of(crd: &Value) -> Approval {
    let text = crd["metadata"]["annotations"]["api-approved.kubernetes.io"].as_str().unwrap_or_default();
    if text.is_empty() {
        return Approval::Missing;
    }
    if text.starts_with("unapproved") {
        return Approval::Bypassed;
    }
    match text.parse::<http::Uri>() {
        Ok(uri) if uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty()) => {
            Approval::Approved
        }
        _ => Approval::Wrong,
    }
}

fn approval(old: Option<&Value>, crd: &Value, group: &str, causes: &mut Vec<Cause>) {
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|suffix| group == *suffix || group.ends_with(&format!(".{suffix}")));
    let state = approval_of(crd);
    if !protected || old.is_some_and(|old| approval_of(old) == state) {
        return;
    }
    let field = "metadata.annotations[api-approved.kubernetes.io]";
    match state {
        Approval::Missing => causes.push(Cause::required(field, "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111")),
        Approval::Wrong => causes.push(Cause::invalid(field, &crd["metadata"]["annotations"]["api-approved.kubernetes.io"], "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111")),
        Approval::Bypassed | Approval::Approved => {}
    }
}

/// Names as the definition asks for them, or (in its status) as they are accepted.
fn check_names(words: &Value, base: &str, causes: &mut Vec<Cause>) {
    let mut check = |field: String, word: &Value, mixed: bool| {
        let text = word.as_str().unwrap_or_default();
        let lower = text.to_lowercase();
        let wrong = names::label_1035(if mixed { &lower } else { text });
        if text.is_empty() && !field.ends_with(']') || wrong.is_empty() {
            return;
        }
        let intro = if mixed { "may have mixed case, but should otherwise match: " } else { "" };
        causes.push(Cause::invalid(
            format!("{base}.{field}"),
            &text.into(),
            &format!("{intro}{}", wrong.join(",")),
        ));
    };
    for (field, mixed) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        check(field.to_owned(), &words[field], mixed);
    }
    for (at, word) in words["shortNames"].as_array().into_iter().flatten().enumerate() {
        check(format!("shortNames[{at}]"), word, false);
    }
    for (at, word) in words["categories"].as_array().into_iter().flatten().enumerate() {
        check(format!("categories[{at}]"), word, false);
    }
    let kind = words["kind"].as_str().unwrap_or_default();
    if !kind.is_empty() && words["listKind"] == kind {
        let text = "kind and listKind may not be the same";
        causes.push(Cause::invalid(format!("{base}.listKind"), &kind.into(), text));
    }
}

/// What all versions say in the same words is checked once, and named as a part of `spec`, as upstream's older form has it.
struct Versions<'a, 'c> {
    old: Option<&'a Value>,
    spec: &'a Value,
    causes: &'c mut Vec<Cause>,
}

impl<'a> Versions<'a, '_> {
    fn check(&mut self) {
        let spec = self.spec;
        let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_shared = |of: &dyn Fn(&Value) -> Value| {
            versions.windows(2).all(|pair| of(&pair[0]) == of(&pair[1])) && !versions.is_empty()
        };
        let shared_schema = is_shared(&|version| version["schema"]["openAPIV3Schema"].clone());
        let shared_doors = is_shared(&|version| version["subresources"].clone());
        let shared_columns = is_shared(&|version| version["additionalPrinterColumns"].clone());
        let shared_fields = is_shared(&|version| version["selectableFields"].clone());
        for (at, version) in versions.iter().enumerate() {
            if version["schema"]["openAPIV3Schema"].is_null() {
                let field = format!("spec.versions[{at}].schema.openAPIV3Schema");
                self.causes.push(Cause::required(field, ""));
            }
        }
        let (mut seen, mut unique) = (Vec::new(), true);
        for (at, version) in versions.iter().enumerate() {
            let base = format!("spec.versions[{at}]");
            let name = version["name"].as_str().unwrap_or_default();
            unique &= !seen.contains(&name);
            seen.push(name);
            self.version_name(name, &format!("{base}.name"));
            self.deprecation(version, &base);
            if !shared_schema {
                let has_status = version["subresources"]["status"].is_object();
                self.schema(version, &format!("{base}.schema"), has_status);
            }
            if !shared_doors {
                check_scale(version, &format!("{base}.subresources.scale"), self.causes);
            }
            if !shared_columns {
                self.columns(version, &base);
            }
            if !shared_fields {
                self.selectable(version, &base);
            }
        }
        let mut wrong = |detail: &str| {
            self.causes.push(Cause::invalid("spec.versions", &json!(versions), detail));
        };
        if !unique {
            wrong("must contain unique version names");
        }
        if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
            wrong("must have exactly one version marked as storage version");
        }
        let Some(first) = versions.first() else { return self.names() };
        self.version_name(first["name"].as_str().unwrap_or_default(), "spec.version");
        self.names();
        if shared_schema {
            let has_status = versions.iter().any(|version| version["subresources"]["status"].is_object());
            self.schema(first, "spec.validation", has_status);
        }
        if shared_doors {
            check_scale(first, "spec.subresources.scale", self.causes);
        }
        if shared_columns {
            self.columns(first, "spec");
        }
        if shared_fields {
            self.selectable(first, "spec");
        }
    }

    fn version_name(&mut self, name: &str, field: &str) {
        let wrong = names::label_1035(name);
        if !wrong.is_empty() {
            self.causes.push(Cause::invalid(field, &name.into(), &wrong.join(",")));
        }
    }

    fn names(&mut self) {
        let words = &self.spec["names"];
        for field in ["plural", "singular", "kind", "listKind"] {
            if words[field].as_str().unwrap_or_default().is_empty() {
                self.causes.push(Cause::required(format!("spec.names.{field}"), ""));
            }
        }
        check_names(words, "spec.names", self.causes);
    }

    fn deprecation(&mut self, version: &Value, base: &str) {
        let Some(text) = version["deprecationWarning"].as_str() else { return };
        let mut wrong = |detail: &str| {
            self.causes.push(Cause::invalid(format!("{base}.deprecationWarning"), &text.into(), detail));
        };
        if version["deprecated"] != true {
            return wrong("can only be set for deprecated versions");
        }
        if text.len() > 256 {
            wrong("must be <= 256 characters long");
        }
        if text.is_empty() {
            wrong("must not be an empty string");
        }
        let unprintable = |c: char| c.is_control() || c.is_whitespace() && c != ' ';
        if let Some(at) = text.find(unprintable) {
            wrong(&format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    }

    fn schema(&mut self, version: &Value, base: &str, has_status: bool) {
        let schema = &version["schema"]["openAPIV3Schema"];
        if !schema.is_object() {
            return;
        }
        let path = format!("{base}.openAPIV3Schema");
        let n_before = self.causes.len();
        if has_status {
            allowed_beside_status(schema, &path, self.causes);
        }
        if schema["nullable"] == true {
            let text = "nullable cannot be true at the root";
            self.causes.push(Cause::forbidden(format!("{path}.nullable"), text));
        }
        let n_structural = self.causes.len();
        let unsupported = schema::is_unsupported(schema);
        if !unsupported {
            structural::check(schema, &path, self.causes);
            if self.causes.len() == n_structural {
                defaults::check(schema, &path, self.causes);
            }
        }
        let compile = !unsupported && self.causes.len() == n_structural;
        schema::check(schema, &path, self.causes);
        if unsupported && self.causes.len() == n_before {
            let text = "OpenAPIV3Schema 'schema' is not supported";
            self.causes.push(Cause::invalid(path.clone(), &"".into(), text));
        }
        let known = self.old.map(Known::of).unwrap_or_default();
        let unchanged = self.old.is_some_and(|old| has_schema(old, &version["name"], schema));
        rules::check(schema, &path, &known, (compile, unchanged), self.causes);
    }

    fn columns(&mut self, version: &Value, base: &str) {
        let types = ["boolean", "date", "integer", "number", "string"];
        let formats = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
        let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
        for (at, column) in columns.enumerate() {
            let place = |field: &str| format!("{base}.additionalPrinterColumns[{at}].{field}");
            let text = |field: &str| column[field].as_str().unwrap_or_default();
            if text("name").is_empty() {
                self.causes.push(Cause::required(place("name"), ""));
            }
            let wanted = format!("must be one of {}", types.join(","));
            if text("type").is_empty() {
                self.causes.push(Cause::required(place("type"), &wanted));
            } else if !types.contains(&text("type")) {
                self.causes.push(Cause::invalid(place("type"), &column["type"], &wanted));
            }
            if !text("format").is_empty() && !formats.contains(&text("format")) {
                let wanted = format!("must be one of {}", formats.join(","));
                self.causes.push(Cause::invalid(place("format"), &column["format"], &wanted));
            }
            if text("jsonPath").is_empty() {
                self.causes.push(Cause::required(place("JSONPath"), ""));
            } else if !text("jsonPath").starts_with('.') {
                let wanted = "must be a simple json path starting with .";
                self.causes.push(Cause::invalid(place("JSONPath"), &column["jsonPath"], wanted));
            }
        }
    }

    fn selectable(&mut self, version: &Value, base: &str) {
        let schema = &version["schema"]["openAPIV3Schema"];
        let mut seen = Vec::new();
        for (at, field) in version["selectableFields"].as_array().into_iter().flatten().enumerate() {
            let text = field["jsonPath"].as_str().unwrap_or_default();
            let path = format!("{base}.selectableFields[{at}].jsonPath");
            if text.is_empty() {
                self.causes.push(Cause::required(path, ""));
                continue;
            }
            let mut wrong =
                |detail: &str| self.causes.push(Cause::invalid(path.clone(), &text.into(), detail));
            let mut parts = text.trim_start_matches('.').split('.');
            let found = parts.clone().try_fold(schema, |schema, part| schema["properties"].get(part));
            let Some(found) = found.filter(|_| text.starts_with('.')) else {
                wrong("is an invalid path: does not refer to a valid field");
                continue;
            };
            if parts.next() == Some("metadata") {
                wrong("must not point to fields in metadata");
            }
            if !["string", "boolean", "integer"].contains(&found["type"].as_str().unwrap_or_default()) {
                wrong(
                    "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
                );
            }
            if seen.contains(&text) {
                self.causes.push(Cause::duplicate(path, &text.into()));
            } else {
                seen.push(text);
            }
        }
        let name = &version["name"];
        let mut stored = self.old.into_iter().flat_map(|old| old["spec"]["versions"].as_array()).flatten();
        let unchanged =
            stored.any(|old| old["name"] == *name && old["selectableFields"] == version["selectableFields"]);
        if seen.len() > SELECTABLE_MAX && !unchanged {
            let field = format!("{base}.selectableFields");
            self.causes.push(Cause::too_many(field, seen.len(), SELECTABLE_MAX));
        }
    }
}

/// With a subresource `status` its schema is taken out of the whole: nothing at the root may then be about both.
fn allowed_beside_status(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let allowed = [
        ("Description", "description"),
        ("Type", "type"),
        ("Format", "format"),
        ("Title", "title"),
        ("Maximum", "maximum"),
        ("ExclusiveMaximum", "exclusiveMaximum"),
        ("Minimum", "minimum"),
        ("ExclusiveMinimum", "exclusiveMinimum"),
        ("MaxLength", "maxLength"),
        ("MinLength", "minLength"),
        ("Pattern", "pattern"),
        ("MaxItems", "maxItems"),
        ("MinItems", "minItems"),
        ("UniqueItems", "uniqueItems"),
        ("MultipleOf", "multipleOf"),
        ("Required", "required"),
        ("Items", "items"),
        ("Properties", "properties"),
        ("ExternalDocs", "externalDocs"),
        ("Example", "example"),
        ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
        ("XValidations", "x-kubernetes-validations"),
    ];
    let ty = schema["type"].as_str().unwrap_or_default();
    if !ty.is_empty() && ty != "object" {
        let text = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        causes.push(Cause::invalid(format!("{path}.type"), &ty.into(), text));
    }
    let mut fields = schema.as_object().into_iter().flatten();
    let other = fields.any(|(name, value)| {
        let empty = match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        !empty && !allowed.iter().any(|(_, known)| known == name)
    });
    if other {
        let names = allowed.map(|(name, _)| name).join(" ");
        let text = format!(
            "only [{names}] fields are allowed at the root of the schema if the status subresource is enabled"
        );
        causes.push(Cause::invalid(path, schema, &text));
    }
}

/// Whether a version of `crd` has this schema.
fn has_schema(crd: &Value, version: &Value, schema: &Value) -> bool {
    let mut versions = crd["spec"]["versions"].as_array().into_iter().flatten();
    versions.any(|known| known["name"] == *version && known["schema"]["openAPIV3Schema"] == *schema)
}

fn check_scale(version: &Value, base: &str, causes: &mut Vec<Cause>) {
    let scale = &version["subresources"]["scale"];
    if !scale.is_object() {
        return;
    }
    for (field, under, needed, text) in [
        ("specReplicasPath", &[".spec."][..], true, "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], true, "should be a json path under .status"),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            false,
            "should be a json path under either .spec or .status",
        ),
    ] {
        let path = format!("{base}.{field}");
        let given = scale[field].as_str().unwrap_or_default();
        if given.is_empty() {
            if needed {
                causes.push(Cause::required(path, ""));
            }
        } else if !given.starts_with('.') {
            let text = "must be a simple json path starting with .";
            causes.push(Cause::invalid(path, &given.into(), text));
        } else if !under.iter().any(|start| given.starts_with(start)) {
            causes.push(Cause::invalid(path, &given.into(), text));
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
    check_names(&crd["status"]["acceptedNames"], "status.acceptedNames", causes);
    stored_versions(crd, causes);
}

fn stored_versions(crd: &Value, causes: &mut Vec<Cause>) {
    let stored = &crd["status"]["storedVersions"];
    let versions = crd["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (at, stored) in stored.as_array().into_iter().flatten().enumerate() {
        if !versions.iter().any(|version| version["name"] == *stored) {
            let version = stored.as_str().unwrap_or_default();
            causes.push(Cause::invalid(format!("status.storedVersions[{at}]"), stored, &format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
            )));
        }
    }
}

/// Checks a change through the subresource `status`.
pub(crate) fn validate_status(crd: &Value, causes: &mut Vec<Cause>) {
    check_names(&crd["status"]["acceptedNames"], "status.acceptedNames", causes);
}

fn immutable(old: &Value, new: &Value, field: &str, pointer: &str, causes: &mut Vec<Cause>) {
    let (before, after) = (old.pointer(pointer), new.pointer(pointer));
    if before != after {
        causes.push(Cause::invalid(field, after.unwrap_or(&Value::Null), "field is immutable"));
    }
}
