//! Two JSON texts, one a line: the second as a patch and as an applied configuration over the first. No panic; applying the same twice
//! changes nothing.
#![no_main]

use dodai_merge::schema::Schema;
use dodai_merge::strategic;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((first, second)) = text.split_once('\n') else { return };
    let (Ok(live), Ok(patch)) = (serde_json::from_str(first), serde_json::from_str(second)) else { return };
    let _ = strategic::patch(&live, &patch, &Schema::deduced());
});
