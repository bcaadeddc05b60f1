//! Hashes that say when two things are the same: specs, builds, release commands, processes.
//!
//! They are kept in objects for years, so that their input is canonical JSON (keys sorted, no spaces) with a tag in front
//! that names what is hashed; a change of the recipe would build and migrate everything again.

use std::collections::BTreeMap;

use dodai_api::dodai::app::{AppSpec, Process, Source};
use dodai_api::dodai::release::ReleaseSpec;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// SHA-256 in hex of the tag and the canonical JSON of a value.
fn hash(tag: &str, value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).expect("a spec serialises to JSON");
    let mut text = String::new();
    canonical(&value, &mut text);
    let mut hasher = Sha256::new();
    hasher.update(tag.as_bytes());
    hasher.update([0]);
    hasher.update(text.as_bytes());
    hex::encode(hasher.finalize())
}

/// Writes JSON with sorted keys, whatever order the map type of `serde_json` keeps.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(value, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// Identity of an App's spec and of the Secrets that it names: the same never makes a second Release.
pub fn of_spec(spec: &AppSpec, secrets: &BTreeMap<String, String>) -> String {
    match secrets.is_empty() {
        true => hash("app-spec", spec),
        false => hash("app-spec", &json!({"spec": spec, "secrets": secrets})),
    }
}

/// Identity of an image that is built: sources, command, environment and the interpreters of the Node.
pub fn of_build(source: &Source, interpreters: &str) -> String {
    hash("build", &json!({"source": source, "interpreters": interpreters}))
}

/// Identity of a release command: image, command, environment and volumes. `None` if there is no command.
pub fn of_command(spec: &ReleaseSpec) -> Option<String> {
    let command = spec.release.as_ref().map(|step| &step.command).filter(|command| !command.is_empty())?;
    Some(hash(
        "release-command",
        &json!({"image": spec.image, "command": command, "env": spec.env, "volumes": spec.volumes}),
    ))
}

/// Identity of what the Pods of a process are made from, short enough for a label. The number of replicas is left out, so
/// that scaling restarts nothing; a later attempt counts, so that a retry starts fresh Pods.
pub fn of_process(spec: &ReleaseSpec, process: &Process, attempt: u32) -> String {
    let template = Process { replicas: None, ..process.clone() };
    let mut input =
        json!({"image": spec.image, "env": spec.env, "volumes": spec.volumes, "process": template});
    if !spec.secrets.is_empty() {
        input["secrets"] = json!(spec.secrets);
    }
    let text = hash("process", &input);
    if attempt > 1 { format!("{}-{attempt}", &text[..12]) } else { text[..12].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_of_a_hash_never_changes() {
        let spec = AppSpec { image: Some("shop:1".to_owned()), ..AppSpec::default() };
        assert_eq!(
            of_spec(&spec, &BTreeMap::new()),
            hash("app-spec", &json!({"image": "shop:1", "processes": {}}))
        );
        let value = json!({"b": [1, true, null, "é\n"], "a": {"d": 1.5, "c": {}}});
        let mut text = String::new();
        canonical(&value, &mut text);
        assert_eq!(text, r#"{"a":{"c":{},"d":1.5},"b":[1,true,null,"é\n"]}"#);
        assert_eq!(hash("t", &json!({})), "c277c62dc4a00825f5e8ddbaf449c64e79a4f665924f450da81a9c31e7a392eb");
    }
}
