//! The grammar of the command line. Each verb's own file in `cmd/` says what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The platform that teams glue together above Kubernetes, in one binary.
#[derive(Parser, Debug)]
#[command(name = "dodai", version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags that mean the same for every verb.
#[derive(Args, Debug, Clone)]
pub(crate) struct Global {
    /// Data folder of the dodai to talk to (default: the nearest running `.dodai` upwards from here).
    #[arg(long, global = true, value_name = "DIR", env = "DODAI_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Kubeconfig of the API to talk to instead.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Namespace.
    #[arg(short, long, global = true, default_value = "default")]
    pub(crate) namespace: String,
    /// Only results and errors.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// More of what dodai does, on stderr; twice for even more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The form of a result.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// Stable, documented, without prose.
    Json,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Start everything on this machine and apply what DIR holds.
    Up(Up),
    /// Stop a dodai that runs in the background; with --delete remove its data too.
    Down(Down),
    /// Apply what DIR (or a file) holds to a running dodai, and wait for its releases.
    Apply(Apply),
    /// What is there, what it waits for, since when. Exit code 0 if all is well, 3 if not.
    Status(Status),
    /// Walk from an App that is not well to the cause.
    Why(Why),
    /// Logs of an App's processes.
    Logs(Logs),
    /// Run a command in a running process's Pod.
    Exec(Exec),
    /// Run a one-off command in the App's environment, with a terminal.
    Run(Run),
    /// Try a failed release again.
    Retry(Retry),
    /// Encrypted secrets: edit, seal, open, rotate, check. Works on files, with no cluster needed.
    Secret(crate::cmd::secret::Secret),
    /// Print the kubeconfig of the running dodai.
    Kubeconfig,
    /// Check what this machine allows, and say what to do where it does not.
    Doctor(Doctor),
    /// Print what `kubectl kustomize` prints, without executing anything.
    Build(Build),
    /// What is odd in kustomizations: deprecated fields, unused files, patches that match nothing, secrets in clear text.
    Lint(Lint),
    /// Only the Kubernetes API server, as a test server for any language.
    Apiserver(Apiserver),
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    /// A folder with manifests (YAML).
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Stay in the background.
    #[arg(short = 'd', long)]
    pub(crate) detach: bool,
    /// Do not stream the logs of the processes.
    #[arg(long)]
    pub(crate) no_logs: bool,
    /// Delete objects that an earlier `up` or `apply` of this folder made and that it no longer holds. Never volumes.
    #[arg(long)]
    pub(crate) prune: bool,
    /// Longest time to wait for the releases, such as `5m`; the platform stays up.
    #[arg(long, default_value = "10m")]
    pub(crate) timeout: String,
    /// Address of the Kubernetes API; port 0 takes the one of last time, or a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub(crate) listen: std::net::SocketAddr,
    /// File with the key that seals Secrets in the data folder, made if it is not there; never keep it in the data folder
    /// (default: one per data folder, in `dodai/store-keys` of your configuration folder).
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// How long Pods outlive a dodai that was killed, such as `30s`.
    #[arg(long, default_value = "30s", hide = true)]
    pub(crate) orphan_grace: String,
    /// The child that `--detach` starts.
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Down {
    /// Remove the data folder too: objects, logs, images and volumes.
    #[arg(long)]
    pub(crate) delete: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// A folder with manifests, or one file.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Delete objects that an earlier `up` or `apply` of this folder made and that it no longer holds. Never volumes.
    #[arg(long)]
    pub(crate) prune: bool,
    /// Do not wait for the releases.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Check with the server, change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Longest time to wait, such as `5m`.
    #[arg(long, default_value = "10m")]
    pub(crate) timeout: String,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// One App only.
    pub(crate) app: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Output form.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Why {
    /// The App.
    pub(crate) app: String,
    /// Output form.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// `APP`, `APP/PROCESS`, `APP/build` or `APP/release`.
    pub(crate) thing: String,
    /// Go on as new lines come.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Lines from the end of each log.
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<i64>,
    /// Only lines younger than this, such as `10m`.
    #[arg(long, value_name = "DURATION")]
    pub(crate) since: Option<String>,
    /// The container before the last restart.
    #[arg(long)]
    pub(crate) previous: bool,
    /// The build or release command of this Release, by number.
    #[arg(long, value_name = "N")]
    pub(crate) release: Option<i64>,
}

#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// `APP` or `APP/PROCESS`.
    pub(crate) thing: String,
    /// Program and arguments.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The App.
    pub(crate) app: String,
    /// Program and arguments.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Retry {
    /// The App.
    pub(crate) app: String,
    /// Do not wait for its end.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Longest time to wait, such as `5m`.
    #[arg(long, default_value = "10m")]
    pub(crate) timeout: String,
}

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Output form.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// The form in which objects are printed.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq)]
pub(crate) enum ObjectFormat {
    /// The bytes of `kubectl kustomize`.
    Yaml,
    /// One document with objects, warnings and what was read.
    Json,
}

/// Which files a kustomization may name, in the words of kustomize.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq)]
pub(crate) enum Restrictor {
    /// Only files in or below its folder.
    #[value(name = "LoadRestrictionsRootOnly")]
    RootOnly,
    /// Any file.
    #[value(name = "LoadRestrictionsNone")]
    None,
}

#[derive(Args, Debug)]
pub(crate) struct Build {
    /// Folders with a kustomization, patterns such as `'envs/*'`, or `REPOSITORY@REVISION:FOLDER` of a git repository.
    #[arg(default_value = ".")]
    pub(crate) dirs: Vec<String>,
    /// Output form.
    #[arg(short, long, value_enum, default_value_t = ObjectFormat::Yaml)]
    pub(crate) output: ObjectFormat,
    /// Which files may be named.
    #[arg(long, value_enum, default_value_t = Restrictor::RootOnly)]
    pub(crate) load_restrictor: Restrictor,
    /// Which files and steps made an object, or a field of it, what it is.
    #[arg(long, value_name = "FOLDER/KIND/NAME[:FIELD]", conflicts_with = "dirs")]
    pub(crate) explain: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Lint {
    /// A folder; all kustomizations in and below it.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Repair deprecated fields, touching only their lines. Nothing is written that builds to something else.
    #[arg(long)]
    pub(crate) fix: bool,
    /// Output form.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Apiserver {
    /// Keep nothing (the default is a data folder, see --data).
    #[arg(long)]
    pub(crate) in_memory: bool,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDR")]
    pub(crate) listen: std::net::SocketAddr,
    /// File with the key that seals Secrets in the data folder, made if it is not there; never keep it in the data folder
    /// (default: one per data folder, in `dodai/store-keys` of your configuration folder).
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Static bearer tokens, in the format of kube-apiserver's --token-auth-file.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Where to write a kubeconfig.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig_out: Option<PathBuf>,
    /// Run garbage collection, namespace deletion and the workload controllers too.
    #[arg(long)]
    pub(crate) controllers: bool,
}
