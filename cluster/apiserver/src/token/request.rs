//! `serviceaccounts/token`: a new token for a service account.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ISSUER;
use crate::reply::Reply;
use crate::request::Media;
use crate::schema::decode;
use crate::server::Server;
use crate::status::{ApiError, Cause};
use crate::store::Key;

/// Shortest life of a token, seconds.
const LIFE_SECONDS_MIN: i64 = 600;
/// Longest life of a token, seconds.
const LIFE_SECONDS_MAX: i64 = 1 << 32;
/// Life of a token that asks for none, seconds.
const LIFE_SECONDS: i64 = 3600;

/// Answers a TokenRequest.
pub(crate) fn create(server: &Server, key: &Key, body: &[u8], media: Media) -> Result<Reply, ApiError> {
    let Some(account) = server.store.get_head(key) else {
        return Err(ApiError::not_found("serviceaccounts", "", &key.name));
    };
    let asked: Value = match body {
        [] => json!({}),
        body => serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))?,
    };
    let spec = &asked["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(LIFE_SECONDS);
    let wrong = match seconds {
        ..LIFE_SECONDS_MIN => "may not specify a duration less than 10 minutes",
        LIFE_SECONDS_MIN..=LIFE_SECONDS_MAX => "",
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    if !wrong.is_empty() {
        let cause = Cause::invalid("spec.expirationSeconds", &seconds.into(), wrong);
        return Err(ApiError::invalid("TokenRequest", "authentication.k8s.io", "", vec![cause]));
    }
    let audiences: Vec<String> = match spec["audiences"].as_array() {
        Some(list) if !list.is_empty() => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => vec![ISSUER.to_owned()],
    };
    let mut private = json!({
        "namespace": &*key.namespace, "serviceaccount": { "name": &*key.name, "uid": &*account.uid },
    });
    bind(server, key, &spec["boundObjectRef"], &mut private)?;
    let now = crate::clock::now();
    let (start, end) = (now.as_second(), now.as_second() + seconds);
    let claims = json!({
        "aud": audiences, "exp": end, "iat": start, "iss": ISSUER, "jti": uuid::Uuid::new_v4().to_string(),
        "kubernetes.io": private, "nbf": start,
        "sub": format!("system:serviceaccount:{}:{}", key.namespace, key.name),
    });
    let token =
        server.issuer.sign(&claims).ok_or_else(|| ApiError::internal("the token cannot be signed"))?;
    let expires = Timestamp::from_second(end).map_err(ApiError::internal)?;
    let mut answer = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": &*key.name, "namespace": &*key.namespace, "creationTimestamp": decode::seconds(now),
        },
        "spec": { "audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": null },
        "status": { "token": token, "expirationTimestamp": decode::seconds(expires) },
    });
    if spec["boundObjectRef"].is_object() {
        answer["spec"]["boundObjectRef"] = spec["boundObjectRef"].clone();
    }
    Ok(Reply::value(201, &answer, media))
}

/// Notes the object with which the token ends.
fn bind(server: &Server, key: &Key, reference: &Value, private: &mut Value) -> Result<(), ApiError> {
    if !reference.is_object() {
        return Ok(());
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (kind, api_version, name) = (text("kind"), text("apiVersion"), text("name"));
    let (field, plural, namespace) = match (api_version, kind) {
        ("v1", "Pod") => ("pod", "pods", &*key.namespace),
        ("v1", "Secret") => ("secret", "secrets", &*key.namespace),
        ("v1", "Node") => ("node", "nodes", ""),
        _ => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {} to object of type {api_version}, Kind={kind}",
                crate::status::quote(&key.name)
            )));
        }
    };
    let place = Key::new(&format!("core/{plural}").into(), namespace, name);
    let Some(object) = server.store.get_head(&place) else {
        return Err(ApiError::not_found(plural, "", name));
    };
    let uid = text("uid");
    if !uid.is_empty() && *uid != *object.uid {
        let detail = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(ApiError::conflict(plural, "", name, &detail));
    }
    let about = |name: &str, uid: &str| json!({ "name": name, "uid": uid });
    private[field] = about(name, &object.uid);
    if field == "pod" {
        let pod = object.value();
        if pod["spec"]["serviceAccountName"] != *key.name {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                crate::status::quote(&key.name)
            )));
        }
        if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
            let uid = server.store.get_head(&Key::new(&"core/nodes".into(), "", node));
            private["node"] = about(node, uid.as_ref().map(|node| &*node.uid).unwrap_or_default());
        }
    }
    Ok(())
}
