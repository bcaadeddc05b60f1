//! Small damage done to known inputs, from a seed: enough for a plain test to repeat; libFuzzer has its own.

use fastrand::Rng;

/// Words that parsers stumble over.
const WORDS: &[&str] = &[
    "null",
    "~",
    "1e999",
    "-1",
    "0x7fffffffffffffff",
    "99999999999999999999",
    "\"\"",
    "[]",
    "{}",
    "true",
    "\\u0000",
    "\u{feff}",
    "&a ",
    "*a",
    "<<: ",
    "? ",
    "- ",
    ": ",
    "|\n",
    ">-\n",
    "\r\n",
    "---\n",
    "...\n",
    "!!binary ",
    "$patch",
    "$retainKeys",
    "%2e%2e",
    "/",
    "..",
    ",",
    "=",
    "!=",
    " in (",
    ")",
    "\t",
    "'",
    "\"",
    "#",
    "\n",
    "\0",
    "é",
];
/// Longest input made.
const LEN_MAX: usize = 16 << 10;

/// One of the inputs with one to eight changes.
pub fn mutate(random: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let Some(first) = random.choice(corpus) else { return Vec::new() };
    let mut bytes = first.clone();
    for _ in 0..random.usize(1..=8) {
        change(random, &mut bytes, corpus);
    }
    bytes.truncate(LEN_MAX);
    bytes
}

fn change(random: &mut Rng, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.usize(..=bytes.len());
    let end = (at + random.usize(..24)).min(bytes.len());
    match random.u8(..7) {
        0 if at < bytes.len() => bytes[at] = random.u8(..),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.insert(at, random.u8(32..127)),
        3 => bytes.truncate(at),
        4 => {
            let part = bytes[at..end].to_vec();
            let to = random.usize(..=bytes.len());
            drop(bytes.splice(to..to, part));
        }
        5 => {
            let other = &corpus[random.usize(..corpus.len())];
            let from = random.usize(..=other.len());
            let until = (from + random.usize(..64)).min(other.len());
            drop(bytes.splice(at..at, other[from..until].iter().copied()));
        }
        _ => {
            let word = WORDS[random.usize(..WORDS.len())];
            drop(bytes.splice(at..at, word.bytes()));
        }
    }
}
