//! `dodai lint`: what is odd in the kustomizations below a folder; `--fix` repairs deprecated fields.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use dodai_gitops::render::lint::{Finding, Rule, fix, lint};
use dodai_gitops::render::{Folder, Options, render};
use serde_json::{Value, json};

use crate::cli::{Format, Lint};
use crate::failure::{Context, FAILED, Failure, Result};

pub(crate) fn run(args: &Lint) -> Result<ExitCode> {
    let dir = std::fs::canonicalize(&args.dir).context(format!("cannot find `{}`", args.dir.display()))?;
    // The tree is the whole disk, as for `build`: bases may lie outside of the folder.
    let tree = Folder::new("/");
    let Some(folder) = dir.to_str().map(|path| path.trim_start_matches('/').to_owned()) else {
        return Err(Failure::invalid("the path of the folder is not UTF-8"));
    };
    let look = || lint(&tree, &folder).context(format!("cannot look at `{}`", args.dir.display()));
    let mut findings = look()?;
    if args.fix {
        repair(&tree, &findings)?;
        findings = look()?;
    }
    let show = |path: &str| shown(&folder, &args.dir, path);
    match args.output {
        Format::Table => {
            for finding in &findings {
                println!("{}", line(&show, finding));
            }
            eprintln!("{}", summary(&findings));
        }
        Format::Json => println!(
            "{:#}",
            json!({"findings": findings.iter().map(|finding| as_json(&show, finding)).collect::<Vec<_>>()})
        ),
    }
    Ok(ExitCode::from(if findings.is_empty() { 0 } else { FAILED }))
}

/// Paths as they would be written from here.
fn shown(folder: &str, dir: &Path, path: &str) -> String {
    match path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if dir == Path::new(".") => rest.to_owned(),
        Some(rest) => dir.join(rest).display().to_string(),
        None => format!("/{path}"),
    }
}

fn line(show: &impl Fn(&str) -> String, finding: &Finding) -> String {
    let at = match finding.position {
        Some((line, column)) => format!(":{line}:{column}"),
        None => String::new(),
    };
    let field = if finding.field.is_empty() { String::new() } else { format!(" ({})", finding.field) };
    format!("{}{at}: {}: {}{field}", show(&finding.file), finding.rule.name(), finding.message)
}

fn as_json(show: &impl Fn(&str) -> String, finding: &Finding) -> Value {
    json!({
        "file": show(&finding.file),
        "line": finding.position.map(|at| at.0),
        "column": finding.position.map(|at| at.1),
        "rule": finding.rule.name(),
        "field": finding.field,
        "message": finding.message,
    })
}

fn summary(findings: &[Finding]) -> String {
    let mut counts: BTreeMap<Rule, usize> = BTreeMap::new();
    for finding in findings {
        *counts.entry(finding.rule).or_insert(0) += 1;
    }
    if counts.is_empty() {
        return "nothing found".to_owned();
    }
    let parts: Vec<String> = counts.iter().map(|(rule, count)| format!("{count} {}", rule.name())).collect();
    let repairs =
        if counts.contains_key(&Rule::Deprecated) { "; `--fix` repairs deprecated fields" } else { "" };
    format!("{}{repairs}", parts.join(", "))
}

/// Repairs each file with deprecated fields, and keeps the repair only if the folder still builds to the same bytes.
fn repair(tree: &Folder, findings: &[Finding]) -> Result<()> {
    let deprecated = findings.iter().filter(|finding| finding.rule == Rule::Deprecated);
    let files: std::collections::BTreeSet<&str> = deprecated.map(|finding| finding.file.as_str()).collect();
    for file in files {
        let path = tree.path(file);
        let text = std::fs::read_to_string(&path).context(format!("cannot read `{}`", path.display()))?;
        let repaired = fix(&text);
        for (field, reason) in &repaired.left {
            eprintln!("{}: `{field}` is left: {reason}", path.display());
        }
        if repaired.text == text {
            continue;
        }
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let build = || render(tree, folder, &Options::default()).map(|output| output.to_yaml()).ok();
        let before = build();
        std::fs::write(&path, &repaired.text).context(format!("cannot write `{}`", path.display()))?;
        if build() == before {
            eprintln!("{}: repaired {}", path.display(), repaired.fixed.join(", "));
        } else {
            std::fs::write(&path, &text).context(format!("cannot write `{}`", path.display()))?;
            eprintln!("{}: left as it is: the repair would change what is built", path.display());
        }
    }
    Ok(())
}
