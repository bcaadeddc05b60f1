//! Every target under libFuzzer, one binary: `DODAI_FUZZ_TARGET` says which.
#![no_main]

use std::sync::LazyLock;

static READ: LazyLock<dodai_fuzz::Read> = LazyLock::new(|| {
    let name = std::env::var("DODAI_FUZZ_TARGET").unwrap_or_default();
    dodai_fuzz::target(&name).unwrap_or_else(|| {
        let known: Vec<&str> = dodai_fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
        eprintln!("DODAI_FUZZ_TARGET is `{name}`, which is none of {}", known.join(", "));
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| READ(data));
