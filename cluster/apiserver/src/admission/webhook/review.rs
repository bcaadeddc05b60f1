//! AdmissionReview: what is sent to a webhook, and what may come back.

use std::sync::Arc;

use base64::Engine;
use serde_json::{Value, json};

use crate::admission::attributes::Attributes;
use crate::crd::text;
use crate::kinds::Kind;
use crate::patch;
use crate::status::{ApiError, quote};

/// A request for review.
pub(super) struct Review {
    uid: String,
    version: &'static str,
    pub body: Vec<u8>,
}

impl Review {
    /// In the first version the webhook names that is known.
    pub(super) fn new(
        attributes: &Attributes<'_>,
        kind: &Arc<Kind>,
        versions: &[String],
    ) -> Result<Review, &'static str> {
        let known = ["v1", "v1beta1"];
        let version = versions.iter().find_map(|wanted| known.into_iter().find(|known| known == wanted));
        let version =
            version.ok_or("webhook does not accept known AdmissionReview versions (v1, v1beta1)")?;
        let uid = uuid::Uuid::new_v4().to_string();
        let mut request = attributes.request(kind);
        request.insert("uid".into(), uid.as_str().into());
        for (name, object) in [("object", attributes.object), ("oldObject", attributes.old)] {
            let object = object.map(|object| attributes.in_version(object, kind));
            request.insert(name.into(), object.unwrap_or_default());
        }
        let body = json!({
            "kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": request,
        });
        Ok(Review { uid, version, body: body.to_string().into_bytes() })
    }

    /// Reads the answer.
    pub(super) fn read(&self, body: &[u8], mutating: bool) -> Result<Answer, String> {
        let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let response = &value["response"];
        if !response.is_object() {
            return Err("webhook response was absent".into());
        }
        let strict = self.version == "v1";
        if strict {
            let uid = text(&response["uid"]);
            if uid != self.uid {
                return Err(format!("expected response.uid={}, got {}", quote(&self.uid), quote(&uid)));
            }
            let (api_version, kind) = (text(&value["apiVersion"]), text(&value["kind"]));
            if api_version != "admission.k8s.io/v1" || kind != "AdmissionReview" {
                let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
                return Err(format!(
                    "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}/{version}, Kind={kind}"
                ));
            }
        }
        let patch = text(&response["patch"]);
        let ty = response["patchType"].as_str();
        match (strict, mutating) {
            (true, true) if !patch.is_empty() && ty.is_none() => {
                return Err("webhook returned response.patch but not response.patchType".into());
            }
            (true, true) if patch.is_empty() && ty.is_some() => {
                return Err("webhook returned response.patchType but not response.patch".into());
            }
            (true, true) if ty == Some("") => {
                return Err("webhook returned invalid response.patchType of \"\"".into());
            }
            (true, false) if !patch.is_empty() => {
                return Err("validating webhook may not return response.patch".into());
            }
            (true, false) if ty.is_some() => {
                return Err("validating webhook may not return response.patchType".into());
            }
            _ => {}
        }
        let ty = if strict { ty.unwrap_or_default() } else { "JSONPatch" };
        let patch =
            base64::engine::general_purpose::STANDARD.decode(patch).map_err(|error| error.to_string())?;
        let warnings = response["warnings"].as_array().into_iter().flatten().map(text);
        Ok(Answer {
            allowed: response["allowed"] == true,
            patch: if mutating { patch } else { Vec::new() },
            patch_type: ty.to_owned(),
            status: response["status"].clone(),
            warnings: warnings.collect(),
        })
    }
}

/// What a webhook said.
pub(super) struct Answer {
    pub allowed: bool,
    patch: Vec<u8>,
    patch_type: String,
    status: Value,
    pub warnings: Vec<String>,
}

impl Answer {
    /// The error for who was refused.
    pub(super) fn refusal(self, webhook: &str) -> ApiError {
        let denied = format!("admission webhook {} denied the request", quote(webhook));
        let (message, reason) = (text(&self.status["message"]), text(&self.status["reason"]));
        let message = match (message.as_str(), reason.as_str()) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (message, _) => format!("{denied}: {message}"),
        };
        let code = self.status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
        let code = if (400..600).contains(&code) { code } else { 400 };
        let mut error = ApiError::new(code, "", message.clone());
        let mut status = self.status;
        if !status.is_object() {
            status = json!({});
        }
        let known = ["metadata", "message", "reason", "details"];
        if let Some(map) = status.as_object_mut() {
            map.retain(|key, _| known.contains(&key.as_str()));
        }
        status["kind"] = "Status".into();
        status["apiVersion"] = "v1".into();
        status["status"] = "Failure".into();
        status["message"] = message.into();
        status["code"] = code.into();
        if !status["metadata"].is_object() {
            status["metadata"] = json!({});
        }
        error.status = Some(Box::new(status));
        error
    }

    /// The object after the patch; `None` where there is no patch.
    pub(super) fn patched(
        &self,
        webhook: &str,
        attributes: &Attributes<'_>,
        kind: &Arc<Kind>,
    ) -> Result<Option<Value>, ApiError> {
        if self.patch.is_empty() {
            return Ok(None);
        }
        let calling = |reason: String| {
            ApiError::internal(format!("failed calling webhook {}: {reason}", quote(webhook)))
        };
        let operations: Value = serde_json::from_slice(&self.patch)
            .map_err(|error| calling(format!("received undecodable patch in webhook response: {error}")))?;
        let Some(operations) = operations.as_array() else {
            return Err(calling("received undecodable patch in webhook response: it is no list".into()));
        };
        if operations.is_empty() {
            return Ok(None);
        }
        let Some(object) = attributes.object else {
            return Err(ApiError::internal(format!(
                "admission webhook {} attempted to modify the object, which is not supported for this operation",
                quote(webhook)
            )));
        };
        if self.patch_type != "JSONPatch" {
            return Err(calling(format!("unsupported patch type {}", quote(&self.patch_type))));
        }
        let mut object = attributes.in_version(object, kind);
        patch::apply_operations(&mut object, operations).map_err(ApiError::internal)?;
        Ok(Some(object))
    }
}
