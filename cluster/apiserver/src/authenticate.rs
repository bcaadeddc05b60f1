//! Who asks: a client certificate of our CA, a static bearer token, or nobody.

use http::HeaderMap;

use crate::server::Config;
use crate::status::ApiError;
use crate::user::User;

/// The user in a client certificate: CN is the name, each O a group.
pub(crate) fn certificate_user(der: &[u8]) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups = subject.iter_organization().filter_map(|organization| organization.as_str().ok());
    let mut groups: Vec<&str> = groups.collect();
    groups.push("system:authenticated");
    Some(User::new(name, &groups))
}

/// The user of a request that came over a connection with this certificate's user.
pub(crate) fn authenticate(
    config: &Config,
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
        // Comparing by hash lookup does not tell how much of a token was right.
        return match config.tokens.get(token) {
            Some(user) if !token.is_empty() => {
                let mut user = user.clone();
                if !user.groups.iter().any(|group| group == "system:authenticated") {
                    user.groups.push("system:authenticated".into());
                }
                Ok(user)
            }
            _ => Err(ApiError::unauthorized()),
        };
    }
    if config.anonymous { Ok(User::anonymous()) } else { Err(ApiError::unauthorized()) }
}
