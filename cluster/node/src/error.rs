//! What can go wrong in this crate.

use std::io;
use std::path::PathBuf;

/// An error of the node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the data folder.
    #[error("cannot {action} `{}`", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The process that owns a Pod cannot be started or reached.
    #[error("cannot {action} the supervisor of Pod `{namespace}/{name}`")]
    Supervisor {
        action: &'static str,
        namespace: String,
        name: String,
        #[source]
        source: io::Error,
    },
    /// A supervisor refused what it was asked for.
    #[error("the supervisor refused: {message}")]
    Refused { message: String },
    /// A command cannot run in a container.
    #[error("cannot run the command: {message}")]
    Exec { message: String },
    /// An image reference that cannot be used; `reason` is the word for the container's waiting state.
    #[error("{message}")]
    Image { reason: &'static str, message: String },
    /// A tar that is refused.
    #[error("source archive is refused: {message}")]
    Archive { message: String },
    /// Something that the Pod asks for and that is not there or not possible; `reason` is the word for the
    /// container's waiting state.
    #[error("{message}")]
    Config { reason: &'static str, message: String },
    /// The Kubernetes API.
    #[error("cannot {action}")]
    Api {
        action: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// This machine does not allow what Pods need.
    #[error("{problem}{}", hints.iter().map(|hint| format!("; {hint}")).collect::<String>())]
    Machine { problem: String, hints: Vec<String> },
    /// No port is left for Pods.
    #[error("no free TCP port between {first} and {last}")]
    NoPort { first: u16, last: u16 },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }

    pub(crate) fn api(action: &'static str) -> impl FnOnce(kube::Error) -> Error {
        move |source| Error::Api { action, source: Box::new(source) }
    }
}

/// The whole chain of an error on one line, for conditions, events and logs.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
