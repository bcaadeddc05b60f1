//! CEL: compiling and running any text ends, within its cost limit and without a panic.
#![no_main]

use dodai_cel::rules::{Limits, Validator};
use serde_json::json;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(rule) = std::str::from_utf8(data) else { return };
    let schema = json!({
        "type": "object",
        "properties": {
            "a": { "type": "integer" }, "name": { "type": "string" },
            "list": { "type": "array", "items": { "type": "string" } },
            "map": { "type": "object", "additionalProperties": { "type": "string" } }
        },
        "x-kubernetes-validations": [{ "rule": rule }]
    });
    let Some(validator) = Validator::new(&schema, false, 36) else { return };
    let object = json!({ "a": 3, "name": "x", "list": ["a", "b"], "map": { "k": "v" } });
    let report = validator.validate("spec", &object, None, Limits::default(), false);
    drop(report);
});
