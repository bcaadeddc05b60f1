//! Who may do what: `system:masters` everything, the others what RBAC grants. Nothing outside this file decides.

use crate::request::Attributes;
use crate::server::Server;
use crate::status::{ApiError, qualified};
use crate::user::User;

/// Whether the user may; the error is upstream's 403.
pub(crate) fn authorize(server: &Server, user: &User, attributes: &Attributes) -> Result<(), ApiError> {
    let decision = server.rbac.decide(&server.store, user, attributes);
    if decision.allowed { Ok(()) } else { Err(denied(user, attributes, &decision.reason)) }
}

fn denied(user: &User, attributes: &Attributes, reason: &str) -> ApiError {
    let mut who = format!("User \"{}\" {attributes}", user.name);
    if !reason.is_empty() {
        who = format!("{who}: {reason}");
    }
    if attributes.resource.is_empty() {
        let mut error = ApiError::new(403, "Forbidden", format!("forbidden: {who}"));
        error.details = Some(Default::default());
        return error;
    }
    let mut error = ApiError::forbidden(&attributes.resource, &attributes.group, &attributes.name, &who);
    if attributes.name.is_empty() {
        error.message = format!("{} is forbidden: {who}", qualified(&attributes.resource, &attributes.group));
    }
    error
}
