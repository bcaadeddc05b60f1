//! An error that ends a command: what a person reads, and the exit code.

use std::fmt;
use std::process::ExitCode;

/// Why a command ended, by exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Said already, such as a release that failed: print nothing more.
    pub(crate) silent: bool,
}

/// The command failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong use or invalid input.
pub(crate) const INVALID: u8 = 2;
/// Not ready at the end of the waiting time.
pub(crate) const NOT_READY: u8 = 3;
/// Not allowed.
pub(crate) const FORBIDDEN: u8 = 4;
/// Our own trouble while another program's exit code would be passed on.
pub(crate) const OWN_TROUBLE: u8 = 125;
/// Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), hint: None, silent: false }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure::new(FAILED, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(INVALID, message)
    }

    /// An exit code alone; what there was to say has been said.
    pub(crate) fn silent(code: u8) -> Failure {
        Failure { silent: true, ..Failure::new(code, "") }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// What was tried, and the whole chain of causes. A refusal by the API server has an exit code of its own.
    pub(crate) fn from_error(what: impl fmt::Display, error: &(dyn std::error::Error + 'static)) -> Failure {
        let code = match error.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) if status.code == 401 || status.code == 403 => FORBIDDEN,
            Some(kube::Error::Api(status)) if status.code == 422 || status.code == 400 => INVALID,
            _ => FAILED,
        };
        Failure::new(code, format!("{what}: {}", dodai_kit::chain(error)))
    }

    /// Prints the error and gives the exit code.
    pub(crate) fn exit(self) -> ExitCode {
        if !self.silent {
            // Messages with a place of their own (`file:line:column: error: ...`) stand alone.
            let prefix = if self.message.contains(": error: ") { "" } else { "error: " };
            eprintln!("{prefix}{}", self.message);
            if let Some(hint) = &self.hint {
                eprintln!("hint: {hint}");
            }
        }
        ExitCode::from(self.code)
    }
}

/// Adds what was tried to an error of the API client or of the system.
pub(crate) trait Context<T> {
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: std::error::Error + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::from_error(what, &error))
    }
}
