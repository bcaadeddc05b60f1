//! ValidatingAdmissionPolicy: which policies there are (compiled once, and again when they change), and what they say of a
//! request.
//!
//! Leaves out audit: there is no audit log, so audit annotations are worked out and their failures count, but their values
//! go nowhere.

pub(crate) mod check;
pub(crate) mod mutate;
pub(crate) mod params;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dodai_cel::{Type, Value as Cel};
use serde_json::Value;

use super::attributes::Attributes;
use super::expression::{
    BUDGET, Conditions, Expression, Input, Run, STORED_MINOR, Sees, Variables, environment,
};
use super::matching::Criteria;
use crate::crd::text;
use crate::kinds::Kind;
use crate::status::{ApiError, Cause};
use crate::store::{Object, Store};

const POLICIES: &str = "admissionregistration.k8s.io/validatingadmissionpolicies";
const BINDINGS: &str = "admissionregistration.k8s.io/validatingadmissionpolicybindings";
/// Bytes of a message that an expression gives.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

/// All policies that are bound, made when first needed after a change.
#[derive(Debug, Default)]
pub(crate) struct Policies(Mutex<Option<Arc<Snapshot>>>);

#[derive(Debug)]
struct Snapshot {
    revisions: [u64; 2],
    policies: Vec<Bound>,
}

/// A policy with its bindings.
#[derive(Debug)]
struct Bound {
    policy: Arc<Policy>,
    bindings: Vec<Binding>,
}

#[derive(Debug)]
struct Policy {
    name: String,
    revision: u64,
    criteria: Result<Criteria, String>,
    param_kind: Option<(String, String)>,
    ignores_failures: bool,
    variables: Variables,
    conditions: Conditions,
    validations: Vec<Validation>,
    audits: Vec<Expression>,
}

#[derive(Debug)]
struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: String,
}

#[derive(Debug)]
struct Binding {
    name: String,
    /// `None` where all that the policy matches is meant.
    criteria: Option<Result<Criteria, String>>,
    param_ref: Value,
    actions: Vec<String>,
}

impl Policies {
    /// Whether there is any policy.
    pub(crate) fn any(&self, store: &Store) -> bool {
        !self.snapshot(store).policies.is_empty()
    }

    fn snapshot(&self, store: &Store) -> Arc<Snapshot> {
        // Read before the objects, so that a change in between makes the snapshot old, not wrong.
        let revisions = [POLICIES, BINDINGS].map(|resource| store.changed(resource));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(snapshot) = kept.as_ref().filter(|kept| kept.revisions == revisions) {
            return snapshot.clone();
        }
        let before: HashMap<String, Arc<Policy>> = kept
            .iter()
            .flat_map(|kept| &kept.policies)
            .map(|bound| (bound.policy.name.clone(), bound.policy.clone()))
            .collect();
        let mut bindings: HashMap<String, Vec<Binding>> = HashMap::new();
        for object in store.list(&BINDINGS.into(), "").objects {
            let value = object.value();
            bindings
                .entry(text(&value["spec"]["policyName"]))
                .or_default()
                .push(Binding::read(&object, &value));
        }
        let objects = store.list(&POLICIES.into(), "").objects;
        let policies = objects.iter().filter_map(|object| {
            let bindings = bindings.remove(&*object.name)?;
            let known = before.get(&*object.name).filter(|policy| policy.revision == object.revision);
            let policy = known.cloned().unwrap_or_else(|| Arc::new(Policy::read(object)));
            Some(Bound { policy, bindings })
        });
        let snapshot = Arc::new(Snapshot { revisions, policies: policies.collect() });
        *kept = Some(snapshot.clone());
        snapshot
    }
}

impl Binding {
    fn read(object: &Object, value: &Value) -> Binding {
        let spec = &value["spec"];
        let actions = spec["validationActions"].as_array().into_iter().flatten().map(text);
        Binding {
            name: object.name.to_string(),
            criteria: spec.get("matchResources").map(Criteria::of_policy),
            param_ref: spec["paramRef"].clone(),
            actions: actions.collect(),
        }
    }
}

