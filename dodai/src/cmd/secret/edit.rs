//! `edit`: plaintext in an editor, on memory-backed storage only; what changed is sealed, the rest stays byte for byte.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use dodai_secrets::file::{back, view};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use zeroize::Zeroizing;

use super::cli::File;
use super::files::{self, Session, failed};
use crate::failure::{Context, Failure, Result};

/// Begins the lines that dodai puts at the top and takes off again.
const OURS: &str = "# dodai: ";
/// How often a text that cannot be sealed is shown again.
const TRIES_MAX: usize = 100;

pub(crate) fn run(args: &File) -> Result<()> {
    let session = Session::open(&args.file, &args.keyring)?;
    let text = files::read(&args.file)?;
    let shown = view::view(&text, &session.keyring).map_err(|error| failed(&args.file, &error))?;
    let mut head: Vec<String> = shown
        .closed
        .iter()
        .map(|closed| {
            format!("cannot open {} `{}`: {}; it stays as it is", closed.object, closed.key, closed.error)
        })
        .collect();
    let desk = Desk::new(&args.file)?;
    let mut current = shown.text.clone();
    for _ in 0..TRIES_MAX {
        let edited = desk.edit(&current, &head)?;
        if *edited == *shown.text {
            eprintln!("{}: nothing changed", args.file.display());
            return Ok(());
        }
        if head.iter().any(|line| line.starts_with("error")) && *edited == *current {
            return Err(Failure::invalid("the error was left as it was; nothing changed"));
        }
        match back::back(Some(&text), &edited, &session.sealing()) {
            Ok(sealed) => {
                if files::read(&args.file)? != text {
                    return Err(Failure::failed(format!(
                        "`{}` was changed by somebody else meanwhile; nothing was written",
                        args.file.display()
                    )));
                }
                files::write(&args.file, &sealed)?;
                eprintln!("{}: sealed", args.file.display());
                return Ok(());
            }
            Err(error) => {
                head = vec![match error.position {
                    // The line as the editor shows it, below this one.
                    Some((line, column)) => {
                        format!("error in line {}, column {column}: {}", line + 1, error.message)
                    }
                    None => format!("error: {error}"),
                }];
                eprintln!("{}", head[0]);
                current = edited;
            }
        }
    }
    Err(Failure::invalid("too many tries; nothing changed"))
}

/// A folder in memory for one file.
struct Desk {
    folder: PathBuf,
    file: PathBuf,
}

impl Desk {
    fn new(file: &Path) -> Result<Desk> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let places = runtime.into_iter().chain([PathBuf::from("/dev/shm"), PathBuf::from("/run/user")]);
        let in_memory =
            |place: &PathBuf| statfs(place.as_path()).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC);
        for place in places.filter(in_memory) {
            let folder = place.join(format!("dodai-edit-{}", std::process::id()));
            // A folder that is there is another's.
            if fs::DirBuilder::new().mode(0o700).create(&folder).is_ok() {
                let name = file.file_name().unwrap_or_default();
                return Ok(Desk { file: folder.join(name), folder });
            }
        }
        Err(Failure::failed(
            "no storage in memory for the plaintext: neither `XDG_RUNTIME_DIR` nor `/dev/shm` is a tmpfs",
        )
        .hint("`dodai secret set FILE KEY` takes a value from standard input and needs none"))
    }

    /// Lets the person edit; gives the text without our lines.
    fn edit(&self, text: &str, head: &[String]) -> Result<Zeroizing<String>> {
        let what = || format!("cannot edit `{}`", self.file.display());
        let mut shown = Zeroizing::new(String::new());
        for line in head {
            shown.push_str(&format!("{OURS}{}\n", line.replace('\n', " ")));
        }
        shown.push_str(text);
        let _ = fs::remove_file(&self.file);
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.file)
            .context(what())?;
        out.write_all(shown.as_bytes()).context(what())?;
        drop(out);
        let editor = ["VISUAL", "EDITOR"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
            .unwrap_or_else(|| "vi".to_owned());
        // Ctrl-C is for the editor; if it ended us, plaintext would stay behind.
        // SAFETY: no handler of ours runs; the disposition is only set to ignore, and back.
        let before = unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) };
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&self.file);
        // SAFETY: `signal` is async-signal-safe, and the closure does nothing else.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, || {
                signal(Signal::SIGINT, SigHandler::SigDfl).map(drop).map_err(std::io::Error::from)
            });
        }
        let status = command.status();
        if let Ok(before) = before {
            // SAFETY: the disposition that was there before.
            let _ = unsafe { signal(Signal::SIGINT, before) };
        }
        let status = status.context(format!("cannot start the editor `{editor}`"))?;
        if !status.success() {
            return Err(Failure::failed(format!(
                "the editor `{editor}` ended with {status}; nothing changed"
            ))
            .hint("`EDITOR` names another"));
        }
        let edited = Zeroizing::new(fs::read_to_string(&self.file).context(what())?);
        let mut rest = edited.as_str();
        while rest.starts_with(OURS.trim_end()) {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
        Ok(Zeroizing::new(rest.to_owned()))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // Whatever the editor left beside it too.
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!(
                "warning: `{}` holds plaintext and could not be removed: {error}",
                self.folder.display()
            );
        }
    }
}
