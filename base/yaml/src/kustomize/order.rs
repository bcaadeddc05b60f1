//! The order of keys in a written map: letters after everything else, numbers inside of keys by their value.

use std::cmp::Ordering;

/// Compares two keys as the writer of kustomize sorts them: `a2` stands before `a10`, `_` before `a`.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    // Nearly all keys: what differs first are two ASCII letters.
    let shared = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    if let (Some(left), Some(right)) = (a.as_bytes().get(shared), b.as_bytes().get(shared))
        && left.is_ascii_alphabetic()
        && right.is_ascii_alphabetic()
    {
        return left.cmp(right);
    }
    let left: Vec<char> = a.chars().collect();
    let right: Vec<char> = b.chars().collect();
    if less(&left, &right) {
        Ordering::Less
    } else if less(&right, &left) {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}

fn less(a: &[char], b: &[char]) -> bool {
    let Some(at) = a.iter().zip(b).position(|(a, b)| a != b) else { return a.len() < b.len() };
    let (left, right) = (a[at], b[at]);
    match (left.is_alphabetic(), right.is_alphabetic()) {
        (true, true) => return left < right,
        (false, false) => {}
        (_, right_is_letter) => return right_is_letter,
    }
    // Zeros that follow another digit are a part of that number, not the beginning of one.
    let mut start = 0;
    if left == '0' || right == '0' {
        let before = a[..at].iter().rev().take_while(|character| character.is_numeric());
        if before.into_iter().any(|digit| *digit != '0') {
            start = 1;
        }
    }
    let (left_value, left_end) = digits(a, at, start);
    let (right_value, right_end) = digits(b, at, start);
    if left_value != right_value {
        return left_value < right_value;
    }
    if left_end != right_end {
        return left_end < right_end;
    }
    left < right
}

/// The number that begins at `at`, wrapping as there, and where it ends.
fn digits(text: &[char], at: usize, start: i64) -> (i64, usize) {
    let mut value = start;
    let mut end = at;
    while let Some(character) = text.get(end).filter(|character| character.is_numeric()) {
        value =
            value.wrapping_mul(10).wrapping_add(i64::from(u32::from(*character)) - i64::from(u32::from('0')));
        end += 1;
    }
    (value, end)
}
