//! One container of a supervisor: starts its first process, takes its output into the log, and turns its end into a
//! record on disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::wait::WaitStatus;

use super::init::{self, Init};
use super::log::{LogWriter, Stream};
use super::protocol::{Container, ContainerStart, ContainerState, ExitRecord, InitReport, frame};
use super::stdin::Stdin;
use super::{records, sys};

/// Bytes taken from one stream before the others get their turn.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Longest report of a first process.
const REPORT_BYTES_MAX: usize = 64 * 1024;
/// Pause before an exit that could not be recorded (a full disk) is recorded again.
const RECORD_RETRY: Duration = Duration::from_secs(1);
/// Exit code of what could not be started, as in containerd.
const START_ERROR_CODE: i32 = 128;

/// A container that was started at least once.
pub(crate) struct Slot {
    pub(crate) start: ContainerStart,
    pub(crate) run: Option<Run>,
    /// Frames of output for those who are attached, not yet handed to them.
    pub(crate) fresh: Vec<u8>,
    state: ContainerState,
    previous: Option<ExitRecord>,
    /// An exit that is not on disk yet, so nobody may know of it.
    unrecorded: Option<(ExitRecord, Instant)>,
}

/// The processes of a container.
pub(crate) struct Run {
    pub(crate) init_pid: i32,
    pub(crate) user_namespace: bool,
    pub(crate) stdin: Stdin,
    /// Somebody wants to see the output as it comes.
    pub(crate) is_watched: bool,
    pub(crate) stdout: Option<File>,
    pub(crate) stderr: Option<File>,
    pub(crate) report: Option<File>,
    pub(crate) kill_at: Option<Instant>,
    out: Stream,
    err: Stream,
    log: LogWriter,
    report_text: Vec<u8>,
    ended: Option<WaitStatus>,
    started_at: Timestamp,
    /// Held open: its end tells the first process that the supervisor is gone.
    _alive: OwnedFd,
}

impl Slot {
    /// Records the start, then forks the container's first process.
    pub(crate) fn start(
        pod_dir: &Path,
        host_name: &str,
        start: ContainerStart,
        before: Option<&Slot>,
    ) -> io::Result<Slot> {
        let started_at = Timestamp::now();
        let log = LogWriter::open(&start.log_path)?;
        records::write_started(
            pod_dir,
            &start.name,
            &records::StartRecord { attempt: start.attempt, started_at },
        )?;
        let previous = match before.map(|slot| &slot.state) {
            Some(ContainerState::Exited(record)) => Some(record.clone()),
            _ => None,
        };
        let mut slot = Slot {
            start,
            run: None,
            fresh: Vec::new(),
            state: ContainerState::Starting { started_at },
            previous,
            unrecorded: None,
        };
        match fork_init(pod_dir, host_name, &slot.start, log, started_at) {
            Ok(run) => slot.run = Some(run),
            Err(failure) => slot.end(start_error(&slot.start, started_at, failure), pod_dir),
        }
        Ok(slot)
    }

    /// A container that an earlier supervisor ran.
    pub(crate) fn from_record(container: Container) -> Slot {
        Slot {
            start: ContainerStart {
                name: container.name,
                attempt: container.attempt,
                ..ContainerStart::default()
            },
            run: None,
            fresh: Vec::new(),
            state: container.state,
            previous: container.previous,
            unrecorded: None,
        }
    }

    pub(crate) fn view(&self) -> Container {
        Container {
            name: self.start.name.clone(),
            attempt: self.start.attempt,
            state: self.state.clone(),
            previous: self.previous.clone(),
        }
    }

    /// Whether there is something that has not come to its recorded end.
    pub(crate) fn is_busy(&self) -> bool {
        self.run.is_some() || self.unrecorded.is_some()
    }

    pub(crate) fn signal(&self, signal: i32) {
        if let Some(run) = &self.run
            && run.ended.is_none()
        {
            // Safety: the process is not reaped, so the number is still its own.
            unsafe { libc::kill(run.init_pid, signal) };
        }
    }

    /// SIGTERM now, SIGKILL later. A second call can only shorten the time.
    pub(crate) fn stop(&mut self, grace: Duration) {
        let kill_at = Instant::now() + grace;
        let Some(run) = &mut self.run else { return };
        run.kill_at = Some(run.kill_at.map_or(kill_at, |old| old.min(kill_at)));
        self.signal(libc::SIGTERM);
    }

