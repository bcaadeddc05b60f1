//! The process that owns one Pod. It starts the Pod's containers, writes their logs, records their ends, and outlives
//! dodai, which finds it again through the socket in the Pod's folder.
//!
//! It is dodai itself, executed again with one argument, but has one thread and no async runtime: it forks, and what
//! it forks makes namespaces, which both forbid threads. Everything happens in one `poll` loop that sleeps when
//! nothing does. It decides nothing: when to start or restart a container is the kubelet's business. Alone, it only
//! ends its Pod when dodai has been away for too long.

mod connection;
mod container;
mod exec;
mod init;
mod log;
pub mod protocol;
pub(crate) mod records;
pub(crate) mod root;
mod stdin;
pub(crate) mod sys;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use connection::Connection;
use container::Slot;
use protocol::{Event, ExecRequest, PodConfig, Request};

pub(crate) use log::part as log_part;
pub(crate) use log::{FILES_MAX as LOG_FILES_MAX, LINE_BYTES_MAX as LOG_LINE_BYTES_MAX};

/// Name of the socket in a Pod's folder.
pub(crate) const SOCKET: &str = "s";
/// Name of the lock file in a Pod's folder; locked as long as its supervisor lives.
pub(crate) const LOCK: &str = "lock";
/// Connections at a time.
const CONNECTIONS_MAX: usize = 16;
/// Commands running in the containers of a Pod at a time.
const HELPERS_MAX: usize = 32;
/// How long a supervisor stays with nothing running and no dodai.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Runs as the supervisor of the Pod whose folder is the last of the process's arguments, and leaves the process when
/// that is over. Must be called before anything starts a thread.
pub fn supervisor_main(args: Vec<OsString>) -> ! {
    let code = match args.as_slice() {
        [_, .., pod_dir] => match Supervisor::open(Path::new(pod_dir)).and_then(Supervisor::run) {
            Ok(()) => 0,
            Err(error) => {
                let _ = writeln!(io::stderr(), "pod supervisor: {error}");
                1
            }
        },
        _ => 2,
    };
    std::process::exit(code)
}

struct Supervisor {
    pod_dir: PathBuf,
    config: PodConfig,
    listener: UnixListener,
    signals: SignalFd,
    slots: BTreeMap<String, Slot>,
    connections: Vec<Connection>,
    helpers: Vec<i32>,
    /// Since when no dodai is there.
    absent_since: Option<Instant>,
    ending: bool,
    _lock: File,
}

