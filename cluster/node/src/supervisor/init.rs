//! The first process of a container: assembles the root, runs the command as its child, reaps what is orphaned,
//! passes signals on, and leaves with the command, which ends everything in its PID namespace.
//!
//! It reports over a pipe, since an exit status cannot say why a start failed. When it was asked to stop it waits for
//! all processes, not only the first: a shell that dies of SIGTERM must not take a server down in mid-request.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::protocol::{ContainerStart, InitReport, MESSAGE_BYTES_MAX};
use super::root::{self, Failure, RootSpec};
use super::sys;

/// What the first process gets from the supervisor that forked it.
pub(crate) struct Init<'a> {
    pub(crate) start: &'a ContainerStart,
    pub(crate) pod_dir: &'a Path,
    pub(crate) host_name: &'a str,
    /// Ids before the fork; they stay the same inside.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// A user namespace was made, since this user may not make the others alone.
    pub(crate) user_namespace: bool,
    pub(crate) report: OwnedFd,
    /// Readable (at its end) when the supervisor is gone.
    pub(crate) supervisor_gone: OwnedFd,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Runs the container and leaves this process. Never returns.
pub(crate) fn run(init: Init<'_>) -> ! {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run_container(&init)));
    let last = match outcome {
        Ok(Ok(exited)) => exited,
        Ok(Err(step)) => InitReport::Failed { step },
        Err(_) => InitReport::Failed { step: "the container's first process panicked".to_string() },
    };
    tell(&init.report, &last);
    exit_now(0)
}

fn exit_now(code: i32) -> ! {
    // Safety: ends the process without running what belongs to the supervisor it was forked from.
    unsafe { libc::_exit(code) }
}

fn tell(pipe: &OwnedFd, report: &InitReport) {
    let mut line = serde_json::to_vec(report).unwrap_or_default();
    line.push(b'\n');
    let mut rest = line.as_slice();
    // If the supervisor is gone there is nobody to tell, and the kernel is about to end this process.
    while let Ok(written @ 1..) = nix::unistd::write(pipe, rest) {
        rest = &rest[written..];
    }
}

fn run_container(init: &Init<'_>) -> Result<InitReport, Failure> {
    sys::close_all_but(&[
        init.report.as_raw_fd(),
        init.supervisor_gone.as_raw_fd(),
        init.stdin.as_raw_fd(),
        init.stdout.as_raw_fd(),
        init.stderr.as_raw_fd(),
    ]);
    if init.user_namespace {
        root::map_own_user(init.uid, init.gid)?;
    }
    sys::die_with_parent().map_err(|error| format!("cannot bind its life to the supervisor: {error}"))?;
    // Own signals first: what arrives while the root is assembled waits.
    let signals = block_signals()?;
    let _ = nix::unistd::sethostname(init.host_name);
    root::assemble_and_enter(&RootSpec {
        over: &init.pod_dir.join("root"),
        mounts: &init.start.mounts,
        host_name: init.host_name,
        privileged: init.uid == 0,
    })?;
    let child = spawn_command(init)?;
    tell(&init.report, &InitReport::Running);
    close_stdio(init);
    watch(init, child, &signals)
}

/// Lets go of the container's pipes: only its processes hold them now, so their end is seen.
fn close_stdio(init: &Init<'_>) {
    for fd in [&init.stdin, &init.stdout, &init.stderr] {
        // Replaced, not closed, so that the owner's later close hits nothing else.
        if let Ok(null) = File::open("/dev/null") {
            let _ = sys::dup_to(null.as_raw_fd(), fd.as_raw_fd());
        }
    }
}

fn block_signals() -> Result<SignalFd, Failure> {
    let mut set = SigSet::all();
    for signal in
        [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGPIPE]
    {
        set.remove(signal);
    }
    set.thread_set_mask().map_err(|error| format!("cannot block signals: {error}"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|error| format!("cannot watch signals: {error}"))
}

fn spawn_command(init: &Init<'_>) -> Result<Pid, Failure> {
    let (failure_read, failure_write) = sys::pipe().map_err(|error| error.to_string())?;
    // Safety: this process has one thread.
    match unsafe { fork() }.map_err(|error| format!("cannot fork: {error}"))? {
        ForkResult::Child => {
            let start = init.start;
            let mut env = start.env.clone();
            if start.tty && !env.iter().any(|(name, _)| name == "TERM") {
                env.push(("TERM".to_string(), "xterm".to_string()));
            }
            let command = Command {
                command: &start.command,
                env: &env,
                working_dir: &start.working_dir,
                user: start.run_as_user.filter(|user| *user != init.uid),
                group: start.run_as_group.filter(|group| *group != init.gid),
                user_namespace: init.user_namespace,
                terminal: start.tty,
            };
            let stdio = [init.stdin.as_raw_fd(), init.stdout.as_raw_fd(), init.stderr.as_raw_fd()];
            let failure = become_command(&command, stdio);
            let _ = File::from(failure_write).write_all(failure.as_bytes());
            exit_now(127)
        }
        ForkResult::Parent { child } => {
            drop(failure_write);
            let mut failure = String::new();
            let _ = File::from(failure_read).read_to_string(&mut failure);
            if failure.is_empty() { Ok(child) } else { Err(failure) }
        }
    }
}

/// What to execute.
pub(crate) struct Command<'a> {
    pub(crate) command: &'a [String],
    pub(crate) env: &'a [(String, String)],
    pub(crate) working_dir: &'a str,
    /// Only if it is another than now.
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) user_namespace: bool,
    /// stdin is a terminal that shall control the new session.
    pub(crate) terminal: bool,
}

