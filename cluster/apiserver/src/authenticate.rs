//! Who asks: a client certificate of our CA, a static bearer token, a service account's token, or nobody.

use http::HeaderMap;
use sha2::Digest;

use crate::server::Server;
use crate::status::ApiError;
use crate::token::{self, ISSUER};
use crate::user::{AUTHENTICATED, User};

/// The user in a client certificate: CN is the name, each O a group.
pub(crate) fn certificate_user(der: &[u8]) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups = subject.iter_organization().filter_map(|organization| organization.as_str().ok());
    let mut groups: Vec<&str> = groups.collect();
    groups.push(AUTHENTICATED);
    let mut user = User::new(name, &groups);
    let id = format!("X509SHA256={}", hex::encode(sha2::Sha256::digest(der)));
    user.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![id]);
    Some(user)
}

/// The user of a request that came over a connection with this certificate's user.
pub(crate) fn authenticate(
    server: &Server,
    certificate: Option<&User>,
    headers: &HeaderMap,
) -> Result<User, ApiError> {
    if let Some(user) = certificate {
        return Ok(user.clone());
    }
    if let Some(header) = headers.get(http::header::AUTHORIZATION) {
        let text = header.to_str().unwrap_or_default();
        let token =
            text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")).unwrap_or_default().trim();
        return match token_user(server, token, &[ISSUER.to_owned()]) {
            Ok(Some((user, _))) => Ok(user),
            Ok(None) | Err(_) => Err(ApiError::unauthorized()),
        };
    }
    if server.config.anonymous { Ok(User::anonymous()) } else { Err(ApiError::unauthorized()) }
}

/// The user behind a token that is good for one of `audiences`, and the audiences in common.
///
/// # Errors
/// Why a service account's token is no good.
pub(crate) fn token_user(
    server: &Server,
    token: &str,
    audiences: &[String],
) -> Result<Option<(User, Vec<String>)>, String> {
    // Comparing by hash lookup does not tell how much of a token was right.
    if let Some(user) = server.config.tokens.get(token).filter(|_| !token.is_empty()) {
        let mut user = user.clone();
        if !user.is_in(AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.into());
        }
        // Static tokens are for this server.
        let common: Vec<String> = audiences.iter().filter(|audience| *audience == ISSUER).cloned().collect();
        return Ok((!common.is_empty()).then_some((user, common)));
    }
    token::authenticate(server, token, audiences)
}
