//! What the writer writes.

use dodai_yaml::{from_str_json, to_string};
use serde_json::json;

#[test]
fn yaml_for_people_looks_like_kubectl() {
    let value = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "annotations": {"a.b/c": "yes", "empty": "", "n": "1"}, "labels": {}},
        "data": {
            "script": "#!/bin/sh\nset -e\n\n  exec x\n",
            "no-end": "a\nb",
            "many-ends": "a\nb\n\n",
            "leading": "  a\nb\n",
            "escape": "a\u{7}\u{2028}\\\"",
            "tab": "a\tb",
            "date": "2001-01-01", "octal": "0o17", "time": "1:30", "port": "8080:80", "url": "http://x:80/y?a=b",
            "image": "nginx:1.27", "flag": "--port=80", "dash": "-", "colon": "a: b", "hash": "a #b", "star": "*",
            "umlaut": "größe", "version": "v1", "merge": "<<", "percent": "10%", "point": ".hidden", "tilde": "~"
        },
        "list": [[1, [2.5, null]], {"a": [], "b": [{"c": true}]}, {}, "x\ny\n", -1, 1e300, 1e-7, 18446744073709551615_u64],
    });
    let want = r#"apiVersion: v1
data:
  colon: "a: b"
  dash: "-"
  date: "2001-01-01"
  escape: "a\x07\u2028\\\""
  flag: --port=80
  hash: "a #b"
  image: nginx:1.27
  leading: "  a\nb\n"
  many-ends: |+
    a
    b

  merge: "<<"
  no-end: |-
    a
    b
  octal: "0o17"
  percent: 10%
  point: .hidden
  port: "8080:80"
  script: |
    #!/bin/sh
    set -e

      exec x
  star: "*"
  tab: "a\tb"
  tilde: "~"
  time: "1:30"
  umlaut: größe
  url: http://x:80/y?a=b
  version: v1
kind: ConfigMap
list:
- - 1
  - - 2.5
    - null
- a: []
  b:
  - c: true
- {}
- |
  x
  y
- -1
- 1e+300
- 1e-7
- 18446744073709551615
metadata:
  annotations:
    a.b/c: "yes"
    empty: ""
    "n": "1"
  labels: {}
  name: a
"#;
    assert_eq!(to_string(&value), want);
    assert_eq!(from_str_json(want).unwrap(), value);
}

#[test]
fn single_values_are_documents() {
    for (value, want) in [
        (json!(null), "null\n"),
        (json!([]), "[]\n"),
        (json!({}), "{}\n"),
        (json!("a\nb\n"), "|\n  a\n  b\n"),
        (json!(1.0), "1\n"),
        (json!("1.0"), "\"1.0\"\n"),
    ] {
        assert_eq!(to_string(&value), want);
    }
    let long = json!({"k".repeat(2000): {"a": 1}, "l".repeat(200): [1], "m".repeat(129): "x"});
    assert_eq!(from_str_json(&to_string(&long)).unwrap(), long);
}
