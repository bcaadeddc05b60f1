//! Upstream's lists: escaped names, functions and macros by version.

use std::collections::BTreeSet;

use dodai_cel::escape::{escape, unescape};
use dodai_cel::{Environment, compile, known_functions};

use crate::support::{Judge, lines, same, suite, text};

#[test]
fn names_are_escaped_as_upstream_escapes_them() {
    let Some(folder) = suite() else { return };
    let mut judge = Judge::new("escape");
    for case in lines(&folder.join("library/escape.jsonl")) {
        let name = text(&case, "name");
        let got = escape(name);
        let want = case["escapable"].as_bool().unwrap().then(|| text(&case, "escaped").to_owned());
        let mut verdict = same("escaped", &got, &want);
        if let Some(escaped) = &got {
            verdict = verdict.and_then(|()| same("back", &unescape(escaped).as_deref(), &Some(name)));
        }
        judge.case(name, verdict);
    }
    judge.finish();
}

#[test]
fn every_version_has_upstreams_functions() {
    let Some(folder) = suite() else { return };
    let all = lines(&folder.join("library/functions.jsonl"));
    for minor in 25..=36 {
        let first = |case: &serde_json::Value| {
            text(case, "first").trim_start_matches("<=").trim_start_matches("1.").parse::<u32>().unwrap()
        };
        let want: BTreeSet<(String, String)> = all
            .iter()
            .filter(|case| first(case) <= minor)
            .map(|case| (text(case, "function").to_owned(), text(case, "overload").to_owned()))
            .collect();
        let got: BTreeSet<(String, String)> = known_functions(minor)
            .into_iter()
            .filter(|(name, _)| !name.starts_with("jsonpatch"))
            .map(|(name, overload)| (name.to_owned(), overload.to_string()))
            .collect();
        assert_eq!(got, want, "1.{minor}");
    }
}

#[test]
fn every_version_has_upstreams_macros() {
    let Some(folder) = suite() else { return };
    for case in lines(&folder.join("library/macros.jsonl")) {
        let minor: u32 = text(&case, "version").trim_start_matches("1.").parse().unwrap();
        let environment = Environment::new(minor);
        let listed: BTreeSet<&str> =
            case["macros"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        for (name, source) in [
            ("all:2:true", "[1].all(x, x > 0)"),
            ("all:3:true", "[1].all(i, x, x > 0)"),
            ("existsOne:3:true", "[1].existsOne(i, x, x > 0)"),
            ("exists_one:2:true", "[1].exists_one(x, x > 0)"),
            ("filter:2:true", "[1].filter(x, x > 0)"),
            ("map:3:true", "[1].map(x, x > 0, x)"),
            ("optMap:2:true", "{'a': 1}.?a.optMap(x, x)"),
            ("transformMapEntry:4:true", "[1].transformMapEntry(i, x, true, {i: x})"),
            ("sortBy:2:true", "[1].sortBy(x, x)"),
        ] {
            let compiled = compile(source, &environment);
            assert_eq!(compiled.is_ok(), listed.contains(name), "1.{minor} {source}: {compiled:?}");
        }
    }
}
