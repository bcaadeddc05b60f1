//! CEL rules of a definition (`x-kubernetes-validations`), checked when it is written: form, types, whether `oldSelf` can be
//! found, and what they may cost. And the rules of a served version, run on its objects.
//!
//! Leaves out rules inside `allOf` and such, which `check` refuses.

use std::collections::HashSet;

use dodai_cel::rules::{Limits, Problem, Reason, Rule, Validator, compile_rules, field_path};
use serde_json::{Value, json};

use crate::status::{Cause, quote, show};

/// What one rule may cost by estimate.
const RULE_COST_MAX: u64 = 10_000_000;
/// What all rules of a version may cost by estimate.
const VERSION_COST_MAX: u64 = 100_000_000;
/// Rules named when a version is too expensive.
const EXPENSIVE_MAX: usize = 4;
/// New rules may use what the version of Kubernetes before this one knows, so that a server can be taken back.
const NEW_RULES_MINOR: u32 = 35;
/// Rules that are stored already may use everything.
const STORED_RULES_MINOR: u32 = 36;

const RULES: &str = "x-kubernetes-validations";

/// The rules of a served version.
pub(crate) fn validator(schema: &Value) -> Option<Validator> {
    Validator::new(schema, true, STORED_RULES_MINOR)
}

/// Runs the rules on an object that its schema has checked. Parts that are as they were are tolerated.
pub(crate) fn run(rules: &Validator, object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let blocked = [
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    ];
    if causes.iter().any(|cause| blocked.contains(&cause.reason)) {
        let text = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        causes.push(Cause::invalid("<nil>", &Value::Null, text));
        return;
    }
    let report = rules.validate("", object, old, Limits::default(), old.is_some());
    causes.extend(report.problems.into_iter().map(cause));
}

/// Runs the rules of a schema on its own default, as on one that stays and on one that is new.
pub(super) fn run_on_default(schema: &Value, default: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(rules) = Validator::new(schema, false, STORED_RULES_MINOR) else { return };
    let mut report = rules.validate(path, default, Some(default), Limits::default(), false);
    if report.problems.is_empty() {
        report = rules.validate(path, default, None, Limits::default(), false);
    }
    causes.extend(report.problems.into_iter().map(cause));
}

fn cause(problem: Problem) -> Cause {
    let Problem { field, reason, detail, value } = problem;
    let field = if field.is_empty() { "<nil>".to_owned() } else { field };
    match (reason, value) {
        (Reason::Invalid, Some(shown)) => Cause::invalid_text(field, &shown, &detail),
        (Reason::Invalid, None) => {
            Cause { reason: "FieldValueInvalid", field, message: format!("Invalid value: {detail}") }
        }
        (Reason::Forbidden, _) => Cause::forbidden(field, &detail),
        (Reason::Required, _) => Cause::required(field, &detail),
        (Reason::Duplicate, shown) => Cause {
            reason: "FieldValueDuplicate",
            field,
            message: shown.map_or("Duplicate value".into(), |shown| format!("Duplicate value: {shown}")),
        },
    }
}

/// What the state before an update already had.
#[derive(Default)]
pub(super) struct Known<'a> {
    rules: HashSet<&'a str>,
    messages: HashSet<&'a str>,
}

impl<'a> Known<'a> {
    /// All expressions of a definition.
    pub(super) fn of(crd: &'a Value) -> Known<'a> {
        let mut known = Known::default();
        for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
            known.collect(&version["schema"]["openAPIV3Schema"]);
        }
        known
    }

    fn collect(&mut self, value: &'a Value) {
        match value {
            Value::Object(map) => {
                for rule in map.get(RULES).and_then(Value::as_array).into_iter().flatten() {
                    self.rules.extend(rule["rule"].as_str());
                    self.messages.extend(rule["messageExpression"].as_str());
                }
                map.values().for_each(|inner| self.collect(inner));
            }
            Value::Array(items) => items.iter().for_each(|inner| self.collect(inner)),
            _ => {}
        }
    }

