//! Running the rules of a schema on an object, and on its old state.

use std::fmt;

use serde_json::Value as Json;

use super::{Node, Rule, Validator};
use crate::environment::Bindings;
use crate::error::EvalError;
use crate::escape::escape;
use crate::program::{CALL_COST_MAX, Program};
use crate::value::{Key, Value};

/// Longest message an expression may give, in bytes.
const MESSAGE_SIZE_MAX: usize = 5 * 1024;

/// Bounds of a run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For one rule.
    pub call: u64,
    /// For all rules of the object.
    pub budget: i64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { call: CALL_COST_MAX, budget: super::OBJECT_COST_MAX }
    }
}

/// `reason` of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Invalid,
    Forbidden,
    Required,
    Duplicate,
}

impl Reason {
    pub(crate) fn read(text: &str) -> Reason {
        match text {
            "FieldValueForbidden" => Reason::Forbidden,
            "FieldValueRequired" => Reason::Required,
            "FieldValueDuplicate" => Reason::Duplicate,
            _ => Reason::Invalid,
        }
    }

    /// The word of the API: `FieldValueInvalid` ...
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Invalid => "FieldValueInvalid",
            Reason::Forbidden => "FieldValueForbidden",
            Reason::Required => "FieldValueRequired",
            Reason::Duplicate => "FieldValueDuplicate",
        }
    }
}

/// A rule that is not kept, or could not be checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub field: String,
    pub reason: Reason,
    /// Empty for duplicates.
    pub detail: String,
    /// What errors show of the value: its JSON, or for compile and evaluation errors the kind (`object`);
    /// `None` for objects and lists, which are not shown.
    pub value: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { field, reason, detail, value } = self;
        let value = value.as_ref().map(|value| format!("{value}: ")).unwrap_or_default();
        match reason {
            Reason::Invalid => write!(out, "{field}: Invalid value: {value}{detail}"),
            Reason::Forbidden => write!(out, "{field}: Forbidden: {detail}"),
            Reason::Required => write!(out, "{field}: Required value: {detail}"),
            Reason::Duplicate => match &self.value {
                Some(value) => write!(out, "{field}: Duplicate value: {value}"),
                None => write!(out, "{field}: Duplicate value"),
            },
        }
    }
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub problems: Vec<Problem>,
    /// Problems of parts that are as they were: tolerated with ratcheting.
    pub warnings: Vec<Problem>,
    /// What is left of the budget; negative if it was used up.
    pub remaining: i64,
}

impl Validator {
    /// Runs the rules on `object`, whose path is `path`. With `ratcheting`, parts equal to those of `old`
    /// give warnings.
    pub fn validate(
        &self,
        path: &str,
        object: &Json,
        old: Option<&Json>,
        limits: Limits,
        ratcheting: bool,
    ) -> Report {
        let report = Report { remaining: limits.budget, ..Report::default() };
        let mut run = Run { limits, report, ratcheting };
        let value = self.root.schema.value(object);
        let old_value = old.map(|old| self.root.schema.value(old));
        let part = Part { json: object, value, old, old_value, unchanged: false, at_root: true };
        run.node(&self.root, path, part);
        run.report
    }
}

#[derive(Clone)]
/// A part of the object with its old state, if it can be found.
struct Part<'a> {
    json: &'a Json,
    value: Value,
    old: Option<&'a Json>,
    old_value: Option<Value>,
    /// Something around it is as it was.
    unchanged: bool,
    at_root: bool,
}

struct Run {
    limits: Limits,
    report: Report,
    ratcheting: bool,
}

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

impl Run {
    fn node(&mut self, node: &Node, path: &str, mut part: Part<'_>) {
        if part.json.is_null() {
            return;
        }
        if part.old.is_some_and(Json::is_null) {
            (part.old, part.old_value) = (None, None);
        }
        part.unchanged |= part.old == Some(part.json);
        self.rules(node, path, &part);
        if self.report.remaining < 0 {
            return;
        }
        match part.json {
            Json::Array(items) => self.array(node, path, items, &part),
            Json::Object(fields) => self.object(node, path, fields, &part),
            _ => {}
        }
        for node in &node.all_of {
            if self.report.remaining < 0 {
                return;
            }
            self.node(node, path, part.clone());
        }
    }

