//! Patches of JSON values: strategic merge patch, and the field sets and managers of server-side apply.
//!
//! Everything works on `serde_json::Value` and is steered by one table, [`schema::Schema`]: which lists are
//! sets, which are maps by key, which maps are one atom. The crate does no IO, reads no clock and knows nothing
//! of HTTP or of Kubernetes kinds; who calls it converts between API versions, sets defaults and validates.
//!
//! [`schema`] is the type description, built once per kind and cheap to share. [`strategic`] applies
//! `application/strategic-merge-patch+json`. [`managed`] is what an API server calls for `application/apply-patch+yaml`
//! and to track ownership on ordinary writes; [`update`] is the algorithm under it, without Kubernetes' metadata.
//! [`typed`], [`fields`] and [`value`] are typed values, sets of paths (`FieldsV1`) and the order of values.
//!
//! Left out: making a patch from two documents (that is the client's half), JSON patch and JSON merge patch
//! (crates exist), unions (upstream removed them).

pub mod fields;
pub mod managed;
pub mod schema;
pub mod strategic;
pub mod typed;
pub mod update;
pub mod value;
