//! Credentials of AWS, in the usual order: environment, shared config and profiles, web identity, container, instance.
//!
//! A profile may also name a program (`process`) or a session of SSO (`sso`). Left out: MFA (`mfa_serial`), which needs
//! a person each time.

mod process;
mod sso;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use zeroize::Zeroizing;

use super::http::Http;
use super::sigv4::{Signing, authorization};

/// Longest file of credentials, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest wait for the metadata service of an instance: elsewhere there is none.
const INSTANCE_TIMEOUT: Duration = Duration::from_secs(1);
/// Deepest chain of `source_profile`.
const CHAIN_MAX: usize = 5;
/// New credentials are asked for so long before the old ones end, seconds.
const EARLY_S: u64 = 300;

/// A key pair, perhaps for a time.
#[derive(Clone)]
pub struct Credentials {
    /// Access key id.
    pub key_id: String,
    /// Secret access key.
    pub secret_key: Zeroizing<String>,
    /// Session token.
    pub token: Option<Zeroizing<String>>,
    /// When they end, seconds since 1970.
    pub expires_at_s: Option<u64>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.key_id)
    }
}

impl Credentials {
    /// Whether they are good now.
    fn is_alive(&self) -> bool {
        self.expires_at_s.is_none_or(|end| now_s() < end)
    }

    /// Whether they are still good for a while.
    pub(super) fn is_fresh(&self) -> bool {
        self.expires_at_s.is_none_or(|end| now_s() + EARLY_S < end)
    }
}

pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Reads a variable by its name.
type Read = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Where variables are read: the process' environment, or a table of a test.
#[derive(Clone)]
pub struct Environment(Arc<Read>);

impl Default for Environment {
    fn default() -> Environment {
        Environment(Arc::new(|name| std::env::var(name).ok()))
    }
}

impl Environment {
    /// Reads variables from a table instead.
    pub fn of(table: BTreeMap<String, String>) -> Environment {
        Environment(Arc::new(move |name| table.get(name).cloned()))
    }

    /// A variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}

/// What finding credentials needs.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) http: &'a Http,
    pub(super) environment: &'a Environment,
    pub(super) region: &'a str,
}

impl Way<'_> {
    fn env(&self, name: &str) -> Option<String> {
        self.environment.get(name)
    }
}

/// Finds credentials.
///
/// # Errors
/// Why there are none, without any secret.
pub(super) async fn find(way: Way<'_>) -> Result<Credentials, String> {
    if let (Some(key_id), Some(secret)) = (way.env("AWS_ACCESS_KEY_ID"), way.env("AWS_SECRET_ACCESS_KEY")) {
        return Ok(Credentials {
            key_id,
            secret_key: Zeroizing::new(secret),
            token: way.env("AWS_SESSION_TOKEN").map(Zeroizing::new),
            expires_at_s: None,
        });
    }
    let profiles = Profiles::read(way);
    let named = way.env("AWS_PROFILE");
    let profile = named.clone().unwrap_or_else(|| "default".to_owned());
    match profiles.credentials(&profile, way, 0).await {
        Some(result) => return result,
        None if named.is_some() => {
            return Err(format!("the profile `{profile}` has no credentials that are supported"));
        }
        None => {}
    }
    if let (Some(file), Some(role)) = (way.env("AWS_WEB_IDENTITY_TOKEN_FILE"), way.env("AWS_ROLE_ARN")) {
        return web_identity(way, &file, &role).await;
    }
    if let Some(result) = container(way).await {
        return result;
    }
    if way.env("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(
            "no credentials: neither environment, profile, web identity nor container has any".to_owned()
        );
    }
    instance(way).await.map_err(|error| {
        format!(
            "no credentials: neither environment, profile, web identity nor container has any, and {error}"
        )
    })
}

/// The profiles of the shared files.
struct Profiles(BTreeMap<String, BTreeMap<String, Zeroizing<String>>>);

impl Profiles {
    fn read(way: Way<'_>) -> Profiles {
        let home = way.env("HOME").map(PathBuf::from);
        let place = |variable: &str, name: &str| {
            way.env(variable).map(PathBuf::from).or_else(|| Some(home.clone()?.join(".aws").join(name)))
        };
        let mut profiles = Profiles(BTreeMap::new());
        for file in [place("AWS_CONFIG_FILE", "config"), place("AWS_SHARED_CREDENTIALS_FILE", "credentials")]
        {
            let Some(file) = file else { continue };
            if std::fs::metadata(&file).is_ok_and(|meta| meta.len() <= FILE_BYTES_MAX)
                && let Ok(text) = std::fs::read_to_string(&file)
            {
                profiles.add(&Zeroizing::new(text));
            }
        }
        profiles
    }

