//! Documents, positions, bounds.

use dodai_yaml::{ErrorKind, NodeKind, Position, ScalarStyle, StructureStyle, from_str_json, parse};
use serde_json::json;

fn at(line: usize, column: usize) -> Option<Position> {
    Some(Position { line, column })
}

#[test]
fn every_spelling_of_a_path_finds_its_field() {
    let text = "\u{feff}spec:\r\n  list:\r\n  - name: é\r\n    x: 1\r\n  - {name: b, \"c.d/e\": [1, ü, z]}\r\n  yes: &a\r\n    k: v\r\n  o: *a\r\n  m:\r\n    <<: *a\r\n";
    let document = parse(text).unwrap().remove(0);
    let cases = [
        ("spec", at(1, 1)),
        ("spec.list", at(2, 3)),
        ("spec.list[0]", at(3, 5)),
        (".spec.list[0].x", at(4, 5)),
        ("spec.list[1][\"c.d/e\"][2]", at(5, 31)),
        ("spec.list[1][c.d/e]", at(5, 15)),
        ("spec.list[1].c.d/e[1]", at(5, 28)),
        ("spec.list[name=\"b\"].name", at(5, 6)),
        ("spec.true.k", at(7, 5)),
        ("spec.o.k", at(7, 5)),
        ("spec.m.k", at(7, 5)),
        ("spec.list[2]", None),
        ("spec.nothing", None),
        ("spec..x", None),
    ];
    for (path, want) in cases {
        assert_eq!(document.position(path), want, "{path}");
    }
    assert_eq!(document.nearest_position("spec.list[1].zzz.y"), at(5, 5).unwrap());
    assert_eq!(document.nearest_position("nothing"), at(1, 1).unwrap());
    assert_eq!(&text[document.range("spec.list[1]").unwrap()], "{name: b, \"c.d/e\": [1, ü, z]}");
    assert_eq!(&text[document.key_range("spec.list[0].x").unwrap()], "x");
}

#[test]
fn documents_without_a_value_are_left_out() {
    let text = "# only a comment\n---\n# another\n---\na: 1\n...\n---\n---\nb: 2\n--- \n# end\n";
    let values: Vec<_> = parse(text).unwrap().iter().map(|d| d.to_json().unwrap()).collect();
    assert_eq!(values, [json!({"a": 1}), json!({"b": 2})]);
    assert!(parse("").unwrap().is_empty());
    assert_eq!(from_str_json("# c\n").unwrap_err().kind(), &ErrorKind::NoDocument);
    let error = from_str_json("a: 1\n---\nb: 1\n").unwrap_err();
    assert_eq!(error.to_string(), "line 3, column 1: one document expected, found 2");
}

#[test]
fn json_is_read_with_tabs_pairs_and_escapes() {
    let text = "{\n\t\"a\": [\n\t\t1.0,\n\t\t\"\\ud83d\\ude00 \\/ \\u00e9\"\n\t],\n\t\"b\":{\"c\":null}\n}\n";
    assert_eq!(from_str_json(text).unwrap(), json!({"a": [1, "😀 / é"], "b": {"c": null}}));
}

#[test]
fn the_tree_keeps_bytes_styles_tags_and_anchors() {
    let text = "a: &x !!str 1\nb: [*x, 'q', \"d\"]\nc: !t # c\n  |-\n  l\n\nd: >\n  f\n  g\n\ne:\nf: {}\n";
    let document = parse(text).unwrap().remove(0);
    let NodeKind::Mapping { entries, style: StructureStyle::Block } = &document.root().kind else { panic!() };
    let value = |i: usize| document.node(entries[i].1);
    let bytes: Vec<&str> = (0..6).map(|i| &text[value(i).range()]).collect();
    assert_eq!(bytes, ["1", "[*x, 'q', \"d\"]", "|-\n  l\n\n", ">\n  f\n  g\n\n", "", "{}"]);
    assert!(value(0).anchored);
    assert_eq!(value(0).tag.as_deref(), Some("tag:yaml.org,2002:str"));
    assert_eq!(value(2).tag.as_deref(), Some("!t"));
    let NodeKind::Sequence { items, style: StructureStyle::Flow } = &value(1).kind else { panic!() };
    assert_eq!(document.node(items[0]).kind, NodeKind::Alias { target: entries[0].1 });
    assert_eq!(document.follow(items[0]), entries[0].1);
    let style = |i: usize| match &document.node(items[i]).kind {
        NodeKind::Scalar { style, .. } => *style,
        _ => panic!(),
    };
    assert_eq!((style(1), style(2)), (ScalarStyle::SingleQuoted, ScalarStyle::DoubleQuoted));
    let absent = value(4).range();
    assert_eq!(&text[absent.start - 2..absent.start], "e:");
}
