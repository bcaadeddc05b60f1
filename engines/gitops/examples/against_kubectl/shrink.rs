//! Making a case smaller while it still differs in the same way: files, documents, fields and items are left out.

use serde_json::Value;

use crate::generate::{Case, Content};
use crate::{Judge, Verdict};

/// Runs of kubectl for one case.
const RUNS_MAX: usize = 400;

pub(crate) fn shrink(judge: &mut Judge, mut case: Case, mut verdict: Verdict) -> (Case, Verdict) {
    let mut runs = 0;
    loop {
        let mut smaller = false;
        let mut at = 0;
        while let Some(candidate) = without(&case, at) {
            runs += 1;
            if runs > RUNS_MAX {
                return (case, verdict);
            }
            let found = judge.case(&candidate);
            if found.like(&verdict) {
                case = candidate;
                verdict = found;
                smaller = true;
            } else {
                at += 1;
            }
        }
        if !smaller {
            return (case, verdict);
        }
    }
}

/// The case without its part number `at`; whole files first, then ever smaller parts.
fn without(case: &Case, at: usize) -> Option<Case> {
    let mut at = at;
    for path in case.files.keys() {
        if at == 0 {
            let mut smaller = case.clone();
            smaller.files.remove(path);
            return Some(smaller);
        }
        at -= 1;
    }
    for (path, content) in &case.files {
        let smaller = match content {
            Content::Text(text) => {
                let lines: Vec<&str> = text.lines().collect();
                if at >= lines.len() {
                    at -= lines.len();
                    continue;
                }
                let kept: Vec<&str> =
                    lines.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, line)| *line).collect();
                Content::Text(kept.join("\n") + "\n")
            }
            Content::Documents(documents) => {
                let mut list = Value::Array(documents.clone());
                if !remove(&mut list, &mut at) {
                    continue;
                }
                match list {
                    Value::Array(documents) => Content::Documents(documents),
                    _ => unreachable!("a list stays a list"),
                }
            }
        };
        let mut case = case.clone();
        case.files.insert(path.clone(), smaller);
        return Some(case);
    }
    None
}

/// Removes part number `at` of a value, counting parents before children.
fn remove(value: &mut Value, at: &mut usize) -> bool {
    match value {
        Value::Array(items) => {
            if *at < items.len() {
                items.remove(*at);
                return true;
            }
            *at -= items.len();
            items.iter_mut().any(|item| remove(item, at))
        }
        Value::Object(map) => {
            if *at < map.len() {
                let key = map.keys().nth(*at).cloned().unwrap_or_default();
                map.remove(&key);
                return true;
            }
            *at -= map.len();
            map.values_mut().any(|item| remove(item, at))
        }
        _ => false,
    }
}
