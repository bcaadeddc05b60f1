//! Why a build failed: what, where, and through which kustomizations the build came there.

use std::fmt;
use std::sync::Arc;

use dodai_yaml::Position;

use super::files::Reads;

/// The error of a build.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    message: String,
    hint: Option<String>,
    place: Option<ErrorPlace>,
    /// Field of a kustomization, until its place is known.
    field: Option<String>,
    kustomizations: Vec<String>,
    reads: Reads,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPlace {
    /// Relative to the root of the tree.
    pub file: String,
    pub position: Option<Position>,
    /// Characters to mark.
    pub len: usize,
    /// The file's text, for a snippet.
    pub(crate) text: Option<Arc<[u8]>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.inner.place {
            match place.position {
                Some(Position { line, column }) => write!(f, "{}:{line}:{column}: ", place.file)?,
                None => write!(f, "{}: ", place.file)?,
            }
        }
        f.write_str(&self.inner.message)
    }
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Error {
        Error { inner: Box::new(Inner { message: message.into(), ..Inner::default() }) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Error {
        self.inner.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The first place that is set stays.
    pub(crate) fn at(mut self, place: impl FnOnce() -> ErrorPlace) -> Error {
        if self.inner.place.is_none() {
            self.inner.place = Some(place());
        }
        self
    }

    /// The field of the kustomization that is being worked on; its place is filled in by [`Error::locate`].
    pub(crate) fn in_field(mut self, field: impl Into<String>) -> Error {
        if self.inner.place.is_none() && self.inner.field.is_none() {
            self.inner.field = Some(field.into());
        }
        self
    }

    pub(crate) fn without_field(mut self) -> Error {
        self.inner.field = None;
        self
    }

    /// Gives a field its place.
    pub(crate) fn locate(mut self, place_of: impl FnOnce(&str) -> ErrorPlace) -> Error {
        if self.inner.place.is_none()
            && let Some(field) = &self.inner.field
        {
            self.inner.place = Some(place_of(field));
        }
        self
    }

    pub(crate) fn in_kustomization(mut self, path: &str) -> Error {
        self.inner.kustomizations.push(path.to_owned());
        self
    }

    pub(crate) fn with_reads(mut self, reads: Reads) -> Error {
        self.inner.reads = reads;
        self
    }

    /// What is wrong, without place.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What to do.
    pub fn help(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Where.
    pub fn place(&self) -> Option<&ErrorPlace> {
        self.inner.place.as_ref()
    }

    /// The field of a kustomization: `patches[0].path`.
    pub fn field(&self) -> Option<&str> {
        self.inner.field.as_deref()
    }

    /// Folders of the kustomizations from the failing one outwards.
    pub fn kustomizations(&self) -> &[String] {
        &self.inner.kustomizations
    }

    /// What was read before the failure; while none of it changes, the build fails.
    pub fn reads(&self) -> &Reads {
        &self.inner.reads
    }

    /// The error as people see it, with the line of the file and the way the build came there. Not for logs: the line
    /// may be a part of a Secret. `show` gives a path of the tree the form that the person knows.
    pub fn render(&self, show: impl Fn(&str) -> String) -> String {
        let hint = self.inner.hint.as_deref();
        let message = match &self.inner.field {
            Some(field) if !field.is_empty() => format!("{} ({field})", self.inner.message),
            _ => self.inner.message.clone(),
        };
        let mut out = match &self.inner.place {
            Some(ErrorPlace { file, position: Some(position), len, text: Some(text) }) => {
                let text = String::from_utf8_lossy(text);
                dodai_yaml::render_snippet(&show(file), &text, *position, *len, &message, hint)
            }
            Some(place) => {
                let at = match place.position {
                    Some(Position { line, column }) => format!(":{line}:{column}"),
                    None => String::new(),
                };
                format!("{}{at}: error: {message}\n", show(&place.file))
            }
            None => format!("error: {message}\n"),
        };
        if let Some(hint) = hint.filter(|hint| !out.contains(hint)) {
            out.push_str(&format!("hint: {hint}\n"));
        }
        for outer in self.inner.kustomizations.iter().skip(1) {
            out.push_str(&format!("  built for {}\n", show(outer)));
        }
        out
    }
}
