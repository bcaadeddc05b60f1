//! The Kubernetes dialect against the answers of the real library.

use serde_json::Value;

/// Written by `tests/reference/main.go`: what `sigs.k8s.io/yaml` makes of each text.
const TABLE: &str = include_str!("../data/kubernetes_scalars.json");

/// Texts that are read otherwise on purpose, and why.
const KNOWN_DIFFERENCES: &[(&str, &str)] = &[
    ("v: -0.0", "Kubernetes reads the `-0` of that JSON as the integer 0"),
    ("v: \"\\/\"", "YAML 1.2 and JSON allow the escape"),
    ("a: \"\\ud83d\\ude00\"", "JSON allows the pair"),
    ("a: 1\n\t\n", "a line of blanks means nothing"),
    ("a: \u{85}b", "a line break in YAML 1.1, text in 1.2"),
    ("a: \u{2028}b", "a line break in YAML 1.1, text in 1.2"),
    ("a: \u{feff}b", "an invisible character at the start of a value is refused"),
    ("%YAML 1.2\n---\na: 1", "the version is allowed"),
    ("%FOO x\n---\na: 1", "an unknown directive is left out, as YAML says"),
    ("...\n", "no document"),
    ("\"a\":1", "the library stops after `\"a\"` without an error"),
    ("a: {b:}", "ambiguous, refused"),
    ("a: [x:]", "ambiguous, refused"),
    ("a: {x: y:}", "ambiguous, refused"),
];

#[test]
fn every_text_of_the_table_reads_as_the_real_library_reads_it() {
    let table: Vec<Value> = serde_json::from_str(TABLE).unwrap();
    let mut differences = Vec::new();
    for row in &table {
        let text = row["yaml"].as_str().unwrap();
        let got = first_document(text);
        if KNOWN_DIFFERENCES.iter().any(|(known, _)| *known == text) {
            let same = match (&got, row["json"].as_str()) {
                (Ok(got), Some(want)) => is_same(got, &serde_json::from_str(want).unwrap()),
                (Err(_), None) => true,
                _ => false,
            };
            assert!(!same, "{text:?} is no difference any more");
            continue;
        }
        let want = row["json"].as_str().map(|json| serde_json::from_str::<Value>(json).unwrap());
        match (got, want) {
            (Ok(got), Some(want)) if is_same(&got, &want) => {}
            (Err(_), None) => {}
            (got, want) => {
                let got = got.map(|value| value.to_string()).map_err(|error| error.to_string());
                differences
                    .push(format!("{text:?}: got {got:?}, want {:?}", want.map(|value| value.to_string())));
            }
        }
    }
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), table.len(), differences.join("\n"));
}

/// The library reads the first document only, and nothing as null.
fn first_document(text: &str) -> Result<Value, dodai_yaml::Error> {
    match dodai_yaml::parse(text)?.first() {
        Some(document) => document.to_json(),
        None => Ok(Value::Null),
    }
}

/// Equal; floats as near as the JSON parser of this test reads them.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) if x.is_f64() && y.is_f64() => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            (x - y).abs() <= x.abs() * 1e-15
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| is_same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| is_same(x, y)))
        }
        _ => a == b,
    }
}
