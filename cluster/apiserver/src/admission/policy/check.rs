//! Checks of policies, bindings and the match conditions of webhooks when they are written, with upstream's texts.

use std::collections::HashSet;

use dodai_cel::{Environment, Type};
use serde_json::Value;

use crate::admission::expression::{Expression, NEW_MINOR, STORED_MINOR, Sees, Variables, environment};
use crate::crd::text;
use crate::names;
use crate::selector::LabelSelector;
use crate::status::Cause;

/// Conditions of one policy or webhook.
const CONDITIONS_MAX: usize = 64;
/// Audit annotations of one policy.
const AUDITS_MAX: usize = 20;

/// The expressions of the stored object, which need not be checked by the rules for new ones.
fn stored<'a>(old: Option<&'a Value>, known: &mut HashSet<&'a str>) {
    match old {
        Some(Value::Object(map)) => {
            for (key, value) in map {
                if let (true, Some(source)) = (key.to_lowercase().ends_with("expression"), value.as_str()) {
                    known.insert(source);
                }
                stored(Some(value), known);
            }
        }
        Some(Value::Array(items)) => items.iter().for_each(|item| stored(Some(item), known)),
        _ => {}
    }
}

/// Compiles expressions and notes what is wrong.
pub(crate) struct Check<'a> {
    known: HashSet<&'a str>,
    pub causes: &'a mut Vec<Cause>,
}

impl<'a> Check<'a> {
    pub(crate) fn new(old: Option<&'a Value>, causes: &'a mut Vec<Cause>) -> Check<'a> {
        let mut known = HashSet::new();
        stored(old, &mut known);
        Check { known, causes }
    }

    fn minor(&self, source: &str) -> u32 {
        if self.known.contains(source) { STORED_MINOR } else { NEW_MINOR }
    }

    /// One expression that must be there.
    fn expression(
        &mut self,
        source: &str,
        path: &str,
        wanted: &[Type],
        sees: Sees,
        variables: Option<&Variables>,
    ) -> bool {
        if source.trim().is_empty() {
            let what = if path.ends_with("valueExpression") { "valueExpression" } else { "expression" };
            self.causes.push(Cause::required(path, &format!("{what} is not specified")));
            return false;
        }
        let environment = environment(self.minor(source), sees);
        let environment = variables.map_or(environment.clone(), |variables| variables.declared(&environment));
        self.compile(source, path, wanted, &environment)
    }

    fn compile(&mut self, source: &str, path: &str, wanted: &[Type], environment: &Environment) -> bool {
        match Expression::compile(source, environment, wanted).program {
            Ok(_) => true,
            Err(error) => {
                self.causes.push(Cause::invalid(path, &source.into(), &error));
                false
            }
        }
    }

    /// The conditions of a policy or a webhook.
    pub(crate) fn conditions(&mut self, list: &Value, path: &str, sees: Sees, variables: Option<&Variables>) {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        if list.len() > CONDITIONS_MAX {
            self.causes.push(Cause::too_many(path, list.len(), CONDITIONS_MAX));
            return;
        }
        let mut seen = HashSet::new();
        for (at, condition) in list.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let source = text(&condition["expression"]);
            self.expression(source.trim(), &format!("{path}.expression"), &[Type::Bool], sees, variables);
            let name = text(&condition["name"]);
            if name.is_empty() {
                self.causes.push(Cause::required(format!("{path}.name"), ""));
                continue;
            }
            for detail in names::qualified_name(&name) {
                self.causes.push(Cause::invalid(format!("{path}.name"), &name.clone().into(), &detail));
            }
            if !seen.insert(name.clone()) {
                self.causes.push(Cause::duplicate(format!("{path}.name"), &name.into()));
            }
        }
    }

    /// The variables, each with those before it.
    pub(crate) fn variables(&mut self, list: &Value, sees: Sees) -> Variables {
        let mut variables = Variables::default();
        for (at, variable) in list.as_array().into_iter().flatten().enumerate() {
            let path = format!("spec.variables[{at}]");
            let (name, source) = (text(&variable["name"]), text(&variable["expression"]));
            if name.trim().is_empty() {
                self.causes.push(Cause::required(format!("{path}.name"), "name is not specified"));
            } else if names::text::identifier(&name).is_some() {
                let detail = "name is not a valid CEL identifier";
                self.causes.push(Cause::invalid(format!("{path}.name"), &name.clone().into(), detail));
            }
            if source.trim().is_empty() {
                self.causes
                    .push(Cause::required(format!("{path}.expression"), "expression is not specified"));
                continue;
            }
            let environment = environment(self.minor(&source), sees);
            if let Err(error) = &variables.add(&name, &source, &environment).program {
                self.causes.push(Cause::invalid(format!("{path}.expression"), &source.into(), error));
            }
        }
        variables
    }
}

