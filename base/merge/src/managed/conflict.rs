//! Conflicts as people and clients see them.

use super::Error;
use super::entries::{Manager, Operation};
use crate::update;
use crate::value;

/// A field that somebody else owns with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// `conflict with "m" using apps/v1`: the message of the Status cause `FieldManagerConflict`.
    pub message: String,
    /// `.spec.replicas`: the field of the cause.
    pub field: String,
}

pub(super) fn error(error: update::Error<Manager>) -> Error {
    match error {
        update::Error::Conflicts(conflicts) => conflicts_error(&conflicts),
        update::Error::Convert(error) => Error::Internal(format!("failed to convert object: {error}")),
        update::Error::Typed(error) => Error::Internal(format!("failed to merge object: {error}")),
    }
}

fn conflicts_error(conflicts: &[update::Conflict<Manager>]) -> Error {
    let causes = conflicts
        .iter()
        .map(|conflict| Conflict {
            message: format!("conflict with {}", describe(&conflict.manager)),
            field: conflict.path.to_string(),
        })
        .collect();
    let message = match conflicts {
        [only] => {
            format!("Apply failed with 1 conflict: conflict with {}: {}", describe(&only.manager), only.path)
        }
        many => {
            let mut lines = Vec::new();
            let mut last: Option<&Manager> = None;
            for conflict in many {
                if last != Some(&conflict.manager) {
                    lines.push(format!("conflicts with {}:", describe(&conflict.manager)));
                    last = Some(&conflict.manager);
                }
                lines.push(format!("- {}", conflict.path));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    Error::Conflicts { message, conflicts: causes }
}

/// `"m" with subresource "status" using apps/v1`.
fn describe(manager: &Manager) -> String {
    let mut text = String::new();
    value::write_quoted(&manager.name, &mut text);
    if !manager.subresource.is_empty() {
        text.push_str(" with subresource ");
        value::write_quoted(&manager.subresource, &mut text);
    }
    if manager.operation == Operation::Update {
        text.push_str(" using ");
        text.push_str(&manager.api_version);
    }
    text
}
