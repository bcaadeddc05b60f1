//! `dodai up DIR`: starts everything on this machine, applies what DIR holds, follows the releases, streams the logs.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dodai_api::names::LABEL_ROLE;
use dodai_secrets::kms::cached::Cached;
use dodai_secrets::places::{self, Places};
use dodai_secrets::seal::Keyring;
use dodai_secrets::sops::gpg::Background;
use kube::api::LogParams;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::applying::{self, Applied, Request};
use crate::cli::{Global, Up};
use crate::cmd::apply::{finish, tell};
use crate::cmd::logs::{self, Selection};
use crate::data::DataFolder;
use crate::failure::{Context, FAILED, Failure, NOT_READY, Result};
use crate::follow::End;
use crate::manifests::{self, Manifests};
use crate::platform::{Options, Platform};
use crate::progress::Steps;
use crate::target::{self, DATA_FOLDER};
use crate::{check, limits, machine, secrets, units, watchdog};

/// File in the data folder that takes the stdout of a detached child.
const RESULT_FILE: &str = "up-result";
/// File in the data folder that a detached child writes when it is up: `ready`, `failed` or `timeout`.
const OUTCOME_FILE: &str = "up-outcome";

pub(crate) async fn run(global: &Global, args: &Up) -> Result<()> {
    let timeout = super::duration("--timeout", &args.timeout)?;
    let grace = super::duration("--orphan-grace", &args.orphan_grace)?;
    if !args.dir.is_dir() {
        return Err(Failure::invalid(format!("`{}` is not a folder", args.dir.display())));
    }
    // What is wrong with the files is told before anything starts.
    let manifests = manifests::read(&args.dir)?;
    check::check(&manifests.objects)?;
    let data = global.data.clone().unwrap_or_else(|| args.dir.join(DATA_FOLDER));
    if args.detach {
        return detach(args, &data).await;
    }
    let began = Instant::now();
    let mut signals = Signals::new()?;
    let data = DataFolder::open(&data)?;
    let steps = Steps::new(global.quiet);
    steps.line(&format!(
        "dodai {} · {} · data {}",
        env!("CARGO_PKG_VERSION"),
        args.dir.display(),
        shown(&data.path)
    ));
    steps.line("");
    machine::require()?;
    let keyring = keyring(args, &steps)?;
    let options =
        Options { listen: args.listen, orphan_grace: Some(grace), key_file: args.key_file.clone(), keyring };
    limits::raise_open_files();
    watchdog::start(tokio::runtime::Handle::current());
    let platform = Platform::start(&data, &options).await?;
    platform.notices().iter().for_each(|notice| steps.note(notice));
    steps.done("node", &format!("process runtime · {}", machine()), Some(began.elapsed()));

    let work = serve(global, args, &data, &platform, &manifests, &steps, timeout);
    let result = tokio::select! {
        result = work => result,
        name = signals.next() => {
            tracing::info!(signal = name, "stopping");
            Ok(())
        }
    };
    steps.clear();
    if result.is_ok() {
        steps.line("");
        steps.now("dodai", "stopping: Pods end, a release command runs to its end · again: at once");
    }
    let stopping = platform.stop();
    tokio::select! {
        stopped = stopping => stopped?,
        _ = signals.next() => std::process::exit(i32::from(crate::failure::INTERRUPTED)),
    }
    steps.clear();
    result
}

/// What opens encrypted secrets: the identities at hand, one made at the first start, and the demo identity of the folder.
fn keyring(args: &Up, steps: &Steps) -> Result<Keyring> {
    super::secret::forbid_core_dumps();
    match places::ensure_own() {
        Ok((file, Some(recipient))) => {
            steps.note(&format!(
                "an identity was made for your encrypted secrets: {}; copy it to a safe place, without it nothing that is \
                 encrypted for {recipient} can be read again",
                file.display()
            ));
        }
        Ok((_, None)) => {}
        // Only who has encrypted secrets needs one.
        Err(error) => steps.note(&format!("no identity of your own: {}", dodai_kit::chain(&error))),
    }
    let (_, _, demo) = super::secret::rules_of(&args.dir)?;
    if let Some(demo) = &demo {
        steps.note(&format!(
            "secrets are opened with the demo identity {}: it protects nothing",
            demo.display()
        ));
    }
    let places = Places { demo, ..Places::default() };
    let mut keyring = places::keyring(&places).map_err(|error| Failure::from_error("no keys", &error))?;
    // Controllers do not wait: for KMS, nor for `gpg`.
    let runtime = tokio::runtime::Handle::current();
    keyring.pgp = keyring.pgp.map(|pgp| Arc::new(Background::new(pgp, runtime.clone())) as _);
    keyring.kms = Some(Arc::new(Cached::new(Arc::default(), runtime)));
    Ok(keyring)
}

