//! How much the reader takes. Everything it reads may come from a stranger (a webhook, a repository), so every
//! dimension in which a small text can become large work has a bound.

/// Size of one text in bytes: the limit of the Kubernetes API server for a request body.
pub const TEXT_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Collections inside collections, counted with aliases followed.
pub const DEPTH_MAX: usize = 100;
/// Aliases (`*name`) in one document.
pub const ALIASES_MAX: usize = 100;
/// What all aliases of one document may stand for together, in bytes: [`NODE_COST_BYTES`] for each node and the
/// length of its text. This is what stops a "YAML bomb", and it is counted while reading, without expanding.
pub const EXPANSION_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The fixed part of a node in [`EXPANSION_BYTES_MAX`].
pub const NODE_COST_BYTES: u64 = 32;
/// Nodes in one text, all documents together.
pub const NODES_MAX: usize = 500_000;
/// Documents in one text, empty ones not counted.
pub const DOCUMENTS_MAX: usize = 10_000;

/// The bounds of one read; the constants of this module are [`Limits::KUBERNETES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub text_bytes: usize,
    pub depth: usize,
    pub aliases: usize,
    pub expansion_bytes: u64,
    pub nodes: usize,
    pub documents: usize,
}

impl Limits {
    /// For requests and files of a cluster.
    pub const KUBERNETES: Limits = Limits {
        text_bytes: TEXT_BYTES_MAX,
        depth: DEPTH_MAX,
        aliases: ALIASES_MAX,
        expansion_bytes: EXPANSION_BYTES_MAX,
        nodes: NODES_MAX,
        documents: DOCUMENTS_MAX,
    };
    /// For files of a repository, in which one file may hold all objects of a large project.
    pub const REPOSITORY: Limits = Limits {
        text_bytes: 32 * 1024 * 1024,
        depth: 200,
        aliases: 10_000,
        expansion_bytes: 32 * 1024 * 1024,
        nodes: 4_000_000,
        documents: 100_000,
    };
}

/// What a read takes besides the syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    pub limits: Limits,
    /// Take maps with repeated keys; the last one counts in [`crate::Document::to_json`].
    pub repeated_keys: bool,
    /// Stop after the first document, as readers do that only look for one.
    pub first_document_only: bool,
}

impl ReadOptions {
    /// What [`crate::parse`] uses.
    pub const KUBERNETES: ReadOptions =
        ReadOptions { limits: Limits::KUBERNETES, repeated_keys: false, first_document_only: false };
}
