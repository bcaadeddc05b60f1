//! Upstream's expressions: status and value, type, run-time cost, and (as a second look) the messages.

use std::sync::Arc;

use base64::Engine;
use dodai_cel::{
    Authorizer, Bindings, Decision, Environment, Outcome, Request, User, Value, compile, estimate,
};
use serde_json::{Value as Json, json};

use crate::support::{Judge, lines, same, suite, text};

const FILES: [&str; 7] = ["extra", "cost", "cidr", "ip", "quantity", "semver", "format"];

#[derive(Debug)]
struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _: Option<&User>, _: &Request) -> Decision {
        Decision { allowed: true, ..Decision::default() }
    }
}

/// What came out: the result type and the outcome, or the messages of the compiler.
type Ran = Result<(String, Outcome), Vec<String>>;

fn run(source: &str) -> Ran {
    let environment = Environment::new(36).with_authorizer();
    let program = compile(source, &environment)
        .map_err(|errors| errors.0.into_iter().map(|issue| issue.message).collect::<Vec<_>>())?;
    let bindings = Bindings::new().with("authorizer", Value::authorizer(Arc::new(AllowAll)));
    Ok((program.result_type().to_string(), program.run(&bindings, u64::MAX)))
}

fn over_all(look: &str, judge_one: fn(&Json, &Ran) -> Result<(), String>) {
    let Some(folder) = suite() else { return };
    let mut judge = Judge::new(look);
    for file in FILES {
        for case in lines(&folder.join(format!("library/{file}.jsonl"))) {
            let want = &case["baseEnv"];
            if want.is_null() {
                continue;
            }
            let ran = run(text(&case, "expr"));
            let verdict =
                judge_one(want, &ran).map_err(|error| format!("{}\n  {error}", text(&case, "expr")));
            judge.case(&format!("{file}/{}", text(&case, "name")), verdict);
        }
    }
    judge.finish();
}

#[test]
fn expressions_have_upstreams_status_and_value() {
    over_all("values", |want, ran| match (text(want, "status"), ran) {
        ("compileError", Err(_)) => Ok(()),
        ("runtimeError" | "programError", Ok((_, Outcome { result: Err(_), .. }))) => Ok(()),
        ("ok", Ok((declared, Outcome { result: Ok(value), .. }))) => {
            let declared = declared.replace("(null)", "(null_type)");
            same("type", &declared, &text(want, "outputType").to_owned())?;
            if want["result"]["go"].is_null() { same("value", &show(value), &want["result"]) } else { Ok(()) }
        }
        (status, ran) => Err(format!("want {status}, got {ran:?}")),
    });
}

#[test]
fn expressions_cost_what_they_cost_upstream() {
    over_all("costs", |want, ran| match (want["runtimeCost"].as_u64(), ran) {
        (Some(cost), Ok((_, outcome))) => same("cost", &outcome.cost, &cost),
        (Some(cost), Err(messages)) => Err(format!("want {cost}, got {messages:?}")),
        (None, _) => Ok(()),
    });
}

#[test]
fn expressions_are_estimated_as_upstream_estimates_them() {
    let Some(folder) = suite() else { return };
    let mut judge = Judge::new("base-estimates");
    let environment = Environment::new(36).with_authorizer();
    for file in FILES {
        for case in lines(&folder.join(format!("library/{file}.jsonl"))) {
            let want = &case["baseEnv"];
            let Some(min) = want["estimatedMin"].as_u64() else { continue };
            let got = estimate(text(&case, "expr"), &environment, &|_| None).unwrap();
            let want = (min, want["estimatedMax"].as_u64().unwrap());
            let verdict = same("cost", &(got.min, got.max), &want);
            let verdict = verdict.map_err(|error| format!("{}\n  {error}", text(&case, "expr")));
            judge.case(&format!("{file}/{}", text(&case, "name")), verdict);
        }
    }
    judge.finish();
}

#[test]
fn expressions_fail_with_upstreams_messages() {
    over_all("messages", |want, ran| {
        let wanted: Vec<String> = want["messages"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect();
        let got = match ran {
            Err(messages) => messages.clone(),
            Ok((_, Outcome { result: Err(error), .. })) => vec![error.to_string()],
            Ok(_) => Vec::new(),
        };
        same("messages", &got, &wanted)
    });
}

/// The value in the notation of the data.
fn show(value: &Value) -> Json {
    match value {
        Value::Null => json!({"type": "null", "value": null}),
        Value::Bool(value) => json!({"type": "bool", "value": value}),
        Value::Int(value) => json!({"type": "int", "value": value}),
        Value::Uint(value) => json!({"type": "uint", "value": value}),
        Value::Double(value) if value.is_nan() => json!({"type": "double", "value": "NaN"}),
        Value::Double(value) if value.is_infinite() => {
            json!({"type": "double", "value": if *value > 0.0 { "+Inf" } else { "-Inf" }})
        }
        Value::Double(value) => json!({"type": "double", "value": value}),
        Value::String(text) => json!({"type": "string", "value": &**text}),
        Value::Bytes(bytes) => {
            json!({"type": "bytes", "base64": base64::engine::general_purpose::STANDARD.encode(bytes)})
        }
        Value::Duration(nanoseconds) => json!({"type": "duration", "value": go_duration(*nanoseconds)}),
        Value::Timestamp(at, _) => json!({"type": "timestamp", "value": at.to_string()}),
        Value::List(list) => {
            json!({"type": "list", "value": list.items.iter().map(show).collect::<Vec<_>>()})
        }
        Value::Map(map) => {
            let key = |key: &dodai_cel::Key| match key {
                dodai_cel::Key::Bool(value) => Value::Bool(*value),
                dodai_cel::Key::Int(value) => Value::Int(*value),
                dodai_cel::Key::Uint(value) => Value::Uint(*value),
                dodai_cel::Key::String(text) => Value::String(text.clone()),
            };
            let entries: Vec<Json> =
                map.entries.iter().map(|(name, value)| json!([show(&key(name)), show(value)])).collect();
            json!({"type": "map", "value": entries})
        }
        Value::Optional(None) => json!({"type": "optional"}),
        Value::Optional(Some(inner)) => json!({"type": "optional", "value": show(inner)}),
        Value::Type(name) => json!({"type": "type", "value": &**name}),
        Value::Opaque(opaque) => json!({"type": opaque.type_name(), "value": opaque.text()}),
        Value::Unknown(_) | Value::Invalid(_) => json!({"type": value.type_name()}),
    }
}

/// Go's text of a duration: `1h0m0.5s`.
fn go_duration(nanoseconds: i64) -> String {
    let magnitude = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let decimal = |value: u64, unit: u64| {
        let digits = unit.to_string().len() - 1;
        let text = format!("{}.{:0digits$}", value / unit, value % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match magnitude {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}µs", decimal(n, 1_000)),
        n if n < 1_000_000_000 => format!("{}ms", decimal(n, 1_000_000)),
        n => {
            let minutes = n / 60_000_000_000;
            let seconds = decimal(n % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}
