//! Who approves or denies a certificate request must be allowed to for its signer.

use serde_json::Value;

use crate::request::Attributes;
use crate::status::{ApiError, quote};
use crate::write::{Request, name_of};

pub(super) fn validate_approval(request: &Request<'_>, old: &Value) -> Result<(), ApiError> {
    let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
    let domain = signer.split('/').next().unwrap_or_default();
    let allowed = [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
        let attributes = Attributes {
            verb: "approve".into(),
            group: "certificates.k8s.io".into(),
            resource: "signers".into(),
            name,
            ..Attributes::default()
        };
        request.server.rbac.decide(&request.server.store, request.user, &attributes).allowed
    });
    if allowed {
        return Ok(());
    }
    let text = format!("user not permitted to approve requests with signerName {}", quote(signer));
    Err(ApiError::forbidden(&request.kind.plural, &request.kind.group, &name_of(old), &text))
}
