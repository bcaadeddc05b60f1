//! Values of generators that look like secrets: by their keys, and by the forms that well-known tokens have.

use serde_json::Value;

/// Words in keys.
const WORDS: [&str; 9] =
    ["password", "passwd", "secret", "token", "apikey", "api_key", "api-key", "private_key", "credential"];
/// Beginnings of well-known tokens.
const FORMS: [&str; 9] =
    ["-----BEGIN", "AKIA", "ghp_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "sk_live_", "AIza"];
/// A shorter value is a placeholder or a number.
const VALUE_BYTES_MIN: usize = 6;

/// Fields with what is odd in them. The values are not shown.
pub(super) fn find(kustomization: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for generator in ["configMapGenerator", "secretGenerator"] {
        for (i, args) in
            kustomization.get(generator).and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let literals = args.get("literals").and_then(Value::as_array).into_iter().flatten();
            for (j, literal) in literals.enumerate() {
                let Some((key, value)) = literal.as_str().and_then(|literal| literal.split_once('=')) else {
                    continue;
                };
                let field = format!("{generator}[{i}].literals[{j}]");
                let is_config = generator == "configMapGenerator";
                if FORMS.iter().any(|form| value.contains(form)) {
                    found.push((field, format!("the value of `{key}` has the form of a key or token")));
                } else if looks_secret(key, value) {
                    let message = if is_config {
                        format!("`{key}` looks like a secret; a ConfigMap is not the place for it")
                    } else {
                        format!("`{key}` stands in the repository in clear text")
                    };
                    found.push((field, message));
                }
            }
        }
    }
    found
}

fn looks_secret(key: &str, value: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let named = WORDS.iter().any(|word| key.contains(word));
    // Names of files, references to other places and Flux's variables are not the secret itself.
    let refers = value.starts_with(['$', '/'])
        || key.ends_with("_file")
        || key.ends_with("_path")
        || key.ends_with("_name");
    named && !refers && value.len() >= VALUE_BYTES_MIN
}
