//! MutatingAdmissionPolicy: changes objects by JSON patches or by apply configurations that expressions give.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dodai_cel::{Type, Value as Cel};
use dodai_merge::typed::{Duplicates, Typed};
use serde_json::{Value, json};

use super::{Binding, criteria_match, params};
use crate::admission::attributes::{Attributes, in_version, kind_named};
use crate::admission::expression::{
    BUDGET, Conditions, Expression, Input, Run, STORED_MINOR, Sees, Variables, environment,
};
use crate::admission::matching::Criteria;
use crate::crd::text;
use crate::kinds::Kind;
use crate::patch;
use crate::status::{ApiError, Cause};
use crate::store::{Object, Store};

const POLICIES: &str = "admissionregistration.k8s.io/mutatingadmissionpolicies";
const BINDINGS: &str = "admissionregistration.k8s.io/mutatingadmissionpolicybindings";

/// All policies that are bound, made when first needed after a change.
#[derive(Debug, Default)]
pub(crate) struct MutatingPolicies(Mutex<Option<Arc<Snapshot>>>);

#[derive(Debug)]
struct Snapshot {
    revisions: [u64; 2],
    policies: Vec<(Arc<Policy>, Vec<Binding>)>,
}

#[derive(Debug)]
struct Policy {
    name: String,
    revision: u64,
    criteria: Result<Criteria, String>,
    param_kind: Option<(String, String)>,
    ignores_failures: bool,
    asks_again: bool,
    variables: Variables,
    conditions: Conditions,
    mutations: Vec<Mutation>,
}

#[derive(Debug)]
enum Mutation {
    Apply(Expression),
    Patch(Expression),
}

impl Policy {
    fn read(object: &Object) -> Policy {
        let value = object.value();
        let spec = &value["spec"];
        let param_kind = spec["paramKind"]
            .as_object()
            .map(|_| (text(&spec["paramKind"]["apiVersion"]), text(&spec["paramKind"]["kind"])));
        let sees = Sees { params: param_kind.is_some(), authorizer: true, patches: false };
        let plain = environment(STORED_MINOR, sees);
        let mut variables = Variables::default();
        for variable in spec["variables"].as_array().into_iter().flatten() {
            variables.add(&text(&variable["name"]), &text(&variable["expression"]), &plain);
        }
        let conditions = Conditions::compile(&spec["matchConditions"], &variables.declared(&plain));
        let full = variables.declared(&environment(STORED_MINOR, Sees { patches: true, ..sees }));
        let mutations = spec["mutations"].as_array().into_iter().flatten().map(|mutation| {
            let source = |name: &str| text(&mutation[name]["expression"]);
            match mutation["patchType"].as_str() {
                Some("JSONPatch") => Mutation::Patch(Expression::compile(
                    &source("jsonPatch"),
                    &full,
                    &[Type::mutation_patch()],
                )),
                _ => {
                    let wanted = [Type::mutation_object()];
                    Mutation::Apply(Expression::compile(&source("applyConfiguration"), &full, &wanted))
                }
            }
        });
        Policy {
            name: object.name.to_string(),
            revision: object.revision,
            criteria: Criteria::of_policy(&spec["matchConstraints"]),
            param_kind,
            ignores_failures: spec["failurePolicy"] == "Ignore",
            asks_again: spec["reinvocationPolicy"] == "IfNeeded",
            conditions,
            mutations: mutations.collect(),
            variables,
        }
    }
}

impl MutatingPolicies {
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
            .map(|(policy, _)| (policy.name.clone(), policy.clone()))
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
            Some((known.cloned().unwrap_or_else(|| Arc::new(Policy::read(object))), bindings))
        });
        let snapshot = Arc::new(Snapshot { revisions, policies: policies.collect() });
        *kept = Some(snapshot.clone());
        snapshot
    }
}

/// The mutating policies in the course of one request.
pub(crate) struct Course<'a> {
    attributes: &'a Attributes<'a>,
    snapshot: Arc<Snapshot>,
    /// Those asked that want to be asked again, by number.
    asked: BTreeSet<usize>,
    /// Those of them after which the object was changed.
    again: BTreeSet<usize>,
    errors: Vec<(&'static str, String)>,
}

