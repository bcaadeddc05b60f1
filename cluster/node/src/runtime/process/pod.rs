//! dodai's side of one supervisor: starts it when it is needed, follows it, and reads its records when it is gone.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::{attach, remove_tree, session, sockets};
use crate::error::{Error, Result};
use crate::runtime::{
    AttachRequest, Container, ContainerStart, ContainerState, ExecRequest, ExecSession, ExitRecord,
    FileEntry, Mount, PodConfig, PodHandle, PodState,
};
use crate::supervisor::protocol::{EVENT_BYTES_MAX, Event, Request};
use crate::supervisor::{LOCK, SOCKET, lock_holder, records};

/// How long a fresh supervisor may take until it answers.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// How long a supervisor may take to do what it was asked for.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a supervisor may take to leave before it is killed.
const LEAVE_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks at something that changes within milliseconds and cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Requests on their way to a supervisor.
const REQUESTS_MAX: usize = 64;
/// Exit code of a run whose end nobody saw.
const UNKNOWN_CODE: i32 = 137;

pub(super) struct ProcessPod {
    folder: PathBuf,
    config: PodConfig,
    supervisor_exe: Vec<OsString>,
    shared: Arc<Shared>,
    /// The way to the supervisor while there is one; locked while one is started.
    link: Mutex<Option<mpsc::Sender<Request>>>,
}

struct Shared {
    state: watch::Sender<Arc<PodState>>,
    /// Number and text of the newest refusal.
    refused: watch::Sender<(u64, String)>,
}

impl ProcessPod {
    pub(super) async fn open(
        folder: PathBuf,
        config: PodConfig,
        supervisor_exe: Vec<OsString>,
    ) -> Result<ProcessPod> {
        let shared = Arc::new(Shared {
            state: watch::Sender::new(Arc::default()),
            refused: watch::Sender::new((0, String::new())),
        });
        let pod = ProcessPod { folder, config, supervisor_exe, shared, link: Mutex::new(None) };
        let found = pod.find_supervisor().await.map_err(|source| pod.error("reach", source))?;
        match found {
            Some(stream) => {
                let link = pod.follow(stream).await.map_err(|source| pod.error("follow", source))?;
                *pod.link.lock().await = Some(link);
            }
            None => {
                pod.shared.read_records(&pod.folder).map_err(Error::file("read records in", &pod.folder))?
            }
        }
        Ok(pod)
    }

    fn error(&self, action: &'static str, source: io::Error) -> Error {
        Error::Supervisor {
            action,
            namespace: self.config.namespace.clone(),
            name: self.config.name.clone(),
            source,
        }
    }

