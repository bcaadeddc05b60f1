//! The dialect of kustomize: how `go.yaml.in/yaml/v3` resolves scalars, and how the second half of kustomize, which
//! prints JSON with `sigs.k8s.io/yaml`, writes documents.
//!
//! Differences from [`crate::kubernetes`]: only `true` and `false` are booleans (`yes` and `on` are text), dates are
//! times, and they are printed as `2001-01-01T00:00:00Z`.

mod emit;
mod fold;
mod order;
mod resolve;

pub use emit::{can_be_plain, to_string, write};
pub use fold::refold;
pub use order::natural_order;
pub use resolve::{Scalar, resolve_plain, resolve_tagged};

use serde_json::Number;

/// The number as which a JSON reader of Kubernetes takes a float: `1.0` is 1. `None`: infinite, or not a number.
pub fn float_number(value: f64) -> Option<Number> {
    crate::kubernetes::float_number(value)
}
