//! Decoders of encrypted secrets: the first byte chooses which.
#![no_main]

use dodai_secrets::hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    match first % 7 {
        0 => hostile::value(rest),
        1 => hostile::file(rest),
        2 => hostile::versions(rest),
        3 => hostile::sops_file(rest),
        4 => hostile::age_file(rest),
        5 => hostile::sealing_keys(rest),
        _ => hostile::rules(rest),
    }
});
