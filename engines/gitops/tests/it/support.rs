//! Finding the shared data, and judging with a list of skips.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A folder of the shared test data; `None` (and a line of output) if it is not there.
pub(crate) fn suite(name: &str) -> Option<PathBuf> {
    // A worktree lies one folder deeper than the repository itself.
    let places = ["../shared/testdata", "../../shared/testdata"];
    let found = places.iter().map(|place| repository().join(place).join(name)).find(|path| path.is_dir());
    if found.is_none() {
        println!("skipped: not found: {} {name}", places[0]);
    }
    found
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Collects verdicts and compares them with `conformance/kustomize/skip.toml` at the end.
pub(crate) struct Judge {
    suite: &'static str,
    skips: BTreeMap<String, String>,
    seen: BTreeSet<String>,
    passed: usize,
    wrong: Vec<String>,
    skipped: Vec<String>,
}

impl Judge {
    pub(crate) fn new(suite: &'static str) -> Judge {
        let path = repository().join("conformance/kustomize/skip.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let skips = text.lines().filter(|line| line.starts_with('"')).filter_map(|line| {
            let mut parts = line.split('"');
            let name = parts.nth(1)?.strip_prefix(&format!("{suite}/"))?.to_owned();
            Some((name, parts.nth(1)?.to_owned()))
        });
        Judge {
            suite,
            skips: skips.collect(),
            seen: BTreeSet::new(),
            passed: 0,
            wrong: Vec::new(),
            skipped: Vec::new(),
        }
    }

    pub(crate) fn case(&mut self, name: &str, verdict: Result<(), String>) {
        self.seen.insert(name.to_owned());
        match (verdict, self.skips.get(name)) {
            (Ok(()), None) => self.passed += 1,
            (Ok(()), Some(_)) => self.wrong.push(format!("{name}: passes, take it out of skip.toml")),
            (Err(_), Some(reason)) => self.skipped.push(format!("{name}: {reason}")),
            (Err(error), None) => self.wrong.push(format!("{name}: {error}")),
        }
    }

    /// Fails if a case is wrong or too many are skipped, in percent.
    pub(crate) fn finish(self, skipped_max_percent: usize) {
        let total = self.seen.len();
        println!("{}: {} of {total} pass, {} skipped", self.suite, self.passed, self.skipped.len());
        let unknown: Vec<&String> = self.skips.keys().filter(|name| !self.seen.contains(*name)).collect();
        assert!(unknown.is_empty(), "skip.toml names cases that are not there: {unknown:?}");
        assert!(self.wrong.is_empty(), "{} of {total} wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
        assert!(
            self.skipped.len() * 100 <= total * skipped_max_percent,
            "too many are skipped: {:?}",
            self.skipped
        );
    }
}

/// The first line that differs, with a few before it.
pub(crate) fn difference(wanted: &str, got: &str) -> String {
    let (wanted, got): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), got.lines().collect());
    let at = wanted.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let show = |lines: &[&str]| {
        let from = at.saturating_sub(4);
        lines.iter().skip(from).take(8).map(|line| format!("    {line}\n")).collect::<String>()
    };
    format!("differs in line {}\n  wanted:\n{}  got:\n{}", at + 1, show(&wanted), show(&got))
}