    fn has(&self, rule: &Value) -> bool {
        let message = rule["messageExpression"].as_str();
        rule["rule"].as_str().is_some_and(|text| self.rules.contains(text))
            && message.is_none_or(|text| text.is_empty() || self.messages.contains(text))
    }
}

/// Checks the rules of one version's schema. `compile` is false where the schema has other mistakes: types cannot be trusted
/// then. `unchanged`: the schema is the stored one, whose single rules may cost what they cost.
pub(super) fn check(
    schema: &Value,
    path: &str,
    known: &Known<'_>,
    (compile, unchanged): (bool, bool),
    causes: &mut Vec<Cause>,
) {
    let n_before = causes.len();
    forms(schema, path, causes);
    if !compile || causes.len() > n_before {
        return;
    }
    let mut walk = Walk { causes, known, unchanged, total: 0, expensive: Vec::new() };
    walk.schema(schema, path, Place { is_resource: true, apart: None, cardinality: Some(1) });
    let Walk { total, expensive, .. } = walk;
    if total > VERSION_COST_MAX {
        for (path, _) in expensive {
            let text =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            causes.push(Cause::forbidden(path, text));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        causes.push(Cause::forbidden(path, &too_expensive(what, total, VERSION_COST_MAX)));
    }
}

/// The parts of a schema below which rules may stand, with their paths.
fn below<'a>(schema: &'a Value, path: &str) -> Vec<(&'a Value, String, Step)> {
    let mut found = Vec::new();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        found.push((inner, format!("{path}.properties[{name}]"), Step::Property));
    }
    for (name, step) in [("items", Step::Item), ("additionalProperties", Step::Value)] {
        if schema[name].is_object() {
            found.push((&schema[name], format!("{path}.{name}"), step));
        }
    }
    found
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    Property,
    Item,
    Value,
}

fn forms(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (at, rule) in schema[RULES].as_array().into_iter().flatten().enumerate() {
        form(rule, schema, &format!("{path}.{RULES}[{at}]"), causes);
    }
    for (inner, path, _) in below(schema, path) {
        forms(inner, &path, causes);
    }
}

