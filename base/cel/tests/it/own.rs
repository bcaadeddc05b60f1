//! Our own cases: what needs no shared data.

use std::sync::{Arc, Mutex};

use dodai_cel::rules::{Limits, Reason, Validator};
use dodai_cel::{
    Authorizer, Bindings, Decision, Environment, EvalError, Request, Schema, Type, User, Value, compile,
};
use serde_json::{Value as Json, json};

fn eval(source: &str) -> Json {
    let program = compile(source, &Environment::new(36)).unwrap_or_else(|error| panic!("{source}: {error}"));
    program
        .evaluate(&Bindings::new(), 1_000_000)
        .map_or_else(|error| json!(error.to_string()), |v| v.to_json())
}

#[test]
fn expressions_have_their_values() {
    for (source, want) in [
        ("1 + 2 * 3", json!(7)),
        ("'a' + 'b' == 'ab'", json!(true)),
        ("[1, 2, 3].filter(x, x > 1).map(x, x * 2)", json!([4, 6])),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v + 1)", json!({"a": 2, "b": 3})),
        ("1 / 0 == 1 || true", json!(true)),
        ("1 / 0", json!("division by zero")),
        ("'a-b'.split('-').join('+')", json!("a+b")),
        ("quantity('1Gi').isGreaterThan(quantity('1G'))", json!(true)),
        ("ip('10.0.0.1') == ip('10.0.0.1') && cidr('10.0.0.0/8').containsIP('10.1.2.3')", json!(true)),
        ("'%s: %d'.format(['n', 3])", json!("n: 3")),
        ("optional.none().orValue('x')", json!("x")),
        ("string(timestamp('2020-01-01T00:00:00+02:00'))", json!("2020-01-01T00:00:00+02:00")),
        ("'x\\u00e9'.matches('^\\\\w+$')", json!(false)),
        ("[[1, 2], [3]].flatten()", json!([1, 2, 3])),
        ("1 in [1, 2] && !('c' in {'a': 1})", json!(true)),
    ] {
        assert_eq!(eval(source), want, "{source}");
    }
}

#[test]
fn errors_show_the_place() {
    let environment = Environment::new(36).with("self", Type::Int);
    let errors = compile("self > 1 &&\n  size(self) == 2", &environment).unwrap_err();
    let want = "ERROR: <input>:2:7: found no matching overload for 'size' applied to '(int)'\n |   size(self) == 2\n | ......^";
    assert_eq!(errors.to_string(), want);
    assert_eq!((errors.0[0].line, errors.0[0].column), (Some(2), 7));
}

#[test]
fn a_newer_function_is_unknown_to_an_older_version() {
    assert!(compile("[2, 1].sort() == [1, 2]", &Environment::new(33)).is_err());
    assert!(compile("[2, 1].sort() == [1, 2]", &Environment::new(34)).is_ok());
    assert!(compile("jsonpatch.escapeKey('a/b')", &Environment::new(36)).is_err());
    let program = compile("jsonpatch.escapeKey('a/b~')", &Environment::new(36).with_jsonpatch()).unwrap();
    assert_eq!(program.evaluate(&Bindings::new(), 100).unwrap().to_json(), json!("a~1b~0"));
}

#[test]
fn cost_ends_an_evaluation_and_nothing_absorbs_that() {
    let source = "true || lists.range(100).all(a, lists.range(100).all(b, a + b >= 0))";
    let program = compile(&source.replace("true ||", "false ||"), &Environment::new(36)).unwrap();
    assert_eq!(program.evaluate(&Bindings::new(), 1_000).unwrap_err(), EvalError::CostLimit);
    assert_eq!(program.evaluate(&Bindings::new(), 1_000_000).unwrap().to_json(), json!(true));
    let program = compile("lists.range(999999999).size() > 0 || true", &Environment::new(36)).unwrap();
    assert_eq!(program.evaluate(&Bindings::new(), 1_000_000).unwrap_err(), EvalError::CostLimit);
}

#[test]
fn a_schema_types_the_values() {
    let schema = json!({"type": "object", "properties": {
        "port": {"x-kubernetes-int-or-string": true},
        "ratio": {"type": "number"},
        "wait": {"type": "string", "format": "duration"},
        "a-b": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set"},
    }});
    let object = json!({"port": 80, "ratio": 2, "wait": "90s", "a-b": [2, 1]});
    let environment = Environment::new(36).with("self", Type::from_schema(&schema));
    let bindings = Bindings::new().with("self", Schema::new(&schema).value(&object));
    for source in [
        "self.port == 80",
        "self.ratio == 2.0",
        "self.wait > duration('1m')",
        "self.a__dash__b == [1, 2]",
        "self.a__dash__b + [3] == [3, 2, 1]",
    ] {
        let program = compile(source, &environment).unwrap();
        assert_eq!(program.evaluate(&bindings, 1_000).unwrap().to_json(), json!(true), "{source}");
    }
    assert!(compile("self.missing == 1", &environment).is_err());
}

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<(Option<User>, Request)>>);

impl Authorizer for Recorder {
    fn authorize(&self, user: Option<&User>, request: &Request) -> Decision {
        self.0.lock().unwrap().push((user.cloned(), request.clone()));
        Decision { allowed: user.is_none(), reason: "recorded".to_owned(), error: None }
    }
}

#[test]
fn the_caller_decides_what_is_allowed() {
    let source = "authorizer.group('apps').resource('deployments').namespace('a').check('get').allowed() && \
         !authorizer.serviceAccount('a', 'b').path('/healthz').check('get').allowed()";
    let program = compile(source, &Environment::new(36).with_authorizer()).unwrap();
    let recorder = Arc::new(Recorder::default());
    let bindings = Bindings::new().with("authorizer", Value::authorizer(recorder.clone()));
    assert_eq!(program.evaluate(&bindings, 1_000_000).unwrap().to_json(), json!(true));
    let asked = recorder.0.lock().unwrap();
    assert!(matches!(&asked[0], (None, Request::Resource(request)) if request.namespace == "a"));
    assert!(matches!(&asked[1], (Some(user), Request::Path(_)) if user.service_account == "b"));
}

#[test]
fn rules_of_a_schema_name_the_field_and_the_reason() {
    let schema = json!({"type": "object", "properties": {"replicas": {"type": "integer",
    "x-kubernetes-validations": [
        {"rule": "self >= 0", "message": "not negative"},
        {"rule": "self >= oldSelf", "messageExpression": "'was ' + string(oldSelf)", "reason": "FieldValueForbidden"},
    ]}}});
    let validator = Validator::new(&schema, true, 35).unwrap();
    let run = |object: &Json, old: Option<&Json>| {
        let report = validator.validate("spec", object, old, Limits::default(), false);
        report.problems.iter().map(|problem| (problem.reason, problem.to_string())).collect::<Vec<_>>()
    };
    let (two, three) = (json!({"replicas": 2}), json!({"replicas": 3}));
    assert_eq!(run(&three, Some(&two)), []);
    assert_eq!(run(&two, Some(&three)), [(Reason::Forbidden, "spec.replicas: Forbidden: was 3".to_owned())]);
    let wrong = json!({"replicas": -1});
    assert_eq!(run(&wrong, None)[0].1, "spec.replicas: Invalid value: -1: not negative");
    assert!(Validator::new(&json!({"type": "object"}), true, 35).is_none());
}