    /// The next moment at which [`Slot::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let kill_at = self.run.as_ref().filter(|run| run.ended.is_none()).and_then(|run| run.kill_at);
        let retry_at = self.unrecorded.as_ref().map(|(_, at)| *at);
        kill_at.into_iter().chain(retry_at).min()
    }

    /// Does what is due. `true` if the container changed.
    pub(crate) fn tick(&mut self, now: Instant, pod_dir: &Path) -> bool {
        if let Some(run) = &mut self.run
            && run.kill_at.is_some_and(|at| at <= now)
        {
            run.kill_at = None;
            self.signal(libc::SIGKILL);
        }
        match self.unrecorded.take() {
            Some((record, at)) if at <= now => {
                self.end(record, pod_dir);
                self.unrecorded.is_none()
            }
            other => {
                self.unrecorded = other;
                false
            }
        }
    }

    /// Takes what the pipes hold. `true` if the container changed.
    pub(crate) fn read(&mut self) -> bool {
        let Some(run) = &mut self.run else { return false };
        run.stdin.write();
        run.read_output(&mut self.fresh);
        if run.read_report() && matches!(self.state, ContainerState::Starting { .. }) {
            self.state = ContainerState::Running { pid: run.init_pid, started_at: run.started_at };
            return true;
        }
        false
    }

    /// The first process was reaped, and with it every process of the container.
    pub(crate) fn reaped(&mut self, status: WaitStatus, pod_dir: &Path) -> bool {
        let Some(mut run) = self.run.take() else { return false };
        run.ended = Some(status);
        while run.read_output(&mut self.fresh) {}
        run.read_report();
        run.log.finish(&mut run.out, "stdout");
        run.log.finish(&mut run.err, "stderr");
        let record = exit_record(&self.start, &run);
        self.end(record, pod_dir);
        self.unrecorded.is_none()
    }

    fn end(&mut self, record: ExitRecord, pod_dir: &Path) {
        match records::write_exit(pod_dir, &self.start.name, &record) {
            Ok(()) => self.state = ContainerState::Exited(record),
            Err(_) => self.unrecorded = Some((record, Instant::now() + RECORD_RETRY)),
        }
    }
}

