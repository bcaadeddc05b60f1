//! `log`: who changed which key when, from git. Ciphertext is compared, values are never opened.

use std::path::Path;
use std::process::Command;

use dodai_secrets::file::{Found, find_all};
use serde::Serialize;

use super::cli::Log;
use crate::cli::Format;
use crate::failure::{Context, Failure, Result};
use crate::screen;

/// Most commits that are looked at.
const COMMITS_MAX: &str = "1000";

#[derive(Serialize)]
struct Change {
    time: String,
    author: String,
    commit: String,
    secret: String,
    /// `added`, `changed`, `removed`, `rekeyed`, `recipients`, `created`, `deleted`.
    what: &'static str,
    key: String,
}

pub(crate) fn run(args: &Log) -> Result<()> {
    let absolute = std::path::absolute(&args.file).context("cannot find the file")?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let git = |words: &[&str]| {
        Command::new("git").arg("-C").arg(&folder).args(words).output().context("cannot run git")
    };
    let log = git(&[
        "log",
        "--follow",
        "--name-only",
        "-n",
        COMMITS_MAX,
        "--format=%x01%H%x02%aI%x02%an <%ae>",
        "--",
        &name,
    ])?;
    if !log.status.success() {
        return Err(Failure::failed(format!(
            "`git log` failed: {}",
            String::from_utf8_lossy(&log.stderr).trim()
        )));
    }
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let version = |commit: &str, path: &str| -> Vec<Found> {
        let shown = git(&["show", &format!("{commit}:{path}")]);
        let text = shown.ok().filter(|shown| shown.status.success()).map(|shown| shown.stdout);
        let text = text.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
        // A version that does not read has nothing to compare.
        find_all(&text).unwrap_or_default()
    };
    let mut commits = Vec::new();
    for entry in log.split('\u{1}').filter(|entry| !entry.trim().is_empty()) {
        let mut lines = entry.lines();
        let mut head = lines.next().unwrap_or_default().split('\u{2}');
        let mut next = || head.next().unwrap_or_default().to_owned();
        let (commit, time, author) = (next(), next(), next());
        let path = lines.rfind(|line| !line.is_empty()).unwrap_or_default().to_owned();
        commits.push((commit, time, author, path));
    }
    let mut changes = Vec::new();
    for (number, (commit, time, author, path)) in commits.iter().enumerate() {
        let after = version(commit, path);
        let before =
            commits.get(number + 1).map(|(commit, _, _, path)| version(commit, path)).unwrap_or_default();
        for (secret, what, key) in compare(&before, &after) {
            let (time, author) = (time.clone(), author.clone());
            changes.push(Change {
                time,
                author,
                commit: commit[..12.min(commit.len())].to_owned(),
                secret,
                what,
                key,
            });
        }
    }
    if let Some(key) = &args.key {
        changes.retain(|change| change.key == *key);
    }
    match args.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&changes).context("cannot print")?),
        Format::Table => {
            let row = |change: Change| {
                vec![
                    change.time,
                    change.commit,
                    change.author,
                    change.secret,
                    change.what.to_owned(),
                    change.key,
                ]
            };
            let rows: Vec<Vec<String>> = changes.into_iter().map(row).collect();
            print!("{}", screen::table(&["TIME", "COMMIT", "AUTHOR", "SECRET", "CHANGE", "KEY"], &rows));
        }
    }
    Ok(())
}

fn compare(before: &[Found], after: &[Found]) -> Vec<(String, &'static str, String)> {
    let mut changes = Vec::new();
    let same = |one: &Found, other: &Found| one.name == other.name && one.namespace == other.namespace;
    for new in after {
        let name = new.display_name();
        let old = before.iter().find(|old| same(old, new));
        let text = |found: &Found, key: &str| found.entry(key).and_then(|entry| entry.text.clone());
        let ids = |found: &Found| found.spec.keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
        let rekeyed = old.is_some_and(|old| {
            let old = ids(old);
            !old.is_empty() && ids(new).iter().all(|id| !old.contains(id))
        });
        for entry in &new.data {
            match old.map(|old| text(old, &entry.key)) {
                None | Some(None) => changes.push((name.clone(), "added", entry.key.clone())),
                Some(Some(was)) if Some(&was) != entry.text.as_ref() => {
                    changes.push((
                        name.clone(),
                        if rekeyed { "rekeyed" } else { "changed" },
                        entry.key.clone(),
                    ));
                }
                _ => {}
            }
        }
        let Some(old) = old else { continue };
        for entry in &old.data {
            if new.entry(&entry.key).is_none() {
                changes.push((name.clone(), "removed", entry.key.clone()));
            }
        }
        if old.recipients().ok() != new.recipients().ok() {
            changes.push((name.clone(), "recipients", String::new()));
        }
    }
    for old in before.iter().filter(|old| !after.iter().any(|new| same(old, new))) {
        for entry in &old.data {
            changes.push((old.display_name(), "removed", entry.key.clone()));
        }
    }
    changes
}
