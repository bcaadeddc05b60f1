//! Profiles of IAM Identity Center (SSO): the session that `aws sso login` left behind is exchanged for credentials.
//!
//! The session is read, never renewed: logging in needs a browser, and a person. What is missing is told with the command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::Request;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Credentials, Way, encode, get_json, now_s, seconds};

/// Most files of the cache that are looked at.
const FILES_MAX: usize = 200;
/// Longest file of the cache, bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A profile's section, and that of its `sso-session`.
pub(super) type Section = BTreeMap<String, Zeroizing<String>>;

/// Exchanges the session for credentials of the account and role that the profile names.
pub(super) async fn credentials(
    profile: &str,
    section: &Section,
    session: Option<&Section>,
    way: Way<'_>,
) -> Result<Credentials, String> {
    let login = format!("run `aws sso login --profile {profile}` first");
    let get = |name: &str| {
        let own = section.get(name).or_else(|| session?.get(name)).filter(|value| !value.is_empty());
        own.map(|value| value.as_str()).ok_or_else(|| format!("the profile `{profile}` has no `{name}`"))
    };
    let (start, region) = (get("sso_start_url")?, get("sso_region")?);
    let (account, role) = (get("sso_account_id")?, get("sso_role_name")?);
    let folder = way.env("HOME").map(|home| PathBuf::from(home).join(".aws/sso/cache"));
    let token = folder.and_then(|folder| token(&folder, start));
    let token = token
        .ok_or_else(|| format!("the profile `{profile}` has no SSO session that is still good: {login}"))?;
    let endpoint = way
        .env("AWS_ENDPOINT_URL_SSO")
        .unwrap_or_else(|| format!("https://portal.sso.{region}.amazonaws.com"));
    let uri = format!(
        "{}/federation/credentials?role_name={}&account_id={}",
        endpoint.trim_end_matches('/'),
        encode(role),
        encode(account)
    );
    let request = Request::get(uri).header("x-amz-sso_bearer_token", token.as_str());
    let answer = get_json(way.http, request, None).await;
    let answer = answer
        .map_err(|error| format!("the SSO session of profile `{profile}` was refused ({error}): {login}"))?;
    let given = &answer["roleCredentials"];
    let text = |name: &str| given[name].as_str().map(str::to_owned);
    let incomplete = || format!("SSO gave no credentials for profile `{profile}`");
    Ok(Credentials {
        key_id: text("accessKeyId").ok_or_else(incomplete)?,
        secret_key: Zeroizing::new(text("secretAccessKey").ok_or_else(incomplete)?),
        token: text("sessionToken").map(Zeroizing::new),
        // Milliseconds here, unlike everywhere else.
        expires_at_s: given["expiration"].as_u64().map(|end| end / 1000),
    })
}

/// The token of a session with this start URL that has not ended.
fn token(folder: &Path, start: &str) -> Option<Zeroizing<String>> {
    let entries = std::fs::read_dir(folder).ok()?;
    let paths =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension() == Some("json".as_ref()));
    paths.take(FILES_MAX).find_map(|path| {
        let is_small = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= FILE_BYTES_MAX);
        let text = Zeroizing::new(std::fs::read_to_string(path).ok().filter(|_| is_small)?);
        let value: Value = serde_json::from_str(&text).ok()?;
        let fits = value["startUrl"]
            .as_str()
            .is_some_and(|url| url.trim_end_matches('/') == start.trim_end_matches('/'));
        // `2026-11-26T12:00:00Z`, or with `UTC` in older versions.
        let end = seconds(&value["expiresAt"].as_str()?.replace("UTC", "Z"))?;
        (fits && end > now_s())
            .then(|| value["accessToken"].as_str().map(|token| Zeroizing::new(token.to_owned())))?
    })
}