    fn array(&mut self, node: &Node, path: &str, items: &[Json], part: &Part<'_>) {
        let Some(below) = &node.items else { return };
        let olds = part.old.and_then(Json::as_array);
        for (index, item) in items.iter().enumerate() {
            let keys = &node.schema.list_keys;
            let same = |old: &Json| keys.iter().all(|key| old[key] == item[key]);
            let is_map = node.schema.list_type == "map";
            let old_index = olds.filter(|_| is_map).and_then(|olds| olds.iter().position(same));
            let child = |parent: &Value, index: usize| match parent {
                Value::List(list) => list.items.get(index).cloned(),
                _ => None,
            };
            let old = old_index.zip(olds).map(|(index, olds)| &olds[index]);
            let old_child = old_index.zip(part.old_value.as_ref());
            let own = Part {
                json: item,
                value: child(&part.value, index).unwrap_or_else(|| below.schema.value(item)),
                old,
                old_value: old_child
                    .and_then(|(index, parent)| child(parent, index))
                    .or_else(|| old.map(|old| below.schema.value(old))),
                unchanged: part.unchanged
                    || node.schema.list_type == "set" && olds.is_some_and(|olds| olds.contains(item)),
                at_root: false,
            };
            self.node(below, &format!("{path}[{index}]"), own);
            if self.report.remaining < 0 {
                return;
            }
        }
    }

    fn object(&mut self, node: &Node, path: &str, fields: &serde_json::Map<String, Json>, part: &Part<'_>) {
        for (name, json) in fields {
            let (below, path, key) = match (&node.additional, node.properties.get(name)) {
                (Some(below), _) => (&**below, format!("{path}[{name}]"), Some(name.clone())),
                (None, Some(below)) => (below, join(path, name), escape(name)),
                _ => continue,
            };
            let child = |parent: &Value| match (parent, &key) {
                (Value::Map(map), Some(key)) => map.entries.get(&Key::String(key.as_str().into())).cloned(),
                _ => None,
            };
            let old = if node.atomic_map { None } else { part.old.and_then(|old| old.get(name)) };
            let type_meta = part.at_root && matches!(name.as_str(), "apiVersion" | "kind");
            let own = Part {
                json,
                value: child(&part.value).unwrap_or_else(|| below.schema.value(json)),
                old,
                old_value: old.map(|old| {
                    part.old_value.as_ref().and_then(child).unwrap_or_else(|| below.schema.value(old))
                }),
                unchanged: part.unchanged && !type_meta,
                at_root: false,
            };
            if type_meta {
                self.ratcheting_off(below, &path, own);
            } else {
                self.node(below, &path, own);
            }
            if self.report.remaining < 0 {
                return;
            }
        }
    }

    /// `apiVersion` and `kind` of the object itself are never tolerated.
    fn ratcheting_off(&mut self, node: &Node, path: &str, part: Part<'_>) {
        let before = std::mem::replace(&mut self.ratcheting, false);
        self.node(node, path, part);
        self.ratcheting = before;
    }

    fn rules(&mut self, node: &Node, path: &str, part: &Part<'_>) {
        if node.rules.is_empty() {
            return;
        }
        if self.report.remaining <= 0 {
            return self.stop(node, path, OUT_OF_BUDGET.to_owned());
        }
        let plain = Bindings::new().with("self", part.value.clone());
        let plain = match &part.old_value {
            Some(old) => plain.with("oldSelf", old.clone()),
            None => plain,
        };
        let old = part.old_value.clone().map_or(Value::Optional(None), Value::some);
        let optional = Bindings::new().with("self", part.value.clone()).with("oldSelf", old);
        for rule in &node.rules {
            let program = match &rule.program {
                Ok(Some(program)) => program,
                Ok(None) => continue,
                Err(error) => {
                    self.problem(node, path, format!("rule compile error: {error}"));
                    continue;
                }
            };
            if rule.uses_old_self && !rule.optional_old_self && part.old.is_none() {
                continue;
            }
            let bindings = if rule.optional_old_self { &optional } else { &plain };
            self.rule(node, path, part, rule, (program, bindings));
            if self.report.remaining < 0 {
                return;
            }
        }
    }

