//! `edit`: plaintext in an editor, on memory-backed storage only; what changed is sealed, the rest stays byte for byte.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

use dodai_secrets::file::{back, change, view};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use zeroize::Zeroizing;

use super::change::no_recipients;
use super::cli::File;
use super::files::{self, Session, failed};
use crate::cli::Global;
use crate::failure::{Context, Failure, Result};

/// Begins the lines that dodai puts at the top and takes off again.
const OURS: &str = "# dodai: ";
/// How often a text that cannot be sealed is shown again.
const TRIES_MAX: usize = 100;

pub(crate) fn run(global: &Global, args: &File) -> Result<()> {
    let session = Session::open(&args.file, &args.keyring)?;
    let is_new = !args.file.exists();
    let text = if is_new { template(global, args, &session)? } else { files::read(&args.file)? };
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
                let now = if args.file.exists() { Some(files::read(&args.file)?) } else { None };
                if now.as_ref() != Some(&text).filter(|_| !is_new) {
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

/// What a new file begins with.
fn template(global: &Global, args: &File, session: &Session) -> Result<String> {
    if session.recipients.is_empty() {
        return Err(no_recipients(&args.file));
    }
    let stem = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(format!("{}spec:\n  data:\n    # KEY: value\n", change::create(&global.namespace, &stem)))
}

/// What a terminal sends to everybody in it.
const FOR_THE_EDITOR: [Signal; 4] = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM];
/// The editor's process, while it runs.
static EDITOR: AtomicI32 = AtomicI32::new(0);

extern "C" fn pass_on(_: i32) {
    let editor = EDITOR.load(Ordering::SeqCst);
    if editor > 0 {
        // `kill` is async-signal-safe; an editor that has ended is not waited for yet, so its number is still its own.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(editor), Signal::SIGTERM);
    }
}

/// Signals that do not end this command while an editor runs; dropped, they do again.
struct Ignored(Vec<(Signal, SigHandler)>);

impl Ignored {
    fn new() -> Ignored {
        let set = |one: Signal| {
            let handler =
                if one == Signal::SIGTERM { SigHandler::Handler(pass_on) } else { SigHandler::SigIgn };
            // SAFETY: the one handler calls nothing but an atomic load and `kill`.
            Some((one, unsafe { signal(one, handler) }.ok()?))
        };
        Ignored(FOR_THE_EDITOR.into_iter().filter_map(set).collect())
    }
}

impl Drop for Ignored {
    fn drop(&mut self) {
        for (one, before) in &self.0 {
            // SAFETY: the disposition that was there before.
            let _ = unsafe { signal(*one, *before) };
        }
    }
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
        // Ctrl-C and a closed terminal are for the editor; if they ended us, plaintext would stay behind.
        let kept = Ignored::new();
        let mut command = Command::new("sh");
        // In the shell's place where it is a plain command, so that a signal for the shell is one for the editor.
        let is_plain = editor.chars().all(|c| c.is_alphanumeric() || " ./_-".contains(c));
        let exec = if is_plain { "exec " } else { "" };
        command.arg("-c").arg(format!("{exec}{editor} \"$1\"")).arg("sh").arg(&self.file);
        // SAFETY: `signal` is async-signal-safe, and the closure does nothing else.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, || {
                let restore = |one| signal(one, SigHandler::SigDfl).map(drop);
                FOR_THE_EDITOR.into_iter().try_for_each(restore).map_err(std::io::Error::from)
            });
        }
        let status = command.spawn().and_then(|mut child| {
            // `kill` of this command ends the editor; then all goes its usual way.
            EDITOR.store(i32::try_from(child.id()).unwrap_or_default(), Ordering::SeqCst);
            let status = child.wait();
            EDITOR.store(0, Ordering::SeqCst);
            status
        });
        drop(kept);
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