/// What can be said of a rule without compiling it.
fn form(rule: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let text = |name: &str| rule[name].as_str().unwrap_or_default();
    let broken = |text: &str| text.contains(['\n', '\r']);
    let message = text("message");
    if text("rule").trim().is_empty() {
        causes.push(Cause::required(format!("{path}.rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        let detail = "must be non-empty if specified";
        causes.push(Cause::invalid(format!("{path}.message"), &message.into(), detail));
    } else if broken(message.trim()) {
        causes.push(Cause::invalid(
            format!("{path}.message"),
            &message.into(),
            "must not contain line breaks",
        ));
    } else if broken(text("rule").trim()) && message.trim().is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        causes.push(Cause::required(format!("{path}.message"), detail));
    }
    let expression = text("messageExpression");
    if !expression.is_empty() && expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        causes.push(Cause::required(format!("{path}.messageExpression"), detail));
    }
    let reasons = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    if rule["reason"].as_str().is_some_and(|reason| !reasons.contains(&reason)) {
        causes.push(Cause::not_supported(format!("{path}.reason"), &rule["reason"], &reasons));
    }
    let field = text("fieldPath");
    let mut wrong = |detail: &str| {
        causes.push(Cause::invalid(format!("{path}.fieldPath"), &field.into(), detail));
    };
    if !field.is_empty() && field.trim().is_empty() {
        wrong("must be non-empty if specified");
    }
    if broken(field) {
        wrong("must not contain line breaks");
    }
    if !field.is_empty() && field_path(field, schema).is_err() {
        wrong("must be a valid path");
    }
}

/// Where in the schema the walk is.
struct Place {
    is_resource: bool,
    /// The outermost part around it whose elements cannot be told apart, so that there is no `oldSelf`.
    apart: Option<String>,
    /// How often the place can occur, by the limits around it; `None`: unlimited.
    cardinality: Option<u64>,
}

struct Walk<'a, 'k> {
    causes: &'a mut Vec<Cause>,
    known: &'a Known<'k>,
    unchanged: bool,
    total: u64,
    expensive: Vec<(String, u64)>,
}

impl Walk<'_, '_> {
    fn schema(&mut self, schema: &Value, path: &str, place: Place) {
        for (inner, path_of_inner, step) in below(schema, path) {
            let apart = match step {
                Step::Property => schema["x-kubernetes-map-type"] == "atomic",
                Step::Item => schema["x-kubernetes-list-type"] != "map",
                Step::Value => false,
            };
            let factor = match schema["type"].as_str().unwrap_or_default() {
                "object" if schema["additionalProperties"].is_null() => Some(1),
                "object" => limit(&schema["maxProperties"]),
                "array" => limit(&schema["maxItems"]),
                _ => Some(1),
            };
            let place = Place {
                is_resource: inner["x-kubernetes-embedded-resource"] == true,
                apart: place.apart.clone().or_else(|| apart.then(|| path.to_owned())),
                cardinality: place.cardinality.zip(factor).map(|(one, two)| one.saturating_mul(two)),
            };
            self.schema(inner, &path_of_inner, place);
        }
        let Some(rules) = schema[RULES].as_array().filter(|rules| !rules.is_empty()) else { return };
        let stored = rules.iter().all(|rule| self.known.has(rule));
        let minor = if stored { STORED_RULES_MINOR } else { NEW_RULES_MINOR };
        for (at, (source, rule)) in
            rules.iter().zip(compile_rules(schema, place.is_resource, minor)).enumerate()
        {
            self.rule(source, &rule, &format!("{path}.{RULES}[{at}]"), &place);
        }
    }

    fn rule(&mut self, source: &Value, rule: &Rule, path: &str, place: &Place) {
        let at = |name: &str| format!("{path}.{name}");
        let times = place.cardinality.unwrap_or(rule.cardinality_max);
        self.cost("estimated rule cost", rule.cost_estimate_max.saturating_mul(times), at("rule"));
        match &rule.program {
            Err(error) => {
                self.causes.push(Cause::invalid_text(at("rule"), &shown(source), &error.to_string()))
            }
            Ok(None) => self.causes.push(Cause::required(at("rule"), "")),
            Ok(Some(_)) => {}
        }
        match &rule.message_program {
            Err(error) => {
                let text = error.to_string();
                self.causes.push(Cause::invalid_text(at("messageExpression"), &shown(source), &text));
            }
            Ok(Some(_)) => {
                let what = "estimated messageExpression cost";
                self.cost(what, rule.message_cost_estimate_max, at("messageExpression"));
            }
            Ok(None) => {}
        }
        if rule.uses_old_self {
            if let Some(apart) = &place.apart {
                let text = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {apart}"
                );
                self.causes.push(Cause::invalid(at("rule"), &source["rule"], &text));
            }
        } else if !source["optionalOldSelf"].is_null() {
            let text = "may not be set if oldSelf is not used in rule";
            self.causes.push(Cause::invalid(at("optionalOldSelf"), &source["optionalOldSelf"], text));
        }
    }

    fn cost(&mut self, what: &str, cost: u64, path: String) {
        if cost > RULE_COST_MAX && !self.unchanged {
            self.causes.push(Cause::forbidden(path.clone(), &too_expensive(what, cost, RULE_COST_MAX)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= VERSION_COST_MAX / 100 {
            self.expensive.push((path, cost));
            self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.expensive.truncate(EXPENSIVE_MAX);
        }
    }
}

fn limit(value: &Value) -> Option<u64> {
    value.as_i64().map(|limit| u64::try_from(limit).unwrap_or(0))
}

fn too_expensive(what: &str, cost: u64, max: u64) -> String {
    let factor = cost as f64 / max as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as upstream shows it: all its members, in the order of its type.
fn shown(rule: &Value) -> String {
    let text = |name: &str| quote(rule[name].as_str().unwrap_or_default());
    let optional = |name: &str| show(&rule.get(name).cloned().unwrap_or(json!(null)));
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        optional("reason"),
        text("fieldPath"),
        optional("optionalOldSelf"),
    )
}
