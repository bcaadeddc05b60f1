//! The renderer: the first byte chooses what the rest is taken for.
#![no_main]

use dodai_gitops::render::fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    match first % 6 {
        0 => fuzz::kustomization(rest),
        1 => fuzz::resources(rest),
        2 => fuzz::patch(rest),
        3 => fuzz::replacements(rest),
        4 => fuzz::configuration(rest),
        _ => fuzz::generated(rest),
    }
});
