//! Kubernetes' YAML: no panic, and what is written again reads as the same value.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(value) = dodai_yaml::from_str_json(text) else { return };
    let written = dodai_yaml::to_string(&value);
    let again = dodai_yaml::from_str_json(&written).expect("what was written can be read");
    assert_eq!(value, again, "{written}");
});
