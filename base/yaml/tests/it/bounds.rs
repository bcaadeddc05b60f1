//! Small texts that would become large work, and texts that are wrong: refused, at their place.

use dodai_yaml::{ErrorKind, limits, parse};

fn refused(text: &str) -> String {
    match parse(text).and_then(|documents| documents.iter().try_for_each(|d| d.to_json().map(drop))) {
        Ok(()) => panic!("accepted: {text:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_yaml_bomb_is_refused_without_being_expanded() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..=9 {
        let item = format!("*a{}", i - 1);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", [item.as_str(); 10].join(", ")));
    }
    let error = parse(&bomb).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::ExpansionTooLarge { max: limits::EXPANSION_BYTES_MAX });

    let text = "x".repeat(100_000);
    let long = format!("a: &a {text}\nb: [{}]\n", ["*a"; 90].join(", "));
    assert_eq!(
        parse(&long).unwrap_err().kind(),
        &ErrorKind::ExpansionTooLarge { max: limits::EXPANSION_BYTES_MAX }
    );
}

#[test]
fn aliases_are_counted_and_may_not_contain_themselves() {
    let allowed = format!("a: &a 1\nb: [{}]\n", ["*a"; limits::ALIASES_MAX].join(", "));
    assert!(parse(&allowed).unwrap()[0].to_json().is_ok());
    let more = format!("a: &a 1\nb: [{}]\n", ["*a"; limits::ALIASES_MAX + 1].join(", "));
    assert_eq!(parse(&more).unwrap_err().kind(), &ErrorKind::TooManyAliases { max: limits::ALIASES_MAX });
    assert_eq!(parse("a: &a [*a]").unwrap_err().kind(), &ErrorKind::AliasInItself);
    assert_eq!(parse("a: &a {b: {c: *a}}").unwrap_err().kind(), &ErrorKind::AliasInItself);
}

#[test]
fn depth_is_bounded_for_every_style_and_through_aliases() {
    let n = limits::DEPTH_MAX;
    let flow = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(parse(&flow(n)).unwrap()[0].to_json().is_ok());
    assert_eq!(parse(&flow(n + 1)).unwrap_err().kind(), &ErrorKind::TooDeep { max: limits::DEPTH_MAX });
    assert_eq!(
        parse(&"- ".repeat(n + 1)).unwrap_err().kind(),
        &ErrorKind::TooDeep { max: limits::DEPTH_MAX }
    );
    let block: String = (0..=n).map(|i| format!("{}k:\n", " ".repeat(i))).collect();
    assert_eq!(parse(&block).unwrap_err().kind(), &ErrorKind::TooDeep { max: limits::DEPTH_MAX });
    let half = n / 2;
    let through = format!("a: &a {}\nb: {}*a{}\n", flow(half), "[".repeat(half), "]".repeat(half));
    assert_eq!(parse(&through).unwrap_err().kind(), &ErrorKind::TooDeep { max: limits::DEPTH_MAX });
}

#[test]
fn size_is_bounded() {
    let text = format!("a: {}", "x".repeat(limits::TEXT_BYTES_MAX));
    assert!(matches!(parse(&text).unwrap_err().kind(), ErrorKind::TooLarge { .. }));
    let nodes = "- a\n".repeat(limits::NODES_MAX);
    assert_eq!(parse(&nodes).unwrap_err().kind(), &ErrorKind::TooManyNodes { max: limits::NODES_MAX });
    let documents = "--- a\n".repeat(limits::DOCUMENTS_MAX + 1);
    assert_eq!(
        parse(&documents).unwrap_err().kind(),
        &ErrorKind::TooManyDocuments { max: limits::DOCUMENTS_MAX }
    );
}

#[test]
fn what_is_wrong_is_said_at_its_place() {
    let cases = [
        (
            "spec:\n  list:\n  - é: 1\n    b: 2\n    é: 3\n",
            "line 5, column 5: duplicate key `é`, first given in line 3 (spec.list[0])",
        ),
        (
            "a.b/c:\n  x: 1\n  \"x\": 2\n",
            "line 3, column 3: duplicate key `x`, first given in line 2 ([\"a.b/c\"])",
        ),
        ("a: {1: x, 0x1: y}", "line 1, column 11: duplicate key `1`, first given in line 1 (a)"),
        ("yes: 1\ntrue: 2", "line 2, column 1: duplicate key `true`, first given in line 1"),
        ("a:\n\tb: 1\n", "line 2, column 1: a tab in the indentation; use spaces"),
        ("\ta: 1\n", "line 1, column 1: a tab in the indentation; use spaces"),
        (
            "a: {b:}",
            "line 1, column 6: `:` before a bracket or comma is read differently by different programs; put a space after it",
        ),
        (
            "a:\n- x: .inf\n",
            "line 2, column 6: infinity and not-a-number have no form in JSON; put the word in quotes if text is meant (a[0].x)",
        ),
        ("a: !!int hush\n", "line 1, column 10: the tag `!!int` does not fit: the value reads as text (a)"),
        ("a: !!binary '*'\n", "line 1, column 13: the `!!binary` value is not base64 (a)"),
        ("~: 1\n", "line 1, column 1: a null cannot be a key"),
        ("? [a]\n: 1\n", "line 1, column 3: a list cannot be a key"),
        ("b: {<<: 1}\n", "line 1, column 9: `<<` needs a map, or a list of maps (b)"),
        ("a: *nothing\n", "line 1, column 4: the alias has no anchor before it"),
        (
            "é: \u{7}\n",
            "line 1, column 4: control character U+0007 is not allowed; write it as an escape in double quotes",
        ),
        ("a: 'x\n", "line 1, column 4: unclosed quote"),
    ];
    for (text, want) in cases {
        assert_eq!(refused(text), want, "{text:?}");
    }
}

#[test]
fn no_message_shows_a_value() {
    let secret = "hunter2";
    for text in [
        format!("a: !!int {secret}"),
        format!("a: !!binary '{secret}'"),
        format!("a: !!timestamp {secret}"),
        format!("a: \"{secret}\n"),
        format!("a: {{<<: {secret}}}"),
    ] {
        assert!(!refused(&text).contains(secret), "{text:?}");
    }
}
