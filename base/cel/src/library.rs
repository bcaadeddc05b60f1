//! The functions: each takes evaluated arguments (a member's target first) and dispatches on their types.

pub(crate) mod authorization;
pub(crate) mod convert;
pub(crate) mod formats;
pub(crate) mod formatting;
pub(crate) mod lists;
pub(crate) mod net;
pub(crate) mod opaque;
pub(crate) mod optional;
pub(crate) mod quantity;
pub(crate) mod regex;
pub(crate) mod semver;
pub(crate) mod standard;
pub(crate) mod strings;
pub(crate) mod time;
pub(crate) mod url;

use crate::error::EvalError;
use crate::value::Value;

pub(crate) type Evaluated = Result<Value, EvalError>;
pub(crate) type Function = fn(&[Value]) -> Evaluated;

/// Longest text a function may make, in bytes.
pub(crate) const TEXT_SIZE_MAX: usize = 16 << 20;

/// Whether a call with a constant argument is computed while planning.
pub(crate) fn is_conversion(name: &str) -> bool {
    matches!(
        name,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint"
    )
}

/// The function `name`.
pub(crate) fn find(name: &str) -> Option<Function> {
    [
        standard::find,
        convert::find,
        strings::find,
        lists::find,
        regex::find,
        time::find,
        url::find,
        net::find,
        quantity::find,
        semver::find,
        formats::find,
        optional::find,
        authorization::find,
    ]
    .into_iter()
    .find_map(|library| library(name))
}

/// The error of arguments no overload takes.
pub(crate) fn no_overload() -> Evaluated {
    Err(EvalError::no_overload())
}
