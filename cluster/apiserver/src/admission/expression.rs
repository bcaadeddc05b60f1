//! CEL expressions of policies and match conditions: compiled once, evaluated on requests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use dodai_cel::{
    Authorizer, Bindings, CALL_COST_MAX, Decision, Environment, Opaque, Program, Request, ResourceRequest,
    Schema, Type, Value as Cel, compile, untyped,
};
use serde_json::{Value, json};

use super::attributes::Attributes;
use crate::kinds::Kind;
use crate::request;
use crate::server::Server;
use crate::store::Key;
use crate::user::User;

/// What all expressions of one list may cost for one request.
pub(crate) const BUDGET: i64 = 10_000_000;
/// The same for match conditions.
pub(crate) const CONDITIONS_BUDGET: i64 = BUDGET / 4;
/// Stored expressions may use everything.
pub(crate) const STORED_MINOR: u32 = 36;
/// New ones what the version before knows.
pub(crate) const NEW_MINOR: u32 = 35;

/// An expression with its program, or the reason why there is none.
#[derive(Debug)]
pub(crate) struct Expression {
    pub source: String,
    pub program: Result<Program, String>,
}

impl Expression {
    /// Compiles; `wanted` are the types it may have.
    pub(crate) fn compile(source: &str, environment: &Environment, wanted: &[Type]) -> Expression {
        Expression { source: source.to_owned(), program: compiled(source, environment, wanted) }
    }
}

fn compiled(source: &str, environment: &Environment, wanted: &[Type]) -> Result<Program, String> {
    let program = compile(source, environment).map_err(|errors| format!("compilation failed: {errors}"))?;
    if !wanted.is_empty() && !wanted.contains(program.result_type()) {
        let name = |ty: &Type| if *ty == Type::Null { "null_type".to_owned() } else { ty.to_string() };
        let got = name(program.result_type());
        return Err(match wanted {
            [one] => format!("must evaluate to {} but got {got}", name(one)),
            many => {
                let names: Vec<String> = many.iter().map(name).collect();
                format!("must evaluate to one of [{}] but got {got}", names.join(" "))
            }
        });
    }
    match program.constant_failure() {
        Some(error) => Err(format!("program instantiation failed: {error}")),
        None => Ok(program),
    }
}

/// What expressions can see.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sees {
    pub params: bool,
    pub authorizer: bool,
    /// The functions of mutating policies.
    pub patches: bool,
}

/// The environment of expressions; variables are added to it one by one.
pub(crate) fn environment(minor: u32, sees: Sees) -> Environment {
    let mut environment = Environment::new(minor)
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("request", TYPES.request.clone())
        .with("namespaceObject", TYPES.namespace.clone());
    if sees.params {
        environment = environment.with("params", Type::Dyn);
    }
    if sees.authorizer {
        let check = Cel::Opaque(Opaque::ResourceCheck(Arc::new(Nobody), Arc::default()));
        let check = Type::Opaque(check.type_name().into());
        environment = environment.with_authorizer().with("authorizer.requestResource", check);
    }
    if sees.patches {
        environment = environment.with_jsonpatch();
    }
    environment
}

struct Types {
    request: Type,
    namespace: Type,
    namespace_schema: Schema,
}

static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let string = json!({ "type": "string" });
    let list = json!({ "type": "array", "items": string });
    let gvk =
        json!({ "type": "object", "properties": { "group": string, "version": string, "kind": string } });
    let gvr =
        json!({ "type": "object", "properties": { "group": string, "version": string, "resource": string } });
    let user = json!({ "type": "object", "properties": {
        "username": string, "uid": string, "groups": list,
        "extra": { "type": "object", "additionalProperties": list },
    } });
    let request = json!({ "type": "object", "properties": {
        "kind": gvk, "resource": gvr, "subResource": string, "requestKind": gvk, "requestResource": gvr,
        "requestSubResource": string, "name": string, "namespace": string, "operation": string, "userInfo": user,
        "dryRun": { "type": "boolean" }, "options": { "x-kubernetes-int-or-string": true },
    } });
    let time = json!({ "type": "string", "format": "date-time", "nullable": true });
    let number = json!({ "type": "integer" });
    let strings = json!({ "type": "object", "additionalProperties": string });
    let condition = json!({ "type": "object", "properties": {
        "status": string, "type": string, "lastTransitionTime": time, "message": string, "reason": string,
    } });
    let namespace = json!({ "type": "object", "properties": {
        "metadata": { "type": "object", "properties": {
            "name": string, "generateName": string, "namespace": string, "labels": strings, "annotations": strings,
            "UID": string, "creationTimestamp": time, "deletionGracePeriodSeconds": number,
            "deletionTimestamp": time, "generation": number, "resourceVersion": string, "finalizers": list,
        } },
        "spec": { "type": "object", "properties": { "finalizers": list } },
        "status": { "type": "object", "properties": {
            "phase": string, "conditions": { "type": "array", "items": condition },
        } },
    } });
    let declared =
        |schema: &Value, name: &str| Schema::new(schema).declared(name, false).unwrap_or(Type::Dyn);
    Types {
        request: declared(&request, "kubernetes.AdmissionRequest"),
        namespace: declared(&namespace, "kubernetes.Namespace"),
        namespace_schema: Schema::new(&namespace),
    }
});

