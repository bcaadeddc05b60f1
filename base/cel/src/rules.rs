//! The rules of a structural schema (`x-kubernetes-validations`): compiled once, run on objects.
//!
//! Values of the object are made once and shared by all rules. The caller validates the object against the
//! schema first; rules that meet a part that does not fit fail by themselves.

mod path;
mod run;
mod size;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::environment::Environment;
use crate::error::{Errors, EvalError};
use crate::escape::escape;
use crate::program::{Program, compile, estimate};
use crate::schema::Schema;
use crate::types::Type;

pub use path::{FieldPathError, field_path};
pub use run::{Limits, Problem, Reason, Report};

/// What all rules of one object may cost (Kubernetes' `RuntimeCELCostBudget`).
pub const OBJECT_COST_MAX: i64 = 10_000_000;

/// Why a rule is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("compilation failed: {0}")]
    Rule(Errors),
    #[error("program instantiation failed: {0}")]
    Constant(EvalError),
    #[error("cel expression must evaluate to a bool")]
    NotBool,
    #[error("messageExpression compilation failed: {0}")]
    Message(Errors),
    #[error("messageExpression must evaluate to a string")]
    NotString,
    #[error("invalid fieldPath: {0}")]
    FieldPath(FieldPathError),
}

/// One entry of `x-kubernetes-validations`.
#[derive(Debug)]
pub struct Rule {
    /// `None` with `Ok` if the rule is empty.
    pub program: Result<Option<Program>, RuleError>,
    pub message_program: Result<Option<Program>, RuleError>,
    /// The most one evaluation may cost by the limits of the schema; 0 if the rule is not usable.
    pub cost_estimate_max: u64,
    /// The same for the message.
    pub message_cost_estimate_max: u64,
    /// How many values of this place fit into a request.
    pub cardinality_max: u64,
    /// Whether the rule compares with the old value.
    pub uses_old_self: bool,
    /// The normalised `fieldPath`; empty if there is none.
    pub field_path: Result<String, RuleError>,
    source: String,
    message: String,
    message_source: String,
    reason: Reason,
    optional_old_self: bool,
}

impl Rule {
    /// The text errors name the rule by.
    fn shown(&self) -> &str {
        if self.message.trim().is_empty() { self.source.trim() } else { self.message.trim() }
    }
}

/// Compiles the rules at the top of `schema` (not those inside it) for Kubernetes `1.<minor>`.
pub fn compile_rules(schema: &Json, is_resource: bool, minor: u32) -> Vec<Rule> {
    let declared = Schema::new(schema).declared(SELF_TYPE, is_resource);
    compile_with(schema, declared.as_ref(), minor)
}

/// The name of the type of `self`; types inside it are named from it on.
const SELF_TYPE: &str = "selfType";

fn compile_with(schema: &Json, declared: Option<&Type>, minor: u32) -> Vec<Rule> {
    let Some(rules) = schema["x-kubernetes-validations"].as_array() else { return Vec::new() };
    let Some(declared) = declared else { return Vec::new() };
    let environment = |old: Type| Environment::new(minor).with("self", declared.clone()).with("oldSelf", old);
    let plain = environment(declared.clone());
    let optional = environment(Type::optional(declared.clone()));
    let one = |rule: &Json| {
        let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
        let optional_old_self = rule["optionalOldSelf"].as_bool().unwrap_or(false);
        let environment = if optional_old_self { &optional } else { &plain };
        let (source, message_source) = (text("rule"), text("messageExpression"));
        let program = compile_rule(&source, environment);
        let field_path = match text("fieldPath").as_str() {
            "" => Ok(String::new()),
            path => field_path(path, schema).map_err(RuleError::FieldPath),
        };
        let usable = matches!(&program, Ok(Some(_)));
        let estimated = if usable {
            estimate(&source, environment, &|path| size::size_at(schema, path)).map_or(0, |cost| cost.max)
        } else {
            0
        };
        let message_program = match &program {
            Ok(Some(_)) => compile_message(&message_source, environment),
            _ => Ok(None),
        };
        let message_estimated = match &message_program {
            Ok(Some(_)) => estimate(&message_source, environment, &|path| size::size_at(schema, path)),
            _ => None,
        };
        Rule {
            cost_estimate_max: estimated,
            message_cost_estimate_max: message_estimated.map_or(0, |cost| cost.max),
            cardinality_max: if usable { size::REQUEST_SIZE_MAX / (size::min_size(schema) + 1) } else { 0 },
            uses_old_self: matches!(&program, Ok(Some(program)) if program.uses("oldSelf")),
            message_program,
            program,
            field_path,
            source,
            message: text("message"),
            message_source,
            reason: Reason::read(&text("reason")),
            optional_old_self,
        }
    };
    rules.iter().map(one).collect()
}

fn compile_rule(source: &str, environment: &Environment) -> Result<Option<Program>, RuleError> {
    if source.trim().is_empty() {
        return Ok(None);
    }
    let program = compile(source, environment).map_err(RuleError::Rule)?;
    match (program.result_type(), program.constant_failure()) {
        (Type::Bool, Some(error)) => Err(RuleError::Constant(error.clone())),
        (Type::Bool, None) => Ok(Some(program)),
        _ => Err(RuleError::NotBool),
    }
}

