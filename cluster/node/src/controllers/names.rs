//! Names that follow from what is known: hashes of templates, and suffixes of Pods.

use std::collections::BTreeSet;

use serde::Serialize;

/// Letters of generated suffixes: no vowels, nothing that looks like something else (as upstream has it).
pub const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters of a Pod's suffix.
const SUFFIX_LETTERS: usize = 5;

/// 32-bit FNV-1a.
pub fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// 64-bit FNV-1a.
pub fn fnv64a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The decimal digits of a hash in letters that spell no word.
pub fn safe(hash: u32) -> String {
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

/// The hash of anything that has a JSON form, as a label value. `salt` keeps apart what collided.
pub fn hash_of(value: &impl Serialize, salt: Option<i32>) -> String {
    let mut bytes = serde_json::to_vec(value).expect("a Kubernetes type serialises to JSON");
    if let Some(salt) = salt {
        bytes.extend_from_slice(&salt.to_le_bytes());
    }
    safe(fnv32a(&bytes))
}

/// Five letters that follow from `seed` and `number`.
pub fn suffix(seed: &str, number: u64) -> String {
    let mut hash = fnv64a(format!("{seed}/{number}").as_bytes());
    // FNV's low bits follow the last byte closely; mix before cutting letters from it.
    hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 29;
    (0..SUFFIX_LETTERS)
        .map(|_| {
            let letter = ALPHABET[(hash % ALPHABET.len() as u64) as usize];
            hash /= ALPHABET.len() as u64;
            char::from(letter)
        })
        .collect()
}

/// The first `count` names `<base>-<suffix>` of the sequence that `seed` gives, without those that are taken.
///
/// Whoever sees the same Pods picks the same names. Who does not see a Pod yet picks its very name again, so that the
/// creation changes nothing. A name comes back only after its Pod has gone.
pub fn free_names(base: &str, seed: &str, count: usize, taken: &BTreeSet<&str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(count);
    let mut number = 0;
    while names.len() < count {
        let name = format!("{base}-{}", suffix(seed, number));
        if !taken.contains(name.as_str()) && !names.contains(&name) {
            names.push(name);
        }
        number += 1;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_names_skip_what_is_taken_and_are_the_same_for_everyone() {
        let all = free_names("web", "uid", 300, &BTreeSet::new());
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 300);
        let taken: BTreeSet<&str> = [all[0].as_str(), all[2].as_str()].into();
        assert_eq!(free_names("web", "uid", 2, &taken), [all[1].clone(), all[3].clone()]);
        assert!(all[0].strip_prefix("web-").unwrap().bytes().all(|letter| ALPHABET.contains(&letter)));
    }

    #[test]
    fn fnv_gives_the_published_values() {
        assert_eq!(fnv32a(b""), 0x811c_9dc5);
        assert_eq!(fnv32a(b"foobar"), 0xbf9c_f968);
        assert_eq!(fnv64a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
