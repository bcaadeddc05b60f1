//! Replacing one scalar leaves every other byte alone.

use dodai_yaml::{from_str_json, parse, replace_scalar};
use serde_json::{Value, json};

#[test]
fn the_style_and_every_other_byte_stay() {
    let cases: &[(&str, &str, Value, &str)] = &[
        ("image: a:1 # pinned\n", "image", json!("a:2"), "image: a:2 # pinned\n"),
        ("image: \"a:1\"\n", "image", json!("a\"2"), "image: \"a\\\"2\"\n"),
        ("image: 'a:1'\n", "image", json!("it's"), "image: 'it''s'\n"),
        ("image: 'a:1'\n", "image", json!("two\nlines"), "image: \"two\\nlines\"\n"),
        ("n: 1\r\nm: 2\r\n", "n", json!(3), "n: 3\r\nm: 2\r\n"),
        ("n: 1\n", "n", json!("1"), "n: \"1\"\n"),
        ("n: \"1\"\n", "n", json!(1), "n: 1\n"),
        ("n: 1\n", "n", json!(null), "n: null\n"),
        ("n: 1\n", "n", json!(2.0), "n: 2\n"),
        ("n: yes\n", "n", json!("no"), "n: \"no\"\n"),
        ("n:\nm: 1\n", "n", json!("x"), "n: x\nm: 1\n"),
        ("n: # empty\nm: 1\n", "n", json!("x"), "n: x # empty\nm: 1\n"),
        ("n:", "n", json!(false), "n: false"),
        ("l:\n-\n- 2\n", "l[0]", json!(1), "l:\n- 1\n- 2\n"),
        ("{a: , b: [1, 2]}\n", "a", json!("x, y"), "{a: \"x, y\" , b: [1, 2]}\n"),
        ("{a: 1, b: [1, 2]}\n", "b[1]", json!("k]"), "{a: 1, b: [1, \"k]\"]}\n"),
        ("a: &x 1\nb: 2\n", "a", json!(5), "a: &x 5\nb: 2\n"),
        ("a: !!str 1\n", "a", json!("2"), "a: !!str \"2\"\n"),
        ("a: one\n  two\nb: 1\n", "a", json!("three"), "a: three\nb: 1\n"),
        ("a: |\n  x\n  y\n\nb: 1\n", "a", json!("p\nq\nr\n"), "a: |\n  p\n  q\n  r\n\nb: 1\n"),
        ("a: |- # why\n    x\nb: 1\n", "a", json!("p\n\nq"), "a: |- # why\n    p\n\n    q\nb: 1\n"),
        ("a: >\r\n  x\r\n  y\r\nb: 1\r\n", "a", json!("p\nq\n"), "a: |\r\n  p\r\n  q\r\nb: 1\r\n"),
        ("a: |\n  x\n  y\nb: 1\n", "a", json!(7), "a: 7\nb: 1\n"),
        ("a: | # c\n  x\n  y\n# d\nb: 1\n", "a", json!("z"), "a: z # c\n# d\nb: 1\n"),
        ("a: |\nb: 1\n", "a", json!("z"), "a: z\nb: 1\n"),
        ("a: |\n  x", "a", json!("p\nq\n"), "a: |\n  p\n  q\n"),
        ("- - |\n    x\n  - 1\n", "[0][0]", json!("p\nq"), "- - |-\n    p\n    q\n  - 1\n"),
        ("é: ü\n\"k.l\": 1\n", "[\"k.l\"]", json!("ö"), "é: ü\n\"k.l\": ö\n"),
    ];
    for (text, path, new, want) in cases {
        let got = replace_scalar(text, path, new).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(&got, want, "{text:?}");
    }
}

#[test]
fn what_would_not_read_back_as_intended_is_refused() {
    let cases: &[(&str, &str, Value, &str)] = &[
        ("a: 1\n", "b", json!(1), "line 1, column 1: no field `b`"),
        (
            "a: [1]\n",
            "a",
            json!(1),
            "line 1, column 4: `a` is a list; only a scalar can be replaced in place",
        ),
        ("a: 1\n", "a", json!([1]), "the new value of `a` is a list; only a scalar can be put in place"),
        (
            "a: &x {k: 1}\nb: *x\n",
            "b.k",
            json!(2),
            "line 1, column 11: `b.k` comes from an alias or a merge key; change it where the anchor is",
        ),
        (
            "a: &x 1\nb: *x\n",
            "b",
            json!(2),
            "line 2, column 4: `b` comes from an alias or a merge key; change it where the anchor is",
        ),
        (
            "a: &x {k: 1}\nb: {<<: *x}\n",
            "b.k",
            json!(2),
            "line 1, column 11: `b.k` comes from an alias or a merge key; change it where the anchor is",
        ),
        (
            "a: &x {k: 1}\nb: *x\n",
            "a.k",
            json!(2),
            "line 1, column 11: replacing `a.k` in place would not read back as intended: an alias repeats it elsewhere",
        ),
        (
            "a: !!str 1\n",
            "a",
            json!(2),
            "line 1, column 10: replacing `a` in place would not read back as intended: the new value would read as something else",
        ),
        ("a: 1\n---\nb: 1\n", "a", json!(2), "line 3, column 1: one document expected, found 2"),
    ];
    for (text, path, new, want) in cases {
        let error = replace_scalar(text, path, new).expect_err(text);
        assert_eq!(&error.to_string(), want, "{text:?}");
    }
}

#[test]
fn one_document_of_many_is_changed() {
    let text = "# first\na: 1\n---\n---\na: 1 # second\n";
    let documents = parse(text).unwrap();
    let got = documents[1].replace_scalar("a", &json!(2)).unwrap();
    assert_eq!(got, "# first\na: 1\n---\n---\na: 2 # second\n");
    assert!(from_str_json(&got).is_err());
}
