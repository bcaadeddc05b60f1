//! The CEL dialect of Kubernetes: expressions of validation rules and admission policies.
//!
//! [`compile`] parses, checks types and plans an expression for an [`Environment`]; [`Program::evaluate`]
//! computes its value within a cost limit. [`Schema`] gives JSON objects the types a structural schema
//! declares, and [`rules::Validator`] runs the `x-kubernetes-validations` of a whole schema.
//!
//! It knows no client and no other crate of ours, does not wait, and reads no clock. See `README.md` for what
//! is there and what is not.

mod ast;
mod check;
mod convert;
mod cost;
mod environment;
mod equality;
mod error;
pub mod escape;
mod estimate;
mod eval;
mod functions;
mod lexer;
mod library;
mod macros;
mod maker;
mod mutation;
mod parser;
mod plan;
mod program;
mod room;
pub mod rules;
mod schema;
mod types;
mod unify;
mod validate;
mod value;

pub use convert::untyped;
pub use environment::{Bindings, Environment, MINOR_MAX};
pub use error::{Errors, EvalError, Issue};
pub use estimate::Range;
pub use functions::known_functions;
pub use library::authorization::{Authorizer, Decision, PathRequest, Request, ResourceRequest, User};
pub use library::opaque::Opaque;
pub use parser::{DEPTH_MAX, EXPRESSION_SIZE_MAX, NODES_MAX};
pub use program::{CALL_COST_MAX, Outcome, Program, compile, estimate};
pub use schema::Schema;
pub use types::{ObjectType, Type};
pub use value::{Key, List, ListKind, Map, Value};
