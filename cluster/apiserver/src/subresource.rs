//! Doors to an object: the main one, `status`, and such.

/// Through which door a write comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Main,
    Status,
    /// `finalize`, `approval`, `resize`, `ephemeralcontainers`: like `status`, each writes its own part.
    Part(String),
}

impl Door {
    pub(crate) fn of(subresource: &str) -> Door {
        match subresource {
            "" => Door::Main,
            "status" => Door::Status,
            other => Door::Part(other.to_owned()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Door::Main => "",
            Door::Status => "status",
            Door::Part(name) => name,
        }
    }

    pub(crate) fn is_main(&self) -> bool {
        *self == Door::Main
    }
}