    fn rule(
        &mut self,
        node: &Node,
        path: &str,
        part: &Part<'_>,
        rule: &Rule,
        (program, bindings): (&Program, &Bindings),
    ) {
        let outcome = program.run(bindings, self.limits.call);
        let cost = i64::try_from(outcome.cost).unwrap_or(i64::MAX);
        if cost > self.report.remaining {
            return self.stop(node, path, OUT_OF_BUDGET.to_owned());
        }
        self.report.remaining -= cost;
        match outcome.result {
            Ok(Value::Bool(true)) => {}
            Ok(_) => self.broken(node, path, part, rule, bindings),
            Err(EvalError::CostLimit) => {
                let text = format!(
                    "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                    EvalError::CostLimit,
                    rule.shown()
                );
                self.stop(node, path, text);
            }
            Err(error) if error.to_string().starts_with("no such overload") => {
                let text = format!(
                    "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                    rule.shown()
                );
                self.problem(node, path, text);
            }
            Err(error) => self.problem(node, path, format!("{error} evaluating rule: {}", rule.shown())),
        }
    }

    /// The rule is not kept.
    fn broken(&mut self, node: &Node, path: &str, part: &Part<'_>, rule: &Rule, bindings: &Bindings) {
        let mut detail = match rule.message.trim() {
            "" => format!("failed rule: {}", rule.source.trim()),
            message => message.to_owned(),
        };
        if let Ok(Some(program)) = &rule.message_program {
            match self.message(rule, program, bindings) {
                Ok(Some(message)) => detail = message,
                Ok(None) => {}
                Err(text) => return self.stop(node, path, text),
            }
        }
        let field = match rule.field_path.as_deref() {
            Ok("") | Err(_) => path.to_owned(),
            Ok(below) if below.starts_with('[') => format!("{path}{below}"),
            Ok(below) => join(path, below),
        };
        let shown = !matches!(part.json, Json::Object(_) | Json::Array(_));
        let detail = if rule.reason == Reason::Duplicate { String::new() } else { detail };
        let value = shown.then(|| show(part.json));
        let problem = Problem { field, reason: rule.reason, detail, value };
        let same = self.ratcheting && !rule.uses_old_self && part.unchanged;
        if same {
            self.report.warnings.push(problem);
        } else {
            self.report.problems.push(problem);
        }
    }

    /// The message the rule's expression gives; `Err` if nothing more can be run.
    fn message(
        &mut self,
        rule: &Rule,
        program: &Program,
        bindings: &Bindings,
    ) -> Result<Option<String>, String> {
        let outcome = program.run(bindings, self.limits.call);
        let cost = i64::try_from(outcome.cost).unwrap_or(i64::MAX);
        if cost > self.report.remaining {
            return Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".to_owned());
        }
        let text = match outcome.result {
            Ok(Value::String(text)) => text,
            Err(EvalError::CostLimit) => {
                let source = crate::library::strings::quote(&rule.message_source);
                return Err(format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {source}"
                ));
            }
            _ => {
                self.report.remaining -= cost;
                return Ok(None);
            }
        };
        self.report.remaining -= cost;
        let text = text.trim();
        let usable = !text.is_empty() && text.len() <= MESSAGE_SIZE_MAX && !text.contains(['\n', '\r']);
        Ok(usable.then(|| text.to_owned()))
    }

    fn problem(&mut self, node: &Node, path: &str, detail: String) {
        let value = Some(format!("\"{}\"", node.kind));
        self.report.problems.push(Problem { field: path.to_owned(), reason: Reason::Invalid, detail, value });
    }

    fn stop(&mut self, node: &Node, path: &str, detail: String) {
        self.problem(node, path, detail);
        self.report.remaining = -1;
    }
}

/// The root of an object may have no path of its own.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// JSON as Go prints it: whole numbers without a point.
fn show(json: &Json) -> String {
    match json.as_f64() {
        Some(number) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number}"),
        _ => json.to_string(),
    }
}
