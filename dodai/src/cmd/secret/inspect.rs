//! `show`, `decrypt`, `lint`, `keys`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dodai_secrets::file::lint::{self, Context as LintContext, Seen, Severity};
use dodai_secrets::file::{change, convert, find_all, view};
use dodai_secrets::places::{self, IDENTITY_FILE, Places};
use dodai_secrets::seal::Identity;
use serde_json::json;

use super::cli::{File, Keys, KeysVerb, Lint, Show};
use super::files::{self, Session, failed, rules_of};
use super::{git, kustomize};
use crate::cli::Format;
use crate::failure::{Context, FAILED, Failure, Result};
use crate::screen;

pub(crate) fn show(args: &Show) -> Result<()> {
    let session = Session::open(&args.file, &args.keyring)?;
    let text = files::read(&args.file)?;
    let value = change::show(&text, args.name.as_deref(), &args.key, &session.keyring)
        .map_err(|error| failed(&args.file, &error))?;
    std::io::stdout().write_all(&value).context("cannot print the value")?;
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) && !value.ends_with(b"\n") {
        println!();
    }
    Ok(())
}

pub(crate) fn decrypt(args: &File) -> Result<()> {
    let session = Session::open(&args.file, &args.keyring)?;
    let text = files::read(&args.file)?;
    let shown = view::view(&text, &session.keyring).map_err(|error| failed(&args.file, &error))?;
    print!("{}", &*shown.text);
    for closed in &shown.closed {
        eprintln!("error: {} `{}`: {}", closed.object, closed.key, closed.error);
    }
    if shown.closed.is_empty() { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

pub(crate) fn lint(args: &Lint) -> Result<ExitCode> {
    let mut seen = Seen::default();
    let mut all = Vec::new();
    let rendered = match &args.rendered {
        None => None,
        Some(file) if file.as_os_str() == "-" => {
            let text = files::stdin()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        }
        Some(file) => Some(files::read(file)?),
    };
    let sources = match args.staged {
        true => git::staged()?,
        false => files::expand(&args.files)?.into_iter().map(|file| (file, None)).collect(),
    };
    let overlays = kustomize::overlays(&args.files)?;
    let mut ours = Vec::new();
    for (file, staged) in sources {
        let file = &file;
        let text = match staged {
            Some(text) => text,
            None => files::read(file)?,
        };
        if !text.contains("Secret") && !text.contains("secretGenerator") {
            continue;
        }
        let session = Session::open(file, &args.keyring)?;
        let context = LintContext {
            keyring: &session.keyring,
            rules: &session.rules,
            path: &session.path,
            now_s: session.now_s,
        };
        if find_all(&text).is_ok_and(|found| !found.is_empty()) {
            ours.push(file.clone());
        }
        match lint::lint(&text, &context, &mut seen) {
            Ok(findings) => all.extend(findings.into_iter().map(|finding| (file.clone(), finding))),
            // Templates of other tools are not for us to judge.
            Err(_) if !text.contains("EncryptedSecret") => continue,
            Err(error) => return Err(failed(file, &error)),
        }
        if let Some(rendered) = &rendered {
            let findings = lint::lint_rendered(&text, rendered).map_err(|error| failed(file, &error))?;
            all.extend(findings.into_iter().map(|finding| (file.clone(), finding)));
        }
        for finding in kustomize::lint(file, &text, &overlays).map_err(|error| failed(file, &error))? {
            all.push((file.clone(), finding));
        }
    }
    for file in git::not_merged_by_name(Path::new("."), &ours)? {
        all.push((
            file,
            lint::Finding {
                severity: Severity::Warning,
                rule: "MergedByLines",
                position: (1, 1),
                message: "git merges and shows this file by lines: `dodai secret git-setup` again".to_owned(),
            },
        ));
    }
    print_findings(args.output, &all)?;
    let bad = all.iter().any(|(_, finding)| finding.severity == Severity::Error);
    Ok(if bad { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn print_findings(output: Format, all: &[(PathBuf, lint::Finding)]) -> Result<()> {
    let word = |severity| if severity == Severity::Error { "error" } else { "warning" };
    match output {
        Format::Json => {
            let list: Vec<_> = all
                .iter()
                .map(|(file, finding)| {
                    json!({
                        "file": file.display().to_string(), "line": finding.position.0,
                        "column": finding.position.1, "severity": word(finding.severity),
                        "rule": finding.rule, "message": finding.message,
                    })
                })
                .collect();
            println!("{}", serde_json::to_string_pretty(&list).context("cannot print")?);
        }
        Format::Table => {
            for (file, finding) in all {
                let (line, column) = finding.position;
                let shown = file.display();
                println!(
                    "{shown}:{line}:{column}: {}: {} [{}]",
                    word(finding.severity),
                    finding.message,
                    finding.rule
                );
            }
        }
    }
    Ok(())
}

pub(crate) fn keys(args: &Keys) -> Result<()> {
    match &args.verb {
        KeysVerb::Generate { out } => {
            let file = match out {
                Some(file) => file.clone(),
                None => places::config_folder()
                    .ok_or_else(|| Failure::failed("no `HOME`: say where with `--out FILE`"))?
                    .join(IDENTITY_FILE),
            };
            let identity = Identity::generate();
            places::write_new(&file, &identity)
                .map_err(|error| Failure::from_error("no identity was made", &error))?;
            println!("{}", identity.recipient().unwrap_or_default());
            eprintln!(
                "written to `{}`; keep a copy in a safe place: without it nothing can be read",
                file.display()
            );
            Ok(())
        }
        KeysVerb::List { keyring } => {
            let (_, _, demo) = rules_of(&std::env::current_dir().context("cannot read the current folder")?)?;
            let places = Places { files: keyring.identity.clone(), demo, ..Places::default() };
            let found =
                places::find(&places).map_err(|error| Failure::from_error("cannot list the keys", &error))?;
            for (place, n) in &found.places {
                eprintln!("{place}: {n} identities");
            }
            for identity in &found.identities {
                println!(
                    "{}",
                    identity.recipient().unwrap_or_else(|| "(an SSH key, for files of SOPS)".to_owned())
                );
            }
            Ok(())
        }
        KeysVerb::Who { files, output } => who(files, *output),
    }
}

fn who(paths: &[PathBuf], output: Format) -> Result<()> {
    let mut rows = Vec::new();
    for file in files::expand(paths)? {
        let text = files::read(&file)?;
        if !text.contains("EncryptedSecret") {
            continue;
        }
        let (rules, _, _) = rules_of(&file)?;
        for found in find_all(&text).map_err(|error| failed(&file, &error))? {
            for recipient in found.recipients().map_err(|error| Failure::invalid(error.to_string()))? {
                // Which values: those sealed with a data key that is wrapped for them.
                let ids: Vec<&str> = found
                    .spec
                    .keys
                    .iter()
                    .filter(|key| {
                        key.recipients.iter().any(|entry| {
                            entry.age.as_deref() == Some(recipient.as_str())
                                || entry.kms.as_deref() == Some(recipient.as_str())
                        })
                    })
                    .map(|key| key.id.as_str())
                    .collect();
                let can = |text: &str| text.split(':').nth(1).is_some_and(|id| ids.contains(&id));
                let readable: Vec<&str> = found
                    .data
                    .iter()
                    .filter(|entry| entry.text.as_deref().is_some_and(can))
                    .map(|entry| entry.key.as_str())
                    .collect();
                let all = readable.len() == convert::keys_of(&found).len();
                rows.push((
                    found.display_name(),
                    rules.name_of(&recipient).unwrap_or("-").to_owned(),
                    recipient.to_string(),
                    if all { "(all)".to_owned() } else { readable.join(",") },
                ));
            }
        }
    }
    match output {
        Format::Json => {
            let list: Vec<_> = rows
                .iter()
                .map(|(object, name, recipient, keys)| {
                    json!({"secret": object, "name": name, "recipient": recipient, "keys": keys})
                })
                .collect();
            println!("{}", serde_json::to_string_pretty(&list).context("cannot print")?);
        }
        Format::Table => {
            let rows: Vec<Vec<String>> = rows
                .into_iter()
                .map(|(object, name, recipient, keys)| vec![object, name, keys, recipient])
                .collect();
            print!("{}", screen::table(&["SECRET", "NAME", "KEYS", "RECIPIENT"], &rows));
        }
    }
    Ok(())
}
