//! Tokens of service accounts: JWTs signed with ES256, as upstream makes them with such a key.
//!
//! The key lies beside the store, readable by its owner only; a server in memory makes a new one. A token is good as
//! long as its service account, and the object it is bound to, live. Left out: the longer life that upstream gives to
//! the tokens in Pods (`--service-account-extend-token-expiration`). Tokens in Secrets (`token/secret.rs`) do not end by
//! themselves, so they are no good without their Secret.

pub(crate) mod request;
pub(crate) mod secret;

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::Digest;

use crate::error::Error;
use crate::server::Server;
use crate::store::Key;
use crate::user::{User, split_service_account};

/// Issuer and default audience, as upstream's servers are commonly set up.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
/// File of the key, beside the store.
const KEY_FILE: &str = "service-account.key";
/// Bytes of a token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// How far clocks may differ, seconds.
const LEEWAY_SECONDS: i64 = 60;

/// Makes and reads tokens.
pub(crate) struct Issuer {
    pair: EcdsaKeyPair,
    key_id: String,
    random: SystemRandom,
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    /// Reads the key in `folder`, or makes one.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Issuer, Error> {
        let random = SystemRandom::new();
        let bad = |what: &str| Error::TokenKey { what: what.to_owned() };
        let make = || {
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                .map_err(|_| bad("it cannot be made"))
        };
        let document = match folder {
            None => make()?.as_ref().to_vec(),
            Some(folder) => {
                let path = folder.join(KEY_FILE);
                match std::fs::read(&path) {
                    Ok(document) => document,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        let document = make()?;
                        write_private(&path, document.as_ref())
                            .map_err(|source| Error::File { path, source })?;
                        document.as_ref().to_vec()
                    }
                    Err(source) => return Err(Error::File { path, source }),
                }
            }
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document, &random)
            .map_err(|error| bad(&format!("`{KEY_FILE}` holds no such key: {error}")))?;
        let key_id = base64(&sha2::Sha256::digest(pair.public_key().as_ref()));
        Ok(Issuer { pair, key_id, random })
    }

    /// A signed token.
    fn sign(&self, claims: &Value) -> Option<String> {
        let head = json!({ "alg": "ES256", "kid": self.key_id });
        let text =
            format!("{}.{}", base64(head.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
        let signature = self.pair.sign(&self.random, text.as_bytes()).ok()?;
        Some(format!("{text}.{}", base64(signature.as_ref())))
    }

    /// The claims of a token with a sound signature of ours.
    fn open_token(&self, token: &str) -> Option<Value> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (text, signature) = token.rsplit_once('.')?;
        let (head, claims) = text.split_once('.')?;
        let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
        if head["alg"] != "ES256" {
            return None;
        }
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        public.verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    /// The public key for those who check tokens themselves (`/openid/v1/jwks`).
    pub(crate) fn key_set(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at((point.len() - 1) / 2);
        json!({ "keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": base64(x), "y": base64(y),
        }] })
    }
}

/// `/.well-known/openid-configuration`.
pub(crate) fn discovery() -> Value {
    json!({
        "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/openid/v1/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
    })
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // A file from a start that was cut short has another name, so a key file is always whole.
    let half = path.with_extension("new");
    let mut file = options.open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(half, path)
}

/// The user behind a token of ours that is good for one of `audiences`, and the audiences in common.
///
/// # Errors
/// Upstream's text for a token of ours that is no good; `None` when it is none of ours.
pub(crate) fn authenticate(
    server: &Server,
    token: &str,
    audiences: &[String],
) -> Result<Option<(User, Vec<String>)>, String> {
    let Some(claims) = server.issuer.open_token(token) else { return Ok(None) };
    if claims["iss"] == secret::ISSUER {
        return secret::authenticate(server, token, &claims, audiences);
    }
    let now = crate::clock::now().as_second();
    if claims["exp"].as_i64().is_none_or(|end| end + LEEWAY_SECONDS < now) {
        return Err("service account token has expired".into());
    }
    if claims["nbf"].as_i64().is_some_and(|start| start - LEEWAY_SECONDS > now) {
        return Err("service account token is not valid yet".into());
    }
    let own: Vec<String> =
        claims["aud"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let common: Vec<String> = own.iter().filter(|audience| audiences.contains(audience)).cloned().collect();
    if common.is_empty() {
        return Err(format!(
            "token audiences {} is invalid for the target audiences {}",
            crate::rbac::rule::quoted(&own),
            crate::rbac::rule::quoted(audiences)
        ));
    }
    let subject = claims["sub"].as_str().unwrap_or_default();
    let Some((namespace, name)) = split_service_account(subject) else { return Ok(None) };
    let private = &claims["kubernetes.io"];
    let lives = |resource: &str, namespace: &str, bound: &Value| {
        let key = Key::new(&resource.into(), namespace, bound["name"].as_str().unwrap_or_default());
        server.store.get(&key).is_some_and(|object| bound["uid"] == *object.uid)
    };
    if !lives("core/serviceaccounts", namespace, &private["serviceaccount"]) {
        return Err("service account token has been invalidated".into());
    }
    for (field, resource, place) in
        [("pod", "core/pods", namespace), ("secret", "core/secrets", namespace), ("node", "core/nodes", "")]
    {
        // A Pod's token also names its node, which binds it to nothing.
        let binds = field != "node" || private["pod"].is_null();
        if binds && !private[field].is_null() && !lives(resource, place, &private[field]) {
            return Err("service account token has been invalidated".into());
        }
    }
    let mut user = User::service_account(namespace, name);
    user.uid = private["serviceaccount"]["uid"].as_str().unwrap_or_default().to_owned();
    let mut extra = |name: &str, value: &Value| {
        if let Some(text) = value.as_str() {
            user.extra.insert(format!("authentication.kubernetes.io/{name}"), vec![text.to_owned()]);
        }
    };
    for field in ["pod", "node"] {
        extra(&format!("{field}-name"), &private[field]["name"]);
        extra(&format!("{field}-uid"), &private[field]["uid"]);
    }
    if let Some(id) = claims["jti"].as_str() {
        extra("credential-id", &format!("JTI={id}").into());
    }
    Ok(Some((user, common)))
}
