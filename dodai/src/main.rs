//! The binary: command line, the embedded platform, the list of engines.
//!
//! Read in this order: `cli` (the grammar), `cmd/` (one file a verb), `platform` (what `up` starts), `engines`.

mod applying;
mod check;
mod cli;
mod cmd;
mod components;
mod data;
mod engines;
mod failure;
mod follow;
mod limits;
mod machine;
mod manifests;
mod metrics;
mod pack;
mod platform;
mod progress;
mod screen;
mod secrets;
mod target;
mod terminal;
mod units;
mod view;
mod watchdog;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Verb};
use failure::Result;

// Requests to the API server cost a tenth to a third less than with glibc's (docs/reference/apiserver-performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A Pod's supervisor is this binary again: single-threaded, so before anything else.
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|argument| argument == dodai_node::SUPERVISOR_ARGUMENT) {
        dodai_node::supervisor_main(arguments);
    }
    follow::begin();
    let cli = Cli::parse();
    screen::set_up(cli.global.color);
    start_log(&cli);
    // What only reads files needs neither TLS nor a runtime.
    match &cli.verb {
        Verb::Build(args) => {
            return cmd::build::run(&cli.global, args).unwrap_or_else(|failure| failure.exit());
        }
        Verb::Lint(args) => return cmd::lint::run(args).unwrap_or_else(|failure| failure.exit()),
        _ => {}
    }
    // One TLS stack for the process.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider was installed first");
        return ExitCode::from(failure::FAILED);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::from(failure::FAILED);
        }
    };
    let result = runtime.block_on(run(&cli));
    // Threads that wait for input must not hold the process.
    runtime.shutdown_background();
    result.unwrap_or_else(|failure| failure.exit())
}

async fn run(cli: &Cli) -> Result<ExitCode> {
    let global = &cli.global;
    let done = |()| ExitCode::SUCCESS;
    match &cli.verb {
        Verb::Up(args) => cmd::up::run(global, args).await.map(done),
        Verb::Down(args) => cmd::down::run(global, args).await.map(done),
        Verb::Apply(args) => cmd::apply::run(global, args).await.map(done),
        Verb::Status(args) => cmd::status::run(global, args).await.map(done),
        Verb::Why(args) => cmd::why::run(global, args).await.map(done),
        Verb::Logs(args) => cmd::logs::run(global, args).await.map(done),
        Verb::Exec(args) => cmd::exec::run(global, args).await,
        Verb::Run(args) => cmd::run::run(global, args).await,
        Verb::Retry(args) => cmd::retry::run(global, args).await.map(done),
        Verb::Secret(args) => cmd::secret::run(global, args).await,
        Verb::Kubeconfig => cmd::kubeconfig::run(global).map(done),
        Verb::Doctor(args) => cmd::doctor::run(args).await.map(done),
        Verb::Build(args) => cmd::build::run(global, args),
        Verb::Lint(args) => cmd::lint::run(args),
        Verb::Apiserver(args) => cmd::apiserver::run(global, args).await.map(done),
    }
}

/// Logs go to stderr: warnings of ours, more with `-v`, what `DODAI_LOG` says if set.
fn start_log(cli: &Cli) {
    let default = match cli.global.verbose {
        0 => "error",
        1 => {
            "warn,dodai=info,dodai_node=info,dodai_apps=info,dodai_secrets=info,dodai_kit=info,dodai_apiserver=info"
        }
        _ => {
            "info,dodai=debug,dodai_node=debug,dodai_apps=debug,dodai_secrets=debug,dodai_kit=debug,dodai_apiserver=debug"
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("DODAI_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}
