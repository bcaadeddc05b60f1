//! The grammar of `dodai secret`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::Format;

#[derive(Args, Debug)]
pub(crate) struct Secret {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do with encrypted secrets.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Open a file in an editor with its values in plaintext, and seal what changed.
    Edit(File),
    /// Set one value, from standard input or a file. Makes the file if there is none.
    Set(Set),
    /// Set one value without the right to read: with public recipients alone.
    Add(Set),
    /// Print one value.
    Show(Show),
    /// Print a file with its values in plaintext.
    Decrypt(File),
    /// Seal whatever in a file is not sealed; Secrets in plaintext become EncryptedSecrets.
    Encrypt(File),
    /// Make EncryptedSecrets of a SOPS file, of SealedSecrets or of Secrets in plaintext.
    Import(Import),
    /// The way out: SealedSecrets for another's controller, or Secrets in plaintext.
    Export(Export),
    /// Wrap the data keys for the recipients that the rules name now. Values stay as they are.
    Rotate(Files),
    /// New data keys: all values sealed anew, for the recipients that the rules name now.
    Rekey(Files),
    /// Say what is wrong: plaintext, equal values, recipients that no rule names, values that cannot open.
    Lint(Lint),
    /// For `git diff`: the file with a keyed hash in the place of each value.
    Textconv(File),
    /// For git: merges values by name.
    Merge(Merge),
    /// Make git use `textconv` and `merge` in this repository, and `lint` before each commit.
    GitSetup(GitSetup),
    /// Identities of age: make one, list those at hand, say who can read what.
    Keys(Keys),
    /// How the encrypted secrets of a running cluster stand, and which are due for a new value.
    Status(Status),
    /// Who can read a Secret of a running cluster: by RBAC, by running Pods, and the Pods that have it.
    WhoCanRead(WhoCanRead),
    /// Who changed which key when, from git. Values are never shown.
    Log(Log),
}

/// Where keys come from.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct Keyring {
    /// A file with age identities, besides those of the environment and of the configuration folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Vec<PathBuf>,
    /// A recipient (`age1...`, or the ARN of a KMS key) instead of those that `dodai.yaml` names.
    #[arg(long, value_name = "RECIPIENT")]
    pub(crate) recipient: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct File {
    /// A YAML file with EncryptedSecrets, among other objects if need be.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) keyring: Keyring,
}

#[derive(Args, Debug)]
pub(crate) struct Files {
    /// YAML files with EncryptedSecrets, or folders with such.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) keyring: Keyring,
}

#[derive(Args, Debug)]
pub(crate) struct Set {
    /// A YAML file with EncryptedSecrets.
    pub(crate) file: PathBuf,
    /// The key in the Secret.
    pub(crate) key: String,
    /// Take the value from this file, byte for byte; without it from standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Option<PathBuf>,
    /// Keep a line feed at the end of standard input, which is otherwise taken off.
    #[arg(long)]
    pub(crate) keep_newline: bool,
    /// Which EncryptedSecret, if the file has several or is to be made.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) keyring: Keyring,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// A YAML file with EncryptedSecrets.
    pub(crate) file: PathBuf,
    /// The key in the Secret.
    pub(crate) key: String,
    /// Which EncryptedSecret, if the file has several.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) keyring: Keyring,
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The file. Its format follows from its name, as with sops.
    pub(crate) file: PathBuf,
    /// Where to write the result (default: standard output).
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Name of the Secret, for files that name none.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Private key of a Sealed Secrets controller: PEM, or the YAML of its Secrets.
    #[arg(long, value_name = "FILE")]
    pub(crate) sealing_key: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) keyring: Keyring,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// A YAML file with EncryptedSecrets.
    pub(crate) file: PathBuf,
    /// The certificate of a Sealed Secrets controller, as `kubeseal --fetch-cert` prints it.
    #[arg(long, value_name = "FILE", required_unless_present = "plaintext", conflicts_with = "plaintext")]
    pub(crate) sealing_cert: Option<PathBuf>,
    /// Secrets in plaintext, on standard output only.
    #[arg(long, conflicts_with = "out")]
    pub(crate) plaintext: bool,
    /// Where to write the result (default: standard output).
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) keyring: Keyring,
}

#[derive(Args, Debug)]
pub(crate) struct Lint {
    /// YAML files, or folders with such.
    #[arg(default_value = ".")]
    pub(crate) files: Vec<PathBuf>,
    /// What the next commit would hold, instead of what lies in the folder: for a hook.
    #[arg(long, conflicts_with = "files")]
    pub(crate) staged: bool,
    /// The manifests as they will be rendered; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) rendered: Option<PathBuf>,
    /// Output form.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) keyring: Keyring,
}

#[derive(Args, Debug)]
pub(crate) struct Merge {
    /// `%O`: the common ancestor.
    pub(crate) base: PathBuf,
    /// `%A`: our version, and where the result is written.
    pub(crate) ours: PathBuf,
    /// `%B`: their version.
    pub(crate) theirs: PathBuf,
    /// `%P`: the name of the file, for messages.
    pub(crate) path: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct GitSetup {
    /// The repository.
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Files that hold secrets, as a pattern of `.gitattributes`.
    #[arg(long, default_value = "*secret*.yaml")]
    pub(crate) pattern: String,
    /// No pre-commit hook.
    #[arg(long)]
    pub(crate) no_hook: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) verb: KeysVerb,
}

/// What to do with identities.
#[derive(Subcommand, Debug)]
pub(crate) enum KeysVerb {
    /// Make an identity and print its public half.
    Generate {
        /// Where to write it (default: `identity.txt` in the configuration folder). Never over one that is there.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// The identities at hand: where they are, and their public halves.
    List {
        #[command(flatten)]
        keyring: Keyring,
    },
    /// Who can read what, in these files.
    Who {
        /// YAML files, or folders with such.
        #[arg(default_value = ".")]
        files: Vec<PathBuf>,
        /// Output form.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Log {
    /// The file.
    pub(crate) file: PathBuf,
    /// Only this key.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Output form.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct WhoCanRead {
    /// The Secret.
    pub(crate) name: String,
    /// Output form.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// One encrypted secret only.
    pub(crate) name: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Output form.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// In the text format of Prometheus, for a collector of text files.
    #[arg(long, conflicts_with = "output")]
    pub(crate) metrics: bool,
}