impl Policy {
    fn read(object: &Object) -> Policy {
        let value = object.value();
        let spec = &value["spec"];
        let param_kind = spec["paramKind"]
            .as_object()
            .map(|_| (text(&spec["paramKind"]["apiVersion"]), text(&spec["paramKind"]["kind"])));
        let params = param_kind.is_some();
        let full = environment(STORED_MINOR, Sees { params, authorizer: true, ..Sees::default() });
        let plain = environment(STORED_MINOR, Sees { params, ..Sees::default() });
        let mut variables = Variables::default();
        for variable in spec["variables"].as_array().into_iter().flatten() {
            variables.add(&text(&variable["name"]), &text(&variable["expression"]), &full);
        }
        let full = variables.declared(&full);
        let plain = variables.declared(&plain);
        let validations = spec["validations"].as_array().into_iter().flatten();
        let validations = validations.map(|validation| Validation {
            expression: Expression::compile(&text(&validation["expression"]), &full, &[Type::Bool]),
            message: text(&validation["message"]),
            message_expression: validation["messageExpression"]
                .as_str()
                .filter(|source| !source.is_empty())
                .map(|source| Expression::compile(source, &plain, &[Type::String])),
            reason: text(&validation["reason"]),
        });
        let audits = spec["auditAnnotations"].as_array().into_iter().flatten();
        let audits = audits.map(|audit| {
            Expression::compile(&text(&audit["valueExpression"]), &full, &[Type::String, Type::Null])
        });
        Policy {
            name: object.name.to_string(),
            revision: object.revision,
            criteria: Criteria::of_policy(&spec["matchConstraints"]),
            param_kind,
            ignores_failures: spec["failurePolicy"] == "Ignore",
            conditions: Conditions::compile(&spec["matchConditions"], &full),
            validations: validations.collect(),
            audits: audits.collect(),
            variables,
        }
    }

    /// What a failure that is nobody's fault comes to.
    fn failure(&self, text: String) -> Option<Decision> {
        (!self.ignores_failures).then(|| Decision { message: text, reason: String::new() })
    }

    /// The validations that do not hold, and what could not be evaluated.
    fn decide(&self, input: Input, conditions: &Input) -> Vec<Decision> {
        match self.conditions.hold(conditions, &self.variables) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(text) => return self.failure(text).into_iter().collect(),
        }
        let mut run = Run::new(input.clone(), &self.variables, BUDGET);
        let mut results = Vec::new();
        for validation in &self.validations {
            match run.evaluate(&validation.expression) {
                Ok(result) => results.push(result),
                Err(out) => return self.failure(out.to_string()).into_iter().collect(),
            }
        }
        let mut messages = Run::new(input.clone(), &self.variables, run.left);
        let mut decisions = Vec::new();
        for (validation, result) in self.validations.iter().zip(results) {
            match result {
                Err(text) => decisions.extend(self.failure(text)),
                Ok(Cel::Bool(true)) => {}
                Ok(_) => match validation.text(&mut messages) {
                    Ok(message) => decisions.push(Decision { message, reason: validation.reason.clone() }),
                    Err(text) => decisions.extend(self.failure(text)),
                },
            }
        }
        decisions.extend(self.audit(input));
        decisions
    }

    /// Audit annotations that cannot be worked out.
    fn audit(&self, input: Input) -> Vec<Decision> {
        let mut run = Run::new(input, &self.variables, BUDGET);
        let mut decisions = Vec::new();
        for expression in &self.audits {
            match run.evaluate(expression) {
                Err(out) => {
                    decisions.extend(self.failure(out.to_string()));
                    break;
                }
                Ok(Err(text)) => decisions.extend(self.failure(text)),
                Ok(Ok(_)) => {}
            }
        }
        decisions
    }
}

impl Validation {
    /// The message of a validation that does not hold.
    fn text(&self, run: &mut Run<'_>) -> Result<String, String> {
        let evaluated = match &self.message_expression {
            Some(expression) => match run.evaluate(expression) {
                Err(out) => return Err(format!("failed messageExpression: {out}")),
                Ok(Ok(Cel::String(text))) => text.trim().to_owned(),
                Ok(_) => String::new(),
            },
            None => String::new(),
        };
        if !evaluated.is_empty() && evaluated.len() <= MESSAGE_BYTES_MAX && !evaluated.contains('\n') {
            return Ok(evaluated);
        }
        if !self.message.trim().is_empty() {
            return Ok(self.message.trim().to_owned());
        }
        Ok(format!("failed expression: {}", self.expression.source.trim()))
    }
}

/// Something that speaks against the request.
#[derive(Clone, Debug)]
struct Decision {
    message: String,
    /// Empty for `Invalid`.
    reason: String,
}

