//! Sets of paths into an object, and their JSON form `FieldsV1`.
//!
//! A [`Set`] is a trie: at each node the steps that are members, and the steps that have something below them.
//! [`Path`]s are made of [`Step`]s: a field, an element of a list by key, by value or by position.

mod guess;
mod json;
mod matcher;
mod name;
mod path;
mod set;

pub use json::Error;
pub use matcher::Matcher;
pub use name::Name;
pub use path::{Path, Step};
pub use set::Set;
