//! Values with a schema.

use std::sync::Arc;

use serde_json::Value;

use crate::schema::Schema;

/// A value, the schema it is read with, and the API version it is in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Typed {
    pub value: Arc<Value>,
    pub schema: Schema,
    /// `group/version`; only converters look at it.
    pub version: Arc<str>,
}