    /// Adds the sections of a file; those of `credentials` win, being read last.
    fn add(&mut self, text: &str) {
        let mut section = String::new();
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                let name = name.0.trim();
                section = name.strip_prefix("profile ").unwrap_or(name).trim().to_owned();
            } else if let Some((key, value)) = line.split_once('=') {
                let entry = self.0.entry(section.clone()).or_default();
                entry.insert(key.trim().to_owned(), Zeroizing::new(value.trim().to_owned()));
            }
        }
    }

    async fn credentials(
        &self,
        profile: &str,
        way: Way<'_>,
        depth: usize,
    ) -> Option<Result<Credentials, String>> {
        let section = self.0.get(profile)?;
        let get = |name: &str| section.get(name).filter(|value| !value.is_empty());
        if depth > CHAIN_MAX {
            return Some(Err(format!("the profile `{profile}` is part of a circle")));
        }
        if let Some(role) = get("role_arn") {
            if let Some(file) = get("web_identity_token_file") {
                return Some(web_identity(way, file, role).await);
            }
            let source = match (get("source_profile"), get("credential_source").map(|source| source.as_str()))
            {
                (Some(source), _) if source.as_str() == profile => self.own(profile, way).await,
                (Some(source), _) => Box::pin(self.credentials(source, way, depth + 1)).await,
                (None, Some("EcsContainer")) => container(way).await,
                (None, Some("Ec2InstanceMetadata")) => Some(instance(way).await),
                _ => None,
            };
            if get("mfa_serial").is_some() {
                return Some(Err(format!(
                    "the role of profile `{profile}` asks for MFA: export credentials of a session that has it"
                )));
            }
            return match source {
                Some(Ok(source)) => {
                    Some(assume_role(way, &source, role, get("external_id").map(|id| id.as_str())).await)
                }
                Some(Err(error)) => Some(Err(error)),
                None => Some(Err(format!("the profile `{profile}` has no source for its role"))),
            };
        }
        self.own(profile, way).await
    }

    /// What a profile has without another's help: a key pair, a session, a program.
    async fn own(&self, profile: &str, way: Way<'_>) -> Option<Result<Credentials, String>> {
        if let Some(fixed) = self.fixed(profile) {
            return Some(Ok(fixed));
        }
        let section = self.0.get(profile)?;
        if section.contains_key("sso_session") || section.contains_key("sso_start_url") {
            let session = section.get("sso_session").map(|name| format!("sso-session {}", name.as_str()));
            let session = session.and_then(|name| self.0.get(&name));
            return Some(sso::credentials(profile, section, session, way).await);
        }
        Some(process::credentials(profile, section.get("credential_process")?).await)
    }

    fn fixed(&self, profile: &str) -> Option<Credentials> {
        let section = self.0.get(profile)?;
        Some(Credentials {
            key_id: section.get("aws_access_key_id")?.to_string(),
            secret_key: section.get("aws_secret_access_key")?.clone(),
            token: section.get("aws_session_token").cloned(),
            expires_at_s: None,
        })
    }
}

/// Where STS answers.
fn sts_endpoint(way: Way<'_>) -> String {
    way.env("AWS_ENDPOINT_URL_STS").or_else(|| way.env("AWS_ENDPOINT_URL")).unwrap_or_else(|| {
        let end = if way.region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://sts.{}.amazonaws.com{end}", way.region)
    })
}

fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

async fn web_identity(way: Way<'_>, file: &str, role: &str) -> Result<Credentials, String> {
    let token = std::fs::read_to_string(file).map(Zeroizing::new);
    let token = token.map_err(|error| format!("cannot read the web identity `{file}`: {error}"))?;
    let session = way.env("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "dodai".to_owned());
    let body = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName={}&WebIdentityToken={}",
        encode(role),
        encode(&session),
        encode(token.trim())
    );
    sts(way, body, None).await
}

async fn assume_role(
    way: Way<'_>,
    source: &Credentials,
    role: &str,
    external_id: Option<&str>,
) -> Result<Credentials, String> {
    let mut body =
        format!("Action=AssumeRole&Version=2011-06-15&RoleArn={}&RoleSessionName=dodai", encode(role));
    if let Some(id) = external_id {
        body.push_str(&format!("&ExternalId={}", encode(id)));
    }
    sts(way, body, Some(source)).await
}

/// A call of STS, signed or not, and the credentials in its answer.
async fn sts(way: Way<'_>, body: String, sign: Option<&Credentials>) -> Result<Credentials, String> {
    let endpoint = sts_endpoint(way);
    let request = signed_post(
        &endpoint,
        "sts",
        way.region,
        "application/x-www-form-urlencoded",
        &[],
        body.into_bytes(),
        sign,
    )?;
    let answer = way.http.send(request, None).await?;
    let text = Zeroizing::new(String::from_utf8_lossy(&answer.body).into_owned());
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.trim().to_owned())
    };
    if answer.status != 200 {
        let code = field("Code").unwrap_or_else(|| answer.status.to_string());
        return Err(format!("STS refused: {code}"));
    }
    let incomplete = || "an answer of STS without credentials".to_owned();
    Ok(Credentials {
        key_id: field("AccessKeyId").ok_or_else(incomplete)?,
        secret_key: Zeroizing::new(field("SecretAccessKey").ok_or_else(incomplete)?),
        token: field("SessionToken").map(Zeroizing::new),
        expires_at_s: field("Expiration").and_then(|time| seconds(&time)),
    })
}

