//! Upstream's cases of selectors, quantities and names, with their messages, from the shared test data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use crate::names;
use crate::schema::quantity;
use crate::selector;

/// Runs a file: `judge` gives what is wrong with a case.
pub(crate) fn run(file: &str, judge: impl Fn(&Value) -> Result<(), String>) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../../../shared/testdata/kube-selectors-quantities").join(format!("{file}.jsonl"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} not found", path.display());
        return;
    };
    let skips =
        std::fs::read_to_string(root.join("../../conformance/kube-selectors-quantities/skip.toml")).unwrap();
    let prefix = format!("{file}:");
    let known: BTreeSet<String> = skips
        .lines()
        .filter_map(|line| {
            line.strip_prefix('"')?.strip_prefix(&prefix)?.split('"').next().map(str::to_owned)
        })
        .collect();
    let mut failed = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let case: Value = serde_json::from_str(line).unwrap();
        if let Err(error) = judge(&case) {
            failed.insert((at + 1).to_string(), format!("{error} in {line}"));
        }
    }
    let new: Vec<_> = failed.iter().filter(|(at, _)| !known.contains(*at)).collect();
    for (at, text) in new.iter().take(12) {
        println!("{file}:{at}: {text}");
    }
    assert!(new.is_empty(), "{} of {} cases of {file} fail", new.len(), text.lines().count());
    let fixed: Vec<_> = known.iter().filter(|at| !failed.contains_key(*at)).collect();
    assert!(fixed.is_empty(), "pass, take them out of skip.toml: {file} {fixed:?}");
}

pub(crate) fn same<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    got: T,
    wanted: U,
) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("got {got:?}, wanted {wanted:?}")) }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn names_are_checked_with_upstreams_texts() {
    run("validation", |case| {
        let (input, number) = (text(&case["input"]), case["input"].as_i64().unwrap_or_default());
        let option = |found: Option<String>| found.into_iter().collect::<Vec<String>>();
        let got = match text(&case["function"]) {
            "IsDNS1123Subdomain" => names::subdomain_errors(input),
            "IsDNS1123SubdomainCaseless" => names::caseless_subdomain(input),
            "IsDNS1123SubdomainWithUnderscore" => names::search_domain(input),
            "IsWildcardDNS1123Subdomain" => names::wildcard(input),
            "IsQualifiedName" => names::qualified_name(input),
            "IsDNS1123Label" => names::label(input),
            "IsDNS1035Label" => names::label_1035(input),
            "IsValidLabelValue" => names::label_value_errors(input),
            "IsPathSegmentName" => names::path_segment(input),
            "IsPathSegmentPrefix" => names::path_segment_prefix(input),
            "IsConfigMapKey" => names::config_key(input),
            "IsFullyQualifiedName" => names::fully_qualified(input),
            "IsValidPortName" => names::text::port_name(input),
            "IsValidPortNum" => option(names::text::in_range(number, 1, 65535)),
            "IsInRange" => {
                let at = |index: usize| case["input"][index].as_i64().unwrap();
                option(names::text::in_range(at(0), at(1), at(2)))
            }
            "IsValidUserID" | "IsValidGroupID" => option(names::text::user_id(number)),
            "IsValidPercent" => option(names::text::percent(input)),
            "IsHTTPHeaderName" => option(names::text::header(input)),
            "IsRelaxedEnvVarName" => names::text::variable(input),
            "IsCIdentifier" => option(names::text::identifier(input)),
            "IsDomainPrefixedPath" => names::text::unused::domain_path(input),
            "IsEnvVarName" => names::text::unused::strict_variable(input),
            "IsDecimalInteger" => option(names::text::unused::decimal_integer(input)),
            "IsDomainPrefixedKey" => names::text::unused::domain_key(input),
            "IsFullyQualifiedDomainName" => names::text::unused::full_domain(input),
            "IsValidIP" => names::net::ip(input),
            "IsValidCIDR" => names::net::cidr(input),
            "IsValidInterfaceAddress" => names::net::interface(input),
            "GetWarningsForIP" => names::net::ip_warnings("f", input),
            "GetWarningsForCIDR" => names::net::cidr_warnings("f", input),
            other => return Err(format!("{other} is not there")),
        };
        same(Value::from(got), case["messages"].clone())
    });
}

#[test]
fn selectors_are_read_and_match_as_upstreams() {
    run("labels-parse", selector::tests::labels_parse);
    run("labels-match", selector::tests::labels_match);
    run("labels-requirement", selector::tests::labels_requirement);
    run("label-selector-object", selector::tests::label_selector_object);
    run("fields-parse", selector::tests::fields_parse);
    run("fields-match", selector::tests::fields_match);
    run("fields-escape", selector::tests::fields_escape);
}

#[test]
fn quantities_are_read_shown_and_computed_as_upstreams() {
    run("quantity-parse", quantity::tests::parse);
    run("quantity-json", quantity::tests::json);
    run("quantity-ops", quantity::tests::operation);
    run("intstr", crate::schema::int_or_string::tests::case);
}
