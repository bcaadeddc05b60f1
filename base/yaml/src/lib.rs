//! The one YAML reader of dodai.
//!
//! Text goes through the event parser `granit-parser` into a [`Document`]: a tree that keeps, for every node, its
//! bytes in the text, its style, its tag and its anchor. What the scalars *mean* is not in the tree; a dialect
//! decides it. [`kubernetes`] is the dialect of the library that Kubernetes and kubectl use, where `yes` is `true`,
//! `0644` is 420 and `1.0` is written as `1` in JSON. [`kustomize`] is the second one over the same tree.
//!
//! Because the tree knows where every field stands, an error that names a field path (a schema, a CEL rule,
//! admission) can be shown at its line: [`Document::locate`] and [`render_snippet`].
//!
//! Left out on purpose: comments as data, inserting and deleting keys, streaming. A document is whole in memory and
//! its size is bounded (see [`limits`]).

mod error;
pub mod kubernetes;
pub mod kustomize;
pub mod limits;
mod path;
mod read;
mod snippet;
mod source;
mod splice;
mod suggest;
mod tree;
mod write;

pub use error::{Error, ErrorKind};
pub use limits::{Limits, ReadOptions};
pub use path::Location;
pub use read::{parse, parse_with};
pub use snippet::render_snippet;
pub use source::Position;
pub use splice::replace_scalar;
pub use suggest::suggest;
pub use tree::{Document, Node, NodeId, NodeKind, ScalarStyle, StructureStyle};
pub use write::to_string;

/// Reads a text that holds exactly one document, in the Kubernetes dialect.
///
/// # Errors
/// What [`parse`] and [`Document::to_json`] refuse, and a text without any document or with more than one.
pub fn from_str_json(text: &str) -> Result<serde_json::Value, Error> {
    single(&parse(text)?)?.to_json()
}

/// The only document of a text.
fn single(documents: &[Document]) -> Result<&Document, Error> {
    match documents {
        [] => Err(Error::new(ErrorKind::NoDocument)),
        [document] => Ok(document),
        [_, second, ..] => {
            let kind = ErrorKind::ManyDocuments { count: documents.len() };
            Err(Error::new(kind).at(second.start(), 1))
        }
    }
}