/// Replaces this process by the command; returns only what went wrong.
pub(crate) fn become_command(command: &Command<'_>, stdio: [i32; 3]) -> Failure {
    match try_become(command, stdio) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_become(command: &Command<'_>, stdio: [i32; 3]) -> Result<std::convert::Infallible, Failure> {
    let fail = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what}: {error}");
    nix::unistd::setsid().map_err(|error| fail("start a session", &error))?;
    for (target, fd) in stdio.into_iter().enumerate() {
        sys::dup_to(fd, target as i32).map_err(|error| fail("connect its standard streams", &error))?;
    }
    if command.terminal {
        // Safety: plain system call on stdin.
        sys::check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })
            .map_err(|error| fail("take the terminal", &error))?;
    }
    sys::drop_capabilities().map_err(|error| fail("drop capabilities", &error))?;
    become_user(command)?;
    sys::no_new_privileges().map_err(|error| fail("forbid new privileges", &error))?;
    std::env::set_current_dir(command.working_dir)
        .map_err(|error| format!("cannot start in `{}`: {error}", command.working_dir))?;
    let program = find_program(command)?;
    let bytes =
        |text: &str| CString::new(text).map_err(|_| "a zero byte in the command or environment".to_string());
    let path =
        CString::new(program.as_os_str().as_bytes()).map_err(|_| "a zero byte in the command".to_string())?;
    let arguments: Vec<CString> = command.command.iter().map(|text| bytes(text)).collect::<Result<_, _>>()?;
    let environment: Vec<CString> = command
        .env
        .iter()
        .map(|(name, value)| bytes(&format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    sys::reset_signals();
    nix::unistd::execve(&path, &arguments, &environment)
        .map_err(|error| format!("cannot execute `{}`: {error}", program.display()))
}

fn become_user(command: &Command<'_>) -> Result<(), Failure> {
    if command.user.is_none() && command.group.is_none() {
        return Ok(());
    }
    if command.user_namespace {
        let wanted = command.user.or(command.group).unwrap_or_default();
        return Err(format!("cannot run as user or group {wanted}: only possible where dodai runs as root"));
    }
    let fail = |error: nix::Error| format!("cannot become the user: {error}");
    nix::unistd::setgroups(&[]).map_err(fail)?;
    if let Some(group) = command.group.or(command.user) {
        nix::unistd::setgid(group.into()).map_err(fail)?;
    }
    if let Some(user) = command.user {
        nix::unistd::setuid(user.into()).map_err(fail)?;
    }
    Ok(())
}

/// Looks the program up as execvp(3) would, in the container's `PATH`, but says what was tried.
fn find_program(command: &Command<'_>) -> Result<PathBuf, Failure> {
    let name = command.command.first().filter(|name| !name.is_empty()).ok_or("the command is empty")?;
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match path.metadata() {
            Ok(metadata) if metadata.is_dir() => Err(format!("cannot execute `{name}`: is a folder")),
            Ok(_) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("command `{name}` not found"))
            }
            Err(error) => Err(format!("cannot execute `{name}`: {error}")),
        };
    }
    let path = command
        .env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map_or("/usr/bin:/bin", |(_, value)| value.as_str());
    for folder in path.split(':').filter(|folder| !folder.is_empty()) {
        let candidate = Path::new(folder).join(name);
        let Ok(c_path) = CString::new(candidate.as_os_str().as_bytes()) else { continue };
        // Safety: plain system call on a string that lives.
        if candidate.is_file() && unsafe { libc::access(c_path.as_ptr(), libc::X_OK) } == 0 {
            return Ok(candidate);
        }
    }
    Err(format!("command `{name}` not found in PATH `{path}`"))
}

/// Reaps and passes signals on until the command has ended.
fn watch(init: &Init<'_>, child: Pid, signals: &SignalFd) -> Result<InitReport, Failure> {
    let mut stopping = false;
    let mut ended: Option<(i32, Option<i32>)> = None;
    loop {
        let alone = reap(child, &mut ended);
        if let Some((code, signal)) = ended
            && (alone || !stopping)
        {
            return Ok(InitReport::Exited { code, signal, message: read_message(init.start) });
        }
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(init.supervisor_gone.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(format!("cannot wait for its processes: {error}")),
        }
        if fds[1].revents().is_some_and(|events| !events.is_empty()) {
            exit_now(0) // The supervisor died; leaving ends everything in this namespace.
        }
        while let Ok(Some(info)) = signals.read_signal() {
            let number = info.ssi_signo as i32;
            if number == libc::SIGCHLD {
                continue;
            }
            stopping |= [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT].contains(&number);
            // Safety: plain system call. The command leads its own process group.
            unsafe { libc::kill(-child.as_raw(), number) };
        }
    }
}

/// Takes every child that ended. `true` when there is none left.
fn reap(child: Pid, ended: &mut Option<(i32, Option<i32>)>) -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => *ended = Some((code, None)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                *ended = Some((128 + signal as i32, Some(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return true,
        }
    }
}

fn read_message(start: &ContainerStart) -> String {
    let Some(path) = &start.termination_message_path else { return String::new() };
    let mut text = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(MESSAGE_BYTES_MAX as u64).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}