/// Checks a ValidatingAdmissionPolicy.
pub(crate) fn policy(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    failure_policy(&spec["failurePolicy"], "spec.failurePolicy", causes);
    param_kind(&spec["paramKind"], causes);
    constraints(&spec["matchConstraints"], "spec.matchConstraints", true, causes);
    let sees = Sees { params: !spec["paramKind"].is_null(), authorizer: true, ..Sees::default() };
    let mut check = Check::new(old, causes);
    let variables = check.variables(&spec["variables"], sees);
    check.conditions(&spec["matchConditions"], "spec.matchConditions", sees, Some(&variables));
    let list = |name: &str| spec[name].as_array().map(Vec::as_slice).unwrap_or_default();
    if list("validations").is_empty() && list("auditAnnotations").is_empty() {
        let text = "validations or auditAnnotations must contain at least one item";
        check.causes.push(Cause::required("spec.validations", text));
        check.causes.push(Cause::required("spec.auditAnnotations", text));
    }
    for (at, validation) in list("validations").iter().enumerate() {
        check.validation(validation, &format!("spec.validations[{at}]"), sees, &variables);
    }
    if list("auditAnnotations").len() > AUDITS_MAX {
        check.causes.push(Cause::too_many(
            "spec.auditAnnotations",
            list("auditAnnotations").len(),
            AUDITS_MAX,
        ));
    }
    let mut seen = HashSet::new();
    for (at, audit) in list("auditAnnotations").iter().enumerate() {
        let path = format!("spec.auditAnnotations[{at}]");
        let key = text(&audit["key"]);
        if key.is_empty() {
            check.causes.push(Cause::required(format!("{path}.key"), "key is not specified"));
        } else {
            let full = format!("{}/{key}", text(&object["metadata"]["name"]));
            for detail in names::qualified_name(&full) {
                let detail = format!(
                    "key, when prefixed with the policy name, must be a valid qualified name: {detail}"
                );
                check.causes.push(Cause::invalid(format!("{path}.key"), &key.clone().into(), &detail));
            }
        }
        let wanted = [Type::String, Type::Null];
        let source = text(&audit["valueExpression"]);
        check.expression(&source, &format!("{path}.valueExpression"), &wanted, sees, Some(&variables));
        if !seen.insert(key.clone()) {
            check.causes.push(Cause::duplicate(format!("{path}.key"), &key.into()));
        }
    }
}

/// Checks a MutatingAdmissionPolicy.
pub(crate) fn mutating_policy(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    failure_policy(&spec["failurePolicy"], "spec.failurePolicy", causes);
    param_kind(&spec["paramKind"], causes);
    constraints(&spec["matchConstraints"], "spec.matchConstraints", true, causes);
    match spec["reinvocationPolicy"].as_str().unwrap_or_default() {
        "" => causes.push(Cause::required("spec.reinvocationPolicy", "")),
        _ => one_of(&spec["reinvocationPolicy"], "spec.reinvocationPolicy", &["IfNeeded", "Never"], causes),
    }
    let sees = Sees { params: !spec["paramKind"].is_null(), authorizer: true, ..Sees::default() };
    let mut check = Check::new(old, causes);
    let variables = check.variables(&spec["variables"], sees);
    check.conditions(&spec["matchConditions"], "spec.matchConditions", sees, Some(&variables));
    let mutations = spec["mutations"].as_array().map(Vec::as_slice).unwrap_or_default();
    if mutations.is_empty() {
        check.causes.push(Cause::required("spec.mutations", "mutations must contain at least one item"));
    }
    for (at, mutation) in mutations.iter().enumerate() {
        check.mutation(
            mutation,
            &format!("spec.mutations[{at}]"),
            Sees { patches: true, ..sees },
            &variables,
        );
    }
}