fn compile_message(source: &str, environment: &Environment) -> Result<Option<Program>, RuleError> {
    if source.trim().is_empty() {
        return Ok(None);
    }
    let program = compile(source, environment).map_err(RuleError::Message)?;
    match program.result_type() {
        Type::String => Ok(Some(program)),
        _ => Err(RuleError::NotString),
    }
}

/// All rules of a schema.
#[derive(Debug)]
pub struct Validator {
    root: Node,
}

/// The rules of one place of the schema and of what is below it.
#[derive(Debug)]
struct Node {
    schema: Arc<Schema>,
    kind: String,
    atomic_map: bool,
    rules: Vec<Rule>,
    items: Option<Box<Node>>,
    additional: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
    all_of: Vec<Node>,
}

impl Validator {
    /// Compiles all rules of `schema`; `None` if there are none. `is_resource` is true for the schema of a
    /// whole object, whose `apiVersion`, `kind` and name are visible even if not declared.
    /// Rules inside `allOf` count only if there are others too, as in upstream's server.
    pub fn new(schema: &Json, is_resource: bool, minor: u32) -> Option<Validator> {
        if has_rules(schema) { Validator::with_all_of(schema, is_resource, minor) } else { None }
    }

    /// As `new`, but rules inside `allOf` are enough.
    pub fn with_all_of(schema: &Json, is_resource: bool, minor: u32) -> Option<Validator> {
        let declared = Schema::new(schema).declared(SELF_TYPE, is_resource);
        let root = Node::new(schema, schema, is_resource, declared.as_ref(), minor)?;
        Some(Validator { root })
    }

    /// Calls `visit` for each rule, with the path of its place in the schema (`spec.list.items`).
    pub fn rules<'v>(&'v self, visit: &mut dyn FnMut(&str, &'v Rule)) {
        self.root.visit("", visit);
    }
}

fn has_rules(schema: &Json) -> bool {
    if !schema.is_object() {
        return false;
    }
    let own = schema["x-kubernetes-validations"].as_array().is_some_and(|rules| !rules.is_empty());
    let below = ["items", "additionalProperties"].iter().any(|name| has_rules(&schema[*name]));
    own || below || schema["properties"].as_object().is_some_and(|fields| fields.values().any(has_rules))
}

impl Node {
    /// `rules` is where rules are read from: `schema` itself, or a part of its `allOf`.
    fn new(
        rules: &Json,
        schema: &Json,
        is_resource: bool,
        declared: Option<&Type>,
        minor: u32,
    ) -> Option<Node> {
        let own_rules = compile_with(rules, declared, minor);
        let plain = Schema::new(schema);
        let embedded = |schema: &Json| schema["x-kubernetes-embedded-resource"].as_bool().unwrap_or(false);
        let below = |rules: &Json, schema: &Json, declared: Option<&Type>| {
            schema.as_object()?;
            rules.as_object()?;
            let own = declared.cloned().or_else(|| Schema::new(schema).declared(SELF_TYPE, embedded(schema)));
            Node::new(rules, schema, embedded(schema), own.as_ref(), minor)
        };
        let element = match declared {
            Some(Type::List(element)) => Some(&**element),
            Some(Type::Map(_, value)) => Some(&**value),
            _ => None,
        };
        let items = below(&rules["items"], &schema["items"], element).map(Box::new);
        let name = "additionalProperties";
        let additional = below(&rules[name], &schema[name], element).map(Box::new);
        let mut properties = BTreeMap::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let field = match (escape(name), declared) {
                (Some(field), Some(Type::Object(object))) => object.fields.get(field.as_str()),
                _ => None,
            };
            if let Some(node) = below(&rules["properties"][name], property, field) {
                properties.insert(name.clone(), node);
            }
        }
        let all_of = rules["allOf"].as_array().into_iter().flatten();
        let all_of: Vec<Node> =
            all_of.filter_map(|rules| Node::new(rules, schema, is_resource, declared, minor)).collect();
        if own_rules.is_empty()
            && all_of.is_empty()
            && items.is_none()
            && additional.is_none()
            && properties.is_empty()
        {
            return None;
        }
        let kind = plain.kind.clone();
        let schema_of_values = if is_resource { plain.as_resource() } else { plain };
        Some(Node {
            schema: Arc::new(schema_of_values),
            kind,
            atomic_map: schema["x-kubernetes-map-type"].as_str() == Some("atomic"),
            rules: own_rules,
            items,
            additional,
            properties,
            all_of,
        })
    }

    fn visit<'v>(&'v self, path: &str, visit: &mut dyn FnMut(&str, &'v Rule)) {
        self.rules.iter().for_each(|rule| visit(path, rule));
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        if let Some(items) = &self.items {
            items.visit(&below("items"), visit);
        }
        if let Some(additional) = &self.additional {
            additional.visit(&below("additionalProperties"), visit);
        }
        self.all_of.iter().for_each(|node| node.visit(path, visit));
        for (name, node) in &self.properties {
            node.visit(&below(name), visit);
        }
    }
}