impl<'a> Course<'a> {
    pub(crate) fn new(attributes: &'a Attributes<'a>) -> Option<Course<'a>> {
        let snapshot = attributes.server.mutating_policies.snapshot(&attributes.server.store);
        if snapshot.policies.is_empty() || attributes.is_exempt() || attributes.object.is_none() {
            return None;
        }
        let (asked, again, errors) = Default::default();
        Some(Course { attributes, snapshot, asked, again, errors })
    }

    /// Asks all policies, or (`only_again`) those that want to see what was changed after them. `changed_since`: whether
    /// somebody else has changed the object. The result is the object, if they have changed it.
    ///
    /// # Errors
    /// When one cannot be evaluated, and that counts.
    pub(crate) fn run(
        &mut self,
        object: Option<&Value>,
        only_again: bool,
        changed_since: bool,
    ) -> Result<Option<Value>, ApiError> {
        let Some(object) = object.or(self.attributes.object) else { return Ok(None) };
        if changed_since {
            self.again = self.asked.clone();
        }
        let chosen = std::mem::take(&mut self.again);
        let snapshot = self.snapshot.clone();
        let mut current = object.clone();
        for (at, (policy, bindings)) in snapshot.policies.iter().enumerate() {
            if only_again && !chosen.contains(&at) {
                continue;
            }
            let before = current.clone();
            self.policy(policy, bindings, &mut current);
            if current != before {
                self.again.extend(self.asked.range(..at));
            }
            if policy.asks_again {
                self.asked.insert(at);
            }
        }
        self.verdict()?;
        Ok((current != *object).then_some(current))
    }

    pub(crate) fn wants_again(&self) -> bool {
        !self.again.is_empty()
    }

    fn verdict(&mut self) -> Result<(), ApiError> {
        let errors = std::mem::take(&mut self.errors);
        let Some((reason, first)) = errors.first() else { return Ok(()) };
        let mut error = self.attributes.forbidden("admission request denied by policy");
        error.message = first.clone();
        error.reason = reason;
        error.details.get_or_insert_default().causes = errors
            .into_iter()
            .map(|(_, message)| Cause { reason: "", field: String::new(), message })
            .collect();
        Err(error)
    }

    fn fail(&mut self, policy: &Policy, binding: Option<&Binding>, reason: &'static str, text: &str) {
        if policy.ignores_failures {
            return;
        }
        let text = match binding {
            Some(binding) => {
                format!("policy '{}' with binding '{}' denied request: {text}", policy.name, binding.name)
            }
            None => format!("policy \"{}\" denied request: {text}", policy.name),
        };
        self.errors.push((reason, text));
    }

    fn policy(&mut self, policy: &Policy, bindings: &[Binding], object: &mut Value) {
        let start = object.clone();
        let seen = Attributes { object: Some(&start), ..self.attributes.clone() };
        let cannot = "failed to configure policy: ";
        let kind = match criteria_match(&policy.criteria, &seen) {
            Ok(None) => return,
            Ok(Some(kind)) => kind,
            Err(text) => return self.fail(policy, None, "Forbidden", &format!("{cannot}{text}")),
        };
        let param_kind = match &policy.param_kind {
            None => None,
            Some((api_version, name)) => match kind_named(seen.server, api_version, name) {
                Some(kind) => Some(kind),
                None => {
                    let text = params::unknown(api_version, name);
                    return self.fail(policy, None, "Forbidden", &format!("{cannot}{text}"));
                }
            },
        };
        for binding in bindings {
            let cannot = "failed to configure binding: ";
            match binding.criteria.as_ref().map(|criteria| criteria_match(criteria, &seen)) {
                Some(Err(text)) => {
                    self.fail(policy, Some(binding), "Forbidden", &format!("{cannot}{text}"));
                    continue;
                }
                Some(Ok(None)) => continue,
                None | Some(Ok(Some(_))) => {}
            }
            match params::collect(&seen, param_kind.as_ref(), &binding.param_ref) {
                Err(text) => self.fail(policy, Some(binding), "Forbidden", &format!("{cannot}{text}")),
                Ok(found) => {
                    for param in found {
                        if let Err(text) = self.mutate(policy, &kind, param.as_ref(), object) {
                            self.fail(policy, Some(binding), "Invalid", &text);
                        }
                    }
                }
            }
        }
    }

    /// All mutations of a policy, one after the other.
    fn mutate(
        &self,
        policy: &Policy,
        kind: &Arc<Kind>,
        param: Option<&Value>,
        object: &mut Value,
    ) -> Result<(), String> {
        let start = object.clone();
        let seen = Attributes { object: Some(&start), ..self.attributes.clone() };
        let mut input = Input::new(&seen, kind).with_authorizer(&seen);
        if policy.param_kind.is_some() {
            input = input.with_params(param);
        }
        if !policy.conditions.hold(&input, &policy.variables)? {
            return Ok(());
        }
        let mut current = seen.in_version(&start, kind);
        for mutation in &policy.mutations {
            let input = input.clone().with_object(&current);
            let mut run = Run::new(input, &policy.variables, BUDGET);
            let expression = match mutation {
                Mutation::Apply(expression) | Mutation::Patch(expression) => expression,
            };
            if let Err(error) = &expression.program {
                return Err(error.clone());
            }
            let value = run.evaluate(expression).map_err(|out| out.to_string())??;
            current = match mutation {
                Mutation::Apply(_) => applied(&seen, kind, current, &value)?,
                Mutation::Patch(_) => patched(current, &value)?,
            };
        }
        *object = match Arc::ptr_eq(kind, seen.kind) {
            true => current,
            false => in_version(&current, kind, seen.kind),
        };
        Ok(())
    }
}