impl Run {
    /// `true` while there may be more.
    fn read_output(&mut self, fresh: &mut Vec<u8>) -> bool {
        let mut buffer = [0; READ_BYTES_MAX];
        let mut more = false;
        let out = (&mut self.stdout, &mut self.out, "stdout", frame::STDOUT);
        let err = (&mut self.stderr, &mut self.err, "stderr", frame::STDERR);
        for (pipe, stream, name, kind) in [out, err] {
            let Some(file) = pipe else { continue };
            match file.read(&mut buffer) {
                Ok(0) => *pipe = None,
                Ok(size) => {
                    self.log.write(stream, name, &buffer[..size]);
                    if self.is_watched {
                        fresh.extend(frame::encode(kind, &buffer[..size]));
                    }
                    more = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => more = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => *pipe = None,
            }
        }
        more
    }

    /// `true` once the first process said that the command runs.
    fn read_report(&mut self) -> bool {
        let mut buffer = [0; 4096];
        while let Some(file) = &mut self.report {
            match file.read(&mut buffer) {
                Ok(size @ 1..) if self.report_text.len() + size <= REPORT_BYTES_MAX => {
                    self.report_text.extend_from_slice(&buffer[..size]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => self.report = None,
            }
        }
        self.reports().any(|report| matches!(report, InitReport::Running))
    }

    fn reports(&self) -> impl Iterator<Item = InitReport> {
        self.report_text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
    }
}

fn exit_record(start: &ContainerStart, run: &Run) -> ExitRecord {
    let mut ran = false;
    let mut outcome = None;
    for report in run.reports() {
        match report {
            InitReport::Running => ran = true,
            InitReport::Failed { step } if !ran => return start_error(start, run.started_at, step),
            InitReport::Failed { .. } => {}
            InitReport::Exited { code, signal, message } => outcome = Some((code, signal, message)),
        }
    }
    let (exit_code, signal, mut message) = outcome.unwrap_or_else(|| match run.ended {
        Some(WaitStatus::Exited(_, code)) => (if code == 0 { 255 } else { code }, None, String::new()),
        Some(WaitStatus::Signaled(_, signal, _)) => (128 + signal as i32, Some(signal as i32), String::new()),
        _ => (255, None, String::new()),
    });
    if message.is_empty() && exit_code != 0 && start.message_from_log {
        message = run.log.tail();
    }
    if let Some(error) = &run.log.failure {
        message.push_str(&format!("\nits log could not be written: {error}"));
    }
    ExitRecord {
        attempt: start.attempt,
        exit_code,
        signal,
        reason: if exit_code == 0 { "Completed" } else { "Error" }.to_string(),
        message,
        started_at: run.started_at,
        finished_at: Timestamp::now(),
    }
}

fn start_error(start: &ContainerStart, started_at: Timestamp, message: String) -> ExitRecord {
    ExitRecord {
        attempt: start.attempt,
        exit_code: START_ERROR_CODE,
        signal: None,
        reason: "StartError".to_string(),
        message,
        started_at,
        finished_at: Timestamp::now(),
    }
}

fn fork_init(
    pod_dir: &Path,
    host_name: &str,
    start: &ContainerStart,
    log: LogWriter,
    started_at: Timestamp,
) -> Result<Run, String> {
    let pipe = || sys::pipe().map_err(|error| format!("cannot make a pipe: {error}"));
    let (report_read, report) = pipe()?;
    let (supervisor_gone, alive) = pipe()?;
    let streams = streams(start).map_err(|error| format!("cannot make its standard streams: {error}"))?;
    let user_namespace = !sys::has_sys_admin();
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    // Safety: the supervisor has one thread, and the child never returns from `run`.
    let child = unsafe { sys::fork_into(sys::container_namespaces(user_namespace)) };
    let init_pid = match child {
        Err(error) => return Err(explain_namespaces(&error)),
        Ok(Some(pid)) => pid,
        Ok(None) => init::run(Init {
            start,
            pod_dir,
            host_name,
            uid,
            gid,
            user_namespace,
            report,
            supervisor_gone,
            stdin: streams.theirs[0].try_clone().unwrap_or_else(|_| sys::exit_now()),
            stdout: streams.theirs[1].try_clone().unwrap_or_else(|_| sys::exit_now()),
            stderr: streams.theirs[2].try_clone().unwrap_or_else(|_| sys::exit_now()),
        }),
    };
    let ours = [Some(&streams.stdout), streams.stderr.as_ref()].into_iter().flatten().map(AsRawFd::as_raw_fd);
    for fd in ours.chain([report_read.as_raw_fd()]) {
        sys::set_nonblocking(&fd).map_err(|error| format!("cannot prepare its output: {error}"))?;
    }
    Ok(Run {
        init_pid,
        user_namespace,
        stdin: streams.stdin,
        is_watched: false,
        stdout: Some(streams.stdout),
        stderr: streams.stderr,
        report: Some(report_read.into()),
        kill_at: None,
        out: Stream::default(),
        err: Stream::default(),
        log,
        report_text: Vec::new(),
        ended: None,
        started_at,
        _alive: alive,
    })
}

/// The ends of a container's standard streams.
struct Streams {
    /// For the command: stdin, stdout, stderr.
    theirs: [OwnedFd; 3],
    stdin: Stdin,
    stdout: File,
    /// A terminal has none.
    stderr: Option<File>,
}

fn streams(start: &ContainerStart) -> io::Result<Streams> {
    if start.tty {
        let (master, slave) = sys::terminal()?;
        let theirs = [slave.try_clone()?, slave.try_clone()?, slave];
        let stdin = Stdin::terminal(master.try_clone()?, start.stdin)?;
        return Ok(Streams { theirs, stdin, stdout: master.into(), stderr: None });
    }
    let (stdout_read, stdout) = sys::pipe()?;
    let (stderr_read, stderr) = sys::pipe()?;
    let (read, stdin) = match start.stdin {
        true => {
            let (read, write) = sys::pipe()?;
            (read, Stdin::pipe(write, start.stdin_once)?)
        }
        false => (File::open("/dev/null")?.into(), Stdin::none()),
    };
    let theirs = [read, stdout, stderr];
    Ok(Streams { theirs, stdin, stdout: stdout_read.into(), stderr: Some(stderr_read.into()) })
}

fn explain_namespaces(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSPC | libc::EINVAL) => {
            format!("cannot make namespaces: {error}; `dodai doctor` says what to do")
        }
        _ => format!("cannot make namespaces: {error}"),
    }
}