    /// Connects to the supervisor if one lives.
    async fn find_supervisor(&self) -> io::Result<Option<UnixStream>> {
        let until = Instant::now() + CONNECT_MAX;
        loop {
            match connect(&self.folder).await {
                Ok(stream) => return Ok(Some(stream)),
                Err(_) if lock_holder(&self.folder).is_none() => return Ok(None),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The way to the supervisor, which is started if there is none.
    async fn link(&self) -> Result<mpsc::Sender<Request>> {
        let mut link = self.link.lock().await;
        if let Some(sender) = link.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let connected = async {
            if let Some(stream) = self.find_supervisor().await? {
                return self.follow(stream).await;
            }
            let stream = self.spawn_supervisor().await?;
            self.follow(stream).await
        };
        let sender = connected.await.map_err(|source| self.error("start", source))?;
        *link = Some(sender.clone());
        Ok(sender)
    }

    async fn spawn_supervisor(&self) -> io::Result<UnixStream> {
        let (program, arguments) = self.supervisor_exe.split_first().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "no supervisor program is configured")
        })?;
        let log = File::create(self.folder.join("supervisor.log"))?;
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .arg(&self.folder)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // Safety: setsid is async-signal-safe. A session of its own, so that Ctrl-C does not reach it.
        unsafe {
            use std::os::unix::process::CommandExt;
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from));
        }
        let mut child = tokio::process::Command::from(command).spawn()?;
        let until = Instant::now() + CONNECT_MAX;
        let stream = loop {
            match connect(&self.folder).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= until => return Err(error),
                Err(error) => {
                    if child.try_wait()?.is_some() && lock_holder(&self.folder).is_none() {
                        let text = fs::read_to_string(self.folder.join("supervisor.log")).unwrap_or_default();
                        return Err(io::Error::new(
                            error.kind(),
                            format!("it left at once: {}", text.trim()),
                        ));
                    }
                }
            }
            sleep(LOOK_AGAIN).await;
        };
        // Reaps it, for as long as this dodai lives.
        tokio::spawn(async move { child.wait().await });
        Ok(stream)
    }

    /// Says hello, takes the first state, and goes on taking events until the supervisor is gone.
    async fn follow(&self, stream: UnixStream) -> io::Result<mpsc::Sender<Request>> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read);
        write.write_all(&encode(&Request::Hello)?).await?;
        match timeout(CONNECT_MAX, next_event(&mut lines)).await?? {
            Some(Event::State { containers, .. }) => self.shared.set_all(containers),
            _ => return Err(io::Error::other("it did not answer with its state")),
        }
        let (sender, mut requests) = mpsc::channel::<Request>(REQUESTS_MAX);
        let (shared, folder) = (Arc::clone(&self.shared), self.folder.clone());
        tokio::spawn(async move {
            let reader = async {
                while let Ok(Some(event)) = next_event(&mut lines).await {
                    shared.take(event);
                }
            };
            // Ends when no handle of the Pod is left; the supervisor is to notice.
            let writer = async {
                while let Some(request) = requests.recv().await {
                    let Ok(line) = encode(&request) else { continue };
                    if write.write_all(&line).await.is_err() {
                        std::future::pending::<()>().await; // The reader sees the end, after what was said last.
                    }
                }
            };
            tokio::select! {
                () = reader => {}
                () = writer => return,
            }
            requests.close();
            wait_for_end(&folder).await;
            if let Err(error) = shared.read_records(&folder) {
                tracing::warn!(%error, folder = %folder.display(), "cannot read the records of a supervisor");
            }
        });
        Ok(sender)
    }

    async fn ask(&self, request: Request) -> Result<()> {
        let sender = self.link().await?;
        sender.send(request).await.map_err(|_| self.error("reach", io::ErrorKind::BrokenPipe.into()))
    }

    /// The request, only if there is a supervisor to take it.
    async fn tell(&self, request: Request) {
        let sender = self.link.lock().await.clone();
        if let Some(sender) = sender {
            let _ = sender.send(request).await;
        }
    }

    async fn start_container(&self, mut start: ContainerStart) -> Result<()> {
        let (name, attempt) = (start.name.clone(), start.attempt);
        let newest = self.shared.state.borrow().containers.get(&name).map(|container| container.attempt);
        if newest.is_some_and(|newest| newest >= attempt) {
            return Err(Error::Refused { message: format!("run {attempt} of `{name}` was started before") });
        }
        let scratch = self.folder.join("scratch").join(&start.name).join("tmp");
        remove_tree(&scratch).map_err(Error::file("remove", &scratch))?;
        for (folder, mode) in [(scratch.clone(), 0o1777), (scratch.join("home"), 0o777)] {
            fs::create_dir_all(&folder)
                .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)))
                .map_err(Error::file("make", folder))?;
        }
        start.mounts.insert(0, Mount::Bind { source: scratch, target: "/tmp".to_string(), read_only: false });
        let mut refused = self.shared.refused.subscribe();
        let mut state = self.shared.state.subscribe();
        self.ask(Request::Start { start: Box::new(start) }).await?;
        let started = async {
            loop {
                let container =
                    state.borrow_and_update().containers.get(&name).map(|container| container.attempt);
                if container == Some(attempt) {
                    return Ok(());
                }
                tokio::select! {
                    _ = state.changed() => {}
                    _ = refused.changed() => {
                        let message = refused.borrow_and_update().1.clone();
                        return Err(Error::Refused { message });
                    }
                }
            }
        };
        match timeout(ANSWER_MAX, started).await {
            Ok(result) => result,
            Err(_) => Err(self.error("get an answer from", io::ErrorKind::TimedOut.into())),
        }
    }

    async fn remove_all(&self) -> Result<()> {
        self.tell(Request::Shutdown).await;
        let until = Instant::now() + LEAVE_MAX;
        while let Some(pid) = lock_holder(&self.folder) {
            if Instant::now() >= until {
                // Safety: plain system call; the number was just read from the lock that the process holds.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            sleep(LOOK_AGAIN).await;
        }
        self.link.lock().await.take();
        let folder = self.folder.clone();
        let removed = tokio::task::spawn_blocking(move || {
            // First what makes it a Pod, so that a half-removed folder is not taken for one.
            let _ = fs::remove_file(folder.join("pod.json"));
            remove_tree(&folder).map_err(Error::file("remove", &folder))
        });
        removed
            .await
            .unwrap_or_else(|error| Err(Error::file("remove", &self.folder)(io::Error::other(error))))
    }
}

impl PodHandle for ProcessPod {
    fn config(&self) -> &PodConfig {
        &self.config
    }

