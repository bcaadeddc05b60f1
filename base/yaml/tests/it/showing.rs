//! Errors at their line, and "did you mean".

use dodai_yaml::{Position, parse, render_snippet, suggest};

const APP: &str = "kind: App\nspec:\n  processes:\n    web:\n      replica: 2\n";

#[test]
fn an_unknown_field_is_marked_at_its_key_with_the_suggestion() {
    let document = parse(APP).unwrap().remove(0);
    let place = document.locate("spec.processes.web.replica");
    assert!(place.exact);
    let shown = render_snippet(
        "apps/shop/app.yaml",
        APP,
        place.position,
        place.len,
        "unknown field `replica` (spec.processes.web)",
        Some("did you mean `replicas`?"),
    );
    let want = "\
apps/shop/app.yaml:5:7: error: unknown field `replica` (spec.processes.web)
  |
5 |       replica: 2
  |       ^^^^^^^ did you mean `replicas`?
";
    assert_eq!(shown, want);
}

#[test]
fn marks_stand_under_tabs_and_wide_characters_and_long_lines_are_cut() {
    let at = |line, column| Position { line, column };
    let shown = render_snippet("f", "x: '\t価格' # y", at(1, 9), 1, "m", None);
    assert_eq!(shown, "f:1:9: error: m\n  |\n1 | x: '    価格' # y\n  |              ^\n");
    let long = format!("key: {}!{}", "a".repeat(500), "b".repeat(500));
    let shown = render_snippet("f", &long, at(1, 506), 1, "m", None);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[2].chars().count() < 130, "{shown}");
    let marked = lines[2].chars().nth(lines[3].chars().position(|c| c == '^').unwrap());
    assert_eq!(marked, Some('!'));
    assert_eq!(render_snippet("f", "a", at(7, 1), 1, "m", Some("h")), "f:7:1: error: m\nhint: h\n");
    let escape = render_snippet("f", "a: \u{1b}[31m\rb", at(1, 1), 1, "m", None);
    assert!(!escape.contains('\u{1b}'));
    // Past the end of the line there is still a mark.
    assert_eq!(
        render_snippet("f", "ab\r\ncd", at(1, 3), 5, "m", None),
        "f:1:3: error: m\n  |\n1 | ab\n  |   ^\n"
    );
}

#[test]
fn an_error_renders_itself() {
    let text = "a: 1\nb: 2\na: 3\n";
    let error = parse(text).unwrap_err();
    let want = "x.yaml:3:1: error: duplicate key `a`, first given in line 1\n  |\n3 | a: 3\n  | ^\n";
    assert_eq!(error.render("x.yaml", text), want);
}

#[test]
fn the_nearest_known_name_is_suggested_and_nothing_far() {
    let known = ["replicas", "nodePort", "image", "imagePullPolicy", "env", "port", "x"];
    let cases = [
        ("replica", Some("replicas")),
        ("repilcas", Some("replicas")),
        ("node_port", Some("nodePort")),
        ("nodeport", Some("nodePort")),
        ("Image", Some("image")),
        ("imagePullPolcy", Some("imagePullPolicy")),
        ("envs", Some("env")),
        ("ports", Some("port")),
        ("schedule", None),
        ("y", None),
        ("", None),
    ];
    for (unknown, want) in cases {
        assert_eq!(suggest(unknown, known.into_iter()), want, "{unknown}");
    }
    assert_eq!(suggest(&"a".repeat(100_000), known.into_iter()), None);
}
