//! Sets of paths into an object, and their JSON form `FieldsV1`.

/// A set of paths. A path may be in the set without its children, and children without their parent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {}