/// Named expressions that others refer to as `variables.name`, in the order in which they may refer to each other.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    compiled: BTreeMap<String, Expression>,
    types: BTreeMap<Arc<str>, Type>,
}

impl Variables {
    /// Compiles a variable that may refer to those before it.
    pub(crate) fn add(&mut self, name: &str, source: &str, environment: &Environment) -> &Expression {
        let expression = Expression::compile(source, &self.declared(environment), &[]);
        let ty = expression.program.as_ref().map_or(Type::Dyn, |program| plain(program.result_type()));
        self.types.insert(name.into(), ty);
        self.compiled.entry(name.to_owned()).insert_entry(expression).into_mut()
    }

    /// The environment with these variables.
    pub(crate) fn declared(&self, environment: &Environment) -> Environment {
        environment.clone().with("variables", Type::object("kubernetes.variables", self.types.clone()))
    }
}

/// What a variable's type is to others: objects are not named.
fn plain(ty: &Type) -> Type {
    match ty {
        Type::List(element) => Type::list(plain(element)),
        Type::Map(key, value) => Type::map(plain(key), plain(value)),
        Type::Bool
        | Type::Bytes
        | Type::Double
        | Type::Duration
        | Type::Int
        | Type::Null
        | Type::String
        | Type::Timestamp
        | Type::Uint => ty.clone(),
        _ => Type::Dyn,
    }
}

/// The values of one request.
#[derive(Clone)]
pub(crate) struct Input {
    bindings: Bindings,
}

impl Input {
    /// The values of a request as it looks in the version `kind`.
    pub(crate) fn new(attributes: &Attributes<'_>, kind: &Arc<Kind>) -> Input {
        let object = |object: Option<&Value>| match object {
            Some(object) => untyped(&attributes.in_version(object, kind)),
            None => Cel::Null,
        };
        let bindings = Bindings::new()
            .with("object", object(attributes.object))
            .with("oldObject", object(attributes.old))
            .with("request", untyped(&Value::Object(attributes.request(kind))))
            .with("namespaceObject", namespace(attributes));
        Input { bindings }
    }

    pub(crate) fn with_object(mut self, object: &Value) -> Input {
        self.bindings = self.bindings.with("object", untyped(object));
        self
    }

    /// Nothing is null.
    pub(crate) fn with_params(mut self, params: Option<&Value>) -> Input {
        self.bindings = self.bindings.with("params", params.map_or(Cel::Null, untyped));
        self
    }

    pub(crate) fn with_authorizer(mut self, attributes: &Attributes<'_>) -> Input {
        let asker = Asker { server: attributes.server.clone(), user: attributes.user.clone() };
        let asker: Arc<dyn Authorizer> = Arc::new(asker);
        let request = ResourceRequest {
            group: attributes.kind.group.clone(),
            resource: attributes.kind.plural.clone(),
            subresource: attributes.subresource.to_owned(),
            namespace: attributes.namespace.to_owned(),
            name: attributes.name.clone(),
            ..ResourceRequest::default()
        };
        let check = Cel::Opaque(Opaque::ResourceCheck(asker.clone(), Arc::new(request)));
        self.bindings = self
            .bindings
            .with("authorizer", Cel::authorizer(asker))
            .with("authorizer.requestResource", check);
        self
    }
}

/// The namespace of the request; null for what is in none, and for namespaces themselves.
fn namespace(attributes: &Attributes<'_>) -> Cel {
    if attributes.namespace.is_empty() || attributes.kind.is("", "namespaces") {
        return Cel::Null;
    }
    let key = Key::new(&attributes.server.namespaces, "", attributes.namespace);
    let Some(found) = attributes.server.store.get_head(&key) else { return Cel::Null };
    let mut value = found.value();
    if let Some(meta) = value["metadata"].as_object_mut() {
        let uid = meta.remove("uid").unwrap_or_default();
        meta.insert("UID".into(), uid);
        meta.remove("managedFields");
        meta.remove("ownerReferences");
    }
    TYPES.namespace_schema.value(&value)
}