/// Applies, follows, and stays until cancelled. Ends by itself only if what the folder holds cannot be applied.
async fn serve(
    global: &Global,
    args: &Up,
    data: &DataFolder,
    platform: &Platform,
    manifests: &Manifests,
    steps: &Steps,
    timeout: Duration,
) -> Result<()> {
    let request = Request {
        client: &platform.client,
        origin: &args.dir,
        namespace: &global.namespace,
        data: Some(&data.path),
        prune: args.prune,
        dry_run: false,
    };
    let applied = applying::apply(&request, manifests).await?;
    tell(steps, manifests, &applied, false);
    let end = secrets::follow(
        &platform.client,
        &manifests.objects,
        &global.namespace,
        &applied.apps,
        steps,
        timeout,
    )
    .await;
    let outcome = match end {
        End::Ready => "ready",
        End::Failed => "failed",
        End::TimedOut => "timeout",
    };
    let finished = finish(&platform.client, &applied.apps, steps, timeout, end).await;
    data.keep(OUTCOME_FILE, outcome)?;
    if let Err(failure) = finished
        && !failure.silent
    {
        steps.note(&failure.message);
    }
    if !args.detached {
        hints(steps, args, data);
    }
    if args.no_logs || args.detached {
        std::future::pending::<()>().await;
    }
    stream_logs(global, platform, &applied).await
}

fn hints(steps: &Steps, args: &Up, data: &DataFolder) {
    steps.line(&format!("  kubectl --kubeconfig {} get apps", shown(&data.path.join("kubeconfig"))));
    steps.line(&format!("  dodai apply {}   deploys a change", args.dir.display()));
    steps.line("  Ctrl-C stops, state is kept · dodai down --delete removes it");
    steps.line("");
}

/// The logs of all processes of what was applied, from now on.
async fn stream_logs(global: &Global, platform: &Platform, applied: &Applied) -> Result<()> {
    let (lines, printed) = tokio::sync::mpsc::channel(256);
    let namespace =
        applied.apps.first().map_or_else(|| global.namespace.clone(), |app| app.namespace.clone());
    let params = LogParams { follow: true, since_seconds: Some(1), ..LogParams::default() };
    let selection =
        Selection { namespace, labels: format!("{LABEL_ROLE} in (process,release,build)"), params };
    let following = logs::follow(&platform.client, selection, lines);
    tokio::join!(following, logs::print(printed)).0?;
    std::future::pending::<()>().await;
    Ok(())
}

/// Starts itself again in the background and waits until that one is up.
async fn detach(args: &Up, data: &Path) -> Result<()> {
    if target::is_running(data) {
        // The error of the folder itself names the process.
        DataFolder::open(data).map(drop)?;
    }
    std::fs::create_dir_all(data).context(format!("cannot use the data folder `{}`", data.display()))?;
    let log = data.join("dodai.log");
    let _ = std::fs::remove_file(data.join(OUTCOME_FILE));
    // Its result, the URLs, apart from what it tells on the way.
    let result = data.join(RESULT_FILE);
    let out = std::fs::File::create(&result).context(format!("cannot write `{}`", result.display()))?;
    let errors = std::fs::File::create(&log).context(format!("cannot write `{}`", log.display()))?;
    let this = std::env::current_exe().context("cannot find this program")?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "-d" && argument != "--detach");
    let mut command = std::process::Command::new(this);
    command.args(arguments).arg("--detached").stdin(Stdio::null()).stdout(out).stderr(errors);
    // SAFETY: setsid is async-signal-safe, and the closure does nothing else.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            nix::unistd::setsid().map(drop).map_err(std::io::Error::from)
        });
    }
    let mut child = command.spawn().context("cannot start in the background")?;
    let timeout = super::duration("--timeout", &args.timeout)? + Duration::from_secs(30);
    let outcome = tokio::time::timeout(timeout, wait(&mut child, data)).await;
    eprint!("{}", std::fs::read_to_string(&log).unwrap_or_default());
    print!("{}", std::fs::read_to_string(&result).unwrap_or_default());
    match outcome.as_deref() {
        Ok("ready") => {
            println!(
                "  dodai runs in the background (process {}) · log {} · dodai down stops it",
                child.id(),
                log.display()
            );
            Ok(())
        }
        Ok("failed") => Err(Failure::silent(FAILED)),
        Ok("timeout") | Err(_) => Err(Failure::silent(NOT_READY)),
        Ok(code) => Err(Failure::silent(code.parse().unwrap_or(FAILED))),
    }
}

/// Waits for the outcome that the child writes, or for its end, whose code is then the outcome.
async fn wait(child: &mut std::process::Child, data: &Path) -> String {
    const LOOK: Duration = Duration::from_millis(20);
    loop {
        if let Ok(text) = std::fs::read_to_string(data.join(OUTCOME_FILE))
            && text.ends_with('\n')
        {
            return text.trim().to_owned();
        }
        if let Ok(Some(status)) = child.try_wait() {
            return status.code().unwrap_or(1).to_string();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A path as short as it can be written from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_else(|_| PathBuf::from("/"));
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    format!("{cpus} cpu · {}", units::size(kib.unwrap_or(0) * 1024))
}

/// SIGINT and SIGTERM; a closed terminal counts as SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        let signal = |kind| signal(kind).context("cannot wait for signals");
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv(), if std::io::stdin().is_terminal() => "SIGHUP",
        }
    }
}