    fn address(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }

    fn state(&self) -> watch::Receiver<Arc<PodState>> {
        self.shared.state.subscribe()
    }

    fn start(&self, start: ContainerStart) -> BoxFuture<'_, Result<()>> {
        self.start_container(start).boxed()
    }

    fn stop<'a>(&'a self, container: &'a str, grace: Duration) -> BoxFuture<'a, Result<()>> {
        async move {
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            self.tell(Request::Stop { container: container.to_string(), grace_ms }).await;
            Ok(())
        }
        .boxed()
    }

    fn update_files<'a>(
        &'a self,
        container: &'a str,
        volume: &'a str,
        files: Vec<FileEntry>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let (container, volume) = (container.to_string(), volume.to_string());
            self.tell(Request::Files { container, volume, files }).await;
            Ok(())
        }
        .boxed()
    }

    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<ExecSession>> {
        async move {
            let stream = connect(&self.folder).await.map_err(|source| self.error("reach", source))?;
            session::start(stream, request).await
        }
        .boxed()
    }

    fn attach(&self, request: AttachRequest) -> BoxFuture<'_, Result<ExecSession>> {
        async move {
            let stream = connect(&self.folder).await.map_err(|source| self.error("reach", source))?;
            attach::start(stream, request).await
        }
        .boxed()
    }

    fn listening<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<Vec<SocketAddr>>> {
        async move {
            let state = self.shared.state.borrow().clone();
            let Some(ContainerState::Running { pid, .. }) = state.containers.get(container).map(|c| &c.state)
            else {
                return Ok(Vec::new());
            };
            let pid = *pid;
            let found = tokio::task::spawn_blocking(move || sockets::listening(pid)).await;
            found
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(Error::file("read the sockets in", "/proc"))
        }
        .boxed()
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn rest(&self) -> BoxFuture<'_, ()> {
        async move {
            self.tell(Request::Shutdown).await;
            let gone = async {
                while lock_holder(&self.folder).is_some() {
                    sleep(LOOK_AGAIN).await;
                }
            };
            let _ = timeout(LEAVE_MAX, gone).await;
        }
        .boxed()
    }

    fn remove(&self) -> BoxFuture<'_, Result<()>> {
        self.remove_all().boxed()
    }
}

impl Shared {
    fn set_all(&self, containers: Vec<Container>) {
        let containers =
            containers.into_iter().map(|container| (container.name.clone(), container)).collect();
        let new = PodState { containers };
        self.state.send_if_modified(|state| {
            let changed = **state != new;
            *state = Arc::new(new);
            changed
        });
    }

    fn take(&self, event: Event) {
        match event {
            Event::State { containers, .. } => self.set_all(containers),
            Event::Container { container } => self.state.send_modify(|state| {
                Arc::make_mut(state).containers.insert(container.name.clone(), container);
            }),
            Event::Refused { message } => {
                self.refused.send_modify(|newest| *newest = (newest.0 + 1, message))
            }
            Event::ExecStarted | Event::ExecExited { .. } | Event::Attached { .. } => {}
        }
    }

    /// Takes the state from disk. Called only when no supervisor lives: what has no end then, never gets one.
    fn read_records(&self, folder: &Path) -> io::Result<()> {
        let mut containers = records::read_all(folder)?;
        for container in &mut containers {
            let ContainerState::Starting { started_at } = container.state else { continue };
            let record = ExitRecord {
                attempt: container.attempt,
                exit_code: UNKNOWN_CODE,
                signal: None,
                reason: "OutcomeUnknown".to_string(),
                message: "the process that watched this container was killed, so nobody knows how it ended"
                    .to_string(),
                started_at,
                finished_at: Timestamp::now(),
            };
            records::write_exit(folder, &container.name, &record)?;
            container.state = ContainerState::Exited(record);
        }
        self.set_all(containers);
        Ok(())
    }
}

/// The connection ended, so the process is about to. Its records are final when its lock is gone.
async fn wait_for_end(folder: &Path) {
    while lock_holder(folder).is_some() {
        sleep(LOOK_AGAIN).await;
    }
}

/// Connects through a descriptor of the folder: the path of a socket may have 108 bytes, that of a data folder more.
async fn connect(folder: &Path) -> io::Result<UnixStream> {
    if !folder.join(LOCK).exists() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let folder = File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())).await
}

fn encode(request: &Request) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

async fn next_event(lines: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Event>> {
    let mut line = Vec::new();
    let size = lines.take(EVENT_BYTES_MAX as u64).read_until(b'\n', &mut line).await?;
    if size == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::other)
}
