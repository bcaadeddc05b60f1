//! What git calls: `textconv` and `merge`; and `git-setup`, which makes it call them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use dodai_secrets::file::{find_all, merge as merging, textconv as converting};

use super::cli::{File, GitSetup, Merge};
use super::files::{self, Session};
use crate::failure::{Context, FAILED, Failure, Result};

/// The name of the driver in git's configuration.
const DRIVER: &str = "dodai-secret";

/// A line of the hooks that are ours to change.
const HOOK_MARK: &str = "# Made by `dodai secret git-setup`.";

/// Never fails on a file that git has: a version that does not read is shown as it is, if nothing in it can be plaintext.
pub(crate) fn textconv(args: &File) -> Result<()> {
    let text = files::read(&args.file)?;
    // git gives a temporary file: the rules are those of the folder one stands in.
    let here = std::env::current_dir().context("cannot read the current folder")?;
    let session = Session::open(&here, &args.keyring)?;
    match converting::textconv(&text, &session.keyring) {
        Ok(shown) => print!("{shown}"),
        // A template of another tool, say; where one of ours could be in it, a line of it may be plaintext.
        Err(_) if !text.contains("EncryptedSecret") && !text.contains("DecryptedSecret") => print!("{text}"),
        Err(error) => println!("(not shown, since it does not read: {error})"),
    }
    Ok(())
}