impl Supervisor {
    fn open(pod_dir: &Path) -> io::Result<Supervisor> {
        // The folder's name can change its meaning (a mount over it), the descriptor cannot; it also keeps the path
        // of the socket short enough for any data folder.
        std::env::set_current_dir(pod_dir)?;
        let pod_dir = std::env::current_dir()?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(LOCK)?;
        lock_whole(&lock)?;
        let config: PodConfig = records::read(Path::new("pod.json"))?;
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
            set.add(signal);
        }
        set.thread_set_mask()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        fs::create_dir_all("root")?;
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET)?;
        listener.set_nonblocking(true)?;
        let slots = records::read_all(&pod_dir)?
            .into_iter()
            .map(|container| (container.name.clone(), Slot::from_record(container)))
            .collect();
        Ok(Supervisor {
            pod_dir,
            config,
            listener,
            signals,
            slots,
            connections: Vec::new(),
            helpers: Vec::new(),
            absent_since: Some(Instant::now()),
            ending: false,
            _lock: lock,
        })
    }

    fn run(mut self) -> io::Result<()> {
        while !self.is_over() {
            let ready = self.wait()?;
            if ready.signals {
                self.take_signals();
            }
            if ready.listener {
                self.accept();
            }
            self.read_containers();
            self.show_attached();
            self.serve();
            self.tick();
        }
        self.flush_last();
        Ok(())
    }

    fn is_over(&self) -> bool {
        let busy = self.slots.values().any(Slot::is_busy);
        if self.ending {
            return !busy;
        }
        !busy && self.absent_since.is_some_and(|since| since.elapsed() >= self.idle_max())
    }

    fn idle_max(&self) -> Duration {
        self.config.absent_grace_ms.map_or(IDLE_MAX, |grace| Duration::from_millis(grace).min(IDLE_MAX))
    }

    /// Sleeps until something is to be read or due.
    fn wait(&self) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        for connection in &self.connections {
            let mut flags = PollFlags::empty();
            if !self.is_throttled(connection) {
                flags |= PollFlags::POLLIN;
            }
            if !connection.unsent.is_empty() {
                flags |= PollFlags::POLLOUT;
            }
            fds.push(PollFd::new(connection.stream.as_fd(), flags));
        }
        for run in self.slots.values().filter_map(|slot| slot.run.as_ref()) {
            fds.extend(run.stdin.waits_for().map(|file| PollFd::new(file.as_fd(), PollFlags::POLLOUT)));
            for file in [&run.stdout, &run.stderr, &run.report].into_iter().flatten() {
                fds.push(PollFd::new(file.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        Ok(Ready { signals: is_ready(&fds[0]), listener: is_ready(&fds[1]) })
    }

    fn timeout(&self) -> PollTimeout {
        let mut deadlines: Vec<Instant> = self.slots.values().filter_map(Slot::deadline).collect();
        if let Some(since) = self.absent_since
            && !self.ending
        {
            if !self.slots.values().any(Slot::is_busy) {
                deadlines.push(since + self.idle_max());
            }
            if let Some(grace) = self.absent_grace() {
                deadlines.push(since + grace);
            }
        }
        match deadlines.into_iter().min() {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        }
    }

    /// The time after which dodai's absence ends this Pod.
    fn absent_grace(&self) -> Option<Duration> {
        match (self.config.run_to_completion, self.config.absent_grace_ms) {
            (false, Some(grace)) => Some(Duration::from_millis(grace)),
            _ => None,
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let away_too_long = match (self.absent_since, self.absent_grace()) {
            (Some(since), Some(grace)) => now.duration_since(since) >= grace,
            _ => false,
        };
        if away_too_long && !self.ending {
            self.end_pod();
        }
        let mut changed = Vec::new();
        for (name, slot) in &mut self.slots {
            if slot.tick(now, &self.pod_dir) {
                changed.push(name.clone());
            }
        }
        self.announce(&changed);
    }

    fn end_pod(&mut self) {
        self.ending = true;
        let grace = Duration::from_millis(self.config.termination_grace_ms);
        for slot in self.slots.values_mut() {
            slot.stop(grace);
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            // The machine, or whoever runs dodai as a service, ends; that is no reason to cut a release command off.
            let ends = info.ssi_signo as i32 == libc::SIGTERM && !self.config.run_to_completion;
            if ends && !self.ending {
                self.end_pod();
            }
        }
        let mut changed = Vec::new();
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(status) => status,
                Err(nix::Error::EINTR) => continue,
                Err(_) => break,
            };
            let Some(pid) = status.pid().map(|pid| pid.as_raw()) else { continue };
            self.helpers.retain(|helper| *helper != pid);
            for (name, slot) in &mut self.slots {
                let is_it = slot.run.as_ref().is_some_and(|run| run.init_pid == pid);
                if is_it && slot.reaped(status, &self.pod_dir) {
                    changed.push(name.clone());
                }
            }
        }
        self.announce(&changed);
    }

    fn read_containers(&mut self) {
        let mut changed = Vec::new();
        for (name, slot) in &mut self.slots {
            if slot.read() {
                changed.push(name.clone());
            }
        }
        self.announce(&changed);
    }

    fn announce(&mut self, names: &[String]) {
        for name in names {
            let Some(slot) = self.slots.get(name) else { continue };
            let event = Event::Container { container: slot.view() };
            for connection in self.connections.iter_mut().filter(|connection| connection.control) {
                connection.send(&event);
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            // Only this user can reach the folder; the check is for a folder that was opened up by hand.
            let same_user = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials)
                .is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw() || peer.uid() == 0);
            let room = self.connections.len() < CONNECTIONS_MAX;
            if same_user && room && stream.set_nonblocking(true).is_ok() {
                self.connections.push(Connection::new(stream));
            }
        }
    }

    fn serve(&mut self) {
        let mut connections = std::mem::take(&mut self.connections);
        let mut kept = Vec::new();
        for mut connection in connections.drain(..) {
            connection.flush();
            if connection.attached.is_some() {
                self.serve_attached(&mut connection);
                kept.push(connection);
                continue;
            }
            connection.fill();
            while let Some(line) = connection.next_line() {
                match serde_json::from_slice::<Request>(&line) {
                    Ok(Request::Exec { exec }) => {
                        self.exec(&exec, &mut connection);
                        connection.closed = true;
                    }
                    Ok(Request::Attach { attach }) => {
                        self.attach(attach, &mut connection);
                        break;
                    }
                    Ok(Request::Hello) => {
                        for other in &mut kept {
                            let other: &mut Connection = other;
                            other.closed |= other.control;
                        }
                        self.hello(&mut connection);
                    }
                    Ok(request) if connection.control => self.request(request, &mut connection),
                    Ok(_) => connection.refuse("say hello first"),
                    Err(error) => connection.refuse(&format!("not a request: {error}")),
                }
            }
            connection.flush();
            kept.push(connection);
        }
        for gone in kept.iter().filter(|connection| connection.closed) {
            self.client_gone(gone);
        }
        kept.retain(|connection| !connection.closed);
        self.connections = kept;
        for (name, slot) in &mut self.slots {
            let is_watched = self.connections.iter().any(|connection| connection.is_attached_to(name));
            if let Some(run) = &mut slot.run {
                run.is_watched = is_watched;
            }
        }
        let present = self.connections.iter().any(|connection| connection.control);
        match (present, self.absent_since) {
            (true, _) => self.absent_since = None,
            (false, None) => self.absent_since = Some(Instant::now()),
            (false, Some(_)) => {}
        }
    }

    fn hello(&mut self, connection: &mut Connection) {
        connection.control = true;
        let containers = self.slots.values().map(Slot::view).collect();
        connection.send(&Event::State { pid: std::process::id() as i32, containers });
    }

    fn request(&mut self, request: Request, connection: &mut Connection) {
        match request {
            Request::Start { start } => self.start(*start, connection),
            Request::Signal { container, signal } => match self.slots.get(&container) {
                Some(slot) if (1..=64).contains(&signal) => slot.signal(signal),
                _ => connection.refuse(&format!("cannot send signal {signal} to `{container}`")),
            },
            Request::Stop { container, grace_ms } => {
                if let Some(slot) = self.slots.get_mut(&container) {
                    slot.stop(Duration::from_millis(grace_ms));
                }
            }
            Request::Files { container, volume, files } => {
                self.replace_files(&container, &volume, files, connection)
            }
            Request::Shutdown => {
                self.ending = true;
                for slot in self.slots.values_mut() {
                    slot.stop(Duration::ZERO);
                }
            }
            Request::Hello | Request::Exec { .. } | Request::Attach { .. } => {}
        }
    }

    fn start(&mut self, start: protocol::ContainerStart, connection: &mut Connection) {
        let name = start.name.clone();
        let before = self.slots.get(&name);
        if self.ending || before.is_some_and(Slot::is_busy) {
            return connection.refuse(&format!("cannot start `{name}`: it still runs, or the Pod is ending"));
        }
        match Slot::start(&self.pod_dir, &self.config.name, start, before) {
            Ok(slot) => {
                connection.send(&Event::Container { container: slot.view() });
                self.slots.insert(name, slot);
            }
            Err(error) => connection.refuse(&format!("cannot record the start of `{name}`: {error}")),
        }
    }

    fn exec(&mut self, request: &ExecRequest, connection: &mut Connection) {
        let ids = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let place = self.slots.get(&request.container).and_then(|slot| place(slot, ids));
        let failure = match place {
            None => format!("container `{}` is not running", request.container),
            Some(_) if self.helpers.len() >= HELPERS_MAX => {
                format!("more than {HELPERS_MAX} commands run in this Pod")
            }
            Some(place) => {
                // Safety: one thread, and the child never returns.
                match unsafe { nix::unistd::fork() } {
                    Ok(nix::unistd::ForkResult::Child) => exec::run(&place, request, &connection.stream),
                    Ok(nix::unistd::ForkResult::Parent { child }) => {
                        return self.helpers.push(child.as_raw());
                    }
                    Err(error) => format!("cannot fork: {error}"),
                }
            }
        };
        connection.send(&Event::ExecExited { code: 126, signal: None, message: Some(failure) });
        connection.flush();
    }

    fn replace_files(
        &mut self,
        container: &str,
        volume: &str,
        files: Vec<protocol::FileEntry>,
        connection: &mut Connection,
    ) {
        let ids = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let Some(place) = self.slots.get(container).and_then(|slot| place(slot, ids)) else { return };
        if self.helpers.len() >= HELPERS_MAX {
            return connection.refuse("too many commands run in this Pod to update its files");
        }
        for mount in &place.start.mounts {
            let protocol::Mount::Files { volume: name, target, sub_path: None, .. } = mount else { continue };
            if name != volume {
                continue;
            }
            // Safety: one thread, and the child never returns.
            match unsafe { nix::unistd::fork() } {
                Ok(nix::unistd::ForkResult::Child) => exec::run_files(&place, target, &files),
                Ok(nix::unistd::ForkResult::Parent { child }) => self.helpers.push(child.as_raw()),
                Err(error) => connection.refuse(&format!("cannot fork: {error}")),
            }
        }
    }

    /// Gives dodai a last chance to take what was said, for a bounded time.
    fn flush_last(&mut self) {
        for connection in &mut self.connections {
            let _ = connection.stream.set_nonblocking(false);
            let _ = connection.stream.set_write_timeout(Some(Duration::from_secs(1)));
            connection.flush();
        }
    }
}

struct Ready {
    signals: bool,
    listener: bool,
}

fn place(slot: &Slot, (uid, gid): (u32, u32)) -> Option<exec::Place<'_>> {
    let run = slot.run.as_ref()?;
    matches!(slot.view().state, protocol::ContainerState::Running { .. }).then_some(exec::Place {
        init_pid: run.init_pid,
        user_namespace: run.user_namespace,
        start: &slot.start,
        uid,
        gid,
    })
}

fn lock_whole(file: &File) -> io::Result<()> {
    // A record lock belongs to the process alone: what it forks does not hold it.
    // Safety: zero is a valid value of the struct, and the descriptor is open.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    // Safety: as above.
    sys::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &lock) })
}

/// The supervisor that holds the lock of a Pod's folder.
pub(crate) fn lock_holder(pod_dir: &Path) -> Option<i32> {
    let file = OpenOptions::new().read(true).write(true).open(pod_dir.join(LOCK)).ok()?;
    // Safety: as in `lock_whole`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    // Safety: as in `lock_whole`.
    sys::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) }).ok()?;
    (lock.l_type != libc::F_UNLCK as libc::c_short).then_some(lock.l_pid)
}
