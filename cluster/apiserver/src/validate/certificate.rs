//! Checks of CertificateSigningRequests.

use base64::Engine;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{list, text};
use crate::names;
use crate::status::Cause;

/// Shortest life that may be asked for, seconds.
const LIFE_SECONDS_MIN: i64 = 600;

/// A new request.
pub(super) fn request(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    if let Err(detail) = parse(text(spec, "request")) {
        causes.push(Cause::invalid("spec.request", &spec["request"], &detail));
    }
    if list(&spec["usages"]).is_empty() {
        causes.push(Cause::required("spec.usages", ""));
    }
    signer(text(spec, "signerName"), causes);
    if let Some(seconds) = spec["expirationSeconds"].as_i64().filter(|seconds| *seconds < LIFE_SECONDS_MIN) {
        let text = "may not specify a duration less than 600 seconds (10 minutes)";
        causes.push(Cause::invalid("spec.expirationSeconds", &seconds.into(), text));
    }
    conditions(object, causes);
}

fn parse(request: &str) -> Result<(), String> {
    let pem = base64::engine::general_purpose::STANDARD.decode(request).unwrap_or_default();
    let der = CertificateSigningRequestDer::from_pem_slice(&pem)
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    match X509CertificationRequest::from_der(&der) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn signer(name: &str, causes: &mut Vec<Cause>) {
    let mut wrong = |text: &str| causes.push(Cause::invalid("spec.signerName", &name.into(), text));
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        wrong("must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    };
    if let Some(detail) = names::subdomain(domain) {
        wrong(&detail);
    } else if !domain.contains('.') {
        wrong("should be a domain with at least two segments separated by dots");
    }
    if let Some(detail) = names::subdomain(path) {
        wrong(&detail);
    }
}

/// A request is approved or denied, not both, and a word is needed for each condition.
pub(super) fn conditions(object: &Value, causes: &mut Vec<Cause>) {
    let conditions = list(&object["status"]["conditions"]);
    let has = |ty: &str| conditions.iter().any(|condition| condition["type"] == ty);
    if has("Approved") && has("Denied") {
        let text = "Approved and Denied conditions are mutually exclusive";
        causes.push(Cause::invalid("status.conditions", &"Denied".into(), text));
    }
    for (at, condition) in conditions.iter().enumerate() {
        let ty = text(condition, "type");
        if ty.is_empty() {
            causes.push(Cause::required(format!("status.conditions[{at}].type"), ""));
        }
        if ["Approved", "Denied", "Failed"].contains(&ty) && text(condition, "status") != "True" {
            let field = format!("status.conditions[{at}].status");
            causes.push(Cause::not_supported(field, &condition["status"], &["True"]));
        }
    }
}