/// One run over a list of expressions: variables are computed once, and all share a budget.
pub(crate) struct Run<'a> {
    input: Input,
    variables: &'a Variables,
    known: BTreeMap<Arc<str>, Cel>,
    pub left: i64,
}

/// The budget is used up: nothing more can be said.
#[derive(Debug)]
pub(crate) struct OutOfBudget;

impl fmt::Display for OutOfBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "validation failed due to running out of cost budget, no further validation rules will be run",
        )
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(input: Input, variables: &'a Variables, budget: i64) -> Run<'a> {
        Run { input, variables, known: BTreeMap::new(), left: budget }
    }

    /// The value, or upstream's text of the failure.
    pub(crate) fn evaluate(&mut self, expression: &Expression) -> Result<Result<Cel, String>, OutOfBudget> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(error) => return Ok(Err(format!("compilation error: {error}"))),
        };
        let found = self.run(program)?;
        Ok(found.map_err(|error| format!("expression '{}' resulted in error: {error}", expression.source)))
    }

    fn run(&mut self, program: &Program) -> Result<Result<Cel, String>, OutOfBudget> {
        let variables = self.variables;
        for name in program.fields_of("variables") {
            let Some((name, expression)) = variables.compiled.get_key_value(name) else { continue };
            if self.known.contains_key(name.as_str()) {
                continue;
            }
            let value = match &expression.program {
                Err(error) => Err(format!("composited variable \"{name}\" fails to compile: {error}")),
                Ok(program) => self
                    .run(program)?
                    .map_err(|error| format!("composited variable \"{name}\" fails to evaluate: {error}")),
            };
            self.known.insert(name.as_str().into(), value.unwrap_or_else(|text| Cel::Invalid(text.into())));
        }
        let fields = self.known.iter().map(|(name, value)| (name.clone(), value.clone()));
        let bindings = self.input.bindings.clone().with("variables", Cel::object(fields));
        let outcome = program.run(&bindings, CALL_COST_MAX);
        let cost = i64::try_from(outcome.cost).unwrap_or(i64::MAX);
        if cost > self.left {
            return Err(OutOfBudget);
        }
        self.left -= cost;
        Ok(outcome.result.map_err(|error| error.to_string()))
    }
}

/// Answers the questions of expressions.
struct Asker {
    server: Arc<Server>,
    user: User,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("user", &self.user.name).finish_non_exhaustive()
    }
}

impl Authorizer for Asker {
    fn authorize(&self, user: Option<&dodai_cel::User>, request: &Request) -> Decision {
        let named = user.map(|user| User::service_account(&user.namespace, &user.service_account));
        let attributes = match request {
            Request::Path(path) => {
                request::Attributes { verb: path.verb.clone(), path: path.path.clone(), ..Default::default() }
            }
            Request::Resource(resource) => request::Attributes {
                verb: resource.verb.clone(),
                group: resource.group.clone(),
                resource: resource.resource.clone(),
                subresource: resource.subresource.clone(),
                namespace: resource.namespace.clone(),
                name: resource.name.clone(),
                path: String::new(),
            },
        };
        let user = named.as_ref().unwrap_or(&self.user);
        let decision = self.server.rbac.decide(&self.server.store, user, &attributes);
        Decision { allowed: decision.allowed, reason: decision.reason, error: None }
    }
}

/// Stands where only the type counts.
#[derive(Debug)]
struct Nobody;

impl Authorizer for Nobody {
    fn authorize(&self, _: Option<&dodai_cel::User>, _: &Request) -> Decision {
        Decision::default()
    }
}

/// Conditions that all must hold for a policy or a webhook to look at a request.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<Expression>);

impl Conditions {
    pub(crate) fn compile(list: &Value, environment: &Environment) -> Conditions {
        let list = list.as_array().into_iter().flatten();
        Conditions(
            list.map(|condition| {
                let source = condition["expression"].as_str().unwrap_or_default();
                Expression::compile(source, environment, &[Type::Bool])
            })
            .collect(),
        )
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that is false decides, whatever became of the others.
    ///
    /// # Errors
    /// When none is false and one could not be evaluated.
    pub(crate) fn hold(&self, input: &Input, variables: &Variables) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let mut run = Run::new(input.clone(), variables, CONDITIONS_BUDGET);
        let mut errors = Vec::new();
        for expression in &self.0 {
            match run.evaluate(expression) {
                Err(out) => return Err(out.to_string()),
                Ok(Err(error)) => errors.push(error),
                Ok(Ok(Cel::Bool(false))) => return Ok(false),
                Ok(Ok(_)) => {}
            }
        }
        if errors.is_empty() { Ok(true) } else { Err(crate::rbac::aggregate(&errors)) }
    }
}
