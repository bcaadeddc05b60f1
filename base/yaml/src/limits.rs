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
