//! `dodai secret ...`: the life of encrypted secrets, on files, with no cluster needed.

mod access;
mod change;
mod cli;
mod edit;
mod files;
mod git;
mod history;
mod inspect;
mod kustomize;
mod status;

use std::process::ExitCode;

pub(crate) use cli::Secret;
use cli::Verb;
pub(crate) use files::rules_of;
pub(crate) use status::hints;

use crate::cli::Global;
use crate::failure::Result;

/// Runs one of the verbs. All but one are synchronous: files, an editor, git.
pub(crate) async fn run(global: &Global, args: &Secret) -> Result<ExitCode> {
    forbid_core_dumps();
    let done = |()| ExitCode::SUCCESS;
    match &args.verb {
        Verb::Edit(args) => edit::run(global, args).map(done),
        Verb::Set(args) => change::set(global, args, false).map(done),
        Verb::Add(args) => change::set(global, args, true).map(done),
        Verb::Show(args) => inspect::show(args).map(done),
        Verb::Decrypt(args) => inspect::decrypt(args).map(done),
        Verb::Encrypt(args) => change::encrypt(args).map(done),
        Verb::Import(args) => change::import(global, args).map(done),
        Verb::Export(args) => change::export(args).map(done),
        Verb::Rotate(args) => change::rotate(args, false).map(done),
        Verb::Rekey(args) => change::rotate(args, true).map(done),
        Verb::Lint(args) => inspect::lint(args),
        Verb::Textconv(args) => git::textconv(args).map(done),
        Verb::Merge(args) => git::merge(args),
        Verb::GitSetup(args) => git::set_up(args).map(done),
        Verb::Keys(args) => inspect::keys(args).map(done),
        Verb::WhoCanRead(args) => access::run(global, args).await.map(done),
        Verb::Status(args) => status::run(global, args).await.map(done),
        Verb::Log(args) => history::run(args).map(done),
    }
}

/// Plaintext in this process's memory must not land in a file when it crashes.
pub(crate) fn forbid_core_dumps() {
    use nix::sys::resource::{Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
}