impl Check<'_> {
    fn mutation(&mut self, mutation: &Value, path: &str, sees: Sees, variables: &Variables) {
        let kind = text(&mutation["patchType"]);
        let (field, other, wanted) = match kind.as_str() {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", Type::mutation_object()),
            "JSONPatch" => ("jsonPatch", "applyConfiguration", Type::mutation_patch()),
            "" => return self.causes.push(Cause::required(format!("{path}.patchType"), "")),
            _ => {
                let known = ["ApplyConfiguration", "JSONPatch"];
                let path = format!("{path}.patchType");
                return self.causes.push(Cause::not_supported(path, &mutation["patchType"], &known));
            }
        };
        if !mutation[other].is_null() {
            let detail = format!("must not be specified when patchType is {kind}");
            self.causes.push(Cause::invalid(format!("{path}.{other}"), &mutation[other], &detail));
        }
        if mutation[field].is_null() {
            let detail = format!("must be specified when patchType is {kind}");
            return self.causes.push(Cause::required(format!("{path}.{field}"), &detail));
        }
        let source = text(&mutation[field]["expression"]);
        let path = format!("{path}.{field}.expression");
        self.expression(&source, &path, &[wanted], sees, Some(variables));
    }

    fn validation(&mut self, validation: &Value, path: &str, sees: Sees, variables: &Variables) {
        let (source, message) = (text(&validation["expression"]), text(&validation["message"]));
        let expression = text(&validation["messageExpression"]);
        let broken = |text: &str| text.contains(['\n', '\r']);
        self.expression(&source, &format!("{path}.expression"), &[Type::Bool], sees, Some(variables));
        if !expression.is_empty() && expression.trim().is_empty() {
            let detail = "must be non-empty if specified";
            let shown = Value::from(expression.clone());
            self.causes.push(Cause::invalid(format!("{path}.messageExpression"), &shown, detail));
        } else if !expression.is_empty() {
            let sees = Sees { authorizer: false, ..sees };
            let path = format!("{path}.messageExpression");
            self.expression(&expression, &path, &[Type::String], sees, Some(variables));
        }
        let at = format!("{path}.message");
        if !message.is_empty() && message.trim().is_empty() {
            let detail = "message must be non-empty if specified";
            self.causes.push(Cause::invalid(at, &message.into(), detail));
        } else if broken(message.trim()) {
            self.causes.push(Cause::invalid(at, &message.into(), "message must not contain line breaks"));
        }
        let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
        if validation["reason"].as_str().is_some_and(|reason| !reasons.contains(&reason)) {
            self.causes.push(Cause::not_supported(format!("{path}.reason"), &validation["reason"], &reasons));
        }
    }
}

pub(crate) fn failure_policy(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    one_of(value, path, &["Fail", "Ignore"], causes);
}

fn one_of(value: &Value, path: &str, known: &[&str], causes: &mut Vec<Cause>) {
    if value.as_str().is_some_and(|word| !known.contains(&word)) {
        causes.push(Cause::not_supported(path, value, known));
    }
}

pub(crate) fn param_kind(kind: &Value, causes: &mut Vec<Cause>) {
    if kind.is_null() {
        return;
    }
    if text(&kind["apiVersion"]).is_empty() {
        causes.push(Cause::required("spec.paramKind.apiVersion", ""));
    } else if text(&kind["apiVersion"]).matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {}", text(&kind["apiVersion"]));
        causes.push(Cause::invalid("spec.paramKind.apiVersion", &kind["apiVersion"], &detail));
    }
    if text(&kind["kind"]).is_empty() {
        causes.push(Cause::required("spec.paramKind.kind", ""));
    }
}

/// `matchConstraints` of a policy, and `matchResources` of a binding.
pub(crate) fn constraints(value: &Value, path: &str, needed: bool, causes: &mut Vec<Cause>) {
    if value.is_null() {
        if needed {
            causes.push(Cause::required(path, ""));
        }
        return;
    }
    one_of(&value["matchPolicy"], &format!("{path}.matchPolicy"), &["Equivalent", "Exact"], causes);
    for name in ["namespaceSelector", "objectSelector"] {
        selector(&value[name], &format!("{path}.{name}"), causes);
    }
    for name in ["resourceRules", "excludeResourceRules"] {
        for (at, rule) in value[name].as_array().into_iter().flatten().enumerate() {
            self::rule(rule, &format!("{path}.{name}[{at}]"), causes);
        }
    }
    if needed && value["resourceRules"].as_array().is_none_or(Vec::is_empty) {
        causes.push(Cause::required(format!("{path}.resourceRules"), ""));
    }
}

pub(crate) fn selector(selector: &Value, path: &str, causes: &mut Vec<Cause>) {
    if let (false, Err(error)) = (selector.is_null(), LabelSelector::from_object(selector)) {
        causes.push(Cause::invalid(path, selector, &error));
    }
}