/// What there is to say about one request.
struct Dispatch<'a> {
    attributes: &'a Attributes<'a>,
    /// The request's values in each version that a policy speaks of.
    inputs: Vec<(Arc<Kind>, Input)>,
    denied: Option<(String, Decision)>,
    warnings: Vec<String>,
}

/// Asks all policies. The result are warnings.
///
/// # Errors
/// When a policy denies the request.
pub(crate) fn validate(attributes: &Attributes<'_>) -> Result<Vec<String>, ApiError> {
    let snapshot = attributes.server.policies.snapshot(&attributes.server.store);
    if snapshot.policies.is_empty() || attributes.is_exempt() {
        return Ok(Vec::new());
    }
    let mut dispatch = Dispatch { attributes, inputs: Vec::new(), denied: None, warnings: Vec::new() };
    for bound in &snapshot.policies {
        dispatch.policy(bound)?;
    }
    let Dispatch { denied, warnings, .. } = dispatch;
    let Some((who, decision)) = denied else { return Ok(warnings) };
    let message = format!("ValidatingAdmissionPolicy {who} denied request: {}", decision.message);
    let mut error = attributes.forbidden(&message);
    (error.code, error.reason) = match decision.reason.as_str() {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    error.details.get_or_insert_default().causes = vec![Cause { reason: "", field: String::new(), message }];
    Err(error)
}

impl Dispatch<'_> {
    fn policy(&mut self, bound: &Bound) -> Result<(), ApiError> {
        let policy = &bound.policy;
        let kind = match criteria_match(&policy.criteria, self.attributes) {
            Err(text) => {
                self.cannot(policy, None, &text);
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Ok(Some(kind)) => kind,
        };
        let param_kind = match &policy.param_kind {
            None => None,
            Some((api_version, kind)) => {
                match super::attributes::kind_named(self.attributes.server, api_version, kind) {
                    Some(kind) => Some(kind),
                    None => {
                        let text = params::unknown(api_version, kind);
                        self.cannot(policy, None, &text);
                        return Ok(());
                    }
                }
            }
        };
        for binding in &bound.bindings {
            match binding.criteria.as_ref().map(|criteria| criteria_match(criteria, self.attributes)) {
                Some(Err(text)) => {
                    self.cannot(policy, Some(binding), &text);
                    continue;
                }
                Some(Ok(None)) => continue,
                None | Some(Ok(Some(_))) => {}
            }
            match params::collect(self.attributes, param_kind.as_ref(), &binding.param_ref) {
                Err(text) => self.cannot(policy, Some(binding), &text),
                Ok(found) => {
                    for param in found {
                        self.decide(policy, binding, &kind, param.as_ref());
                    }
                }
            }
        }
        Ok(())
    }

    fn decide(&mut self, policy: &Policy, binding: &Binding, kind: &Arc<Kind>, param: Option<&Value>) {
        let input = match self.inputs.iter().find(|(known, _)| Arc::ptr_eq(known, kind)) {
            Some((_, input)) => input.clone(),
            None => {
                let input = Input::new(self.attributes, kind).with_authorizer(self.attributes);
                self.inputs.push((kind.clone(), input.clone()));
                input
            }
        };
        let input = match &policy.param_kind {
            Some(_) => input.with_params(param),
            None => input,
        };
        for decision in policy.decide(input.clone(), &input) {
            let has = |action: &str| binding.actions.iter().any(|known| known == action);
            if has("Warn") {
                self.warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, decision.message
                ));
            }
            if has("Audit") {
                tracing::info!(policy = %policy.name, binding = %binding.name, "a policy does not hold");
            }
            if has("Deny") {
                let who = format!("'{}' with binding '{}'", policy.name, binding.name);
                self.denied.get_or_insert((who, decision));
            }
        }
    }

    /// The policy or the binding itself is not usable.
    fn cannot(&mut self, policy: &Policy, binding: Option<&Binding>, text: &str) {
        let (who, text) = match binding {
            None => (format!("'{}'", policy.name), format!("failed to configure policy: {text}")),
            Some(binding) => (
                format!("'{}' with binding '{}'", policy.name, binding.name),
                format!("failed to configure binding: {text}"),
            ),
        };
        if let Some(decision) = policy.failure(text) {
            self.denied.get_or_insert((who, decision));
        }
    }
}

fn criteria_match(
    criteria: &Result<Criteria, String>,
    attributes: &Attributes<'_>,
) -> Result<Option<Arc<Kind>>, String> {
    criteria.as_ref().map_err(Clone::clone)?.matches(attributes).map_err(|error| error.message)
}