pub(crate) fn merge(args: &Merge) -> Result<ExitCode> {
    let read = |file: &Path| files::read(file);
    let (base, ours, theirs) = (read(&args.base)?, read(&args.ours)?, read(&args.theirs)?);
    let name = args.path.clone().unwrap_or_else(|| args.ours.display().to_string());
    let prepared = merging::prepare(&base, &ours, &theirs);
    let (versions, conflicts) = match prepared {
        Ok(prepared) => ([prepared.ours, prepared.base, prepared.theirs], prepared.conflicts),
        // Only a merge by lines is left.
        Err(error) => {
            eprintln!("{name}: merged by lines: {error}");
            ([ours, base, theirs], Vec::new())
        }
    };
    let (merged, clean) = merge_lines(&args.ours, &versions)?;
    for conflict in &conflicts {
        eprintln!("{name}: both sides changed {conflict}");
    }
    fs::write(&args.ours, &merged).context(format!("cannot write `{}`", args.ours.display()))?;
    if clean && let Err(error) = find_all(&merged) {
        eprintln!("{name}: the merged file does not read: {error}");
        return Ok(ExitCode::from(FAILED));
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// git's own merge by lines, on files beside the one that git gave us. All of it is ciphertext.
fn merge_lines(near: &Path, versions: &[String; 3]) -> Result<(String, bool)> {
    let folder = near.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for (role, text) in ["ours", "base", "theirs"].iter().zip(versions) {
        let file = folder.join(format!(".dodai-merge-{}-{role}", std::process::id()));
        fs::write(&file, text).context(format!("cannot write `{}`", file.display()))?;
        files.push(file);
    }
    let output = Command::new("git")
        .args(["merge-file", "-p", "-L", "ours", "-L", "base", "-L", "theirs"])
        .args(&files)
        .output();
    for file in &files {
        let _ = fs::remove_file(file);
    }
    let output = output.context("cannot run `git merge-file`")?;
    let merged = String::from_utf8(output.stdout).context("`git merge-file` gave no text")?;
    match output.status.code() {
        Some(0) => Ok((merged, true)),
        // The number of conflicts.
        Some(code) if (1..128).contains(&code) => Ok((merged, false)),
        _ => Err(Failure::failed(format!(
            "`git merge-file` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

/// The YAML files of the next commit: those that lie in the folder as they will be committed, the others with their text.
pub(crate) fn staged() -> Result<Vec<(PathBuf, Option<String>)>> {
    let git = |words: &[&str]| -> Result<Vec<u8>> {
        let output = Command::new("git").args(words).output().context("cannot run git")?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::failed(format!("`git {}` failed: {error}", words.join(" "))));
        }
        Ok(output.stdout)
    };
    let list = |words: &[&str]| -> Result<Vec<String>> {
        let output = String::from_utf8(git(words)?).context("a file name that is no text")?;
        Ok(output.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    };
    // Of this folder and those in it, as paths from here.
    let all = list(&["ls-files", "-z", "--cached", "--", "*.yaml", "*.yml"])?;
    let differ = list(&["diff", "--name-only", "--relative", "-z", "--", "*.yaml", "*.yml"])?;
    let mut sources = Vec::new();
    for name in all {
        let file = PathBuf::from(&name);
        let text = match differ.contains(&name) || !file.is_file() {
            false => None,
            // A text that is none is no manifest.
            true => match String::from_utf8(git(&["show", &format!(":./{name}")])?) {
                Ok(text) => Some(text),
                Err(_) => continue,
            },
        };
        sources.push((file, text));
    }
    Ok(sources)
}

pub(crate) fn set_up(args: &GitSetup) -> Result<()> {
    let git = |words: &[&str]| -> Result<String> {
        let output =
            Command::new("git").arg("-C").arg(&args.folder).args(words).output().context("cannot run git")?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::failed(format!("`git {}` failed: {error}", words.join(" "))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let this = std::env::current_exe().context("cannot find this program")?;
    let quoted = format!("'{}'", this.display().to_string().replace('\'', "'\\''"));
    git(&["config", &format!("diff.{DRIVER}.textconv"), &format!("{quoted} secret textconv")])?;
    git(&["config", &format!("merge.{DRIVER}.name"), "values merged by name"])?;
    git(&["config", &format!("merge.{DRIVER}.driver"), &format!("{quoted} secret merge %O %A %B %P")])?;
    let root = Path::new(&root);
    add_attribute(root, &args.pattern)?;
    // Files that are named in another way, each by itself.
    let files: Vec<PathBuf> =
        files::expand(&[root.to_owned()])?.into_iter().filter(|file| holds_ours(file)).collect();
    for file in not_merged_by_name(root, &files)? {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        // Blanks would end a pattern.
        add_attribute(root, &format!("/{}", name.replace(' ', "[[:space:]]")))?;
    }
    if !args.no_hook {
        let hook = git(&["rev-parse", "--git-path", "hooks/pre-commit"])?;
        let hook = Path::new(&args.folder).join(hook);
        let is_ours = fs::read_to_string(&hook).is_ok_and(|text| text.contains(HOOK_MARK));
        if hook.exists() && !is_ours {
            eprintln!("{}: there already; let it call `dodai secret lint --staged`", hook.display());
        } else {
            write_hook(&hook, &quoted)?;
            eprintln!("{}: `dodai secret lint` before each commit", hook.display());
        }
    }
    Ok(())
}

/// Whether a file has an EncryptedSecret in it.
fn holds_ours(file: &Path) -> bool {
    files::read(file).is_ok_and(|text| {
        text.contains("EncryptedSecret") && find_all(&text).is_ok_and(|all| !all.is_empty())
    })
}

fn add_attribute(root: &Path, pattern: &str) -> Result<()> {
    let attributes = root.join(".gitattributes");
    let line = format!("{pattern} diff={DRIVER} merge={DRIVER}");
    let before = fs::read_to_string(&attributes).unwrap_or_default();
    if before.lines().any(|have| have.trim() == line) {
        return Ok(());
    }
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&attributes)
        .and_then(|mut file| file.write_all(format!("{gap}{line}\n").as_bytes()))
        .context(format!("cannot write `{}`", attributes.display()))?;
    eprintln!("{}: `{line}` added; commit it", attributes.display());
    Ok(())
}

/// Those of the files that git would merge by lines. Empty where `git-setup` was never run, or there is no git.
pub(crate) fn not_merged_by_name(folder: &Path, files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let set_up = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["config", &format!("merge.{DRIVER}.driver")])
        .output()
        .is_ok_and(|output| output.status.success());
    let mut found = Vec::new();
    // So many at once as a command line surely takes.
    for files in files.chunks(500).filter(|_| set_up) {
        let absolute: Vec<PathBuf> = files
            .iter()
            .map(std::path::absolute)
            .collect::<std::io::Result<_>>()
            .context("cannot read the current folder")?;
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(["check-attr", "-z", "merge", "--"])
            .args(&absolute)
            .output()
            .context("cannot run git")?;
        // A file outside of the repository has no attributes.
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let values: Vec<&str> = told.split('\0').skip(2).step_by(3).collect();
        if output.status.success() && values.len() >= files.len() {
            found.extend(
                files.iter().zip(values).filter(|(_, value)| *value != DRIVER).map(|(file, _)| file.clone()),
            );
        }
    }
    Ok(found)
}

fn write_hook(hook: &Path, program: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let what = format!("cannot write `{}`", hook.display());
    if let Some(folder) = hook.parent() {
        fs::create_dir_all(folder).context(&what)?;
    }
    let text = format!("#!/bin/sh\n{HOOK_MARK}\nexec {program} secret lint --staged\n");
    fs::write(hook, text).context(&what)?;
    fs::set_permissions(hook, fs::Permissions::from_mode(0o755)).context(&what)
}
