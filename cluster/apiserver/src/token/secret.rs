//! Tokens in Secrets of the type `kubernetes.io/service-account-token`: the old form, which lives as long as its Secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::server::Server;
use crate::store::{Key, Object};
use crate::user::User;

/// Who such tokens say they are from.
pub(crate) const ISSUER: &str = "kubernetes/serviceaccount";
/// Type of the Secrets.
pub(crate) const TYPE: &str = "kubernetes.io/service-account-token";
/// Annotation with the name of the account.
pub(crate) const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
/// Annotation with the uid of the account.
pub(crate) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const CLAIM: &str = "kubernetes.io/serviceaccount/";

/// A Secret with what it lacks: token, CA (where there is one), namespace, uid of the account. `None` if it lacks nothing.
pub(crate) fn fill(server: &Server, secret: &Value, account: &Object) -> Option<Value> {
    let mut filled = secret.clone();
    let name = secret["metadata"]["name"].as_str().unwrap_or_default();
    let data = &mut filled["data"];
    if data["token"].is_null() {
        let mut claims = json!({
            "iss": ISSUER, "sub": format!("system:serviceaccount:{}:{}", account.namespace, account.name),
        });
        let texts = [
            ("namespace", &*account.namespace),
            ("secret.name", name),
            ("service-account.name", &*account.name),
            ("service-account.uid", &*account.uid),
        ];
        for (claim, value) in texts {
            claims[format!("{CLAIM}{claim}")] = value.into();
        }
        data["token"] = STANDARD.encode(server.issuer.sign(&claims)?).into();
    }
    if let Some(ca) = &*server.ca.borrow() {
        data["ca.crt"] = STANDARD.encode(ca.as_bytes()).into();
    }
    data["namespace"] = STANDARD.encode(account.namespace.as_bytes()).into();
    filled["metadata"]["annotations"][ACCOUNT_UID] = (*account.uid).into();
    (filled != *secret).then_some(filled)
}

/// The user behind such a token.
pub(super) fn authenticate(
    server: &Server,
    token: &str,
    claims: &Value,
    audiences: &[String],
) -> Result<Option<(User, Vec<String>)>, String> {
    let claim = |name: &str| claims[format!("{CLAIM}{name}")].as_str().unwrap_or_default();
    let invalid = || Err("service account token has been invalidated".to_owned());
    let (namespace, name) = (claim("namespace"), claim("service-account.name"));
    let get = |resource: &str, name: &str| server.store.get(&Key::new(&resource.into(), namespace, name));
    // A Secret that was made anew holds another token.
    let held = get("core/secrets", claim("secret.name")).is_some_and(|secret| {
        secret.value()["data"]["token"].as_str() == Some(STANDARD.encode(token).as_str())
    });
    let lives = get("core/serviceaccounts", name)
        .is_some_and(|account| *account.uid == *claim("service-account.uid"));
    if !held || !lives {
        return invalid();
    }
    let common: Vec<String> =
        audiences.iter().filter(|audience| *audience == super::ISSUER).cloned().collect();
    if common.is_empty() {
        return invalid();
    }
    let mut user = User::service_account(namespace, name);
    user.uid = claim("service-account.uid").to_owned();
    Ok(Some((user, common)))
}