fn applied(
    attributes: &Attributes<'_>,
    kind: &Arc<Kind>,
    object: Value,
    value: &Cel,
) -> Result<Value, String> {
    value.check_object_names().map_err(|error| format!("type mismatch: {error}"))?;
    if attributes.object_kind(kind)["kind"] != kind.kind.as_str() {
        return Err(format!("Resource kind {} not found", attributes.object_kind(kind)["kind"]));
    }
    let schema = match &kind.custom {
        Some(custom) => &custom.merge,
        None => &crate::schema::builtin(kind.schema.as_deref().unwrap_or_default()).merge,
    };
    let mut patch = value.to_json();
    for field in ["apiVersion", "kind"] {
        patch[field] = object[field].clone();
    }
    let version = kind.api_version();
    let applying = |error: String| format!("error applying patch: {error}");
    let patch = Typed::parse(Arc::new(patch), schema, &version, Duplicates::Refused)
        .map_err(|error| applying(format!("failed to convert patch object to typed object: {error}")))?;
    let atomics = patch.atomics();
    if !atomics.is_empty() {
        let text = format!("may not mutate atomic arrays, maps or structs: {}", atomics.join(", "));
        return Err(applying(format!("invalid ApplyConfiguration: {text}")));
    }
    let live = Typed::unchecked(Arc::new(object), schema, &version);
    let merged = live.merge(&patch).map_err(|error| applying(format!("failed to merge patch: {error}")))?;
    Ok(Value::clone(&merged.value))
}

fn patched(object: Value, value: &Cel) -> Result<Value, String> {
    let Cel::List(list) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".into());
    };
    let mut changed = object.clone();
    for operation in &list.items {
        if let Cel::Map(map) = operation {
            for value in map.entries.values() {
                value.check_object_names().map_err(|error| format!("type mismatch: {error}"))?;
            }
        }
        let mut operation = operation.to_json();
        if operation["op"] != "remove"
            && operation["op"] != "move"
            && operation["op"] != "copy"
            && operation.get("value").is_none()
        {
            operation["value"] = json!(null);
        }
        match patch::apply_operations(&mut changed, std::slice::from_ref(&operation)) {
            Ok(()) => {}
            // A test that fails leaves the object as it is.
            Err(_) if operation["op"] == "test" => return Ok(object),
            Err(error) => return Err(format!("JSON Patch: {error}")),
        }
    }
    Ok(changed)
}
