//! Kinds that are stored and served, but not acted upon: whoever writes one is told.

use serde_json::Value;

use crate::kinds::Kind;

/// A warning for an object that has no effect on this server.
pub(crate) fn warnings(kind: &Kind, object: &Value) -> Vec<String> {
    let instead = match (kind.group.as_str(), kind.plural.as_str()) {
        ("apiregistration.k8s.io", "apiservices") if object["spec"]["service"].is_object() => {
            "requests for its group are not handed on"
        }
        ("flowcontrol.apiserver.k8s.io", _) => "requests are not put into queues by priority",
        ("certificates.k8s.io", "certificatesigningrequests")
            if object["spec"]["signerName"]
                .as_str()
                .is_some_and(|name| name.starts_with("kubernetes.io/")) =>
        {
            "it signs no certificates"
        }
        _ => return Vec::new(),
    };
    vec![format!("this server stores {} objects without effect: {instead}", kind.kind)]
}
