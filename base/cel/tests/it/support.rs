//! What the suites share: finding the data, and judging with a list of skips.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

const SUITE: &str = "kube-cel";

/// The folder of the suite; `None` (and a line of output) if it is not there.
pub(crate) fn suite() -> Option<PathBuf> {
    // A worktree lies beside the repository, one folder away from the shared one or two.
    let places = ["../shared/testdata", "../../shared/testdata"];
    let found = places.iter().map(|place| repository().join(place).join(SUITE)).find(|path| path.is_dir());
    if found.is_none() {
        println!("skipped: not found: {} {SUITE}", places[0]);
    }
    found
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The cases of a JSON-lines file.
pub(crate) fn lines(path: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn text<'v>(case: &'v Json, member: &str) -> &'v str {
    case[member].as_str().unwrap_or_else(|| panic!("`{member}` is no text in {case}"))
}

/// Collects verdicts and compares them with the list of skips at the end.
pub(crate) struct Judge {
    part: String,
    skips: BTreeMap<String, String>,
    seen: BTreeSet<String>,
    passed: usize,
    skipped: usize,
    wrong: Vec<String>,
}

impl Judge {
    /// `part` is one file (or one look at it); its skips are named `part:case`.
    pub(crate) fn new(part: &str) -> Judge {
        Judge {
            part: part.to_owned(),
            skips: skips(),
            seen: BTreeSet::new(),
            passed: 0,
            skipped: 0,
            wrong: Vec::new(),
        }
    }

    pub(crate) fn case(&mut self, name: &str, verdict: Result<(), String>) {
        let name = format!("{}:{name}", self.part);
        let skipped = self.skips.contains_key(&name);
        self.seen.insert(name.clone());
        match (verdict, skipped) {
            (Ok(()), false) => self.passed += 1,
            (Err(_), true) => self.skipped += 1,
            (Ok(()), true) => self.wrong.push(format!("{name}: passes, take it out of skip.toml")),
            (Err(error), false) => self.wrong.push(format!("{name}: {error}")),
        }
    }

    pub(crate) fn finish(self) {
        println!("{SUITE} {}: {} passed, {} skipped", self.part, self.passed, self.skipped);
        let part = format!("{}:", self.part);
        let unknown: Vec<_> =
            self.skips.keys().filter(|name| name.starts_with(&part) && !self.seen.contains(*name)).collect();
        assert!(unknown.is_empty(), "skip.toml names cases that do not exist: {unknown:?}");
        let n_shown = std::env::var("SHOW").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
        let shown: Vec<&str> = self.wrong.iter().take(n_shown).map(String::as_str).collect();
        assert!(self.wrong.is_empty(), "{} wrong in {}:\n{}", self.wrong.len(), self.part, shown.join("\n"));
    }
}

/// `"case" = "reason"`, one a line; lines with `#` are comments.
fn skips() -> BTreeMap<String, String> {
    let path = repository().join("conformance").join(SUITE).join("skip.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let mut skips = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, reason) = line.rsplit_once(" = ").unwrap_or_else(|| panic!("no ` = ` in {line}"));
        let unquote = |text: &str| -> String { serde_json::from_str(text).unwrap() };
        let reason = unquote(reason);
        assert!(!reason.is_empty(), "no reason in {line}");
        skips.insert(unquote(name), reason);
    }
    skips
}

/// Equality of `want` and `got` with a text for the difference.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}\n   got {got:?}\n  want {want:?}")) }
}
