//! The error of this crate: what is wrong, and where in the text.
//!
//! Messages name keys, tags and kinds of values but never a value itself: the text may be a Secret.

use std::fmt;

use crate::snippet::render_snippet;
use crate::source::Position;

/// What is wrong with a text, a path or a replacement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    #[error("{message}")]
    Syntax { message: String },
    #[error("a tab in the indentation; use spaces")]
    TabInIndentation,
    #[error("`:` before a bracket or comma is read differently by different programs; put a space after it")]
    AmbiguousColon,
    #[error("control character U+{character:04X} is not allowed; write it as an escape in double quotes")]
    ControlCharacter { character: u32 },
    #[error("the text has {bytes} bytes, more than {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("more than {max} lists and maps inside each other")]
    TooDeep { max: usize },
    #[error("more than {max} nodes")]
    TooManyNodes { max: usize },
    #[error("more than {max} documents")]
    TooManyDocuments { max: usize },
    #[error("more than {max} aliases in a document")]
    TooManyAliases { max: usize },
    #[error("the aliases of this document stand for more than {max} bytes")]
    ExpansionTooLarge { max: u64 },
    #[error("the alias stands for a value that contains the alias itself")]
    AliasInItself,
    #[error("duplicate key `{key}`, first given in line {first_line}")]
    DuplicateKey { key: String, first_line: usize },
    #[error("a {found} cannot be a key")]
    KeyKind { found: &'static str },
    #[error("`<<` needs a map, or a list of maps")]
    MergeValue,
    #[error("infinity and not-a-number have no form in JSON; put the word in quotes if text is meant")]
    NotFinite,
    #[error("the tag `{tag}` does not fit: the value reads as {found}")]
    TagMismatch { tag: String, found: &'static str },
    #[error("the `!!binary` value is not base64")]
    Base64,
    #[error("no document found")]
    NoDocument,
    #[error("one document expected, found {count}")]
    ManyDocuments { count: usize },
    #[error("no field `{path}`")]
    NoField { path: String },
    #[error("not a field path: `{path}`")]
    BadPath { path: String },
    #[error("`{path}` is a {found}; only a scalar can be replaced in place")]
    NotScalar { path: String, found: &'static str },
    #[error("the new value of `{path}` is a {found}; only a scalar can be put in place")]
    NewNotScalar { path: String, found: &'static str },
    #[error("`{path}` comes from an alias or a merge key; change it where the anchor is")]
    ThroughAlias { path: String },
    #[error("replacing `{path}` in place would not read back as intended: {reason}")]
    Unfaithful { path: String, reason: String },
}

/// An [`ErrorKind`] with its place. `Display` is one line, `line 3, column 5: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    position: Option<Position>,
    len: usize,
    path: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Error {
        Error(Box::new(Inner { kind, position: None, len: 1, path: String::new() }))
    }

    pub(crate) fn at(mut self, position: Position, len: usize) -> Error {
        self.0.position = Some(position);
        self.0.len = len.max(1);
        self
    }

    pub(crate) fn in_path(mut self, path: String) -> Error {
        self.0.path = path;
        self
    }

    /// What is wrong, to match on.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Where; `None` if the error is about the whole text or about a path that is not in it.
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }

    /// How many characters are to be marked at [`Error::position`], at least 1.
    pub fn mark_len(&self) -> usize {
        self.0.len
    }

    /// The map or list in which it happened, `spec.containers[0]`; empty at the top.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The text without the place: `duplicate key … (spec.containers[0])`.
    pub fn message(&self) -> String {
        match self.0.path.as_str() {
            "" => self.0.kind.to_string(),
            path => format!("{} ({path})", self.0.kind),
        }
    }

    /// The error shown in its file, or one line if it has no place. It prints a line of the text: not for logs
    /// when the text may be a Secret.
    pub fn render(&self, file: &str, text: &str) -> String {
        match self.position() {
            Some(position) => render_snippet(file, text, position, self.mark_len(), &self.message(), None),
            None => format!("{file}: error: {}\n", self.message()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.position {
            Some(position) => write!(f, "{position}: {}", self.message()),
            None => f.write_str(&self.message()),
        }
    }
}

impl std::error::Error for Error {}
