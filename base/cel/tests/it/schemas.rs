//! Upstream's cases of rules in schemas: what is wrong with an object, what finding it cost, what compiles.

use dodai_cel::rules::{self, Limits, Validator};
use serde_json::Value as Json;

use crate::support::{Judge, lines, same, suite, text};

const FILES: [&str; 11] = [
    "TestCELMaxRecursionDepth",
    "TestCELValidationContextCancellation",
    "TestCELValidationLimit",
    "TestCelCostStability",
    "TestMessageExpression",
    "TestOptionalOldSelf",
    "TestOptionalOldSelfCheckForNull",
    "TestOptionalOldSelfIsOptionalType",
    "TestRatcheting",
    "TestReasonAndFldPath",
    "TestValidationExpressions",
];

/// The version stored rules are compiled for.
const MINOR: u32 = 35;

fn over_all(look: &str, judge_one: fn(&Json, &rules::Report) -> Result<(), String>) {
    let Some(folder) = suite() else { return };
    let mut judge = Judge::new(look);
    for file in FILES.iter().copied().chain(["TestValidationExpressionsAtSchemaLevels"]) {
        for case in lines(&folder.join(format!("crd/validate-{file}.jsonl"))) {
            let old = (!case["oldObj"].is_null()).then_some(&case["oldObj"]);
            let is_resource = case["isResourceRoot"].as_bool().unwrap();
            let limits = Limits {
                call: case["perCallLimit"].as_u64().unwrap(),
                budget: case["costBudget"].as_i64().unwrap(),
            };
            let new = match case["rulesOnlyInAllOf"].as_bool() {
                Some(true) => Validator::with_all_of,
                _ => Validator::new,
            };
            let report = match new(&case["schema"], is_resource, MINOR) {
                Some(validator) => {
                    let ratcheting = case["ratcheting"].as_bool().unwrap_or(false);
                    validator.validate("root", &case["obj"], old, limits, ratcheting)
                }
                None => rules::Report { remaining: limits.budget, ..rules::Report::default() },
            };
            let verdict = judge_one(&case, &report);
            let verdict = verdict.map_err(|error| format!("{}\n  {error}", rules_of(&case["schema"])));
            judge.case(&format!("{file}/{}", short(text(&case, "name"))), verdict);
        }
    }
    judge.finish();
}

/// The end of a very long name.
fn short(name: &str) -> String {
    let name = name.split_once('/').map_or(name, |(_, rest)| rest);
    match name.char_indices().nth(150) {
        Some((at, _)) => format!("{}... {}", &name[..at], name.len()),
        None => name.to_owned(),
    }
}

fn rules_of(schema: &Json) -> String {
    let rules: Vec<String> = schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|rule| rule["rule"].as_str().unwrap_or_default().chars().take(200).collect())
        .collect();
    rules.join(" ;; ")
}

#[test]
fn objects_have_upstreams_problems() {
    over_all("problems", |case, report| {
        let mut want: Vec<(String, String)> = case["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| (text(error, "type").to_owned(), text(error, "field").to_owned()))
            .collect();
        let mut got: Vec<(String, String)> = report
            .problems
            .iter()
            .map(|problem| (problem.reason.as_str().to_owned(), problem.field.clone()))
            .collect();
        want.sort();
        got.sort();
        same("problems", &got, &want).map_err(|error| format!("{error}\n  {:?}", report.problems))?;
        let n_warnings = case["warnings"].as_array().map_or(0, Vec::len);
        same("warnings", &report.warnings.len(), &n_warnings)
    });
}

#[test]
fn problems_have_upstreams_words() {
    over_all("details", |case, report| {
        let mut want: Vec<String> = case["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| text(error, "message").replace("selfType<N>", "selfType"))
            .collect();
        let mut got: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        want.sort();
        got.sort();
        same("messages", &got, &want)
    });
}

#[test]
fn rules_cost_what_they_cost_upstream() {
    over_all("run-costs", |case, report| match case["remainingBudget"].as_i64() {
        Some(want) => same("remaining", &report.remaining, &want),
        None => Ok(()),
    });
}

#[test]
fn rules_compile_or_fail_as_upstream() {
    let Some(folder) = suite() else { return };
    let mut judge = Judge::new("compile");
    for file in ["TestCelCompilation", "TestCostEstimation", "TestCelEstimatedCostStability"] {
        for case in lines(&folder.join(format!("crd/compile-{file}.jsonl"))) {
            let compiled = rules::compile_rules(&case["schema"], false, MINOR);
            let results = case["results"].as_array().unwrap();
            let mut verdict = same("number", &compiled.len(), &results.len());
            for (rule, want) in compiled.iter().zip(results) {
                verdict = verdict.and_then(|()| judge_rule(rule, want));
            }
            judge.case(&format!("{file}/{}", short(text(&case, "name"))), verdict);
        }
    }
    judge.finish();
}

fn judge_rule(rule: &rules::Rule, want: &Json) -> Result<(), String> {
    let detail = |error: &Json| error["detail"].as_str().map(|text| text.replace("selfType<N>", "selfType"));
    let got = rule.program.as_ref().err().map(ToString::to_string);
    same("error", &got, &detail(&want["error"]))?;
    let got = rule.message_program.as_ref().err().map(ToString::to_string);
    same("message error", &got, &detail(&want["messageExpressionError"]))?;
    same("oldSelf", &rule.uses_old_self, &want["usesOldSelf"].as_bool().unwrap())?;
    match want["fieldPath"].as_str() {
        Some(path) => same("path", &rule.field_path.as_deref().unwrap_or("?"), &path),
        None => Ok(()),
    }
}

#[test]
fn estimated_costs_are_upstreams() {
    let Some(folder) = suite() else { return };
    let mut judge = Judge::new("estimates");
    for file in ["TestCelCompilation", "TestCostEstimation", "TestCelEstimatedCostStability"] {
        for case in lines(&folder.join(format!("crd/compile-{file}.jsonl"))) {
            let compiled = rules::compile_rules(&case["schema"], false, MINOR);
            let mut verdict = Ok(());
            for (rule, want) in compiled.iter().zip(case["results"].as_array().unwrap()) {
                verdict = verdict
                    .and_then(|()| same("cost", &rule.cost_estimate_max, &want["maxCost"].as_u64().unwrap()))
                    .and_then(|()| {
                        let got = &rule.message_cost_estimate_max;
                        same("message", got, &want["messageExpressionMaxCost"].as_u64().unwrap())
                    })
                    .and_then(|()| {
                        same("cardinality", &rule.cardinality_max, &want["maxCardinality"].as_u64().unwrap())
                    });
            }
            let verdict = verdict.map_err(|error| format!("{} {error}", rules_of(&case["schema"])));
            judge.case(&format!("{file}/{}", short(text(&case, "name"))), verdict);
        }
    }
    judge.finish();
}

#[test]
fn field_paths_are_read_as_upstream_reads_them() {
    let Some(folder) = suite() else { return };
    let mut judge = Judge::new("field-path");
    for case in lines(&folder.join("crd/field-path.jsonl")) {
        let got = rules::field_path(text(&case, "fieldPath"), &case["schema"]);
        let want = match case["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(text(&case, "path").to_owned()),
        };
        judge.case(text(&case, "name"), same("path", &got.map_err(|error| error.to_string()), &want));
    }
    judge.finish();
}
