//! What can go wrong while acting, and the one place where an error's chain is joined.

use std::error::Error as StdError;

/// Why an action, or writing the status, did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused an action or could not be reached.
    #[error("cannot {verb} {kind} `{name}`")]
    Action {
        /// `create`, `apply`, `delete`, `list`, `read`, `replace` or `write the status of`.
        verb: &'static str,
        /// The kind of the object acted upon.
        kind: String,
        /// `namespace/name`, or the name alone.
        name: String,
        /// What the client reported.
        #[source]
        source: Box<kube::Error>,
    },
    /// An action that could overwrite what somebody else wrote was planned without the version that was seen.
    #[error("a replace of {kind} `{name}` without resourceVersion was planned")]
    Unguarded {
        /// The kind.
        kind: String,
        /// `namespace/name`, or the name alone.
        name: String,
    },
    /// An object that a decision rests on changed after it was seen, came or went.
    #[error("{kind} `{name}` changed since it was seen")]
    Changed {
        /// The kind.
        kind: String,
        /// `namespace/name`, or the name alone.
        name: String,
    },
    /// An object could not be turned into JSON.
    #[error("cannot serialise {0}")]
    Serialise(&'static str, #[source] serde_json::Error),
    /// `observe` or `plan` panicked.
    #[error("the controller panicked: {0}")]
    Panicked(String),
}

impl Error {
    /// Whether somebody else wrote the object in between: nothing is wrong, and the watch will tell of it.
    pub fn is_conflict(&self) -> bool {
        match self {
            Error::Changed { .. } => true,
            Error::Action { source, .. } => {
                matches!(source.as_ref(), kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
            }
            _ => false,
        }
    }

    /// Whether the namespace is being deleted, so that nothing can be created in it any more.
    pub fn is_namespace_terminating(&self) -> bool {
        match self {
            Error::Action { source, .. } => matches!(source.as_ref(),
                kube::Error::Api(status) if status.code == 403 && status.message.contains("is being terminated")),
            _ => false,
        }
    }
}

/// The error and its sources, joined by `: `. An error's own text never repeats its source, so this is the whole story.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = own_text(error);
    let mut source = error.source();
    // What the API answered is the end of the story: the client's error holds the answer a second time as its source.
    let mut answered = is_answer(error);
    while let Some(error) = source.filter(|_| !answered) {
        let part = own_text(error);
        // Some outside crates repeat their source; say it once.
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        answered = is_answer(error);
        source = error.source();
    }
    text
}

fn is_answer(error: &(dyn StdError + 'static)) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(_)))
}

/// An answer of the API is its message; the client would print the whole `Status` behind it.
fn own_text(error: &(dyn StdError + 'static)) -> String {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => status.message.clone(),
        _ => error.to_string(),
    }
}
