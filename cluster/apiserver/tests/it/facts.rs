//! The tables in `data/` against what they were taken from.

use std::path::Path;

use serde_json::Value;

#[test]
fn the_tables_are_those_of_the_facts_file() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/reference/kube-facts.json"));
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: {} not found", path.display());
        return;
    };
    let facts: Value = serde_json::from_str(&text).unwrap();
    let kinds: Vec<Value> = include_str!("../../data/kinds.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(Value::Array(kinds), facts["resources"]);
    for line in include_str!("../../data/fields.tsv").lines() {
        let (name, fields) = line.split_once('\t').unwrap();
        assert_eq!(serde_json::from_str::<Value>(fields).unwrap(), facts["fields"][name], "{name}");
    }
    for line in include_str!("../../data/columns.tsv").lines() {
        let (kind, columns) = line.split_once('\t').unwrap();
        let ours: Vec<(String, String, String, i64)> = serde_json::from_str(columns).unwrap();
        let theirs = facts["tableColumns"][kind].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len(), "{kind}");
        for ((name, ty, format, priority), column) in ours.iter().zip(theirs) {
            assert_eq!(
                (name.as_str(), ty.as_str(), format.as_str(), Some(*priority)),
                (
                    column["name"].as_str().unwrap(),
                    column["type"].as_str().unwrap(),
                    column["format"].as_str().unwrap(),
                    column["priority"].as_i64(),
                ),
                "{kind}"
            );
        }
    }
}
