//! What becomes of values: texts of YAML with the bytes that kustomize 5.8.1 prints for them, or that it refuses.

use dodai_gitops::render::{Memory, Options, render};
use serde_json::Value;

const HEAD: &str = "kind: X\nmetadata:\n  name: a\n";

/// Texts that are refused here and taken there, or the other way; the README says why.
const DIFFERENT: [&str; 13] = [
    // An escape that JSON has, a tab on a line of its own, characters that end lines in old YAML: taken here.
    "v: \"\\/\"\n",
    "a: \"\\ud83d\\ude00\"\n",
    "a: 1\n\t\n",
    "a: \u{85}b\n",
    "a: \u{2028}b\n",
    // Byte order marks inside of a text, and a `:` in front of `}`, `]` and `,`: refused here.
    "\u{feff}a: 1\n",
    "a: \u{feff}b\n",
    "a: {b:}\n",
    "a: [x:]\n",
    "a: {x: y:}\n",
    // `<<` in quotes is a text here.
    "'<<': {a: 1}\n",
    "!!str <<: {a: 1}\n",
    // A key that is empty is a text here.
    ": a\n",
];

fn build(yaml: &str) -> Option<String> {
    let mut tree = Memory::default();
    tree.insert("kustomization.yaml", b"resources: [r.yaml]\n".to_vec());
    tree.insert("r.yaml", format!("{HEAD}{yaml}").into_bytes());
    let text = render(&tree, "", &Options::default()).ok()?.to_yaml();
    Some(text.strip_prefix(HEAD).map_or(text.clone(), str::to_owned))
}

#[test]
fn values_are_printed_as_there() {
    let table: Value = serde_json::from_str(include_str!("../data/kustomize_values.json")).unwrap();
    let mut wrong = Vec::new();
    let mut fixed: Vec<&str> = DIFFERENT.to_vec();
    for row in table.as_array().unwrap() {
        let yaml = row["yaml"].as_str().unwrap();
        let (wanted, got) = (row["out"].as_str().map(str::to_owned), build(yaml));
        if wanted == got {
            continue;
        }
        if DIFFERENT.contains(&yaml) {
            fixed.retain(|known| *known != yaml);
            continue;
        }
        wrong.push(format!("{yaml:?}\n  wanted {wanted:?}\n  got    {got:?}"));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(fixed.is_empty(), "no longer different: {fixed:?}");
}
