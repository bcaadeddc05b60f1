//! Runs one command in a running container. A helper process of its own owns the connection: it joins the
//! container's namespaces, starts the command, passes the ends of its streams to the client, waits, and says how it
//! ended. When the client goes away the command is killed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::init::{Command, become_command};
use super::protocol::{ContainerStart, Event, ExecRequest, FileEntry};
use super::root::{self, Failure};
use super::sys;

/// Exit code for a command that could not be started, as in shells.
const NOT_STARTED: i32 = 126;

/// Where a helper works.
pub(crate) struct Place<'a> {
    pub(crate) init_pid: i32,
    pub(crate) user_namespace: bool,
    pub(crate) start: &'a ContainerStart,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Body of the helper process for one exec. Never returns.
pub(crate) fn run(place: &Place<'_>, request: &ExecRequest, connection: &UnixStream) -> ! {
    sys::close_all_but(&[connection.as_raw_fd()]);
    // Safety: plain system call on a descriptor that is open. The helper may block, the supervisor may not.
    unsafe { libc::fcntl(connection.as_raw_fd(), libc::F_SETFL, 0) };
    let last = match run_command(place, request, connection) {
        Ok(exited) => exited,
        Err(failure) => Event::ExecExited { code: NOT_STARTED, signal: None, message: Some(failure) },
    };
    let _ = sys::send_with_fds(connection.as_raw_fd(), &line(&last), &[]);
    // Safety: ends the helper without running what belongs to the supervisor.
    unsafe { libc::_exit(0) }
}

/// Body of the helper process that replaces the files of a volume. Its exit code says whether it worked.
pub(crate) fn run_files(place: &Place<'_>, target: &str, files: &[FileEntry]) -> ! {
    let done = join(place).and_then(|()| root::replace_files(target, files));
    // Safety: as above.
    unsafe { libc::_exit(i32::from(done.is_err())) }
}

fn line(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line
}

fn join(place: &Place<'_>) -> Result<(), Failure> {
    let mut names = vec![
        ("mnt", CloneFlags::CLONE_NEWNS),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
    ];
    if place.user_namespace {
        names.insert(0, ("user", CloneFlags::CLONE_NEWUSER));
    }
    let mut opened = Vec::new();
    for (name, kind) in names {
        let file = File::open(format!("/proc/{}/ns/{name}", place.init_pid))
            .map_err(|error| format!("cannot find the container's {name} namespace: {error}"))?;
        opened.push((file, name, kind));
    }
    for (file, name, kind) in opened {
        setns(&file, kind)
            .map_err(|error| format!("cannot join the container's {name} namespace: {error}"))?;
    }
    std::env::set_current_dir("/").map_err(|error| format!("cannot enter the root: {error}"))
}

struct Streams {
    /// For the command: stdin, stdout, stderr.
    theirs: Vec<OwnedFd>,
    /// For the client.
    ours: Vec<OwnedFd>,
}

fn make_streams(request: &ExecRequest) -> Result<Streams, Failure> {
    let fail = |error: &dyn std::fmt::Display| format!("cannot make its standard streams: {error}");
    if request.tty {
        let (master, slave) = sys::terminal().map_err(|error| fail(&error))?;
        let theirs = vec![
            slave.try_clone().map_err(|error| fail(&error))?,
            slave.try_clone().map_err(|error| fail(&error))?,
            slave,
        ];
        return Ok(Streams { theirs, ours: vec![master] });
    }
    let mut streams = Streams { theirs: Vec::new(), ours: Vec::new() };
    if request.stdin {
        let (read, write) = sys::pipe().map_err(|error| fail(&error))?;
        streams.theirs.push(read);
        streams.ours.push(write);
    } else {
        streams.theirs.push(File::open("/dev/null").map_err(|error| fail(&error))?.into());
    }
    for _ in 0..2 {
        let (read, write) = sys::pipe().map_err(|error| fail(&error))?;
        streams.theirs.push(write);
        streams.ours.push(read);
    }
    Ok(streams)
}

fn run_command(place: &Place<'_>, request: &ExecRequest, connection: &UnixStream) -> Result<Event, Failure> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|error| format!("cannot watch signals: {error}"))?;
    join(place)?;
    sys::die_with_parent().map_err(|error| format!("cannot bind its life to the supervisor: {error}"))?;
    let streams = make_streams(request)?;
    let child = spawn(place, request, &streams)?;
    drop(streams.theirs);
    let numbers: Vec<RawFd> = streams.ours.iter().map(AsRawFd::as_raw_fd).collect();
    let sent = sys::send_with_fds(connection.as_raw_fd(), &line(&Event::ExecStarted), &numbers);
    drop(streams.ours);
    if sent.is_err() {
        kill_group(child);
    }
    Ok(wait(child, connection, &signals))
}

fn spawn(place: &Place<'_>, request: &ExecRequest, streams: &Streams) -> Result<Pid, Failure> {
    let (failure_read, failure_write) = sys::pipe().map_err(|error| error.to_string())?;
    // Safety: this process has one thread.
    match unsafe { fork() }.map_err(|error| format!("cannot fork: {error}"))? {
        ForkResult::Child => {
            let start = place.start;
            let mut env = start.env.clone();
            if request.tty && !env.iter().any(|(name, _)| name == "TERM") {
                env.push(("TERM".to_string(), "xterm".to_string()));
            }
            let _ = sys::die_with_parent();
            let command = Command {
                command: &request.command,
                env: &env,
                working_dir: &start.working_dir,
                user: start.run_as_user.filter(|user| *user != place.uid),
                group: start.run_as_group.filter(|group| *group != place.gid),
                user_namespace: place.user_namespace,
                terminal: request.tty,
            };
            let stdio: Vec<RawFd> = streams.theirs.iter().map(AsRawFd::as_raw_fd).collect();
            let failure = become_command(&command, [stdio[0], stdio[1], stdio[2]]);
            let _ = File::from(failure_write).write_all(failure.as_bytes());
            // Safety: ends the child without running what belongs to the supervisor.
            unsafe { libc::_exit(NOT_STARTED) }
        }
        ForkResult::Parent { child } => {
            drop(failure_write);
            let mut failure = String::new();
            let _ = File::from(failure_read).read_to_string(&mut failure);
            if failure.is_empty() { Ok(child) } else { Err(failure) }
        }
    }
}

fn kill_group(child: Pid) {
    // Safety: plain system call; the child is not reaped yet, so the number is still its own.
    unsafe { libc::kill(-child.as_raw(), libc::SIGKILL) };
}

fn wait(child: Pid, mut connection: &UnixStream, signals: &SignalFd) -> Event {
    let mut connected = true;
    loop {
        match waitpid(child, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => {
                return Event::ExecExited { code, signal: None, message: None };
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                let number = signal as i32;
                return Event::ExecExited { code: 128 + number, signal: Some(number), message: None };
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => {
                let message = Some(format!("cannot wait for the command: {error}"));
                return Event::ExecExited { code: NOT_STARTED, signal: None, message };
            }
        }
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if connected {
            fds.push(PollFd::new(connection.as_fd(), PollFlags::POLLIN));
        }
        let _ = poll(&mut fds, PollTimeout::NONE);
        while let Ok(Some(_)) = signals.read_signal() {}
        if connected && fds[1].revents().is_some_and(|events| !events.is_empty()) {
            // The client sends nothing after its request, so this is its end.
            let mut byte = [0; 64];
            if matches!(connection.read(&mut byte), Ok(0) | Err(_)) {
                connected = false;
                kill_group(child);
            }
        }
    }
}
