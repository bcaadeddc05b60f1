//! The kinds of the group `dodai.dev`.

pub mod app;
pub mod condition;
pub mod release;