fn seconds(time: &str) -> Option<u64> {
    time.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_second()).ok())
}

/// A POST, signed if there are credentials.
pub(super) fn signed_post(
    endpoint: &str,
    service: &str,
    region: &str,
    content_type: &str,
    more: &[(&'static str, String)],
    body: Vec<u8>,
    sign: Option<&Credentials>,
) -> Result<Request<Full<Bytes>>, String> {
    let uri: http::Uri = endpoint.parse().map_err(|_| format!("`{endpoint}` is not a URL"))?;
    let host = uri.authority().map(ToString::to_string).ok_or_else(|| format!("`{endpoint}` has no host"))?;
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut headers: Vec<(&str, String)> =
        vec![("content-type", content_type.to_owned()), ("host", host), ("x-amz-date", time.clone())];
    headers.extend(more.iter().cloned());
    if let Some(token) = sign.and_then(|credentials| credentials.token.as_ref()) {
        headers.push(("x-amz-security-token", token.to_string()));
    }
    headers.sort_by_key(|(name, _)| *name);
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    let mut request = Request::post(uri.clone());
    if let Some(credentials) = sign {
        let signing = Signing { service, region, path, headers: &headers, body: &body, time: &time };
        request = request.header("authorization", authorization(&signing, credentials));
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(Full::new(Bytes::from(body))).map_err(|error| format!("cannot make the request: {error}"))
}

/// The endpoint that a container is given; only on this machine or the addresses that AWS uses.
async fn container(way: Way<'_>) -> Option<Result<Credentials, String>> {
    let uri = match (
        way.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        way.env("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ) {
        (Some(path), _) => format!("http://169.254.170.2{path}"),
        (None, Some(uri)) => uri,
        (None, None) => return None,
    };
    let parsed: Option<http::Uri> = uri.parse().ok();
    let host = parsed.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let allowed = uri.starts_with("https://")
        || matches!(
            host,
            "localhost" | "127.0.0.1" | "[::1]" | "169.254.170.2" | "169.254.170.23" | "[fd00:ec2::23]"
        );
    if !allowed {
        return Some(Err(format!(
            "`AWS_CONTAINER_CREDENTIALS_FULL_URI` names `{host}`, which is not allowed without TLS"
        )));
    }
    let token = match way.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => std::fs::read_to_string(file).ok().map(|token| token.trim().to_owned()),
        None => way.env("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let mut request = Request::get(&uri);
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    Some(get_json(way.http, request, None).await.and_then(|value| from_json(&value)))
}

/// The metadata service of an instance, version 2.
async fn instance(way: Way<'_>) -> Result<Credentials, String> {
    let endpoint =
        way.env("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| "http://169.254.169.254".to_owned());
    let endpoint = endpoint.trim_end_matches('/');
    let request = Request::put(format!("{endpoint}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
    let token = get(way.http, request, Some(INSTANCE_TIMEOUT)).await?;
    let token = String::from_utf8_lossy(&token).into_owned();
    let folder = format!("{endpoint}/latest/meta-data/iam/security-credentials/");
    let with_token = |uri: &str| Request::get(uri).header("x-aws-ec2-metadata-token", &token);
    let role = get(way.http, with_token(&folder), Some(INSTANCE_TIMEOUT)).await?;
    let role = String::from_utf8_lossy(&role).lines().next().unwrap_or_default().trim().to_owned();
    if role.is_empty() {
        return Err("the instance has no role".to_owned());
    }
    from_json(&get_json(way.http, with_token(&format!("{folder}{role}")), Some(INSTANCE_TIMEOUT)).await?)
}

async fn get(
    http: &Http,
    request: http::request::Builder,
    timeout: Option<Duration>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let request =
        request.body(Full::default()).map_err(|error| format!("cannot make the request: {error}"))?;
    let answer = http.send(request, timeout).await?;
    match answer.status {
        200 => Ok(answer.body),
        status => Err(format!("the endpoint of credentials answered {status}")),
    }
}

async fn get_json(
    http: &Http,
    request: http::request::Builder,
    timeout: Option<Duration>,
) -> Result<Value, String> {
    let body = get(http, request, timeout).await?;
    serde_json::from_slice(&body).map_err(|_| "the endpoint of credentials gave no JSON".to_owned())
}

fn from_json(value: &Value) -> Result<Credentials, String> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let incomplete = || "an answer without credentials".to_owned();
    Ok(Credentials {
        key_id: text("AccessKeyId").ok_or_else(incomplete)?,
        secret_key: Zeroizing::new(text("SecretAccessKey").ok_or_else(incomplete)?),
        // `Token` from containers and instances, `SessionToken` from programs.
        token: text("Token").or_else(|| text("SessionToken")).map(Zeroizing::new),
        expires_at_s: text("Expiration").and_then(|time| seconds(&time)),
    })
}
