//! Who may do what. For now: `system:masters` everything, everybody the health and discovery paths, nobody else
//! anything. RBAC goes here; nothing outside this file decides.

use crate::request::Attributes;
use crate::status::{ApiError, qualified};
use crate::user::User;

/// Paths that everybody may read.
const OPEN: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];
/// Paths that every authenticated user may read.
const DISCOVERY: &[&str] = &["/api", "/apis", "/openapi"];

/// Whether the user may; the error is upstream's 403.
pub(crate) fn authorize(user: &User, attributes: &Attributes) -> Result<(), ApiError> {
    if user.groups.iter().any(|group| group == "system:masters") {
        return Ok(());
    }
    if attributes.resource.is_empty() && attributes.verb == "get" {
        let path = attributes.path.as_str();
        let below = |root: &&str| path == *root || path.starts_with(&format!("{root}/"));
        let authenticated = user.groups.iter().any(|group| group == "system:authenticated");
        if OPEN.contains(&path) || authenticated && DISCOVERY.iter().any(below) {
            return Ok(());
        }
    }
    Err(denied(user, attributes))
}

fn denied(user: &User, attributes: &Attributes) -> ApiError {
    let who = format!("User \"{}\" {attributes}", user.name);
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