/// One rule of a policy or a webhook.
pub(crate) fn rule(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    let words =
        |name: &str| -> Vec<String> { rule[name].as_array().into_iter().flatten().map(text).collect() };
    let star = |list: &[String]| list.len() > 1 && list.iter().any(|word| word == "*");
    for (name, what) in [("operations", "OperationAll"), ("apiGroups", "*"), ("apiVersions", "*")] {
        let list = words(name);
        if list.is_empty() {
            causes.push(Cause::required(format!("{path}.{name}"), ""));
        }
        if star(&list) {
            let detail = match what {
                "*" => format!(
                    "if '*' is present, must not specify other {}",
                    if name == "apiGroups" { "API groups" } else { "API versions" }
                ),
                _ => "if '*' is present, must not specify other operations".to_owned(),
            };
            causes.push(Cause::invalid(format!("{path}.{name}"), &rule[name], &detail));
        }
    }
    let operations = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    for (at, word) in words("operations").iter().enumerate() {
        one_of(&word.as_str().into(), &format!("{path}.operations[{at}]"), &operations, causes);
    }
    for (at, word) in words("apiVersions").iter().enumerate() {
        if word.is_empty() {
            causes.push(Cause::required(format!("{path}.apiVersions[{at}]"), ""));
        }
    }
    let resources = words("resources");
    if resources.is_empty() {
        causes.push(Cause::required(format!("{path}.resources"), ""));
    }
    for (at, word) in resources.iter().enumerate() {
        if word.is_empty() {
            causes.push(Cause::required(format!("{path}.resources[{at}]"), ""));
        }
    }
    let all = resources.iter().any(|word| word == "*/*");
    if all && resources.len() > 1 {
        let detail = "if '*/*' is present, must not specify other resources";
        causes.push(Cause::invalid(format!("{path}.resources"), &rule["resources"], detail));
    }
    if resources.iter().any(|word| word == "*")
        && resources.iter().any(|word| !word.contains('/') && word != "*")
    {
        let detail = "if '*' is present, must not specify other resources without subresources";
        causes.push(Cause::invalid(format!("{path}.resources"), &rule["resources"], detail));
    }
    one_of(&rule["scope"], &format!("{path}.scope"), &["*", "Cluster", "Namespaced"], causes);
}

/// Checks a ValidatingAdmissionPolicyBinding or a MutatingAdmissionPolicyBinding.
pub(crate) fn binding(object: &Value, validating: bool, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let name = text(&spec["policyName"]);
    if name.is_empty() {
        causes.push(Cause::required("spec.policyName", ""));
    } else if let Some(detail) = names::subdomain(&name) {
        causes.push(Cause::invalid("spec.policyName", &name.into(), &detail));
    }
    let reference = &spec["paramRef"];
    if !reference.is_null() {
        let (named, selected) = (!text(&reference["name"]).is_empty(), !reference["selector"].is_null());
        if named == selected {
            let detail = if named {
                "name and selector are mutually exclusive"
            } else {
                "one of name or selector must be specified"
            };
            causes.push(match named {
                true => Cause::forbidden("spec.paramRef.name", detail),
                false => Cause::required("spec.paramRef", detail),
            });
        }
        selector(&reference["selector"], "spec.paramRef.selector", causes);
        match reference["parameterNotFoundAction"].as_str().unwrap_or_default() {
            "" => causes.push(Cause::required("spec.paramRef.parameterNotFoundAction", "")),
            _ => one_of(
                &reference["parameterNotFoundAction"],
                "spec.paramRef.parameterNotFoundAction",
                &["Deny", "Allow"],
                causes,
            ),
        }
    }
    constraints(&spec["matchResources"], "spec.matchResources", false, causes);
    if validating {
        actions(&spec["validationActions"], causes);
    }
}

fn actions(value: &Value, causes: &mut Vec<Cause>) {
    let path = "spec.validationActions";
    let actions: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
    if actions.is_empty() {
        causes.push(Cause::required(path, "at least one validation action is required"));
    }
    let mut seen = HashSet::new();
    for (at, action) in actions.iter().enumerate() {
        one_of(&action.as_str().into(), &format!("{path}[{at}]"), &["Audit", "Deny", "Warn"], causes);
        if !seen.insert(action) {
            causes.push(Cause::duplicate(format!("{path}[{at}]"), &action.as_str().into()));
        }
    }
    if ["Deny", "Warn"].iter().all(|action| actions.iter().any(|known| known == action)) {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        causes.push(Cause::invalid(path, value, detail));
    }
}
